"""Bootstrap of a user's statistic, lme4's ``bootMer(FUN)``.

Source of truth: the bootstrap of the parameters, with the same seed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError, MixedfxWarning


@pytest.fixture(scope="module")
def fit() -> mfx.Results:
    sleep = mfx.datasets.load("sleepstudy")
    return mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep, engine="profiled")


def _draws(fit, statistic, n=8, **options):
    return fit.bootstrap(n, rng=5, progress=False, statistic=statistic, **options)


def _sigma(fit):
    return fit.sigma


VALUES = {
    "number": (lambda f: f.params["Days"], ["statistic"]),
    "list": (lambda f: [f.params["Days"]], ["statistic[0]"]),
    "array": (lambda f: f.params[["Days"]].to_numpy(), ["statistic[0]"]),
    "series": (lambda f: f.params[["Days"]], ["Days"]),
    "dictionary": (lambda f: {"Days": f.params["Days"]}, ["Days"]),
}


@pytest.mark.kept("number", "array", "dictionary")
@pytest.mark.parametrize("kind", VALUES)
def test_a_parameter_as_a_statistic_has_the_parameters_draws(fit, kind):
    statistic, names = VALUES[kind]
    found = _draws(fit, statistic)
    expected = fit.bootstrap(8, rng=5, progress=False).draws["Days"]
    assert list(found.draws) == names
    np.testing.assert_array_equal(found.draws[names[0]], expected)
    assert found.estimates.tolist() == [fit.params["Days"]]
    assert list(found.conf_int().index) == names


def test_predictions_of_new_rows_can_be_bootstrapped(fit):
    new = pd.DataFrame({"Days": [0.0, 20.0]})
    found = _draws(fit, lambda f: f.predict(new, random="none").to_numpy())
    parameters = fit.bootstrap(8, rng=5, progress=False).draws
    expected = parameters["Intercept"] + 20.0 * parameters["Days"]
    np.testing.assert_allclose(found.draws["statistic[1]"], expected, rtol=1e-10)


@pytest.mark.full
def test_processes_give_the_same_draws(fit):
    one, two = _draws(fit, lambda f: f.sigma), _draws(fit, lambda f: f.sigma, n_jobs=2)
    pd.testing.assert_frame_equal(one.draws, two.draws)


def test_an_error_of_a_refit_is_a_failure(fit):
    def statistic(f):
        if f is not fit and f.sigma != fit.sigma:
            raise RuntimeError("no number")
        return 1.0

    with pytest.warns(MixedfxWarning, match="RuntimeError"):
        found = _draws(fit, statistic, n=3)
    assert [f.message for f in found.failures] == ["no number"] * 3
    assert len(found.draws) == 0


def test_an_error_of_the_fit_itself_is_the_users_own(fit):
    with pytest.raises(ZeroDivisionError):
        _draws(fit, lambda f: 1 / 0)


@pytest.mark.parametrize("value", ["text", [[1.0]], None, pd.DataFrame({"a": [1.0]}), {"a": "b"}])
def test_what_is_no_number_is_refused(fit, value):
    with pytest.raises(ArgumentError, match="statistic="):
        _draws(fit, lambda _: value)


@pytest.mark.parametrize("statistic", [1, "sigma", [_sigma]])
def test_a_statistic_is_a_function(fit, statistic):
    with pytest.raises(ArgumentError, match="statistic="):
        _draws(fit, statistic)
