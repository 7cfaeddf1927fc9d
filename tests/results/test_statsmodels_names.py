"""What statsmodels' users do with results: predictions in a frame, and columns beside OLS."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.iolib.summary2 import summary_col

import mixedfx as mfx
from mixedfx.errors import ArgumentError

SLEEP = mfx.datasets.load("sleepstudy")
FIT = mfx.lmer("Reaction ~ Days + (Days | Subject)", SLEEP)
OLS = smf.ols("Reaction ~ Days", SLEEP).fit()


def test_a_summary_frame_is_that_of_least_squares_without_random_terms():
    fit, new = mfx.lmer("Reaction ~ Days", SLEEP), SLEEP.head(4)
    ours = fit.get_prediction(new).summary_frame(alpha=0.1)
    theirs = OLS.get_prediction(new).summary_frame(alpha=0.1)
    assert list(ours) == list(theirs)
    # Limits of statsmodels are of t, those of a mixed model of the normal distribution.
    for column in ("mean", "mean_se"):
        np.testing.assert_allclose(ours[column], theirs[column], rtol=1e-6)
    np.testing.assert_allclose(ours, theirs, rtol=4e-3)


def test_predictions_are_those_of_predict():
    new = pd.DataFrame({"Days": [3, 4], "Subject": ["308", "new"]}, index=["a", "b"])
    found = FIT.get_prediction(new, new_levels="population")
    options = {"new_levels": "population", "conf_level": 0.95}
    mean = FIT.predict(new, se=True, interval="confidence", **options)
    obs = FIT.predict(new, interval="prediction", **options)
    frame = found.summary_frame()
    assert list(frame.index) == ["a", "b"]
    np.testing.assert_array_equal(found.predicted_mean, mean["predicted"])
    np.testing.assert_array_equal(found.se_mean, mean["std_error"])
    np.testing.assert_array_equal(found.conf_int(), mean[["conf_low", "conf_high"]])
    np.testing.assert_array_equal(found.conf_int(obs=True), obs[["conf_low", "conf_high"]])
    np.testing.assert_array_equal(frame["obs_ci_upper"], obs["conf_high"])


def test_the_fits_own_rows_are_predicted_without_data():
    np.testing.assert_allclose(FIT.get_prediction().predicted_mean, FIT.fittedvalues)


def test_a_coverage_out_of_range_is_refused():
    with pytest.raises(ArgumentError, match="alpha"):
        FIT.get_prediction().summary_frame(alpha=95)


def test_a_fit_is_a_column_beside_least_squares():
    text = str(summary_col([OLS, FIT], stars=True, model_names=["OLS", "mixed"]))
    assert "251.4051***" in text
    assert f"({FIT.bse['Days']:.4f})" in text
    assert f"({OLS.bse['Days']:.4f})" in text


def test_robust_errors_are_a_column_too():
    robust = FIT.get_robustcov_results()
    assert f"({robust.bse['Days']:.4f})" in str(summary_col([OLS, robust]))
