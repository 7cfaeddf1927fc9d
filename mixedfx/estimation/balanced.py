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

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dposv

from mixedfx.estimation.dense_moments import bounded_residual_variance, projected_products
from mixedfx.likelihood.likelihood import GaussianLikelihood

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

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
    N, starts = projected_products(dense), [part.start for part in dense.columns]
    if N is None:
        return None
    sums = _sums_of_products(N, dense.columns)
    gram = np.empty((len(starts) + 1,) * 2)  # tr(A_i A_j), P last
    gram[:-1, :-1] = sums[0]
    gram[-1, :-1] = gram[:-1, -1] = np.add.reduceat(N.diagonal(), starts)
    gram[-1, -1] = crossprod.n - crossprod.p
    Zty, yty = dense.matrix[: dense.q, -1], dense.matrix[-1:, -1]
    explained = np.concatenate([np.add.reduceat(Zty * Zty, starts), yty])
    variances = _solved_if_in_span(sums, gram, explained)
    if variances is None:
        return None
    residual_variance = bounded_residual_variance(crossprod, float(variances[-1]), reml=True)
    return list(variances[:-1, None, None]), residual_variance


def _sums_of_products(N: Matrix, columns: tuple[slice, ...]) -> Array:
    """
    Sums over the columns of every two of m terms, (m + 2, m, m), of ``N = Z'PZ``.

    They are ``tr(A_i A_j)``, ``|A_i A_j|^2`` and, for each k, ``tr(A_i A_j A_k)``.
    """
    starts, within = [part.start for part in columns], np.zeros(N.shape)
    for part in columns:
        within[part, part] = N[part, part]
    products = [N * N, (within @ N) * (N @ within)]
    products += [(N[:, part] @ N[part]) * N for part in columns]
    return np.add.reduceat(np.add.reduceat(np.array(products), starts, axis=1), starts, axis=2)


def _solved_if_in_span(sums: Array, gram: Matrix, explained: Vector) -> Vector | None:
    """
    Solution of the equations of the Gram matrix with a right side.

    None unless the part of each ``A_i A_j = P Z_i N_ij Z_j'P`` outside of the span is rounding.
    """
    m, norms = sums.shape[1], sums[1]
    right = np.empty((m + 1, m * m + 1))
    right[:m, :-1] = sums[2:].reshape(m * m, m).T  # column by column
    right[m, :-1] = gram[:m, :m].reshape(-1)
    right[:, -1] = explained
    _, solved, info = dposv(gram, right)
    inside = np.add.reduce(right[:, :-1] * solved[:, :-1]).reshape(m, m)
    # Negated, so that NaN is outside; a singular Gram matrix has terms that are not identified.
    if info or not (np.abs(norms - inside) <= _ROUNDING * norms).all():
        return None
    return np.asarray(solved[:, -1])
