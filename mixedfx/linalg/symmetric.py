"""Eigenvalues and equations of one symmetric matrix, by LAPACK without the checks around it.

Of matrices of a few columns NumPy's functions take five times as long as LAPACK's. As there, the
lower triangle is read.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dgecon, dgetrf, dgetrs, dposv, dpotrf, dpotrs, dsyevd

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Reciprocal condition number of equations without a solution.
_SINGULAR = 1e-10


def eigenvalues(A: Matrix) -> Vector:
    """Eigenvalues (k,), ascending."""
    if len(A) < 2:
        return A.reshape(-1).copy()
    if len(A) == 2:
        a, _, b, d = A.ravel().tolist()
        middle, radius = 0.5 * (a + d), math.hypot(0.5 * (a - d), b)
        return np.array([middle - radius, middle + radius])
    values, _, info = dsyevd(A, compute_v=0, lower=1)
    _check(info)
    return np.asarray(values)


def eigenvectors(A: Matrix) -> tuple[Vector, Matrix]:
    """Eigenvalues (k,), ascending, and orthonormal eigenvectors in the columns, (k, k)."""
    if len(A) < 2:
        return A.reshape(-1).copy(), np.ones(A.shape)
    values, vectors, info = dsyevd(A, lower=1)
    _check(info)
    return np.asarray(values), np.asarray(vectors)


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


def solve_semidefinite(A: Matrix, b: Vector) -> Vector:
    """Solution (k,) of ``A x = b``, A positive semidefinite; that of least norm where singular."""
    root, info = dpotrf(A, lower=1)
    pivots = root.diagonal().tolist()
    if info == 0 and min(pivots) ** 2 > _SINGULAR * max(pivots) ** 2:
        return np.asarray(dpotrs(root, b, lower=1)[0])
    return np.asarray(np.linalg.lstsq(A, b, rcond=None)[0])


def _check(info: int) -> None:
    if info:
        raise np.linalg.LinAlgError("Eigenvalues did not converge")
