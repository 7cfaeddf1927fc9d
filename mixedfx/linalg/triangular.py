"""Equations of an upper triangular matrix, by LAPACK without the checks around it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dtrtrs

Array = npt.NDArray[np.float64]


def solve_upper(R: Array | None, right: Array, *, transposed: bool = False) -> Array:
    """``R^-1 B``, or ``R'^-1 B``, of an upper triangular R (p, p) or None, and B (p,) or (p, m)."""
    if R is None:  # the identity
        return right
    if not right.size:
        return np.zeros(right.shape)
    solved, info = dtrtrs(R, right, trans=int(transposed))
    if info:
        raise np.linalg.LinAlgError("a triangular matrix is singular")
    return np.asarray(solved)
