"""MixedLM's estimates without its warnings are those of ``MixedLM.fit``."""

import warnings

import numpy as np
import pytest

import mixedfx as mfx

SLEEP = mfx.datasets.load("sleepstudy")
PENICILLIN = mfx.datasets.load("Penicillin")


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(
    ("formula", "data"),
    [
        ("Reaction ~ Days + (Days | Subject)", SLEEP),
        ("Reaction ~ Days + (Days || Subject)", SLEEP),
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", PENICILLIN),
    ],
    ids=["correlated", "components", "crossed"],
)
def test_agrees_with_mixedlm_fit(formula, data, reml):
    own = mfx.lmer(formula, data, reml=reml, engine="statsmodels").statsmodels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = own.model.fit(start_params=own.params_object, reml=reml, method="bfgs")
    # MixedLM.fit stops where the gradient over n is below 1e-5.
    assert own.llf == pytest.approx(theirs.llf, abs=1e-6)
    np.testing.assert_allclose(own.params, theirs.params, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(own.bse, theirs.bse, rtol=1e-3)
    assert own.converged
