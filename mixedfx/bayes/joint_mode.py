"""Joint mode of the posterior of a generalised model's parameters.

Random effects are integrated out, as without priors; coefficients are not, as no closed form is
at hand. With d the marginal deviance the mode minimises

    d(omega, beta, phi) - 2 log p(omega) - 2 log p(beta) - 2 log p(phi)

over standard deviations and correlations omega, coefficients beta and the family's parameters phi,
the densities being of these themselves, without the Jacobian of the coordinates in which they are
searched for: with flat priors the mode is the maximum likelihood estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx._cached import cached_property
from mixedfx.bayes.mode import (
    LOG_ZERO,
    SMALL_START,
    TOLERANCE,
    hessian_by_differences,
    interior_coordinates,
    minimize_objective,
    start_covariances,
)
from mixedfx.bayes.unconstrained import ParameterTransform, parameter_transform
from mixedfx.covariance.components import ZERO
from mixedfx.covariance.coordinates import Coordinates
from mixedfx.design.build import Design
from mixedfx.design.family_residual import FamilyResidual
from mixedfx.errors import ArgumentError, ModesNotFound, SearchError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.glmm.fit import Optimum, assemble_fit, check_nagq
from mixedfx.estimation.glmm.search import MarginalObjective, MarginalSearch
from mixedfx.estimation.glmm.starting_values import first_coefficients, starting_point
from mixedfx.estimation.optimizer_result import Control
from mixedfx.families.family import Family
from mixedfx.likelihood.basis import ColumnBasis
from mixedfx.likelihood.generalized.likelihood import (
    GeneralizedLikelihood,
    MarginalCoordinates,
    Point,
)
from mixedfx.likelihood.generalized.rows import GeneralizedRows
from mixedfx.linalg.blas_threads import single_threaded_blas
from mixedfx.linalg.triangular import solve_upper
from mixedfx.linalg.trust_region import TrustRegionResult
from mixedfx.priors.distributions import Constant, Flat, Gamma
from mixedfx.priors.specification import FamilyPriors

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Coordinates of covariances beyond this bound overflow.
_MAX_COORDINATE = 200.0


def fit_joint_mode(
    design: Design, spec: FamilyResidual, priors: FamilyPriors, *, control: Control
) -> FittedModel:
    """Maximise the joint posterior density, and assemble the fit at the maximum."""
    spec.check_priors()
    check_nagq(design, spec.nagq)
    if spec.nagq == 0:
        raise ArgumentError(
            "nagq=0 has the coefficients at their joint mode with the random effects, which knows "
            "no priors; with priors= leave nagq at 1."
        )
    with single_threaded_blas(design.spec.n_random_effects):
        posterior = JointPosterior.of(design, priors, spec.nagq)
        found = _find_mode(posterior, design, control)
        priors = replace(priors, gradient=found.gradient_free, hessian=found.hessian_free)
        return assemble_fit(design, found.optimum, nagq=spec.nagq, control=control, priors=priors)


@dataclass(frozen=True)
class SdCoordinates(Coordinates):
    """Logarithms of standard deviations and Fisher's z of partial correlations, as coordinates."""

    transform: ParameterTransform = field(kw_only=True)
    bases: tuple[ColumnBasis, ...] = field(kw_only=True)

    @cached_property
    def size(self) -> int:
        """Number of parameters that are not constant."""
        return self.transform.size

    def own_factors(self, x: Vector) -> list[Matrix]:
        """Factors of the covariances of the columns of the formula."""
        factors = [F[:, :, 0] for F in self.transform.constrain(x[None]).cov_factors]
        if self.transform.known_lambdas is None:
            for term, F in zip(self.transform.terms, factors, strict=True):
                F[[isinstance(c, int) and x[c] <= LOG_ZERO for c in term.sds]] = 0.0
        return factors

    def lambdas(self, x: Vector) -> list[Matrix]:
        """Factors in the bases."""
        return [b.own_factor(F) for b, F in zip(self.bases, self.own_factors(x), strict=True)]

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Part of the coordinates that belongs to each term: its deviations, its correlations."""
        if self.transform.known_lambdas is not None:
            return (slice(0, 0),) * len(self.bases)
        starts = [term.partials.stop for term in self.transform.terms]
        return tuple(slice(a, b) for a, b in zip([0, *starts], starts, strict=False))

    def jacobians(self, x: Vector) -> list[Matrix]:
        """Derivatives of each term's factor in its basis, (m_t, k, k)."""
        factors = self.lambdas(x)
        result = []
        for t, part in enumerate(self.slices):
            J = np.empty((part.stop - part.start, *factors[t].shape))
            for entry in np.ndindex(factors[t].shape):
                by_factor = [np.zeros_like(F) for F in factors]
                by_factor[t][entry] = 1.0
                J[(slice(None), *entry)] = self.pullback(x, by_factor)[part]
            result.append(J)
        return result

    def pullback(self, x: Vector, by_factor: Sequence[Matrix]) -> Vector:
        """Derivative by ``x`` from the derivatives by the entries of the factors in the bases."""
        terms = zip(self.bases, by_factor, strict=True)
        return self.transform.pullback(x, [basis.inverse.T @ by for basis, by in terms])


@dataclass(frozen=True)
class JointPrior:
    """-2 log prior density of all parameters, and its gradient."""

    priors: FamilyPriors
    coordinates: MarginalCoordinates
    transform: ParameterTransform
    qr_R: Matrix
    family: Family

    def __call__(self, x: Vector) -> tuple[float, Vector]:
        """Value and gradient at the coordinates."""
        m, beta_at = self.transform.size, self.coordinates.beta
        z, of_family = x[:m], x[beta_at.stop :]
        covariances = self.transform.constrain(z[None])
        value = float(self.transform.log_prior(covariances, self.priors, jacobian=False)[0])
        gradient = np.zeros(len(x))
        gradient[:m] = self.transform.log_prior_gradient(z, self.priors, jacobian=False)
        of_beta, gradient[beta_at] = self.of_coefficients(x[beta_at])
        value += of_beta
        params, slopes = self.family.natural(of_family), np.zeros(len(of_family))
        for i, (prior, phi) in enumerate(zip(self.priors.family, params, strict=True)):
            if not isinstance(prior, Constant):
                value += float(prior.log_density(phi))
                slopes[i] = prior.slope(float(phi))
        gradient[beta_at.stop :] = slopes @ self.family.natural_jacobian(of_family)
        return -2.0 * value, -2.0 * gradient

    def of_coefficients(self, in_basis: Vector) -> tuple[float, Vector]:
        """Log prior density of coefficients in the basis of X, and its gradient."""
        if not len(in_basis):
            return 0.0, in_basis
        beta = solve_upper(self.qr_R, in_basis)
        normal = np.isfinite(self.priors.coef_sd) & (self.priors.coef_sd > 0.0)
        mean, sd = self.priors.coef_mean[normal], self.priors.coef_sd[normal]
        scaled = (beta[normal] - mean) / sd
        value = -float((0.5 * scaled**2 + np.log(sd) + 0.5 * np.log(2.0 * np.pi)).sum())
        by_beta = np.zeros(len(beta))
        by_beta[normal] = -scaled / sd
        return value, solve_upper(self.qr_R, by_beta, transposed=True)


class JointPosterior(MarginalObjective):
    """-2 log posterior density as a function of one vector."""

    def __init__(
        self, likelihood: GeneralizedLikelihood, coordinates: MarginalCoordinates, prior: JointPrior
    ) -> None:
        super().__init__(likelihood, coordinates)
        self.prior = prior
        assert isinstance(coordinates.covariance, SdCoordinates)
        self.covariance: SdCoordinates = coordinates.covariance

    @staticmethod
    def of(design: Design, priors: FamilyPriors, nagq: int) -> JointPosterior:
        """Posterior of a design."""
        rows = GeneralizedRows.of(design)
        transform = parameter_transform(
            rows.parametrization,
            priors,
            sigma=1.0,
            to_gamma=np.zeros((0, 1)),
            to_log_sigma=np.ones(1),
        )
        covariance = SdCoordinates((), transform=transform, bases=rows.bases)
        coordinates = MarginalCoordinates(covariance, rows.p, len(rows.family.param_names))
        prior = JointPrior(priors, coordinates, transform, rows.qr_R, rows.family)
        return JointPosterior(GeneralizedLikelihood(rows, nagq), coordinates, prior)

    def __call__(self, x: Vector) -> tuple[float, Vector]:
        """Value and gradient; infinite where the modes are not found."""
        if np.abs(x[: self.covariance.size]).max(initial=0.0) > _MAX_COORDINATE:
            return np.inf, np.zeros_like(x)
        deviance, by = super().__call__(x)
        with np.errstate(all="ignore"):
            value, by_prior = self.prior(x)
        total = deviance + value
        return (total, by + by_prior) if np.isfinite(total) else (np.inf, np.zeros_like(x))


@dataclass(frozen=True)
class Restriction:
    """Points ``origin + directions z``, where the constants have their values."""

    origin: Vector  # (m,)
    directions: Matrix  # (m, f) orthonormal

    def at(self, z: Vector) -> Vector:
        """All coordinates."""
        return np.asarray(self.origin + self.directions @ z)

    def on(self, objective: MarginalObjective, z: Vector) -> tuple[float, Vector]:
        """Objective and its gradient at ``z``."""
        value, gradient = objective(self.at(z))
        return value, self.directions.T @ gradient

    def free(self, keep: npt.NDArray[np.bool_], x: Vector) -> Restriction:
        """The same about ``x``, coordinates that are not kept being constant too."""
        directions = self.directions[:, np.abs(self.directions[~keep]).sum(axis=0) == 0.0]
        return Restriction(x, directions)


def restriction_of(posterior: JointPosterior, start: Vector) -> Restriction:
    """
    Move a start to the constants' values, and span the directions that leave these.

    In the basis of X constant coefficients are the linear constraints ``(R^-1 b)_j = value``.
    """
    priors, coordinates = posterior.prior.priors, posterior.coordinates
    rows, m, at = posterior.likelihood.rows, coordinates.covariance.size, coordinates.beta
    origin = start.copy()
    constant = priors.coef_sd == 0.0
    A = np.linalg.inv(rows.qr_R)[constant] if rows.p else np.zeros((0, 0))
    if constant.any():
        missing = priors.coef_mean[constant] - A @ origin[at]
        origin[at] += np.linalg.lstsq(A, missing, rcond=None)[0]
    of_beta = linalg.null_space(A) if constant.any() else np.eye(rows.p)
    known = np.array([isinstance(prior, Constant) for prior in priors.family], dtype=bool)
    params = rows.family.natural(origin[at.stop :])
    for i, prior in enumerate(priors.family):
        if isinstance(prior, Constant):
            params[i] = float(prior.value)
    origin[at.stop :] = rows.family.coordinates(params)
    of_params = np.eye(coordinates.r)[:, ~known]
    return Restriction(origin, linalg.block_diag(np.eye(m), of_beta, of_params))


@dataclass(frozen=True)
class _JointMode:
    """The mode as an optimum that a fit is assembled from, and derivatives by what is free."""

    optimum: Optimum
    gradient_free: Vector
    hessian_free: Matrix


def _find_mode(posterior: JointPosterior, design: Design, control: Control) -> _JointMode:
    """The lowest of the minima from all starts, with derivatives there."""
    try:
        starts = _starts(posterior, design)
        restriction = restriction_of(posterior, starts[0])
        runs = [_run_from(posterior, restriction, start, control) for start in starts]
    except ModesNotFound as error:
        raise SearchError(f"{error}, at the starting values.") from None
    end = _at_zero(posterior, restriction, min(runs, key=lambda run: run.value))
    if not np.isfinite(end.value):
        raise SearchError("the posterior density is not finite at the starting values.")
    keep = np.ones(len(end.x), dtype=bool)
    covariance, m = posterior.covariance, posterior.covariance.size
    interior = interior_coordinates(
        covariance.transform, end.x[:m], covariance.own_factors(end.x[:m])
    )
    keep[:m] = np.isin(np.arange(m), interior)
    # In the coordinate of a parameter that has gone to a limit everything is flat.
    first = posterior.coordinates.beta.stop
    family = posterior.likelihood.rows.family
    keep[first:] = ~family.at_limit(family.natural(end.x[first:]))
    free = restriction.free(keep, end.x)
    origin = np.zeros(free.directions.shape[1])
    H = hessian_by_differences(lambda z: free.on(posterior, z), origin)
    gradient = free.on(posterior, origin)[1]
    M = free.directions
    search = MarginalSearch(posterior, (end,), np.inf)
    optimum = Optimum(
        search, posterior.evaluate(end.x), covariance, end.x, M @ gradient, M @ H @ M.T
    )
    return _JointMode(optimum, gradient, H)


def _run_from(
    posterior: JointPosterior, restriction: Restriction, start: Vector, control: Control
) -> TrustRegionResult:
    """Minimise from a start; ``x`` of the result are all coordinates."""
    posterior.modes_start = None
    z = restriction.directions.T @ (start - restriction.origin)
    end = minimize_objective(lambda at: restriction.on(posterior, at), z, control)
    return replace(end, x=restriction.at(end.x))


def _starts(posterior: JointPosterior, design: Design) -> list[Vector]:
    """The start without priors, and where a prior is high at zero, with small deviations."""
    rows, transform = posterior.likelihood.rows, posterior.covariance.transform
    start = starting_point(design, rows).point
    own = [b.factor(F) for b, F in zip(rows.bases, start.factors, strict=True)]
    rms = [np.sqrt(np.mean(term.model_matrix**2, axis=0)) for term in design.rows.random_terms]
    theta = start_covariances(transform, np.zeros(transform.size), own, rms)
    start = replace(start, beta=_coefficients_without_effects(posterior, start))
    starts = [posterior.coordinates.vector(theta, start)]
    small = []
    for t, term in enumerate(transform.terms):
        for a, column in enumerate(term.sds):
            if isinstance(column, int) and _high_at_zero(posterior.prior.priors.sd_priors[t][a]):
                small.append((column, np.log(SMALL_START / rms[t][a])))
    if small:
        columns, values = zip(*small, strict=True)
        starts.append(starts[0].copy())
        starts[-1][list(columns)] = values
    return starts


def _coefficients_without_effects(posterior: JointPosterior, start: Point) -> Vector:
    """Mode of the coefficients without random effects: priors keep them finite."""
    rows = posterior.likelihood.rows
    params = rows.family.natural(start.family_coordinates)
    if not np.isfinite(posterior.prior.priors.coef_sd).any():
        return start.beta

    def objective(beta: Vector) -> tuple[float, Vector]:
        with np.errstate(all="ignore"):
            at = rows.family.derivatives(rows.y, rows.weights, rows.fixed_predictor(beta), params)
            value, by_prior = posterior.prior.of_coefficients(beta)
            value = -2.0 * (float(at.value.sum()) + value)
            gradient = -2.0 * (rows.X.T @ at.first + by_prior)
        good = np.isfinite(value) and np.isfinite(gradient).all()
        return (value, gradient) if good else (np.inf, np.zeros_like(beta))

    with np.errstate(all="ignore"):
        first = first_coefficients(rows, rows.family.starting_mean(rows.y, rows.weights), params)
    return minimize_objective(objective, first, Control()).x


def _high_at_zero(prior: object) -> bool:
    """Whether a prior can make a mode at zero beside that of the likelihood."""
    return not isinstance(prior, Flat | Constant) and not (
        isinstance(prior, Gamma) and prior.shape > 1.0
    )


def _at_zero(
    posterior: JointPosterior, restriction: Restriction, end: TrustRegionResult
) -> TrustRegionResult:
    """Set standard deviations that vanish to zero where that is no higher."""
    covariance = posterior.covariance
    for term, basis in zip(covariance.transform.terms, covariance.bases, strict=True):
        scale = np.diag(basis.R) if len(basis.R) else np.zeros(0)
        for a, column in enumerate(term.sds):
            if not isinstance(column, int) or covariance.transform.known_lambdas is not None:
                continue
            x = end.x.copy()
            x[column] = LOG_ZERO
            value, gradient = posterior(x)
            vanishing = np.exp(end.x[column]) * scale[a] < ZERO
            if value <= end.value + TOLERANCE or (vanishing and np.isfinite(value)):
                end = replace(end, x=x, value=value, gradient=restriction.directions.T @ gradient)
    return end
