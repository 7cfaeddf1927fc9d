"""Normal effects with the covariance ``Lambda M^-1 Lambda'``, from a factorisation.

In the reverse order of elimination: those of the dense block, then of each leading factor given
the later ones, whose mean is ``-G A_r b_later`` and whose covariance is G, level by level.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from mixedfx.linalg.cholesky.batched import flatten, matmul, matmul_left, matmul_right, unflatten
from mixedfx.linalg.cholesky.block_matrix import Array
from mixedfx.linalg.cholesky.dense import multiply_lambda
from mixedfx.linalg.cholesky.numeric import NumericFactor


def draw_effects(numeric: NumericFactor, rng: np.random.Generator) -> Array:
    """One draw, (q,), in the order of elimination."""
    symbolic, b = numeric.symbolic, np.zeros(numeric.symbolic.size)
    if numeric.dense is not None:
        L, z = numeric.dense.cholesky, rng.standard_normal((symbolic.dense_size, 1))
        u = solve_triangular(L, z, trans="T", lower=True)
        own = multiply_lambda(symbolic, numeric.dense.lambdas, u, transpose=False)
        b[symbolic.dense_start :] = own[:, 0]
    for step, values in zip(reversed(symbolic.steps), reversed(numeric.steps), strict=True):
        own = _draw_levels(values.A, numeric.lambdas[step.factor], rng)
        if values.entries is not None:
            given = unflatten(values.entries.multiply(b[:, None]), step.K)
            own -= matmul(values.G, given)[:, 0]
        b[step.columns] = flatten(own[:, None])[:, 0]
    return b


def _draw_levels(A: Array, lam: Array, rng: np.random.Generator) -> Array:
    """Normal effects of levels with the covariances ``Lambda M^-1 Lambda'``, (K, L)."""
    K, n_levels = A.shape[1:]
    M = matmul_left(lam.T, matmul_right(A, lam)).transpose(2, 0, 1) + np.eye(K)
    L = np.linalg.cholesky(M)
    z = rng.standard_normal((n_levels, K, 1))
    u = np.linalg.solve(L.transpose(0, 2, 1), z)[:, :, 0]
    return np.asarray(lam @ u.T)
