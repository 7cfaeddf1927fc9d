"""Sparse Cholesky factors against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from mixedfx.linalg.sparse_cholesky import ordering
from mixedfx.linalg.sparse_cholesky.numeric import sparse_factor


def matrix(n, *, density=2.0, seed=0):
    """Symmetric positive definite, with about so many times two entries a row."""
    rng = np.random.default_rng(seed)
    B = sparse.random_array((n, n), density=min(density / n, 1.0), rng=rng)
    return sparse.csr_array(B @ B.T + sparse.eye_array(n))


# No column, some and all of them are left to the dense block.
@pytest.fixture(params=[-1, 3, 64])
def most_neighbours(request, monkeypatch):
    monkeypatch.setattr(ordering, "_MAX_DEGREE", request.param)


@pytest.mark.usefixtures("most_neighbours")
@pytest.mark.parametrize("n", [1, 30, 150])
def test_factor_is_that_of_the_dense_matrix(n):
    A = matrix(n)
    factor, dense = sparse_factor(A), A.toarray()
    rhs = np.random.default_rng(1).normal(size=(n, 3))
    assert factor.log_det == pytest.approx(np.linalg.slogdet(dense)[1], abs=1e-10)
    np.testing.assert_allclose(factor.solve(rhs), np.linalg.solve(dense, rhs), atol=1e-12)
    np.testing.assert_allclose(dense @ factor.solve(rhs), rhs, atol=1e-12)


@pytest.mark.usefixtures("most_neighbours")
@pytest.mark.parametrize("n", [1, 30, 150])
def test_entries_of_the_inverse_are_right_where_the_matrix_has_entries(n):
    A = matrix(n, seed=2)
    factor, entries = sparse_factor(A), sparse.coo_array(A)
    at = factor.symbolic.positions(entries.row.astype(np.intp), entries.col.astype(np.intp))
    expected = np.linalg.inv(A.toarray())[entries.row, entries.col]
    np.testing.assert_allclose(factor.inverse()[at], expected, atol=1e-12)


def test_a_tree_is_eliminated_with_nearly_no_fill():
    n = 1000
    parent = np.array([(i - 1) // 2 for i in range(1, n)])
    edges = sparse.coo_array((np.full(n - 1, -0.2), (np.arange(1, n), parent)), shape=(n, n))
    factor = sparse_factor(sparse.csr_array(edges + edges.T + sparse.eye_array(n)))
    assert factor.symbolic.dense_size == 0
    assert n - 1 <= len(factor.symbolic.keys) < 1.01 * n


def test_entries_that_the_pattern_does_not_have_are_not_found():
    factor = sparse_factor(sparse.csr_array(sparse.eye_array(4)))
    _, known = factor.symbolic.find(np.array([0, 1]), np.array([0, 2]))
    assert known.tolist() == [True, False]


@pytest.mark.usefixtures("most_neighbours")
def test_a_matrix_that_is_not_positive_definite_is_an_error():
    A = matrix(30) - 10.0 * sparse.eye_array(30)
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        sparse_factor(sparse.csr_array(A))
