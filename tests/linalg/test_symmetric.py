"""Eigenvalues by LAPACK are NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from mixedfx.covariance.unstructured import is_regular
from mixedfx.linalg.symmetric import eigenvalues, eigenvectors


@pytest.mark.parametrize("k", [0, 1, 2, 5])
def test_eigenvalues_and_vectors_are_those_of_numpy(k):
    A = np.random.default_rng(k).normal(size=(k, k))
    A = A + A.T
    upper_is_not_read = np.tril(A) + np.triu(np.full((k, k), 7.0), 1)
    values, vectors = eigenvectors(upper_is_not_read)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(A), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(eigenvalues(upper_is_not_read), values, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose((vectors * values) @ vectors.T, A, atol=1e-12)


def test_a_matrix_is_called_regular_only_if_its_singular_values_are_above_the_tolerance():
    rng = np.random.default_rng(3)
    called = 0
    for _ in range(300):
        k = int(rng.integers(1, 5))
        factor = rng.normal(size=(k, k)) @ np.diag(10.0 ** rng.uniform(-3.0, 1.0, k))
        smallest = np.linalg.svd(factor, compute_uv=False)[-1]
        assert not is_regular(factor, 1.000001 * smallest)
        called += is_regular(factor, 0.01 * smallest)
    assert called > 100


@pytest.mark.parametrize("shape", [(2, 1), (2, 3), (1, 0)])
def test_a_factor_of_another_rank_is_not_regular(shape):
    assert not is_regular(np.ones(shape), 0.0)


def test_a_singular_factor_is_not_regular():
    assert not is_regular(np.array([[1.0, 0.0], [1.0, 1e-9]]), 0.0)
    assert not is_regular(np.zeros((1, 1)), 0.0)
