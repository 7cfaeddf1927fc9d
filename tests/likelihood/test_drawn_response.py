"""Cross-products of a response that is drawn without rows.

Source of truth: those of rows in memory with the same effects and residuals, and the distribution
that sums over such rows have.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from designs import cases
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tiers import examples

import mixedfx as mfx
from mixedfx.likelihood.accumulate import sparse_Z, with_response
from mixedfx.likelihood.coefficient_covariance import combinations_in_basis
from mixedfx.likelihood.drawn_response import DrawnResponses, NoiseProducts, with_drawn_response
from mixedfx.likelihood.drawn_strata import with_residual_products
from mixedfx.likelihood.pls import solve_pls
from mixedfx.likelihood.recentred import recentred
from mixedfx.likelihood.stratified import sum_by_stratum


@examples(60)
@given(cases(kinds=("ordinary",)))
def test_products_of_effects_and_residuals_give_those_of_the_response(case):
    cp, rows, rng = case.crossprod, case.design.rows, np.random.default_rng(7)
    Z, X = sparse_Z(rows, cp), combinations_in_basis(rows.X, cp.qr_R)
    w = np.ones(rows.n) if rows.weights is None else rows.weights
    e, beta = rng.normal(size=rows.n) / np.sqrt(w), rng.normal(size=cp.p)
    layout = cp.ZtZ.layout
    effects = [rng.normal(size=(layout.width(f), layout.levels(f))) for f in layout.factors]
    b = np.zeros(Z.shape[1])
    for f, v in enumerate(effects):
        b[cp.symbolic.columns(f)] = v.ravel()
    noise = NoiseProducts(Z.T @ (w * e), X.T @ (w * e), float(e @ (w * e)))
    found = with_drawn_response(cp, beta, effects, noise)
    offset = 0.0 if rows.offset is None else rows.offset
    y = offset + rows.X @ beta + Z @ b + e
    expected = with_response(cp, rows.replaced(y=y))
    for reml in (False, True):
        one, other = (solve_pls(c, case.theta, reml=reml) for c in (found, expected))
        np.testing.assert_allclose(one.deviance, other.deviance, rtol=1e-10, atol=1e-9)
        np.testing.assert_allclose(one.beta, other.beta, rtol=1e-7, atol=1e-8)
        assert one.sigma == pytest.approx(other.sigma, rel=1e-8)


@examples(40)
@given(case=cases(kinds=("ordinary",)), n_strata=st.integers(1, 4))
def test_products_in_strata_give_the_sums_of_the_response(case, n_strata):
    design, rng = case.design, np.random.default_rng(7)
    rows, codes = design.rows, np.arange(case.design.rows.n) % n_strata
    sums = sum_by_stratum(design, codes)
    cp = sums.plain
    Z, X = sparse_Z(rows, cp), combinations_in_basis(rows.X, cp.qr_R)
    w = np.ones(rows.n) if rows.weights is None else rows.weights
    r, beta = rng.normal(size=rows.n), rng.normal(size=cp.p)
    products = []
    for stratum in range(n_strata):
        wr = np.where(codes == stratum, w * r, 0.0)
        products.append(NoiseProducts(Z.T @ wr, X.T @ wr, float(r @ wr)))
    found = with_residual_products(sums, beta, products)
    offset = 0.0 if rows.offset is None else rows.offset
    y = offset + rows.X @ beta + r
    own = sum_by_stratum(replace(design, rows=rows.replaced(y=y)), codes)
    weights = np.exp(rng.normal(size=n_strata))
    one, other = (recentred(s.reweight(weights)) for s in (found, own))
    for crossprod in (found.plain, one):
        np.testing.assert_allclose(crossprod.XytXy[:-1, -1], 0.0, atol=1e-9 * crossprod.n)
    a, b = (solve_pls(c, case.theta, reml=case.reml) for c in (one, other))
    np.testing.assert_allclose(a.deviance, b.deviance, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(a.beta, b.beta, rtol=1e-6, atol=1e-7)


def drawn(name, n=2000):
    data = mfx.datasets.load(name)
    formulas = {
        "sleepstudy": "Reaction ~ Days + (Days | Subject)",
        "Penicillin": "diameter ~ 1 + (1 | plate) + (1 | sample)",
    }
    cp = mfx.lmer(formulas[name], data).model.crossprod
    responses, rng = DrawnResponses.of(cp), np.random.default_rng(3)
    return cp, responses, [responses.noise(2.0, rng) for _ in range(n)]


@pytest.mark.parametrize("name", ["sleepstudy", "Penicillin"])
def test_residuals_have_as_many_squares_as_rows(name):
    cp, _, noise = drawn(name)
    found = stats.kstest([one.ete / 4.0 for one in noise], stats.chi2(cp.n).cdf)
    assert found.pvalue > 1e-3


@pytest.mark.parametrize("name", ["sleepstudy", "Penicillin"])
def test_sums_of_residuals_have_the_covariance_of_the_columns(name):
    cp, _, noise = drawn(name)
    s = np.array([np.concatenate([one.Zte, one.Xte]) for one in noise]) / 2.0
    G = np.block([[cp.assembled.sparse_matrix.toarray(), cp.ZtX], [cp.ZtX.T, cp.XytXy[:-1, :-1]]])
    n = len(s)
    # Standard errors of a covariance of normals.
    errors = np.sqrt((np.outer(np.diag(G), np.diag(G)) + G**2) / n)
    assert np.abs((s.T @ s / n - G) / errors).max() < 5.0
    assert np.abs(s.mean(axis=0) / np.sqrt(np.diag(G) / n)).max() < 5.0


@pytest.mark.parametrize("name", ["sleepstudy", "Penicillin"])
def test_what_is_left_of_the_squares_is_independent_of_the_sums(name):
    cp, responses, noise = drawn(name)
    G = np.block([[cp.assembled.sparse_matrix.toarray(), cp.ZtX], [cp.ZtX.T, cp.XytXy[:-1, :-1]]])
    inverse = np.linalg.pinv(G, rcond=1e-11, hermitian=True)
    s = np.array([np.concatenate([one.Zte, one.Xte]) for one in noise]) / 2.0
    explained = np.einsum("is,st,it->i", s, inverse, s)
    left = np.array([one.ete / 4.0 for one in noise]) - explained
    rank = responses.root.rank
    assert stats.kstest(explained, stats.chi2(rank).cdf).pvalue > 1e-3
    assert stats.kstest(left, stats.chi2(cp.n - rank).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(explained, left)[0, 1]) < 4.0 / np.sqrt(len(s))
