"""Penalised inverses of levels of many effects, few of which have rows."""

from __future__ import annotations

import numpy as np
import pytest

from mixedfx.linalg.cholesky import batched

K, L = 60, 3


@pytest.mark.parametrize("rows", [0, 1, 10, 60])
def test_inverse_of_few_columns_is_that_of_all(rows):
    rng = np.random.default_rng(rows)
    lam, A = np.tril(rng.normal(size=(K, K))), np.zeros((K, K, L))
    for level in range(L):
        columns = rng.choice(K, rows, replace=False)
        Z = rng.normal(size=(rows + 2, rows))
        A[np.ix_(columns, columns, [level])] = (Z.T @ Z)[:, :, None]
    G, lam_M_inv, log_det = batched.penalized_inverse(A, lam)
    expected = 0.0
    for level in range(L):
        M = lam.T @ A[:, :, level] @ lam + np.eye(K)
        inverse = np.linalg.inv(M)
        np.testing.assert_allclose(lam_M_inv[:, :, level], lam @ inverse, atol=1e-9)
        np.testing.assert_allclose(G[:, :, level], lam @ inverse @ lam.T, atol=1e-9)
        expected += np.linalg.slogdet(M)[1]
    assert log_det == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("k", [3, K])
def test_triangles_are_packed_and_unpacked_alike_at_any_width(k):
    rng = np.random.default_rng(k)
    A = rng.normal(size=(k, k, 2))
    A = A + A.transpose(1, 0, 2)
    packed = batched.pack_symmetric(A).reshape(-1, 2)
    expected = [(0.5 if a == b else 1.0) * A[a, b] for a in range(k) for b in range(a + 1)]
    np.testing.assert_array_equal(packed, expected)
    lower = np.array([A[a, b] for a in range(k) for b in range(a + 1)])
    np.testing.assert_array_equal(batched.unpack_lower(lower, k), A)
