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

from mixedfx.covariance.parametrization import Coordinates, identity_params, relative_factor
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.linalg.cholesky.batched import matmul, matmul_left, matmul_right, penalized_inverse
from mixedfx.linalg.cholesky.block_matrix import BlockMatrix

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# A start at zero could not leave it (zero is stationary for any data), and one far out is a
# moment estimate gone wrong: relative variances are kept within these bounds.
_SMALLEST, _LARGEST = 0.01, 1e4
# An expected curvature below this share of the largest is not believed.
_FLATTEST = 1e-3
# Two rounds settle balanced crossings and nestings; others need only a rough start.
_SWEEPS = 2


def moment_estimates(crossprod: CrossProducts) -> Vector:
    """
    Estimate theta without iteration.

    Notes
    -----
    With ``b = (A + I)^-1 Z'r`` for the residuals ``r`` that are left by least squares and by
    the other factors, the expectation of ``sum b b'`` is linear in the factor's covariance
    and in sigma**2, and is solved for it: minimum norm quadratic estimation at Lambda = I
    (Rao 1972, J. Am. Stat. Assoc. 67:112), everything else taken as known.
    """
    factors = [_scaled_factor(crossprod, f) for f in crossprod.ZtZ.factors]
    rest, within = _backfit(crossprod, factors)
    if crossprod.sigma is not None:
        within = crossprod.sigma**2
    covariances = [
        _covariance(A, rest[f], within, _inflation(crossprod.ZtZ, f))
        for f, (A, _, _) in enumerate(factors)
    ]
    lambdas = []
    terms = zip(
        crossprod.term_positions,
        crossprod.parametrization.structures,
        crossprod.term_scaling,
        crossprod.column_rms,
        strict=True,
    )
    for position, structure, frame, scale in terms:
        part = slice(position.start, position.start + position.width)
        cov = covariances[position.factor][part, part] / within
        if structure == "diag":
            cov = np.diag(np.diag(cov))
        change = np.linalg.inv(frame) / scale  # from unit root mean squares to the frame
        values, vectors = np.linalg.eigh(change @ cov @ change.T)
        values = np.clip(values, _SMALLEST, _LARGEST)
        lambdas.append(relative_factor((vectors * values) @ vectors.T))
    theta = crossprod.parametrization.to_params(lambdas)
    return theta if np.isfinite(theta).all() else identity_params(crossprod.parametrization)


def _scaled_factor(crossprod: CrossProducts, f: int) -> tuple[Matrix, Matrix, Vector]:
    """Cross-products of a factor with itself and with the residuals, in unit-free columns."""
    A, F = crossprod.ZtZ.diagonal[f], crossprod.ZtXy[f][:, -1]
    scale = np.sqrt(np.einsum("aal->a", A) / crossprod.n)
    return A / (scale[:, None, None] * scale[None, :, None]), F / scale[:, None], scale


def _backfit(
    crossprod: CrossProducts, factors: list[tuple[Matrix, Matrix, Vector]]
) -> tuple[list[Matrix], float]:
    """
    Fit the factors one after the other to what the others leave, nearly without shrinkage.

    Returns what is left for each factor, and the residual variance.
    """
    ZtZ, total = crossprod.ZtZ, float(crossprod.XytXy[-1, -1])
    order = sorted(ZtZ.factors, key=ZtZ.levels)
    loose = [penalized_inverse(A, 1e3 * np.eye(len(A)))[0] for A, _, _ in factors]
    b = [np.zeros_like(F) for _, F, _ in factors]
    rest = [F for _, F, _ in factors]
    for _ in range(_SWEEPS if len(order) > 1 else 1):
        for f in order:
            rest[f] = factors[f][1] - _from_others(crossprod, f, b, factors)
            b[f] = matmul(loose[f], rest[f][:, None])[:, 0]
    # r'r = y'y - b'F - b'(F - A b), all factors together
    left = total
    freedom = float(crossprod.n - crossprod.p)
    for f, (A, F, _) in enumerate(factors):
        others = _from_others(crossprod, f, b, factors)
        own = matmul(A, b[f][:, None])[:, 0]
        left -= float(np.vdot(b[f], F) + np.vdot(b[f], F - own - others))
        freedom -= float((loose[f] * A).sum())
    variance = total / (crossprod.n - crossprod.p)
    within = left / max(freedom, 1.0)
    return rest, min(max(within, 1e-3 * variance), variance)


def _from_others(
    crossprod: CrossProducts,
    f: int,
    b: list[Matrix],
    factors: list[tuple[Matrix, Matrix, Vector]],
) -> Matrix:
    """What the other factors' effects explain of a factor's cross-products with the residuals."""
    ZtZ, out = crossprod.ZtZ, np.zeros_like(b[f])
    for (i, j), c in ZtZ.off_diagonal.items():
        if f not in (i, j):
            continue
        g = j if f == i else i
        mine, theirs = (c.rows, c.cols) if f == i else (c.cols, c.rows)
        values = c.values if f == i else c.values.transpose(1, 0, 2)
        for a in range(len(out)):
            for k in range(len(b[g])):
                unit = factors[f][2][a] * factors[g][2][k]
                moved = values[a, k] * (b[g][k] / unit)[theirs]
                out[a] += np.bincount(mine, moved, ZtZ.levels(f))
    return out


def _inflation(ZtZ: BlockMatrix, f: int) -> float:
    """Make up for the levels that a factor containing ``f``, fitted before it, has used up."""
    L = ZtZ.levels(f)
    outer = [ZtZ.levels(g) for g in ZtZ.factors if g != f and ZtZ.is_nested(f, g)]
    return L / max(L - max([m for m in outer if m < L], default=0), 1)


def _covariance(A: Matrix, F: Matrix, within: float, inflation: float) -> Matrix:
    """Solve the moment equation of one factor for its covariance."""
    k = len(A)
    G = penalized_inverse(A, np.eye(k))[0]
    b = matmul(G, F[:, None])[:, 0]
    GA = matmul(G, A)
    flat = GA.reshape(k * k, -1)
    # sum_l (GA)[a, c] (GA)[b, d], arranged as rows (a, b) and columns (c, d)
    system = (flat @ flat.T).reshape(k, k, k, k).transpose(0, 2, 1, 3).reshape(k * k, k * k)
    noise = within * matmul(GA, G).sum(axis=2)
    cov = np.linalg.lstsq(system, (inflation * (b @ b.T) - noise).ravel(), rcond=None)[0].reshape(
        k, k
    )
    return np.asarray(0.5 * (cov + cov.T))


def _scaled_blocks(crossprod: CrossProducts, t: int) -> Matrix:
    position, frame = crossprod.term_positions[t], crossprod.term_scaling[t]
    part = slice(position.start, position.start + position.width)
    A = crossprod.ZtZ.diagonal[position.factor][part, part]
    return matmul_left(frame.T, matmul_right(A, frame))


def expected_hessian(crossprod: CrossProducts, coordinates: Coordinates, x: Vector) -> Matrix:
    """Expected Hessian of the deviance, each term taken alone."""
    m = coordinates.size
    H, traces = np.zeros((m, m)), np.zeros(m)
    for t, (lam, part) in enumerate(zip(coordinates.lambdas(x), coordinates.slices, strict=True)):
        A = _scaled_blocks(crossprod, t)
        k = len(lam)
        K = A - matmul(matmul(A, penalized_inverse(A, lam)[0]), A)
        flat = K.reshape(k * k, -1)
        KK = (flat @ flat.T).reshape(k, k, k, k)
        D = _directions(coordinates, t, lam)
        DK = np.tensordot(D, KK, axes=([1, 2], [1, 2]))  # (parameters, a, d)
        H[part, part] = np.tensordot(DK, D, axes=([1, 2], [2, 1]))
        traces[part] = np.tensordot(D, K.sum(axis=2), axes=([1, 2], [1, 0]))
    if crossprod.sigma is None:
        H -= np.outer(traces, traces) / crossprod.n
    return is_positive_definite(H)


def is_positive_definite(H: Matrix) -> Matrix:
    """Raise the smallest eigenvalues of an approximate Hessian to a share of the largest."""
    if not len(H):
        return H
    values, vectors = np.linalg.eigh(H)
    values = np.maximum(values, max(_FLATTEST * values[-1], 1e-8))
    return np.asarray((vectors * values) @ vectors.T)


def _directions(coordinates: Coordinates, t: int, lam: Matrix) -> Matrix:
    """Derivative of ``Lambda Lambda'`` by each of a term's parameters, (parameters, k, k)."""
    rows, cols = coordinates.positions[t]
    D = np.zeros((len(rows), *lam.shape))
    for i, (row, col) in enumerate(zip(rows, cols, strict=True)):
        D[i, row] += lam[:, col]
        D[i, :, row] += lam[:, col]
    return D
