"""Memory of the iterative factorisation: that of some vectors, beside the pairs of levels.

Source of truth: the allocations that Python traces.
"""

import tracemalloc

import numpy as np
import pytest

from mixedfx.linalg.cholesky import block_matrix
from mixedfx.linalg.cholesky.block_matrix import BlockLayout, BlockMatrix, BlockPattern, LevelPairs
from mixedfx.linalg.iterative import block_products
from mixedfx.linalg.iterative.solver import IterativeSolver

LEVELS, WIDTHS = (900, 700), (2, 1)


@pytest.mark.full
def test_an_evaluation_allocates_no_array_of_the_size_of_the_pairs(monkeypatch):
    for module in (block_matrix, block_products):
        monkeypatch.setattr(module, "_BATCH", 20_000)
    rng = np.random.default_rng(4)
    rows, cols = (a.astype(np.int32) for a in np.nonzero(rng.random(LEVELS) < 0.9))
    n = len(rows)
    x = rng.normal(size=n)
    pattern = BlockPattern(BlockLayout(WIDTHS, LEVELS), {(0, 1): LevelPairs(rows, cols)})
    own = np.array([[np.ones(n), x], [x, x**2]])
    diagonal = tuple(
        np.array([[np.bincount(codes, v, L) for v in row[:K]] for row in own[:K]])
        for codes, L, K in zip((rows, cols), LEVELS, WIDTHS, strict=True)
    )
    matrix = BlockMatrix(pattern, diagonal, {(0, 1): own[:, :1]})
    solver, lambdas = IterativeSolver(), [0.5 * np.eye(2), np.array([[0.5]])]
    tracemalloc.start()
    try:
        factor = solver.factorize(matrix, lambdas)
        factor.log_det_derivative()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    vectors = 8 * (2 * solver.probes + 100) * factor.symbolic.size
    assert n > 500_000
    assert peak < vectors + 2 * n  # one array of float64 is 8 n
