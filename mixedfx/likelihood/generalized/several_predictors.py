"""Rows of a generalised model with several linear predictors.

Predictor k is ``eta_k = offset_k + X_k beta_k + Z_k b``: each column of X and of Z belongs to one
predictor. With the weights ``W_ab = -d2l/deta_a deta_b`` of each row, ``Z'WZ`` of a column of
predictor a and one of predictor b has ``W_ab``, and what has one number in each row where there is
one predictor has one of each predictor, (m, n).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx.covariance.parametrization import Parametrization
from mixedfx.design.build import Design
from mixedfx.families.family import Family
from mixedfx.families.several_predictors import SeveralPredictors
from mixedfx.likelihood.accumulate import term_positions
from mixedfx.likelihood.basis import rows_in_basis
from mixedfx.likelihood.generalized.factor_rows import FactorRows, PairRows, times
from mixedfx.likelihood.generalized.rows import GeneralizedRows, pairs_of_factors, solver_of
from mixedfx.likelihood.level_sums import blocks_by_group
from mixedfx.linalg.cholesky.block_matrix import BlockLayout, BlockPattern

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SeveralFactorRows(FactorRows):
    """Columns of one grouping factor, each of one predictor."""

    predictor_of: tuple[int, ...] = ()  # of each column
    m: int = 1  # predictors

    @property
    def predictors_of_columns(self) -> tuple[int, ...]:
        """Linear predictor that each column belongs to."""
        return self.predictor_of

    def predictor(self, effects: Matrix) -> Matrix:
        """``Z b`` of effects (K, L), (m, n)."""
        total = np.zeros((self.m, len(self.codes)))
        for k, column, effect in zip(self.predictor_of, self.columns, effects, strict=True):
            total[k] += times(effect[self.codes], column)
        return total

    def sums(self, values: Matrix) -> Matrix:
        """``Z'v``, (K, L)."""
        columns = zip(self.predictor_of, self.columns, strict=True)
        return np.array(
            [np.bincount(self.codes, times(values[k], c), self.n_levels) for k, c in columns]
        )

    def blocks(self, weights: Array) -> Matrix:
        """``Z'WZ`` within the levels, (K, K, L)."""
        out, of = np.empty((self.width, self.width, self.n_levels)), self.predictor_of
        for (a, b), product in self.products.items():
            weighted = times(weights[of[a], of[b]], product)
            out[a, b] = out[b, a] = np.bincount(self.codes, weighted, self.n_levels)
        return out

    def quadratic(self, blocks: Matrix) -> Array:
        """``z_a'B z_b`` of the columns of each two predictors, (m, m, n)."""
        total, of = np.zeros((self.m, self.m, len(self.codes))), self.predictor_of
        for (a, b), product in self.products.items():
            part = times(blocks[a, b][self.codes], product)
            total[of[a], of[b]] += part
            if a != b:
                total[of[b], of[a]] += part
        return total


@dataclass(frozen=True)
class SeveralPairRows(PairRows):
    """Pairs of levels of two factors with columns of several predictors."""

    def blocks(self, weights: Array, first: FactorRows, second: FactorRows) -> Matrix:
        """``Z_1'W Z_2`` over the pairs, (K_1, K_2, pairs)."""
        return np.array(
            [
                [
                    np.bincount(self.index, times(times(weights[k, j], a), b), self.n_pairs)
                    for j, b in _columns(second)
                ]
                for k, a in _columns(first)
            ]
        )

    def bilinear(self, blocks: Matrix, first: FactorRows, second: FactorRows) -> Array:
        """``z_1'B z_2`` of the columns of each two predictors, its symmetric part, (m, m, n)."""
        m = cast(SeveralFactorRows, first).m
        total = np.zeros((m, m, len(self.index)))
        for a, (k, column_a) in enumerate(_columns(first)):
            for b, (j, column_b) in enumerate(_columns(second)):
                half = 0.5 * times(times(blocks[a, b][self.index], column_a), column_b)
                total[k, j] += half
                total[j, k] += half
        return total


def _columns(factor: FactorRows) -> list[tuple[int, Vector | None]]:
    """Predictor and values of each column."""
    return list(zip(cast(SeveralFactorRows, factor).predictor_of, factor.columns, strict=True))


@dataclass(frozen=True)
class SeveralRows(GeneralizedRows):
    """Rows of several predictors; ``X`` has the fixed columns of all, side by side."""

    parts: tuple[GeneralizedRows, ...] = field(default=(), repr=False)  # of each predictor alone

    @staticmethod
    def of_parts(designs: Sequence[Design], density: SeveralPredictors) -> SeveralRows:
        """Rows of the designs of the predictors, that of the mean first."""
        parts = tuple(GeneralizedRows.of(design, merge=False) for design in designs)
        by_part = [
            rows_in_basis(design.rows.random_terms, part.bases)
            for design, part in zip(designs, parts, strict=True)
        ]
        terms = tuple(term for of_part in by_part for term in of_part)
        owner = {id(term): k for k, of_part in enumerate(by_part) for term in of_part}
        by_group = blocks_by_group(terms)
        groups = tuple(of_group[0].group for of_group in by_group)
        factors = tuple(_factor_rows(of_group, owner, density.m) for of_group in by_group)
        pairs, pattern = pairs_of_factors(by_group, factors)
        first, parametrization = parts[0], _joined([part.parametrization for part in parts])
        return SeveralRows(
            family=cast(Family, density),
            y=first.y,
            weights=first.weights,
            offset=None,
            X=np.hstack([part.X for part in parts]),
            qr_R=linalg.block_diag(*(part.qr_R for part in parts)),
            factors=factors,
            pairs={ij: SeveralPairRows(p.index, p.n_pairs) for ij, p in pairs.items()},
            pattern=pattern,
            solver=solver_of(pattern, [None] * len(groups), groups),
            groups=groups,
            term_positions=term_positions(terms, parametrization.widths, groups),
            parametrization=parametrization,
            bases=tuple(basis for part in parts for basis in part.bases),
            constants=first.constants,
            n=first.n,
            row_of=None,
            parts=parts,
        )

    @property
    def density(self) -> SeveralPredictors:
        """Log density of the rows."""
        return cast(SeveralPredictors, cast(Any, self.family))

    @property
    def slices(self) -> tuple[slice, ...]:
        """Coefficients of each predictor."""
        ends = np.cumsum([part.p for part in self.parts]).tolist()
        return tuple(slice(a, b) for a, b in zip([0, *ends], ends, strict=False))

    @property
    def term_slices(self) -> tuple[slice, ...]:
        """Random terms of each predictor."""
        ends = np.cumsum([len(part.term_positions) for part in self.parts]).tolist()
        return tuple(slice(a, b) for a, b in zip([0, *ends], ends, strict=False))

    def without_effects(self) -> SeveralRows:
        """The same rows without random terms."""
        return replace(
            self,
            factors=(),
            pairs={},
            pattern=BlockPattern(BlockLayout((), ()), {}),
            groups=(),
            term_positions=(),
            parametrization=Parametrization((), ()),
            bases=(),
        )

    def with_response(self, y: Vector, weights: Vector | None) -> SeveralRows:
        """The same rows with another response."""
        constants = float(self.density.family.constants(y, weights).sum())
        parts = (replace(self.parts[0], y=y, weights=weights), *self.parts[1:])
        return replace(self, y=y, weights=weights, constants=constants, parts=parts)

    def of_mask(self, keep: Mask) -> SeveralRows:
        """Some of the rows, in the same bases, with all levels."""
        taken = super().of_mask(keep)
        return replace(
            cast(SeveralRows, taken), parts=tuple(part.of_mask(keep) for part in self.parts)
        )

    @property
    def has_one_mode(self) -> bool:
        """Not known of several predictors."""
        return False

    @property
    def base(self) -> None:
        """Log densities are taken as they are."""

    def all_derivatives(self, eta: Vector, params: Vector) -> None:
        """Differences are taken."""

    def fixed_predictor(self, beta: Vector) -> Matrix:
        """``offset_k + X_k beta_k``, (m, n)."""
        parts = zip(self.parts, self.slices, strict=True)
        return np.array([part.fixed_predictor(beta[own]) for part, own in parts])

    def fixed_sums(self, values: Matrix) -> Vector:
        """``X'v``, (p,)."""
        return np.concatenate([part.X.T @ v for part, v in zip(self.parts, values, strict=True)])

    def fixed_products(self, weights: Array) -> Matrix:
        """``X'WX``, (p, p)."""
        return np.block(
            [
                [(a.X * weights[i, j][:, None]).T @ b.X for j, b in enumerate(self.parts)]
                for i, a in enumerate(self.parts)
            ]
        )

    def weighted_columns(self, weights: Array) -> list[Matrix]:
        """Columns of ``WX``, p times (m, n)."""
        return [
            weights[:, k] * part.X[:, j] for k, part in enumerate(self.parts) for j in range(part.p)
        ]

    @property
    def n_predictors(self) -> int:
        """Number of linear predictors."""
        return len(self.parts)

    @property
    def fixed_columns(self) -> Array:
        """Columns of X, each zero but in its own predictor, (p, predictors, n)."""
        found = np.zeros((self.p, len(self.parts), len(self.y)))
        for k, (part, own) in enumerate(zip(self.parts, self.slices, strict=True)):
            found[own, k] = part.X.T
        return found

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """Shape of the weights of all rows."""
        return (len(self.parts), len(self.parts), len(self.y))

    def weighted(self, weights: Array, values: Matrix | float) -> Matrix:
        """``W v``, (m, n)."""
        if np.ndim(values) == 0:  # zero without random effects
            values = np.broadcast_to(values, weights.shape[1:])
        assert isinstance(values, np.ndarray)
        total = weights[:, 0] * values[0]
        for k in range(1, len(values)):
            total += weights[:, k] * values[k]
        return np.asarray(total)

    def positive(self, weights: Array) -> bool:
        """Whether no row's weights have a negative eigenvalue."""
        if not all((weights[k, k] >= 0.0).all() for k in range(len(weights))):
            return False
        if len(weights) == 2:
            return bool((weights[0, 0] * weights[1, 1] >= weights[0, 1] ** 2).all())
        return bool(np.linalg.eigvalsh(np.moveaxis(weights, 2, 0)).min(initial=0.0) >= 0.0)

    def nonnegative(self, weights: Array) -> Array:
        """The nearest weights without negative eigenvalues."""
        values, vectors = np.linalg.eigh(np.moveaxis(weights, 2, 0))
        root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
        return np.moveaxis(root @ root.transpose(0, 2, 1), 0, 2)

    def by_predictor(self, slopes: Array, h: Array) -> Matrix:
        """``sum_ab h_ab dW_ab/deta_c``, (m, n)."""
        return np.asarray((slopes * h[:, :, None]).sum(axis=(0, 1)))


def _factor_rows(terms: list[Any], owner: Mapping[int, int], m: int) -> SeveralFactorRows:
    """Columns of the terms of one grouping factor, with the predictor of each."""
    plain = FactorRows.of(terms)
    predictor_of = tuple(owner[id(term)] for term in terms for _ in range(_width(term)))
    return SeveralFactorRows(**vars(plain), predictor_of=predictor_of, m=m)


def _width(term: Any) -> int:
    return int(term.model_matrix.shape[1])


def _joined(parts: Sequence[Parametrization]) -> Parametrization:
    """Covariances of the random terms of all parts, independent of each other."""
    positions = [part.positions or (None,) * len(part.widths) for part in parts]
    joined = tuple(points for of_part in positions for points in of_part)
    return Parametrization(
        tuple(name for part in parts for name in part.structures),
        tuple(width for part in parts for width in part.widths),
        joined if any(points is not None for points in joined) else (),
    )
