"""Derivatives of the log-determinant by Lambda and by every value of the block matrix.

Source of truth: dense matrices made from random rows without the package's factorisation,
``G = Lambda (Lambda' A Lambda + I)^-1 Lambda'`` and ``dLambda = 2 A Lambda M^-1``, summed over the
levels.
"""

from __future__ import annotations

import numpy as np
import pytest

from mixedfx.linalg.cholesky import analysis
from mixedfx.linalg.cholesky.assembled import assemble
from mixedfx.linalg.cholesky.block_matrix import BlockLayout, BlockMatrix, BlockPattern, LevelPairs
from mixedfx.linalg.cholesky.inverse_blocks import log_det_derivatives
from mixedfx.linalg.cholesky.numeric import factorize
from mixedfx.linalg.cholesky.symbolic import DenseUpdate, PairwiseUpdate, SparseUpdate

DIGITS = 1e-10


def levels(rng, n, L):
    """Random levels of n rows; each occurs."""
    return rng.permutation(np.concatenate([np.arange(L), rng.integers(L, size=n - L)]))


def one(rng):
    return [levels(rng, 40, 9)]


def nested(rng):
    a = levels(rng, 60, 24)
    b = levels(rng, 24, 9)[a]
    return [a, b, levels(rng, 9, 3)[b]]


def reversed_nested(rng):
    return nested(rng)[::-1]


def nested_and_crossed(rng):
    a = levels(rng, 60, 24)
    return [levels(rng, 60, 4), a, levels(rng, 24, 7)[a], levels(rng, 60, 3)]


def crossed(rng):
    return [levels(rng, 50, 14), levels(rng, 50, 5)]


def crossed_with_the_longest_last(rng):
    return [levels(rng, 50, 5), levels(rng, 50, 3), levels(rng, 50, 14)]


def fully_crossed(rng):
    return [np.arange(60) // 5, np.arange(60) % 5]


# Grouping factors; how many lead; the least number of dense columns per pair, and the updates.
LAYOUTS = {
    "one factor": (one, 1, 50.0, type(None)),
    "nested": (nested, 3, 50.0, PairwiseUpdate),
    "nested, outermost first": (reversed_nested, 3, 50.0, PairwiseUpdate),
    "nested and crossed": (nested_and_crossed, 2, 50.0, PairwiseUpdate),
    "crossed, dense": (crossed, 1, np.inf, DenseUpdate),
    "crossed, pairwise": (crossed, 1, 0.0, PairwiseUpdate),
    "fully crossed, dense": (fully_crossed, 1, np.inf, DenseUpdate),
    "longest last, dense": (crossed_with_the_longest_last, 1, np.inf, DenseUpdate),
    "longest last, pairwise": (crossed_with_the_longest_last, 1, 0.0, PairwiseUpdate),
    "dense block only": (crossed_with_the_longest_last, 0, 50.0, None),
}
WIDTHS = {"scalar": [1, 1, 1, 1], "two": [2, 1, 2, 1], "three": [1, 3, 2, 2], "wide": [3, 3, 3, 1]}
LAMBDAS = ["ordinary", "one zero", "singular", "zero"]


class Problem:
    """Random rows, their block matrix, and the dense matrices."""

    def __init__(self, codes, widths, rng):
        self.L = [int(c.max()) + 1 for c in codes]
        self.K, self.codes, factors = widths[: len(codes)], codes, range(len(codes))
        n = len(codes[0])
        self.ends = np.cumsum([0, *(K * L for K, L in zip(self.K, self.L, strict=True))])
        X = [rng.normal(size=(n, K)) for K in self.K]
        Z = np.zeros((n, self.ends[-1]))
        for f in factors:
            for a in range(self.K[f]):
                Z[np.arange(n), self.ends[f] + a * self.L[f] + codes[f]] = X[f][:, a]
        self.Z, pairs = Z, {}
        for f in factors:
            for g in range(f + 1, len(codes)):
                keys = np.unique(codes[f] * self.L[g] + codes[g])
                pairs[f, g] = LevelPairs(keys // self.L[g], keys % self.L[g])
        self.pattern = BlockPattern(BlockLayout(tuple(self.K), tuple(self.L)), pairs)

    def dense(self, weights):
        return self.Z.T @ (weights[:, None] * self.Z)

    def blocks(self, M):
        """Blocks of a dense matrix at the pattern."""
        diagonal = tuple(
            self.block(M, f, f, np.arange(L), np.arange(L)) for f, L in enumerate(self.L)
        )
        pairs = self.pattern.pairs.items()
        return diagonal, {(f, g): self.block(M, f, g, p.rows, p.cols) for (f, g), p in pairs}

    def block(self, M, f, g, rows, cols):
        a, b = np.arange(self.K[f])[:, None, None], np.arange(self.K[g])[None, :, None]
        rows = self.ends[f] + a * self.L[f] + rows
        return M[rows, self.ends[g] + b * self.L[g] + cols]

    def numeric(self, weights, lambdas):
        return factorize(
            assemble(BlockMatrix(self.pattern, *self.blocks(self.dense(weights)))), lambdas
        )

    def expected(self, weights, lambdas):
        """Blocks of G, and the derivatives by each Lambda."""
        A, Lambda = self.dense(weights), np.zeros((self.ends[-1], self.ends[-1]))
        for f, lam in enumerate(lambdas):
            columns = slice(self.ends[f], self.ends[f + 1])
            Lambda[columns, columns] = np.kron(lam, np.eye(self.L[f]))
        M = Lambda.T @ A @ Lambda + np.eye(len(A))
        G = Lambda @ np.linalg.solve(M, Lambda.T)
        by_Lambda = self.blocks(2.0 * A @ Lambda @ np.linalg.inv(M))[0]
        return *self.blocks(G), [block.sum(axis=2) for block in by_Lambda]


def lambdas_of(kind, widths, rng):
    lambdas = [np.tril(rng.normal(size=(K, K))) for K in widths]
    for i, lam in enumerate(lambdas):
        if kind == "zero" or (kind == "one zero" and i == 0):
            lam[:] = 0.0
        if kind == "singular":
            lam[:, rng.integers(len(lam))] = 0.0
    return lambdas


@pytest.fixture(params=LAYOUTS)
def layout(request, monkeypatch):
    codes, leading, advantage, update = LAYOUTS[request.param]
    monkeypatch.setattr(analysis, "DENSE_ONLY_SIZE", 0 if leading else 1000)
    monkeypatch.setattr(analysis, "DENSE_ADVANTAGE", advantage)
    return codes, leading, update


def agree(found, expected):
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=DIGITS * max(1.0, np.abs(expected).max())
    )


def assert_derivatives(problem, weights, lambdas):
    found = log_det_derivatives(problem.numeric(weights, lambdas))
    diagonal, off_diagonal, by_lambda = problem.expected(weights, lambdas)
    for ours, dense in zip(found.diagonal, diagonal, strict=True):
        agree(ours, dense)
    assert found.off_diagonal.keys() == off_diagonal.keys()
    for fg, dense in off_diagonal.items():
        agree(found.off_diagonal[fg], dense)
    for ours, dense in zip(found.by_lambda, by_lambda, strict=True):
        agree(ours, dense)


@pytest.mark.covering(1)
@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("kind", LAMBDAS)
def test_derivatives_are_those_of_the_dense_matrices(layout, widths, kind):
    codes, leading, update = layout
    rng = np.random.default_rng([len(widths), LAMBDAS.index(kind), leading])
    problem = Problem(codes(rng), WIDTHS[widths], rng)
    weights = rng.uniform(0.1, 2.0, size=len(problem.codes[0]))
    assert_derivatives(problem, weights, lambdas_of(kind, problem.K, rng))
    steps = assemble(BlockMatrix(problem.pattern, *problem.blocks(problem.dense(weights)))).symbolic
    assert len(steps.steps) == leading
    if leading:
        assert isinstance(steps.steps[0].update, update)


@pytest.mark.parametrize("widths", WIDTHS)
def test_new_values_of_a_known_pattern_leave_the_earlier_factor_as_it_was(layout, widths):
    rng = np.random.default_rng(5)
    problem = Problem(layout[0](rng), WIDTHS[widths], rng)
    n, lambdas = len(problem.codes[0]), lambdas_of("ordinary", WIDTHS[widths], rng)
    lambdas = lambdas[: len(problem.K)]
    weights, others = rng.uniform(0.1, 2.0, size=(2, n))
    earlier = problem.numeric(weights, lambdas)
    assert_derivatives(problem, others, lambdas)
    found, (_, expected, _) = log_det_derivatives(earlier), problem.expected(weights, lambdas)
    for fg, dense in expected.items():
        agree(found.off_diagonal[fg], dense)


@pytest.mark.parametrize("batch", [1, 100, 10**6])
def test_batches_of_dense_products_change_nothing(layout, batch, monkeypatch):
    monkeypatch.setattr(analysis, "_BATCH_ENTRIES", batch)
    rng = np.random.default_rng(8)
    problem = Problem(layout[0](rng), WIDTHS["wide"], rng)
    weights = rng.uniform(0.1, 2.0, size=len(problem.codes[0]))
    assert_derivatives(problem, weights, lambdas_of("ordinary", problem.K, rng))


@pytest.mark.covering(1)
@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("entries", [1, 40, 10**6])
def test_sparse_products_of_panels_give_the_derivatives(layout, widths, entries, monkeypatch):
    monkeypatch.setattr(analysis, "DENSE_ADVANTAGE", 0.0)
    monkeypatch.setattr(analysis, "MAX_PAIRS", 0)
    monkeypatch.setattr(analysis, "_PANEL_ENTRIES", entries)
    rng = np.random.default_rng(9)
    problem = Problem(layout[0](rng), WIDTHS[widths], rng)
    weights = rng.uniform(0.1, 2.0, size=len(problem.codes[0]))
    assert_derivatives(problem, weights, lambdas_of("ordinary", problem.K, rng))
    steps = assemble(BlockMatrix(problem.pattern, *problem.blocks(problem.dense(weights)))).symbolic
    with_dense = [step for step in steps.steps if step.update is not None]
    assert all(isinstance(s.update, SparseUpdate) == (steps.dense_size > 0) for s in with_dense)


def test_no_factors_have_no_derivatives():
    empty = BlockMatrix(BlockPattern(BlockLayout((), ()), {}), (), {})
    found = log_det_derivatives(factorize(assemble(empty), []))
    assert (found.by_lambda, found.diagonal, dict(found.off_diagonal)) == ((), (), {})


@pytest.mark.parametrize("kind", LAMBDAS)
@pytest.mark.parametrize("width", [1, 2, 3])
def test_levels_that_are_apart_are_solved_alone(width, kind):
    rng = np.random.default_rng(5)
    codes, lambdas = one(rng), lambdas_of(kind, [width], rng)
    problem, weights = Problem(codes, [width], rng), rng.uniform(0.5, 2.0, len(codes[0]))
    numeric = problem.numeric(weights, lambdas)
    assert numeric.levels_are_apart
    rhs = rng.normal(size=(width, problem.L[0]))
    A, Lambda = problem.dense(weights), np.kron(lambdas[0], np.eye(problem.L[0]))
    M = Lambda.T @ A @ Lambda + np.eye(len(A))
    agree(numeric.solve_levels(rhs).ravel(), np.linalg.solve(M, Lambda.T @ rhs.ravel()))
