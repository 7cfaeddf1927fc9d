"""Rows of a generalised model in memory, in well-conditioned bases.

Rows that are equal but for the response are merged where the family allows: their log densities
add up to that of their weighted mean.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.design.build import Design
from mixedfx.design.rows import RandomTermRows
from mixedfx.families.family import Family
from mixedfx.likelihood.accumulate import parametrization_of, term_positions
from mixedfx.likelihood.basis import rows_in_basis, term_bases, well_conditioned
from mixedfx.likelihood.crossproducts import CHOLESKY
from mixedfx.likelihood.generalized.conditional_rows import GivenOthers
from mixedfx.likelihood.generalized.evaluated_rows import EvaluatedRows
from mixedfx.likelihood.generalized.factor_rows import FactorRows, PairRows
from mixedfx.likelihood.generalized.row_arrays import RowArrays, log_constants
from mixedfx.likelihood.generalized.rows_model import RowsModel
from mixedfx.likelihood.level_basis import RelatedLevels
from mixedfx.likelihood.level_sums import blocks_by_group
from mixedfx.likelihood.size import check_memory_of_solver
from mixedfx.linalg.cholesky.block_matrix import (
    BlockLayout,
    BlockPattern,
    LevelPairs,
)
from mixedfx.linalg.precision import PrecisionBasis, PrecisionSolver
from mixedfx.linalg.solver import Solver

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Rows are merged where that leaves at most this share of them.
_WORTH_MERGING = 0.8


@dataclass(frozen=True, kw_only=True)
class GeneralizedRows(RowArrays):
    """Rows of a generalised model, which may stand for several equal ones each."""

    row_of: Codes | None = field(default=None, repr=False)  # (n,) merged row of each of the data
    unmerged: GeneralizedRows | None = field(default=None, repr=False)  # where rows were merged

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        super().__post_init__()
        set_readonly(self.row_of)

    @staticmethod
    def of(design: Design, *, merge: bool = True) -> GeneralizedRows:
        """Rows of a design, merged where that pays."""
        spec, rows = design.spec, design.rows
        parametrization = parametrization_of(spec)
        unit = predictor_unit(spec.family, rows.y)
        bases = tuple(
            replace(basis, R=basis.R / unit)
            for basis in term_bases(rows.replaced(weights=None), parametrization)
        )
        by_group = blocks_by_group(rows_in_basis(rows.random_terms, bases))
        groups = tuple(terms[0].group for terms in by_group)
        level_bases = RelatedLevels.of(spec, by_group).precision_bases()
        factors = tuple(map(FactorRows.of, by_group, level_bases))
        pairs, pattern = pairs_of_factors(by_group, factors)
        X, qr_R = _fixed_basis(rows.X)
        X, qr_R = X * unit, qr_R / unit
        whole = GeneralizedRows(
            family=spec.family,
            y=rows.y,
            weights=rows.weights,
            offset=rows.offset,
            X=X,
            qr_R=qr_R,
            factors=factors,
            pairs=pairs,
            pattern=pattern,
            solver=solver_of(pattern, level_bases, groups),
            groups=groups,
            term_positions=term_positions(rows.random_terms, parametrization.widths, groups),
            parametrization=parametrization,
            bases=bases,
            constants=float(
                log_constants(spec.family, rows.y, rows.weights, rows.multiplicity).sum()
            ),
            n=rows.n,
        )
        return _merged(whole) if merge and spec.family.mergeable else whole

    def at(
        self, fixed: Vector, effects: Sequence[Matrix], params: Vector, *, third: bool = False
    ) -> EvaluatedRows:
        """The rows at a linear predictor."""
        return EvaluatedRows.of(self, fixed, effects, params, third=third)

    def given_others(self, f: int) -> GivenOthers:
        """The rows with one grouping factor, the effects of the others after the coefficients."""
        return GivenOthers.of(self, f, self.alone(f))

    @property
    def as_given(self) -> GeneralizedRows:
        """The rows of the data, unmerged."""
        return self if self.unmerged is None else self.unmerged

    def with_response(self, y: Vector, weights: Vector | None) -> GeneralizedRows:
        """The same rows with another response of the rows of the data, (n,), and its weights."""
        if self.unmerged is None or self.row_of is None:
            constants = float(self.family.constants(y, weights).sum())
            return replace(self, y=y, weights=weights, constants=constants)
        whole = self.unmerged.with_response(y, weights)
        merged_y, merged_weights = _merged_response(self.row_of, len(self.y), y, weights)
        return replace(
            self, y=merged_y, weights=merged_weights, constants=whole.constants, unmerged=whole
        )

    def of_mask(self, keep: npt.NDArray[np.bool_]) -> GeneralizedRows:
        """Some of the rows, in the same bases, with all levels; the constants are left out."""
        weights = None if self.weights is None else self.weights[keep]
        taken = _taken(self, np.flatnonzero(keep), self.y[keep], weights)
        return replace(taken, constants=0.0, n=int(keep.sum()), row_of=None, unmerged=None)


def rows_of(design: Design, *, merge: bool = True) -> RowsModel:
    """Rows of a design: in memory, or in blocks where they were read in chunks."""
    reduced: Any = design.rows.reduced
    if reduced is not None:
        rows: RowsModel = reduced.model_rows(design)
        return rows
    return GeneralizedRows.of(design, merge=merge)


def solver_of(
    pattern: BlockPattern, bases: Sequence[PrecisionBasis | None], groups: Sequence[str]
) -> Solver:
    """Solver of the equations of the modes; refuses those that memory cannot hold."""
    plain = all(basis is None for basis in bases)
    solver = CHOLESKY if plain else PrecisionSolver(tuple(bases))
    check_memory_of_solver(solver, pattern, groups)
    return solver


def predictor_unit(family: Family, y: Vector) -> float:
    """
    Unit of the linear predictor, by which columns are scaled: coefficients are then of order one.

    It is one unless the predictor has the unit of the mean, as by the identity link, or its root.
    """
    if not (family.link.keeps_sign or family.link.domain == "positive"):
        return 1.0
    unit = abs(float(family.link.link(np.sqrt(np.mean(y**2)))))
    return unit if np.isfinite(unit) and unit > 0.0 else 1.0


def _fixed_basis(X: Matrix) -> tuple[Matrix, Matrix]:
    """Columns of unit root mean square, nearly uncorrelated, and R with ``X = columns R``."""
    n, p = X.shape
    if p == 0:
        return X, np.zeros((0, 0))
    basis = well_conditioned(X, None)
    if basis is not None:
        return np.ascontiguousarray(basis.columns(X)), np.array(basis.inverse)
    Q, R = np.linalg.qr(X)
    return Q * np.sqrt(n), R / np.sqrt(n)


def pairs_of_factors(
    by_group: Sequence[Sequence[RandomTermRows]], factors: Sequence[FactorRows]
) -> tuple[dict[tuple[int, int], PairRows], BlockPattern]:
    """Pairs of levels of each two grouping factors by row, and the pattern of ``Z'WZ``."""
    pairs = {
        (i, j): _level_pairs(by_group[i][0], by_group[j][0])
        for i, j in itertools.combinations(range(len(by_group)), 2)
    }
    layout = BlockLayout(tuple(f.width for f in factors), tuple(f.n_levels for f in factors))
    pattern = BlockPattern(layout, {ij: of for ij, (of, _) in pairs.items()})
    return {ij: pair for ij, (_, pair) in pairs.items()}, pattern


def _level_pairs(first: RandomTermRows, second: RandomTermRows) -> tuple[LevelPairs, PairRows]:
    """Pairs of levels that share rows, and the pair of each row."""
    width = second.n_codes
    keys, index = np.unique(first.codes * np.int64(width) + second.codes, return_inverse=True)
    rows, cols = np.divmod(keys, width)
    return LevelPairs(rows, cols), PairRows(index.ravel(), len(keys))


def _merged(rows: GeneralizedRows) -> GeneralizedRows:
    """Merge rows that have all columns, levels and the offset in common, where that pays."""
    first, index = _equal_rows(rows)
    if len(first) > _WORTH_MERGING * len(rows.y):
        return rows
    y, weights = _merged_response(index, len(first), rows.y, rows.weights)
    return replace(_taken(rows, first, y, weights), row_of=index, unmerged=rows)


def _taken(
    rows: GeneralizedRows, taken: Codes, y: Vector, weights: Vector | None
) -> GeneralizedRows:
    """Columns and levels of some of the rows, with a response of theirs."""
    return replace(
        rows,
        y=y,
        weights=weights,
        offset=None if rows.offset is None else rows.offset[taken],
        X=np.ascontiguousarray(rows.X[taken]),
        factors=tuple(factor.taken(taken) for factor in rows.factors),
        pairs={ij: pair.taken(taken) for ij, pair in rows.pairs.items()},
    )


def _merged_response(
    row_of: Codes, n_merged: int, y: Vector, weights: Vector | None
) -> tuple[Vector, Vector]:
    """Weighted mean and sum of weights of the rows that each merged row stands for."""
    w = np.ones(len(y)) if weights is None else weights
    sums = np.bincount(row_of, w, n_merged).astype(float)
    total = np.bincount(row_of, w * y, n_merged)
    return np.divide(total, sums, out=np.zeros_like(total), where=sums > 0.0), sums


def _equal_rows(rows: GeneralizedRows) -> tuple[Codes, Codes]:
    """First of the rows of each kind, and the kind of each row; all differ if in doubt."""
    columns = [rows.X[:, j] for j in range(rows.p)]
    columns += [c for factor in rows.factors for c in factor.columns if c is not None]
    columns += [] if rows.offset is None else [rows.offset]
    # A random projection is equal for equal rows, being computed in the same order in each.
    rng = np.random.default_rng(0)
    key = np.zeros(len(rows.y))
    for column in columns:
        key += rng.uniform(0.5, 1.5) * column
    for factor in rows.factors:
        key += rng.uniform(0.5, 1.5) * factor.codes
    _, first, index = np.unique(key, return_index=True, return_inverse=True)
    index = index.ravel()
    same = all((column == column[first][index]).all() for column in columns)
    same = same and all((f.codes == f.codes[first][index]).all() for f in rows.factors)
    return (first, index) if same else (np.arange(len(rows.y)), np.arange(len(rows.y)))
