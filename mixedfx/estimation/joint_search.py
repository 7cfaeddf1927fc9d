"""Search over theta and the parameters of the residual variances together, sigma profiled out.

Profiling theta out costs a search over theta at each value of the residual parameters ``x``. Where
an evaluation factorises thousands of columns the deviance is minimised in all of them at once,

    min_(theta, x) d(theta, x),

from the moment estimates and equal variances. By theta the Hessian is the average information
(:func:`~mixedfx.likelihood.score.average_information`), by ``x`` the expected one; each step
updates both by its difference of the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx.covariance.coordinates import Coordinates
from mixedfx.estimation.descent import ScaledDeviance, with_curvature_of_squares
from mixedfx.estimation.joint_derivatives import ResidualDeviance
from mixedfx.estimation.optimizer_result import Control
from mixedfx.estimation.starting_values import moment_estimates
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.scaled import ScaledLikelihood
from mixedfx.likelihood.score import average_information
from mixedfx.linalg.trust_region import TrustRegionResult, minimize

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# An end with a scaled standard deviation below this is left to the search that probes boundaries.
_INTERIOR = 0.1
# A search of more evaluations than this gains nothing on one over theta within one over x.
_MAX_EVALUATIONS = 25


@dataclass(frozen=True)
class JointEnd:
    """Minimum over theta and the residual parameters."""

    theta: Vector
    solution: Solution
    evaluations: int
    residual: TrustRegionResult  # over the residual parameters, theta profiled out


def joint_end(problem: ResidualDeviance, x: Vector, control: Control) -> JointEnd | None:
    """Minimum in the interior, of crossed intercepts of many levels; None where there is none."""
    if not problem.model.contains(x):
        return None
    likelihood = problem.likelihood(x)
    coordinates = likelihood.parametrization.coordinates
    if not ScaledDeviance(likelihood, coordinates, x).use_average_information:
        return None
    theta = moment_estimates(likelihood.crossprod)
    joint = _JointDeviance(problem, coordinates, len(theta))
    found = minimize(
        joint,
        np.concatenate([theta, x]),
        initial_hessian=joint.hessian,
        hessian=joint.hessian,
        tolerance=control.tolerance,
        max_evaluations=min(_MAX_EVALUATIONS, control.max_evaluations),
    )
    scaled = coordinates.lambdas(found.x[: len(theta)])
    if not found.converged or min(abs(float(F[0, 0])) for F in scaled) < _INTERIOR:
        return None
    residual = _theta_profiled_out(found, len(theta))
    at_end = likelihood.crossprod.theta(scaled)
    return JointEnd(at_end, joint.solution_at(found.x), found.evaluations, residual)


class _JointDeviance:
    """Deviance and gradient by ``m`` coordinates of theta, then by ``x``."""

    def __init__(self, problem: ResidualDeviance, coordinates: Coordinates, m: int) -> None:
        self.problem, self.coordinates, self.m = problem, coordinates, m
        self._last: tuple[Vector, Solution, Vector] | None = None

    def __call__(self, z: Vector) -> tuple[float, Vector]:
        """Evaluate; infinite where the matrices are not positive definite."""
        theta, x = np.split(z, [self.m])
        if not self.problem.model.contains(x):
            return np.inf, np.zeros_like(z)
        scaled = ScaledLikelihood(self.problem.likelihood(x), self.coordinates)
        try:
            solution = scaled.at(theta)
        except np.linalg.LinAlgError:
            return np.inf, np.zeros_like(z)
        by_theta = scaled.score_at(theta, solution)
        gradient = np.append(by_theta, self.problem.gradient(x, solution))
        self._last = z, solution, gradient
        return solution.deviance, gradient

    def solution_at(self, z: Vector) -> Solution:
        """Solution at an end, which the last evaluation can be beside."""
        if self._last is None or not np.array_equal(self._last[0], z):
            self(z)
        assert self._last is not None
        return self._last[1]

    def hessian(self) -> Matrix:
        """Information by theta and by ``x`` at the last evaluation, as if these were orthogonal."""
        assert self._last is not None
        z, solution, gradient = self._last
        theta, x = np.split(z, [self.m])
        information = average_information(solution, self.coordinates.jacobians(theta))
        by_theta = with_curvature_of_squares(information, theta, gradient[: self.m])
        return linalg.block_diag(by_theta, self.problem.model.expected_hessian(x))


def _theta_profiled_out(found: TrustRegionResult, m: int) -> TrustRegionResult:
    """The minimum as one over the residual parameters: the Schur complement of the Hessian."""
    B, x = found.hessian, found.x[m:]
    hessian = B[m:, m:] - B[m:, :m] @ np.linalg.solve(B[:m, :m], B[:m, m:])
    return replace(found, x=x, gradient=found.gradient[m:], hessian=hessian)
