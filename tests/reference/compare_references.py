"""Compare two folders of reference files: the worst difference of each quantity.

python tests/reference/compare_references.py NEW [OLD]

OLD is this folder unless given. Differences are relative to the largest magnitude among the
numbers of the same field of the same model, such as all standard errors, and those of p-values
are absolute. What search messages and gradients say of the optimisers is left out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LEFT_OUT = {"optcheck", "polish_messages", "lme4_default", "profile_warnings", "messages"}


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give each number, text or null with its path: keys of objects, places in lists."""
    if isinstance(value, dict):
        items: Any = ((k, v) for k, v in value.items() if k not in LEFT_OUT)
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        yield path, value
        return
    for key, inner in items:
        yield from leaves(inner, (*path, str(key)))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def field(path: tuple[str, ...]) -> str:
    """The path without places in lists, and without the names of the groups."""
    keys = [key for key in path if not key.isdigit()]
    return ".".join(keys[:1] + keys[2:] if keys[0].startswith("ranef") else keys)


def main(new: Path, old: Path = Path(__file__).parent) -> None:
    worst: dict[str, tuple[float, str]] = {}
    others: list[str] = []
    files = sorted(path.relative_to(new) for path in new.glob("models/*.json"))
    for file in files:
        ours, theirs = (
            dict(leaves(json.loads((folder / file).read_text(encoding="utf-8"))))
            for folder in (new, old)
        )
        others += [f"{file.stem}: {'.'.join(p)}" for p in sorted(ours.keys() ^ theirs.keys())]
        scale: dict[str, float] = {}
        shared = [(field(p), ours[p], theirs[p]) for p in theirs if p in ours]
        for name, _, value in shared:
            if is_number(value):
                scale[name] = max(scale.get(name, 0.0), abs(value))
        for name, a, b in shared:
            if is_number(a) and is_number(b):
                unit = 1.0 if name.split(".")[-1].split("_")[0] == "p" else scale[name] or 1.0
                worst[name] = max(worst.get(name, (0.0, "")), (abs(a - b) / unit, file.stem))
            elif a != b:
                others.append(f"{file.stem}: {name} is {a!r}, was {b!r}")
    for name, (difference, model) in sorted(worst.items()):
        print(f"{difference:9.1e}  {name:45} {model if difference else ''}")
    tables = sorted(path.relative_to(new) for path in new.glob("data/*"))
    others += [str(t) for t in tables if (new / t).read_bytes() != (old / t).read_bytes()]
    print(f"{len(files)} models, {len(tables)} data sets; other differences:", len(others))
    print(*others, sep="\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
