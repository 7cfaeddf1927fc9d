"""Fits by the iterative engine beside the exact optimum, and what it refuses."""

import re

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import EngineRefusal, SizeError
from mixedfx.estimation import iterative, monte_carlo
from mixedfx.likelihood import component_traces
from mixedfx.linalg.iterative import factor

N = 4000


def ratings(seed=1):
    """Users and films, of two kinds, with users in regions."""
    rng = np.random.default_rng(seed)
    user, film, x = rng.integers(300, size=N), rng.integers(120, size=N), rng.normal(size=N)
    shop = rng.integers(90, size=N)
    effects = rng.normal(size=(4, 300))
    y = 0.3 * x + effects[0, user] * (0.7 + 0.2 * x) + 0.6 * effects[1, film] * (1.0 + 0.5 * x)
    y += 0.5 * effects[2, shop] + 0.4 * effects[3, user // 15] + rng.normal(size=N)
    columns = {"user": user, "film": film, "shop": shop, "region": user // 15, "x": x, "y": y}
    return pd.DataFrame(columns)


FORMULAS = {
    "two factors": "y ~ x + (1 | user) + (1 | film)",
    "three factors": "y ~ x + (1 | user) + (1 | film) + (1 | shop)",
    "slopes": "y ~ x + (x | user) + (x | film)",
    "nested and crossed": "y ~ x + (1 | region) + (x || user) + (1 | film)",
}


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(
    "model",
    ["two factors", *(pytest.param(m, marks=pytest.mark.full) for m in list(FORMULAS)[1:])],
)
def test_estimates_are_those_of_the_exact_optimum(model, reml):
    data = ratings()
    exact = mfx.lmer(FORMULAS[model], data, reml=reml, engine="profiled")
    fit = mfx.lmer(FORMULAS[model], data, reml=reml, engine="iterative")
    assert (fit.engine, fit.converged) == ("iterative", True)
    error = fit.convergence.monte_carlo
    assert error.is_small
    assert abs(fit.deviance - exact.deviance) < min(0.02, 5.0 * error.deviance)
    # Their deviance at these estimates is what the exact likelihood's is there.
    assert abs(error.difference) < 5.0 * error.deviance
    likelihood = exact.model.likelihood
    assert likelihood.deviance(fit.theta) - exact.deviance < 0.005**2 * len(fit.theta)
    np.testing.assert_allclose(fit.bse, exact.bse, rtol=1e-4)
    np.testing.assert_allclose(fit.params, exact.params, atol=1e-3 * exact.bse.min())
    for group in fit.formula.groups:
        np.testing.assert_allclose(
            fit.ranef(group, cond_sd=True), exact.ranef(group, cond_sd=True), atol=5e-3
        )


@pytest.mark.full
def test_the_same_data_give_the_same_estimates_and_their_units_do_not_matter():
    data = ratings()
    formula = FORMULAS["two factors"]
    first, again = (mfx.lmer(formula, data, engine="iterative") for _ in range(2))
    assert (first.deviance, *first.theta) == (again.deviance, *again.theta)
    scaled = mfx.lmer(formula, data.assign(y=1000.0 * data["y"]), engine="iterative")
    np.testing.assert_allclose(scaled.theta, first.theta, rtol=1e-6)
    np.testing.assert_allclose(scaled.params, 1000.0 * first.params, rtol=1e-6)


@pytest.mark.full
def test_degrees_of_freedom_are_nearly_satterthwaites():
    data = ratings()
    exact, fit = (
        mfx.lmer(FORMULAS["two factors"], data, engine=engine).tidy()["df"]
        for engine in ("profiled", "iterative")
    )
    np.testing.assert_allclose(fit, exact, rtol=1e-4)


@pytest.mark.full
def test_a_variance_of_zero_is_an_answer():
    data = ratings().assign(y=lambda d: d["x"] + np.random.default_rng(7).normal(size=N))
    with pytest.warns(mfx.errors.SingularFitWarning):
        exact, fit = (
            mfx.lmer(FORMULAS["two factors"], data, engine=engine, reml=False)
            for engine in ("profiled", "iterative")
        )
    np.testing.assert_allclose(fit.theta, exact.theta, atol=1e-3)
    assert fit.convergence.boundary == exact.convergence.boundary
    assert abs(fit.deviance - exact.deviance) < 0.01


@pytest.mark.full
def test_auto_takes_it_where_the_dense_block_is_large(monkeypatch):
    data = ratings()
    assert mfx.lmer(FORMULAS["two factors"], data).engine == "profiled"
    monkeypatch.setattr(iterative, "MANY_OPERATIONS", 1e5)
    fit = mfx.lmer(FORMULAS["two factors"], data)
    assert fit.engine == "iterative"
    assert "iterative; Monte Carlo error" in str(fit.summary())
    assert "16 probes" in str(fit.convergence)


@pytest.mark.full
def test_more_probes_are_taken_until_the_error_is_small(monkeypatch):
    data = ratings()
    error = mfx.lmer(FORMULAS["two factors"], data, engine="iterative").convergence.monte_carlo
    monkeypatch.setattr(monte_carlo, "LARGEST_DEVIANCE_ERROR", error.deviance / 1.7)
    fit = mfx.lmer(FORMULAS["two factors"], data, engine="iterative")
    assert fit.convergence.monte_carlo.probes > 16
    assert fit.convergence.ok


def test_an_error_that_stays_large_is_a_failure_of_the_certificate(monkeypatch):
    monkeypatch.setattr(monte_carlo, "LARGEST_ERROR", 1e-9)
    monkeypatch.setattr(iterative, "_MAX_PROBES", 16)
    with pytest.warns(mfx.errors.ConvergenceWarning, match="after 16 probes the Monte Carlo error"):
        fit = mfx.lmer(FORMULAS["two factors"], ratings(), engine="iterative")
    assert not fit.converged


def test_a_deviance_that_stays_inexact_is_a_note(monkeypatch):
    monkeypatch.setattr(monte_carlo, "LARGEST_DEVIANCE_ERROR", 1e-9)
    monkeypatch.setattr(iterative, "_MAX_PROBES", 16)
    fit = mfx.lmer(FORMULAS["two factors"], ratings(), engine="iterative")
    assert fit.converged
    assert any("deviance has a Monte Carlo error of" in str(note) for note in fit.notes)


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        ("y ~ x + (1 | user)", "fewer than two grouping factors"),
        ("y ~ x + (1 | region / user)", "nested"),
        ("y ~ x + (1 | film) + (1 | mm(user, shop))", "several of them"),
    ],
)
def test_models_without_a_dense_block_are_refused(formula, reason):
    with pytest.raises(EngineRefusal, match=reason):
        mfx.lmer(formula, ratings(), engine="iterative")


def test_what_needs_the_inverse_is_refused(monkeypatch):
    fit = mfx.lmer(FORMULAS["two factors"], ratings(), engine="iterative")
    monkeypatch.setattr(factor, "MOST_COLUMNS", 50.0)
    few, many = ratings(2).head(20), ratings(2).head(100)
    assert len(fit.predict(few, se=True)) == 20
    with pytest.raises(SizeError, match=r"needs 99 columns .* predict fewer rows"):
        fit.predict(many, se=True)
    assert np.isfinite(fit.predict(many)).all()


def test_a_fit_is_kept_in_a_file(tmp_path):
    fit = mfx.lmer(FORMULAS["two factors"], ratings(), engine="iterative")
    fit.save(tmp_path / "fit.mfx")
    again = mfx.read(tmp_path / "fit.mfx")
    assert again.deviance == fit.deviance
    assert str(again.convergence) == str(fit.convergence)


def test_kenward_and_rogers_information_is_estimated_where_columns_are_many(monkeypatch):
    data = ratings()
    exact = mfx.lmer(FORMULAS["slopes"], data, engine="profiled").tidy(df_method="kenward-roger")
    fit = mfx.lmer(FORMULAS["slopes"], data, engine="iterative")
    monkeypatch.setattr(factor, "MOST_COLUMNS", 50.0)
    monkeypatch.setattr(component_traces, "_AIM", 0.01)
    found = fit.tidy(df_method="kenward-roger")
    remark = fit.summary(df_method="kenward-roger").notes[-1]
    percent = float(re.search(r"change by up to ([0-9.e-]+)%", remark)[1])
    assert 0.0 < percent < 3.0
    np.testing.assert_allclose(found["std_error"], exact["std_error"], rtol=1e-4)
    np.testing.assert_allclose(found["df"], exact["df"], rtol=percent / 100.0 + 1e-3)
