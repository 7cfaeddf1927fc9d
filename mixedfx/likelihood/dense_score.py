"""Deviance and score of small models from one dense Cholesky factor.

With S = [Z, X, y]'W[Z, X, y] and T the block-diagonal matrix of the terms' ``F (x) I`` and an
identity for [X, y], the Cholesky factor of ``M = T'S T + diag(I, 0)`` has the deviance on its
diagonal (Bates et al. 2015, equation 18). The derivative of the deviance by M is

    G = [inverse of M's leading block] + v v' / sigma**2,    v = (-M_1^-1 m, 1)

the block being that of Z (ML) or of Z and X (REML), M_1 that of Z and X and m the column of y; by
T it is ``2 S T G``. Of some hundred random effects at most, these few products cost less than the
elimination of one factor after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf, dtrtri

from mixedfx.likelihood.dense import DenseCrossProducts

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]

# Random effects up to which this costs less than the elimination of factors.
MAX_EFFECTS = 60


def deviance_and_score(
    dense: DenseCrossProducts, factors: Sequence[Matrix], *, reml: bool
) -> tuple[float, float, list[Matrix]]:
    """Deviance, pwrss, and the derivative of the deviance by every entry of each term's F."""
    crossprod, q, S = dense.crossprod, dense.q, dense.matrix
    last = len(S) - 1
    left = dense.multiplied(factors, S)
    SF = left.T.copy()
    M = dense.multiplied(factors, SF)
    M.flat[: q * (last + 2) : last + 2] += 1.0
    root, info = dpotrf(M.T, lower=1, clean=1, overwrite_a=1)
    if info != 0:
        raise np.linalg.LinAlgError("the penalised cross-products are not positive definite")
    pivots = root.diagonal()
    nu, pwrss = crossprod.nu(reml=reml), float(pivots[-1]) ** 2
    size = last if reml else q
    log_det = 2.0 * float(np.log(pivots[:size]).sum()) - crossprod.log_weights
    log_det += crossprod.log_det_qr if reml else 0.0
    sigma2 = crossprod.sigma_at(pwrss, nu) ** 2
    deviance = log_det + nu * math.log(2.0 * math.pi * sigma2) + pwrss / sigma2
    inverse, _ = dtrtri(root[:last, :last], lower=1)
    v = np.append(-(root[last, :last] @ inverse), 1.0)
    G = np.outer(v[:q] / sigma2, v)
    G[:, :size] += inverse[:size, :q].T @ inverse[:size, :size]
    by_factor = []
    for F, part in zip(factors, dense.columns, strict=True):
        k = len(F)
        by_factor.append(2.0 * SF[part].reshape(k, -1) @ G[part].reshape(k, -1).T)
    return deviance, pwrss, by_factor
