"""Simulation of other rows, and with other parameters: lme4's ``newdata`` and ``newparams``.

Source of truth: simulation of the fit's own rows, whose moments other tests hold against dense
matrices; moments of the textbook.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError, DataError

# Monte Carlo standard errors; the seeds are fixed.
FAR = 5.0
DRAWS = 4000


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    return mfx.datasets.load("sleepstudy")


@pytest.fixture(scope="module")
def fit(sleep) -> mfx.Results:
    return mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep, engine="profiled")


@pytest.mark.parametrize("random", ["new", "fitted"])
def test_the_fits_own_rows_as_data_give_the_same_draws(fit, sleep, random):
    own = fit.simulate(3, rng=1, random=random)
    np.testing.assert_allclose(fit.simulate(3, rng=1, random=random, data=sleep), own)


@pytest.mark.full
def test_the_fits_own_parameters_give_the_same_draws(fit):
    own = fit.simulate(3, rng=1)
    table = fit.varcorr
    params = {
        **fit.params.to_dict(),
        "sd(Intercept | Subject)": table["sdcor"][0],
        "sd(Days | Subject)": table["sdcor"][1],
        "corr(Intercept, Days | Subject)": table["sdcor"][2],
        "sigma": fit.sigma,
    }
    found = fit.simulate(4000, rng=1, params=params)
    expected = fit.simulate(4000, rng=1)
    np.testing.assert_allclose(found.mean(), expected.mean(), rtol=0.1)
    np.testing.assert_allclose(found.loc[9].std(), expected.loc[9].std(), rtol=FAR / np.sqrt(DRAWS))
    np.testing.assert_allclose(fit.simulate(3, rng=1, params={"theta": fit.theta}), own)


@pytest.mark.full
def test_given_parameters_are_the_moments_of_the_draws(fit):
    params = {
        "sd(Intercept | Subject)": 100.0,
        "corr(Intercept, Days | Subject)": 0.9,
        "Days": 0.0,
        "sigma": 10.0,
    }
    drawn = fit.simulate(DRAWS, rng=2, params=params)
    slope = fit.varcorr["sdcor"][1]
    last = drawn.loc[9]  # day 9 of the first subject
    variance = 100.0**2 + 2 * 9 * 0.9 * 100.0 * slope + 81 * slope**2 + 10.0**2
    assert abs(last.mean() - fit.params["Intercept"]) < FAR * np.sqrt(variance / DRAWS)
    assert abs(last.var() / variance - 1.0) < FAR * np.sqrt(2.0 / DRAWS)


def test_rows_of_one_new_level_share_its_effects(fit):
    new = pd.DataFrame({"Days": [1.0, 1.0, 1.0], "Subject": ["new", "new", "other"]})
    drawn = fit.simulate(50, rng=3, data=new, params={"sigma": 0.0})
    np.testing.assert_allclose(drawn.loc[0], drawn.loc[1])
    assert (np.abs(drawn.loc[0] - drawn.loc[2]) > 1e-6).all()


def test_effects_of_known_levels_are_conditioned_on_and_of_new_ones_drawn(fit):
    new = pd.DataFrame({"Days": [2.0, 2.0], "Subject": ["308", "new"]})
    drawn = fit.simulate(50, rng=3, data=new, random="fitted", params={"sigma": 0.0})
    np.testing.assert_allclose(drawn.loc[0], fit.predict(new[:1]).iloc[0])
    assert drawn.loc[1].std() > 1.0


def test_rows_with_a_missing_value_are_nan(fit):
    new = pd.DataFrame({"Days": [1.0, np.nan, 1.0], "Subject": ["308", "308", None]})
    assert fit.simulate(1, rng=1, data=new)[0].isna().tolist() == [False, True, True]


def test_weights_of_new_rows_are_read(sleep):
    data = sleep.assign(w=1.0)
    fit = mfx.lmer("Reaction ~ Days + (1 | Subject)", data, weights="w")
    new = data[:2].assign(w=[1.0, 1e12])
    drawn = fit.simulate(200, rng=1, data=new, random="fitted")
    assert drawn.loc[1].std() < 1e-3 < drawn.loc[0].std()
    array = mfx.lmer("Reaction ~ Days + (1 | Subject)", data, weights=data["w"])
    with pytest.raises(DataError, match="weights"):
        array.simulate(1, data=new)


WRONG = {
    "unknown name": ({"days": 1.0}, "Days"),
    "no number": ({"Days": "a"}, "finite number"),
    "infinite": ({"sigma": np.inf}, "finite number"),
    "negative sd": ({"sd(Days | Subject)": -1.0}, "0 or more"),
    "negative sigma": ({"sigma": -1.0}, "0 or more"),
    "no correlation": ({"corr(Intercept, Days | Subject)": 1.5}, "no covariance"),
    "length of theta": ({"theta": [1.0]}, "3 finite numbers"),
    "theta and sd": ({"theta": [1.0, 0.0, 1.0], "sd(Days | Subject)": 1.0}, "one of them"),
    "no mapping": ([1.0], "must map"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_parameters_are_refused(fit, case):
    params, words = WRONG[case]
    with pytest.raises(ArgumentError, match=words):
        fit.simulate(1, params=params)
