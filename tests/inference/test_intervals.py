"""Confidence intervals: Wald's for every parameter, and the way to the others.

Source of truth: lme4's Wald intervals in tests/reference; for standard deviations and
correlations the curvature of the textbook's deviance, dense and with nothing profiled out, on
the scale where the interval is symmetric.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from oracle import dense_z
from reference_models import REFERENCES, fit_of, tiered
from scipy import stats
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import ArgumentError, DroppedColumnsWarning
from mixedfx.inference.parameters import parameters
from mixedfx.likelihood.pls import solve_pls

# Estimates and standard errors agree with lme4's within 1e-5 (test_reference.py); so do limits, in
# standard errors.
LIMITS = 1e-5
# Numeric second derivatives of the dense deviance, whose rounding is 1e-13 of it.
CURVATURE = 3e-6

pytestmark = pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
every_model = pytest.mark.parametrize("name", tiered(REFERENCES))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(12)
    n = 160
    g, h = np.repeat(np.arange(20), 8), rng.integers(7, size=n)
    x, z = rng.normal(size=n), rng.normal(size=n)
    b = rng.normal(size=(20, 3))
    y = 1 + x + 1.3 * b[g, 0] + (b[g, 1] + 0.4 * b[g, 0]) * x + (0.8 * b[g, 2] - 0.3 * b[g, 1]) * z
    y += rng.normal(size=7)[h] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "z": z, "g": g, "h": h, "w": rng.uniform(0.5, 2, n)})


@pytest.fixture(scope="module")
def sleep():
    return fit_of("sleep_rs__reml", "profiled")


# ---------------------------------------------------------------- fixed effects


@every_model
def test_wald_intervals_of_the_fixed_effects_are_lme4s(name):
    reference = REFERENCES[name]
    found = fit_of(name, "profiled").conf_int(df_method="normal")  # lme4's quantiles
    ours = {row["name"]: row["name_py"] for row in reference["fixef"]}
    limits = {r["parm"]: (r["lo"], r["hi"]) for r in reference["confint_wald"]}
    expected = pd.DataFrame({py: limits[r] for r, py in ours.items()}).T
    gap = (found.loc[expected.index] - expected).div(reference.fixed["se"], axis=0)
    np.testing.assert_allclose(gap, 0.0, rtol=0, atol=LIMITS)


@every_model
def test_intervals_are_a_row_for_each_fixed_effect_and_two_limits(name):
    fit = fit_of(name, "profiled")
    found = fit.conf_int()
    assert list(found.columns) == [0, 1]
    assert list(found.index) == list(fit.params.index)


@pytest.mark.covering(2)
@pytest.mark.parametrize("df_method", ["satterthwaite", "kenward-roger", "residual", "normal"])
@pytest.mark.parametrize("alpha", [0.05, 0.32])
@pytest.mark.parametrize("name", ["sleep_rs__reml", "cake_cat__reml", "na_rows__reml"])
def test_intervals_by_any_degrees_of_freedom_are_those_of_tidy(name, df_method, alpha):
    fit = fit_of(name, "profiled")
    found = fit.conf_int(alpha, df_method=df_method)
    expected = fit.tidy(df_method=df_method, conf_level=1 - alpha).set_index("term")
    np.testing.assert_allclose(found, expected[["conf_low", "conf_high"]], rtol=1e-12)


@pytest.mark.parametrize(("df_method", "df"), [("satterthwaite", 17.0), ("residual", 178.0)])
def test_intervals_have_quantiles_of_t(sleep, df_method, df):
    # Eighteen subjects, balanced: both coefficients have 17 degrees of freedom.
    found = sleep.conf_int(0.1, df_method=df_method)
    half = stats.t.ppf(0.95, df) * sleep.bse
    np.testing.assert_allclose(found[0], sleep.params - half, rtol=1e-5)
    np.testing.assert_allclose(found[1], sleep.params + half, rtol=1e-5)


def test_a_column_that_was_left_out_has_no_interval(data):
    with pytest.warns(DroppedColumnsWarning, match="twice"):
        fit = mfx.lmer("y ~ x + twice + (1 | g)", data.assign(twice=2 * data["x"]))
    missing = fit.conf_int().isna().all(axis=1)
    assert missing.to_dict() == {"Intercept": False, "x": False, "twice": True}


# ---------------------------------------------------------------- standard deviations, correlations


def deviance(fit, at):
    """Twice the negative (restricted) log-likelihood at log sds, Fisher's z and log sigma.

    The parameters are in the order of the fit's; beta is the best for them.
    """
    design, X, y = fit.model.design, fit.model.rows.X, fit.model.rows.response_less_offset
    w = np.ones(len(X)) if design.rows.weights is None else design.rows.weights
    named = [q for q in parameters(fit.model) if q.kind != "fixed"]
    V = np.exp(2 * at[-1]) * np.diag(1 / w)
    for t, random_term in enumerate(design.rows.random_terms):
        G = np.zeros((random_term.model_matrix.shape[1],) * 2)
        mine = [(q, value) for q, value in zip(named, at, strict=True) if q.term == t]
        for q, value in mine:
            if q.kind == "sd":
                G[q.first, q.first] = np.exp(2 * value)
        for q, value in mine:
            if q.kind == "corr":
                sds = np.sqrt(G[q.first, q.first] * G[q.second, q.second])
                G[q.first, q.second] = G[q.second, q.first] = np.tanh(value) * sds
        Z = dense_z(random_term)
        V += Z @ np.kron(np.eye(random_term.n_levels), G) @ Z.T
    inverse = np.linalg.inv(V)
    information = X.T @ inverse @ X
    rest = y - X @ np.linalg.solve(information, X.T @ inverse @ y)
    found = np.linalg.slogdet(V)[1] + rest @ inverse @ rest
    restricted = (
        fit.reml or not design.rows.random_terms
    )  # a regression's sigma has the divisor n - p
    return found + np.linalg.slogdet(information)[1] if restricted else found


def hessian(function, x, step=0.02):
    """Second derivatives by differences, extrapolated once from two steps."""
    size = len(x)

    def by(h):
        H = np.empty((size, size))
        for i in range(size):
            for j in range(i + 1):
                a, b = h * np.eye(size)[i], h * np.eye(size)[j]
                corners = [function(x + s * a + t * b) * s * t for s in (1, -1) for t in (1, -1)]
                H[i, j] = H[j, i] = sum(corners) / (4 * h * h)
        return H

    return (4 * by(step / 2) - by(step)) / 3


def transformed(fit):
    named = [q for q in parameters(fit.model) if q.kind != "fixed"]
    here = [np.arctanh(q.value) if q.kind == "corr" else np.log(q.value) for q in named]
    return named, np.array(here)


def by_definition(fit, alpha):
    """Intervals symmetric in log sd, Fisher's z and log sigma, from the inverse of the Hessian."""
    named, here = transformed(fit)
    covariance = 2 * np.linalg.inv(hessian(lambda at: deviance(fit, at), here))
    half = stats.norm.ppf(1 - alpha / 2) * np.sqrt(np.diag(covariance))
    back = [np.tanh if q.kind == "corr" else np.exp for q in named]
    rows = [[f(a - e), f(a + e)] for f, a, e in zip(back, here, half, strict=True)]
    return pd.DataFrame(rows, index=[q.name for q in named])


SPREADS = {
    "sleepstudy": lambda data: fit_of("sleep_rs__reml", "profiled"),
    "sleepstudy, maximum likelihood": lambda data: fit_of("sleep_rs__ml", "profiled"),
    "sleepstudy, uncorrelated": lambda data: fit_of("sleep_zc__reml", "profiled"),
    "Dyestuff": lambda data: fit_of("dyestuff__reml", "profiled"),
    "Dyestuff, maximum likelihood": lambda data: fit_of("dyestuff__ml", "profiled"),
    "Penicillin": lambda data: fit_of("penicillin__reml", "profiled"),
    "weighted": lambda data: mfx.lmer("y ~ x + (x | g)", data, weights="w"),
    "three effects": lambda data: mfx.lmer("y ~ x + (x + z | g) + (1 | h)", data),
    "two terms of a group": lambda data: mfx.lmer("y ~ x + (x | g) + (0 + z | g)", data),
    "a regression": lambda data: mfx.lmer("y ~ x", data),
}


@pytest.mark.slow_beyond(10)
@pytest.mark.full
@pytest.mark.covering(1)
@pytest.mark.parametrize("alpha", [0.05, 0.5])
@pytest.mark.parametrize("name", but_for(SPREADS, list(SPREADS)[::2]))
def test_intervals_of_the_covariances_are_those_of_the_curvature(data, name, alpha):
    fit = SPREADS[name](data)
    expected = by_definition(fit, alpha)
    found = fit.conf_int(alpha, parm=list(expected.index))
    width = expected[1] - expected[0]
    np.testing.assert_allclose((found - expected).div(width, axis=0), 0.0, rtol=0, atol=CURVATURE)


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", but_for(SPREADS, list(SPREADS)[::2]))
def test_intervals_of_the_covariances_hold_their_estimates_and_stay_possible(data, name):
    fit = SPREADS[name](data)
    named, _ = transformed(fit)
    found = fit.conf_int(1e-6, parm=[q.name for q in named])
    values = np.array([q.value for q in named])
    assert ((found[0] < values) & (values < found[1])).all()
    least = np.array([-1.0 if q.kind == "corr" else 0.0 for q in named])
    most = np.array([1.0 if q.kind == "corr" else np.inf for q in named])
    assert ((least < found[0]) & (found[1] < most)).all()


def test_intervals_of_standard_deviations_have_the_unit_of_the_response(data):
    names = ["sd(Intercept | g)", "sd(x | g)", "sigma"]
    one = mfx.lmer("y ~ x + (x | g)", data).conf_int(parm=names)
    other = mfx.lmer("y ~ x + (x | g)", data.assign(y=100 * data["y"])).conf_int(parm=names)
    np.testing.assert_allclose(other, 100 * one, rtol=1e-5)


# ---------------------------------------------------------------- on the boundary


def test_a_standard_deviation_of_zero_has_no_interval():
    found = fit_of("dyestuff2__reml", "profiled").conf_int(parm="sd(Intercept | Batch)")
    assert found.isna().all(axis=None)


def test_beside_a_standard_deviation_of_zero_sigma_has_that_of_a_regression():
    fit = fit_of("dyestuff2__reml", "profiled")
    plain = mfx.lmer("Yield ~ 1", mfx.datasets.load("Dyestuff2"))
    np.testing.assert_allclose(fit.conf_int(parm="sigma"), plain.conf_int(parm="sigma"), rtol=1e-9)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_a_correlation_of_one_has_no_interval(method):
    fit = fit_of(f"psych_sing__{method}", "profiled")
    names = [q.name for q in parameters(fit.model) if q.kind != "fixed"]
    missing = fit.conf_int(parm=names).isna().all(axis=1)
    assert missing.to_dict() == {name: name.startswith("corr") for name in names}


def at_theta(fit, theta):
    """Look at a fit's data from another theta."""
    solution = solve_pls(fit.model.crossprod, np.array(theta), reml=fit.reml)
    return mfx.Results(replace(fit.model, solution=solution))


@pytest.mark.parametrize(
    ("theta", "missing"),
    [
        ([0.0, 0.0, 0.2], ["sd(Intercept | Subject)", "corr(Intercept, Days | Subject)"]),
        ([0.9, 0.2, 0.0], ["corr(Intercept, Days | Subject)"]),
        ([0.9, -0.2, 0.0], ["corr(Intercept, Days | Subject)"]),
        ([0.9, 0.0, 0.0], ["sd(Days | Subject)", "corr(Intercept, Days | Subject)"]),
    ],
    ids=str,
)
def test_what_is_on_the_boundary_has_no_interval(sleep, theta, missing):
    fit = at_theta(sleep, theta)
    assert fit.is_singular
    names = [q.name for q in parameters(fit.model) if q.kind != "fixed"]
    found = fit.conf_int(parm=names).isna().all(axis=1)
    assert found[found].index.tolist() == missing


# ---------------------------------------------------------------- which parameters


@pytest.mark.cases(1)
@pytest.mark.parametrize("method", ["wald", "bootstrap"])
def test_parameters_are_given_in_the_order_asked_for(sleep, method):
    names = ["sigma", "Days", "corr(Intercept, Days | Subject)", "sd(Days | Subject)", "Intercept"]
    assert list(sleep.conf_int(method=method, parm=names, n=10, rng=1).index) == names


def test_one_parameter_may_be_named_by_itself(sleep):
    pd.testing.assert_frame_equal(sleep.conf_int(parm="Days"), sleep.conf_int(parm=["Days"]))


def test_asking_for_more_parameters_changes_none(sleep):
    names = [q.name for q in parameters(sleep.model)]
    found = sleep.conf_int(parm=names)
    for name in names:
        pd.testing.assert_frame_equal(found.loc[[name]], sleep.conf_int(parm=name))


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", ["wald", "profile", "bootstrap"])
@pytest.mark.parametrize("parm", ["days", ["Days", "sd(Days)"], [3], 3])
def test_unknown_parameters_list_the_known(sleep, method, parm):
    with pytest.raises(ArgumentError, match=r"'sd\(Days \| Subject\)'") as refused:
        sleep.conf_int(method=method, parm=parm, n=10, rng=1)
    assert all(repr(q.name) in str(refused.value) for q in parameters(sleep.model))


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", ["wald", "profile", "bootstrap"])
@pytest.mark.parametrize("alpha", [0, 1, 5, -0.05, "0.05", None, True, np.nan])
def test_alpha_is_a_share(sleep, method, alpha):
    with pytest.raises(ArgumentError, match=r"alpha=.*between 0 and 1"):
        sleep.conf_int(alpha, method, n=10, rng=1)


@pytest.mark.parametrize("method", ["Wald", "boot", "", None, 3])
def test_an_unknown_method_lists_the_choices(sleep, method):
    with pytest.raises(ArgumentError, match="'wald', 'profile', 'bootstrap'"):
        sleep.conf_int(method=method)


def test_unknown_degrees_of_freedom_list_the_choices(sleep):
    with pytest.raises(ArgumentError, match="'satterthwaite', 'kenward-roger'"):
        sleep.conf_int(df_method="kr")


@pytest.mark.cases(1)
@pytest.mark.parametrize("method", ["wald", "profile", "bootstrap"])
def test_a_predictor_may_be_called_sigma(data, method):
    fit = mfx.lmer("y ~ sigma + (1 | g)", data.rename(columns={"x": "sigma"}))
    plain = mfx.lmer("y ~ x + (1 | g)", data)
    found = fit.conf_int(method=method, parm=["sigma", "sigma(Residual)"], n=10, rng=1)
    expected = plain.conf_int(method=method, parm=["x", "sigma"], n=10, rng=1)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


# ---------------------------------------------------------------- the bootstrap's


@pytest.mark.full
def test_bootstrap_intervals_are_those_of_the_bootstrap(sleep):
    found = sleep.conf_int(0.2, "bootstrap", n=40, rng=3, parm=["Days", "sigma"])
    expected = sleep.bootstrap(40, rng=3, progress=False).conf_int(0.2, ["Days", "sigma"])
    pd.testing.assert_frame_equal(found, expected, check_names=False)


@pytest.mark.full
def test_bootstrap_intervals_are_the_same_from_the_same_seed(sleep):
    one, two, other = (sleep.conf_int(method="bootstrap", n=20, rng=rng) for rng in (3, 3, 4))
    pd.testing.assert_frame_equal(one, two)
    assert not np.isclose(one, other).any()


def test_bootstrap_intervals_show_no_bar(sleep, capsys):
    sleep.conf_int(method="bootstrap", n=5, rng=1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("wrong", [{"alpha": 2}, {"parm": "days"}])
def test_what_is_wrong_is_refused_before_anything_is_drawn(sleep, monkeypatch, wrong):
    # A thousand fits take a while, and a misspelt name should not cost them.
    drawn = []
    monkeypatch.setattr(
        "mixedfx.inference.simulation.ResponseDistribution.draw", lambda *_: drawn.append(1)
    )
    with pytest.raises(ArgumentError):
        sleep.conf_int(method="bootstrap", n=3, rng=1, **wrong)
    assert drawn == []


@pytest.mark.full
def test_asking_for_intervals_leaves_the_fit(data):
    fit = mfx.lmer("y ~ x + (x | g)", data)
    before = fit.params.tolist(), fit.theta.tolist(), fit.sigma
    for method in ("wald", "profile", "bootstrap"):
        fit.conf_int(method=method, n=5, rng=1)
    assert (fit.params.tolist(), fit.theta.tolist(), fit.sigma) == before
