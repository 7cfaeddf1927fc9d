"""Laplace approximation to the deviance of a location-scale model, and its gradient.

The residual standard deviation of row ``i`` is ``exp(D_i gamma + Z_vi b_v)``, ``b_v = Lambda_v u``
with ``u ~ N(0, I)`` (Hedeker, Mermelstein and Demirtas 2008, Biometrics 64:627). Given ``u`` the
model is Gaussian: its other random effects, and under REML the coefficients, are integrated out in
closed form. The integral over ``u`` is approximated at the mode of the integrand, the minimum of
``d + u'u`` (Tierney and Kadane 1986, J. Am. Stat. Assoc. 81:82, equation 2.1):

    f = -2 log L  =  d(Lambda_v u) + u'u + log |B|,    B = I + Lambda_v'H Lambda_v / 2

``d`` is the deviance given the effects and ``H`` its Hessian by them
(:mod:`mixedfx.estimation.dispersion.conditional`). With ``S = Lambda_v B^-1 Lambda_v' / 2`` the
gradient of ``log |B|`` is that of ``tr(SH)``, and the mode moves by ``-B^-1/2`` times the change of
the gradient of ``d + u'u``, so that with ``s = -B^-1 (d log|B| / du) / 2``

    df = [d + tr(SH) + s'Lambda_v' dd/db_v] by what d depends on, at constant u and s,

and by ``Lambda_v`` itself ``sum_l (H Lambda_v B^-1)_ll + (dd/db_v) s'``, blocks of level l.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf, dpotrs

from mixedfx._arrays import set_readonly
from mixedfx._cached import cached_property
from mixedfx.covariance.parametrization import rank_reduced
from mixedfx.design.build import Design
from mixedfx.errors import EngineRefusal
from mixedfx.estimation.dispersion.adjoint import HessianTrace, ScaleDerivatives
from mixedfx.estimation.dispersion.cell_effects import CellEffects
from mixedfx.estimation.dispersion.cells import compress_rows
from mixedfx.estimation.dispersion.conditional import (
    ConditionalDeviance,
    conditional_deviance,
    sum_over,
)
from mixedfx.estimation.dispersion.effects import ScaleDesign
from mixedfx.estimation.dispersion.prior_rows import NormalPriors
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance
from mixedfx.likelihood.pls import Solution
from mixedfx.linalg.trust_region import minimize
from mixedfx.residuals.log_linear import LocationScale

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Reduction of d + u'u by the last step to the mode; that step's own error is of its square.
_TOLERANCE, _MAX_EVALUATIONS = 1e-10, 100
# Newton steps without a safeguard before one is taken.
_PLAIN_STEPS = 8
# Largest order of a dense matrix that is factorised at every inner step.
_MAX_COLUMNS = 4000


@dataclass(frozen=True)
class LocationScaleIndices:
    """Positions of the outer parameters in their vector (size,)."""

    theta: slice  # factors of the effects' covariances over sigma of the homoscedastic fit
    mean_log_sd: int  # minus log sigma of the homoscedastic fit
    dispersion: slice  # coordinates x of the other columns of D
    scale: slice  # parameters of Lambda_v; signs of its columns are not identified
    beta: slice  # minus the homoscedastic fit's, standardised by its covariance; none under REML
    size: int

    @staticmethod
    def of(n_theta: int, n_dispersion: int, n_scale: int, n_beta: int) -> LocationScaleIndices:
        """Positions for given numbers of parameters."""
        ends = np.cumsum([n_theta + 1, n_dispersion, n_scale, n_beta]).tolist()
        dispersion, scale, beta = (slice(a, b) for a, b in itertools.pairwise(ends))
        return LocationScaleIndices(slice(0, n_theta), n_theta, dispersion, scale, beta, ends[-1])


@dataclass(frozen=True)
class LaplaceValue:
    """The approximation at one point of the outer parameters."""

    value: float
    u: Vector  # (Q,) mode
    by_u: Vector  # (Q,) gradient of d + u'u by u, zero but for rounding
    factors: tuple[Matrix, ...]  # of each term of the scale
    conditional: ConditionalDeviance  # at the mode
    hessian: Matrix  # (Q, Q) of d by b_v
    B: Matrix  # (Q, Q) half the Hessian of d + u'u by u

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.u, self.by_u, self.hessian, self.B)


class LaplaceDeviance:
    """Approximate deviance as a function of the outer parameters."""

    def __init__(
        self,
        design: Design,
        model: LocationScale,
        homoscedastic: Solution,
        *,
        reml: bool,
        priors: NormalPriors | None = None,
    ) -> None:
        self.design, self.model = design, model
        self.homoscedastic, self.reml = homoscedastic, reml
        self.crossprod = homoscedastic.crossprod
        self.coordinates = model.coordinates
        self.scale, self.strata, self.fixed_stratum = ScaleDesign.of(
            model.spec, model.rows, model.codes
        )
        self.n_strata = len(self.fixed_stratum)
        _check_size(self.scale.size)
        self.rows = compress_rows(design.rows, self.crossprod, self.strata, _check_size)
        self.has_priors = priors is not None
        if priors is not None and priors.is_proper:
            self.rows, self.scale = priors.rows(self.rows, self.scale, self.crossprod)
            self.fixed_stratum = np.append(self.fixed_stratum, 0)
        self.effects = CellEffects(self.rows, self.scale)
        self.scale_coordinates = self.scale.parametrization.coordinates
        self.indices = self._indices()
        self.u = np.zeros(self.scale.size)  # mode at the last evaluation, and start of the next
        self.evaluations = 0

    def _indices(self) -> LocationScaleIndices:
        return LocationScaleIndices.of(
            self.crossprod.parametrization.size,
            self.coordinates.stratum_columns.shape[1],
            self.scale_coordinates.size,
            0 if self.reml else self.crossprod.p,
        )

    def with_scale_ranks(self, params: Vector, roots: Sequence[Matrix]) -> tuple[Self, Vector]:
        """The same of covariances of the scale with the ranks of roots; the parameters there."""
        other = copy.copy(self)
        other.scale_coordinates, own = rank_reduced(self.scale.parametrization, roots)
        other.indices = other._indices()
        scale = self.indices.scale
        return other, np.concatenate([params[: scale.start], own, params[scale.stop :]])

    def log_sds(self, params: Vector) -> Vector:
        """Log standard deviations of the strata without random effects."""
        mean = math.log(self.homoscedastic.sigma) + params[self.indices.mean_log_sd]
        deviations = self.coordinates.stratum_columns @ params[self.indices.dispersion]
        log_sds = np.asarray(mean + deviations[self.fixed_stratum])
        log_sds[self.n_strata :] = 0.0  # of rows that are priors
        return log_sds

    def cov_factors(self, params: Vector) -> list[Matrix]:
        """Factors of the absolute covariances of the random effects, in their bases."""
        relative = self.crossprod.parametrization.lambdas(params[self.indices.theta])
        return [self.homoscedastic.sigma * factor for factor in relative]

    def scale_factors(self, params: Vector) -> list[Matrix]:
        """``Lambda_v`` of each term."""
        return self.scale_coordinates.lambdas(params[self.indices.scale])

    @cached_property
    def coef_root(self) -> Matrix:
        """Root (p, p) of the covariance of the homoscedastic fit's coefficients of ``X qr_R^-1``.

        Errors of single coefficients are no unit of them: with a column far from zero the
        coefficients are correlated to rounding.
        """
        fit = self.homoscedastic
        return np.asarray(fit.sigma * np.linalg.cholesky(fit.vcov_in_basis))

    def coefficients_in_basis(self, params: Vector) -> Vector:
        """``qr_R (beta - ols_coef)`` of the outer parameters, (p,)."""
        own = -self.homoscedastic.coef_vector[:-1]
        return np.asarray(own + self.coef_root @ params[self.indices.beta])

    def conditional_deviance(self, params: Vector, b: Vector) -> ConditionalDeviance:
        """Deviance given the effects of the scale."""
        self.evaluations += 1
        log_sds = self.log_sds(params) + self.scale.log_sds(b)
        return conditional_deviance(
            self.rows,
            log_sds[self.rows.stratum],
            self.cov_factors(params),
            coef=None if self.reml else self.coefficients_in_basis(params),
            log_det_qr=self.crossprod.log_det_qr,
        )

    def __call__(self, params: Vector) -> LaplaceValue:
        """Approximate deviance at the mode, which is kept as the next start."""
        search = _Mode(self, params)
        u = search.plain(self.u)
        if u is None:
            u = search.safeguarded(self.u)
        at = search.at(u)
        value = at.value + at.log_det
        if np.isfinite(value):
            self.u = u
        factors = tuple(search.factors)
        return LaplaceValue(value, u, at.gradient, factors, at.found, at.hessian, at.B)

    def gradient(self, params: Vector, at: LaplaceValue) -> Vector:
        """Gradient by the outer parameters, at the mode, (size,)."""
        scale, effects = self.scale, self.effects
        found, factors = at.conditional, at.factors
        inverse: Matrix = np.asarray(np.linalg.inv(at.B), dtype=float)
        half = scale.times_factors(factors, inverse)  # Lambda_v B^-1
        trace = HessianTrace.of(found, effects, 0.5 * scale.times_factors(factors, half.T))
        none = np.zeros(len(found.gradient))
        by_u = scale.transposed_times(factors, effects.sum_cells(trace.by_log_sds(none)))
        s = -0.5 * inverse @ by_u
        by_b = scale.times_factors(factors, s)
        more = trace.derivatives(effects.by_cell(by_b))
        by_cell = found.gradient + more.by_log_sds
        by_cell[self.rows.stratum >= self.n_strata] = 0.0
        own = effects.sum_cells(found.gradient)
        explicit = (
            scale.level_blocks(effects.sum_cells(by_cell), at.u),
            scale.trace_blocks(at.hessian @ half),
            scale.level_blocks(own, s),
        )
        by_scale = sum_over(explicit)
        return self._pullback(params, at, more, by_cell, by_scale)

    def _pullback(
        self,
        params: Vector,
        at: LaplaceValue,
        more: ScaleDerivatives,
        by_cell: Vector,
        by_scale: list[Matrix],
    ) -> Vector:
        """Outer parameters' gradient from that by covariances, log sds and ``Lambda_v``."""
        indices, sigma = self.indices, self.homoscedastic.sigma
        found, out = at.conditional, np.empty(self.indices.size)
        by_factor = []
        covariances = zip(found.by_covariances(), more.by_covariances, strict=True)
        for (a, b), F in zip(covariances, self.cov_factors(params), strict=True):
            total = a + b
            by_factor.append(sigma * (total + total.T) @ F)
        mean_coordinates = self.crossprod.parametrization.coordinates
        out[indices.theta] = mean_coordinates.pullback(params[indices.theta], by_factor)
        out[indices.mean_log_sd] = by_cell.sum()
        strata = self.fixed_stratum[self.rows.stratum]
        fixed = np.bincount(strata, by_cell, len(self.coordinates.stratum_columns))
        out[indices.dispersion] = self.coordinates.stratum_columns.T @ fixed
        out[indices.scale] = self.scale_coordinates.pullback(params[indices.scale], by_scale)
        if not self.reml:
            by_coef = found.by_coefficients() + more.by_coefficients
            out[indices.beta] = self.coef_root.T @ by_coef
        return out

    def coef_jacobian(self, conditional: ConditionalDeviance) -> Matrix:
        """Derivatives (p, Q) of the generalised least-squares ``qr_R beta`` by the effects."""
        by_row = -2.0 * conditional.KXQ * conditional.r[:, None]
        return self.effects.sum_rows(by_row).T

    def vcov_jacobian(self, conditional: ConditionalDeviance) -> CoefficientCovariance:
        """``dQ/db = 2 Q X'V^-1 (dW^-1/2db) V^-1 X Q`` (Q, p, p), with ``Q = (X'V^-1 X)^-1``."""
        KXQ, p = conditional.KXQ, self.crossprod.p
        products = (2.0 * KXQ[:, :, None] * KXQ[:, None]).reshape(len(KXQ), p * p)
        by_effect = self.effects.sum_rows(products)
        return CoefficientCovariance(by_effect.reshape(self.scale.size, p, p), self.crossprod.qr_R)


def _check_size(size: int) -> None:
    """Refuse matrices that are too large."""
    if size > _MAX_COLUMNS:
        raise EngineRefusal(
            f"a random term in dispersion= needs a matrix of at least {size} columns here, and at "
            f"most {_MAX_COLUMNS} are supported: take fewer rows or levels."
        )


class _Mode:
    """Search for the mode of ``-(d + u'u) / 2`` at given outer parameters."""

    def __init__(self, problem: LaplaceDeviance, params: Vector) -> None:
        self.problem, self.params = problem, params
        self.factors = problem.scale_factors(params)
        self._last: tuple[Vector, _AtEffects] | None = None

    def at(self, u: Vector) -> _AtEffects:
        """Evaluate; the last evaluation is kept."""
        if self._last is None or self._last[0] is not u:
            with np.errstate(over="ignore", invalid="ignore"):  # far out it is not finite
                self._last = u, self._evaluate(u)
        return self._last[1]

    def _evaluate(self, u: Vector) -> _AtEffects:
        scale, effects = self.problem.scale, self.problem.effects
        found = self.problem.conditional_deviance(self.params, scale.times_factors(self.factors, u))
        by_u = scale.transposed_times(self.factors, effects.sum_cells(found.gradient))
        H = found.hessian(effects)
        B = np.eye(len(u)) + 0.5 * scale.between_factors(self.factors, H)
        return _AtEffects(found, found.deviance + float(u @ u), by_u + 2.0 * u, H, B)

    def plain(self, u: Vector) -> Vector | None:
        """Newton's method; None where it does not descend to a minimum."""
        value = np.inf
        for _ in range(_PLAIN_STEPS):
            at = self.at(u)
            root, info = dpotrf(at.B, lower=1)
            if info != 0 or not at.value < value + 1e-9 * abs(at.value):
                return None
            step = 0.5 * dpotrs(root, at.gradient, lower=1)[0]
            value, u = at.value, u - step
            if 0.5 * float(at.gradient @ step) < _TOLERANCE:
                return u
        return None

    def safeguarded(self, u: Vector) -> Vector:
        """Newton's method in a trust region."""

        def function(u: Vector) -> tuple[float, Vector]:
            at = self.at(u)
            return at.value, at.gradient

        def hessian() -> Matrix:
            assert self._last is not None
            return 2.0 * self._last[1].B

        mode = minimize(
            function,
            u,
            initial_hessian=hessian,
            hessian=hessian,
            tolerance=_TOLERANCE,
            max_evaluations=_MAX_EVALUATIONS,
            radius=2.0 * math.sqrt(len(u)),
        )
        if not np.isfinite(mode.value):
            return mode.x
        at = self.at(mode.x)
        return np.asarray(mode.x - np.linalg.solve(2.0 * at.B, at.gradient))


@dataclass(frozen=True)
class _AtEffects:
    """The integrand at some effects."""

    found: ConditionalDeviance
    value: float  # d + u'u
    gradient: Vector  # by u
    hessian: Matrix  # of d by b_v
    B: Matrix  # half the Hessian by u

    @property
    def log_det(self) -> float:
        """``log |B|``, infinite where it is not positive."""
        sign, log_det = np.linalg.slogdet(self.B)
        return float(log_det) if sign > 0 else np.inf
