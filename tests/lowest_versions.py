"""Print pip constraints that pin every runtime dependency to the lowest version declared.

python tests/lowest_versions.py > constraints.txt
python -m pip install -c constraints.txt ".[plot,parquet]"
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

# ArviZ, of mixedfx[bayes], asks for later versions of NumPy than mixedfx itself.
EXTRAS = ("plot", "parquet")


def lowest_versions(project: dict) -> list[str]:
    """``name==version`` of each requirement ``name>=version`` of the package and its extras."""
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *(r for extra in EXTRAS for r in extras[extra])]
    pinned = []
    for requirement in requirements:
        match = re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\w.]+)", requirement)
        if match is None:
            raise ValueError(f"'{requirement}' declares no lowest version: write 'name>=version'.")
        pinned.append("{}=={}".format(*match.groups()))
    return pinned


if __name__ == "__main__":
    pyproject = Path(__file__).parent.parent / "pyproject.toml"
    print("\n".join(lowest_versions(tomllib.loads(pyproject.read_text())["project"])))
