"""Unconstrained parameters of the covariances, and the log prior density in them.

A standard deviation ``s`` has the coordinate ``log s``; a term's correlation matrix has those of
its canonical partial correlations ``y``, Fisher's ``z = atanh y`` (Lewandowski, Kurowicka and
Joe 2009; the parametrisation of Stan's ``cholesky_factor_corr``). Every real vector is a set of
valid parameters. The log Jacobian of the transformation is the sum of ``log s`` and
``log(1 - y**2)``. All functions are vectorised over points, the rows of ``points``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.parametrization import Parametrization
from mixedfx.errors import PriorError
from mixedfx.priors.distributions import Constant, Flat
from mixedfx.priors.specification import PriorSpecification

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Column of ``points`` with the logarithm of a free standard deviation (int), or the value of a
# constant one (float).
ColumnOrValue = int | float

# Step of the complex-step derivative, which has no cancellation.
_COMPLEX_STEP = 1e-30


@dataclass(frozen=True)
class TermColumns:
    """Columns of ``points`` that hold the parameters of one random-effects term."""

    sds: tuple[ColumnOrValue, ...]  # one per effect
    partials: slice  # partial correlations, lower triangle row by row

    @property
    def width(self) -> int:
        """Number of effects."""
        return len(self.sds)

    def lkj_exponents(self, eta: float, *, jacobian: bool) -> Vector:
        """
        Exponents of ``1 - y**2`` in the LKJ density.

        With the Jacobian, of the coordinates ``atanh y``; without, of the correlation matrix:
        ``|R|**(eta - 1)``, where ``|R|`` is the product of ``1 - y**2``.

        References
        ----------
        .. [1] Lewandowski, Kurowicka and Joe (2009), J. Multivar. Anal. 100:1989, section 2.2.
        """
        pairs = self.partials.stop - self.partials.start
        column = np.array([j for i in range(self.width) for j in range(i)][:pairs], dtype=float)
        if not jacobian:
            return np.full(pairs, eta - 1.0)
        return np.asarray(eta + 0.5 * (self.width - 2.0 - column))


@dataclass(frozen=True)
class ConstrainedParameters:
    """Standard deviations, correlations and sigma at B points, in units of the response."""

    sds: tuple[Matrix, ...]  # (k, B) per term
    partials: tuple[Matrix, ...]  # (k (k - 1) / 2, B) partial correlations per term
    cov_factors: tuple[Matrix, ...]  # (k, k, B) lower Cholesky factors of the covariances
    sigma: Vector  # (B,) sigma of the cross-products at the residual model's parameters
    residual: Matrix  # (B, k) parameters of the residual model


@dataclass(frozen=True)
class ParameterTransform:
    """Transformation of a model's unconstrained coordinates ``points`` (B, size) to parameters."""

    terms: tuple[TermColumns, ...]
    known_lambdas: tuple[Matrix, ...] | None  # relative factors (k, k), where theta is fixed
    sigma: ColumnOrValue
    residual: slice  # columns of the residual model's parameters
    size: int  # number of columns
    to_gamma: Matrix = field(repr=False)  # (r, 1 + k), of (log sigma, residual)
    to_log_sigma: Vector = field(repr=False)  # (1 + k,), of (log sigma, residual)

    @property
    def has_correlations(self) -> bool:
        """Whether any term's correlations are free."""
        return any(term.partials.stop > term.partials.start for term in self.terms)

    def constrain(self, points: Matrix) -> ConstrainedParameters:
        """Transform coordinates to parameters."""
        B = len(points)
        sigma = _exp_or_value(points, self.sigma)
        sds, partials, cov_factors = [], [], []
        for t, term in enumerate(self.terms):
            if self.known_lambdas is not None:
                factor = self.known_lambdas[t][:, :, None] * sigma
                cov_factors.append(factor)
                sds.append(np.sqrt((factor**2).sum(axis=1)))
                partials.append(np.zeros((0, B)))
                continue
            s = np.array([_exp_or_value(points, at) for at in term.sds])
            y = np.tanh(points[:, term.partials].T)
            sds.append(s)
            partials.append(y)
            cov_factors.append(s[:, None] * correlation_cholesky(y, term.width))
        return ConstrainedParameters(
            tuple(sds), tuple(partials), tuple(cov_factors), sigma, points[:, self.residual]
        )

    def gamma(self, params: ConstrainedParameters) -> Matrix:
        """Reported coefficients of the residual model, (B, r)."""
        return np.column_stack([np.log(params.sigma), params.residual]) @ self.to_gamma.T

    def baseline_sigma(self, params: ConstrainedParameters) -> Vector:
        """Residual standard deviation that is reported as sigma."""
        logs = np.column_stack([np.log(params.sigma), params.residual]) @ self.to_log_sigma
        return np.asarray(np.exp(logs))

    def sigma_has_prior(self, priors: PriorSpecification) -> bool:
        """Whether sigma is free, and its logarithm no residual coefficient with a prior."""
        return isinstance(self.sigma, int) and not any(
            np.allclose(row, self.to_log_sigma, rtol=1e-9, atol=1e-12)
            for row, prior in zip(self.to_gamma, priors.dispersion, strict=True)
            if not isinstance(prior, Flat)
        )

    def log_prior(
        self, params: ConstrainedParameters, priors: PriorSpecification, *, jacobian: bool
    ) -> Vector:
        """Log prior density (B,) of the parameters or, with the Jacobian, of the coordinates."""
        total = np.zeros(len(params.sigma))
        for t, term in enumerate(self.terms):
            if self.known_lambdas is not None:
                continue
            for a, at in enumerate(term.sds):
                prior = priors.sd_priors[t][a]
                if isinstance(at, int) and not isinstance(prior, Constant):
                    s = params.sds[t][a]
                    total = total + prior.log_density(s) + jacobian * np.log(s)
            exponents = term.lkj_exponents(priors.lkj_eta[t], jacobian=jacobian)
            total = total + exponents @ np.log(np.maximum(1.0 - params.partials[t] ** 2, 1e-300))
        if self.sigma_has_prior(priors):
            sigma = self.baseline_sigma(params)
            assert not isinstance(priors.sigma, Constant)
            total = total + priors.sigma.log_density(sigma) + jacobian * np.log(sigma)
        for coef_prior, gamma in zip(priors.dispersion, self.gamma(params).T, strict=True):
            total = total + coef_prior.log_density(gamma)
        return np.asarray(total)

    def log_prior_gradient(
        self, z: Vector, priors: PriorSpecification, *, jacobian: bool
    ) -> Vector:
        """Gradient of :meth:`log_prior` by the coordinates of one point."""
        params, out = self.constrain(z[None]), np.zeros(self.size)
        for t, term in enumerate(self.terms):
            if self.known_lambdas is not None:
                continue
            for a, at in enumerate(term.sds):
                if isinstance(at, int):
                    s = float(params.sds[t][a, 0])
                    prior = priors.sd_priors[t][a]
                    assert not isinstance(prior, Constant)
                    out[at] += prior.slope(s) * s + jacobian
            exponents = term.lkj_exponents(priors.lkj_eta[t], jacobian=jacobian)
            # d log(1 - y^2) / dz = -2 y
            out[term.partials] -= 2.0 * exponents * params.partials[t][:, 0]
        if isinstance(self.sigma, int) and self.sigma_has_prior(priors):
            sigma = float(self.baseline_sigma(params)[0])
            assert not isinstance(priors.sigma, Constant)
            by_log_sigma = priors.sigma.slope(sigma) * sigma + jacobian
            out[self.sigma] += by_log_sigma * self.to_log_sigma[0]
            out[self.residual] += by_log_sigma * self.to_log_sigma[1:]
        if isinstance(self.sigma, int):
            slopes = [
                prior.slope(float(gamma))
                for prior, gamma in zip(priors.dispersion, self.gamma(params)[0], strict=True)
            ]
            by_coordinate = self.to_gamma.T @ np.array(slopes)
            out[self.sigma] += by_coordinate[0]
            out[self.residual] += by_coordinate[1:]
        return out

    def pullback(self, z: Vector, by_factor: list[Matrix]) -> Vector:
        """Gradient by the coordinates of one point, from that by the covariance factors."""
        out = np.zeros(self.size)
        if self.known_lambdas is not None:
            return out
        params = self.constrain(z[None])
        for t, term in enumerate(self.terms):
            factor = params.cov_factors[t][:, :, 0]
            for a, at in enumerate(term.sds):
                if isinstance(at, int):
                    out[at] = by_factor[t][a] @ factor[a]
            y, sds = params.partials[t], params.sds[t]
            for i in range(len(y)):
                stepped = y.astype(complex)
                stepped[i] += 1j * _COMPLEX_STEP * (1.0 - y[i] ** 2)
                derivative = correlation_cholesky(stepped, term.width)[:, :, 0].imag / _COMPLEX_STEP
                out[term.partials.start + i] = float((by_factor[t] * (sds * derivative)).sum())
        return out


def _exp_or_value(points: Matrix, at: ColumnOrValue) -> Vector:
    """Standard deviation (B,) of a column of logarithms, or the fixed one."""
    return np.exp(points[:, at]) if isinstance(at, int) else np.full(len(points), float(at))


def parameter_transform(
    parametrization: Parametrization,
    priors: PriorSpecification,
    *,
    sigma: float | None,
    to_gamma: Matrix,
    to_log_sigma: Vector,
) -> ParameterTransform:
    """Assign a column to every free parameter: terms in formula order, sigma, dispersion."""
    size, terms = 0, []
    for (structure, at), sd_priors in zip(parametrization.terms, priors.sd_priors, strict=True):
        sds: list[ColumnOrValue] = []
        for prior in sd_priors:
            fixed = priors.theta is not None or isinstance(prior, Constant)
            sds.append(float(prior.value) if isinstance(prior, Constant) else size)
            size += not fixed
        has_correlations = structure.correlated and priors.theta is None
        pairs = at.k * (at.k - 1) // 2 if has_correlations else 0
        terms.append(TermColumns(tuple(sds), slice(size, size + pairs)))
        size += pairs
    known_sigma = sigma
    if known_sigma is None and isinstance(priors.sigma, Constant):
        known_sigma = float(priors.sigma.value)
    sigma_column: ColumnOrValue = size if known_sigma is None else known_sigma
    size += known_sigma is None
    k = len(to_log_sigma) - 1
    lambdas = None if priors.theta is None else tuple(parametrization.lambdas(priors.theta))
    residual = slice(size, size + k)
    transform = ParameterTransform(
        tuple(terms), lambdas, sigma_column, residual, size + k, to_gamma, to_log_sigma
    )
    if not isinstance(priors.sigma, Flat | Constant) and not transform.sigma_has_prior(priors):
        raise PriorError(
            "a coefficient of the dispersion that has a prior is the logarithm of sigma, so "
            "'sigma' has no prior of its own; leave one of them out."
        )
    return transform


def correlation_cholesky(partials: npt.NDArray[np.inexact], k: int) -> npt.NDArray[np.inexact]:
    """
    Cholesky factor (k, k, B) of a correlation matrix from its partial correlations (pairs, B).

    ``L[i, j] = y_ij sqrt(prod_{m < j} (1 - y_im**2))``, ``L[i, i]`` the root of the product over
    ``m < i`` (Lewandowski, Kurowicka and Joe 2009; Stan reference manual, "Cholesky factors of
    correlation matrices").
    """
    factor = np.zeros((k, k, partials.shape[1]), dtype=partials.dtype)
    if not len(partials):
        factor[np.arange(k), np.arange(k)] = 1.0
        return factor
    at = 0
    for i in range(k):
        remaining = np.ones(partials.shape[1], dtype=partials.dtype)
        for j in range(i):
            factor[i, j] = partials[at] * np.sqrt(remaining)
            remaining = remaining * (1.0 - partials[at] ** 2)
            at += 1
        factor[i, i] = np.sqrt(remaining)
    return factor
