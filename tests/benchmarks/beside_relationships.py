"""Relationship matrices beside lme4: ``python tests/benchmarks/beside_relationships.py``.

lme4's modular functions fit what pedigreemm does, Z multiplied by the Cholesky factor of A. Each
fit runs in a process of its own, one thread; processor seconds of one fit, formula, table and
matrix or pedigree in, of mixedfx after a small fit that imports what is needed, and its peak
memory. The last columns are by how much each log-likelihood ends below the higher one. Needs
Rscript with lme4 and jsonlite.

    --tasks intercept,slope      some of them
    --limit 300                  seconds that one program may take
    --markdown                   a table for the documentation
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from beside import arguments, measure, named, table_row

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Related:
    """Animals of a pedigree, of which some have records."""

    name: str
    title: str
    animals: int
    with_records: int
    records: int
    formula: str = "y ~ x + (1 | animal)"
    pedigree: bool = False  # given instead of the matrix, which lme4 does not take
    generations: bool = True  # otherwise parents are any earlier animals


_SLOPE = "y ~ x + (1 + x | animal)"
TASKS = (
    Related("small", "1,000 animals, dense A", 1_000, 1_000, 2_000),
    Related("intercept", "2,000 animals, dense A", 2_000, 2_000, 4_000),
    Related("slope", "500 animals, intercept and slope", 500, 500, 2_000, _SLOPE),
    Related("dense", "5,000 animals, dense A", 5_000, 5_000, 10_000),
    Related(
        "pedigree", "100,000 animals, 2,000 with records", 100_000, 2_000, 4_000, pedigree=True
    ),
    Related(
        "records", "100,000 animals, 20,000 with records", 100_000, 20_000, 40_000, pedigree=True
    ),
    Related(
        "earlier",
        "100,000 animals, parents any earlier ones, 2,000 with records",
        *(100_000, 2_000, 4_000),
        pedigree=True,
        generations=False,
    ),
)


def make(task: Related, folder: Path) -> dict[str, Any]:
    """Write records, pedigree and matrix of a task; where they are."""
    rng, size = np.random.default_rng(0), task.animals
    born = size // 20  # a generation: parents are 50 sires and the dams of that before
    parents = np.full((size, 2), -1)
    for first in range(born, size, born):
        before, n = np.arange(first - born, first), min(born, size - first)
        parents[first : first + n, 0] = rng.choice(before[:50], n)
        parents[first : first + n, 1] = rng.choice(before[born // 2 :], n)
    if not task.generations:
        parents[born:] = (rng.random((size - born, 2)) * np.arange(born, size)[:, None]).astype(int)
    animal = rng.choice(size, task.with_records, replace=False)
    animal = np.concatenate([animal, rng.choice(animal, task.records - len(animal))])
    b = np.zeros((size, 2))  # Mendelian sampling; inbreeding is left out
    for i, (s, d) in enumerate(parents.tolist()):
        mean = 0.5 * (b[s] + b[d]) if s >= 0 else 0.0
        b[i] = mean + (np.sqrt(0.5) if s >= 0 else 1.0) * rng.normal(size=2)
    data = pd.DataFrame({"animal": animal, "x": rng.normal(size=len(animal))})
    slope = 0.7 * b[animal, 1] * ("x |" in task.formula)
    data["y"] = (0.5 + slope) * data["x"] + b[animal, 0] + rng.normal(size=len(animal))
    files = {name: str(folder / f"{task.name}.{name}") for name in ("csv", "parents", "matrix")}
    data.to_csv(files["csv"], index=False)
    np.save(files["parents"] + ".npy", parents)
    if not task.pedigree:
        relationship(parents).covariance(range(size)).to_numpy().tofile(files["matrix"])
    return asdict(task) | files


def relationship(parents: np.ndarray) -> Any:
    import mixedfx as mfx

    sires, dams = ([None if p < 0 else p for p in column] for column in parents.T.tolist())
    return mfx.Relationship.from_pedigree(range(len(parents)), sires, dams)


def fit_once(spec_file: str) -> None:
    """Time our fit of a specification in this process."""
    import resource
    import time

    import mixedfx as mfx

    spec = json.loads(Path(spec_file).read_text(encoding="utf-8"))
    data, parents = pd.read_csv(spec["csv"]), np.load(spec["parents"] + ".npy")
    few = data.head(60).assign(animal=np.arange(60) // 6)
    mfx.lmer("y ~ x + (1 | animal)", few, relmat={"animal": np.eye(10)}).tidy()
    A = None
    if not spec["pedigree"]:
        labels, size = range(spec["animals"]), spec["animals"]
        A = pd.DataFrame(np.fromfile(spec["matrix"]).reshape(size, size), labels, labels)
    began = time.process_time()
    fit = mfx.lmer(
        spec["formula"], data, relmat={"animal": relationship(parents) if A is None else A}
    )
    seconds = time.process_time() - began
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"seconds": seconds, "llf": fit.llf, "gigabytes": gigabytes}))


def line(task: Related, found: dict[str, dict[str, Any]], *, markdown: bool) -> str:
    """Seconds, their ratio, our memory, and by how much each log-likelihood is short."""
    ours, best = found["mixedfx"], max(f.get("llf", -np.inf) for f in found.values())
    shown, own = _seconds(found["lme4"]), [_seconds(ours), ""]
    if "gigabytes" in ours:
        own[1] = f"{ours['gigabytes']:.1f}"
    if "seconds" in found["lme4"] and "seconds" in ours:
        shown += f" ({found['lme4']['seconds'] / ours['seconds']:.0f}x)"
    short = [f"{best - f['llf']:.1e}" if "llf" in f else "" for f in found.values()]
    cells = [task.title, f"{task.records:,}", shown, *own]
    return table_row(cells, short, (42, 16), markdown=markdown)


def _seconds(measured: dict[str, Any]) -> str:
    """Seconds of a fit, or why there are none."""
    return f"{measured['seconds']:.3g}" if "seconds" in measured else str(measured.get("status"))


def main() -> None:
    args = arguments(__doc__, limit=300).parse_args()
    if args.fit:
        fit_once(args.fit)
        return
    with tempfile.TemporaryDirectory() as folder:
        for task in named(TASKS, args.tasks):
            path = Path(folder) / f"{task.name}.json"
            path.write_text(json.dumps(make(task, Path(folder))), encoding="utf-8")
            in_R = ["Rscript", str(HERE / "beside_relationships.R"), str(path)]
            found = {
                "lme4": {"status": "-"} if task.pedigree else measure(in_R, args.limit),
                "mixedfx": measure([sys.executable, __file__, "--fit", str(path)], 10 * args.limit),
            }
            print(line(task, found, markdown=args.markdown), flush=True)


if __name__ == "__main__":
    main()
