"""Errors of linear combinations of rows of ``[X, Z]``, and their covariances.

With H the inverse of Henderson's mixed model equations, the estimate of ``t'[beta, b]`` has the
error variance ``sigma**2 t'Ht``, and two of them the covariance ``sigma**2 s'Ht``
(:mod:`mixedfx.likelihood.prediction_variance`, whose rows have one level of each factor). Here a
row of Z may have any entries: rows times the precision of correlated residuals.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx.likelihood.coefficient_covariance import combinations_in_basis
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.prediction_variance import (
    ParameterUncertainty,
    PredictionErrors,
    PredictionRows,
    sparse_rows,
)

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Numbers in a chunk of right-hand sides.
_CHUNK = 4_000_000


@dataclass(frozen=True)
class RowCombinations:
    """Rows of X in the columns of the formula, and of Z in its basis."""

    X: Matrix = field(repr=False)  # (m, p)
    Z: Any = field(repr=False)  # sparse (m, q)

    @staticmethod
    def of_rows(crossprod: CrossProducts, rows: PredictionRows) -> RowCombinations:
        """Rows as they are."""
        if crossprod.term_positions:
            return RowCombinations(rows.X, sparse_rows(crossprod, rows))
        return RowCombinations(rows.X, sparse.csr_array((len(rows.X), 0)))

    def times(self, C: Any) -> RowCombinations:
        """``C [X, Z]`` of a sparse C."""
        return RowCombinations(np.asarray(C @ self.X), (C @ self.Z).tocsr())

    def less(self, other: RowCombinations) -> RowCombinations:
        """The difference of each row."""
        return RowCombinations(self.X - other.X, (self.Z - other.Z).tocsr())


def covariances(solution: Solution, a: RowCombinations, b: RowCombinations) -> Vector:
    """``s'Ht`` of each row s of the first and t of the second, (m,)."""
    uncertainty = ParameterUncertainty.of_coefficients(solution)
    total = _random_part(solution, a.Z, b.Z)
    d, e = (_gradient(solution, rows, uncertainty) for rows in (a, b))
    return np.asarray(total + np.einsum("mp,pq,mq->m", d, uncertainty.cov, e))


def combination_errors(
    solution: Solution, rows: RowCombinations, uncertainty: ParameterUncertainty
) -> PredictionErrors:
    """Errors of each row over sigma."""
    conditional = _random_part(solution, rows.Z, rows.Z)
    return PredictionErrors(conditional, _gradient(solution, rows, uncertainty), uncertainty.cov)


def _gradient(solution: Solution, rows: RowCombinations, uncertainty: ParameterUncertainty) -> Any:
    """Derivatives of ``[x, z]'[beta, b]`` by the uncertain parameters, (m, .)."""
    gradient = np.zeros((len(rows.X), len(uncertainty.cov)))
    if solution.crossprod.term_positions:
        gradient += rows.Z @ uncertainty.modes_jacobian
    if solution.crossprod.p:
        gradient[:, uncertainty.beta] += combinations_in_basis(rows.X, solution.crossprod.qr_R)
    return gradient


def _random_part(solution: Solution, A: Any, B: Any) -> Vector:
    """``a'Gb`` of each pair of rows, in chunks of right-hand sides."""
    total = np.zeros(A.shape[0])
    if not solution.crossprod.term_positions:
        return total
    step = max(1, _CHUNK // max(A.shape[1], 1))
    for first in range(0, len(total), step):
        chunk = slice(first, first + step)
        solved = solution.schur.numeric.solve(np.asarray(B[chunk].T.todense()))
        total[chunk] = np.asarray(A[chunk].multiply(solved.T).sum(axis=1)).ravel()
    return total
