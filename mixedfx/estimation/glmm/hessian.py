"""Second derivatives of the marginal deviance at an optimum.

Laplace's approximation has them in closed form, of one grouping factor; else they are differences
of the exact gradient: a forward difference over a small share of a standard error has the curvature
to five digits, at one evaluation for each parameter.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixedfx.estimation.glmm.search import (
    MarginalObjective,
    working_hessian,
)
from mixedfx.likelihood.generalized.profiled import working_information
from mixedfx.linalg.symmetric import eigenvectors

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Step of the differences, in conditional standard errors.
_STEP = 1e-4
_LARGEST_STEP = 1e-3
# Share of the largest eigenvalue below which there is no step: the deviance is flat along another.
_SINGULAR = 1e-14
# Rounding of the deviance, relative.
_ROUNDING = 1e-11


def marginal_hessian(objective: MarginalObjective, x: Vector) -> Matrix:
    """Hessian (m, m) at ``x``."""
    exact = objective.exact_hessian(x)
    if exact is not None:
        return exact
    gradient = objective(x)[1]
    modes = objective.modes_start
    H = np.empty((len(x), len(x)))
    for i, step in enumerate(_steps(objective, x)):
        objective.modes_start = modes
        for signed in (step, -step):
            moved = x.copy()
            moved[i] += signed
            value, by = objective(moved)
            if np.isfinite(value):
                H[i] = (by - gradient) / signed
                break
        else:
            H[i] = np.nan
    objective.modes_start = modes
    return 0.5 * (H + H.T)


def _steps(objective: MarginalObjective, x: Vector) -> Vector:
    """A small share of the standard error that the working linear model gives each parameter."""
    coordinates, evaluation = objective.coordinates, objective.evaluate(x)
    m, covariance = coordinates.covariance.size, coordinates.covariance
    curvature = np.full(len(x), float(objective.likelihood.model.n))
    curvature[:m] = np.diag(working_hessian(evaluation, covariance, x[:m]))
    if coordinates.p:
        curvature[coordinates.beta] = 2.0 * np.diag(working_information(evaluation.modes))
    # Observed weights may be negative, and the working model's curvature with them.
    curvature = np.where(curvature > 0.0, curvature, float(objective.likelihood.model.n))
    return np.asarray(np.minimum(_STEP * np.sqrt(2.0 / curvature), _LARGEST_STEP))


def newton_step(objective: MarginalObjective, x: Vector, hessian: Matrix) -> tuple[Vector, Vector]:
    """A Newton step from the end of a search, where it does not raise the deviance; gradient."""
    value, gradient = objective(x)
    if not len(x) or not np.isfinite(hessian).all():
        return x, gradient
    values, vectors = eigenvectors(hessian)
    if values[0] <= _SINGULAR * values[-1]:
        return x, gradient
    moved = x - vectors @ ((vectors.T @ gradient) / values)
    end, by = objective(moved)
    rounding = _ROUNDING * (1.0 + abs(value))
    if end <= value + rounding and np.linalg.norm(by) <= np.linalg.norm(gradient):
        return moved, by
    return x, gradient
