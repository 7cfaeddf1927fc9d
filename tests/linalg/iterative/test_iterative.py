"""Iterative factorisation beside the exact one: solves to rounding, estimates within errors."""

import itertools

import numpy as np
import pytest
from scipy import sparse

from mixedfx.linalg import threads
from mixedfx.linalg.cholesky.block_matrix import (
    BlockLayout,
    BlockMatrix,
    BlockPattern,
    LevelPairs,
)
from mixedfx.linalg.cholesky.solver import CholeskySolver
from mixedfx.linalg.iterative import block_products, control
from mixedfx.linalg.iterative.conjugate_gradients import conjugate_gradients
from mixedfx.linalg.iterative.solver import IterativeSolver

N = 3000
PROBES = 128
# Standard errors by which an estimate may be off: of some hundred numbers, none by chance.
ERRORS = 5.0


def block_matrix(codes, widths, rng):
    """Z'Z of random columns."""
    codes = [np.unique(c, return_inverse=True)[1] for c in codes]
    Z = [np.column_stack([np.ones(N), rng.normal(size=(N, K - 1))]) for K in widths]
    levels = [int(c.max()) + 1 for c in codes]
    at = np.arange(N)

    def products(i, a, j, b):
        left, right = (
            sparse.csr_array((Z[f][:, e], (at, codes[f])), shape=(N, levels[f]))
            for f, e in ((i, a), (j, b))
        )
        return (left.T @ right).toarray()

    diagonal = tuple(
        np.array(
            [
                [np.bincount(codes[f], Z[f][:, a] * Z[f][:, b], levels[f]) for b in range(K)]
                for a in range(K)
            ]
        )
        for f, K in enumerate(widths)
    )
    pairs, values = {}, {}
    for i, j in itertools.combinations(range(len(codes)), 2):
        counts = sparse.coo_array((np.ones(N), (codes[i], codes[j]))).toarray()
        rows, cols = np.nonzero(counts)
        pairs[i, j] = LevelPairs(rows, cols)
        values[i, j] = np.array(
            [[products(i, a, j, b)[rows, cols] for b in range(widths[j])] for a in range(widths[i])]
        )
    layout = BlockLayout(tuple(widths), tuple(levels))
    return BlockMatrix(BlockPattern(layout, pairs), diagonal, values)


def crossed(rng):
    return [rng.integers(120, size=N), rng.integers(100, size=N)]


def three(rng):
    return [rng.integers(80, size=N), rng.integers(120, size=N), rng.integers(70, size=N)]


def nested_and_crossed(rng):
    student = rng.integers(150, size=N)
    return [student, student // 10, rng.integers(60, size=N)]


def components(rng):
    part = rng.integers(4, size=N)
    return [50 * part + rng.integers(50, size=N), 15 * part + rng.integers(15, size=N)]


def components_with_single_levels(rng):
    part = rng.integers(4, size=N)
    own = 50 * part + rng.integers(50, size=N), 9 * part + rng.integers(9, size=N)
    return [*own, np.minimum(part, 2)]


def nested_among_the_later(rng):
    film = rng.integers(60, size=N)
    return [rng.integers(120, size=N), film, film // 15]


CASES = {
    "crossed": (crossed, (1, 1)),
    "vectors": (crossed, (2, 3)),
    "three": (three, (1, 2, 1)),
    "nested and crossed": (nested_and_crossed, (2, 1, 1)),
    "components": (components, (1, 2)),
    "components with single levels": (components_with_single_levels, (1, 1, 2)),
    "nested among the later": (nested_among_the_later, (1, 1, 2)),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    make, widths = CASES[request.param]
    rng = np.random.default_rng(list(CASES).index(request.param))
    matrix = block_matrix(make(rng), widths, rng)
    lambdas = [0.4 * np.tril(rng.normal(size=(K, K))) for K in widths]
    rhs = [rng.normal(size=(K, 3, L)) for K, L in zip(widths, matrix.layout.n_levels, strict=True)]
    exact = CholeskySolver().factorize(matrix, lambdas)
    ours = IterativeSolver(probes=PROBES).factorize(matrix, lambdas)
    C = 1e4 * np.eye(3)
    return exact.schur_complement(rhs, C), ours.schur_complement(rhs, C)


@pytest.mark.full
@pytest.mark.cases(1)
def test_the_log_determinant_is_within_its_error(case):
    exact, ours = (schur.numeric for schur in case)
    assert 0.0 < ours.log_det_error < 0.02
    assert abs(ours.log_det - exact.log_det) < ERRORS * ours.log_det_error


def test_systems_are_solved_to_rounding(case):
    exact, ours = case
    np.testing.assert_allclose(ours.matrix, exact.matrix, rtol=0, atol=1e-8)
    weights = np.array([0.3, -0.2, 1.0])
    for found, expected in zip(
        ours.back_substitute(weights), exact.back_substitute(weights), strict=True
    ):
        for ours_f, exact_f in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours_f, exact_f, rtol=0, atol=1e-9)


def in_order(factor, parts):
    """Vectors (q, m) of parts (K L, m) of each factor, in the order of elimination."""
    return np.concatenate([parts[f] for f in factor.symbolic.order])


def test_columns_are_solved_to_rounding(case):
    exact, ours = (schur.numeric for schur in case)
    rng = np.random.default_rng(4)
    layout = exact.symbolic.layout
    parts = [rng.normal(size=(layout.size(f), 11)) for f in layout.factors]
    found, expected = ours.solve(in_order(ours, parts)), exact.solve(in_order(exact, parts))
    for f in layout.factors:
        np.testing.assert_allclose(
            found[ours.symbolic.columns(f)],
            expected[exact.symbolic.columns(f)],
            rtol=0,
            atol=1e-9,
        )
    product = ours.assembled.sparse_matrix @ in_order(ours, parts)
    expected = exact.assembled.sparse_matrix @ in_order(exact, parts)
    for f in layout.factors:
        np.testing.assert_allclose(
            product[ours.symbolic.columns(f)], expected[exact.symbolic.columns(f)], atol=1e-9
        )


def test_derivatives_are_within_their_errors(case):
    exact, ours = case
    weights = np.array([0.3, -0.2, 1.0])
    dC = 0.01 * np.outer(weights, weights)
    by_probe = ours.numeric.log_det_derivative_by_probe
    for found, expected, probes in zip(
        ours.derivative(dC), exact.derivative(dC), by_probe, strict=True
    ):
        error = probes.std(axis=2, ddof=1) / np.sqrt(PROBES)
        assert (np.abs(found - expected) < ERRORS * error + 1e-8 * np.abs(expected).max()).all()
        assert error.max() < 0.1  # of a deviance whose curvature is some hundred


def test_covariances_of_levels_are_within_their_errors(case):
    exact, ours = case
    _, errors = ours.numeric.level_covariances
    for f, (found, expected) in enumerate(
        zip(ours.level_covariances(), exact.level_covariances(), strict=True)
    ):
        K = len(expected)
        z = (found - expected)[range(K), range(K)] / (
            errors[f][range(K), range(K)] + 1e-10 * np.abs(expected).max()
        )
        assert np.sqrt((z**2).mean()) < 1.5
        assert np.abs(found - expected).max() < 0.01 * np.abs(expected).max()


@pytest.mark.parametrize("limit", [0.0, 1e9])
def test_control_variates_of_three_factors_have_their_traces(limit, monkeypatch):
    monkeypatch.setattr(control, "_MOST_TRIPLES", limit)
    monkeypatch.setattr(block_products, "_PANEL_ENTRIES", 1000)
    rng = np.random.default_rng(5)
    widths = (1, 2, 2)
    matrix = block_matrix(three(rng), widths, rng)
    lambdas = [0.3 * np.tril(rng.normal(size=(K, K))) for K in widths]
    factor = IterativeSolver(16).factorize(matrix, lambdas)
    variate = control.ControlVariate(factor.operator, factor.deflation)
    # The forms of all unit vectors of the complement add up to the trace.
    unit = factor.deflation.complement(np.eye(factor.operator.size))
    np.testing.assert_allclose(variate.forms(unit).sum(), variate.trace, rtol=1e-9)
    assert variate._has_triples == (limit > 0.0)


def test_more_probes_of_one_seed_include_the_fewer():
    rng = np.random.default_rng(1)
    matrix = block_matrix(crossed(rng), (1, 1), rng)
    lambdas = [0.5 * np.eye(1), 0.6 * np.eye(1)]
    few, many, other = (
        solver.factorize(matrix, lambdas).log_det_estimate.by_probe
        for solver in (IterativeSolver(16), IterativeSolver(32), IterativeSolver(16, seed=1))
    )
    np.testing.assert_array_equal(many[:16], few)
    assert not np.array_equal(other, few)


@pytest.mark.parametrize("more", [22, 30, 64])
def test_more_probes_are_added_to_those_of_the_same_factor(more):
    lambdas = [0.5 * np.eye(1), 0.6 * np.eye(1)]

    def factor_of(before=()):
        rng = np.random.default_rng(1)
        matrix = block_matrix(crossed(rng), (1, 1), rng)
        for probes in before:
            IterativeSolver(probes).factorize(matrix, lambdas).log_det_derivative()
        return IterativeSolver(more).factorize(matrix, lambdas), matrix

    (alone, _), (found, matrix) = factor_of(), factor_of([16, 20])
    assert found.fewer.fewer is not None
    assert found.operator is found.fewer.operator
    assert (found.log_det, found.log_det_error) == (alone.log_det, alone.log_det_error)
    assert len(found.log_det_estimate.by_probe) == -(-more // 8) * 8
    for one, other in zip(found.log_det_derivative(), alone.log_det_derivative(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    # Other signs, and those at other Lambdas, have nothing in common with them.
    assert IterativeSolver(more + 8, seed=1).factorize(matrix, lambdas).fewer is None
    assert IterativeSolver(more + 8).factorize(matrix, lambdas[::-1]).fewer is None


@pytest.mark.full
def test_the_number_of_threads_changes_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    matrix = block_matrix(three(rng), (1, 2, 1), rng)
    lambdas = [0.5 * np.eye(K) for K in (1, 2, 1)]
    found = []
    for processors in (1, 4):
        monkeypatch.setattr(threads, "processors", lambda n=processors: n)
        matrix.cache.clear()
        factor = IterativeSolver(32).factorize(matrix, lambdas)
        found.append((factor.log_det, *factor.log_det_derivative()))
    for one, four in zip(*found, strict=True):
        np.testing.assert_array_equal(one, four)


@pytest.mark.parametrize("zero", [0, 1])
def test_a_lambda_of_zero_leaves_the_other_factor(zero):
    rng = np.random.default_rng(1)
    matrix = block_matrix(crossed(rng), (1, 1), rng)
    lambdas = [0.5 * np.eye(1), 0.5 * np.eye(1)]
    lambdas[zero] = np.zeros((1, 1))
    factor = IterativeSolver(16).factorize(matrix, lambdas)
    other = matrix.diagonal[1 - zero][0, 0]
    np.testing.assert_allclose(factor.log_det, np.log(1.0 + 0.25 * other).sum(), rtol=1e-12)
    np.testing.assert_allclose(factor.log_det_derivative()[zero], 0.0, atol=1e-10)


def test_conjugate_gradients_solve_and_give_quadratic_forms():
    rng = np.random.default_rng(3)
    root = rng.normal(size=(40, 40)) / 10.0
    P = np.eye(40) + root @ root.T
    B = np.column_stack([rng.normal(size=(40, 3)), np.zeros(40)])
    found = conjugate_gradients(lambda v: P @ v, B, tolerance=1e-13, max_iterations=200)
    np.testing.assert_allclose(found.X, np.linalg.solve(P, B), atol=1e-12)
    values, vectors = np.linalg.eigh(P)
    expected = ((vectors.T @ B) ** 2 * np.log(values)[:, None]).sum(axis=0)
    np.testing.assert_allclose(found.quadratic_forms(np.log), expected, rtol=1e-10, atol=1e-14)


def test_conjugate_gradients_that_do_not_converge_raise():
    diagonal = np.logspace(0, 12, 50)[:, None]
    with pytest.raises(np.linalg.LinAlgError, match="after 5 iterations"):
        conjugate_gradients(
            lambda v: diagonal * v, np.ones((50, 1)), tolerance=1e-12, max_iterations=5
        )
