"""Moment estimates of theta, and the expected Hessian of the deviance.

Both use the cross-products of one grouping factor at a time, so that they cost less than one
evaluation of the deviance. For a single factor the estimate is unbiased and the Hessian exact in
expectation; for several they are approximations.

All parameters are those of scaled factors (:mod:`mixedfx.likelihood.scaled`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import all_finite
from mixedfx.covariance.coordinates import Coordinates, concatenate
from mixedfx.covariance.parametrization import identity_params
from mixedfx.estimation.dense_moments import dense_moments
from mixedfx.estimation.minimum_norm import minimum_norm_estimates
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.dense import DenseCrossProducts
from mixedfx.linalg.cholesky.batched import WIDE, matmul, penalized_inverse
from mixedfx.linalg.cholesky.block_matrix import BlockMatrix
from mixedfx.linalg.symmetric import eigenvalues, eigenvectors, solve_or_least_norm

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Bounds of the starting relative variances: zero is a stationary point, and beyond the upper
# bound a moment estimate has failed.
_MIN_VARIANCE, _MAX_VARIANCE = 0.01, 1e4
# Eigenvalues of a Hessian are raised to at least this share of the largest.
_MIN_EIGENVALUE_RATIO = 1e-3
# Backfitting sweeps over several factors: exact for balanced crossed and nested designs.
_SWEEPS = 2
# Relative standard deviation of the effects in backfitting: nearly no shrinkage.
_BACKFITTING_SD = 1e3


@dataclass(frozen=True)
class _FactorMoments:
    """Cross-products of one grouping factor, columns of unit root mean square."""

    ZtZ: Matrix  # (K, K, L)
    Ztr: Matrix  # (K, L) with the least-squares residuals
    rms: Vector  # (K,) root mean squares of the columns


def moment_estimates(
    crossprod: CrossProducts,
    dense: DenseCrossProducts | None = None,
    *,
    reml: bool = True,
    known: tuple[list[Matrix], float] | None = None,
) -> Vector:
    """
    Minimum norm quadratic estimates of theta at Lambda = I, without iteration.

    With ``b = (Z'Z + I)^-1 Z'r``, r the residuals of least squares and of the other factors,
    ``E sum_l b_l b_l'`` is linear in the factor's covariance and in sigma**2, and is solved for
    the former (Rao 1972, J. Am. Stat. Assoc. 67:112). Of a small model, whose dense matrix is
    given, all terms are estimated together, by the criterion. ``known`` are the covariances, and
    the residual variance, where they are at hand.
    """
    if crossprod.has_precision:
        return identity_params(crossprod.parametrization)
    if max(crossprod.ZtZ.layout.widths) >= WIDE:
        return _generic_params(crossprod)
    found = known
    if found is None and dense is not None:
        found = dense_moments(dense, reml=reml)
    if found is None:
        found = _moments_by_factor(crossprod)
    covariances, residual_variance = found
    params = []
    terms = zip(covariances, crossprod.parametrization.terms, strict=True)
    for cov, (structure, at) in terms:
        if structure.invariance == "diagonal":
            cov = np.diag(np.diag(cov))
        params.append(structure.nearest(_bounded(cov / residual_variance), at))
    theta = concatenate(params)
    return theta if all_finite(theta) else identity_params(crossprod.parametrization)


def _bounded(cov: Matrix) -> Matrix:
    """A relative covariance with variances of a starting value, in all directions."""
    if len(cov) == 1:
        return np.minimum(np.maximum(cov, _MIN_VARIANCE), _MAX_VARIANCE)
    least, *_, largest = eigenvalues(cov).tolist()
    if least >= _MIN_VARIANCE and largest <= _MAX_VARIANCE:
        return cov
    values, vectors = eigenvectors(cov)
    values = np.minimum(np.maximum(values, _MIN_VARIANCE), _MAX_VARIANCE)
    return np.asarray((vectors * values) @ vectors.T)


def _moments_by_factor(crossprod: CrossProducts) -> tuple[list[Matrix], float]:
    """Covariance of each term's effects, and the residual variance, one factor after another."""
    if crossprod.ZtZ.within:  # levels that share rows
        found, residual_variance = minimum_norm_estimates(crossprod)
    else:
        moments = [_factor_moments(crossprod, f) for f in crossprod.ZtZ.layout.factors]
        in_units, residual_variance = _level_by_level(crossprod, moments)
        found = [cov / np.outer(m.rms, m.rms) for cov, m in zip(in_units, moments, strict=True)]
    return crossprod.term_blocks(found), _known_or(crossprod, residual_variance)


def _level_by_level(
    crossprod: CrossProducts, moments: list[_FactorMoments]
) -> tuple[list[Matrix], float]:
    """Covariance of each factor's effects in unit columns, and the residual variance."""
    Ztr, residual_variance = _backfit(crossprod, moments)
    variance = _known_or(crossprod, residual_variance)
    covariances = [
        _covariance(m.ZtZ, Ztr[f], variance, _level_inflation(crossprod.ZtZ, f))
        for f, m in enumerate(moments)
    ]
    return covariances, variance


def _known_or(crossprod: CrossProducts, variance: float) -> float:
    """Residual variance where it is known, else an estimate."""
    return variance if crossprod.sigma is None else crossprod.sigma**2


def _generic_params(crossprod: CrossProducts) -> Vector:
    """Theta where moments of all pairs of effects are too many: a covariance of each family."""
    terms = crossprod.parametrization.terms
    return concatenate(structure.generic_params(at) for structure, at in terms)


def _factor_moments(crossprod: CrossProducts, f: int) -> _FactorMoments:
    ZtZ, Ztr = crossprod.ZtZ.diagonal[f], crossprod.ZtXy[f][:, -1]
    rms = np.sqrt(np.einsum("aal->a", ZtZ) / crossprod.n)
    unit_ZtZ = ZtZ / (rms[:, None, None] * rms[None, :, None])
    return _FactorMoments(unit_ZtZ, Ztr / rms[:, None], rms)


def _backfit(crossprod: CrossProducts, moments: list[_FactorMoments]) -> tuple[list[Matrix], float]:
    """
    Backfit the factors to each other's residuals.

    Returns each factor's ``Z'r``, r the residuals of all the others, and the residual variance.
    """
    ZtZ, total = crossprod.ZtZ, float(crossprod.XytXy[-1, -1])
    order = sorted(ZtZ.layout.factors, key=ZtZ.layout.levels)
    inverses = [penalized_inverse(m.ZtZ, _BACKFITTING_SD * np.eye(len(m.ZtZ)))[0] for m in moments]
    b = [np.zeros_like(m.Ztr) for m in moments]
    Ztr = [m.Ztr for m in moments]
    for _ in range(_SWEEPS if len(order) > 1 else 1):
        for f in order:
            Ztr[f] = moments[f].Ztr - _fitted_by_others(crossprod, f, b, moments)
            b[f] = matmul(inverses[f], Ztr[f][:, None])[:, 0]
    # r'r = y'y - b'Z'y - b'(Z'y - Z'Z b), over all factors together
    rss = total
    df = float(crossprod.n - crossprod.p)
    for f, m in enumerate(moments):
        by_others = _fitted_by_others(crossprod, f, b, moments)
        by_itself = matmul(m.ZtZ, b[f][:, None])[:, 0]
        rss -= float(np.vdot(b[f], m.Ztr) + np.vdot(b[f], m.Ztr - by_itself - by_others))
        df -= float((inverses[f] * m.ZtZ).sum())
    variance = total / (crossprod.n - crossprod.p)
    residual_variance = rss / max(df, 1.0)
    return Ztr, min(max(residual_variance, 1e-3 * variance), variance)


def _fitted_by_others(
    crossprod: CrossProducts, f: int, b: list[Matrix], moments: list[_FactorMoments]
) -> Matrix:
    """``sum_g Z_f'Z_g b_g`` over the factors g other than f."""
    ZtZ, out = crossprod.ZtZ, np.zeros_like(b[f])
    for (i, j), block in ZtZ.blocks():
        if f not in (i, j):
            continue
        g = j if f == i else i
        levels_f, levels_g = (block.rows, block.cols) if f == i else (block.cols, block.rows)
        values = block.values if f == i else block.values.transpose(1, 0, 2)
        for batch in ZtZ.pattern.pairs[i, j].batches():
            of_f, of_g = levels_f[batch], levels_g[batch]
            for a in range(len(out)):
                for k in range(len(b[g])):
                    unit = moments[f].rms[a] * moments[g].rms[k]
                    fitted = values[a, k, batch] * (b[g][k] / unit)[of_g]
                    out[a] += np.bincount(of_f, fitted, ZtZ.layout.levels(f))
    return out


def _level_inflation(ZtZ: BlockMatrix, f: int) -> float:
    """``L / (L - m)``, m the levels of the largest factor that contains ``f`` and precedes it."""
    L = ZtZ.layout.levels(f)
    outer = [
        ZtZ.layout.levels(g) for g in ZtZ.layout.factors if g != f and ZtZ.pattern.is_nested(f, g)
    ]
    return L / max(L - max([m for m in outer if m < L], default=0), 1)


def _covariance(ZtZ: Matrix, Ztr: Matrix, residual_variance: float, inflation: float) -> Matrix:
    """
    Covariance of one factor's effects from its moment equation.

    ``sum_l G_l A_l cov A_l G_l = inflation sum_l b_l b_l' - sigma**2 sum_l G_l A_l G_l``, with
    ``A = Z'Z``, ``G = (A + I)^-1``, ``b = G Z'r``.
    """
    k = len(ZtZ)
    G = penalized_inverse(ZtZ, np.eye(k))[0]
    b = matmul(G, Ztr[:, None])[:, 0]
    GA = matmul(G, ZtZ)
    flat = GA.reshape(k * k, -1)
    # sum_l (GA)[a, c] (GA)[b, d], arranged as rows (a, b) and columns (c, d)
    system = (flat @ flat.T).reshape(k, k, k, k).transpose(0, 2, 1, 3).reshape(k * k, k * k)
    noise = residual_variance * matmul(GA, G).sum(axis=2)
    right = (inflation * (b @ b.T) - noise).ravel()
    cov = solve_or_least_norm(system, right).reshape(k, k)
    return np.asarray(0.5 * (cov + cov.T))


def expected_hessian(crossprod: CrossProducts, coordinates: Coordinates, x: Vector) -> Matrix:
    """Expected Hessian of the deviance, each term taken alone, sigma profiled out or known."""
    blocks = [_ZtZ_of(crossprod, t) for t in range(len(crossprod.term_positions))]
    n = crossprod.n if crossprod.profiles_sigma else None
    return expected_hessian_of_blocks(blocks, coordinates, x, n)


def expected_hessian_of_blocks(
    blocks: Sequence[Matrix], coordinates: Coordinates, x: Vector, n: int | None
) -> Matrix:
    """
    Expected Hessian from ``Z_t'WZ_t`` of each term, (k, k, levels).

    ``H_ij = sum_l tr(D_i K_l D_j K_l) - t_i t_j / n``, with ``D_i = d(Lambda Lambda')/dx_i``,
    ``K_l = Z_l' V^-1 Z_l sigma**2`` and ``t_i = sum_l tr(D_i K_l)``; without the last term where
    sigma is known (``n`` None).
    """
    m = coordinates.size
    H, traces = np.zeros((m, m)), np.zeros(m)
    lambdas, jacobians = coordinates.lambdas(x), coordinates.jacobians(x)
    for A, lam, jacobian, part in zip(blocks, lambdas, jacobians, coordinates.slices, strict=True):
        k = len(lam)
        K = A - matmul(matmul(A, penalized_inverse(A, lam)[0]), A)
        half = jacobian @ lam.T
        D = half + half.transpose(0, 2, 1)
        if k >= WIDE:
            H[part, part] = _wide_traces(D, K)
        else:
            flat = K.reshape(k * k, -1)
            KK = (flat @ flat.T).reshape(k, k, k, k)
            pairs = KK.transpose(3, 0, 1, 2).reshape(k * k, k * k)
            flat_D = D.reshape(len(D), k * k)
            H[part, part] = flat_D @ pairs @ flat_D.T
        traces[part] = D.reshape(len(D), k * k) @ K.sum(axis=2).ravel()
    if n is not None:
        H -= np.outer(traces, traces) / n
    return floor_eigenvalues(H)


def _wide_traces(D: Array, K: Array) -> Matrix:
    """``sum_l tr(D_i K_l D_j K_l)`` of few parameters and many effects, level by level."""
    traces = np.zeros((len(D), len(D)))
    for level in range(K.shape[2]):
        DK = D @ K[:, :, level]
        traces += np.tensordot(DK, DK, axes=([1, 2], [2, 1]))
    return traces


def _ZtZ_of(crossprod: CrossProducts, t: int) -> Matrix:
    """``Z_t'W Z_t`` of a term, (k, k, levels)."""
    position = crossprod.term_positions[t]
    part = position.columns
    return np.ascontiguousarray(crossprod.ZtZ.diagonal[position.group][part, part])


def floor_eigenvalues(H: Matrix) -> Matrix:
    """Symmetric matrix with eigenvalues raised to a share of the largest: positive definite."""
    if not len(H):
        return H
    values, vectors = eigenvectors(H)
    values = np.maximum(values, max(_MIN_EIGENVALUE_RATIO * values[-1], 1e-8))
    return np.asarray((vectors * values) @ vectors.T)
