"""Degrees of freedom: Satterthwaite's, Kenward and Roger's, and the plain ones.

Sources of truth: lmerTest and pbkrtest, through the reference models; the definitions, with dense
matrices of the size of the rows, written down here; theorems on balanced designs, where both
methods are exact; and symmetry.
"""

from __future__ import annotations

import tracemalloc
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from designs import cases
from hypothesis import assume, given
from oracle import dense_z, lambdas
from reference_models import REFERENCES, fit_of, tiered
from scipy import stats
from tiers import examples

import mixedfx as mfx
from mixedfx.design.new_data import evaluate_new_data
from mixedfx.errors import ArgumentError, SingularFitWarning
from mixedfx.estimation.fitted_model import build_fitted_model
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.inference.denominator_df import denominator_df
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import solve_pls
from mixedfx.linalg.cholesky import selected_inverse as probing

# A search ends within 1e-10 of the deviance's minimum, which leaves theta within about 1e-6; a
# standard error inherits that, and degrees of freedom a few times it (measured: 1e-6, 5e-6).
ERROR, DEGREES = 5e-6, 2e-5
# p-values, absolute: 0.25 times t times the error of t.
P_VALUE = 1e-6
# Where the search is not what limits.
CLOSER = Control(tolerance=1e-14)

SATTERTHWAITE, KENWARD_ROGER = "satterthwaite", "kenward-roger"
ADJUSTED = [name for name, r in REFERENCES.items() if r["vcov_kr"]]
every_model = pytest.mark.parametrize("name", tiered(REFERENCES))
every_adjusted_model = pytest.mark.parametrize("name", tiered(ADJUSTED))
both_methods = pytest.mark.parametrize("method", [SATTERTHWAITE, KENWARD_ROGER])


def table(fit, method=SATTERTHWAITE):
    return fit.tidy(df_method=method).set_index("term")


# ---------------------------------------------------------------- lmerTest and pbkrtest


@every_model
def test_satterthwaites_tests_match_lmertest(name):
    expected = REFERENCES[name].fixed
    found = table(fit_of(name, "profiled")).loc[expected.index]
    close = np.testing.assert_allclose
    close(found["df"], expected["df_satterthwaite"], rtol=DEGREES)
    close(found["statistic"], expected["t"], rtol=ERROR)
    close(found["p_value"], expected["p_satterthwaite"], rtol=0, atol=P_VALUE)


@every_adjusted_model
def test_kenward_rogers_tests_match_pbkrtest(name):
    expected = REFERENCES[name].fixed
    found = table(fit_of(name, "profiled"), KENWARD_ROGER).loc[expected.index]
    close = np.testing.assert_allclose
    close(found["df"], expected["df_kr"], rtol=DEGREES)
    close(found["std_error"], expected["se_kr"], rtol=ERROR)
    close(found["statistic"], expected["t_kr"], rtol=ERROR)
    close(found["p_value"], expected["p_kr"], rtol=0, atol=P_VALUE)


@every_adjusted_model
def test_adjusted_covariance_matches_pbkrtest(name):
    fit, reference = fit_of(name, "profiled").model, REFERENCES[name]
    names = reference.fixed_names
    expected = pd.DataFrame(reference["vcov_kr"], names, names)
    found = pd.DataFrame(denominator_df(fit, KENWARD_ROGER).cov, fit.spec.X_names, fit.spec.X_names)
    # As a correlation matrix would be compared: a covariance may be zero.
    se = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(
        found.loc[names, names] / np.outer(se, se),
        expected / np.outer(se, se),
        rtol=0,
        atol=2 * ERROR,
    )


def test_enough_reference_models_are_adjusted():
    # Every REML fit but those with weights, which pbkrtest ignores.
    reml = [n for n, r in REFERENCES.items() if r["REML"] and not r["weights"]]
    assert reml == ADJUSTED


# ---------------------------------------------------------------- Satterthwaite, by definition

MODELS = {
    "intercepts": "y ~ x + (1 | g)",
    "slopes": "y ~ x + (x | g)",
    "uncorrelated": "y ~ x + (x || g)",
    "two terms": "y ~ x + (1 | g) + (0 + x | h)",
    "crossed": "y ~ x + arm + (1 | g) + (1 | h)",
    "crossed slopes": "y ~ x + arm + (x | g) + (1 | h)",
    "nested": "y ~ arm + (1 | g/k)",
    "no intercept": "y ~ 0 + arm + (0 + x | g)",
}


@pytest.fixture(scope="module")
def strong():
    """Random effects larger than the noise: the optimum of every model below is interior."""
    rng = np.random.default_rng(34)
    n = 84
    g, h = rng.permutation(np.arange(n) % 8), rng.permutation(np.arange(n) % 6)
    k, x = rng.integers(3, size=n), rng.normal(size=n)
    y = (
        2.0
        + 1.5 * rng.normal(size=8)[g]
        + 1.5 * rng.normal(size=8)[g] * x
        + 1.5 * rng.normal(size=6)[h]
        + 1.5 * rng.normal(size=6)[h] * x
        + 1.5 * rng.normal(size=(8, 3))[g, k]
        + rng.normal(size=n)
    )
    arm = rng.permutation(np.resize(["a", "b", "c"], n))
    weights = rng.uniform(0.3, 3.0, size=n)
    return pd.DataFrame({"y": y, "x": x, "g": g, "h": h, "k": k, "arm": arm, "w": weights})


def marginal(design, parameters):
    """Covariance of the rows, from theta and sigma."""
    theta, sigma = parameters[:-1], parameters[-1]
    weights = np.ones(design.rows.n) if design.rows.weights is None else design.rows.weights
    V = np.diag(1.0 / weights)
    for random_term, lam in zip(design.rows.random_terms, lambdas(design, theta), strict=True):
        Z = dense_z(random_term)
        V = V + Z @ np.kron(np.eye(random_term.n_levels), lam @ lam.T) @ Z.T
    return sigma**2 * V


def deviance(design, parameters, *, reml):
    """-2 log-likelihood but for its constant, sigma not profiled: Searle et al., section 6.6."""
    inverse = np.linalg.inv(marginal(design, parameters))
    information = design.rows.X.T @ inverse @ design.rows.X
    rest = design.rows.response_less_offset - design.rows.X @ np.linalg.solve(
        information, design.rows.X.T @ inverse @ design.rows.response_less_offset
    )
    value = -np.linalg.slogdet(inverse)[1] + rest @ inverse @ rest
    return value + (np.linalg.slogdet(information)[1] if reml else 0.0)


def variance(design, parameters, row):
    """Variance of a combination of the fixed effects."""
    inverse = np.linalg.inv(marginal(design, parameters))
    return row @ np.linalg.solve(design.rows.X.T @ inverse @ design.rows.X, row)


STENCIL = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}  # fourth order


def slopes(function, at, steps):
    """First derivatives."""
    moved = [[c * function(at + k * e) for k, c in STENCIL.items()] for e in np.diag(steps)]
    return np.sum(moved, axis=1) / steps


def curvatures(function, at, steps):
    """Second derivatives: the stencil in two directions."""
    H = np.empty((len(at), len(at)))
    for i, e in enumerate(np.diag(steps)):
        for j, f in enumerate(np.diag(steps)[: i + 1]):
            terms = [
                a * b * function(at + k * e + m * f)
                for (k, a), (m, b) in product(STENCIL.items(), repeat=2)
            ]
            H[i, j] = H[j, i] = sum(terms) / (steps[i] * steps[j])
    return H


def satterthwaites(fit, rows):
    """Two times the squared variance over the variance of the variance; lmerTest's equation."""
    at = np.append(fit.solution.theta, fit.solution.sigma)
    steps = 4e-3 * np.maximum(np.abs(at), 0.3)
    H = curvatures(lambda p: deviance(fit.design, p, reml=fit.reml), at, steps)
    found = []
    for row in rows:
        g = slopes(lambda p, row=row: variance(fit.design, p, row), at, steps)
        f = variance(fit.design, at, row)
        found.append(2 * f**2 / (g @ np.linalg.solve(H / 2, g)))
    return found


@pytest.mark.full
@pytest.mark.covering(1)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("reml", [True, False], ids=["reml", "ml"])
@pytest.mark.parametrize("weights", [None, "w"], ids=["unweighted", "weighted"])
def test_satterthwaites_degrees_of_freedom_are_those_of_the_definition(
    strong, model, reml, weights
):
    fit = mfx.lmer(
        MODELS[model], strong, reml=reml, weights=weights, engine="profiled", control=CLOSER
    )
    assert not fit.is_singular  # else the definition has no answer
    p = fit.model.crossprod.p
    rows = np.vstack([np.eye(p), np.arange(1.0, p + 1)])
    # Differences: steps of 4e-3 to the fourth power, and rounding of 1e-12 over their square.
    np.testing.assert_allclose(fit.t_test(rows)["df"], satterthwaites(fit.model, rows), rtol=1e-5)


# ---------------------------------------------------------------- Kenward-Roger, by definition


def at_given_theta(case):
    """A REML fit at a case's theta, which need not be the optimum: the formulas hold anywhere."""
    claim = solve_pls(case.crossprod, case.theta, reml=True).deviance
    search = OptimizerResult(case.theta, "drawn", 1, True, "", claim)
    return build_fitted_model(case.design, GaussianLikelihood(case.crossprod, True), search)


class Adjusted(NamedTuple):
    Phi: np.ndarray
    cov: np.ndarray
    P: np.ndarray
    W: np.ndarray
    known: np.ndarray  # eigenvalues of the information on the variances, free of units


def kenward_rogers(fit):
    """
    Kenward and Roger (1997), equations 2 to 6, with matrices of the size of the rows.

    ``V`` is linear in the residual variance and the (co)variances of the effects, so their ``R``
    is zero.
    """
    design, X, n = fit.design, fit.rows.X, fit.rows.n
    weights = np.ones(n) if design.rows.weights is None else design.rows.weights
    S = [np.diag(1.0 / weights)]
    for spec, random_term, lam in zip(
        design.spec.random_terms, design.rows.random_terms, fit.solution.lambdas, strict=True
    ):
        Z, levels = dense_z(random_term), np.eye(random_term.n_levels)
        for col in range(len(lam)):
            below = [col] if spec.formula_term.structure == "diag" else range(col, len(lam))
            for row in below:
                E = np.zeros_like(lam)
                E[row, col] = E[col, row] = 1.0
                S.append(Z @ np.kron(levels, E) @ Z.T)
    V = marginal(design, np.append(fit.solution.theta, fit.solution.sigma))
    inverse = np.linalg.inv(V)
    Phi = np.linalg.inv(X.T @ inverse @ X)
    halves = [inverse @ s for s in S]
    P = np.array([-X.T @ a @ inverse @ X for a in halves])
    Q = np.array([[X.T @ a @ b @ inverse @ X for b in halves] for a in halves])
    traces = np.array([[np.sum(a * b.T) for b in halves] for a in halves])
    PPhi = P @ Phi
    information = 0.5 * (
        traces - 2.0 * np.einsum("ab,ijba->ij", Phi, Q) + np.einsum("iab,jba->ij", PPhi, PPhi)
    )
    size = np.sqrt(np.diag(information))
    size[size < 1e-9 * size.max()] = size.max()  # of a variance that REML knows nothing of
    unit_free = information / np.outer(size, size)
    known = np.linalg.eigvalsh(unit_free)
    W = np.linalg.pinv(unit_free, rcond=1e-10, hermitian=True) / np.outer(size, size)
    bracket = np.einsum("ij,ijab->ab", W, Q) - np.einsum("ij,iab,jbc->ac", W, PPhi, P)
    return Adjusted(Phi, Phi + 2.0 * Phi @ bracket @ Phi, P, W, known)


def drawn_definition(case):
    """The definition for a case, unless its variances can nearly, but not quite, be told apart."""
    fit = at_given_theta(case)
    expected = kenward_rogers(fit)
    # At large thetas fewer digits are left, and what is unknown cannot be told from rounding.
    unknown = 0.0 if case.theta_kind == "large" else 1e-13
    known = np.abs(expected.known)
    assume(not ((known > unknown) & (known < 1e-5)).any())
    return denominator_df(fit, KENWARD_ROGER), expected


def scale_and_degrees(Phi, P, W, L):
    """Scale of the F statistic and its denominator's degrees of freedom: their section 3."""
    q = len(L)
    Theta = L.T @ np.linalg.solve(L @ Phi @ L.T, L)
    parts = Theta @ Phi @ P @ Phi
    traces = np.trace(parts, axis1=1, axis2=2)
    A1 = traces @ W @ traces
    A2 = np.einsum("ij,iab,jba->", W, parts, parts)
    B = (A1 + 6 * A2) / (2 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    c1, c2, c3 = np.array([g, q - g, q + 2 - g]) / (3 * q + 2 * (1 - g))
    low, high, twice = 1 - A2 / q, 1 - c2 * B, 1 - c3 * B
    assume(min(abs(low), abs(high), abs(twice)) > 1e-3)  # far from the formula's poles
    mean = 1 / low
    spread = (2 / q) * (1 + c1 * B) / (high**2 * twice)
    rho = spread / (2 * mean**2)
    assume(abs(q * rho - 1) > 1e-3)
    df = 4 + (q + 2) / (q * rho - 1)
    assume(abs(df - 2) > 1e-2)
    return df / (mean * (df - 2)), df


many = examples(80)
with_fixed_effects = cases(fixed=("1", "x", "0 + x", "x + z + c"))


@pytest.mark.full
@many
@given(with_fixed_effects)
def test_adjusted_covariance_is_that_of_the_definition(case):
    how, expected = drawn_definition(case)
    scale = np.sqrt(np.outer(np.diag(expected.Phi), np.diag(expected.Phi)))
    largest = max(1.0, np.abs(expected.cov / scale).max())
    # Measured: 7e-10. As in likelihood/test_pls.py, elimination loses more at thetas of up to 30.
    digits = 1e-6 if case.theta_kind == "large" else 1e-8
    np.testing.assert_allclose(how.cov / scale, expected.cov / scale, rtol=0, atol=digits * largest)


@pytest.mark.full
@many
@given(with_fixed_effects)
def test_degrees_of_freedom_of_each_coefficient_are_those_of_the_definition(case):
    how, by = drawn_definition(case)
    for row in np.eye(len(by.Phi)):
        expected = scale_and_degrees(by.Phi, by.P, by.W, row[None])[1]
        assert how.t_df(row) == pytest.approx(expected, rel=1e-7)


@pytest.mark.full
@many
@given(cases(fixed=("x", "x + z + c")))
def test_joint_tests_are_those_of_the_definition(case):
    how, by = drawn_definition(case)
    L = np.random.default_rng(case.seed).normal(size=(len(by.Phi), len(by.Phi)))[1:]
    expected = scale_and_degrees(by.Phi, by.P, by.W, L)
    np.testing.assert_allclose(how.f_scale_and_df(L), expected, rtol=1e-6)


def test_weights_count_in_kenward_rogers_adjustment(strong):
    # pbkrtest leaves them out.
    fit = mfx.lmer("y ~ x + (x | g)", strong, weights="w", engine="profiled").model
    found = denominator_df(fit, KENWARD_ROGER).cov
    np.testing.assert_allclose(found, kenward_rogers(fit).cov, rtol=1e-9)


# ---------------------------------------------------------------- theorems


def one_way(batches, ratio, rows=10, seed=5):
    """A balanced one-way layout whose REML estimate of sd(batch) over sigma is ``ratio``."""
    rng = np.random.default_rng(seed)
    batch = np.repeat(np.arange(batches), rows)
    within = rng.normal(size=(batches, rows))
    within -= within.mean(axis=1, keepdims=True)
    within /= np.sqrt((within**2).sum() / (batches * (rows - 1)))
    between = rng.normal(size=batches)
    between = (between - between.mean()) / between.std(ddof=1)
    y = 10.0 + between[batch] * np.sqrt(ratio**2 + 1.0 / rows) + within.ravel()
    return pd.DataFrame({"y": y, "batch": batch})


@pytest.mark.covering(1)
@pytest.mark.parametrize("batches", [2, 3, 4, 5, 6, 12])
@pytest.mark.parametrize("ratio", [0.3, 1.0, 8.0])
def test_kenward_roger_is_exact_for_a_balanced_one_way_layout(batches, ratio):
    # The mean of b batches is a t statistic with b - 1 degrees of freedom.
    fit = mfx.lmer("y ~ 1 + (1 | batch)", one_way(batches, ratio), engine="profiled")
    assert table(fit, KENWARD_ROGER)["df"].item() == pytest.approx(batches - 1, rel=1e-10)


@pytest.mark.covering(1)
@pytest.mark.parametrize("batches", [2, 3, 4, 5, 6, 12])
@pytest.mark.parametrize("ratio", [0.3, 1.0, 8.0])
def test_a_balanced_one_way_layout_needs_no_adjustment(batches, ratio):
    fit = mfx.lmer("y ~ 1 + (1 | batch)", one_way(batches, ratio), engine="profiled")
    expected = fit.bse.item() ** 2
    assert denominator_df(fit.model, KENWARD_ROGER).cov.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.covering(1)
@pytest.mark.parametrize("batches", [2, 3, 4, 5, 6, 12])
@pytest.mark.parametrize("ratio", [0.3, 1.0, 8.0])
def test_the_scale_of_an_exact_test_is_one(batches, ratio):
    # Two and four degrees of freedom are poles of the general formula.
    fit = mfx.lmer("y ~ 1 + (1 | batch)", one_way(batches, ratio), engine="profiled")
    factor, _ = denominator_df(fit.model, KENWARD_ROGER).f_scale_and_df(np.ones((1, 1)))
    assert factor == pytest.approx(1.0, rel=1e-10)


@pytest.mark.parametrize("ratio", [8.0, 1.0, 0.1, 0.01, 1e-3])
def test_satterthwaite_is_exact_for_a_balanced_one_way_layout_of_any_variance(ratio):
    # The deviance flattens as the fourth power: even at a tolerance of 1e-14 the search leaves
    # 4e-4 of the smallest of these.
    data = one_way(20, ratio)
    fit = mfx.lmer("y ~ 1 + (1 | batch)", data, engine="profiled", control=CLOSER)
    assert table(fit)["df"].item() == pytest.approx(19, rel=1e-3 if ratio < 0.01 else 1e-4)


def treatments_of_batches(method, arms, more):
    """Batches treated as a whole, ``more`` than there are treatments, and the F test of these."""
    data = one_way(arms + more, 2.0)
    data = data.assign(arm=data["batch"] % arms)
    fit = mfx.lmer("y ~ C(arm) + (1 | batch)", data, engine="profiled", control=CLOSER)
    terms = ", ".join(f"{name} = 0" for name in fit.params.index[1:])
    found = fit.wald_test(terms, df_method=method)
    return data, found


@pytest.mark.full
@pytest.mark.covering(2)
@both_methods
@pytest.mark.parametrize("more", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("arms", [2, 3, 4])
def test_both_are_exact_for_treatments_of_whole_batches(method, arms, more):
    # An analysis of variance of the batches' means: b batches less a treatments.
    _, found = treatments_of_batches(method, arms, more)
    assert found["den_df"] == pytest.approx(more, rel=1e-6)


@pytest.mark.full
@pytest.mark.covering(2)
@both_methods
@pytest.mark.parametrize("more", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("arms", [2, 3, 4])
def test_treatments_of_whole_batches_are_tested_as_by_the_batches_means(method, arms, more):
    data, found = treatments_of_batches(method, arms, more)
    means = data.groupby("batch", as_index=False).mean()
    expected = stats.f_oneway(*(m["y"] for _, m in means.groupby("arm")))
    np.testing.assert_allclose(found[["F", "p_value"]], expected, rtol=1e-6)


@pytest.mark.full
@pytest.mark.covering(1)
@pytest.mark.parametrize("more", [2, 4])
@pytest.mark.parametrize("arms", [2, 3, 5])
def test_kenward_roger_is_exact_at_the_poles_of_its_formula(arms, more):
    # At two degrees of freedom it is 0 / 0, at four 1 / 0: what comes out is decided by rounding,
    # which differs from one data set to the next.
    found = []
    for seed in range(40):
        data = one_way(arms + more, 20.0, seed=seed)
        fit = mfx.lmer("y ~ C(batch % arms) + (1 | batch)", data, engine="profiled")
        found.append(denominator_df(fit.model, KENWARD_ROGER).f_scale_and_df(np.eye(arms)[1:]))
    np.testing.assert_allclose(found, [(1.0, more)] * len(found), rtol=1e-9)


@pytest.mark.covering(2)
@both_methods
@pytest.mark.parametrize("left", [1, 2, 3, 4, 5, 30])
@pytest.mark.parametrize("reml", [True, False])
def test_without_random_terms_both_count_rows_less_fixed_effects(method, left, reml):
    rng = np.random.default_rng(left)
    data = pd.DataFrame({"y": rng.normal(size=left + 2), "x": rng.normal(size=left + 2)})
    fit = mfx.lmer("y ~ x", data, reml=reml)
    np.testing.assert_allclose(table(fit, method)["df"], left, rtol=1e-12)


@pytest.mark.covering(1)
@both_methods
@pytest.mark.parametrize("left", [1, 2, 3, 4, 5, 30])
def test_without_random_terms_joint_tests_have_the_same_degrees_of_freedom(method, left):
    rng = np.random.default_rng(left)
    data = pd.DataFrame({"y": rng.normal(size=left + 2), "x": rng.normal(size=left + 2)})
    found = mfx.lmer("y ~ x", data).wald_test("x = 0, Intercept = 0", df_method=method)
    assert found["den_df"] == pytest.approx(left, rel=1e-9)


def test_joint_tests_with_an_axis_of_two_or_fewer_degrees_of_freedom_have_two():
    # Where a squared t has no mean, Fai and Cornelius have no answer; lmerTest gives two.
    data = one_way(2, 5.0).assign(x=np.sin(np.arange(20)))
    fit = mfx.lmer("y ~ x + (1 | batch)", data, engine="profiled")
    assert table(fit)["df"].min() < 1.1 < 10 < table(fit)["df"].max()
    assert fit.wald_test("Intercept = 0, x = 0")["den_df"] == 2.0


# ---------------------------------------------------------------- the boundary


def singular_fit(formula, data, **options):
    with pytest.warns(SingularFitWarning):
        return mfx.lmer(formula, data, engine="profiled", control=CLOSER, **options)


@pytest.fixture(scope="module")
def without_days(strong):
    """Rows whose day means, and slopes by site, are less than chance: two variances of zero."""
    data = strong.assign(day=strong["h"], site=strong["g"], v=np.cos(np.arange(len(strong))))
    y = data["y"] - data.groupby("day")["y"].transform("mean")
    along = (y * data["v"]).groupby(data["site"]).sum() / (data["v"] ** 2).groupby(
        data["site"]
    ).sum()
    return data.assign(y=y - data["v"] * data["site"].map(along))


ZERO = {  # with the term, without it
    "intercepts": ("y ~ x + (1 | site) + (1 | day)", "y ~ x + (1 | site)", "sd(Intercept | day)"),
    "slopes": ("y ~ x + (1 + v || site)", "y ~ x + (1 | site)", "sd(v | site)"),
}


@pytest.mark.parametrize("reml", [True, False], ids=["reml", "ml"])
@pytest.mark.parametrize("case", ZERO)
def test_a_term_of_zero_variance_counts_for_nothing(without_days, case, reml):
    formula, smaller, _ = ZERO[case]
    found = singular_fit(formula, without_days, reml=reml)
    expected = mfx.lmer(smaller, without_days, reml=reml, engine="profiled", control=CLOSER)
    assert not expected.is_singular
    np.testing.assert_allclose(table(found)["df"], table(expected)["df"], rtol=1e-6)


@pytest.mark.parametrize(("method", "expected"), [("reml", 29), ("ml", 30)])
def test_with_all_variances_zero_the_rows_are_counted(method, expected):
    # As in the reference: n less the fixed effects under REML, n under maximum likelihood.
    fit = fit_of(f"dyestuff2__{method}", "profiled")
    assert table(fit)["df"].item() == pytest.approx(expected, rel=1e-9)


@both_methods
@pytest.mark.parametrize("name", [n for n, r in REFERENCES.items() if r["singular"] and r["REML"]])
def test_tests_of_singular_fits_are_finite(name, method):
    assert np.isfinite(table(fit_of(name, "profiled"), method)).all(axis=None)


@pytest.mark.parametrize("case", ZERO)
def test_summary_says_that_degrees_of_freedom_are_a_limit(without_days, case):
    formula, _, zero = ZERO[case]
    notes = singular_fit(formula, without_days).summary().notes
    assert any("limit on the boundary" in note and zero in note for note in notes)


def test_summary_says_so_of_satterthwaites_only(without_days):
    fit = singular_fit(ZERO["intercepts"][0], without_days)
    notes = fit.summary(df_method=KENWARD_ROGER).notes
    assert not any("limit on the boundary" in note for note in notes)


@every_model
def test_only_singular_fits_have_a_remark_on_degrees_of_freedom(name):
    fit = fit_of(name, "profiled")
    assert (denominator_df(fit.model, SATTERTHWAITE).remark is not None) == fit.is_singular


# ---------------------------------------------------------------- symmetry

BASE = "y ~ x + arm + (x | g) + (1 | h)"
CHANGES = {
    "response in other units": (BASE, lambda d: d.assign(y=1e4 * d["y"])),
    "response from another zero": (BASE, lambda d: d.assign(y=d["y"] - 300.0)),
    "slope in other units": (BASE, lambda d: d.assign(x=1e-3 * d["x"])),
    "slope from another zero": (BASE, lambda d: d.assign(x=d["x"] + 3.0)),
    "rows in another order": (BASE, lambda d: d.sample(frac=1.0, random_state=3)),
    "levels in another order": (BASE, lambda d: d.assign(g=-d["g"], h=(d["h"] * 5) % 7)),
    "levels named": (BASE, lambda d: d.assign(g="site " + d["g"].astype(str))),
    "terms in another order": ("y ~ arm + x + (1 | h) + (1 + x | g)", lambda d: d),
    "another coding": ("y ~ x + C(arm, Helmert) + (x | g) + (1 | h)", lambda d: d),
    "random effects recoded": (
        "y ~ x + arm + (0 + I(1 + x) + I(1 - x) | g) + (1 | h)",
        lambda d: d,
    ),
    "weights of one": (BASE, lambda d: d.assign(w=1.0)),
    "weights in other units": (BASE, lambda d: d.assign(w=37.0)),
}


def fitted(formula, data, **options):
    weights = "w" if "w" in data else None
    return mfx.lmer(formula, data, weights=weights, engine="profiled", control=CLOSER, **options)


@pytest.mark.full
@pytest.mark.covering(1)
@both_methods
@pytest.mark.parametrize("change", CHANGES)
def test_degrees_of_freedom_of_a_slope_do_not_depend_on_how_it_is_written(strong, change, method):
    plain = strong.drop(columns="w")
    formula, changed = CHANGES[change]
    found = table(fitted(formula, changed(plain)), method).loc["x", "df"]
    expected = table(fitted(BASE, plain), method).loc["x", "df"]
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.full
@pytest.mark.covering(1)
@both_methods
@pytest.mark.parametrize("change", CHANGES)
def test_p_value_of_a_slope_does_not_depend_on_how_it_is_written(strong, change, method):
    plain = strong.drop(columns="w")
    formula, changed = CHANGES[change]
    found = table(fitted(formula, changed(plain)), method).loc["x", "p_value"]
    expected = table(fitted(BASE, plain), method).loc["x", "p_value"]
    assert found == pytest.approx(expected, rel=1e-6)


@both_methods
def test_weights_may_be_in_any_units(strong, method):
    found = table(fitted(BASE, strong.assign(w=1e3 * strong["w"])), method)
    expected = table(fitted(BASE, strong), method)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-6)


@both_methods
def test_degrees_of_freedom_of_a_combination_do_not_depend_on_its_size(strong, method):
    fit = mfx.lmer(BASE, strong, engine="profiled")
    row = np.array([1.0, -0.5, 0.3, 2.0])
    found = fit.t_test(np.vstack([row, -row, 1e6 * row, 1e-6 * row]), df_method=method)
    np.testing.assert_allclose(found["df"], found["df"][0], rtol=1e-9)


@pytest.mark.kept("Sum-satterthwaite", "Helmert-kenward-roger")
@both_methods
@pytest.mark.parametrize("coding", ["Sum", "Helmert", "Treatment('c')"])
def test_a_difference_of_levels_has_the_same_degrees_of_freedom_in_any_coding(
    strong, coding, method
):
    fit = fitted(BASE, strong)
    other = fitted(BASE.replace("arm", f"C(arm, {coding})"), strong)
    # What the second level's rows have that the first's have not, all else equal.
    levels = {"arm": ["a", "b"], "x": 0.0}
    rows = []
    for one in (fit, other):
        design = one.model.design
        new = pd.DataFrame({**levels, "g": 0, "h": 0})
        X = evaluate_new_data(design.spec, new, groups=())[1]
        rows.append(X[1] - X[0])
    found, expected = (
        f.t_test(row, df_method=method)[["estimate", "std_error", "df"]]
        for f, row in ((other, rows[1]), (fit, rows[0]))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


# The same model by other columns: how they are taken, and what one's coefficients are in the other.
BASES = {
    "far from zero": (
        "y ~ far + (1 | g)",
        {"far = 0": "x = 0", "Intercept + 1e5 * far = 0": "Intercept = 0"},
    ),
    "nearly dependent": (
        "y ~ x + near + (1 | g)",
        {"1e-3 * near = 0": "z = 0", "x + near = 0": "x = 0"},
    ),
}


@both_methods
@pytest.mark.parametrize("case", BASES)
def test_ill_conditioned_columns_lose_few_digits(strong, case, method):
    formula, pairs = BASES[case]
    z = np.sin(np.arange(len(strong)))
    plain = strong.drop(columns="w").assign(z=z)
    plain = plain.assign(far=plain["x"] + 1e5, near=plain["x"] + 1e-3 * z)
    found = fitted(formula, plain)
    assert found.model.crossprod.qr_R is not None  # the branch that this is about
    expected = fitted("y ~ x + z + (1 | g)" if "near" in formula else "y ~ x + (1 | g)", plain)
    numbers = ["estimate", "std_error", "df", "p_value"]
    np.testing.assert_allclose(
        found.t_test(list(pairs), df_method=method)[numbers],
        expected.t_test(list(pairs.values()), df_method=method)[numbers],
        rtol=1e-8,
    )


# ---------------------------------------------------------------- the plain ones


@pytest.mark.parametrize("reml", [True, False])
def test_residual_degrees_of_freedom_are_rows_less_columns(strong, reml):
    fit = mfx.lmer(BASE, strong, reml=reml)
    assert denominator_df(fit.model, "residual").t_df(np.ones(4)) == len(strong) - 4


def test_residual_degrees_of_freedom_are_the_same_for_joint_tests(strong):
    fit = mfx.lmer(BASE, strong)
    assert denominator_df(fit.model, "residual").f_scale_and_df(np.eye(4)) == (1.0, len(strong) - 4)


def test_normal_degrees_of_freedom_are_infinite(strong):
    how = denominator_df(mfx.lmer(BASE, strong).model, "normal")
    assert (how.t_df(np.ones(4)), how.f_scale_and_df(np.eye(4))) == (np.inf, (1.0, np.inf))


@pytest.mark.parametrize("method", ["residual", "normal", SATTERTHWAITE])
def test_only_kenward_roger_adjusts_the_covariance(strong, method):
    fit = mfx.lmer(BASE, strong)
    np.testing.assert_array_equal(denominator_df(fit.model, method).cov, fit.cov_params())


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name", ["sleep_rs__ml", "wt_ri__ml"])
def test_kenward_roger_is_refused_for_maximum_likelihood(name):
    with pytest.raises(ArgumentError, match=r"fit with reml=True, or take .*'satterthwaite'"):
        denominator_df(fit_of(name, "profiled").model, KENWARD_ROGER)


@pytest.mark.parametrize("method", ["kr", "Satterthwaite", "containment", "", None, 3, True])
def test_unknown_methods_are_refused_with_the_choices(strong, method):
    choices = "'satterthwaite', 'kenward-roger', 'kenward-roger-linear', 'residual', 'normal'"
    with pytest.raises(ArgumentError, match=choices):
        denominator_df(mfx.lmer(BASE, strong).model, method)


def test_a_misspelt_method_is_offered_the_right_one(strong):
    with pytest.raises(ArgumentError, match="Did you mean 'kenward-roger'"):
        denominator_df(mfx.lmer(BASE, strong).model, "kenward_roger")


# ---------------------------------------------------------------- size


@pytest.fixture(scope="module")
def crossed():
    """20,000 rows, and 500 random effects of two crossed factors: InstEval, made smaller."""
    rng = np.random.default_rng(4)
    n, students, lecturers = 20_000, 300, 200
    s, d, x = rng.integers(students, size=n), rng.integers(lecturers, size=n), rng.normal(size=n)
    y = x + rng.normal(size=students)[s] + rng.normal(size=lecturers)[d] + rng.normal(size=n)
    data = pd.DataFrame({"y": y, "x": x, "s": s, "d": d})
    return mfx.lmer("y ~ x + (1 | s) + (1 | d)", data, engine="profiled").model


def test_kenward_roger_makes_nothing_of_the_size_of_rows_times_effects(crossed):
    n, q = crossed.crossprod.n, crossed.crossprod.symbolic.size
    denominator_df(crossed, KENWARD_ROGER)  # imports, and what the fit keeps
    tracemalloc.start()
    try:
        denominator_df(crossed, KENWARD_ROGER)
        most = tracemalloc.get_traced_memory()[1] / 8
    finally:
        tracemalloc.stop()
    # Measured: 4 q**2, of right sides and their solutions; n q would be 40 q**2.
    assert most < 6 * q**2 < n * q / 5


def test_satterthwaite_makes_nothing_of_the_size_of_the_effects_squared(crossed):
    n, q = crossed.crossprod.n, crossed.crossprod.symbolic.size
    denominator_df(crossed, SATTERTHWAITE).t_df(np.ones(2))  # the curvature, which the fit keeps
    tracemalloc.start()
    try:
        denominator_df(crossed, SATTERTHWAITE).t_df(np.ones(2))
        most = tracemalloc.get_traced_memory()[1] / 8
    finally:
        tracemalloc.stop()
    assert most < min(n, q**2) / 2


@pytest.mark.covering(1)
@pytest.mark.parametrize("portion", [1, 3000])
@pytest.mark.parametrize("model", MODELS)
def test_kenward_roger_does_not_depend_on_the_size_of_its_portions(
    strong, model, portion, monkeypatch
):
    fit = mfx.lmer(MODELS[model], strong, engine="profiled").model
    expected = denominator_df(fit, KENWARD_ROGER)
    monkeypatch.setattr(probing, "_BATCH_ENTRIES", portion)
    found = denominator_df(fit, KENWARD_ROGER)
    np.testing.assert_allclose(found.cov, expected.cov, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found.W, expected.W, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("term", ["ar1(v | g)", "csh(0 + C(v) | g)"])
def test_kenward_roger_of_a_structure_without_variance_says_what_to_take(term):
    # A correlation of effects that do not vary has no derivative: there were NaN and warnings.
    rng = np.random.default_rng(0)
    g, v = np.repeat(np.arange(8), 8), np.tile(np.repeat(np.arange(4), 2), 8)
    table = pd.DataFrame({"g": g.astype(str), "v": v, "x": rng.normal(size=64)})
    y = pd.Series(rng.normal(size=64))
    table["y"] = y - 0.9 * y.groupby([g, v]).transform("mean")
    with pytest.warns(SingularFitWarning):
        fit = mfx.lmer(f"y ~ x + {term}", table)
    with pytest.raises(ArgumentError, match=r"sd\(.* estimated as zero.*'satterthwaite'"):
        fit.tidy(df_method="kenward-roger")
    assert fit.tidy(df_method="satterthwaite")["df"].notna().all()
