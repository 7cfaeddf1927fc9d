"""Second derivatives of covariances, contracted with a derivative B by the covariances.

    H_ij = sum_ab B_ab d^2 C_ab / dx_i dx_j

No array of all second derivatives is made.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mixedfx.linalg.differences import jacobian

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

_STEP = 1e-4


def curvature_by_differences(
    covariance_jacobian: Callable[[Vector], Array],
    params: Vector,
    B: Array,
    sizes: Vector | float = 1.0,
) -> Matrix:
    """H by central differences of ``tr(B dC)``, (m, m); steps are in units of ``sizes``."""

    def slope(x: Vector) -> Vector:
        return np.asarray(np.tensordot(covariance_jacobian(x), B, axes=B.ndim))

    return jacobian(slope, params, np.full(len(params), _STEP) * sizes, order=2)
