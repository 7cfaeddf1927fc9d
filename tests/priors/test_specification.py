"""Priors by name: each finds its parameter, and what finds none is told what there is.

Source of truth: the names that ``fit.conf_int`` gives to the same parameters.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.errors import ArgumentError, EngineRefusal, PriorError
from mixedfx.formula.parser import parse_dispersion
from mixedfx.priors import LKJ, Constant, Exponential, Flat, HalfNormal, HalfStudentT, Normal
from mixedfx.priors.specification import match_priors

SLOPES = "y ~ x + (x | g)"
SEVERAL = "y ~ x + z + (x + z | g) + (1 | h)"
ERRATIC = "dispersion(kind[T.b])"


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    n = 60
    g, h = np.repeat(np.arange(12), 5), np.tile(np.arange(6), 10)
    frame = pd.DataFrame({"g": g, "h": h, "x": rng.normal(size=n), "z": rng.normal(size=n)})
    frame["kind"] = np.tile(["a", "b"], n // 2)
    slopes = 1.0 + rng.normal(size=12)[g]
    frame["y"] = rng.normal(size=12)[g] + frame["x"] * slopes + 0.5 * rng.normal(size=n)
    return frame


@pytest.fixture(scope="module")
def priors(data):
    def of(formula, priors, **options):
        return match_priors(priors, build(mfx.parse(formula), data, **options).spec)

    return of


@pytest.mark.full
def test_every_name_of_an_interval_is_a_name_of_a_prior(data, priors):
    fit = mfx.lmer(SLOPES, data)
    names = list(fit.conf_int(method="profile").index)
    suited = {"corr": LKJ(1), "sd(": HalfNormal(1), "sig": HalfNormal(1)}
    # A correlation is named by its pair there, and as a whole matrix here.
    names = ["corr(g)" if name.startswith("corr") else name for name in names]
    priors(
        SLOPES, {name: suited.get(name[:3], suited.get(name[:4], Normal(0, 1))) for name in names}
    )


def test_what_is_not_named_is_flat(priors):
    found = priors(SLOPES, {})
    assert np.isinf(found.coef_sd).all()
    assert found.sd_priors == ((Flat(), Flat()),)
    assert found.sigma == Flat()
    assert found.lkj_eta == (1.0,)


def test_priors_in_whole_numbers_do_not_overflow(priors):
    found = priors("y ~ 0 + x + (1 | g)", {"x": Normal(0, 10**10)})
    assert found.coef_sd[0] ** 2 == 1e20


def test_a_kind_names_all_of_it_but_the_intercept(priors):
    found = priors(SEVERAL, {"fixed": Normal(1, 2), "sd": HalfNormal(3), "corr": LKJ(2)})
    np.testing.assert_array_equal(found.coef_sd, [np.inf, 2.0, 2.0])
    np.testing.assert_array_equal(found.coef_mean, [0.0, 1.0, 1.0])
    assert found.sd_priors == ((HalfNormal(3),) * 3, (HalfNormal(3),))
    assert found.lkj_eta == (2.0, 1.0)


def test_the_residual_is_no_standard_deviation_of_effects(priors):
    assert priors(SLOPES, {"sd": HalfNormal(3)}).sigma == Flat()


def test_a_name_outweighs_its_kind_in_any_order(priors):
    one, all_of_them = {"sd(x | g)": Exponential(2)}, {"sd": HalfNormal(1)}
    expected = ((HalfNormal(1), Exponential(2)),)
    assert priors(SLOPES, {**one, **all_of_them}).sd_priors == expected
    assert priors(SLOPES, {**all_of_them, **one}).sd_priors == expected


def test_terms_that_share_a_name_are_told_apart_by_their_text(priors):
    found = priors("y ~ x + (1 | g) + (0 + x | g)", {"sd(x | g)": HalfNormal(2)})
    assert found.sd_priors == ((Flat(),), (HalfNormal(2),))


def test_a_column_named_like_a_kind_is_that_column(data):
    frame = data.rename(columns={"x": "sd"})
    design = build(mfx.parse("y ~ sd + (1 | g)"), frame)
    np.testing.assert_array_equal(
        match_priors({"sd": Normal(0, 2)}, design.spec).coef_sd, [np.inf, 2.0]
    )


def test_coefficients_of_the_dispersion_have_names_too(data):
    fit = mfx.lmer("y ~ x + (1 | g)", data, dispersion="~ kind", priors={ERRATIC: Normal(0, 1)})
    assert fit.model.priors.dispersion == (Flat(), Normal(0, 1))


def test_known_residual_standard_deviations_have_no_prior(priors):
    with pytest.raises(PriorError, match="'sigma', which is no parameter"):
        priors("y ~ x + (1 | g)", {"sigma": HalfNormal(1)}, residual_sd=np.ones(60))


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        ([1], "must be a dict from parameters to priors"),
        ({"sd(x|g)": HalfNormal(1)}, r"Did you mean 'sd\(x \| g\)'\?"),
        ({"foo": HalfNormal(1)}, r"it has 'Intercept', 'x', 'sd\(Intercept \| g\)'"),
        ({1: Flat()}, "priors name 1, which is no parameter"),
        ({"sd": HalfNormal}, "the class HalfNormal.*it can be one of HalfNormal, HalfStudentT"),
        ({"sd": 3.0}, "'sd' is 3.0; it can be one of"),
        ({"sd": Normal(0, 1)}, "it can be one of HalfNormal, HalfStudentT, Exponential"),
        ({"x": HalfStudentT(3, 1)}, "it can be one of Normal, Flat"),
        ({"x": Constant(1)}, "it can be one of Normal, Flat"),
        ({"corr": HalfNormal(1)}, "it can be one of LKJ, Flat"),
        ({"sd": Constant(-1)}, "its value must be one number, not negative"),
        ({"sd": Constant([1, 2])}, "its value must be one number, not negative"),
        ({"sigma": Constant(0)}, "its value must be one number, positive"),
        ({"theta": Flat()}, "it can be one of Constant"),
        ({"theta": Constant([1, 2])}, r"shape \(2,\), but theta has 3 parameters; see fit.theta"),
        ({"theta": Constant([1, 0, 1]), "sd": HalfNormal(1)}, "leave one of them out"),
        ({"theta": Constant([1, 0, 1]), "corr(g)": LKJ(2)}, "leave one of them out"),
    ],
)
def test_what_suits_no_parameter_is_refused(data, priors, message):
    with pytest.raises(PriorError, match=message):
        mfx.lmer(SLOPES, data, priors=priors)


def test_a_model_without_correlations_has_no_prior_of_them(data):
    with pytest.raises(PriorError, match="'corr', which is no parameter"):
        mfx.lmer("y ~ x + (1 | g)", data, priors={"corr": LKJ(2)})


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        ({"sigma": Constant(1)}, "sigma cannot be a constant"),
        ({ERRATIC: Normal(0, 0)}, "its sd must be positive"),
        ({ERRATIC: HalfNormal(1)}, "it can be one of Normal, Flat"),
        ({"sigma": HalfNormal(1), "dispersion(Intercept)": Normal(0, 1)}, "leave one of them out"),
    ],
)
def test_what_suits_no_dispersion_is_refused(data, priors, message):
    with pytest.raises(PriorError, match=message):
        mfx.lmer("y ~ x + (1 | g)", data, dispersion="~ kind", priors=priors)


def test_priors_go_with_reml_only(data):
    with pytest.raises(ArgumentError, match="leave reml=True"):
        mfx.lmer(SLOPES, data, reml=False, priors={})


@pytest.mark.parametrize("engine", ["em", "statsmodels"])
def test_other_engines_know_no_priors(data, engine):
    with pytest.raises(EngineRefusal, match="use engine='profiled'"):
        mfx.lmer("y ~ x + (1 | g)", data, engine=engine, priors={})


def test_random_effects_of_the_dispersion_have_priors_of_their_own_names(data):
    spec = mfx.lmer("y ~ x + (1 | g)", data, dispersion="~ 1 + (1 | g)").model.spec
    priors = {"sd": HalfNormal(1), "sd(dispersion | g)": HalfNormal(2)}
    found = match_priors(priors, spec)
    assert found.sd_priors == ((HalfNormal(1),),)
    assert found.scale_sds == ((HalfNormal(2),),)


def test_correlations_of_two_terms_of_the_dispersion_have_two_names(data):
    dispersion = parse_dispersion("~ 1 + (x | g) + (0 + z + I(z**2) | g)")
    spec = build(mfx.parse("y ~ x + (1 | g)"), data, residual=dispersion).spec
    found = match_priors({"corr(dispersion: g) in (x | g)": LKJ(2)}, spec)
    assert found.scale_eta == (2.0, 1.0)
    with pytest.raises(PriorError, match="which is no parameter"):
        match_priors({"corr(dispersion: g)": LKJ(2)}, spec)
