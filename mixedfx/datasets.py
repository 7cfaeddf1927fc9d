"""Example data sets, loaded by name.

A registry lists the factors of each data set, because their labels may look like numbers in a CSV
file (subject 308); every other column is a float. Levels are strings in natural order (``ses2``
before ``ses10``), which determines the reference level of treatment contrasts.

Sources, and the unit of every column, are in ``README.md`` beside the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mixedfx.errors import DatasetError, did_you_mean

__all__ = ["load", "names"]


@dataclass(frozen=True)
class _Columns:
    """Column types of a CSV file."""

    factors: tuple[str, ...]  # columns of labels; all others are numeric
    levels: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by factor, if not natural


_REGISTRY: dict[str, _Columns] = {
    "Dyestuff": _Columns(factors=("Batch",)),
    "Dyestuff2": _Columns(factors=("Batch",)),
    "Pastes": _Columns(factors=("batch", "cask", "sample")),
    "Penicillin": _Columns(factors=("plate", "sample")),
    "answers": _Columns(
        factors=("student", "grade", "item", "kind"),
        # The easiest kind is the reference.
        levels={"kind": ("arithmetic", "algebra", "geometry")},
    ),
    "appcrash": _Columns(factors=("publisher", "app", "device", "version")),
    "cake": _Columns(factors=("replicate", "recipe", "temperature")),
    "cbpp": _Columns(factors=("herd", "period")),
    "romcom": _Columns(
        factors=("friend", "movie", "kind"),
        # By increasing residual standard deviation, so that ratios to the first exceed 1.
        levels={"kind": ("steady", "usual", "erratic")},
    ),
    "schools": _Columns(factors=("state", "district", "school", "classroom", "ses")),
    "sleepstudy": _Columns(factors=("Subject",)),
    "trial": _Columns(
        factors=("patient", "arm", "visit"),
        levels={"arm": ("placebo", "active")},
    ),
}


def names() -> tuple[str, ...]:
    """
    Return the names of the example data sets.

    Returns
    -------
    tuple of str
        What :func:`load` accepts, sorted without regard to case.

    Examples
    --------
    >>> names()[:3]
    ('answers', 'appcrash', 'cake')
    """
    return tuple(sorted(_REGISTRY, key=str.casefold))


def load(name: str) -> pd.DataFrame:
    """
    Load an example data set.

    Parameters
    ----------
    name : str
        One of :func:`names`, in its own spelling.

    Returns
    -------
    DataFrame
        A new table on each call. Factors are unordered categoricals whose categories are strings,
        in natural order unless the set defines another; every other column is float64, the
        double nearest to the decimal in the file. Units are in ``README.md`` beside the data files.

    Raises
    ------
    DatasetError
        If there is no data set of that name, or its file is missing from the installation.

    Examples
    --------
    >>> sleep = load("sleepstudy")
    >>> sleep.head(3)
       Reaction  Days Subject
    0  249.5600   0.0     308
    1  258.7047   1.0     308
    2  250.8006   2.0     308
    >>> list(sleep["Subject"].cat.categories[:3])
    ['308', '309', '310']
    """
    if not isinstance(name, str) or name not in _REGISTRY:
        raise DatasetError(
            f"there is no data set {name!r}; the data sets are: {', '.join(names())}."
            f"{did_you_mean(str(name), _REGISTRY)}"
        )
    columns = _REGISTRY[name]
    # Numbers are converted after reading: read_csv of older pandas may round the last bit.
    text = pd.read_csv(_path(name), dtype="str")
    return pd.DataFrame(
        {
            column: _factor(labels, columns.levels.get(column))
            if column in columns.factors
            else labels.astype("float64")
            for column, labels in text.items()
        }
    )


def _factor(labels: pd.Series[str], levels: tuple[str, ...] | None) -> pd.Series[Any]:
    """Convert labels to a categorical, by default with its levels in natural order."""
    return labels.astype(pd.CategoricalDtype(list(levels or _natural_order(labels))))


def _path(name: str) -> Path:
    """Path of a file in the installed package, or in a source checkout."""
    package = Path(__file__).parent
    for folder in (package / "_data", package.parent / "datasets"):
        path = folder / f"{name}.csv"
        if path.is_file():
            return path
    raise DatasetError(
        f"the file of data set {name!r} is missing from this installation in {package}. "
        "Install mixedfx again."
    )


def _natural_order(labels: Iterable[str]) -> list[str]:
    """Sort the distinct labels, comparing runs of digits as numbers."""

    def key(label: str) -> list[str | int]:
        # Text and digits alternate, so equal positions have equal types.
        return [int(s) if s.isdigit() else s for s in re.split(r"([0-9]+)", label)]

    return sorted(set(labels), key=key)
