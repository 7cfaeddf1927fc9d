"""Starting values: covariances of moments, made positive definite, and typical processes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixedfx.residuals.correlated_spec import CorrelatedSpec

Vector = npt.NDArray[np.float64]
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


def typical_params(spec: CorrelatedSpec) -> list[Vector]:
    """Parameters of the search over the ranges of a process, short to long; else none."""
    structure, at = spec.covariance, spec.at
    if structure.design != "coordinates":
        return []
    one = np.append(1.0, np.zeros(structure.size(at) - 1))
    points = [np.append(0.0, x[1:]) for x in structure.starting_points(one, at)]
    return [np.tile(x, spec.n_strata)[1:] for x in points]
