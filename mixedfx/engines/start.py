"""Where the search begins: a moment estimate of theta, and the curvature to expect there.

Both read one factor at a time from the cross-products and ignore the others, so they cost
less than one evaluation of the deviance. For a single factor the estimate is unbiased and
the curvature exact in expectation; for crossed ones both are near enough to halve the
evaluations or better.

Thetas here are scaled: relative to each column's root mean square, so that nothing depends
on units.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixedfx.covariance import Layout, relative_factor
from mixedfx.crossprod import CrossProducts
from mixedfx.factor import penalised, product

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# A start at zero could not leave it (zero is stationary for any data), and one far out is a
# moment estimate gone wrong: relative variances are kept within these bounds.
_SMALLEST, _LARGEST = 0.01, 1e4
# An expected curvature below this share of the largest is not believed.
_FLATTEST = 1e-3


def moments(cross: CrossProducts) -> Vector:
    """
    Estimate theta without iteration.

    Parameters
    ----------
    cross : CrossProducts
        The data, reduced.

    Returns
    -------
    ndarray of shape (m,)
        Scaled theta.

    Notes
    -----
    With ``b = (A + I)^-1 Z'r`` for the least-squares residuals ``r``, the expectation of
    ``sum b b'`` is linear in the term's covariance and in sigma**2, and is solved for it:
    minimum norm quadratic estimation at Lambda = I (Rao 1972, J. Am. Stat. Assoc. 67:112),
    the fixed effects taken as known.
    """
    total = float(cross.gram.corner[-1, -1])
    solved = [_one_term(cross, t, total) for t in range(len(cross.slots))]
    variance = total / (cross.n - cross.p)
    within = min((s for _, s in solved), default=variance)
    within = min(max(within, 0.02 * variance), variance)
    lambdas = []
    for (cov, _), structure in zip(solved, cross.layout.structures, strict=True):
        if structure == "diag":
            cov = np.diag(np.diag(cov))
        values, vectors = np.linalg.eigh(cov / within)
        values = np.clip(values, _SMALLEST, _LARGEST)
        lambdas.append(relative_factor((vectors * values) @ vectors.T))
    theta = cross.layout.pack(lambdas)
    fallback = cross.layout.on_diagonal.astype(float)
    return theta if np.isfinite(theta).all() else fallback


def _one_term(cross: CrossProducts, t: int, total: float) -> tuple[Matrix, float]:
    """One term's covariance, and the residual variance within its levels."""
    A, F = _scaled_blocks(cross, t)
    k = A.shape[0]
    G = penalised(A, np.eye(k))[0]
    b = np.einsum("abl,bl->al", G, F)
    GA = product(G, A)
    loose = penalised(A, 1e3 * np.eye(k))[0]
    explained = float((np.einsum("abl,bl->al", loose, F) * F).sum())
    freedom = cross.n - cross.p - float(np.einsum("abl,bal->", loose, A))
    within = max((total - explained) / max(freedom, 1.0), 1e-3 * total / cross.n)
    flat = GA.reshape(k * k, -1)
    # sum_l (GA)[a, c] (GA)[b, d], arranged as rows (a, b) and columns (c, d)
    system = (flat @ flat.T).reshape(k, k, k, k).transpose(0, 2, 1, 3).reshape(k * k, k * k)
    noise = within * product(GA, G).sum(axis=2)
    cov = np.linalg.lstsq(system, (b @ b.T - noise).ravel(), rcond=None)[0].reshape(k, k)
    return 0.5 * (cov + cov.T), within


def _scaled_blocks(cross: CrossProducts, t: int) -> tuple[Matrix, Matrix]:
    slot, scale = cross.slots[t], cross.scales[t]
    part = slice(slot.start, slot.start + slot.width)
    A = cross.gram.diagonal[slot.factor][part, part]
    F = cross.gram.border[slot.factor][part, -1]
    return A / (scale[:, None, None] * scale[None, :, None]), F / scale[:, None]


def curvature(cross: CrossProducts, theta: Vector) -> Matrix:
    """
    Expected Hessian of the deviance, each term taken alone.

    Parameters
    ----------
    cross : CrossProducts
        The data, reduced.
    theta : ndarray of shape (m,)
        Scaled parameters.

    Returns
    -------
    ndarray of shape (m, m)
        Positive definite. With ``K = Z'V^-1 Z sigma**2`` within levels and ``D_i`` the
        derivative of ``Lambda Lambda'``, entries ``sum tr(K D_i K D_j)``, less the product
        of traces over ``n`` that profiling sigma out takes away.
    """
    m = cross.layout.size
    H, traces = np.zeros((m, m)), np.zeros(m)
    for t, (lam, part) in enumerate(
        zip(cross.layout.lambdas(theta), cross.layout.slices, strict=True)
    ):
        A, _ = _scaled_blocks(cross, t)
        k = len(lam)
        K = A - product(product(A, penalised(A, lam)[0]), A)
        flat = K.reshape(k * k, -1)
        KK = (flat @ flat.T).reshape(k, k, k, k)
        D = _directions(cross.layout, t, lam)
        H[part, part] = np.einsum("pbc,abcd,qda->pq", D, KK, D, optimize=True)
        traces[part] = np.einsum("pab,ba->p", D, K.sum(axis=2))
    H -= np.outer(traces, traces) / cross.n
    values, vectors = np.linalg.eigh(H)
    values = np.maximum(values, max(_FLATTEST * values[-1], 1e-8))
    return np.asarray((vectors * values) @ vectors.T)


def _directions(layout: Layout, t: int, lam: Matrix) -> Matrix:
    """Derivative of ``Lambda Lambda'`` by each of a term's parameters, (parameters, k, k)."""
    rows, cols = layout.positions[t]
    D = np.zeros((len(rows), *lam.shape))
    for i, (row, col) in enumerate(zip(rows, cols, strict=True)):
        D[i, row] += lam[:, col]
        D[i, :, row] += lam[:, col]
    return D
