"""Monte Carlo error of estimates whose log-determinant is a mean over vectors of random signs.

With ``g_j`` the derivative of the deviance that vector j of N gives, and H its Hessian at the
optimum, the estimates have the Monte Carlo covariance ``H^-1 cov(g_j) H^-1 / N``, and the
sampling covariance ``2 H^-1``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.estimation.curvature import HessianAtOptimum, information_at_optimum
from mixedfx.estimation.optimizer_result import OptimizerResult
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.size import exact_operations
from mixedfx.linalg.cholesky.solver import CholeskySolver
from mixedfx.linalg.iterative.factor import IterativeFactor

Vector = npt.NDArray[np.float64]

# Largest Monte Carlo errors: of the deviance, and of a parameter in its standard errors.
LARGEST_DEVIANCE_ERROR, LARGEST_ERROR = 0.01, 0.005
# More vectors than the square of the ratio asks for, which is itself estimated, and its limit.
_MARGIN, _MOST_RATIO = 1.3, 100.0
# The exact deviance is computed beside the estimated one where it costs so many operations.
_CHEAP = 2e10
# Monte Carlo standard errors by which the two may differ, and rounding relative to the deviance.
_MOST_ERRORS, _ROUNDING = 5.0, 1e-9


@dataclass(frozen=True)
class MonteCarloError:
    """
    Monte Carlo error of a fit by ``engine="iterative"``.

    Parameters
    ----------
    deviance : float
        Standard error of the deviance.
    parameters : ndarray of shape (m,)
        Standard error of each covariance parameter over its own standard error; the parameters are
        those of the scaled factors, on the boundary the free ones.
    probes : int
        Vectors of random signs.
    iterations : int
        Iterations of conjugate gradients that they took.
    difference : float
        Deviance less the exact one at the same estimates; NaN where that is costly.
    """

    deviance: float
    parameters: Vector
    probes: int
    iterations: int
    difference: float = np.nan

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.parameters)

    @property
    def largest(self) -> float:
        """Largest error of a parameter, in its standard errors."""
        return float(self.parameters.max(initial=0.0))

    @property
    def finds_parameters(self) -> bool:
        """Whether the parameters' errors are below what is aimed at."""
        return self.largest < LARGEST_ERROR

    @property
    def is_small(self) -> bool:
        """Whether both errors are below what is aimed at."""
        return self.deviance < LARGEST_DEVIANCE_ERROR and self.finds_parameters

    @property
    def wanted_probes(self) -> int:
        """Vectors with which both errors should be small, at least half as many again."""
        ratio = max(self.deviance / LARGEST_DEVIANCE_ERROR, self.largest / LARGEST_ERROR)
        return round(self.probes * max(1.5, _MARGIN * min(ratio, _MOST_RATIO) ** 2))

    @property
    def remark(self) -> str | None:
        """For the user: a deviance that is less exact than its use in comparisons may need."""
        if not self.deviance >= LARGEST_DEVIANCE_ERROR:
            return None
        return (
            f"the deviance has a Monte Carlo error of {self.deviance:.2g} after {self.probes} "
            "probes: the estimates are the optimum all the same, but deviances of two models tell "
            "them apart only if they differ by several times as much."
        )

    @property
    def failures(self) -> tuple[str, ...]:
        """What does not hold, in words."""
        found = []
        if not self.finds_parameters:
            found.append(
                f"after {self.probes} probes the Monte Carlo error of a parameter is "
                f"{self.largest:.2g} standard errors"
            )
        if abs(self.difference) > _MOST_ERRORS * self.deviance + _ROUNDING:
            found.append(f"the exact deviance differs by {self.difference:.2g}")
        return tuple(found)

    def __str__(self) -> str:
        """Summarise in one line."""
        text = (
            f"Monte Carlo error {self.deviance:.2g} of the deviance, {self.largest:.2g} standard "
            f"errors of a parameter ({self.probes} probes)"
        )
        exact = f"; {self.difference:+.2g} from the exact deviance"
        return text if np.isnan(self.difference) else text + exact


def monte_carlo_error(likelihood: GaussianLikelihood, result: OptimizerResult) -> MonteCarloError:
    """Errors at the estimates of a search."""
    assert result.factors is not None
    crossprod = likelihood.crossprod
    at: HessianAtOptimum = result.derivatives
    if at is None:
        at = information_at_optimum(likelihood, result.factors)
    solution = likelihood.at_factors(result.factors)
    numeric: IterativeFactor = solution.schur.numeric
    estimate = numeric.log_det_estimate
    by_probe = crossprod.term_blocks(numeric.log_det_derivative_by_probe)
    probes = by_probe[0].shape[2]
    coordinates = at.scaled.coordinates
    gradients = np.array(
        [coordinates.pullback(at.x, [term[:, :, j] for term in by_probe]) for j in range(probes)]
    ).reshape(probes, -1)
    return MonteCarloError(
        deviance=estimate.error,
        parameters=_in_standard_errors(gradients, at.hessian),
        probes=probes,
        iterations=estimate.iterations,
        difference=_difference(likelihood, result, solution.deviance),
    )


def _in_standard_errors(gradients: Vector, hessian: Vector) -> Vector:
    """Monte Carlo errors over standard errors, (m,)."""
    if not gradients.shape[1]:
        return np.zeros(0)
    inverse = np.linalg.pinv(hessian, hermitian=True)
    moves = (gradients - gradients.mean(axis=0)) @ inverse / np.sqrt(2.0)
    errors = np.sqrt((moves**2).sum(axis=0) / (len(gradients) - 1) / len(gradients))
    # Where the deviance is flat no standard error is known.
    variances = np.diagonal(inverse)
    known = np.sqrt(np.maximum(variances, 0.0))
    found = np.full(len(errors), np.inf)
    return np.asarray(np.divide(errors, known, where=known > 0.0, out=found))


def _difference(likelihood: GaussianLikelihood, result: OptimizerResult, deviance: float) -> float:
    """The deviance less the exact one, where that is cheap."""
    crossprod = likelihood.crossprod
    if exact_operations(crossprod.ZtZ.pattern) > _CHEAP:
        return np.nan
    exact = replace(likelihood, crossprod=replace(crossprod, solver=CholeskySolver()))
    assert result.factors is not None
    return deviance - exact.at_factors(result.factors).deviance
