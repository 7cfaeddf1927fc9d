"""Covariance structures of a term's random effects: the contract.

A structure is a family of k x k covariances, given by a map from parameters to a factor,

    cov(b) = sigma**2 Lambda(theta) Lambda(theta)'

and what inference needs of it: starting values, the derivative of the factor, the standard
deviations and correlations that are reported. A structure is a subclass of
:class:`CovarianceStructure` in a file of its own and a line in
:mod:`mixedfx.covariance.registry`; its name is then a function in formulas,
``ar1(0 + visit | patient)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.coordinates import EntryCoordinates, TermCoordinates

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Relative to a standard deviation of this many residual ones (after scaling the term's
# columns to unit root mean square), a standard deviation is called zero: lme4's isSingular.
ZERO = 1e-4


@dataclass(frozen=True)
class Positions:
    """What the effects of a term are to a structure: their number, and where they lie."""

    k: int
    coordinates: Matrix | None = None  # (k, d): times, or points in space; None: 0, 1, ..., k - 1


@dataclass(frozen=True)
class Component:
    """One standard deviation or correlation, as it is reported."""

    kind: Literal["sd", "corr"]
    effects: tuple[int, ...]  # the effects it belongs to; empty: all of the term
    value: float  # relative to sigma for a standard deviation; NaN: a correlation with a zero sd
    parameter: int | None = None  # the structure's parameter that alone determines it


@dataclass(frozen=True)
class StructureCoordinates:
    """The parameters of a structure as coordinates."""

    structure: CovarianceStructure
    at: Positions

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.structure.n_params(self.at.k)

    def factor(self, x: Vector) -> Matrix:
        """Lambda at the parameters ``x``."""
        return self.structure.factor(x, self.at)

    def jacobian(self, x: Vector) -> Array:
        """Derivatives of Lambda by the parameters."""
        return self.structure.factor_jacobian(x, self.at)

    def pullback(self, x: Vector, by_factor: Matrix) -> Vector:
        """Derivative by the parameters from the derivative by the entries of Lambda."""
        return np.asarray(np.tensordot(self.jacobian(x), by_factor, axes=([1, 2], [0, 1])))

    def params(self, factor: Matrix) -> Vector:
        """Parameters of a factor."""
        return self.structure.of_factor(factor, self.at)

    def canonical(self, x: Vector) -> Vector:
        """Parameters with non-negative standard deviations."""
        return self.structure.canonical(x, self.at)

    @property
    def is_sd(self) -> npt.NDArray[np.bool_]:
        """The structure's standard deviations."""
        return np.isin(np.arange(self.size), self.structure.sd_params)


class CovarianceStructure(ABC):
    """
    A family of covariances of k effects; its parameters are unbounded reals.

    A new structure writes the abstract methods. The others are right for a structure whose only
    boundary is a covariance of zero.
    """

    name: ClassVar[str]  # the function in formulas
    # Which changes W of the term's columns, Z W, leave the family as it is.
    invariance: ClassVar[Literal["linear", "diagonal", "scalar"]] = "scalar"
    # Whether effects may be correlated.
    correlated: ClassVar[bool] = True
    # Whether any entry of Lambda Lambda' that may be nonzero is free: V = sum psi_i Z E_i Z'.
    linear: ClassVar[bool] = False
    # Parameters that are standard deviations; the covariance is an even function of them.
    sd_params: ClassVar[tuple[int, ...]] = (0,)

    @abstractmethod
    def n_params(self, k: int) -> int:
        """Number of parameters of k effects."""

    @abstractmethod
    def factor(self, params: Vector, at: Positions) -> Matrix:
        """Lower triangular Lambda, relative to sigma, (k, k)."""

    @abstractmethod
    def factor_jacobian(self, params: Vector, at: Positions) -> Array:
        """Derivatives of Lambda by the parameters, (m, k, k)."""

    @abstractmethod
    def nearest(self, cov: Matrix, at: Positions) -> Vector:
        """Parameters of a covariance in the family, or near one that is not."""

    @abstractmethod
    def components(self, factor: Matrix, at: Positions) -> tuple[Component, ...]:
        """Standard deviations and correlations at a factor, as people read them."""

    def of_factor(self, factor: Matrix, at: Positions) -> Vector:
        """Parameters at a factor of any form, ``cov = factor factor'``; zeros for none."""
        return (
            self.nearest(factor @ factor.T, at) if factor.any() else np.zeros(self.n_params(at.k))
        )

    def canonical(self, params: Vector, at: Positions) -> Vector:
        """Choose one of the parameters that give the same covariance: sds are not negative."""
        unsigned = params.copy()
        unsigned[list(self.sd_params)] = np.abs(params[list(self.sd_params)])
        return unsigned

    def absorbs_residual(self, k: int) -> bool:
        """
        Whether a covariance plus a multiple of the identity is in the family, locally.

        Then the residual variance is not identifiable where each effect has one row only. The
        identity is sought in the span of the derivatives of ``Lambda Lambda'`` at a generic point.
        """
        at = Positions(k)
        generic = 0.4 ** np.abs(np.subtract.outer(np.arange(k), np.arange(k)))
        params = self.nearest(generic, at)
        half = self.factor_jacobian(params, at) @ self.factor(params, at).T
        tangents = (half + half.transpose(0, 2, 1)).reshape(len(half), k * k).T
        identity = np.eye(k).ravel()
        fitted = tangents @ np.linalg.lstsq(tangents, identity, rcond=None)[0]
        return bool(np.linalg.norm(identity - fitted) < 1e-6)

    def coordinates(self, at: Positions) -> TermCoordinates:
        """The parameters as coordinates."""
        return StructureCoordinates(self, at)

    def full_rank_factor(self, factor: Matrix, tolerance: float) -> Matrix:
        """
        Factor F of full column rank, (k, r), ``F F' = L L'`` up to what is below the tolerance.

        Directions count whose standard deviation is positive and at least ``tolerance``.
        """
        largest = float(np.sqrt((factor**2).sum(axis=1)).max(initial=0.0))
        return factor if largest > 0.0 and largest >= tolerance else factor[:, :0]

    def rank_reduced(self, root: Matrix, at: Positions) -> tuple[TermCoordinates, Vector]:
        """Coordinates of the covariances of the rank of ``root``, and ``root`` in them."""
        if root.shape[1] == 0:
            return EntryCoordinates(at.k, np.arange(0), np.arange(0)), np.zeros(0)
        return self.coordinates(at), self.of_factor(root, at)

    def off_boundary(self, factor: Matrix, score: Matrix) -> tuple[Matrix, Vector, Matrix]:
        """
        Factor of full rank, and the slopes of the deviance in the directions off the boundary.

        ``score`` is S, the derivative of the deviance by ``Lambda Lambda'``. Column d of the last
        value, (k, directions), has the slope ``d' S d``.
        """
        if np.any(factor):
            return factor, np.zeros(0), factor[:, :0]
        k = len(factor)
        return factor[:, :0], np.full(k, float(np.trace(score)) / k), np.eye(k)

    def boundary(self, factor: Matrix) -> tuple[Component, ...]:
        """Sds of zero and correlations of one, at a factor in columns of unit root mean square."""
        zero = float(np.sqrt((factor**2).sum(axis=1)).max(initial=0.0)) < ZERO
        return (Component("sd", (), 0.0),) if zero else ()


def correlation_components(factor: Matrix, pairs: bool) -> tuple[Component, ...]:
    """Standard deviation of every effect and, of every pair, the correlation."""
    sds = np.linalg.norm(factor, axis=1)
    found = [Component("sd", (i,), float(sd)) for i, sd in enumerate(sds)]
    if pairs:
        for i in range(len(sds)):
            for j in range(i + 1, len(sds)):
                product = sds[i] * sds[j]
                rho = np.clip(factor[i] @ factor[j] / product, -1.0, 1.0) if product > 0 else np.nan
                found.append(Component("corr", (i, j), float(rho)))
    return tuple(found)


def cholesky_derivative(root: Matrix, by_matrix: Array) -> Array:
    """
    Derivatives of the lower Cholesky factor from those of the matrix, (m, k, k).

    References
    ----------
    .. [1] Murray (2016), Differentiation of the Cholesky decomposition, arXiv:1602.07527.
    """
    inverse = np.linalg.inv(root)
    inner = np.tril(inverse @ by_matrix @ inverse.T)
    k = np.arange(len(root))
    inner[:, k, k] *= 0.5
    return np.asarray(root @ inner)
