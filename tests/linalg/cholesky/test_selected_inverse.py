"""Solutions with the factorised matrix, and selected entries of its inverse.

Source of truth: dense matrices made from the design's rows, without the package's cross-products
or its factorisation: ``A = Z'WZ`` and ``Lambda (Lambda' A Lambda + I)^-1 Lambda'``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from designs import THETAS, cases
from hypothesis import given
from tiers import but_for, examples

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.linalg.cholesky import analysis, selected_inverse
from mixedfx.linalg.cholesky.numeric import factorize
from mixedfx.linalg.cholesky.selected_inverse import probing_vectors

# The inverse of a matrix whose smallest eigenvalue is one: digits are lost by what the "large"
# thetas make its largest, about 1e5.
DIGITS = 1e-9

many = examples(30)


SIZES = {"leading factors": 0, "dense block": analysis.DENSE_ONLY_SIZE}


@pytest.fixture(autouse=True, scope="module", params=SIZES)
def elimination_order(request):
    """Small designs are one dense block by default; a limit of 0 gives leading factors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis, "DENSE_ONLY_SIZE", SIZES[request.param])
        yield


def dense(design, cp):
    """``A`` from the rows, columns in the elimination order."""
    n, symbolic = design.rows.n, cp.symbolic
    Z = np.zeros((n, symbolic.size))
    for term, position in zip(design.rows.random_terms, cp.term_positions, strict=True):
        L = term.n_levels
        for j in range(position.width):
            column = symbolic.starts[position.group] + (position.start + j) * L + term.codes
            Z[np.arange(n), column] = term.model_matrix[:, j]
    weights = np.ones(n) if design.rows.weights is None else design.rows.weights
    return Z.T @ (weights[:, None] * Z)


def covariance(A, cp, theta):
    """``Lambda (Lambda' A Lambda + I)^-1 Lambda'``."""
    symbolic = cp.symbolic
    Lambda = np.zeros_like(A)
    for f, lam in enumerate(cp.lambdas_by_group(cp.parametrization.lambdas(theta))):
        columns = symbolic.columns(f)
        Lambda[columns, columns] = np.kron(lam, np.eye(symbolic.layout.levels(f)))
    M = Lambda.T @ A @ Lambda + np.eye(len(A))
    return Lambda @ np.linalg.solve(M, Lambda.T)


def factor_of(cp, theta):
    return factorize(cp.assembled, cp.lambdas_by_group(cp.parametrization.lambdas(theta)))


def assert_same(found, expected):
    size = max(1.0, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=DIGITS * size)


# ---------------------------------------------------------------- the matrix and its inverse


@pytest.mark.cases(1)
@many
@given(cases())
def test_matrix_holds_the_cross_products_of_all_columns(case):
    expected = dense(case.design, case.crossprod)
    assert_same(case.crossprod.assembled.sparse_matrix.toarray(), expected)


@pytest.mark.full
@pytest.mark.parametrize("kind", but_for(THETAS, ["ordinary", "some zero", "large"]))
def test_solve_multiplies_by_the_covariance_of_the_effects(kind):
    @examples(12)
    @given(cases(kinds=(kind,)))
    def holds(case):
        A = dense(case.design, case.crossprod)
        rhs = np.random.default_rng(case.seed).normal(size=(len(A), 3))
        expected = covariance(A, case.crossprod, case.theta) @ rhs
        assert_same(factor_of(case.crossprod, case.theta).solve(rhs), expected)

    holds()


@pytest.mark.full
@many
@given(cases())
def test_solve_does_not_change_its_right_hand_sides(case):
    rhs = np.random.default_rng(case.seed).normal(size=(case.crossprod.symbolic.size, 2))
    before = rhs.copy()
    factor_of(case.crossprod, case.theta).solve(rhs)
    np.testing.assert_array_equal(rhs, before)


# ---------------------------------------------------------------- which columns share a vector


def columns_of(probing):
    """Connected component and probing vector of each scalar column."""
    layout, symbolic = probing.symbolic.layout, probing.symbolic
    component, vector = np.empty(symbolic.size, dtype=int), np.empty(symbolic.size, dtype=int)
    for f in layout.factors:
        K, L = layout.width(f), layout.levels(f)
        for a in range(K):
            at = symbolic.starts[f] + a * L + np.arange(L)
            component[at] = probing.component[f]
            vector[at] = probing.first_vector[f] + K * probing.index_in_component[f] + a
    return component, vector


@pytest.mark.cases(1)
@many
@given(cases())
def test_entries_between_components_are_zero(case):
    component, _ = columns_of(probing_vectors(case.crossprod.symbolic))
    inverse = covariance(dense(case.design, case.crossprod), case.crossprod, case.theta)
    assert not inverse[component[:, None] != component].any()


@pytest.mark.cases(1)
@many
@given(cases())
def test_columns_of_one_component_have_different_vectors(case):
    component, vector = columns_of(probing_vectors(case.crossprod.symbolic))
    assert len(set(zip(component.tolist(), vector.tolist(), strict=True))) == len(vector)


@pytest.mark.full
@pytest.mark.parametrize("batch", [1, 40, selected_inverse._BATCH_ENTRIES])
def test_products_hold_every_entry_that_can_be_nonzero(monkeypatch, batch):
    monkeypatch.setattr(selected_inverse, "_BATCH_ENTRIES", batch)

    @examples(12)
    @given(cases())
    def holds(case):
        probing = probing_vectors(case.crossprod.symbolic)
        component, vector = columns_of(probing)
        inverse = covariance(dense(case.design, case.crossprod), case.crossprod, case.theta)
        products = probing.apply(factor_of(case.crossprod, case.theta).solve)
        together = component[:, None] == component
        assert_same(np.where(together, products[:, vector], 0.0), inverse)

    holds()


@pytest.mark.full
@many
@given(cases())
def test_products_have_as_many_entries_as_announced(case):
    probing = probing_vectors(case.crossprod.symbolic)
    products = probing.apply(lambda vectors: vectors)
    assert (products.shape, products.size) == (
        (case.crossprod.symbolic.size, probing.n_vectors),
        probing.n_entries,
    )


# ---------------------------------------------------------------- how many vectors


def probing_of(formula, **columns):
    rng = np.random.default_rng(3)
    n = len(next(iter(columns.values())))
    table = pd.DataFrame({**columns, "y": rng.normal(size=n), "x": rng.normal(size=n)})
    return probing_vectors(compute_crossproducts(build(mfx.parse(formula), table)).symbolic)


@pytest.mark.parametrize(
    ("term", "effects"), [("(1 | g)", 1), ("(x | g)", 2), ("(x | g) + (0 + I(x**2) | g)", 3)]
)
def test_one_factor_needs_a_vector_for_each_effect(term, effects):
    assert probing_of(f"y ~ 1 + {term}", g=np.arange(200) % 40).n_vectors == effects


def test_nested_factors_need_the_most_levels_within_one_outer_level():
    # 6 batches of 2, 2, 2, 2, 2 and 5 casks: a vector for the batches, five for the casks.
    batch = np.repeat([0, 1, 2, 3, 4, 5], [20, 20, 20, 20, 20, 50])
    cask = np.concatenate([np.arange(20) % 2] * 5 + [np.arange(50) % 5])
    assert probing_of("y ~ 1 + (1 | batch/cask)", batch=batch, cask=cask).n_vectors == 1 + 5


def test_crossed_factors_need_a_vector_for_each_column():
    rows = np.arange(120)
    assert probing_of("y ~ 1 + (x | g) + (1 | h)", g=rows % 8, h=rows // 12).n_vectors == 2 * 8 + 10


def test_factors_crossed_within_sites_need_no_more_than_the_largest_site():
    # Two sites, each with raters and papers of its own: 3 by 5 and 2 by 10.
    site = np.repeat([0, 1], [30, 40])
    rater = np.concatenate([np.arange(30) % 3, 3 + np.arange(40) % 2])
    paper = np.concatenate([np.arange(30) // 6, 5 + np.arange(40) // 4])
    found = probing_of("y ~ 1 + (1 | rater) + (1 | paper)", rater=rater, paper=paper, site=site)
    assert found.n_vectors == 3 + 10


def test_no_factors_need_no_vector():
    assert probing_of("y ~ x", g=np.arange(20)).n_vectors == 0
