"""Fits of MixedLM taken over: the same model, rows and criterion."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from statsmodels.regression.mixed_linear_model import MixedLMParams

import mixedfx as mfx
from mixedfx.errors import ArgumentError, MixedfxWarning

SLEEP = mfx.datasets.load("sleepstudy")
PASTES = mfx.datasets.load("Pastes")


def _slopes():
    return smf.mixedlm("Reaction ~ Days", SLEEP, groups="Subject", re_formula="~Days")


def _uncorrelated():
    free = MixedLMParams.from_components(np.ones(2), np.eye(2))
    return _slopes().fit(free=free)


def _arrays():
    X = np.column_stack([np.ones(180), SLEEP["Days"], SLEEP["Days"] ** 2])
    return sm.MixedLM(SLEEP["Reaction"].to_numpy(), X, groups=SLEEP["Subject"].to_numpy())


def _casks():
    vc = {"cask": "0 + C(cask)"}
    return smf.mixedlm("strength ~ 1", PASTES, groups="batch", vc_formula=vc, re_formula="1")


def _transformed():
    return smf.mixedlm("np.log(Reaction) ~ bs(Days, df=4)", SLEEP, groups=SLEEP["Subject"])


def _missing():
    data = SLEEP.assign(Days=SLEEP["Days"].where(SLEEP.index % 7 != 0))
    return smf.mixedlm("Reaction ~ Days", data, groups="Subject", missing="drop")


def _component_of_a_slope():
    vc = {"Days": "0 + Days"}
    return smf.mixedlm("Reaction ~ Days", SLEEP, groups="Subject", vc_formula=vc, re_formula="1")


MODELS = {
    "slopes": (lambda: _slopes().fit(), "Reaction ~ Days + (Days | Subject)"),
    "maximum likelihood": (
        lambda: _slopes().fit(reml=False),
        "Reaction ~ Days + (Days | Subject)",
    ),
    "uncorrelated": (_uncorrelated, "Reaction ~ Days + (Days || Subject)"),
    "arrays": (lambda: _arrays().fit(), "y ~ 0 + const + x1 + x2 + (1 | Group)"),
    "nested": (lambda: _casks().fit(), "strength ~ 1 + (1 | batch) + (1 | batch:cask_level)"),
    "transformed": (lambda: _transformed().fit(), None),
    "missing": (lambda: _missing().fit(), "Reaction ~ Days + (1 | Subject)"),
    "component": (
        lambda: _component_of_a_slope().fit(),
        "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)",
    ),
}


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_the_fit_is_that_of_statsmodels(name):
    fit_theirs, formula = MODELS[name]
    theirs = fit_theirs()
    fit = mfx.from_statsmodels(theirs)
    assert formula in (None, str(fit.formula))
    assert fit.nobs == theirs.nobs
    assert fit.reml == theirs.reml
    assert fit.llf == pytest.approx(theirs.llf, abs=1e-4)
    np.testing.assert_allclose(
        fit.params.to_numpy(), np.asarray(theirs.fe_params), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(fit.bse.to_numpy(), np.asarray(theirs.bse_fe), rtol=2e-3)
    assert np.isfinite(fit.tidy()["df"]).all()


@pytest.mark.filterwarnings("ignore")
def test_new_rows_are_predicted_through_the_transforms():
    fit = mfx.from_statsmodels(_transformed().fit())
    own = mfx.lmer("np.log(Reaction) ~ bs(Days, df=4) + (1 | Subject)", SLEEP)
    new = SLEEP.iloc[:5].assign(Group=SLEEP["Subject"])
    np.testing.assert_allclose(fit.predict(new), own.predict(new), rtol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_an_early_end_is_said():
    theirs = _slopes().fit(maxiter=1, method="nm")
    assert theirs.llf < -872.0
    with pytest.warns(MixedfxWarning, match="ended too early"):
        fit = mfx.from_statsmodels(theirs)
    assert any("ended too early" in note for note in fit.notes)


@pytest.mark.filterwarnings("ignore")
def test_what_is_no_fit_of_mixedlm_is_refused():
    ols = smf.ols("Reaction ~ Days", SLEEP).fit()
    for other in (ols, None, "fit", _slopes()):
        with pytest.raises(ArgumentError, match="takes a fit of MixedLM"):
            mfx.from_statsmodels(other)


@pytest.mark.filterwarnings("ignore")
def test_a_restriction_that_no_formula_has_is_refused():
    free = MixedLMParams.from_components(np.array([1.0, 0.0]), np.eye(2))
    with pytest.raises(ArgumentError, match="holds some parameters"):
        mfx.from_statsmodels(_slopes().fit(free=free))


@pytest.mark.filterwarnings("ignore")
def test_the_data_are_left_as_they_were():
    data = PASTES.copy()
    model = smf.mixedlm("strength ~ 1", data, groups="batch", vc_formula={"cask": "0 + C(cask)"})
    mfx.from_statsmodels(model.fit())
    pd.testing.assert_frame_equal(data, PASTES)
    pd.testing.assert_frame_equal(pd.DataFrame(model.data.frame), PASTES)
