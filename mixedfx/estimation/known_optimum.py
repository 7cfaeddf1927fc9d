"""Starting value of a fit to another response of the same rows: one Newton step from an optimum.

At the optimum's theta the factorisation and the traces in the score are those of the design,

    dd/dx_i  =  tr_i - g'D_i g / sigma**2,   g = Z'W(y - X beta - Z b),

with ``D_i`` the derivative of ``F F'``: a new response needs substitutions alone, not a
factorisation. The Hessian is the average information at the new response (Gilmour, Thompson and
Cullis 1995, Biometrics 51:1440).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx.estimation.descent import ScaledDeviance, with_curvature_of_squares
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution, solve_pls_with
from mixedfx.likelihood.score import information_along, response_directions

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Scaled standard deviations below this have no quadratic expansion: zero is near.
_INTERIOR = 1e-2


@dataclass(frozen=True)
class KnownOptimum:
    """Optimum of one response, interior, of a model whose searches use the average information."""

    objective: ScaledDeviance = field(repr=False)
    x: Vector  # (m,) scaled factors
    solution: Solution = field(repr=False)
    traces: Vector  # (m,) what the score has without the response

    @staticmethod
    def of(likelihood: GaussianLikelihood, factors: Sequence[Matrix]) -> KnownOptimum | None:
        """The optimum at scaled factors; None where a start by moments is as good."""
        parametrization = likelihood.parametrization
        x = parametrization.to_params(list(factors))
        objective = ScaledDeviance(likelihood, parametrization.coordinates, x)
        if not objective.use_average_information or x.min(initial=np.inf) < _INTERIOR:
            return None
        function = objective.function
        solution = function.at(x)
        _, along = response_directions(solution, function.jacobians(x))
        traces = function.score_at(x, solution) + along / solution.sigma**2
        return KnownOptimum(objective, x, solution, traces)

    def theta_near(self, likelihood: GaussianLikelihood) -> Vector | None:
        """Theta after one step, of other responses; None where it leaves the interior."""
        solution = solve_pls_with(
            self.solution.schur.numeric,
            likelihood.crossprod,
            self.solution.factors,
            reml=likelihood.reml,
        )
        jacobians = self.objective.function.jacobians(self.x)
        directions, along = response_directions(solution, jacobians)
        score = self.traces - along / solution.sigma**2
        information = information_along(solution, directions, along)
        hessian = with_curvature_of_squares(information, self.x, score)
        x = self.x - np.linalg.solve(hessian, score)
        if x.min() < _INTERIOR:
            return None
        return likelihood.crossprod.theta(self.objective.scaled(x))
