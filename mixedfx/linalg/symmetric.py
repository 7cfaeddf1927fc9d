"""Eigenvalues and equations of one symmetric matrix, by LAPACK without the checks around it.

Of matrices of a few columns NumPy's functions take five times as long as LAPACK's. As there, the
lower triangle is read.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dgecon, dgetrf, dgetrs, dposv, dsyevd

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Reciprocal condition number of equations without a solution.
_SINGULAR = 1e-10


def eigenvalues(A: Matrix) -> Vector:
    """Eigenvalues (k,), ascending."""
    if len(A) < 2:
        return A.reshape(-1).copy()
    if len(A) == 2 and (rotation := _rotation(A)) is not None:
        return np.array(rotation[:2])
    values, _, info = dsyevd(A, compute_v=0, lower=1)
    _check(info)
    return np.asarray(values)


def eigenvectors(A: Matrix) -> tuple[Vector, Matrix]:
    """Eigenvalues (k,), ascending, and orthonormal eigenvectors in the columns, (k, k)."""
    if len(A) < 2:
        return A.reshape(-1).copy(), np.ones(A.shape)
    if len(A) == 2 and (rotation := _rotation(A)) is not None:
        low, high, cosine, sine = rotation
        return np.array((low, high)), np.array(((-sine, cosine), (cosine, sine)))
    values, vectors, info = dsyevd(A, lower=1)
    _check(info)
    return np.asarray(values), np.asarray(vectors)


def _rotation(A: Matrix) -> tuple[float, float, float, float] | None:
    """
    Eigenvalues of two columns, ascending, and the cosine and sine of the second eigenvector.

    That of one step of Jacobi's method, which is the last; None where a number is not finite.
    """
    (a, _), (b, c) = A.tolist()
    middle, radius = 0.5 * (a + c), math.hypot(0.5 * (a - c), b)
    if not math.isfinite(middle + radius):
        return None
    if b == 0.0:  # zeros are exact
        return min(a, c), max(a, c), float(a >= c), float(a < c)
    angle = 0.5 * math.atan2(2.0 * b, a - c)
    return middle - radius, middle + radius, math.cos(angle), math.sin(angle)


def pseudo_inverse(A: Matrix, share: float) -> Matrix:
    """Inverse (k, k), zero along eigenvectors whose eigenvalues are at most a share of the largest.

    By their sizes, as ``numpy.linalg.pinv`` of a Hermitian matrix.
    """
    values, vectors = eigenvectors(A)
    sizes = np.abs(values)
    kept = sizes > share * sizes.max(initial=0.0)
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=kept)
    return np.asarray((vectors * inverse) @ vectors.T)


def solve_positive(A: Matrix, b: Vector) -> Vector | None:
    """Solution (k,) of ``A x = b``; None where A is not positive definite."""
    _, x, info = dposv(A, b, lower=1)
    return None if info else np.asarray(x)


def solve_or_least_norm(A: Matrix, b: Vector) -> Vector:
    """Solution (k,) of ``A x = b``; that of least norm where A is singular."""
    lu, pivots, info = dgetrf(A)
    norm = max(np.add.reduce(np.abs(A), axis=0).tolist(), default=0.0)
    if info == 0 and dgecon(lu, norm)[0] > _SINGULAR:
        return np.asarray(dgetrs(lu, pivots, b)[0])
    return np.asarray(np.linalg.lstsq(A, b, rcond=None)[0])


def _check(info: int) -> None:
    if info:
        raise np.linalg.LinAlgError("Eigenvalues did not converge")
