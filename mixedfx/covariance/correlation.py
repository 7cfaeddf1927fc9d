"""Covariances given by standard deviations and a parametric correlation matrix.

    C = S R(c) S,    S = diag(s_1, ..., s_k), or s times the identity

The unbounded parameters are the standard deviations, signed where there is one, and x, of which
the correlation's parameters ``c(x)`` are a smooth function that maps all vectors to those of
positive definite matrices: hyperbolic tangents of correlations, logarithms of ranges. A structure
writes R and its derivatives by c, and the map.

The *natural* parameters, by which Kenward and Roger's method differentiates twice (as SAS does),
are the variances and c.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.components import Component, Positions
from mixedfx.covariance.coordinates import EntryCoordinates, TermCoordinates
from mixedfx.covariance.ends import held_coordinates, off_ends
from mixedfx.covariance.entries import ONE_SD, TWO_SDS, EntryFormula
from mixedfx.covariance.structure import CovarianceStructure, cholesky_derivative
from mixedfx.covariance.unstructured import effects_on_boundary

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Share of the largest deviation below which one is a rounding error.
_ROUNDING = 1e-12


class CorrelationStructure(CovarianceStructure):
    """
    One standard deviation, or one an effect, and a correlation matrix of few parameters.

    Attributes
    ----------
    heterogeneous : bool
        Whether each effect has a standard deviation of its own.
    correlation_entry : EntryFormula or None
        Formula of a correlation, for equations.
    """

    heterogeneous: ClassVar[bool] = False
    sds_entry: ClassVar[EntryFormula] = ONE_SD
    correlation_entry: ClassVar[EntryFormula | None] = None

    def entry(self) -> EntryFormula | None:
        """The standard deviations times the correlation."""
        if self.correlation_entry is None:
            return None
        pairs = zip(self.sds_entry, self.correlation_entry, strict=True)
        return EntryFormula(*(f"{sds} {corr}" for sds, corr in pairs))

    @abstractmethod
    def n_correlations(self, at: Positions) -> int:
        """Number of parameters c, none of one effect alone."""

    @abstractmethod
    def correlation(self, c: Vector, at: Positions) -> Matrix:
        """R, (k, k)."""

    @abstractmethod
    def correlation_jacobian(self, c: Vector, at: Positions) -> Array:
        """Derivatives of R by c, (m, k, k)."""

    @abstractmethod
    def correlation_hessian(self, c: Vector, at: Positions) -> Array:
        """Second derivatives of R by c, (m, m, k, k)."""

    @abstractmethod
    def bounded(self, x: Vector, at: Positions) -> Vector:
        """Parameters c of unbounded ones."""

    @abstractmethod
    def bounded_jacobian(self, x: Vector, at: Positions) -> Matrix:
        """Derivatives of c (rows) by x (columns)."""

    @abstractmethod
    def unbounded(self, c: Vector, at: Positions) -> Vector:
        """Unbounded parameters of c, which may be at a limit or beyond by rounding."""

    @abstractmethod
    def estimate(self, R: Matrix, at: Positions) -> Vector:
        """
        Parameters c of a correlation matrix, or of one near it that is in the family.

        Of a heterogeneous structure rows and columns of R can be unknown, NaN.
        """

    @abstractmethod
    def correlation_components(self, c: Vector, at: Positions) -> tuple[Component, ...]:
        """What is reported of c; ``parameter`` counts from the first element of x."""

    def typical(self, at: Positions) -> Sequence[Vector]:
        """Vectors c over the family, neighbours near to each other."""
        return ()

    def generic(self, at: Positions) -> Vector:
        """One vector c, of correlations that are neither small nor nearly one."""
        points = self.typical(at)
        return np.asarray(points[len(points) // 2]) if points else np.zeros(0)

    def jitter(self, at: Positions) -> float:
        """Added to the diagonal of R: the rounding error of its eigenvalues, some times over."""
        return 4.0 * at.k**2 * float(np.finfo(float).eps) if at.k > 1 else 0.0

    def n_params(self, k: int) -> int:
        """At whole positions 0, ..., k - 1."""
        return self.size(Positions(k))

    def size(self, at: Positions) -> int:
        """Standard deviations and parameters of the correlation."""
        return len(self.sds(at)) + self.n_correlations(at)

    def sds(self, at: Positions) -> tuple[int, ...]:
        """One, or one an effect: the first parameters."""
        return tuple(range(at.k)) if self.heterogeneous else (0,)

    def factor(self, params: Vector, at: Positions) -> Matrix:
        """``S chol(R)``."""
        s, root = self._sds_and_root(params, at)
        return s[:, None] * root

    def _sds_and_root(self, params: Vector, at: Positions) -> tuple[Vector, Matrix]:
        """Standard deviation of each effect, and the Cholesky factor of R."""
        R = self.correlation(self.bounded(params[len(self.sds(at)) :], at), at)
        if not np.isfinite(R).all():
            raise np.linalg.LinAlgError("the correlations are not finite")
        root = np.linalg.cholesky(R + self.jitter(at) * np.eye(at.k))
        return self._effect_sds(params, at), np.asarray(root, dtype=float)

    def _effect_sds(self, params: Vector, at: Positions) -> Vector:
        """(k,); a single one may be negative: the covariance is even in it."""
        return np.abs(params[: at.k]) if self.heterogeneous else np.full(at.k, params[0])

    def factor_jacobian(self, params: Vector, at: Positions) -> Array:
        """Derivatives of ``S chol(R)``."""
        s, root = self._sds_and_root(params, at)
        by_R = self._correlation_by_x(params, at)
        by_x = s[:, None] * cholesky_derivative(root, by_R) if len(by_R) else by_R
        return np.concatenate([self._by_sds(params, at, root), by_x])

    def _by_sds(self, params: Vector, at: Positions, root: Matrix) -> Array:
        """Derivatives of ``S root`` by the standard deviations."""
        if not self.heterogeneous:
            return root[None]
        by_sds, i = np.zeros((at.k, at.k, at.k)), np.arange(at.k)
        by_sds[i, i] = np.where(params[: at.k] < 0.0, -1.0, 1.0)[:, None] * root
        return by_sds

    def _correlation_by_x(self, params: Vector, at: Positions) -> Array:
        x = params[len(self.sds(at)) :]
        by_c = self.correlation_jacobian(self.bounded(x, at), at)
        return np.tensordot(self.bounded_jacobian(x, at).T, by_c, axes=1)

    def covariance(self, params: Vector, at: Positions) -> Matrix:
        """``S R S``."""
        s = self._effect_sds(params, at)
        R = self.correlation(self.bounded(params[len(self.sds(at)) :], at), at)
        return np.asarray(s[:, None] * R * s if self.heterogeneous else params[0] ** 2 * R)

    def covariance_jacobian(self, params: Vector, at: Positions) -> Array:
        """Derivatives of ``S R S`` by the parameters."""
        s = self._effect_sds(params, at)
        R = self.correlation(self.bounded(params[len(self.sds(at)) :], at), at)
        by_x = self._correlation_by_x(params, at)
        if not self.heterogeneous:
            return np.concatenate([2.0 * s[0] * R[None], s[0] ** 2 * by_x])
        half = self._by_sds(params, at, R) * s
        return np.concatenate([half + half.transpose(0, 2, 1), s[:, None] * by_x * s])

    def nearest(self, cov: Matrix, at: Positions) -> Vector:
        """Root mean variances and the correlations of the standardised covariance."""
        variances = np.clip(np.diag(cov), 0.0, None)
        if not self.heterogeneous:
            variances = np.full(at.k, np.mean(variances))
        sds = np.sqrt(variances)
        # An effect left out of a factor of lower rank has a deviation of rounding errors.
        there = sds > _ROUNDING * sds.max() if sds.any() else np.ones(at.k, dtype=bool)
        scale = np.where(there, sds, 1.0)
        # The correlations of an effect without a deviation are unknown.
        R = np.where(np.outer(there, there), cov / np.outer(scale, scale), np.nan)
        c = self.estimate(R, at)
        own = np.where(there, sds, 0.0)[: len(self.sds(at))]
        return np.concatenate([own, self.unbounded(c, at)])

    def components(self, factor: Matrix, at: Positions) -> tuple[Component, ...]:
        """Standard deviations, and what the correlations depend on."""
        params, n = self.params_of_factor(factor, at), len(self.sds(at))
        c = self.bounded(params[n:], at)
        if not params[:n].all():
            c = np.full(len(c), np.nan)
        own = [(i,) if self.heterogeneous else () for i in range(n)]
        sds = [Component("sd", e, float(params[i]), i) for i, e in enumerate(own)]
        of_c = [
            Component(
                p.kind,
                p.effects,
                p.value,
                None if p.parameter is None else n + p.parameter,
                p.limits,
                p.label,
            )
            for p in self.correlation_components(c, at)
        ]
        return (*sds, *of_c)

    def generic_params(self, at: Positions) -> Vector:
        """Distinct standard deviations."""
        n = len(self.sds(at))
        x = self.unbounded(self.generic(at), at)
        return np.asarray(np.concatenate([1.0 + 0.3 * np.arange(n) / n, x]))

    def params_elsewhere(self, params: Vector, at: Positions, other: Positions) -> Vector:
        """The same c, whose unbounded form may depend on the positions."""
        n = len(self.sds(at))
        c = self.bounded(params[n:], at)
        if not len(c):  # one position, which tells no correlation
            c = np.zeros(self.n_correlations(other))
        return np.concatenate([params[:n], self.unbounded(c, other)])

    def starting_points(self, params: Vector, at: Positions) -> Sequence[Vector]:
        """The typical correlations at the same standard deviations."""
        n = len(self.sds(at))
        return [np.concatenate([params[:n], self.unbounded(c, at)]) for c in self.typical(at)]

    def full_rank_factor(self, factor: Matrix, tolerance: float) -> Matrix:
        """Directions of positive deviation, at least the tolerance; effects below it are zero."""
        sds = np.sqrt((factor**2).sum(axis=1))
        if sds.max(initial=0.0) < tolerance or not sds.any():
            return factor[:, :0]
        kept = np.where((sds >= tolerance)[:, None], factor, 0.0)
        values, vectors = np.linalg.eigh(kept @ kept.T)
        # The jitter of a factor of one rank less is no deviation.
        least = max(tolerance**2, 10.0 * self.jitter(Positions(len(sds))) * sds.max() ** 2)
        there = values > least
        if there.all():
            return factor
        return np.asarray((vectors * np.sqrt(np.clip(values, 0.0, None)))[:, there])

    def rank_reduced(self, root: Matrix, at: Positions) -> tuple[TermCoordinates, Vector]:
        """Correlations at their ends, and deviations of zero, are held."""
        if root.shape[1] == 0:
            return EntryCoordinates(at.k, np.arange(0), np.arange(0)), np.zeros(0)
        held, x = held_coordinates(self, self.params_of_factor(root, at), at)
        return (self.coordinates(at), x) if held.free.all() else (held, x)

    def off_boundary(
        self, factor: Matrix, score: Matrix, at: Positions
    ) -> tuple[Matrix, Vector, Matrix]:
        """Off the ends of the correlations and of the deviations that are held."""
        if not factor.any():
            return super().off_boundary(factor, score, at)
        return off_ends(self, factor, score, at)

    def boundary(self, factor: Matrix) -> tuple[Component, ...]:
        """Sds of zero, one by one if there are several, and a singular correlation matrix."""
        if not self.heterogeneous:
            return super().boundary(factor)
        found = effects_on_boundary(factor)
        return tuple(c if c.kind == "sd" else Component("corr", (), 1.0) for c in found)

    def natural(self, params: Vector, at: Positions) -> tuple[tuple[str, ...], Vector]:
        """Names and values of the variances and of c."""
        n = len(self.sds(at))
        c = self.bounded(params[n:], at)
        names = [f"variance[{i}]" if self.heterogeneous else "variance" for i in range(n)]
        names += [f"{p.kind} {p.label}".strip() for p in self.correlation_components(c, at)]
        return tuple(names), np.concatenate([params[:n] ** 2, c])

    def natural_jacobian(self, params: Vector, at: Positions) -> Matrix:
        """Derivatives of the natural parameters (rows) by the unbounded ones."""
        n = len(self.sds(at))
        by_params = np.diag(np.concatenate([2.0 * params[:n], np.zeros(len(params) - n)]))
        by_params[n:, n:] = self.bounded_jacobian(params[n:], at)
        return by_params

    def covariance_jacobian_natural(self, params: Vector, at: Positions) -> Array:
        """Derivatives of ``S R S`` by the natural parameters, (m, k, k)."""
        n, s = len(self.sds(at)), self._effect_sds(params, at)
        c = self.bounded(params[n:], at)
        half = self._by_variances(s, s[:, None] * self.correlation(c, at) * s)
        by_c = s[:, None] * self.correlation_jacobian(c, at) * s
        return np.concatenate([half + half.transpose(0, 2, 1), by_c])

    def _by_variances(self, s: Vector, C: Matrix) -> Array:
        """Halves of the derivatives of ``S R S`` by the variances, given C that is linear in it."""
        if not self.heterogeneous:
            return np.asarray(C[None] / (2.0 * s[0] ** 2))
        half, i = np.zeros((len(s), *C.shape)), np.arange(len(s))
        half[i, i] = C / (2.0 * s[:, None] ** 2)
        return half

    def covariance_hessian_natural(self, params: Vector, at: Positions) -> Array:
        """Second derivatives of ``S R S`` by the natural parameters, (m, m, k, k)."""
        n, s = len(self.sds(at)), self._effect_sds(params, at)
        c = self.bounded(params[n:], at)
        C = s[:, None] * self.correlation(c, at) * s
        by_c = s[:, None] * self.correlation_jacobian(c, at) * s
        H = np.zeros((len(params), len(params), at.k, at.k))
        for j, derivative in enumerate(by_c):
            half = self._by_variances(s, derivative)
            H[:n, n + j] = H[n + j, :n] = half + half.transpose(0, 2, 1)
        H[n:, n:] = s[:, None] * self.correlation_hessian(c, at) * s
        if self.heterogeneous:
            # sqrt(v_a v_b) of an entry a != b; that of a = b is linear.
            off = C * (1.0 - np.eye(at.k))
            for a in range(at.k):
                for b in range(at.k):
                    entry = off[a, b] / (4.0 * s[a] ** 2)
                    H[a, a, a, b] = H[a, a, b, a] = -entry / s[a] ** 2
                    H[a, b, a, b] = H[a, b, b, a] = entry / s[b] ** 2 if a != b else 0.0
        return H


class Heterogeneous(CorrelationStructure):
    """
    A standard deviation for each effect, where a structure has one: the first base of its variant.

    There is none at further positions, and covariances are no parameters.
    """

    goes_on: ClassVar[bool] = False
    covariances_are_parameters: ClassVar[bool] = False
    heterogeneous: ClassVar[bool] = True
    sds_entry: ClassVar[EntryFormula] = TWO_SDS
    invariance: ClassVar[Literal["linear", "diagonal", "scalar"]] = "diagonal"


class TanhCorrelations(CorrelationStructure):
    """Correlations that are the hyperbolic tangents of their parameters."""

    def bounded(self, x: Vector, at: Positions) -> Vector:
        """``tanh(x)``."""
        return np.tanh(x)

    def bounded_jacobian(self, x: Vector, at: Positions) -> Matrix:
        """``1 / cosh(x)**2``."""
        return np.diag(tanh_slope(x))

    def unbounded(self, c: Vector, at: Positions) -> Vector:
        """``atanh(c)``."""
        return atanh_inside(c)


def tanh_slope(x: Vector) -> Vector:
    """``1 / cosh(x)**2``, without overflow."""
    return np.asarray(1.0 / np.cosh(np.clip(x, -300.0, 300.0)) ** 2)


# The largest correlation that differs from one.
_LARGEST = float(np.nextafter(1.0, 0.0))


def atanh_inside(c: Vector) -> Vector:
    """``atanh(c)`` of correlations that may be one by rounding."""
    return np.arctanh(np.clip(c, -_LARGEST, _LARGEST))
