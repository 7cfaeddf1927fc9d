"""Folds of cross-validation: which rows are left out together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._arrays import set_readonly
from mixedfx.design.source import values_of_rows
from mixedfx.errors import ArgumentError, brief, check_count, did_you_mean
from mixedfx.linalg.random_streams import spawn_generators

Codes = npt.NDArray[np.intp]

LEAVE_ONE_OUT = "loo"


@dataclass(frozen=True)
class Fold:
    """Rows that are fitted, and those that are predicted."""

    label: Any
    test: Codes = field(repr=False)  # positions
    n: int  # rows of all
    given: Codes | None = field(default=None, repr=False)  # those a splitter fits; None: the others

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.test, self.given)

    @property
    def train(self) -> Codes:
        """Rows that are fitted, not kept: of many folds they would be many times all rows."""
        return _others(self.test, self.n) if self.given is None else self.given

    @property
    def n_train(self) -> int:
        """Number of rows that are fitted."""
        return self.n - len(self.test) if self.given is None else len(self.given)

    @property
    def left_out(self) -> Codes:
        """Rows that are not fitted; a splitter may predict fewer."""
        if self.given is None or len(self.given) + len(self.test) == self.n:
            return self.test
        return _others(self.given, self.n)


def _others(rows: Codes, n: int) -> Codes:
    """Those of n rows that are not among some."""
    other = np.ones(n, dtype=bool)
    other[rows] = False
    return np.flatnonzero(other)


@dataclass(frozen=True)
class Units:
    """What is left out whole: rows, or the rows of a group."""

    codes: Codes = field(repr=False)  # (n,) unit of each row
    labels: pd.Index = field(repr=False)
    by: str | None  # name of the groups; None: rows

    @staticmethod
    def of_rows(index: pd.Index) -> Units:
        """Each row is one."""
        return Units(np.arange(len(index)), index, None)

    @staticmethod
    def of_groups(name: str, values: Any) -> Units:
        """Rows of equal values are one."""
        codes, labels = pd.factorize(pd.Series(values), sort=True)
        if (codes < 0).any():
            raise ArgumentError(
                f"by='{name}': {int((codes < 0).sum())} of the rows used have no value of it; fill "
                "it in, or leave these rows out."
            )
        if len(labels) < 2:
            raise ArgumentError(f"by='{name}': all rows have one value; nothing would be fitted.")
        return Units(np.asarray(codes, dtype=np.intp), pd.Index(labels), name)

    @property
    def what(self) -> str:
        """The units in words."""
        return "rows" if self.by is None else f"groups of '{self.by}'"


def make_folds(folds: Any, units: Units, frame: pd.DataFrame, y: Any, rng: Any) -> list[Fold]:
    """Folds from a number, ``"loo"``, a column, labels of the rows, or a splitter."""
    n = len(units.codes)
    if hasattr(folds, "split") and not isinstance(folds, str):
        return list(_of_splitter(folds, units, frame, y))
    if isinstance(folds, str) and folds not in frame.columns:
        if folds != LEAVE_ONE_OUT:
            raise ArgumentError(
                f"folds='{folds}' is neither 'loo' nor a column of the model; a number, labels of "
                "the rows or a splitter of scikit-learn are folds, too."
                f"{did_you_mean(folds, map(str, frame.columns))}"
            )
        return _of_labels(units.codes, units.labels)
    if isinstance(folds, str):
        folds = frame[folds]
    if not pd.api.types.is_list_like(folds):
        k, m = check_count("folds", folds, 2, what="at least 2, or 'loo'"), len(units.labels)
        if k > m:
            raise ArgumentError(f"folds={k}: there are {m} {units.what}; folds='loo' has one each.")
        of_unit = np.empty(m, dtype=np.intp)
        of_unit[spawn_generators(rng, 1)[0].permutation(m)] = np.arange(m) % k
        return _of_labels(of_unit[units.codes], pd.RangeIndex(1, k + 1))
    return _of_given(folds, units, n)


def _of_labels(codes: Codes, labels: pd.Index) -> list[Fold]:
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.searchsorted(codes[order], np.arange(1, len(labels))))
    return [Fold(label, part, len(codes)) for label, part in zip(labels, parts, strict=True)]


def _of_given(folds: Any, units: Units, n: int) -> list[Fold]:
    """Labels of the rows."""
    codes, labels = pd.factorize(values_of_rows("folds", folds, n), sort=True)
    if (codes < 0).any() or len(labels) < 2:
        raise ArgumentError(
            "folds must be a label for each row, of at least two kinds; "
            f"{int((codes < 0).sum())} are missing and {len(labels)} differ."
        )
    of_unit = np.zeros(len(units.labels), dtype=np.intp)
    of_unit[units.codes] = codes
    split = units.codes[of_unit[units.codes] != codes]
    if len(split):
        raise ArgumentError(
            f"folds: {units.by} {units.labels[split[0]]!r} is in several folds, and by= leaves "
            "groups out whole: give all its rows one label, or leave by= out."
        )
    return _of_labels(np.asarray(codes, dtype=np.intp), pd.Index(labels))


def _of_splitter(splitter: Any, units: Units, frame: pd.DataFrame, y: Any) -> Iterator[Fold]:
    """Folds of scikit-learn's protocol, ``split(X, y, groups)``."""
    n = len(units.codes)
    groups = None if units.by is None else units.codes
    what = f"folds={brief(splitter)}"
    needs = " Its groups are those of by=." if units.by is None else ""
    try:
        pairs = list(splitter.split(frame, y, groups))
        found = [(np.asarray(train), np.asarray(test)) for train, test in pairs]
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{what}: its split(X, y, groups) raised: {error}{needs}") from error
    if not found:
        raise ArgumentError(f"{what}: its split() gives no folds.")
    for number, (train, test) in enumerate(found, start=1):
        for rows in (train, test):
            whole = rows.dtype.kind in "iu" and rows.ndim == 1 and len(rows)
            if not whole or rows.min() < 0 or rows.max() >= n:
                raise ArgumentError(
                    f"{what}: fold {number} is no pair of positions of the {n} rows used."
                )
        shared = np.intersect1d(units.codes[train], units.codes[test])
        if len(shared):
            raise ArgumentError(
                f"{what}: in fold {number} rows of "
                f"{units.by or 'row'} {units.labels[shared[0]]!r} are both fitted and predicted. "
                "Take a splitter of groups, such as GroupKFold, or leave by= out."
            )
        yield Fold(number, test.astype(np.intp), n, train.astype(np.intp))
