"""Second derivatives of residual covariances, contracted with a derivative B by the covariances.

    H_ij = sum_ab B_ab d^2 R_ab / dx_i dx_j

With ``s = exp(x)`` for a standard deviation, ``H_ij = s_i s_j K_ij + [i = j] s_i g_i``, K and g the
derivatives of ``tr(B R)`` by s. No array of all second derivatives is made.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.components import Positions
from mixedfx.covariance.structure import CovarianceStructure

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def curvature_of_logs(
    structure: CovarianceStructure, at: Positions, values: Vector, is_log: Mask, B: Matrix
) -> Matrix:
    """H of one covariance by parameters of which some are logarithms of a structure's, (m, m)."""
    scale = np.where(is_log, values, 1.0)
    H = structure.covariance_curvature(values, at, B) * np.outer(scale, scale)
    slope = np.tensordot(structure.covariance_jacobian(values, at), B, axes=2)
    H[np.diag_indices(len(H))] += np.where(is_log, values * slope, 0.0)
    return np.asarray(H)
