"""Estimation of a residual model with parameters, theta and sigma profiled out.

At given parameters ``x`` the model has known weights, and the deviance
``d(x) = min_theta d(theta, x)`` is minimised in an outer problem, theta in an inner one that
starts at its last optimum. By the envelope theorem the gradient is that at constant theta,
:meth:`ResidualModel.score`.

Reference: Pinheiro and Bates (2000), Mixed-Effects Models in S and S-PLUS, section 5.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.errors import DispersionError, ResponseError, SearchError
from mixedfx.estimation.correlated import CorrelatedEstimate
from mixedfx.estimation.joint_derivatives import (
    coefficient_covariance,
    equal_factors,
    joint_derivatives,
)
from mixedfx.estimation.joint_estimate import JointEstimate
from mixedfx.estimation.joint_search import JointEnd, joint_end
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.estimation.profiled import estimate_theta
from mixedfx.estimation.residual_ends import EndsOfResiduals, settle_ends
from mixedfx.estimation.residual_limits import (
    UNBOUNDED,
    limit_statement,
    starts_near_singular,
)
from mixedfx.estimation.residual_starts import FEW_ROWS, other_residual_starts, residual_starts
from mixedfx.estimation.unidentified import unidentified
from mixedfx.likelihood.correlated import Derivatives
from mixedfx.likelihood.identifiability import dependences
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution
from mixedfx.linalg.trust_region import TrustRegionResult, minimize
from mixedfx.residuals.correlated import Correlated
from mixedfx.residuals.degenerate import vanishing
from mixedfx.residuals.model import ResidualModel

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Estimates of residual models that inference reads more from.
_ESTIMATES: dict[type[ResidualModel], type[JointEstimate]] = {Correlated: CorrelatedEstimate}

# A descent whose parameters are within this of a known minimum's is compared with it.
_NEAR = 0.4


class ProfiledResidualDeviance:
    """Deviance at the best theta and sigma, as a function of the residual model's parameters."""

    def __init__(
        self, design: Design, model: ResidualModel, *, reml: bool, control: Control
    ) -> None:
        self.design, self.model, self.reml, self.control = design, model, reml, control
        self.sums = model.reduce(design)
        self.evaluations = 0
        self.inner: OptimizerResult | None = None  # theta at the last evaluation
        self._likelihood: tuple[Vector, GaussianLikelihood] | None = None
        self._solution: Solution | None = None
        self._final: tuple[Vector, OptimizerResult] | None = None
        self._exact: tuple[Vector, Derivatives | None] | None = None

    def likelihood(self, x: Vector) -> GaussianLikelihood:
        """Likelihood of theta at the parameters; the last is kept."""
        if self._likelihood is None or not np.array_equal(self._likelihood[0], x):
            found = GaussianLikelihood(self.model.reweight(self.sums, x), self.reml)
            self._likelihood = x.copy(), found
        return self._likelihood[1]

    def exact_derivatives(self, x: Vector, solution: Solution) -> Derivatives | None:
        """Derivatives by ``x`` to the second, where they have a closed form; the last are kept."""
        if self._exact is None or not np.array_equal(self._exact[0], x):
            self._exact = x.copy(), self.model.exact_derivatives(self.sums, x, solution)
        return self._exact[1]

    def __call__(self, x: Vector) -> tuple[float, Vector]:
        """Profiled deviance and its gradient."""
        if not self.model.contains(x):
            return np.inf, np.zeros_like(x)
        # No warm start on the boundary, where zero is stationary at all weights.
        interior = self.inner is not None and np.isinf(self.inner.boundary_slope)
        start = self.inner.theta if self.inner is not None and interior else None
        try:
            inner = self.estimate_theta(x, start)
            solution = self.solution(x, inner)
        except ResponseError:
            raise
        except (np.linalg.LinAlgError, ValueError):  # singular by rounding
            return np.inf, np.zeros_like(x)
        self.inner = inner
        self.evaluations += inner.evaluations
        exact = self.exact_derivatives(x, solution)
        gradient = self.gradient(x, solution) if exact is None else exact.gradient
        return solution.deviance, gradient

    def solution(self, x: Vector, inner: OptimizerResult) -> Solution:
        """Solution at the parameters and the end of the inner problem; the last is kept."""
        likelihood, kept = self.likelihood(x), self._solution
        factors = inner.factors or likelihood.crossprod.factors_at(inner.theta)
        if (
            kept is None
            or kept.crossprod is not likelihood.crossprod
            or not equal_factors(kept.factors, factors)
        ):
            kept = likelihood.at_factors(factors)
            self._solution = kept
        return kept

    def estimate_theta(self, x: Vector, theta: Vector | None) -> OptimizerResult:
        """Theta at the parameters, from a start."""
        likelihood = self.likelihood(x)
        return estimate_theta(self.design, likelihood, control=self.control, start=theta)

    def final_theta(self, x: Vector) -> OptimizerResult:
        """Theta at an end, that the search over x and theta together has, or from the last one."""
        if self._final is not None and np.array_equal(self._final[0], x):
            return self._final[1]
        return self.estimate_theta(x, None if self.inner is None else self.inner.theta)

    def end_jointly(self, end: JointEnd) -> OptimizerResult:
        """Theta at the end of a search over x and theta together."""
        x = end.residual.x
        self._solution = end.solution
        inner = self.estimate_theta(x, end.theta)
        self._final = x, inner
        self.evaluations += end.evaluations + inner.evaluations
        return inner

    def value(self, x: Vector) -> float:
        """Profiled deviance alone."""
        return self(x)[0]

    def exact_hessian(self) -> Matrix | None:
        """Second derivatives at the last evaluation, where they have a closed form."""
        exact = None if self._exact is None else self._exact[1]
        return None if exact is None else exact.hessian

    def gradient(self, x: Vector, solution: Solution) -> Vector:
        """Gradient of the deviance by ``x`` at constant theta."""
        return self.model.score(self.sums, self.design.rows, x, solution)


def estimate_nested(
    design: Design, model: ResidualModel, *, reml: bool, control: Control
) -> tuple[OptimizerResult, Design, JointEstimate]:
    """Estimate the parameters and theta; the design returned has the estimated weights."""
    model.check(design, reml=reml)
    problem = ProfiledResidualDeviance(design, model, reml=reml, control=control)
    search = _Search(problem)
    starts = residual_starts(design, model, problem.sums, problem.likelihood(model.neutral))
    if not (len(starts) == 1 and search.descend_jointly(starts[0])):
        search.descend_from(starts if any(map(model.contains, starts)) else [model.neutral])
    if not model.nearly_singular(search.best.x):
        search.descend_from(other_residual_starts(design, model, search.best.x, problem.value))
    for start in starts_near_singular(design, model, problem.value):
        if model.nearly_singular(search.best.x):
            break
        search.descend_from([start])
    best = search.best
    settled, ends = settle_ends(model, best, problem.value)
    # Where a search is stopped by covariances without an inverse, the deviance falls on.
    found = UNBOUNDED if ends.singular and not best.converged else None
    if ends.names or design.rows.n <= FEW_ROWS:
        found = found or limit_statement(
            model, settled.value, lambda m: _lowest_deviance(problem, m)
        )
    ends = replace(ends, no_maximum=(found,) if found else ())
    return _estimate_at(problem, settled, ends)


def _lowest_deviance(problem: ProfiledResidualDeviance, model: ResidualModel) -> float:
    """Lowest deviance of another residual model of the same rows."""
    design, reml, control = problem.design, problem.reml, problem.control
    other = _Search(ProfiledResidualDeviance(design, model, reml=reml, control=control))
    likelihood = other.problem.likelihood(model.neutral)
    other.descend_from(residual_starts(design, model, other.problem.sums, likelihood))
    return other.best.value


class _Search:
    """Descents from several starts, and where they ended."""

    def __init__(self, problem: ProfiledResidualDeviance) -> None:
        self.problem = problem
        self.ends: list[tuple[TrustRegionResult, OptimizerResult]] = []
        self.refused: DispersionError | None = None

    def descend_from(self, starts: Sequence[Vector]) -> None:
        """Descend from each start but those that lead to a known end."""
        for start in starts:
            self.problem.inner = None
            try:
                optimum = _descend(self.problem, start, [known for known, _ in self.ends])
            except _KnownMinimum:
                continue
            except DispersionError as error:
                # A stratum that is fitted ever more closely: the error is that of the first start.
                self.refused = self.refused or error
                continue
            assert self.problem.inner is not None
            self.ends.append((optimum, self.problem.inner))

    def descend_jointly(self, start: Vector) -> bool:
        """Descend over theta and the parameters together; False where this is of no use."""
        problem = self.problem
        found = joint_end(problem, start, problem.control)
        if found is None:
            return False
        inner, x = problem.end_jointly(found), found.residual.x
        problem.model.check_optimum(
            problem.design, x, problem.solution(x, inner), converged=found.residual.converged
        )
        self.ends.append((found.residual, inner))
        return True

    @property
    def best(self) -> TrustRegionResult:
        """The lowest end, whose theta the next evaluation starts from."""
        if not self.ends:
            raise self.refused or DispersionError(
                f"{self.problem.model.spec.argument}: the likelihood cannot be evaluated: the "
                "covariance of the residuals is singular wherever the search may start. Take a "
                "structure with fewer parameters."
            )
        best, self.problem.inner = min(self.ends, key=lambda end: end[0].value)
        return best


def maximum_near(
    design: Design, model: ResidualModel, params: Vector
) -> tuple[ProfiledResidualDeviance, Vector, Solution]:
    """Maximum of the likelihood to which a search from given parameters leads."""
    problem = ProfiledResidualDeviance(design, model, reml=False, control=Control())
    optimum = _descend(problem, params, [])
    if not optimum.converged:
        raise SearchError(
            "a profile needs the maximum of the likelihood, and the search for it over the "
            f"residuals' parameters did not converge in {optimum.evaluations} evaluations."
        )
    return problem, optimum.x, problem.solution(optimum.x, problem.final_theta(optimum.x))


def _estimate_class(model: ResidualModel) -> type[JointEstimate]:
    """Class of the estimates of a model, or of the one that it is a kind of."""
    return next((_ESTIMATES[c] for c in type(model).__mro__ if c in _ESTIMATES), JointEstimate)


class _KnownMinimum(Exception):
    """A minimisation has come to a minimum that another one ended at, or cannot start."""


def _leads_to(end: TrustRegionResult, x: Vector, value: float) -> bool:
    """Whether a value near an end is that of the quadratic expansion there."""
    move = x - end.x
    rise = 0.5 * float(move @ end.hessian @ move)
    return bool(
        np.abs(move).max(initial=0.0) < _NEAR and abs(value - end.value - rise) < 0.3 * rise + 1e-4
    )


def _descend(
    problem: ProfiledResidualDeviance, start: Vector, known: list[TrustRegionResult]
) -> TrustRegionResult:
    """Minimise from a start; :class:`DispersionError` where there is no estimate at the end."""
    model, control = problem.model, problem.control
    if not model.contains(start):  # singular to rounding, as a smooth process of a long range
        raise _KnownMinimum

    last = start

    def function(x: Vector) -> tuple[float, Vector]:
        nonlocal last
        last = x
        value, gradient = problem(x)
        is_start = x is start
        if (is_start and not np.isfinite(value)) or any(_leads_to(end, x, value) for end in known):
            raise _KnownMinimum
        return value, gradient

    try:
        optimum = minimize(
            function,
            start,
            initial_hessian=lambda: model.expected_hessian(start),
            hessian=problem.exact_hessian,
            tolerance=control.tolerance,
            max_evaluations=control.max_evaluations,
        )
    except np.linalg.LinAlgError:
        raise vanishing(model.spec.argument, model.spec.coefficient_names, last) from None
    assert problem.inner is not None
    solution = problem.solution(optimum.x, problem.inner)
    model.check_optimum(problem.design, optimum.x, solution, converged=optimum.converged)
    return optimum


def _estimate_at(
    problem: ProfiledResidualDeviance, optimum: TrustRegionResult, ends: EndsOfResiduals
) -> tuple[OptimizerResult, Design, JointEstimate]:
    """Estimates at the optimum: theta and weights relative to sigma, derivatives, covariance."""
    model, x = problem.model, optimum.x
    likelihood = problem.likelihood(x)
    inner = problem.final_theta(x)
    solution = problem.solution(x, inner)
    joint = joint_derivatives(problem, x, solution)
    shift = -model.log_sigma_offset(x)
    design = model.weighted_design(problem.design, x)
    optimizer_result = replace(
        inner,
        theta=likelihood.parametrization.scaled(inner.theta, math.exp(shift)),
        # The weights, and with them the bases, are others.
        factors=inner.factors if design is problem.design else None,
        evaluations=problem.evaluations,
        converged=optimum.converged and inner.converged,
        message=f"{inner.message}; "
        f"another step of the dispersion would gain {optimum.newton_decrement:.1e}",
        limit_reached=inner.limit_reached
        or (not optimum.converged and optimum.evaluations >= problem.control.max_evaluations),
        trace=optimum.trace,
        boundary_slope=min(inner.boundary_slope, ends.rise),
    )
    estimate = _estimate_class(model)(
        model,
        crossprod=likelihood.crossprod
        if design is problem.design
        else model.crossproducts_at(problem.sums, x),
        params=x,
        coefficients=model.coefficients(math.log(solution.sigma), x),
        cov=coefficient_covariance(problem, joint, likelihood.nu),
        gradient=joint.gradient,
        hessian=joint.hessian,
        log_sigma_by=joint.log_sigma_gradient,
        vcov_jacobian=joint.vcov_jacobian,
        not_identified=_not_identified(problem, x, likelihood),
        ends=ends,
    )
    return optimizer_result, design, estimate


def _not_identified(
    problem: ProfiledResidualDeviance, x: Vector, likelihood: GaussianLikelihood
) -> tuple[str, ...]:
    """Statements of what the rows do not identify of theta, sigma and x."""
    residual = problem.model.variance_directions(problem.sums, x)
    found = dependences(likelihood.crossprod, reml=likelihood.reml, residual=residual)
    return unidentified(problem.design.spec, found)
