"""Estimates of a location-scale model at the optimum of its approximate deviance.

Standard errors come from the Hessian of the approximate deviance in all parameters; those of the
coefficients include what the conditional covariance of the scale's effects adds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx.design.build import Design
from mixedfx.design.dispersion import DispersionSpec
from mixedfx.estimation.dispersion.laplace import LaplaceDeviance, LaplaceValue
from mixedfx.estimation.location_scale import (
    LocationScaleEstimate,
    ScaleEffects,
    ScaleTerm,
    scale_components,
)
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.estimation.unidentified import unidentified
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance
from mixedfx.likelihood.identifiability import dependences
from mixedfx.likelihood.residual_directions import StratumVariances
from mixedfx.likelihood.stratified import sum_by_stratum
from mixedfx.linalg.differences import jacobian
from mixedfx.linalg.trust_region import TrustRegionResult

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Step of differences of the gradient; the parameters are of order one.
_STEP = 1e-3
# Step of differences of standard deviations and correlations by their parameters.
_SMALL_STEP = 1e-5


@dataclass(frozen=True)
class _Optimum:
    """The approximate deviance at the optimum, and its derivatives by the parameters."""

    params: Vector
    at: LaplaceValue
    gradient: Vector
    hessian: Matrix
    inverse: Matrix  # 2 H^-1, the covariance of the parameters
    vcov_jacobian: Array  # (size, p, p) of cov(beta) given the mode, in the basis
    b: Vector  # (Q,) effects of the scale in the bases
    cov_b: Matrix  # (Q, Q) conditional covariance of these given data and parameters

    def covariance(self, part: slice) -> Matrix:
        """Covariance of some of the parameters."""
        return np.asarray(self.inverse[part, part])


def _evaluate(problem: LaplaceDeviance, params: Vector) -> _Optimum:
    """Evaluate the approximate deviance and its derivatives."""
    at = problem(params)
    gradient, size, p = problem.gradient(params, at), len(params), problem.crossprod.p

    def derivatives(x: Vector) -> Vector:
        problem.u = at.u
        found = problem(x)
        vcov = found.conditional.vcov_in_basis
        return np.concatenate([problem.gradient(x, found), vcov.ravel()])

    changes = jacobian(derivatives, params, np.full(size, _STEP), order=2)
    changes = changes.reshape(size, size + p * p)
    hessian = 0.5 * (changes[:, :size] + changes[:, :size].T)
    scale = problem.scale
    inverse: Matrix = np.asarray(np.linalg.inv(at.B), dtype=float)
    half = scale.times_factors(at.factors, inverse)
    return _Optimum(
        params=params,
        at=at,
        gradient=gradient,
        hessian=hessian,
        inverse=np.asarray(2.0 * np.linalg.pinv(hessian, rcond=1e-10, hermitian=True), dtype=float),
        vcov_jacobian=changes[:, size:].reshape(size, p, p),
        b=scale.times_factors(at.factors, at.u),
        cov_b=scale.times_factors(at.factors, half.T),
    )


def estimate_at(
    problem: LaplaceDeviance, optimum: TrustRegionResult, control: Control
) -> tuple[OptimizerResult, Design, LocationScaleEstimate]:
    """Estimates at the optimum: theta and weights relative to sigma, derivatives, covariances."""
    found, indices = _evaluate(problem, optimum.x), problem.indices
    log_mean = math.log(problem.homoscedastic.sigma) + float(found.params[indices.mean_log_sd])
    coordinates, x = problem.coordinates, found.params[indices.dispersion]
    sigma = math.exp(log_mean + float(coordinates.to_log_sigma[1:] @ x))
    log_sds = problem.log_sds(found.params) + problem.scale.log_sds(found.b)
    sds = np.exp(log_sds[problem.strata])
    weights = problem.design.rows.combined_weights((sigma / sds) ** 2)
    factors = [factor / sigma for factor in problem.cov_factors(found.params)]
    estimate = _residual_estimate(problem, found, problem.model.coefficients(log_mean, x))
    optimizer_result = OptimizerResult(
        theta=problem.crossprod.theta(factors),
        engine="profiled",
        evaluations=problem.evaluations,
        converged=optimum.converged,
        limit_reached=not optimum.converged and optimum.evaluations >= control.max_evaluations,
        message=f"another step would gain {optimum.newton_decrement:.1e}",
        deviance=found.at.conditional.deviance,
        trace=optimum.trace,
        remarks=_remarks(problem.model.spec, estimate.random),
    )
    return optimizer_result, problem.design.with_weights(weights).with_sigma(sigma), estimate


def _residual_estimate(
    problem: LaplaceDeviance, found: _Optimum, gamma: Vector
) -> LocationScaleEstimate:
    """The residual model at the optimum, with derivatives by the parameters and ``u``."""
    indices, scale, conditional = problem.indices, problem.scale, found.at.conditional
    to_gamma = problem.coordinates.to_gamma
    fixed = found.covariance(slice(indices.mean_log_sd, indices.scale.start))
    vcov_by_b = problem.vcov_jacobian(conditional)
    p = problem.crossprod.p
    by_effects = vcov_by_b.in_basis.reshape(scale.size, p * p)
    vcov_by_u = scale.transposed_times(found.at.factors, by_effects).reshape(scale.size, p, p)
    random = _scale_effects(problem, found)
    params = found.params
    return LocationScaleEstimate(
        problem.model,
        params=np.concatenate([params[indices.dispersion], *(t.parameters for t in random.terms)]),
        coefficients=gamma,
        cov=np.asarray(to_gamma @ fixed @ to_gamma.T),
        random=random,
        integrated_deviance=found.at.value,
        gradient=np.append(found.gradient, found.at.by_u),
        hessian=np.asarray(linalg.block_diag(found.hessian, 2.0 * found.at.B)),
        vcov_jacobian=CoefficientCovariance(
            np.concatenate([found.vcov_jacobian, vcov_by_u]), vcov_by_b.qr_R
        ),
        beta=None if problem.reml else problem.crossprod.coefficients(conditional.coef),
        vcov_correction=_vcov_correction(problem, found),
        not_identified=() if problem.has_priors else _not_identified(problem, found),
    )


def _scale_effects(problem: LaplaceDeviance, found: _Optimum) -> ScaleEffects:
    """Covariances of the scale's effects with standard errors, and the effects."""
    scale, indices = problem.scale, problem.indices
    x, specs = found.params[indices.scale], problem.model.spec.random_terms

    def factors(x: Vector) -> list[Matrix]:
        in_bases = problem.scale_coordinates.lambdas(x)
        return [basis.factor(F) for basis, F in zip(scale.bases, in_bases, strict=True)]

    def values(x: Vector) -> Vector:
        components = [scale_components(*term) for term in zip(specs, factors(x), strict=True)]
        return np.array([c.value for of_term in components for c in of_term])

    errors = np.zeros(len(values(x)))
    if len(x):
        J = jacobian(values, x, np.full(len(x), _SMALL_STEP), order=2)
        variances = np.einsum("ic,ij,jc->c", J, found.covariance(indices.scale), J)
        errors = np.sqrt(np.maximum(variances, 0.0))
    terms, start = [], 0
    for spec, F, modes in zip(specs, factors(x), scale.effects(found.b), strict=True):
        n = len(scale_components(spec, F))
        terms.append(ScaleTerm(F, errors[start : start + n], modes))
        start += n
    change = scale.to_effects
    return ScaleEffects(tuple(terms), change @ found.cov_b @ change.T)


def _vcov_correction(problem: LaplaceDeviance, found: _Optimum) -> CoefficientCovariance:
    """
    Covariance (p, p) that the uncertainty of ``v`` adds to that of ``qr_R beta`` given ``v``.

    Under REML ``J Cov(b) J'`` with ``J = d qr_R beta / db``, by the law of total variance; under ML
    the block of beta of ``2 H^-1`` less the covariance given ``v``.
    """
    conditional, qr_R = found.at.conditional, problem.crossprod.qr_R
    if problem.reml:
        J = problem.coef_jacobian(conditional)
        return CoefficientCovariance(J @ found.cov_b @ J.T, qr_R)
    root = problem.coef_root
    cov = root @ found.covariance(problem.indices.beta) @ root.T
    return CoefficientCovariance(cov - conditional.vcov_in_basis, qr_R)


def _not_identified(problem: LaplaceDeviance, found: _Optimum) -> tuple[str, ...]:
    """
    Statements of what the rows do not identify.

    No covariance of the mean's effects equals residual variances at all values of ``v``: with
    differences between the levels only covariances of the effects can be unidentified.
    """
    strata = sum_by_stratum(problem.design, problem.strata)
    log_sds, residual = problem.log_sds(found.params), None
    constant = not any(np.any(factor) for factor in found.at.factors)
    if constant:
        columns = problem.coordinates.stratum_columns[problem.fixed_stratum]
        residual = StratumVariances.of(strata, np.exp(-2.0 * log_sds), columns)
    weights = np.exp(-2.0 * (log_sds + problem.scale.log_sds(found.b)))
    crossprod = replace(strata.reweight(weights), sigma=None if constant else 1.0)
    statements = dependences(crossprod, reml=problem.reml, residual=residual)
    return unidentified(problem.design.spec, statements)


def _remarks(spec: DispersionSpec, random: ScaleEffects) -> tuple[str, ...]:
    """What is singular of the covariances."""
    remarks = []
    for term, estimate in zip(spec.random_terms, random.terms, strict=True):
        sds = np.linalg.norm(estimate.factor, axis=1)
        if not sds.any():
            remarks.append(
                f"the levels of '{term.group}' show no differences in their residual standard "
                "deviation: that of its logarithm is estimated as zero."
            )
        elif np.linalg.matrix_rank(estimate.factor) < len(sds):
            zero = [name for name, sd in zip(term.effect_names, sds, strict=True) if sd == 0.0]
            what = f"{' and '.join(zero)} does not vary" if zero else "the effects are collinear"
            remarks.append(
                f"the covariance of {term.formula_term} in dispersion= is singular: {what}."
            )
    return tuple(remarks)
