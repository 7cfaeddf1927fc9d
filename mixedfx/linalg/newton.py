"""What a Newton step would gain, from a gradient and a Hessian."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import all_finite
from mixedfx.linalg.symmetric import eigenvectors

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Eigenvalues below this share of the largest are zero: along them the gradient itself counts.
_FLAT = 1e-6


def newton_decrement(gradient: Vector, hessian: Matrix) -> tuple[float, float]:
    """Newton decrement, null directions by their gradient, and the smallest curvature."""
    if not len(gradient):
        return 0.0, np.inf
    if not all_finite(hessian):
        return np.inf, np.nan
    values, vectors = eigenvectors(hessian)
    along, curvatures = (gradient @ vectors).tolist(), values.tolist()
    flat = _FLAT * max(curvatures[-1], 1e-300)
    decrement = sum(
        0.5 * a * a / curvature if curvature > flat else abs(a)
        for a, curvature in zip(along, curvatures, strict=True)
    )
    return float(decrement), float(curvatures[0])
