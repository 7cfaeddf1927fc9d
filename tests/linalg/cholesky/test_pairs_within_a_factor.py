"""Block matrices with pairs of levels within a factor, as correlated residuals make them.

Source of truth: the same matrix, dense.
"""

from __future__ import annotations

import numpy as np
import pytest

from mixedfx.linalg.cholesky.assembled import assemble
from mixedfx.linalg.cholesky.block_matrix import BlockLayout, BlockMatrix, BlockPattern, LevelPairs
from mixedfx.linalg.cholesky.inverse_blocks import log_det_derivatives
from mixedfx.linalg.cholesky.numeric import factorize


def problem(levels, widths, rng, n=300):
    """Dense ``Z'QZ`` with Q tridiagonal, its blocks, and where each factor starts."""
    columns = []
    for L, K in zip(levels, widths, strict=True):
        codes = np.append(np.arange(L), rng.integers(0, L, n - L))
        columns += [np.eye(L)[codes] * rng.normal(size=(n, 1)) for _ in range(K)]
    Q = 2.0 * np.eye(n) + 0.5 * np.eye(n, k=1) + 0.5 * np.eye(n, k=-1)
    Z = np.hstack(columns)
    A, starts = Z.T @ Q @ Z, np.cumsum([0, *np.multiply(levels, widths)])
    if len(levels) == 2:  # subjects are within levels of the first factor
        size = starts[1]
        same = np.kron(np.ones((widths[0], widths[0])), np.eye(levels[0]))
        A[:size, :size] = A[:size, :size] * same + 50.0 * np.eye(size)

    def block(f, g, rows, cols):
        return np.array(
            [
                [
                    A[starts[f] + a * levels[f] + rows, starts[g] + b * levels[g] + cols]
                    for b in range(widths[g])
                ]
                for a in range(widths[f])
            ]
        )

    diagonal = tuple(block(f, f, np.arange(L), np.arange(L)) for f, L in enumerate(levels))
    last = len(levels) - 1
    rows, cols = np.tril_indices(levels[last], -1)
    pairs, off = {}, {}
    if last:
        i, j = np.divmod(np.arange(levels[0] * levels[1]), levels[1])
        pairs[0, 1], off[0, 1] = LevelPairs(i, j), block(0, 1, i, j)
    pattern = BlockPattern(BlockLayout(widths, levels), pairs, {last: LevelPairs(rows, cols)})
    return A, BlockMatrix(pattern, diagonal, off, {last: block(last, last, rows, cols)}), starts


@pytest.mark.parametrize(
    ("levels", "widths"), [((30, 6), (2, 2)), ((8, 6), (1, 1)), ((60, 50), (1, 2)), ((9,), (2,))]
)
def test_determinant_and_derivatives_are_those_of_the_dense_matrix(levels, widths):
    rng = np.random.default_rng(1)
    A, blocks, starts = problem(levels, widths, rng)
    lambdas = [np.tril(rng.normal(size=(K, K))) for K in widths]
    numeric = factorize(assemble(blocks), lambdas)
    Lam = np.zeros_like(A)
    for f, (lam, L) in enumerate(zip(lambdas, levels, strict=True)):
        part = slice(starts[f], starts[f + 1])
        Lam[part, part] = np.kron(lam, np.eye(L))
    M = Lam.T @ A @ Lam + np.eye(len(A))
    assert numeric.log_det == pytest.approx(np.linalg.slogdet(M)[1], rel=1e-12)
    G, found = Lam @ np.linalg.inv(M) @ Lam.T, log_det_derivatives(numeric)
    last = len(levels) - 1
    L, K, first = levels[last], widths[last], starts[last]
    own = G[first:, first:].reshape(K, L, K, L).transpose(0, 2, 1, 3)
    rows, cols = np.tril_indices(L, -1)
    levels_ = np.arange(L)
    np.testing.assert_allclose(found.diagonal[last], own[:, :, levels_, levels_], atol=1e-12)
    np.testing.assert_allclose(found.within[last], own[:, :, rows, cols], atol=1e-12)
