"""A root of the cross-products of all columns, from which noise is drawn.

Source of truth: the dense matrix ``G = [Z X]'W[Z X]``, its rank by its eigenvalues, and its
pseudoinverse.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from designs import cases
from hypothesis import assume, given
from tiers import examples

from mixedfx.linalg.cholesky import analysis
from mixedfx.linalg.cholesky.root import CovarianceRoot

SIZES = {"leading factors": 0, "dense block": analysis.DENSE_ONLY_SIZE}


@pytest.fixture(autouse=True, scope="module", params=SIZES)
def elimination_order(request):
    """Small designs are one dense block by default; a limit of 0 gives leading factors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis, "DENSE_ONLY_SIZE", SIZES[request.param])
        yield


def root_of(cp):
    return CovarianceRoot.of(
        cp.ZtZ, [ZtXy[:, : cp.p] for ZtXy in cp.ZtXy], cp.XytXy[: cp.p, : cp.p]
    )


def products(cp):
    """G, columns of Z in the elimination order."""
    return np.block(
        [[cp.assembled.sparse_matrix.toarray(), cp.ZtX], [cp.ZtX.T, cp.XytXy[: cp.p, : cp.p]]]
    )


def multiply(root, z):
    x, further, squares = root.multiply(z[: root.symbolic.size], z[root.symbolic.size :])
    return np.concatenate([x, further]), squares


def n_normals(root):
    return root.symbolic.size + root.last.shape[1]


@pytest.mark.cases(2)
@examples(100)
@given(cases())
def test_unit_normals_give_a_root_of_the_products(case):
    root, G = root_of(case.crossprod), products(case.crossprod)
    M = np.array([multiply(root, z)[0] for z in np.eye(n_normals(root))]).reshape(-1, len(G))
    np.testing.assert_allclose(M.T @ M, G, rtol=0, atol=1e-12 * np.abs(G).max())


def scaled(G):
    """G of columns at unit length, and its rank, where rounding does not hide that."""
    size = np.sqrt(np.maximum(np.diag(G), 1e-24 * np.abs(G).max()))
    values = np.linalg.eigvalsh(G / np.outer(size, size))
    assume(not ((np.abs(values) > 1e-14) & (values < 1e-7)).any())
    return size, int((values > 1e-7).sum())


@pytest.mark.cases(2)
@examples(100)
@given(cases())
def test_there_is_a_normal_for_each_independent_column(case):
    root, G = root_of(case.crossprod), products(case.crossprod)
    assert root.rank == scaled(G)[1]
    taken = [multiply(root, z)[1] for z in np.eye(n_normals(root))]
    assert sum(taken) == root.rank


@pytest.mark.cases(2)
@examples(100)
@given(cases())
def test_squares_are_those_of_the_part_in_the_span_of_the_columns(case):
    root, G = root_of(case.crossprod), products(case.crossprod)
    s, squares = multiply(root, np.random.default_rng(1).standard_normal(n_normals(root)))
    size, _ = scaled(G)
    inverse = np.linalg.pinv(G / np.outer(size, size), rcond=1e-10, hermitian=True)
    assert squares == pytest.approx(s / size @ inverse @ (s / size), rel=1e-6)


@pytest.mark.cases(2)
@examples(100)
@given(cases())
def test_the_root_is_the_lower_triangular_one(case):
    # With diagonal entries that are not negative it is the only one: no eigenvectors' signs.
    root = root_of(case.crossprod)
    M = np.array([multiply(root, z)[0] for z in np.eye(n_normals(root))]).T
    assert (np.triu(M, 1) == 0.0).all()
    assert (np.diagonal(M) >= 0.0).all()


@pytest.mark.cases(2)
@examples(60)
@given(cases())
def test_rounding_of_the_products_changes_no_draw(case):
    cp, rng = case.crossprod, np.random.default_rng(1)
    root, p = root_of(cp), cp.p
    noise = [1.0 + 1e-15 * rng.uniform(-1.0, 1.0, A.shape) for A in cp.ZtZ.diagonal]
    for scale in noise:
        scale += scale.transpose(1, 0, 2).copy()
        scale *= 0.5
    blocks = [A * scale for A, scale in zip(cp.ZtZ.diagonal, noise, strict=True)]
    ZtZ = replace(cp.ZtZ, diagonal=tuple(blocks))
    other = CovarianceRoot.of(ZtZ, [ZtXy[:, :p] for ZtXy in cp.ZtXy], cp.XytXy[:p, :p])
    scaled(products(cp))  # assumes that rounding does not hide the rank
    z = rng.standard_normal(n_normals(root))
    (a, s), (b, t) = multiply(root, z), multiply(other, z)
    size = np.sqrt(np.abs(np.diag(products(cp))).max())
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * size)
    assert s == pytest.approx(t, rel=1e-9)
