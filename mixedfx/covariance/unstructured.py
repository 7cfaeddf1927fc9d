"""Unstructured covariance: any positive semidefinite matrix, by its lower Cholesky factor.

Parameters are the entries of the lower triangle of Lambda, column by column: lme4's theta
(Bates, Maechler, Bolker and Walker 2015, section 2.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dgeqp3, dgeqrf, dgetrf, dpotrf

from mixedfx._arrays import set_readonly
from mixedfx.covariance.components import ZERO, Component, Positions
from mixedfx.covariance.coordinates import EntryCoordinates, TermCoordinates
from mixedfx.covariance.entries import EntryFormula
from mixedfx.covariance.structure import CovarianceStructure, correlation_components
from mixedfx.linalg.symmetric import eigenvectors

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

# Eigenvalues of a scaled covariance below this span its null space.
_NULL = 1e-16
# Least share of the largest pivot of a Cholesky factor that has all of its digits.
_REGULAR = 1e-4
# Singular values below this share are lost in a matrix times its transpose.
_ROOT_ROUNDING = 1e-7


class Unstructured(CovarianceStructure):
    """``us(x | g)``, ``(x | g)``."""

    name: ClassVar[str] = "us"
    invariance: ClassVar[Literal["linear", "diagonal", "scalar"]] = "linear"
    linear: ClassVar[bool] = True

    def entry(self) -> EntryFormula:
        """Any standard deviations and correlations."""
        return EntryFormula("{sd:s} {sd:t} {corr:st}", "{sd:s} {sd:t} {corr:st}")

    def n_params(self, k: int) -> int:
        """``k (k + 1) / 2``."""
        return k * (k + 1) // 2

    def coordinates(self, at: Positions) -> EntryCoordinates:
        """Entries of the lower triangle, column by column."""
        return _lower_triangle(at.k)

    def factor(self, params: Vector, at: Positions) -> Matrix:
        """Lower triangle filled column by column."""
        return self.coordinates(at).factor(params)

    def factor_jacobian(self, params: Vector, at: Positions) -> Array:
        """Unit matrices."""
        return self.coordinates(at).jacobian(params)

    def nearest(self, cov: Matrix, at: Positions) -> Vector:
        """Entries of the Cholesky factor."""
        return self.coordinates(at).params(relative_factor(cov))

    def params_of_factor(self, factor: Matrix, at: Positions) -> Vector:
        """Entries of the triangular factor, by rotating the columns."""
        return self.coordinates(at).params(lower_triangular_factor(factor))

    def canonical(self, params: Vector, at: Positions) -> Vector:
        """Flip the columns of Lambda so that each leading entry is positive."""
        coordinates = self.coordinates(at)
        if min(params[coordinates.is_sd].tolist(), default=1.0) > 0.0:
            return params
        lam = coordinates.factor(params)
        lead = np.argmax(lam != 0.0, axis=0)
        signs = np.where(lam[lead, np.arange(at.k)] < 0.0, -1.0, 1.0)
        return coordinates.params(lam * signs)

    def absorbs_residual(self, k: int) -> bool:
        """Any positive definite matrix is in the family."""
        return True

    def components(self, factor: Matrix, at: Positions) -> tuple[Component, ...]:
        """A standard deviation for each effect, a correlation for each pair."""
        return correlation_components(factor, pairs=True)

    def full_rank_factor(self, factor: Matrix, tolerance: float) -> Matrix:
        """The factor, or columns of ``V diag(s)`` with ``factor factor' = V diag(s^2) V'``."""
        if is_regular(factor, tolerance):
            return factor
        values, vectors = eigenvectors(factor @ factor.T)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        return np.asarray(root[:, (values > 0.0) & (values >= tolerance**2)])

    def rank_reduced(self, root: Matrix, at: Positions) -> tuple[TermCoordinates, Vector]:
        """
        Lower trapezoid of a pivoted factor of rank r: k r - r (r - 1) / 2 entries.

        In the plain lower triangle a Lambda of reduced rank has directions of descent along
        which the first derivative is zero; rows pivoted by size have none.
        """
        k, r = root.shape
        if r == 0:
            return EntryCoordinates(k, np.arange(0), np.arange(0)), np.zeros(0)
        if k == r == 1:
            return _lower_triangle(1), np.abs(root[0])
        if k == r == 2:
            return _pivoted_pair(root)
        T, pivots, *_ = dgeqp3(root.T)
        rows, cols, reduced = _lower_trapezoid(k, r, tuple(pivots.tolist()))
        signs = np.where(T.diagonal() < 0.0, -1.0, 1.0)
        return reduced, signs[cols] * T[cols, rows]

    def off_boundary(
        self, factor: Matrix, score: Matrix, at: Positions
    ) -> tuple[Matrix, Vector, Matrix]:
        """Eigenvalues and eigenvectors of ``N' S N``, N spanning the covariance's null space."""
        values, vectors = np.linalg.eigh(factor @ factor.T)
        null = vectors[:, values < _NULL]
        root = (vectors * np.sqrt(np.clip(values, 0.0, None)))[:, values >= _NULL]
        slopes, directions = np.linalg.eigh(null.T @ score @ null)
        return root, slopes, null @ directions

    def boundary(self, factor: Matrix) -> tuple[Component, ...]:
        """Sds below ``ZERO``; effects whose rows have a singular value below it are collinear."""
        return effects_on_boundary(factor)


def effects_on_boundary(factor: Matrix) -> tuple[Component, ...]:
    """Sds below ``ZERO``, and the effects that are collinear."""
    if factor.shape == (1, 1):
        return (Component("sd", (0,), 0.0),) if abs(factor.item()) < ZERO else ()
    if is_regular(factor, ZERO * max(1.0, math.sqrt(np.vdot(factor, factor)))):
        return ()  # nor are rows of unit length collinear
    sds = np.sqrt(np.einsum("ij,ij->i", factor, factor))
    zero = sds < ZERO
    if not np.logical_or.reduce(zero) and is_regular(factor / sds[:, None], ZERO):
        return ()
    found = [Component("sd", (i,), 0.0) for i in np.flatnonzero(zero).tolist()]
    if (~zero).sum() > 1:
        # Rows of unit length: an effect of small variance is not collinear for that.
        unit_rows = factor[~zero] / sds[~zero, None]
        if np.linalg.svd(unit_rows, compute_uv=False)[-1] < ZERO:
            found.append(Component("corr", tuple(np.flatnonzero(~zero).tolist()), 1.0))
    return tuple(found)


@lru_cache(maxsize=64)
def _lower_triangle(k: int) -> EntryCoordinates:
    """Entries of a lower triangle; a fit asks for them many times."""
    cols, rows = np.triu_indices(k)  # the upper triangle by rows is the lower by columns
    set_readonly(rows, cols)
    return EntryCoordinates(k, rows, cols)


@lru_cache(maxsize=256)
def _lower_trapezoid(
    k: int, r: int, pivots: tuple[int, ...]
) -> tuple[Ints, Ints, EntryCoordinates]:
    """Rows and columns of a (k, r) lower trapezoid, and its entries with the rows pivoted."""
    full, order = _lower_triangle(k), np.array(pivots) - 1
    if pivots == tuple(range(1, r + 1)):
        return full.rows, full.cols, full
    rows, cols = full.rows[full.cols < r], full.cols[full.cols < r]
    pivoted = order[rows]
    set_readonly(rows, cols, pivoted)
    return rows, cols, EntryCoordinates(k, pivoted, cols)


@lru_cache(maxsize=64)
def _above_diagonal(shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Entries of a matrix above its diagonal."""
    above = np.triu(np.ones(shape, dtype=bool), 1)
    set_readonly(above)
    return above


def is_regular(factor: Matrix, tolerance: float) -> bool:
    """
    Whether a matrix is square, and all of its singular values surely above the tolerance.

    With the squares of the others at most their mean to the power of their number (Yu and Gu
    1997, Linear Algebra Appl. 253:25): ``|det| ((k - 1) / |F|^2)^((k - 1) / 2)`` is a lower bound.
    """
    if factor.shape == (1, 1):
        return tolerance < abs(float(factor.item())) < math.inf
    k, squares = len(factor), float(np.vdot(factor, factor))
    if factor.shape != (k, k) or not 0.0 < squares < np.inf:
        return False
    least = _size_of_determinant(factor) * math.pow((k - 1) / squares, 0.5 * (k - 1))
    return least > max(tolerance, _ROOT_ROUNDING * math.sqrt(squares))


def _size_of_determinant(A: Matrix) -> float:
    """Absolute value of the determinant of a square matrix."""
    if len(A) == 2:
        a, b, c, d = A.ravel().tolist()
        return abs(float(a * d - b * c))
    return abs(float(math.prod(dgetrf(A)[0].diagonal().tolist())))


def _rotated(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """Entries h, e and g of the rows (h, 0) and (e, g) that two rows of two are rotated to."""
    (a, b), (c, d) = first, second
    if b == 0.0:  # as they are, to the last digit
        return a, c, d
    h = math.hypot(a, b)
    return h, (a * c + b * d) / h, (a * d - b * c) / h


def _pivoted_pair(root: Matrix) -> tuple[EntryCoordinates, Vector]:
    """The lower trapezoid of two rows, the longer one first, with a positive diagonal."""
    first, second = root.tolist()
    pivots = (1, 2)
    if math.hypot(*second) > math.hypot(*first):
        first, second, pivots = second, first, (2, 1)
    h, e, g = _rotated(first, second)
    return _lower_trapezoid(2, 2, pivots)[2], np.array([abs(h), math.copysign(1.0, h) * e, abs(g)])


def lower_triangular_factor(factor: Matrix) -> Matrix:
    """Lower triangular L with ``L L' = F F'``, from the QR factorisation of ``F'``."""
    if factor.shape == (2, 2):
        h, e, g = _rotated(*factor.tolist())
        return np.array([[h, 0.0], [e, g]])
    k = len(factor)
    if k == 1 or not np.logical_or.reduce(factor[_above_diagonal(factor.shape)]):
        return factor
    R = np.array(dgeqrf(factor.T)[0][: min(factor.shape)])
    R.T[_above_diagonal((k, len(R)))] = 0.0
    return R.T


def relative_factor(cov: Matrix) -> Matrix:
    """Lower triangular Lambda with ``Lambda Lambda' = cov``, for a semidefinite ``cov``."""
    if len(cov) == 1:
        return np.sqrt(np.maximum(cov, 0.0))
    root, info = dpotrf(cov, lower=1, clean=1)
    pivots = [1.0, *root.diagonal().tolist()]
    if info == 0 and min(pivots) > _REGULAR * max(pivots):
        return np.asarray(root)
    values, vectors = np.linalg.eigh(cov)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    lam = np.asarray(np.linalg.qr(root.T, mode="r")).T
    return np.asarray(lam * np.where(np.diag(lam) < 0.0, -1.0, 1.0))
