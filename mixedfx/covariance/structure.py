"""Covariance structures of a term's random effects: what a structure must provide.

A structure is a family of k x k covariances, given by a map from parameters to a factor,

    cov(b) = sigma**2 Lambda(theta) Lambda(theta)'

and by what inference needs of it: starting values, the derivative of the factor, the standard
deviations and correlations that are reported. A structure is a subclass of
:class:`CovarianceStructure` registered by
:func:`~mixedfx.covariance.registry.register_structure`; its name is then a function in formulas,
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
    """
    Number of a term's effects, and their coordinates in time or space.

    Parameters
    ----------
    k : int
        Number of effects.
    coordinates : ndarray of shape (k, d), optional
        Times, or points in space; None for 0, 1, ..., k - 1.
    """

    k: int
    coordinates: Matrix | None = None


@dataclass(frozen=True)
class Component:
    """
    One standard deviation or correlation, as it is reported.

    Parameters
    ----------
    kind : {"sd", "corr"}
        Standard deviation or correlation.
    effects : tuple of int
        The effects it belongs to; empty for all of the term.
    value : float
        Relative to sigma for a standard deviation; NaN for a correlation with a zero one.
    parameter : int, optional
        Index of the structure's parameter that alone determines it, as an increasing function:
        it then has a profile likelihood.
    limits : tuple of float
        Limits of a correlation as its parameter goes to minus and plus infinity; profile
        intervals that have no end within end there.
    """

    kind: Literal["sd", "corr"]
    effects: tuple[int, ...]
    value: float
    parameter: int | None = None
    limits: tuple[float, float] = (-1.0, 1.0)


@dataclass(frozen=True)
class StructureCoordinates:
    """The parameters of a structure as coordinates."""

    structure: CovarianceStructure
    at: Positions

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.structure.n_params(self.at.k)

    @property
    def is_linear(self) -> bool:
        """A structure does not say, so it is not relied on."""
        return False

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
        return self.structure.params_of_factor(factor, self.at)

    def canonical(self, x: Vector) -> Vector:
        """Parameters with non-negative standard deviations."""
        return self.structure.canonical(x, self.at)

    @property
    def is_sd(self) -> npt.NDArray[np.bool_]:
        """The structure's standard deviations."""
        return np.isin(np.arange(self.size), self.structure.sd_params)


class CovarianceStructure(ABC):
    """
    Family of covariances of k effects, with unbounded real parameters.

    A subclass defines ``name`` and the five abstract methods. The other methods leave a boundary at
    a covariance of zero where the deviance falls; a fit at another singular covariance is reported
    as singular, without such a trial.

    Attributes
    ----------
    name : str
        The function in formulas.
    invariance : {"scalar", "diagonal", "linear"}
        Which transformations T of the term's columns, ``Z T``, leave the family as it is: by a
        number (default), a diagonal matrix, or any regular matrix.
    correlated : bool
        Whether effects may be correlated (default).
    linear : bool
        Whether the covariance is linear in its parameters, as Kenward and Roger's method requires:
        ``V = sum psi_i Z E_i Z'``, each entry of ``Lambda Lambda'`` free or zero. Default: False.
    sd_params : tuple of int
        Parameters that are standard deviations, of which the covariance is an even function;
        default: the first.

    See Also
    --------
    register_structure : Makes a structure available in formulas.

    Examples
    --------
    One standard deviation for all effects, which are uncorrelated:

    >>> import numpy as np
    >>> from mixedfx.covariance import Component, CovarianceStructure, Positions
    >>> class Homogeneous(CovarianceStructure):
    ...     name = "homdiag"
    ...     correlated = False
    ...
    ...     def n_params(self, k):
    ...         return 1
    ...
    ...     def factor(self, params, at):
    ...         return params[0] * np.eye(at.k)
    ...
    ...     def factor_jacobian(self, params, at):
    ...         return np.eye(at.k)[None]
    ...
    ...     def nearest(self, cov, at):
    ...         return np.sqrt([np.mean(np.diag(cov))])
    ...
    ...     def components(self, factor, at):
    ...         return (Component("sd", (), float(factor[0, 0]), parameter=0),)
    >>> Homogeneous().factor(np.array([2.0]), Positions(2))
    array([[2., 0.],
           [0., 2.]])
    """

    name: ClassVar[str]
    invariance: ClassVar[Literal["linear", "diagonal", "scalar"]] = "scalar"
    correlated: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    sd_params: ClassVar[tuple[int, ...]] = (0,)

    @abstractmethod
    def n_params(self, k: int) -> int:
        """Number of parameters of k effects."""

    @abstractmethod
    def factor(self, params: Vector, at: Positions) -> Matrix:
        """
        Lower triangular Lambda, relative to sigma, (k, k).

        Called at any real parameters; a LinAlgError where the covariance is singular to rounding
        makes a search turn back.
        """

    @abstractmethod
    def factor_jacobian(self, params: Vector, at: Positions) -> Array:
        """Derivatives of Lambda by the parameters, (m, k, k)."""

    @abstractmethod
    def nearest(self, cov: Matrix, at: Positions) -> Vector:
        """
        Parameters of a (k, k) covariance, or of one near it that is in the family, (m,).

        Of the covariance of ``factor(x)`` it returns ``x``, up to signs of standard deviations: the
        optimum is read by it, so that it clips no more than rounding requires. It is also called
        with starting values and the identity.
        """

    @abstractmethod
    def components(self, factor: Matrix, at: Positions) -> tuple[Component, ...]:
        """Standard deviations and correlations at a factor, as they are reported."""

    def params_of_factor(self, factor: Matrix, at: Positions) -> Vector:
        """Parameters of ``factor factor'``, (m,); zeros where the factor is zero."""
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
        identity is sought in the span of the derivatives of ``Lambda Lambda'`` at an AR(1)-like
        covariance, whose entries are distinct and nonzero.
        """
        at = Positions(k)
        distinct = 0.4 ** np.abs(np.subtract.outer(np.arange(k), np.arange(k)))
        params = self.nearest(distinct, at)
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
        F of full column rank, (k, r), ``F F' = factor factor'`` up to what is below the tolerance.

        Directions count whose standard deviation is positive and at least ``tolerance``.
        """
        largest = float(np.sqrt((factor**2).sum(axis=1)).max(initial=0.0))
        return factor if largest > 0.0 and largest >= tolerance else factor[:, :0]

    def rank_reduced(self, root: Matrix, at: Positions) -> tuple[TermCoordinates, Vector]:
        """Coordinates of the covariances with the rank of ``root``, and their values there."""
        if root.shape[1] == 0:
            return EntryCoordinates(at.k, np.arange(0), np.arange(0)), np.zeros(0)
        return self.coordinates(at), self.params_of_factor(root, at)

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
        sds = np.sqrt((factor**2).sum(axis=1))
        if sds.max(initial=0.0) < ZERO:
            return (Component("sd", (), 0.0),)
        if np.linalg.svd(factor / sds[:, None], compute_uv=False)[-1] < ZERO:
            return (Component("corr", (), 1.0),)
        return ()


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
    Derivatives of the lower Cholesky factor of a matrix from those of the matrix.

    Parameters
    ----------
    root : ndarray of shape (k, k)
        Lower Cholesky factor.
    by_matrix : ndarray of shape (m, k, k)
        Derivatives of the matrix by m parameters.

    Returns
    -------
    ndarray of shape (m, k, k)
        Derivatives of the factor.

    References
    ----------
    .. [1] Murray (2016), Differentiation of the Cholesky decomposition, arXiv:1602.07527.
    """
    inverse = np.linalg.inv(root)
    inner = np.tril(inverse @ by_matrix @ inverse.T)
    k = np.arange(len(root))
    inner[:, k, k] *= 0.5
    return np.asarray(root @ inner)
