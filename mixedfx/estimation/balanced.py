"""Designs in which a minimum of the REML criterion inside the parameter space is the only one.

With P the projector on the residuals of least squares, ``A_0 = P`` and ``A_i = P Z_i Z_i' P`` of
terms of one effect, let the span of the A be closed under multiplication: a commutative quadratic
subspace (Seely 1971, Ann. Math. Statist. 42:710), as in balanced crossed and nested designs. It is
then that of as many orthogonal projectors E_k, with ``P V P = sum_k lambda_k E_k``, and

    REML = sum_k rank(E_k) log lambda_k + y'E_k y / lambda_k + constant

has one stationary point, its minimum, where ``lambda_k = y'E_k y / rank(E_k)``: there minimum norm
estimates are, from any Lambda. If it is one of positive variances, it is the optimum.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dposv

from mixedfx.estimation.dense_moments import bounded_residual_variance
from mixedfx.likelihood.likelihood import GaussianLikelihood

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Share of a product's squared norm that is outside of the span by rounding.
_ROUNDING = 1e-12
# Terms beyond which the products cost more than they save.
_MAX_TERMS = 4


def balanced_estimates(likelihood: GaussianLikelihood) -> tuple[list[Matrix], float] | None:
    """
    Minimum norm estimates of each term's variance, (1, 1), and the residual one, where balanced.

    At Lambda = 0 their equations have ``tr(A_i A_j)`` and ``y'A_i y``, as products of the A have.
    """
    dense, crossprod = likelihood.dense_if_small, likelihood.crossprod
    widths = crossprod.parametrization.widths
    if dense is None or not likelihood.reml or crossprod.sigma is not None:
        return None
    if not 0 < len(widths) <= _MAX_TERMS or max(widths) > 1:
        return None
    N, parts = _projected(dense.matrix, dense.q), dense.columns
    blocks = [[N[a, b] for b in parts] for a in parts]
    gram = np.empty((len(parts) + 1,) * 2)  # tr(A_i A_j), P last
    starts = [part.start for part in parts]
    gram[:-1, :-1] = np.add.reduceat(np.add.reduceat(N * N, starts, axis=0), starts, axis=1)
    gram[-1, :-1] = gram[:-1, -1] = np.add.reduceat(N.diagonal(), starts)
    gram[-1, -1] = crossprod.n - crossprod.p
    Zty, yty = dense.matrix[: dense.q, -1], dense.matrix[-1, -1]
    right = [*np.add.reduceat(Zty * Zty, starts), yty]
    variances = _solved_if_in_span(gram, blocks, right)
    if variances is None:
        return None
    residual_variance = bounded_residual_variance(crossprod, float(variances[-1]), reml=True)
    return list(variances[:-1, None, None]), residual_variance


def _projected(S: Matrix, q: int) -> Matrix:
    """``Z'PZ``, (q, q), from ``[Z, X, y]'W[Z, X, y]``."""
    if q == len(S) - 1:
        return S[:q, :q]
    XtZ = S[q:-1, :q]
    _, solved, info = dposv(S[q:-1, q:-1], XtZ)
    return S[:q, :q] - XtZ.T @ solved if not info else np.full((q, q), np.nan)


def _solved_if_in_span(
    gram: Matrix, blocks: list[list[Matrix]], right: list[float]
) -> Vector | None:
    """
    Solution of the equations of the Gram matrix with a right side.

    None unless the part of each ``A_i A_j = P Z_i N_ij Z_j'P`` outside of the span is rounding.
    """
    norms, along = [], [right]
    for i, j in itertools.combinations_with_replacement(range(len(blocks)), 2):
        N_ij = blocks[i][j]
        left = [row[i] @ N_ij for row in blocks]
        within = left[i] if i == j else N_ij @ blocks[j][j]
        norms.append(float(np.vdot(left[i], within)))
        # tr(A_i A_j A_k)
        products = [np.vdot(of_k, row[j]) for of_k, row in zip(left, blocks, strict=True)]
        along.append([*products, np.vdot(N_ij, N_ij)])
    columns = np.array(along).T
    _, solved, info = dposv(gram, columns)
    inside = np.add.reduce(columns * solved).tolist()[1:]
    # Negated, so that NaN is outside; a singular Gram matrix has terms that are not identified.
    if info or not all(
        abs(norm - part) <= _ROUNDING * norm for norm, part in zip(norms, inside, strict=True)
    ):
        return None
    return np.asarray(solved[:, 0])
