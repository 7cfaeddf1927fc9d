"""Free coordinates of standard deviations and correlations, and the priors in them.

Logarithms of the standard deviations, and Fisher's z of canonical partial correlations: each
is any real number, whatever the others are. All functions take many points at once, one in
each row of ``Z``.
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

# Step into the complex plane, by which a derivative is exact to rounding.
_IMAGINARY = 1e-30


@dataclass(frozen=True)
class Term:
    """
    Where one random term's parameters stand.

    Parameters
    ----------
    sds : tuple of (int or float)
        For each effect the column of ``Z`` with its log standard deviation, as an int, or the
        standard deviation itself, where it is known, as a float.
    partials : slice
        Columns of its partial correlations, row by row of the lower triangle.
    """

    sds: tuple[int | float, ...]
    partials: slice

    @property
    def width(self) -> int:
        """Number of effects."""
        return len(self.sds)

    def lkj_powers(self, eta: float, *, jacobian: bool) -> Vector:
        """
        Powers of ``1 - y**2`` that make up the LKJ density.

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
class Points:
    """
    The parameters at many points.

    Parameters
    ----------
    sds : tuple of ndarray of shape (k, points)
        Standard deviations of each term's effects, in units of the response.
    partials : tuple of ndarray of shape (k (k - 1) / 2, points)
        Partial correlations of each term.
    roots : tuple of ndarray of shape (k, k, points)
        Lower triangular roots of each term's covariance.
    sigma : ndarray of shape (points,)
        Residual standard deviation; with a dispersion formula the geometric mean over rows.
    scale : ndarray of shape (points, r)
        Coordinates of the dispersion.
    """

    sds: tuple[Matrix, ...]
    partials: tuple[Matrix, ...]
    roots: tuple[Matrix, ...]
    sigma: Vector
    scale: Matrix


@dataclass(frozen=True)
class UnconstrainedParameters:
    """
    The coordinates of one model; made by :func:`unconstrained_parameters`.

    Parameters
    ----------
    terms : tuple of Term
        The random terms.
    theta : tuple of ndarray of shape (k, k) or None
        The relative Lambdas, where they are known.
    sigma : int or float
        The column with log sigma, as an int, or sigma itself, as a float.
    scale : slice
        Columns of the dispersion's coordinates.
    size : int
        Number of columns.
    to_gamma : ndarray of shape (r + 1, r + 1) or None
        Turns log sigma and the dispersion's coordinates into its coefficients.
    to_log_sigma : ndarray of shape (r + 1,) or None
        The same for the log standard deviation where its columns are zero.
    """

    terms: tuple[Term, ...]
    theta: tuple[Matrix, ...] | None
    sigma: int | float
    scale: slice
    size: int
    to_gamma: Matrix | None = field(default=None, repr=False)
    to_log_sigma: Vector | None = field(default=None, repr=False)

    def points(self, Z: Matrix) -> Points:
        """Turn coordinates into parameters."""
        B = len(Z)
        free = isinstance(self.sigma, int)
        sigma = np.exp(Z[:, int(self.sigma)]) if free else np.full(B, float(self.sigma))
        sds, partials, roots = [], [], []
        for t, term in enumerate(self.terms):
            if self.theta is not None:
                root = self.theta[t][:, :, None] * sigma
                roots.append(root)
                sds.append(np.sqrt((root**2).sum(axis=1)))
                partials.append(np.zeros((0, B)))
                continue
            s = np.array(
                [np.exp(Z[:, at]) if isinstance(at, int) else np.full(B, at) for at in term.sds]
            )
            y = np.tanh(Z[:, term.partials].T)
            sds.append(s)
            partials.append(y)
            roots.append(s[:, None] * correlation_root(y, term.width))
        return Points(tuple(sds), tuple(partials), tuple(roots), sigma, Z[:, self.scale])

    def gammas(self, points: Points) -> Matrix:
        """Coefficients of the log residual standard deviation, (points, r + 1)."""
        assert self.to_gamma is not None
        return np.column_stack([np.log(points.sigma), points.scale]) @ self.to_gamma.T

    def sigmas(self, points: Points) -> Vector:
        """Residual standard deviation of a row of weight one, whose columns are zero."""
        if self.to_log_sigma is None:
            return points.sigma
        logs = np.column_stack([np.log(points.sigma), points.scale]) @ self.to_log_sigma
        return np.asarray(np.exp(logs))

    def weighs_sigma(self, priors: PriorSpecification) -> bool:
        """Whether sigma is free, and no coefficient with a prior of its own is its logarithm."""
        if not isinstance(self.sigma, int) or self.to_gamma is None:
            return isinstance(self.sigma, int)
        assert self.to_log_sigma is not None
        return not any(
            np.allclose(row, self.to_log_sigma, rtol=1e-9, atol=1e-12)
            for row, prior in zip(self.to_gamma, priors.dispersion, strict=True)
            if not isinstance(prior, Flat)
        )

    def log_prior(self, points: Points, priors: PriorSpecification, *, jacobian: bool) -> Vector:
        """Add up the log prior densities."""
        total = np.zeros(len(points.sigma))
        for t, term in enumerate(self.terms):
            if self.theta is not None:
                continue
            for a, at in enumerate(term.sds):
                prior = priors.sd_priors[t][a]
                if isinstance(at, int) and not isinstance(prior, Constant):
                    s = points.sds[t][a]
                    total = total + prior.log_density(s) + jacobian * np.log(s)
            power = term.lkj_powers(priors.lkj_eta[t], jacobian=jacobian)
            rest = np.maximum(1.0 - points.partials[t] ** 2, 1e-300)
            total = total + power @ np.log(rest)
        if self.weighs_sigma(priors):
            sigma = self.sigmas(points)
            assert not isinstance(priors.sigma, Constant)
            total = total + priors.sigma.log_density(sigma) + jacobian * np.log(sigma)
        if self.to_gamma is not None:
            for of_scale, gamma in zip(priors.dispersion, self.gammas(points).T, strict=True):
                total = total + of_scale.log_density(gamma)
        return np.asarray(total)

    def prior_slope(self, z: Vector, priors: PriorSpecification, *, jacobian: bool) -> Vector:
        """Differentiate :meth:`log_prior` by the coordinates of one point."""
        points, out = self.points(z[None]), np.zeros(self.size)
        for t, term in enumerate(self.terms):
            if self.theta is not None:
                continue
            for a, at in enumerate(term.sds):
                if isinstance(at, int):
                    s = float(points.sds[t][a, 0])
                    prior = priors.sd_priors[t][a]
                    assert not isinstance(prior, Constant)
                    out[at] += prior.slope(s) * s + jacobian
            power = term.lkj_powers(priors.lkj_eta[t], jacobian=jacobian)
            out[term.partials] -= 2.0 * power * points.partials[t][:, 0]  # d log(1 - y^2) / dz
        if isinstance(self.sigma, int) and self.weighs_sigma(priors):
            sigma = float(self.sigmas(points)[0])
            assert not isinstance(priors.sigma, Constant)
            by_log = priors.sigma.slope(sigma) * sigma + jacobian
            along = np.array([1.0]) if self.to_log_sigma is None else self.to_log_sigma
            out[self.sigma] += by_log * along[0]
            out[self.scale] += by_log * along[1:]
        if self.to_gamma is not None and isinstance(self.sigma, int):
            slopes = [
                prior.slope(float(g))
                for prior, g in zip(priors.dispersion, self.gammas(points)[0], strict=True)
            ]
            by_gamma = self.to_gamma.T @ np.array(slopes)
            out[self.sigma] += by_gamma[0]
            out[self.scale] += by_gamma[1:]
        return out

    def pull_back(self, z: Vector, by_root: list[Matrix]) -> Vector:
        """Turn derivatives by the roots into derivatives by the coordinates of one point."""
        out = np.zeros(self.size)
        if self.theta is not None:
            return out
        points = self.points(z[None])
        for t, term in enumerate(self.terms):
            root = points.roots[t][:, :, 0]
            for a, at in enumerate(term.sds):
                if isinstance(at, int):
                    out[at] = by_root[t][a] @ root[a]
            y, sds = points.partials[t], points.sds[t]
            for i in range(len(y)):
                moved = y.astype(complex)
                moved[i] += 1j * _IMAGINARY * (1.0 - y[i] ** 2)
                slope = correlation_root(moved, term.width)[:, :, 0].imag / _IMAGINARY
                out[term.partials.start + i] = float((by_root[t] * (sds * slope)).sum())
        return out


def unconstrained_parameters(
    parametrization: Parametrization,
    priors: PriorSpecification,
    *,
    sigma: float | None,
    to_gamma: Matrix | None = None,
    to_log_sigma: Vector | None = None,
) -> UnconstrainedParameters:
    """Lay out the coordinates of a model."""
    at, terms = 0, []
    for structure, k, of_term in zip(
        parametrization.structures, parametrization.widths, priors.sd_priors, strict=True
    ):
        places: list[int | float] = []
        for prior in of_term:
            held = priors.theta is not None or isinstance(prior, Constant)
            places.append(float(prior.value) if isinstance(prior, Constant) else at)
            at += not held
        pairs = k * (k - 1) // 2 if structure == "us" and priors.theta is None else 0
        terms.append(Term(tuple(places), slice(at, at + pairs)))
        at += pairs
    known = sigma
    if known is None and isinstance(priors.sigma, Constant):
        known = float(priors.sigma.value)
    place: int | float = at if known is None else known
    at += known is None
    r = 0 if to_gamma is None else len(to_gamma) - 1
    theta = None if priors.theta is None else tuple(parametrization.lambdas(priors.theta))
    found = UnconstrainedParameters(
        tuple(terms), theta, place, slice(at, at + r), at + r, to_gamma, to_log_sigma
    )
    if not isinstance(priors.sigma, Flat | Constant) and not found.weighs_sigma(priors):
        raise PriorError(
            "a coefficient of the dispersion that has a prior is the logarithm of sigma, so "
            "'sigma' has no prior of its own; leave one of them out."
        )
    return found


def correlation_root(partials: npt.NDArray[np.inexact], k: int) -> npt.NDArray[np.inexact]:
    """Build the lower triangular root of a correlation matrix from partial correlations."""
    root = np.zeros((k, k, partials.shape[1]), dtype=partials.dtype)
    if not len(partials):
        root[np.arange(k), np.arange(k)] = 1.0
        return root
    at = 0
    for i in range(k):
        left = np.ones(partials.shape[1], dtype=partials.dtype)
        for j in range(i):
            root[i, j] = partials[at] * np.sqrt(left)
            left = left * (1.0 - partials[at] ** 2)
            at += 1
        root[i, i] = np.sqrt(left)
    return root
