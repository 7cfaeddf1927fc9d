"""Prediction variance and leverage, from the joint covariance of fixed and random effects.

Source of truth: the definition. The hat matrix is formed from the textbook's dense V, which
tests/oracle.py computes from the design alone; the joint covariance of ``(beta, b)`` is the
inverse of Henderson's mixed model equations, formed densely; and leverage is a derivative, so
it is compared with the change of the fitted values when a response changes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from designs import THETAS, cases
from hypothesis import given
from hypothesis import strategies as st
from oracle import dense_z, lambdas
from scipy.linalg import block_diag
from tiers import examples

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.residual import ResidualEstimate
from mixedfx.inference.prediction import fitted
from mixedfx.likelihood import prediction_variance as module
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import solve_pls
from mixedfx.likelihood.prediction_variance import (
    PredictionRows,
    leverage,
    prediction_rows,
    prediction_variance,
)
from mixedfx.linalg.cholesky import analysis
from mixedfx.residuals.registry import residual_model

# Rounding is below 1e-12. Elimination loses digits where Lambda is far from one, as it does for
# every quantity of a solution (reasons in tests/likelihood/test_pls.py), and so do the dense forms.
DIGITS, FEWER_DIGITS = 1e-11, 1e-7

many = examples(40)
# Largest number of stored entries, and of right-hand sides that cost less than a reverse pass.
PATHS = {"stored": (60_000_000, np.inf), "row by row": (0, np.inf), "pattern": (0, -1)}
every_path = pytest.mark.parametrize("path", PATHS)


@pytest.fixture(autouse=True, scope="module")
def small_designs_have_leading_factors():
    """Small designs are one dense block by default; here elimination by level is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis, "DENSE_ONLY_SIZE", 0)
        yield


def with_path(path, compute, *, chunk=4_000_000):
    """Compute by only one of the ways to the entries of C, in chunks of so many numbers."""
    with pytest.MonkeyPatch.context() as patch:
        stored, few = PATHS[path]
        patch.setattr(module, "_MAX_STORED", stored)
        patch.setattr(module, "_FEW_VECTORS", few)
        patch.setattr(module, "_CHUNK", chunk)
        return compute()


def fit_at(design, theta, *, reml=True):
    """A fit that ended at a given theta, however bad."""
    reduced = compute_crossproducts(design)
    solution = solve_pls(reduced, np.asarray(theta), reml=reml)
    residual = ResidualEstimate(residual_model(design))
    return FittedModel(design, GaussianLikelihood(reduced, reml), None, solution, (), residual)


def fit_of(case):
    return fit_at(case.design, case.theta, reml=case.reml)


def digits_of(case):
    return FEWER_DIGITS if case.theta_kind == "large" else DIGITS


def dense(fit):
    """Z, the relative covariance C of all effects, and the weights of a fit's rows."""
    design = fit.design
    n = design.rows.n
    Z = np.concatenate([np.zeros((n, 0)), *map(dense_z, design.rows.random_terms)], axis=1)
    roots = zip(design.rows.random_terms, lambdas(design, fit.solution.theta), strict=True)
    relative = [np.kron(np.eye(b.n_levels), lam @ lam.T) for b, lam in roots]
    C = block_diag(*relative) if relative else np.zeros((0, 0))
    return Z, C, np.ones(n) if design.rows.weights is None else design.rows.weights


def hat_matrix(fit):
    """S = X B + Z C Z' V^-1 (I - X B), with B the generalised least-squares coefficients."""
    X = fit.rows.X
    Z, C, w = dense(fit)
    V = np.diag(1.0 / w) + Z @ C @ Z.T
    inverse = np.linalg.inv(V)
    B = np.zeros((0, len(V)))
    if X.shape[1]:
        B = np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    return X @ B + Z @ C @ Z.T @ inverse @ (np.eye(len(V)) - X @ B)


def henderson(fit):
    """Covariance of ``(beta hat - beta, b hat - b)``: the inverse of the equations times sigma^2.

    With ``b = Lambda u`` they need no inverse of a covariance, which may be singular.
    """
    X, (Z, _, w) = fit.rows.X, dense(fit)
    roots = zip(fit.rows.random_terms, lambdas(fit.design, fit.solution.theta), strict=True)
    spread = [np.kron(np.eye(b.n_levels), lam) for b, lam in roots]
    root = block_diag(np.eye(X.shape[1]), *spread) if spread else np.eye(X.shape[1])
    T = np.column_stack([X, Z]) @ root
    penalty = np.diag(np.r_[np.zeros(X.shape[1]), np.ones(Z.shape[1])])
    return fit.solution.sigma**2 * root @ np.linalg.inv(T.T @ (w[:, None] * T) + penalty) @ root.T


def columns_of(fit, rows):
    """``[x, z]`` of given rows, the random effects of a negative level left out."""
    parts = [rows.X]
    for random_term, values, codes in zip(
        fit.rows.random_terms, rows.model_matrices, rows.codes, strict=True
    ):
        known = np.where((codes >= 0)[:, None], values, 0.0)
        parts.append(dense_z(replace(random_term, model_matrix=known, codes=np.maximum(codes, 0))))
    return np.concatenate(parts, axis=1)


def by_henderson(fit, rows):
    columns = columns_of(fit, rows)
    return np.einsum("nc,cd,nd->n", columns, henderson(fit), columns)


def assert_same(found, expected, digits):
    """Compare arrays in the size of their largest entry."""
    size = np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=digits * size)


# ---------------------------------------------------------------- leverage


@pytest.mark.cases(1)
@every_path
@many
@given(case=cases())
def test_leverage_is_the_diagonal_of_the_hat_matrix(path, case):
    fit = fit_of(case)
    found = with_path(path, lambda: leverage(fit.rows, fit.solution))
    # A share of one: its own size is its scale.
    np.testing.assert_allclose(found, np.diag(hat_matrix(fit)), rtol=0, atol=digits_of(case))


@pytest.mark.full
@many
@given(case=cases())
def test_leverage_sums_to_the_trace_of_the_hat_matrix(case):
    # S = T E^-1 T'W with T = [X Z], E the matrix of Henderson's equations: the effective number of
    # parameters is the trace of E^-1 T'WT, in the space of the coefficients.
    fit = fit_of(case)
    X, (Z, _, w) = fit.rows.X, dense(fit)
    both = np.column_stack([X, Z])
    equations = henderson(fit) / fit.solution.sigma**2
    expected = np.trace(equations @ (both.T @ (w[:, None] * both)))
    assert leverage(fit.rows, fit.solution).sum() == pytest.approx(expected, rel=digits_of(case))


@pytest.mark.full
@every_path
@many
@given(case=cases(kinds=[k for k in THETAS if k != "large"]))
def test_leverage_is_between_zero_and_one(path, case):
    found = with_path(path, lambda: leverage(fit_of(case).rows, fit_of(case).solution))
    assert found.min() >= -1e-12
    assert found.max() <= 1 + 1e-12


@pytest.mark.full
@examples(30)
@given(case=cases(kinds=["ordinary", "singular"]), row=st.integers(0, 11))
def test_leverage_is_the_derivative_of_the_fitted_value_by_the_response(case, row):
    # At a given theta fitted values are linear in the response, so a difference is exact.
    fit = fit_of(case)
    y = fit.rows.y.copy()
    y[row] += 1.0
    moved = fit_at(fit.design.with_response(y), case.theta, reml=case.reml)
    difference = fitted(moved)[row] - fitted(fit)[row]
    assert leverage(fit.rows, fit.solution)[row] == pytest.approx(
        difference, abs=DIGITS * np.abs(y).max()
    )


@pytest.fixture(scope="module")
def years():
    """A year, its square and a group: dependent up to 1e-9 of their sizes."""
    rng = np.random.default_rng(8)
    n = 90
    year = rng.integers(1990, 2020, n).astype(float)
    g, h = rng.integers(7, size=n), rng.integers(5, size=n)
    y = 0.1 * year + rng.normal(size=7)[g] + rng.normal(size=5)[h] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "year": year, "g": g, "h": h})


ILL_CONDITIONED = {
    "quadratic": ("y ~ year + I(year**2) + (1 | g)", [0.7]),
    "slopes": ("y ~ year + (year | g) + (1 | h)", [0.7, -3e-4, 1e-4, 0.4]),
    "no random terms": ("y ~ year + I(year**2)", []),
}


@every_path
@pytest.mark.parametrize("name", ILL_CONDITIONED)
def test_leverage_of_nearly_dependent_columns_is_that_of_independent_ones(years, path, name):
    # Leverage depends on what X spans: with years from 2005 it is well conditioned. Of the 16
    # digits a condition number of 1e6 (of X scaled) takes six.
    formula, theta = ILL_CONDITIONED[name]
    fit = fit_at(build(mfx.parse(formula), years), theta)
    assert fit.crossprod.qr_R is not None
    X = np.vander((years["year"] - 2005.0) / 10, fit.crossprod.p)
    near = replace(fit.design, rows=replace(fit.rows, X=X))
    expected = np.diag(hat_matrix(replace(fit, design=near)))
    found = with_path(path, lambda: leverage(fit.rows, fit.solution))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


WITHOUT = {"plain": "y ~ x + z", "weighted": "y ~ x + z", "one column": "y ~ 0 + x"}


@pytest.mark.parametrize("name", WITHOUT)
def test_leverage_without_random_terms_is_that_of_least_squares(name):
    rng = np.random.default_rng(4)
    data = pd.DataFrame(rng.normal(size=(30, 3)), columns=["y", "x", "z"])
    w = rng.uniform(0.2, 5.0, 30) if name == "weighted" else None
    fit = mfx.lmer(WITHOUT[name], data, weights=w).model
    root = np.sqrt(np.ones(30) if w is None else w)[:, None] * fit.rows.X
    # The classic one: X W^1/2 onto its own span, by its orthonormal basis.
    expected = (np.linalg.qr(root)[0] ** 2).sum(axis=1)
    np.testing.assert_allclose(leverage(fit.rows, fit.solution), expected, rtol=1e-10)


def test_leverage_without_any_variance_between_groups_is_that_of_least_squares():
    rng = np.random.default_rng(4)
    data = pd.DataFrame(rng.normal(size=(30, 2)), columns=["y", "x"]).assign(g=np.arange(30) % 5)
    fit = fit_at(build(mfx.parse("y ~ x + (1 | g)"), data), [0.0])
    expected = (np.linalg.qr(fit.rows.X)[0] ** 2).sum(axis=1)
    np.testing.assert_allclose(leverage(fit.rows, fit.solution), expected, rtol=1e-10)


# ---------------------------------------------------------------- the joint covariance


@pytest.mark.full
@every_path
@many
@given(case=cases())
def test_variances_of_the_fits_rows_are_hendersons(path, case):
    fit = fit_of(case)
    rows = prediction_rows(fit.rows)
    found = with_path(path, lambda: prediction_variance(fit.solution, rows))
    assert_same(found, by_henderson(fit, rows), digits_of(case))


def other_rows(case, fit, seed):
    """Rows that the fit has not: any values, any pairs of levels, some of them unknown."""
    rng = np.random.default_rng(seed)
    n = 15
    X = rng.normal(size=(n, fit.crossprod.p))
    values = [rng.normal(size=(n, b.model_matrix.shape[1])) for b in fit.rows.random_terms]
    by_group = {b.group: rng.integers(-1, b.n_levels, n) for b in fit.rows.random_terms}
    return PredictionRows(X, values, [by_group[b.group] for b in fit.rows.random_terms])


@pytest.mark.full
@pytest.mark.cases(1)
@every_path
@many
@given(case=cases(), seed=st.integers(0, 99))
def test_variances_of_other_rows_are_hendersons(path, case, seed):
    # Pairs of levels that no row of the fit has brought together are among them.
    fit = fit_of(case)
    rows = other_rows(case, fit, seed)
    found = with_path(path, lambda: prediction_variance(fit.solution, rows))
    assert_same(found, by_henderson(fit, rows), digits_of(case))


@pytest.mark.full
@examples(20)
@given(case=cases(), seed=st.integers(0, 99))
def test_row_by_row_does_not_depend_on_the_chunks(case, seed):
    fit = fit_of(case)
    rows = other_rows(case, fit, seed)
    whole = with_path("row by row", lambda: prediction_variance(fit.solution, rows))
    parts = with_path("row by row", lambda: prediction_variance(fit.solution, rows), chunk=1)
    assert_same(parts, whole, 1e-12)


@examples(20)
@given(case=cases())
def test_the_fixed_part_alone_has_the_covariance_of_the_coefficients(case):
    fit = fit_of(case)
    rows = prediction_rows(fit.rows)
    no_levels = [np.full(len(rows.X), -1) for _ in rows.codes]
    unknown = PredictionRows(rows.X, rows.model_matrices, no_levels)
    cov = fit.solution.sigma**2 * fit.solution.vcov_unscaled
    expected = np.einsum("np,pq,nq->n", rows.X, cov, rows.X)
    assert_same(prediction_variance(fit.solution, unknown), expected, digits_of(case))


@pytest.mark.full
@every_path
@examples(20)
@given(case=cases(kinds=["ordinary"]), seed=st.integers(0, 99))
def test_a_row_with_a_missing_value_has_no_variance(path, case, seed):
    fit = fit_of(case)
    rows = other_rows(case, fit, seed)
    rows.model_matrices[0][3] = np.nan
    rows.X[5:6] = np.nan
    found = np.isnan(with_path(path, lambda: prediction_variance(fit.solution, rows)))
    known = rows.codes[0][3] >= 0  # a value that is multiplied by no effect is not missed
    assert found[3] == known
    assert found[5] == bool(fit.crossprod.p)
    assert not np.delete(found, [3, 5]).any()


@every_path
def test_crossed_and_nested_factors_take_both_paths_to_hendersons_variances(path):
    # Penicillin is fully crossed, Pastes nested: both with several levels to a part.
    for data, formula in [
        ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
        ("Pastes", "strength ~ 1 + (1 | batch/cask)"),
    ]:
        fit = mfx.lmer(formula, mfx.datasets.load(data)).model
        found = with_path(
            path, lambda fit=fit: prediction_variance(fit.solution, prediction_rows(fit.rows))
        )
        np.testing.assert_allclose(found, by_henderson(fit, prediction_rows(fit.rows)), rtol=1e-9)
