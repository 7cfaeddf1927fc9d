"""Several random terms of the residual standard deviation, crossed, nested and with slopes.

Source of truth: Laplace's approximation made of the normal density by scipy's optimum and numerical
derivatives (``Integrand`` of test_random.py); the joint Laplace approximation of ``glmer``, which
is glmmTMB's; symmetries; and parameters that simulated data were drawn with. glmmTMB 1.1.5 has no
random effects in its ``dispformula``.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from estimation.dispersion.test_random import Integrand
from scipy import special
from tiers import but_for

import mixedfx as mfx
from mixedfx.inference.nesting import why_not_nested

pytestmark = pytest.mark.full

MODELS = {
    "crossed": ("y ~ x + (1 | g)", "~ kind + (1 | g) + (1 | h)"),
    "crossed in both": ("y ~ x + (1 | g) + (1 | h)", "~ kind + (1 | g) + (1 | h)"),
    "slope": ("y ~ x + (1 | g)", "~ kind + (x | g)"),
    "nested": ("y ~ x + (1 | h)", "~ kind + (1 | h/part)"),
}
every_model = pytest.mark.parametrize("name", MODELS)
TRUE = {"Intercept": -0.2, "kind[T.wild]": 0.4, "sd(g)": 0.5, "slope": 0.4, "sd(h)": 0.4}


@cache
def drawn(seed: int, groups: int, of_each: int) -> pd.DataFrame:
    """Every g with every h, ``of_each`` rows; standard deviations by g, its slope, and h."""
    rng = np.random.default_rng(seed)
    g, h = (part.ravel() for part in np.meshgrid(np.arange(groups), np.arange(groups)))
    g, h = np.repeat(g, of_each), np.repeat(h, of_each)
    n = len(g)
    x, kind = rng.normal(size=n), np.where(rng.random(n) < 0.5, "calm", "wild")
    logs = TRUE["Intercept"] + TRUE["kind[T.wild]"] * (kind == "wild")
    logs = logs + (TRUE["sd(g)"] * rng.normal(size=groups))[g]
    logs = logs + (TRUE["slope"] * rng.normal(size=groups))[g] * x
    logs = logs + (TRUE["sd(h)"] * rng.normal(size=groups))[h]
    y = 1.0 + 0.5 * x + rng.normal(size=groups)[g] + np.exp(logs) * rng.normal(size=n)
    part = np.where(g % 2, "left", "right")
    return pd.DataFrame({"y": y, "x": x, "kind": kind, "g": g, "h": h, "part": part})


@cache
def small() -> pd.DataFrame:
    return drawn(3, 5, 4)


@cache
def fitted(name: str, reml: bool = True) -> mfx.Results:
    formula, dispersion = MODELS[name]
    return mfx.lmer(formula, small(), dispersion=dispersion, reml=reml)


@pytest.mark.parametrize("name", but_for(MODELS, ["crossed in both", "slope"]))
def test_the_deviance_is_laplaces_approximation_of_the_dense_integrand(name):
    fit = fitted(name)
    integrand = Integrand(fit)
    assert fit.deviance == pytest.approx(integrand.laplace(integrand.point), abs=1e-5)


@every_model
def test_the_fit_is_certified(name):
    assert fitted(name).certificate.ok


@cache
def large() -> mfx.Results:
    return mfx.lmer("y ~ x + (1 | g)", drawn(1, 20, 2), dispersion="~ kind + (x | g) + (1 | h)")


def test_parameters_are_found_again_in_a_large_sample():
    table = large().dispersion
    expected = pd.Series(TRUE | {"correlation": 0.0})[
        ["Intercept", "kind[T.wild]", "sd(g)", "slope", "correlation", "sd(h)"]
    ]
    distance = (table["estimate"].to_numpy() - expected.to_numpy()) / table["std_error"]
    assert np.abs(distance).max() < 3.5


def test_parameters_are_named_by_their_terms():
    names = ["sd(Intercept | g)", "sd(x | g)", "corr(Intercept, x | g)", "sd(h)"]
    assert large().dispersion.index[2:].tolist() == names


def test_the_summary_has_no_ratio_of_a_correlation():
    row = next(r for r in str(large().summary()).splitlines() if r.startswith("corr("))
    assert len(row.split()) == 6  # the name's four words, estimate and standard error
    assert large().dispersion["sd"].isna().sum() == 1


def test_effects_are_tables_by_factor():
    found = large().dispersion_ranef()
    assert found["g"].columns.tolist() == ["Intercept", "x", "Intercept_sd", "x_sd"]
    assert found["h"].columns.tolist() == ["log_sd", "cond_sd", "ratio"]
    assert found["g"].index.tolist() == list(range(20))


def test_the_residual_sds_are_those_of_the_effects():
    fit, data = large(), drawn(1, 20, 2)
    g, h = (fit.dispersion_ranef()[name] for name in "gh")
    gamma = fit.dispersion["estimate"]
    logs = gamma.iloc[0] + gamma.iloc[1] * (data["kind"] == "wild")
    logs = logs + g["Intercept"].loc[data["g"]].to_numpy()
    logs = logs + g["x"].loc[data["g"]].to_numpy() * data["x"]
    logs = logs + h["log_sd"].loc[data["h"]].to_numpy()
    np.testing.assert_allclose(fit.residual_sd, np.exp(logs), rtol=1e-10)


def test_the_joint_approximation_is_near():
    # It approximates the integral over the mean's effects too, which is exact here: with 20 rows a
    # level the terms left out are a share of some percent of a standard deviation.
    data = drawn(1, 20, 2)
    terms = "~ kind + (1 | g) + (1 | h)"
    exact = mfx.lmer("y ~ x + (1 | g)", data, dispersion=terms, reml=False)
    joint = mfx.glmer("y ~ x + (1 | g)", data, family="gaussian", dispersion=terms)
    distance = (joint.params - exact.params) / exact.bse
    assert np.abs(distance).max() < 0.05
    of_scale = exact.dispersion.iloc[:2]
    distance = (joint.dispersion["estimate"] - of_scale["estimate"]) / of_scale["std_error"]
    assert np.abs(distance).max() < 0.05
    lambdas = joint.model.residual.predictors["dispersion"].solution.lambdas
    distance = [float(lam[0, 0]) for lam in lambdas] - exact.dispersion["estimate"].iloc[2:]
    assert np.abs(distance / exact.dispersion["std_error"].iloc[2:]).max() < 0.1


# ------------------------------------------------------------------ one model, said differently


@pytest.mark.parametrize("reml", [True, False])
def test_the_order_of_the_terms_does_not_matter(reml):
    turned = mfx.lmer(
        "y ~ x + (1 | g)", small(), dispersion="~ (1 | h) + (1 | g) + kind", reml=reml
    )
    own = fitted("crossed", reml)
    assert turned.deviance == pytest.approx(own.deviance, abs=1e-7)
    pd.testing.assert_frame_equal(
        turned.dispersion.sort_index(), own.dispersion.sort_index(), rtol=1e-4, atol=1e-6
    )


def test_nested_terms_are_those_written_one_by_one():
    other = mfx.lmer("y ~ x + (1 | h)", small(), dispersion="~ kind + (1 | h) + (1 | h:part)")
    assert other.deviance == pytest.approx(fitted("nested").deviance, abs=1e-8)


def test_units_change_no_standard_deviation_of_an_intercept():
    data = small().assign(y=1e3 * small()["y"])
    other = mfx.lmer(*("y ~ x + (1 | g)", data), dispersion=MODELS["crossed"][1])
    expected = fitted("crossed").dispersion["estimate"] + [np.log(1e3), 0.0, 0.0, 0.0]
    np.testing.assert_allclose(other.dispersion["estimate"], expected, rtol=0, atol=1e-4)


def test_units_of_a_slope_are_those_of_its_column():
    data = small().assign(x=100.0 * small()["x"])
    other = mfx.lmer("y ~ x + (1 | g)", data, dispersion=MODELS["slope"][1])
    expected = fitted("slope").dispersion["estimate"] / [1.0, 1.0, 1.0, 100.0, 1.0]
    np.testing.assert_allclose(other.dispersion["estimate"], expected, rtol=1e-4, atol=1e-5)


def test_the_order_of_rows_does_not_matter():
    formula, dispersion = MODELS["crossed in both"]
    data = small().sample(frac=1.0, random_state=2)
    other = mfx.lmer(formula, data, dispersion=dispersion)
    assert other.deviance == pytest.approx(fitted("crossed in both").deviance, abs=1e-7)


# ------------------------------------------------------------------ what is made of it


def test_a_term_more_is_one_parameter_more_and_nested():
    one = mfx.lmer("y ~ x + (1 | g)", small(), dispersion="~ kind + (1 | g)", reml=False)
    two = fitted("crossed", False)
    table = mfx.compare(one, two)
    assert table["df"].iloc[1] == 1
    assert table["nested"].iloc[1]
    assert table["chisq"].iloc[1] == pytest.approx(one.deviance - two.deviance, abs=1e-9)


def test_an_intercept_is_nested_in_a_slope_and_not_in_another_factor():
    of_g, of_h = (
        mfx.lmer("y ~ x + (1 | g)", small(), dispersion=f"~ kind + (1 | {factor})")
        for factor in "gh"
    )
    slope = fitted("slope")
    assert why_not_nested(of_g.model, slope.model) is None
    assert "residuals" in str(why_not_nested(of_h.model, slope.model))
    assert "residuals" in str(why_not_nested(slope.model, of_g.model))


def test_a_prediction_interval_has_the_variances_of_all_effects():
    fit = fitted("crossed")
    new = small().iloc[[0, 7]].assign(h=["new", small()["h"].iloc[7]])
    found = fit.predict(new, interval="prediction", new_levels="population", se=True)
    half = (found["conf_high"] - found["conf_low"]).to_numpy() / 2 / special.ndtri(0.975)
    cov, random = fit.model.residual.random.cov, fit.dispersion_ranef()
    gamma = fit.dispersion["estimate"]
    logs = gamma.iloc[0] + gamma.iloc[1] * (new["kind"] == "wild").to_numpy()
    logs = logs + random["g"]["log_sd"].loc[new["g"]].to_numpy()
    g, h = int(new["g"].iloc[0]), 5 + int(new["h"].iloc[1])
    variances = [cov[g, g] + gamma.iloc[3] ** 2]
    g = int(new["g"].iloc[1])
    variances.append(cov[g, g] + cov[h, h] + 2.0 * cov[g, h])
    logs = logs + np.array([0.0, random["h"]["log_sd"].iloc[h - 5]])
    expected = found["std_error"] ** 2 + np.exp(2.0 * (logs + np.array(variances)))
    np.testing.assert_allclose(half**2, expected, rtol=1e-8)


def test_a_prediction_interval_of_the_fits_own_rows_is_that_of_the_same_rows_anew():
    for name in ("crossed in both", "slope"):
        own = fitted(name).predict(interval="prediction")
        anew = fitted(name).predict(small(), interval="prediction")
        np.testing.assert_allclose(own, anew, rtol=1e-9)


def test_simulated_responses_have_the_spread_of_new_effects():
    # E exp(2 v) = exp(2 tau^2), v the sum of the two effects.
    fit = large()
    y = fit.simulate(400, rng=3)
    spread = y.sub(fit.predict(random="none"), axis=0).pow(2).mean(axis=1)
    gamma, rows = fit.dispersion["estimate"], drawn(1, 20, 2)
    sd, slope, corr, of_h = gamma.iloc[2:]
    variance = sd**2 + 2.0 * corr * sd * slope * rows["x"] + (slope * rows["x"]) ** 2 + of_h**2
    logs = gamma.iloc[0] + gamma.iloc[1] * (rows["kind"] == "wild")
    expected = fit.vcomp.sum() + np.exp(2.0 * (logs + variance))
    near = rows["x"].abs() < 1.0  # of the others the tails are too heavy for 400 draws
    assert spread[near].mean() == pytest.approx(expected[near].mean(), rel=0.06)


def test_a_file_gives_the_fit_back(tmp_path):
    fit = fitted("slope")
    fit.save(tmp_path / "fit.mfx")
    read = mfx.read(tmp_path / "fit.mfx")
    pd.testing.assert_frame_equal(read.dispersion, fit.dispersion)
    pd.testing.assert_frame_equal(read.dispersion_ranef(), fit.dispersion_ranef())
    new = small().head(3)
    pd.testing.assert_frame_equal(
        read.predict(new, interval="prediction"), fit.predict(new, interval="prediction")
    )
    pd.testing.assert_frame_equal(read.simulate(2, rng=1), fit.simulate(2, rng=1))


def test_a_slim_fit_predicts_the_same():
    fit, new = fitted("crossed"), small().head(3)
    slim = fit.slim().predict(new, interval="prediction")
    pd.testing.assert_frame_equal(slim, fit.predict(new, interval="prediction"))


def test_a_refit_is_a_fit_of_the_new_response():
    y = small()["y"] + 0.3 * small()["x"] ** 2
    again = fitted("crossed").refit(y)
    formula, dispersion = MODELS["crossed"]
    anew = mfx.lmer(formula, small().assign(y=y), dispersion=dispersion)
    assert again.deviance == pytest.approx(anew.deviance, abs=1e-9)


def test_a_bootstrap_draws_the_standard_deviations_of_every_term():
    draws = fitted("crossed").bootstrap(3, rng=2, progress=False)
    table = draws.conf_int()
    assert {"sd(dispersion | g)", "sd(dispersion | h)"} <= set(table.index)
    assert (table.loc["sd(dispersion | h)"] > 0.0).any()


def test_a_slope_that_does_not_vary_is_remarked_on():
    rng = np.random.default_rng(0)
    data = small().assign(z=rng.normal(size=len(small())))
    fit = mfx.lmer("y ~ x + (1 | g)", data, dispersion="~ kind + (z || g)")
    assert fit.dispersion.loc["sd(z | g)", ["estimate", "std_error"]].tolist() == [0.0, 0.0]
    assert any("(z || g) in dispersion= is singular: z does not vary" in n for n in fit.notes)
    assert fit.certificate.ok
