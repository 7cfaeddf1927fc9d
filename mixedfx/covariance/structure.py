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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dtrtri

from mixedfx.covariance.components import ZERO, Component, Positions
from mixedfx.covariance.coordinates import EntryCoordinates, TermCoordinates
from mixedfx.covariance.curvature import curvature_by_differences
from mixedfx.covariance.entries import EntryFormula
from mixedfx.errors import ArgumentError

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True)
class StructureCoordinates:
    """The parameters of a structure as coordinates."""

    structure: CovarianceStructure
    at: Positions

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.structure.size(self.at)

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
        return np.isin(np.arange(self.size), self.structure.sds(self.at))


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
    design : {"effects", "levels", "coordinates"}
        What stands left of the bar: columns, as in ``(x | g)`` (default); one variable, each of
        whose levels is an effect; or numbers, each distinct tuple of which is one.
    max_coordinates : int
        Largest number of coordinates; default: 3.
    sides : frozenset of {"term", "residual"}
        Whether it can be the covariance of a random term (default), or of residuals.
    markov : bool
        Whether a position depends on the one before alone, so that the inverse of the covariance
        of any ordered positions is tridiagonal. Default: False.
    goes_on : bool
        Whether :meth:`params_elsewhere` gives the covariance at further positions; default: False.
    covariances_are_parameters : bool
        Whether it is linear in a variance and covariances that are its parameters, as in SAS.

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
    design: ClassVar[Literal["effects", "levels", "coordinates"]] = "effects"
    max_coordinates: ClassVar[int] = 3
    sides: ClassVar[frozenset[str]] = frozenset({"term", "residual"})
    markov: ClassVar[bool] = False
    goes_on: ClassVar[bool] = False
    covariances_are_parameters: ClassVar[bool] = False

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

    def entry(self) -> EntryFormula | None:
        """Formula of an entry, for equations; None: the name stands for the covariance."""
        return None

    def components_at(self, params: Vector, at: Positions) -> tuple[Component, ...]:
        """The same at parameters."""
        root = np.linalg.cholesky(self.covariance(params, at))
        return self.components(np.asarray(root, dtype=float), at)

    def size(self, at: Positions) -> int:
        """Number of parameters of effects at some positions."""
        return self.n_params(at.k)

    def sds(self, at: Positions) -> tuple[int, ...]:
        """Parameters that are standard deviations."""
        return self.sd_params

    def covariance(self, params: Vector, at: Positions) -> Matrix:
        """``Lambda Lambda'``, (k, k)."""
        factor = self.factor(params, at)
        return factor @ factor.T

    def jitter(self, at: Positions) -> float:
        """Share of the diagonal that ``factor`` adds to the covariance; default: none."""
        return 0.0

    def covariance_jacobian(self, params: Vector, at: Positions) -> Array:
        """Derivatives of ``Lambda Lambda'`` by the parameters, (m, k, k)."""
        half = self.factor_jacobian(params, at) @ self.factor(params, at).T
        return np.asarray(half + half.transpose(0, 2, 1))

    def covariance_curvature(self, params: Vector, at: Positions, by_cov: Matrix) -> Matrix:
        """
        Second derivatives of ``tr(B Lambda Lambda')`` by the parameters, B symmetric, (m, m).

        ``2 tr(dLambda_i' B dLambda_j)`` where Lambda is linear in them, else central differences.
        """
        if self.coordinates(at).is_linear:
            half = self.factor_jacobian(params, at)
            flat = half.reshape(len(half), -1)
            return np.asarray(2.0 * (by_cov @ half).reshape(flat.shape) @ flat.T)
        sizes, sds = np.ones(len(params)), list(self.sds(at))
        sizes[sds] = np.abs(params[sds])  # zero is not crossed
        return curvature_by_differences(
            lambda x: self.covariance_jacobian(x, at), params, by_cov, sizes
        )

    def natural(self, params: Vector, at: Positions) -> tuple[tuple[str, ...], Vector]:
        """Names and values of the parameters by which V is differentiated: free covariances."""
        rows, cols = self._free_entries(at)
        names = tuple(f"cov[{i}, {j}]" for i, j in zip(rows, cols, strict=True))
        return names, np.asarray(self.covariance(params, at)[rows, cols])

    def covariance_jacobian_natural(self, params: Vector, at: Positions) -> Array:
        """Derivatives of the covariance by the natural parameters, (m, k, k)."""
        rows, cols = self._free_entries(at)
        i, D = np.arange(len(rows)), np.zeros((len(rows), at.k, at.k))
        D[i, rows, cols] = D[i, cols, rows] = 1.0
        return D

    def covariance_hessian_natural(self, params: Vector, at: Positions) -> Array:
        """Second derivatives by the natural parameters, (m, m, k, k)."""
        m = len(self._free_entries(at)[0])
        return np.zeros((m, m, at.k, at.k))

    def _free_entries(self, at: Positions) -> tuple[Ints, Ints]:
        """Entries of the covariance that are free: where those of the factor are."""
        coordinates = self.coordinates(at)
        if not isinstance(coordinates, EntryCoordinates):
            raise ArgumentError(
                "Kenward and Roger's method differentiates by variances and correlations, and the "
                f"structure '{self.name}' does not say what these are (natural, "
                "covariance_jacobian_natural and covariance_hessian_natural): take "
                "df_method='satterthwaite'."
            )
        return coordinates.rows, coordinates.cols

    def generic_params(self, at: Positions) -> Vector:
        """Parameters of a covariance of distinct entries, where no derivative is zero by chance."""
        sds = 1.0 + 0.3 * np.arange(at.k) / at.k
        lag = np.abs(np.subtract.outer(np.arange(at.k), np.arange(at.k)))
        return self.nearest(np.outer(sds, sds) * 0.4**lag, at)

    def starting_points(self, params: Vector, at: Positions) -> Sequence[Vector]:
        """
        Parameters beside ``params`` from which a search may end elsewhere, in some order.

        Where the likelihood can have several maxima, as by the sign of a correlation or by a range;
        neighbours in the order are near to each other. Default: none.
        """
        return ()

    def params_of_factor(self, factor: Matrix, at: Positions) -> Vector:
        """Parameters of ``factor factor'``, (m,); zeros where the factor is zero."""
        return self.nearest(factor @ factor.T, at) if factor.any() else np.zeros(self.size(at))

    def canonical(self, params: Vector, at: Positions) -> Vector:
        """Choose one of the parameters that give the same covariance: sds are not negative."""
        unsigned, sds = params.copy(), list(self.sds(at))
        unsigned[sds] = np.abs(params[sds])
        return unsigned

    def absorbs_residual(self, k: int) -> bool:
        """
        Whether a covariance plus a multiple of the identity is in the family, locally.

        Then the residual variance is not identifiable where each effect has one row only. The
        identity is sought in the span of the derivatives of ``Lambda Lambda'`` at a covariance
        whose entries are distinct and nonzero.
        """
        at = Positions(k)
        by_params = self.covariance_jacobian(self.generic_params(at), at)
        tangents = by_params.reshape(len(by_params), k * k).T
        identity = np.eye(k).ravel()
        fitted = tangents @ np.linalg.lstsq(tangents, identity, rcond=None)[0]
        return bool(np.linalg.norm(identity - fitted) < 1e-6)

    def params_elsewhere(self, params: Vector, at: Positions, other: Positions) -> Vector:
        """Parameters of the same process at other positions, of a structure that goes on."""
        return params

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

    def off_boundary(
        self, factor: Matrix, score: Matrix, at: Positions
    ) -> tuple[Matrix, Vector, Matrix]:
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
    inverse, info = dtrtri(root, lower=1)
    if info:
        raise np.linalg.LinAlgError("the Cholesky factor is singular")
    inner = np.tril(inverse @ by_matrix @ inverse.T)
    k = np.arange(len(root))
    inner[:, k, k] *= 0.5
    return np.asarray(root @ inner)
