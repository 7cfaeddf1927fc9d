"""Sums of a chunk's rows, and their addition: all that is kept of the rows in a second pass.

``reduce_chunk`` and ``combine`` depend on the chunk and on the plan alone, and the plan, a chunk's
sums and both functions can be pickled: chunks may be reduced where they are, in any order.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._cached import cached_property
from mixedfx.design.rows import ModelRows
from mixedfx.design.stream.chunk_rows import ChunkDesign
from mixedfx.design.stream.request import CompleteRows
from mixedfx.design.stream.strata import StratumRows
from mixedfx.likelihood.basis import ColumnBasis
from mixedfx.likelihood.level_sums import column_products
from mixedfx.likelihood.stream.chunk_sums import LevelRows
from mixedfx.likelihood.stream.pair_sums import (
    PairSums,
    PairTable,
    PairTotals,
    pair_sums,
)
from mixedfx.likelihood.stream.stratum_sums import RowSumsByStratum, sums_by_stratum

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ReductionPlan:
    """How the rows of a chunk become sums."""

    design: ChunkDesign
    bases: tuple[ColumnBasis, ...]  # of the random terms
    fixed_basis: ColumnBasis | None  # of the fixed columns that it is for
    in_basis: Codes  # fixed columns of the basis; all others are as they are
    coef: Vector  # (P,) of the columns in the basis: sums are about their predictions

    def fixed_columns(self, X: Matrix) -> Matrix:
        """Columns of X in the basis."""
        if self.fixed_basis is None:
            return X
        columns = self.fixed_basis.columns(np.ascontiguousarray(X[:, self.in_basis]))
        if len(self.in_basis) == X.shape[1]:
            return columns
        out = X.copy()
        out[:, self.in_basis] = columns
        return out

    def R(self, n_columns: int) -> Matrix:
        """Upper triangular R with ``X = X~ R``, (P, P)."""
        R = np.eye(n_columns)
        if self.fixed_basis is not None:
            R[np.ix_(self.in_basis, self.in_basis)] = self.fixed_basis.inverse
        return R


# Sums by level of each grouping factor.
_BY_LEVEL = ("ZtZ", "ZtXy", "counts")


@dataclass(frozen=True)
class Largest:
    """Largest value over the rows of each of some quantities, (r,): maxima instead of sums."""

    values: Vector

    def __add__(self, other: Largest) -> Largest:
        """Of both."""
        return Largest(np.maximum(self.values, other.values))


@dataclass(frozen=True)
class RowSums:
    """Sums over rows; ``P`` counts all fixed columns, also the linearly dependent ones."""

    n: int
    n_dropped: int
    missing: Mapping[str, int]
    XytXy: Matrix  # (P + 1, P + 1) weighted, of the columns in the basis and the residuals
    XtX: Matrix  # (P, P) without weights
    X_sum: Vector  # (P,) without weights
    ZtZ: tuple[Matrix, ...]  # weighted, (K, K, L) of each grouping factor
    ZtXy: tuple[Matrix, ...]  # weighted, (K, P + 1, L)
    counts: tuple[Vector, ...]  # rows of each level
    pairs: Mapping[tuple[int, int], PairSums | PairTable | PairTotals]
    squares: tuple[Matrix, ...]  # (k, k) of each term's own columns, without weights
    log_weights: float
    offset_sum: float
    largest: Largest  # |response less offset|, |offset|, |residual|, weight, 1 / weight
    not_indicators: Mask  # (P,) columns with other values than -1, 0 and 1
    variable_sums: Mapping[str, float]
    by_stratum: RowSumsByStratum | None  # of equal residual variance, where there are several


@dataclass(frozen=True)
class ChunkColumns:
    """Rows of a chunk, and their columns in the bases of a plan, which are made once."""

    rows: ModelRows
    found: CompleteRows
    plan: ReductionPlan

    @cached_property
    def of_X(self) -> Matrix:
        """Fixed columns, (P, n)."""
        return np.ascontiguousarray(self.plan.fixed_columns(self.rows.X).T)

    @cached_property
    def response(self) -> Vector:
        """Response less offset."""
        return self.rows.response_less_offset

    @cached_property
    def residuals(self) -> Vector:
        """Response less the predictions of the plan."""
        return np.asarray(self.response - self.of_X.T @ self.plan.coef)

    @cached_property
    def by_group(self) -> list[LevelRows]:
        """Random terms of each grouping factor."""
        return _by_group(self.rows, self.plan.bases)


def reduce_chunk(frame: pd.DataFrame, plan: ReductionPlan) -> RowSums:
    """Sums over the complete rows of a chunk."""
    return reduce_rows(ChunkColumns(*plan.design.rows(frame), plan))


def reduce_rows(chunk: ChunkColumns, spare: RowSums | None = None) -> RowSums:
    """
    Sums over the rows that a chunk has, in which nothing of the user's is called.

    Sums by level are put into the arrays of those of another chunk, if these are not needed.
    """
    rows, plan, w = chunk.rows, chunk.plan, chunk.rows.weights
    columns, residuals, by_group = list(chunk.of_X), chunk.residuals, chunk.by_group
    XytXy = column_products([*columns, residuals], w)
    XtX = XytXy[:-1, :-1] if w is None else column_products(columns, None)
    spares = [None] * len(by_group) if spare is None else zip(spare.ZtZ, spare.ZtXy, strict=True)
    sums = [
        own.sums([*columns, residuals], w, arrays)
        for own, arrays in zip(by_group, spares, strict=True)
    ]
    return RowSums(
        n=rows.n,
        n_dropped=rows.n_dropped,
        missing=rows.missing,
        XytXy=XytXy,
        XtX=XtX,
        X_sum=np.array([c.sum() for c in columns]),
        ZtZ=tuple(ZtZ for ZtZ, _ in sums),
        ZtXy=tuple(ZtXy for _, ZtXy in sums),
        counts=tuple(own.counts for own in by_group),
        pairs=_pairs(by_group, w),
        squares=tuple(_squares(term.model_matrix) for term in rows.random_terms),
        log_weights=0.0 if w is None else float(np.log(w).sum()),
        offset_sum=0.0 if rows.offset is None else float(rows.offset.sum()),
        largest=_largest(rows, chunk.response, residuals),
        not_indicators=_not_indicators(plan, rows.X),
        variable_sums=chunk.found.sums,
        by_stratum=_by_stratum(plan, rows, by_group, [*columns, residuals]),
    )


def _by_group(rows: ModelRows, bases: Sequence[ColumnBasis]) -> list[LevelRows]:
    """Random terms of each grouping factor."""
    found: dict[str, list[tuple[Any, ColumnBasis]]] = {}
    for term, basis in zip(rows.random_terms, bases, strict=True):
        found.setdefault(term.group, []).append((term, basis))
    return [LevelRows(*zip(*own, strict=True)) for own in found.values()]


def _by_stratum(
    plan: ReductionPlan,
    rows: ModelRows,
    by_group: list[LevelRows],
    columns: list[Vector],
) -> RowSumsByStratum | None:
    """Sums by stratum, where there are several."""
    strata, residual = plan.design.strata, rows.residual
    if strata is None or not isinstance(residual, StratumRows):
        return None
    codes = residual.stratum_codes()
    terms = [own.terms for own in by_group]
    return sums_by_stratum(terms, columns, rows.weights, codes, strata.size)


def _not_indicators(plan: ReductionPlan, X: Matrix) -> Mask:
    """Columns with other values than -1, 0 and 1; not asked for where all are independent."""
    if len(plan.in_basis) == X.shape[1]:
        return np.zeros(X.shape[1], dtype=bool)
    return np.asarray(~((X == 0.0) | (np.abs(X) == 1.0)).all(axis=0))


def _pairs(by_group: Sequence[LevelRows], w: Vector | None) -> dict[tuple[int, int], PairSums]:
    """Sums by pair of levels of every two grouping factors."""
    return {
        (i, j): pair_sums(
            first.codes,
            second.codes,
            (first.n_levels, second.n_levels),
            first.columns,
            second.columns,
            w,
        )
        for (i, first), (j, second) in itertools.combinations(enumerate(by_group), 2)
    }


def _squares(Z: Matrix) -> Matrix:
    """``Z'Z``, (k, k)."""
    if Z.strides[0] == 0:
        return np.full((1, 1), float(len(Z)))
    return np.asarray(Z.T @ Z)


def _largest(rows: ModelRows, y: Vector, residuals: Vector) -> Largest:
    w = rows.weights
    quantities = [y, rows.offset, residuals, w, None if w is None else 1.0 / w]
    return Largest(np.array([0.0 if v is None else _largest_size(v) for v in quantities]))


def _largest_size(v: Vector) -> float:
    return float(max(v.max(initial=0.0), -v.min(initial=0.0)))


def combine(a: RowSums, b: RowSums) -> RowSums:
    """Sums over the rows of both."""
    return RowSums(**_added_fields(a, b))


def of_observed_levels(sums: RowSums) -> RowSums:
    """Sums by level and by pair of the levels that have rows."""
    kept = [counts > 0.0 for counts in sums.counts]
    if all(own.all() for own in kept):
        return sums

    def levels(parts: tuple[Matrix, ...]) -> tuple[Matrix, ...]:
        pairs = zip(parts, kept, strict=True)
        return tuple(np.ascontiguousarray(part[..., own]) for part, own in pairs)

    return replace(
        sums,
        ZtZ=levels(sums.ZtZ),
        ZtXy=levels(sums.ZtXy),
        counts=levels(sums.counts),
        pairs={
            (i, j): pairs.total().of_levels(kept[i], kept[j])
            for (i, j), pairs in sums.pairs.items()
        },
    )


def added(total: RowSums | None, own: RowSums) -> RowSums:
    """Sums over the rows of both; those by level and by pair are added in place to a total's."""
    if total is None:
        first: RowSums = _in_tables(own)
        return first
    for name in _BY_LEVEL:
        for into, further in zip(getattr(total, name), getattr(own, name), strict=True):
            into += further
    return replace(total, **_added_fields(total, own, leave=_BY_LEVEL))


def added_by_stratum(total: RowSumsByStratum | None, own: RowSumsByStratum) -> RowSumsByStratum:
    """Sums by stratum over the rows of both, those by pair in the tables of a total."""
    if total is None:
        first: RowSumsByStratum = _in_tables(own)
        return first
    return RowSumsByStratum(**_added_fields(total, own))


def _in_tables(sums: Any) -> Any:
    """The same sums, those by pair in tables."""
    if isinstance(sums, PairSums):
        return PairTable.of([sums])
    if isinstance(sums, tuple):
        return tuple(map(_in_tables, sums))
    if isinstance(sums, Mapping):
        return {k: _in_tables(v) for k, v in sums.items()}
    if isinstance(sums, RowSums | RowSumsByStratum):
        return replace(sums, **{f.name: _in_tables(getattr(sums, f.name)) for f in fields(sums)})
    return sums


def _added_fields(a: Any, b: Any, leave: Sequence[str] = ()) -> dict[str, Any]:
    names = [f.name for f in fields(a) if f.name not in leave]
    return {name: _added(getattr(a, name), getattr(b, name)) for name in names}


def _added(a: Any, b: Any) -> Any:
    if a is None:
        return None
    if isinstance(a, PairTable):
        return a.add(b)
    if isinstance(a, RowSumsByStratum):
        return RowSumsByStratum(**_added_fields(a, b))
    if isinstance(a, tuple):
        return tuple(_added(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, Mapping):
        return {
            k: _added(a[k], b[k]) if k in a and k in b else a.get(k, b.get(k)) for k in {**a, **b}
        }
    if isinstance(a, np.ndarray) and a.dtype == bool:
        return a | b
    return a + b
