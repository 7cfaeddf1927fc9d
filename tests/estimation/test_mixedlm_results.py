"""MixedLM's estimates without its warnings are those of ``MixedLM.fit``."""

import warnings

import numpy as np
import pytest
from statsmodels.regression.mixed_linear_model import MixedLM

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.estimation.mixedlm_model import NamedModel, mixedlm_terms, plain_model
from mixedfx.estimation.mixedlm_results import prepared

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


def test_a_fit_confirmed_by_mixedlm_leaves_its_hessian_until_it_is_read(monkeypatch):
    # MixedLM's score is zero at our optimum: no step, and theta is ours to the last digit.
    sleep, called = mfx.datasets.load("sleepstudy"), []
    hessian = MixedLM.hessian
    monkeypatch.setattr(MixedLM, "hessian", lambda *args: called.append(1) or hessian(*args))
    fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
    ours = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep, engine="profiled")
    assert (fit.engine, fit.converged, called) == ("statsmodels", True, [])
    np.testing.assert_array_equal(fit.theta, ours.theta)
    assert fit.statsmodels.llf == pytest.approx(ours.llf, abs=1e-8)
    assert len(called) == 1


@pytest.mark.parametrize(
    ("formula", "name"),
    [
        ("Reaction ~ Days + (Days | Subject)", "sleepstudy"),
        ("Reaction ~ Days + (Days || Subject)", "sleepstudy"),
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin"),
        ("strength ~ 1 + (1 | batch/cask)", "Pastes"),
    ],
)
def test_the_model_without_names_has_the_likelihood_of_the_one_with_names(formula, name):
    # The second has the groups in the order of their labels.
    data = mfx.datasets.load(name)
    design = build(mfx.parse(formula), data.iloc[::-1].reset_index(drop=True))
    terms = mixedlm_terms(design)
    models = plain_model(design, terms), NamedModel(design, terms).make()
    plain, named = (prepared(model, reml=True) for model in models)
    packed = np.linspace(0.4, 0.9, plain.k_re2 + plain.k_vc)
    llf = [model.loglike(packed) for model in (plain, named)]
    assert llf[0] == pytest.approx(llf[1], rel=1e-12)
    assert (plain.k_re, plain.k_vc, plain.n_groups) == (named.k_re, named.k_vc, named.n_groups)
