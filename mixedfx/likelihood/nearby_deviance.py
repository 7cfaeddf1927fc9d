"""Deviance of one response near a theta, by logarithms of the scaled factors, not factorised.

Its parts are :mod:`mixedfx.likelihood.response_free` and, of the response,
:mod:`mixedfx.likelihood.reduced_pwrss`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.reduced_pwrss import ReducedPwrss
from mixedfx.likelihood.response_free import ResponseFreePart, response_part

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Newton steps, their greatest length in a coordinate, and the gain that ends them.
_MAX_STEPS, _LONGEST, _NO_GAIN = 30, 0.5, 1e-15


@dataclass(frozen=True)
class NearbyDeviance:
    """Approximate deviance of scalar terms, in ``t = log x`` of the scaled factors x."""

    rest: ResponseFreePart
    pwrss: ReducedPwrss
    solution: Solution  # of the response

    def derivatives(self, t: Vector) -> tuple[float, Vector, Matrix]:
        """Value, gradient (m,) and Hessian (m, m)."""
        variances = np.exp(2.0 * t)
        pwrss, by_variances, curvature = self.pwrss.derivatives(variances)
        if not pwrss > 0.0:
            return np.inf, np.full_like(t, np.nan), np.full((len(t), len(t)), np.nan)
        by_t = 2.0 * variances * by_variances
        hessian = 4.0 * np.outer(variances, variances) * curvature + np.diag(2.0 * by_t)
        value, first, second = response_part(self.solution, pwrss)
        rest, rest_by_t, rest_hessian = self.rest.derivatives(t)
        return (
            rest + value,
            rest_by_t + first * by_t,
            rest_hessian + first * hessian + second * np.outer(by_t, by_t),
        )

    def minimum(self, t: Vector) -> Vector | None:
        """Where Newton steps from ``t`` end; None where they do not, or not at a minimum."""
        for _ in range(_MAX_STEPS):
            _, gradient, hessian = self.derivatives(t)
            gain, step = newton_step(gradient, hessian)
            if gain < _NO_GAIN:
                return t
            if not np.isfinite(gain):
                return None
            t = t + step * min(1.0, _LONGEST / np.abs(step).max())
        return None


def newton_step(gradient: Vector, hessian: Matrix) -> tuple[float, Vector]:
    """Newton decrement ``g'H^-1 g / 2`` and step; infinite where H is not positive definite."""
    try:
        root = np.linalg.cholesky(hessian)
    except np.linalg.LinAlgError:
        return np.inf, gradient
    half = np.linalg.solve(root, gradient)
    gain = float(0.5 * half @ half)
    return (gain if np.isfinite(gain) else np.inf), -np.linalg.solve(root.T, half)
