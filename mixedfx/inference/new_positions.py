"""Effects at positions that the fit has not: predictions by the covariance of the process.

The effect at a new position of a level has, with the effects b at the fit's positions, the relative
covariance ``[[C, c], [c', C_**]]``, so that it is

    w'b + e,    w = C^-1 c,    var(e) = sigma**2 (C_** - c'w),    e independent of b

(kriging; Cressie 1993, Statistics for Spatial Data, section 3.4). A row with ``z = w`` therefore
has the mean and the variance of any other, apart from e. A structure with a parameter for each
position has no covariance at others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx.design.new_data import UnseenPositions
from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.likelihood.prediction_variance import PredictionRows

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Relative difference of variances that are one parameter: rounding of a factor.
_EQUAL = 1e-8


def place_new_positions(
    fit: FittedModel,
    matrices: Sequence[Matrix],
    codes: Sequence[Codes],
    unseen: Sequence[UnseenPositions | None],
) -> tuple[list[Matrix], list[Codes], list[Vector]]:
    """Model matrices and levels of new rows, and ``var(e) / sigma**2`` of each term, (n,)."""
    placed, levels, left = list(matrices), list(codes), []
    for t, elsewhere in enumerate(unseen):
        left.append(np.zeros(len(codes[t])))
        structure, _ = fit.crossprod.parametrization.terms[t]
        if elsewhere is None:
            continue
        left[t][elsewhere.rows] = _variance_elsewhere(fit.solution.lambdas[t])
        if not structure.goes_on:
            continue
        there = np.isfinite(elsewhere.points).all(axis=1)
        if not there.any():
            continue
        rows = elsewhere.rows[there]
        placed[t], levels[t] = matrices[t].copy(), codes[t].copy()
        placed[t][rows], left[t][rows] = _regression(fit, t, elsewhere.points[there])
        levels[t][rows] = elsewhere.levels[there]
    return placed, levels, left


def _variance_elsewhere(lam: Matrix) -> float:
    """Variance of an effect over ``sigma**2`` that all positions have; NaN where they differ."""
    variances = (lam**2).sum(axis=1)
    equal = np.ptp(variances) <= _EQUAL * variances.max()
    return float(variances[0]) if equal else np.nan


def variance_left(fit: FittedModel, rows: PredictionRows, t: int) -> Vector:
    """``var(e) / sigma**2`` of a term where its effects are not predicted, (n,)."""
    left = np.where(rows.codes[t] < 0, rows.left[t], 0.0) if rows.left else np.zeros(len(rows.X))
    if np.isnan(left).any():
        term = fit.spec.random_terms[t].formula_term
        raise ArgumentError(
            f"{term} has a standard deviation for each position, and the fit has none at row "
            f"{np.flatnonzero(np.isnan(left))[0]} of the new data: there is no variance for a "
            "prediction interval. Take interval='confidence', or a structure that goes on, such "
            "as 'ar1' or 'ou'."
        )
    return left


def _regression(fit: FittedModel, t: int, points: Matrix) -> tuple[Matrix, Vector]:
    """``w`` (m, k) and ``C_** - c'w`` (m,) at new points."""
    structure, at = fit.crossprod.parametrization.terms[t]
    lam = fit.solution.lambdas[t]
    distinct, of_rows = np.unique(points, axis=0, return_inverse=True)
    if not lam.any():
        return np.zeros((len(points), at.k)), np.zeros(len(points))
    both = at.followed_by(distinct)
    params = structure.params_elsewhere(structure.params_of_factor(lam, at), at, both)
    C = structure.covariance(params, both)
    half = linalg.solve_triangular(lam, C[: at.k, at.k :], lower=True, check_finite=False)
    w = linalg.solve_triangular(lam, half, lower=True, trans="T", check_finite=False)
    left = np.maximum(np.diag(C)[at.k :] - (half**2).sum(axis=0), 0.0)
    of_rows = of_rows.ravel()
    return np.asarray(w.T[of_rows]), np.asarray(left[of_rows])
