"""Laplace approximation to the deviance of a location-scale model.

The residual standard deviation of row ``i`` in level ``g`` is ``exp(D_i gamma + v_g)`` with
``v_g ~ N(0, tau^2)`` (Hedeker, Mermelstein and Demirtas 2008, Biometrics 64:627). Given ``v`` the
model is Gaussian: random effects, and under REML the coefficients, are integrated out in closed
form. The integral over ``v = tau u`` is approximated at the mode of the integrand, the minimum of
``d(tau u) + u'u`` (Tierney and Kadane 1986, J. Am. Stat. Assoc. 81:82, equation 2.1):

    -2 log L  =  d(tau u) + u'u + log |I + tau^2 H / 2|

``d`` is the deviance given ``v`` and ``H`` its Hessian. With ``R_g`` the diagonal matrix of the
residual variances in level ``g``, zero elsewhere, ``e`` the conditional residuals, and
``P = W - W T C T'W``, ``T = [Z X]`` (under ML ``T = Z``),

    dd/dv_g       = 2 tr(P R_g) - 2 e_g'W e_g
    d2d/dv_g dv_h = -4 tr(P R_g P R_h) + 8 e_g'P e_h + [g = h] (4 tr(P R_g) - 4 e_g'W e_g)

The traces follow from :mod:`mixedfx.estimation.dispersion.hessian`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx._arrays import set_readonly
from mixedfx.design.build import Design
from mixedfx.errors import EngineRefusal
from mixedfx.estimation.dispersion.hessian import (
    LevelFactors,
    LevelTraces,
    RightHandSides,
    level_factors,
    level_traces,
    levels_of_effects,
)
from mixedfx.estimation.optimizer_result import Control
from mixedfx.likelihood.accumulate import centred_columns, sparse_Z
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance
from mixedfx.likelihood.constrained import fix_coefficients_in_basis
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution, solve_pls_at_factors
from mixedfx.likelihood.prediction_variance import conditional_residuals
from mixedfx.likelihood.stratified import sum_by_stratum
from mixedfx.linalg.trust_region import minimize
from mixedfx.residuals.log_linear import LocationScale

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Tolerance of the inner mode. One more Newton step squares its error: the determinant is not
# stationary at the mode, and the differences of the outer problem amplify rounding.
_INNER = Control(tolerance=1e-10, max_evaluations=100)
# Largest order of a dense matrix that is factorised at every inner step.
_MAX_COLUMNS = 4000


@dataclass(frozen=True)
class ConditionalDeviance:
    """Deviance given ``v``, and its derivatives by ``v``."""

    crossprod: CrossProducts  # at the weights of v
    solution: Solution
    gradient: Vector  # (levels,)
    hessian: Matrix  # (levels, levels)
    traces: LevelTraces

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.gradient, self.hessian)


@dataclass(frozen=True)
class LocationScaleIndices:
    """Positions of the outer parameters in their vector (size,)."""

    theta: slice  # factors of the effects' covariances over sigma of the homoscedastic fit
    mean_log_sd: int  # minus log sigma of the homoscedastic fit
    dispersion: slice  # coordinates x of the other columns of D
    tau: int  # standard deviation of v; its sign is not identified
    beta: slice  # minus the homoscedastic fit's, standardised by its covariance; none under REML
    size: int

    @staticmethod
    def of(n_theta: int, n_dispersion: int, n_beta: int) -> LocationScaleIndices:
        """Positions for given numbers of parameters."""
        tau = n_theta + 1 + n_dispersion
        size = tau + 1 + n_beta
        dispersion = slice(n_theta + 1, tau)
        return LocationScaleIndices(
            slice(0, n_theta), n_theta, dispersion, tau, slice(tau + 1, size), size
        )


class LaplaceDeviance:
    """Approximate deviance as a function of the outer parameters."""

    def __init__(
        self,
        design: Design,
        model: LocationScale,
        homoscedastic: Solution,
        *,
        reml: bool,
    ) -> None:
        random_term, fixed_strata = model.random_term, model.codes
        self.design, self.model, self.random_term = design, model, random_term
        self.homoscedastic, self.reml = homoscedastic, reml
        self.coordinates = model.coordinates
        L, n = random_term.n_levels, len(random_term.codes)
        # Strata are combinations of a row of D and a level.
        keys, codes = np.unique(fixed_strata * L + random_term.codes, return_inverse=True)
        self.codes: Codes = np.asarray(codes.ravel(), dtype=np.intp)
        self.fixed_stratum, self.stratum_level = np.divmod(keys, L)
        self.strata = sum_by_stratum(design, self.codes)
        self.crossprod = self.strata.plain
        self.indices = LocationScaleIndices.of(
            self.crossprod.parametrization.size,
            self.coordinates.stratum_columns.shape[1],
            0 if reml else self.crossprod.p,
        )
        self.counts = np.bincount(random_term.codes, minlength=L).astype(float)
        self.level_indicators = sparse.csr_array(
            (np.ones(n), (np.arange(n), random_term.codes)), shape=(n, L)
        )
        self.effect_levels = levels_of_effects(design.rows, self.crossprod, random_term)
        self.u = np.zeros(L)  # mode at the last evaluation, and start of the next
        self.evaluations = 0
        self._factors: tuple[bytes, LevelFactors] | None = None

    @cached_property
    def T(self) -> sparse.csr_array:
        """``[Z X]`` (n, q + p), columns of Z in the order of elimination, X in its basis."""
        Z = sparse_Z(self.design.rows, self.crossprod)
        none = np.zeros((len(self.codes), 0))
        X = np.column_stack([none, *centred_columns(self.design.rows)[0][:-1]])
        return sparse.csr_array(sparse.hstack([Z, sparse.csr_array(X)]))

    def log_sds(self, params: Vector) -> Vector:
        """Log standard deviations of the strata at ``v = 0``."""
        mean = math.log(self.homoscedastic.sigma) + params[self.indices.mean_log_sd]
        deviations = self.coordinates.stratum_columns @ params[self.indices.dispersion]
        return np.asarray(mean + deviations[self.fixed_stratum])

    def cov_factors(self, params: Vector) -> list[Matrix]:
        """Factors of the absolute covariances of the random effects, in their bases."""
        relative = self.crossprod.parametrization.lambdas(params[self.indices.theta])
        return [self.homoscedastic.sigma * factor for factor in relative]

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

    def level_factors(self, log_sds: Vector) -> LevelFactors:
        """Factors of ``T_g'W T_g`` at ``v = 0`` and a first log sd of zero; the last are kept."""
        relative = log_sds - log_sds[0]
        key = relative.tobytes()
        if self._factors is None or self._factors[0] != key:
            self._factors = key, self._compute_level_factors(relative)
        return self._factors[1]

    def _compute_level_factors(self, log_sds: Vector) -> LevelFactors:
        root_w = np.exp(-log_sds[self.codes])
        if self.design.rows.weights is not None:
            root_w = root_w * np.sqrt(self.design.rows.weights)
        T = sparse.csr_array(self.T.multiply(root_w[:, None]))
        L = len(self.counts)
        factors = level_factors(T, self.random_term.codes, L).in_smaller_form(L)
        size = len(self.counts) + (len(factors.level) if self.effect_levels is None else 0)
        if size > _MAX_COLUMNS:
            raise EngineRefusal(
                f"a random term in dispersion= needs a matrix of {size} columns here, and at most "
                f"{_MAX_COLUMNS} are supported: take fewer rows or levels."
            )
        return factors

    def _sum_by_level(self, values: Vector, *, dense: bool) -> sparse.csc_array | Matrix:
        """Sum of ``T_i`` times a value over the rows of each level, (q + p, levels)."""
        if dense:
            order, starts, T = self._rows_by_level
            return np.ascontiguousarray(np.add.reduceat(T * values[order, None], starts).T)
        return sparse.csc_array(self.T.T @ (sparse.diags_array(values) @ self.level_indicators))

    @cached_property
    def _rows_by_level(self) -> tuple[Codes, Codes, Matrix]:
        """Order of the rows by their levels, the first row of each level, and ``T`` so ordered."""
        order = np.argsort(self.random_term.codes, kind="stable")
        starts = np.concatenate([[0], np.cumsum(self.counts[:-1]).astype(np.intp)])
        return order, starts, self.T[order].toarray()

    def weights(self, params: Vector, v: Vector) -> Vector:
        """Inverse residual variances (n,)."""
        log_sds = self.log_sds(params)[self.codes] + v[self.random_term.codes]
        return self.design.rows.combined_weights(np.exp(-2.0 * log_sds))

    def conditional_deviance(self, params: Vector, v: Vector) -> ConditionalDeviance:
        """Deviance given ``v``, with its gradient and Hessian by ``v``."""
        log_sds, w = self.log_sds(params), self.weights(params, v)
        crossprod = self.strata.reweight(np.exp(-2.0 * (log_sds + v[self.stratum_level])))
        crossprod = replace(crossprod, sigma=1.0)
        solution = solve_pls_at_factors(crossprod, self.cov_factors(params), reml=self.reml)
        if not self.reml:
            solution = fix_coefficients_in_basis(solution, self.coefficients_in_basis(params))
        residuals = conditional_residuals(self.design.rows, solution)
        eWe: Vector = np.bincount(self.random_term.codes, w * residuals**2, len(v)).astype(float)
        factors = self.level_factors(log_sds).multiply_levels(np.exp(-log_sds[0] - v))
        TtWe = self._sum_by_level(w * residuals, dense=factors.is_dense)
        sides = RightHandSides(crossprod, solution, factors, TtWe, self.reml)
        traces = level_traces(sides, self.effect_levels)
        tr_PR = self.counts - traces.leverages
        hessian = -4.0 * traces.trace_products - 8.0 * traces.residual_forms
        diagonal = 4.0 * (eWe + tr_PR) - 4.0 * (self.counts - 2.0 * traces.leverages)
        hessian[np.diag_indices_from(hessian)] += diagonal
        symmetric = 0.5 * (hessian + hessian.T)
        return ConditionalDeviance(crossprod, solution, 2.0 * (tr_PR - eWe), symmetric, traces)

    def __call__(self, params: Vector) -> tuple[float, ConditionalDeviance]:
        """Approximate deviance, and the conditional one at the mode, which is kept in ``u``."""
        tau, two = params[self.indices.tau], 2.0 * np.eye(len(self.u))
        last: list[tuple[Vector, ConditionalDeviance]] = []

        def penalized(u: Vector) -> tuple[float, Vector]:
            if not last or last[0][0] is not u:
                self.evaluations += 1
                last[:] = [(u, self.conditional_deviance(params, tau * u))]
            conditional = last[0][1]
            value = conditional.solution.deviance + float(u @ u)
            return value, tau * conditional.gradient + 2.0 * u

        def hessian() -> Matrix:
            return np.asarray(tau**2 * last[0][1].hessian + two)

        mode = minimize(
            penalized,
            self.u,
            initial_hessian=hessian,
            hessian=hessian,
            tolerance=_INNER.tolerance,
            max_evaluations=_INNER.max_evaluations,
            radius=2.0 * math.sqrt(len(self.u)),
        )
        if not np.isfinite(mode.value):
            return np.inf, last[0][1]
        penalized(mode.x)
        self.u = mode.x - np.linalg.solve(hessian(), mode.gradient)
        value, _ = penalized(self.u)
        sign, log_det = np.linalg.slogdet(0.5 * hessian())
        return (value + float(log_det) if sign > 0 else np.inf), last[0][1]

    def coef_jacobian(self, conditional: ConditionalDeviance) -> Matrix:
        """Derivatives (p, levels) of the generalised least-squares ``qr_R beta`` by ``v``."""
        projected = conditional.traces.projected_residuals
        return np.asarray(-2.0 * conditional.solution.vcov_in_basis @ projected)

    def vcov_jacobian(
        self, params: Vector, v: Vector, conditional: ConditionalDeviance
    ) -> CoefficientCovariance:
        """``dQ/dv_g = 2 Q X'V^-1 R_g V^-1 X Q`` (levels, p, p), with ``Q = (X'V^-1 X)^-1``."""
        crossprod, solution = conditional.crossprod, conditional.solution
        p = crossprod.p
        w, CZtX = self.weights(params, v), solution.schur.numeric.solve(crossprod.ZtX)
        # W^-1 V^-1 X Q, row by row
        VXQ = (self.T @ np.concatenate([-CZtX, np.eye(p)])) @ solution.vcov_in_basis
        out = np.zeros((len(v), p, p))
        products = 2.0 * w[:, None, None] * VXQ[:, :, None] * VXQ[:, None]
        np.add.at(out, self.random_term.codes, products)
        return CoefficientCovariance(out, crossprod.qr_R)
