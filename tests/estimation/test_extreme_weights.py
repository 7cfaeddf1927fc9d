"""Weights and known residual standard deviations of any magnitude."""

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ConvergenceWarning, WeightsError

SLOPES = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def sleep():
    return mfx.datasets.load("sleepstudy")


@pytest.mark.parametrize("formula", [SLOPES, "Reaction ~ Days"])
@pytest.mark.parametrize("weight", [1e12, 1e-12, 1e100, 1e-100])
def test_one_weight_for_all_rows_is_a_change_of_unit(sleep, formula, weight):
    plain = mfx.lmer(formula, sleep, engine="profiled")
    fit = mfx.lmer(formula, sleep, weights=np.full(len(sleep), weight), engine="profiled")
    assert fit.converged
    assert fit.llf == pytest.approx(plain.llf, abs=1e-8)
    pd.testing.assert_series_equal(fit.params, plain.params, rtol=1e-8)
    pd.testing.assert_series_equal(fit.bse, plain.bse, rtol=1e-5)
    assert fit.sigma == pytest.approx(plain.sigma * np.sqrt(weight), rel=1e-5)


def test_small_residual_sds_of_a_small_response_are_a_change_of_unit(sleep):
    small = sleep.assign(Reaction=1e-9 * sleep["Reaction"])
    plain = mfx.lmer(SLOPES, sleep, residual_sd=np.full(len(sleep), 30.0))
    fit = mfx.lmer(SLOPES, small, residual_sd=np.full(len(sleep), 3e-8))
    assert fit.converged
    pd.testing.assert_series_equal(fit.params, 1e-9 * plain.params, rtol=1e-6)


@pytest.fixture(scope="module")
def studies():
    y = np.random.default_rng(1).normal(size=20)
    return pd.DataFrame({"y": y, "study": [f"s{i}" for i in range(20)]})


def test_residual_sds_beyond_double_precision_say_what_to_give_instead(studies):
    with pytest.warns(ConvergenceWarning):
        fit = mfx.lmer("y ~ 1 + (1 | study)", studies, residual_sd=np.full(20, 1e-8))
    assert not fit.converged
    spread = studies["y"].std(ddof=0)
    assert any(f"residual_sd of {1e-3 * spread:.2g} give the same" in note for note in fit.notes)


def test_the_advice_on_such_residual_sds_works(studies):
    # Without residuals the estimates are the mean, and its standard error, of the studies.
    given = np.full(20, 1e-3 * studies["y"].std(ddof=0))
    fit = mfx.lmer("y ~ 1 + (1 | study)", studies, residual_sd=given)
    assert fit.converged
    assert fit.params["Intercept"] == pytest.approx(studies["y"].mean(), rel=1e-6)
    assert fit.bse["Intercept"] == pytest.approx(studies["y"].sem(), rel=1e-5)


def test_weights_that_leave_nothing_of_the_other_rows_are_named(sleep):
    weights = np.where(np.arange(len(sleep)) < 10, 1e12, 1.0)
    with pytest.raises(WeightsError, match=r"range from 1 to 1e\+12"):
        mfx.lmer(SLOPES, sleep, weights=weights)
