"""Algebra of small matrices, one per level, for all levels at once.

Arrays have shape ``(K, K, L)``: loops run over the small ``K`` and every operation over the
levels, which for many levels is an order of magnitude faster than LAPACK called level by level,
or than ``einsum``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import linalg

Array = npt.NDArray[np.float64]

# From this size on, matrices are large enough for LAPACK level by level: fields and long series.
WIDE = 32
# Share of a matrix's columns that are not zero, up to which products with these cost less.
_FEW_COLUMNS = 0.5


def factorize_levels(A: Array, lam: Array) -> tuple[Array, Array]:
    """
    ``sum log|M|`` (B,) and ``L^-1 Lambda'`` (K, K, L, B), ``M = Lambda'A Lambda + I = L L'``.

    A (K, K, L) is of all levels, Lambda (K, K, B) of each of B points.
    """
    K, L, B = len(A), A.shape[2], lam.shape[2]
    A_lam = np.zeros((K, K, L, B))
    for c in range(K):
        for i in range(K):
            A_lam[:, i] += A[:, c, :, None] * lam[c, i]
    M = np.zeros((K, K, L, B))
    for c in range(K):
        for i in range(K):
            M[i] += lam[c, i] * A_lam[c]
    for a in range(K):
        M[a, a] += 1.0
    W = np.repeat(lam.transpose(1, 0, 2)[:, :, None], L, axis=2)
    log_det = np.zeros(B)
    for j in range(K):  # right-looking Cholesky in place, applied to W at the same time
        root = np.sqrt(M[j, j])
        log_det += 2.0 * np.log(root).sum(axis=0)
        W[j] /= root
        column = M[j + 1 :, j] / root
        M[j + 1 :, j + 1 :] -= column[:, None] * column[None, :]
        W[j + 1 :] -= column[:, None] * W[j]
    return log_det, W


def penalized_inverse(A: Array, lam: Array) -> tuple[Array, Array, float]:
    """
    ``G = Lambda M^-1 Lambda'`` and ``Lambda M^-1`` at every level, and the sum of ``log|M|``.

    ``M = Lambda' A Lambda + I``, by its Cholesky factor (Bates et al. 2015, equation 18).
    """
    K = A.shape[0]
    if K == 1:
        scale = lam[0, 0]
        M = A * (scale * scale)
        M += 1.0
        lam_M_inv = scale / M
        return scale * lam_M_inv, lam_M_inv, float(np.log(M).sum())
    if K == 2:
        return _penalized_inverse_of_two(A, lam)
    if K >= WIDE:
        return _wide_penalized_inverse(A, lam)
    M = matmul_left(lam.T, matmul_right(A, lam))
    for a in range(K):
        M[a, a] += 1.0
    W = np.empty_like(M)
    W[:] = lam.T[:, :, None]
    for j in range(K):  # M = L L' in place, and W = L^-1 Lambda'
        diagonal = np.sqrt(M[j, j], out=M[j, j])
        W[j] /= diagonal
        if j + 1 < K:
            column = M[j + 1 :, j]
            column /= diagonal
            M[j + 1 :, j + 1 :] -= column[:, None] * column[None, :]
            W[j + 1 :] -= column[:, None] * W[j]
    log_det = 2.0 * float(sum(np.log(M[j, j]).sum() for j in range(K)))
    G = W[0][:, None] * W[0][None, :]
    for c in range(1, K):
        G += W[c][:, None] * W[c][None, :]
    for j in range(K - 1, -1, -1):  # W <- L^-T W = M^-1 Lambda'
        W[j] /= M[j, j]
        if j:
            W[:j] -= M[j, :j, None] * W[j]
    return G, W.transpose(1, 0, 2), log_det


def _penalized_inverse_of_two(A: Array, lam: Array) -> tuple[Array, Array, float]:
    """The same of two effects, written out: of few levels the calls cost more than the sums."""
    (a, b), (c, d) = lam.tolist()
    A00, A01, A11 = A[0, 0], A[0, 1], A[1, 1]
    x, y = a * A00 + c * A01, a * A01 + c * A11  # A Lambda, first column
    root = np.sqrt(a * x + c * y + 1.0)
    below = (b * x + d * y) / root
    x, y = b * A00 + d * A01, b * A01 + d * A11
    last = np.sqrt(b * x + d * y + 1.0 - below * below)
    # Rows of W = L^-1 Lambda', then of L^-T W.
    a, c = a / root, c / root
    b, d = (b - below * a) / last, (d - below * c) / last
    G, lam_M_inv = np.empty_like(A), np.empty_like(A)
    G[0, 0], G[1, 1] = a * a + b * b, c * c + d * d
    G[0, 1] = G[1, 0] = a * c + b * d
    b, d = b / last, d / last
    lam_M_inv[0, 0], lam_M_inv[1, 0] = (a - below * b) / root, (c - below * d) / root
    lam_M_inv[0, 1], lam_M_inv[1, 1] = b, d
    return G, lam_M_inv, 2.0 * float(np.log(root).sum() + np.log(last).sum())


def _wide_penalized_inverse(A: Array, lam: Array) -> tuple[Array, Array, float]:
    """The same by LAPACK, level by level; of a level with few columns by these."""
    K, L = A.shape[0], A.shape[2]
    # A level's matrix after the other, which is how they are written and read.
    G, lam_M_inv = (np.empty((L, K, K)).transpose(1, 2, 0) for _ in range(2))
    log_det, cov = 0.0, lam @ lam.T
    for level in range(L):
        few = _of_few_columns(A[:, :, level], lam, cov)
        if few is not None:
            G[:, :, level], lam_M_inv[:, :, level], own = few
            log_det += own
            continue
        M = lam.T @ A[:, :, level] @ lam
        M[np.diag_indices(K)] += 1.0
        root = np.linalg.cholesky(M)
        W = linalg.solve_triangular(root, lam.T, lower=True, check_finite=False)
        G[:, :, level] = W.T @ W
        solved = linalg.solve_triangular(root, W, lower=True, trans=1, check_finite=False)
        lam_M_inv[:, :, level] = solved.T
        log_det += 2.0 * float(np.log(np.diag(root)).sum())
    return G, lam_M_inv, log_det


def _of_few_columns(A: Array, lam: Array, cov: Array) -> tuple[Array, Array, float] | None:
    """
    ``G``, ``Lambda M^-1`` and ``log|M|`` where A is zero but for few rows and columns s.

    With ``A_ss = R R'``, ``B = R'Lambda_s`` and ``S = I + B B'``, ``M^-1 = I - B'S^-1 B``.
    """
    columns = np.flatnonzero(A.any(axis=0))
    if len(columns) > _FEW_COLUMNS * len(A):
        return None
    try:
        R = np.linalg.cholesky(A[np.ix_(columns, columns)])
    except np.linalg.LinAlgError:
        return None
    B = R.T @ lam[columns]
    root = np.linalg.cholesky(np.eye(len(columns)) + B @ B.T)
    half = linalg.solve_triangular(root, B, lower=True, check_finite=False)
    lam_half = linalg.solve_triangular(root, R.T @ cov[columns], lower=True, check_finite=False).T
    log_det = 2.0 * float(np.log(np.diag(root)).sum())
    return cov - lam_half @ lam_half.T, lam - lam_half @ half, log_det


def matmul(A: Array, B: Array) -> Array:
    """``A @ B`` level by level, for shapes (a, c, L) and (c, b, L)."""
    if A.shape[1] >= WIDE:
        wide = A.transpose(2, 0, 1) @ B.transpose(2, 0, 1)
        return np.ascontiguousarray(wide.transpose(1, 2, 0))
    out: Array = A[:, 0, None] * B[None, 0]
    for c in range(1, A.shape[1]):
        out += A[:, c, None] * B[None, c]
    return out


def matmul_right(A: Array, small: Array) -> Array:
    """``A @ small`` with one matrix for all levels, whose zeros are skipped."""
    if small.shape[0] >= WIDE:
        wide = np.tensordot(A, small, axes=(1, 0))  # (a, L, c)
        return np.ascontiguousarray(wide.transpose(0, 2, 1))
    out = np.zeros((A.shape[0], small.shape[1], A.shape[2]))
    for c in range(small.shape[0]):
        for i in range(small.shape[1]):
            if small[c, i] != 0.0:
                out[:, i] += small[c, i] * A[:, c]
    return out


def matmul_left(small: Array, A: Array) -> Array:
    """``small @ A`` with one matrix for all levels, whose zeros are skipped."""
    out: Array = matmul_right(A.transpose(1, 0, 2), small.T).transpose(1, 0, 2)
    return out


def weighted_outer(F: Array, weights: Array, H: Array) -> Array:
    """``F @ weights @ H'`` level by level, for F, H (K, m, L) and one symmetric (m, m)."""
    weighted = np.tensordot(weights, F, axes=(0, 1))  # (m, K, L)
    out: Array = weighted[0][:, None] * H[None, :, 0]
    for c in range(1, weights.shape[0]):
        out += weighted[c][:, None] * H[None, :, c]
    return out


def sum_outer(A: Array, B: Array) -> Array:
    """Sum over levels of ``A @ B'``, for shapes (a, c, L) and (b, c, L)."""
    total: Array = A.reshape(A.shape[0], -1) @ B.reshape(B.shape[0], -1).T
    return total


def pack_lower(G: Array) -> list[Array]:
    """Lower triangle of every level's block, row by row."""
    return [G[a, b] for a in range(G.shape[0]) for b in range(a + 1)]


def pack_symmetric(dA: Array) -> Array:
    """Half the derivatives by the lower triangles, (K (K + 1) / 2 L,), of those by symmetric A."""
    if len(dA) < WIDE:
        lower = [(0.5 if a == b else 1.0) * dA[a, b] for a in range(len(dA)) for b in range(a + 1)]
        return np.concatenate(lower)
    rows, columns = np.tril_indices(len(dA))
    packed = dA[rows, columns]
    packed[rows == columns] *= 0.5
    return packed.ravel()


def unpack_lower(packed: Array, K: int) -> Array:
    """Symmetric blocks (K, K, L) from their lower triangles (K (K + 1) / 2, L)."""
    A = np.empty((K, K, packed.shape[1]))
    if K >= WIDE:
        rows, columns = np.tril_indices(K)
        A[rows, columns] = packed
        A[columns, rows] = packed
        return A
    at = 0
    for a in range(K):
        for b in range(a + 1):
            A[a, b] = A[b, a] = packed[at]
            at += 1
    return A


def flatten(F: Array) -> Array:
    """Rearrange (K, m, L) as (K L, m)."""
    K, m, L = F.shape
    return np.ascontiguousarray(F.transpose(0, 2, 1)).reshape(K * L, m)


def unflatten(F: Array, K: int) -> Array:
    """Rearrange (K L, m) as (K, m, L)."""
    rows, m = F.shape
    return np.ascontiguousarray(F.reshape(K, rows // K, m).transpose(0, 2, 1))
