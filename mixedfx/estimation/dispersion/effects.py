"""Random effects of the log residual standard deviation: ``v = Z_v b``, ``b = Lambda_v u``.

Their columns are written in the basis of each term (:mod:`mixedfx.likelihood.basis`), so that the
parameters of ``Lambda_v`` have no unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx._arrays import set_readonly
from mixedfx._cached import cached_property
from mixedfx.covariance.parametrization import Parametrization
from mixedfx.design.dispersion import DispersionRows, DispersionSpec
from mixedfx.estimation.dispersion.by_level import parts_of_terms, sums_of_level_blocks
from mixedfx.likelihood.accumulate import parametrization_of_terms
from mixedfx.likelihood.basis import ColumnBasis, bases_of_terms, rows_in_basis

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class ScaleDesign:
    """Columns of the effects in the strata, at most one level of each term in a stratum."""

    parametrization: Parametrization
    bases: tuple[ColumnBasis, ...]
    levels: tuple[int, ...]  # of each term
    index: Codes = field(repr=False)  # (strata, J) effects of a stratum, level by level of a term
    value: Matrix = field(repr=False)  # (strata, J) of their columns

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.index, self.value)

    @staticmethod
    def of(
        spec: DispersionSpec, rows: DispersionRows, fixed: Codes
    ) -> tuple[ScaleDesign, Codes, Codes]:
        """The design, the stratum of each row, and the stratum of the fixed columns of each."""
        parametrization = parametrization_of_terms(spec.random_terms)
        bases = bases_of_terms(rows.random_terms, None, parametrization)
        terms = rows_in_basis(rows.random_terms, bases)
        index, value, start = [], [], 0
        for term in terms:
            k = term.model_matrix.shape[1]
            index.append(start + term.codes[:, None] * k + np.arange(k))
            value.append(term.model_matrix)
            start += term.n_levels * k
        of_rows, values = np.concatenate(index, axis=1), np.concatenate(value, axis=1)
        stratum = fixed.copy()
        for term in terms:
            stratum = _joined(stratum, term.codes)
            for column in term.model_matrix.T:
                if column.strides[0]:
                    stratum = _joined(stratum, np.unique(column, return_inverse=True)[1].ravel())
        first = np.unique(stratum, return_index=True)[1]
        levels = tuple(term.n_levels for term in terms)
        design = ScaleDesign(parametrization, bases, levels, of_rows[first], values[first])
        return design, stratum, fixed[first]

    @property
    def size(self) -> int:
        """Number Q of effects."""
        return sum(n * k for n, k in zip(self.levels, self.widths, strict=True))

    @property
    def widths(self) -> tuple[int, ...]:
        """Effects of a level of each term."""
        return self.parametrization.widths

    @cached_property
    def _terms(self) -> tuple[tuple[slice, int, int], ...]:
        return tuple(parts_of_terms(self.levels, self.widths))

    @cached_property
    def is_indicator(self) -> bool:
        """Whether a stratum has one effect, in full."""
        return self.index.shape[1] == 1 and bool((self.value == 1.0).all())

    def times_factors(self, factors: Sequence[Matrix], u: Matrix) -> Matrix:
        """``Lambda_v u`` (Q, ...)."""
        out = np.empty_like(u)
        for (own, _, k), F in zip(self._terms, factors, strict=True):
            out[own] = _by_level(F, u[own], k)
        return out

    def transposed_times(self, factors: Sequence[Matrix], b: Matrix) -> Matrix:
        """``Lambda_v'b`` (Q, ...)."""
        return self.times_factors([F.T for F in factors], b)

    def between_factors(self, factors: Sequence[Matrix], H: Matrix) -> Matrix:
        """``Lambda_v'H Lambda_v`` (Q, Q)."""
        if all(k == 1 for k in self.widths):
            by_term = [np.full(n, F[0, 0]) for n, F in zip(self.levels, factors, strict=True)]
            scale = np.concatenate(by_term)
            return np.asarray(scale[:, None] * H * scale)
        return self.transposed_times(factors, self.transposed_times(factors, H).T).T

    def log_sds(self, b: Vector) -> Vector:
        """``Z_v b`` of the strata."""
        return np.asarray((self.value * b[self.index]).sum(axis=1))

    def sum(self, by_stratum: Vector) -> Vector:
        """``Z_v'x`` (Q,) of values of the strata."""
        values = (self.value * by_stratum[:, None]).ravel()
        return np.bincount(self.index.ravel(), values, self.size).astype(float)

    def level_blocks(self, left: Vector, right: Vector) -> list[Matrix]:
        """Sum of ``left right'`` over the levels of each term, (k, k)."""
        return [left[own].reshape(n, k).T @ right[own].reshape(n, k) for own, n, k in self._terms]

    def trace_blocks(self, products: Matrix) -> list[Matrix]:
        """Sum of the diagonal blocks of (Q, Q) over the levels of each term, (k, k)."""
        return sums_of_level_blocks(products, self.levels, self.widths)

    def effects(self, b: Vector) -> list[Matrix]:
        """Effects of the formula's columns, (k, levels) a term."""
        return [
            np.asarray(basis.effects(b[own].reshape(n, k).T))
            for (own, n, k), basis in zip(self._terms, self.bases, strict=True)
        ]

    @cached_property
    def to_effects(self) -> Matrix:
        """Matrix (Q, Q) that maps effects of the bases to those of the formula's columns."""
        blocks = [
            np.kron(np.eye(n), basis.T) for n, basis in zip(self.levels, self.bases, strict=True)
        ]
        return np.asarray(linalg.block_diag(*blocks))


def _by_level(F: Matrix, values: Matrix, k: int) -> Matrix:
    if k == 1:
        return np.asarray(F[0, 0] * values)
    shaped = values.reshape(-1, k, *values.shape[1:])
    return np.asarray(np.einsum("ab,lb...->la...", F, shaped).reshape(values.shape))


def _joined(codes: Codes, others: Codes) -> Codes:
    """Numbers of the combinations that occur."""
    keys = codes * (int(others.max(initial=0)) + 1) + others
    return np.asarray(np.unique(keys, return_inverse=True)[1].ravel(), dtype=np.intp)
