"""Optima of other responses of the same rows, from one that is known.

A response changes the penalised residual sum of squares alone. Near the known optimum that is a
reduced model, of as many solutions as it has vectors (:mod:`mixedfx.likelihood.reduced_pwrss`), and
the rest of the deviance, which all responses share, a polynomial
(:mod:`mixedfx.likelihood.response_free`). At the minimum of their sum the deviance and its gradient
are computed, which correct it, and so on until a step would gain nothing: of most responses there
are one or two factorisations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.coordinates import EntryCoordinates
from mixedfx.design.build import Design
from mixedfx.estimation.curvature import HessianAtOptimum
from mixedfx.estimation.descent import ScaledDeviance
from mixedfx.estimation.fitted_model import FittedModel, build_fitted_model
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.nearby_deviance import NearbyDeviance, newton_step
from mixedfx.likelihood.pls import Solution, solve_pls_with
from mixedfx.likelihood.reduced_pwrss import ProjectedProducts, ReducedPwrss
from mixedfx.likelihood.response_free import ResponseFreePart, response_part
from mixedfx.likelihood.scaled import ScaledLikelihood, check_positive_pwrss
from mixedfx.likelihood.score import response_directions
from mixedfx.linalg.blas_threads import single_threaded_blas

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Scaled standard deviations below this have no expansion in their logarithms: zero is near.
_INTERIOR = 1e-2
# Distance of the polynomial's points in standard errors, its largest value, and the multiple of it
# up to which the polynomial is used.
_POINTS, _FARTHEST, _RANGE = 1.2, 0.3, 5.0
# Points at which the deviance is computed before the search is left to another.
_MAX_POINTS = 6
# Error of a derivative of the polynomial, in errors of its value over the distance.
_OF_DERIVATIVE = 5.0
# Share of the tolerance that may be gained by what the derivative is in error.
_SHARE_UNSEEN = 0.9
# Rounding error of a value, relative to the deviance.
_ROUNDING = 1e-15


@dataclass(frozen=True)
class KnownOptimum:
    """Optimum of one response, interior, of a model whose searches use the average information."""

    function: ScaledLikelihood = field(repr=False)
    t: Vector  # (m,) logarithms of the scaled factors
    reach: Vector  # (m,) distance up to which the polynomial is used
    products: ProjectedProducts = field(repr=False)
    rest: ResponseFreePart = field(repr=False)

    @staticmethod
    def of(likelihood: GaussianLikelihood, factors: Sequence[Matrix]) -> KnownOptimum | None:
        """The optimum at scaled factors; None where a start by moments is as good."""
        parametrization = likelihood.parametrization
        x = parametrization.to_params(list(factors))
        objective = ScaledDeviance(likelihood, parametrization.coordinates, x)
        entries = all(isinstance(t, EntryCoordinates) for t in parametrization.coordinates.terms)
        interior = entries and x.min(initial=np.inf) > _INTERIOR
        if not (interior and objective.use_average_information):
            return None
        function, t = objective.function, np.log(x)
        _, information = function.score_and_information(x)
        values, vectors = np.linalg.eigh(information * np.outer(x, x))
        variances = (2.0 * vectors**2 / np.maximum(values, 1e-8)).sum(axis=1)
        steps = np.minimum(_POINTS * np.sqrt(variances), _FARTHEST)
        rest = ResponseFreePart.of(partial(_rest, function), t, steps)
        products = ProjectedProducts.at(function.at(x))
        return KnownOptimum(function, t, _RANGE * steps, products, rest)

    def estimate(
        self, likelihood: GaussianLikelihood, *, tolerance: float
    ) -> OptimizerResult | None:
        """Estimate theta of another response; None where this optimum does not lead to its own."""
        function = replace(self.function, likelihood=likelihood)
        model, exact_at, trace = self.deviance_of(likelihood), self.t, list[float]()
        t = self.t
        while len(trace) < _MAX_POINTS:
            found = model.minimum(t)
            if found is None or not self._is_in_reach(found):
                return None
            point, t = _Point.at(function, found), found
            trace.append(point.solution.deviance)
            unseen = point.unseen_gain(model, t - exact_at)
            if unseen > _SHARE_UNSEEN * tolerance:
                model, exact_at, unseen = point.with_rest(model), t, 0.0
            if (gain := unseen + point.gain(model)) < tolerance:
                return point.result(model, gain, tolerance, trace)
            model = point.with_response(model)
        return None

    def fit(self, design: Design, likelihood: GaussianLikelihood) -> FittedModel | None:
        """Fitted model of another response; None as above."""
        control = Control()
        with single_threaded_blas(likelihood.crossprod.symbolic.dense_size):
            found = self.estimate(likelihood, tolerance=control.tolerance)
            return None if found is None else build_fitted_model(design, likelihood, found)

    def deviance_of(self, likelihood: GaussianLikelihood) -> NearbyDeviance:
        """Deviance of another response near this optimum."""
        known = self.products.solution
        solution = solve_pls_with(
            known.schur.numeric, likelihood.crossprod, known.factors, reml=likelihood.reml
        )
        variances = np.exp(2.0 * self.t)
        pwrss = ReducedPwrss.of(self.products, solution, variances, further=True)
        return NearbyDeviance(self.rest, pwrss, solution)

    def _is_in_reach(self, t: Vector) -> bool:
        """Whether the polynomial holds there, and zero is not near."""
        return bool((np.abs(t - self.t) < self.reach).all() and t.min() > np.log(_INTERIOR))


@dataclass(frozen=True)
class _Point:
    """A point at which the deviance is computed."""

    function: ScaledLikelihood
    t: Vector
    solution: Solution
    by_response: Vector  # (m,) derivative of what the deviance has of the response

    @staticmethod
    def at(function: ScaledLikelihood, t: Vector) -> _Point:
        x = np.exp(t)
        solution = function.at(x)
        check_positive_pwrss(solution.crossprod, solution.pwrss)
        _, by_pwrss, _ = response_part(solution, solution.pwrss)
        _, along = response_directions(solution, function.jacobians(x))
        return _Point(function, t, solution, -by_pwrss * along * x)

    @property
    def rest(self) -> float:
        """What the deviance has without the response."""
        return self.solution.deviance - response_part(self.solution, self.solution.pwrss)[0]

    @property
    def rest_by_t(self) -> Vector:
        """Derivative of the rest, (m,)."""
        x = np.exp(self.t)
        return self.function.score_at(x, self.solution) * x - self.by_response

    def gain(self, model: NearbyDeviance) -> float:
        """What a further step gains, by the model's rest and the response's own derivative."""
        return newton_step(self._gradient(model), model.derivatives(self.t)[2])[0]

    def unseen_gain(self, model: NearbyDeviance, step: Vector) -> float:
        """
        Bound of what it gains by the error of the derivative of the model's rest.

        The rest is exact a step from here; by its error that of its derivative, a polynomial's of
        degree 6, is judged.
        """
        _, _, hessian = model.derivatives(self.t)
        error = abs(self.rest - model.rest.derivatives(self.t)[0])
        error = max(error - _ROUNDING * abs(self.solution.deviance), 0.0)
        distance = float(np.sqrt(0.5 * step @ hessian @ step))
        return (_OF_DERIVATIVE * error / distance) ** 2 if distance > 0.0 else np.inf

    def with_rest(self, model: NearbyDeviance) -> NearbyDeviance:
        """The model whose rest is exact here, with its derivative."""
        return replace(model, rest=model.rest.through(self.t, self.rest, self.rest_by_t))

    def with_response(self, model: NearbyDeviance) -> NearbyDeviance:
        """The model whose sum of squares is exact here, with two derivatives."""
        products, variances = ProjectedProducts.at(self.solution), np.exp(2.0 * self.t)
        pwrss = ReducedPwrss.of(products, self.solution, variances, further=False)
        return replace(model, pwrss=pwrss, solution=self.solution)

    def _gradient(self, model: NearbyDeviance) -> Vector:
        return np.asarray(model.rest.derivatives(self.t)[1] + self.by_response)

    def result(
        self, model: NearbyDeviance, gain: float, tolerance: float, trace: Sequence[float]
    ) -> OptimizerResult:
        """The end of a search, with its derivatives by the scaled factors."""
        x, solution = np.exp(self.t), self.solution
        by_t, (_, _, hessian) = self._gradient(model), model.derivatives(self.t)
        hessian = (hessian - np.diag(by_t)) / np.outer(x, x)
        return OptimizerResult(
            theta=solution.crossprod.theta(solution.factors),
            engine="profiled",
            evaluations=len(trace),
            converged=True,
            message=f"after {len(trace)} evaluations a step would gain {gain:.1e}",
            deviance=solution.deviance,
            trace=tuple(trace),
            tolerance=tolerance,
            factors=solution.factors,
            derivatives=HessianAtOptimum(self.function, x, by_t / x, hessian),
            solution=solution,
        )


def _rest(function: ScaledLikelihood, t: Vector) -> tuple[float, Vector]:
    """What the deviance has without the response, and its derivative by the logarithms."""
    point = _Point.at(function, t)
    return point.rest, point.rest_by_t
