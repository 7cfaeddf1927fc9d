"""Covariances of moments, made positive definite: starting values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

# Least eigenvalue of a starting correlation matrix of moments.
_LEAST_EIGENVALUE = 0.05


def regular_covariance(products: Matrix, times: Matrix, scale: float) -> Matrix:
    """Covariance of mean products, relative to a scale, made positive definite."""
    k = len(products)
    mean = np.divide(products, times * scale, out=np.eye(k), where=times > 0.0)
    sds = np.sqrt(np.maximum(np.diag(mean), 1e-3))
    values, vectors = np.linalg.eigh(mean / np.outer(sds, sds))
    values = np.maximum(values, _LEAST_EIGENVALUE)
    R = (vectors * values) @ vectors.T
    d = np.sqrt(np.diag(R))
    return np.asarray(R / np.outer(d, d) * np.outer(sds, sds))
