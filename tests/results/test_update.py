"""Fits of a changed formula to the rows of a fit equal fits made anew."""

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError, DataError, DroppedRowsWarning, MissingColumnError

rng = np.random.default_rng(7)
SLEEP = mfx.datasets.load("sleepstudy").assign(
    w=rng.uniform(1.0, 2.0, 180), z=rng.normal(size=180), e=rng.normal(size=180)
)
SLEEP["count"] = rng.poisson(np.exp(0.5 + 0.4 * rng.normal(size=18)).repeat(10)) * (
    rng.uniform(size=180) > 0.4
)
HERDS = mfx.datasets.load("cbpp").assign(x=rng.normal(size=56))
MODELS = {
    "plain": (mfx.lmer, "Reaction ~ Days + (Days | Subject)", SLEEP, {}),
    "weights": (mfx.lmer, "Reaction ~ Days + offset(e) + (1 | Subject)", SLEEP, {"weights": "w"}),
    "known": (mfx.lmer, "Reaction ~ Days + (1 | Subject)", SLEEP, {"residual_sd": "w"}),
    "maximum likelihood": (mfx.lmer, "Reaction ~ Days + (1 | Subject)", SLEEP, {"reml": False}),
    "residuals": (
        *(mfx.lmer, "Reaction ~ Days + (1 | Subject)", SLEEP),
        {"residual": "ar1(Days | Subject)", "dispersion": "~ e"},
    ),
    "binomial": (
        *(mfx.glmer, "cbind(incidence, size - incidence) ~ period + (1 | herd)", HERDS),
        {"family": "binomial", "nagq": 5},
    ),
    "zeros": (
        *(mfx.glmer, "count ~ w + (1 | Subject)", SLEEP),
        {"family": "poisson", "zero_inflation": "~ e"},
    ),
}


@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
@pytest.mark.cases(len(MODELS))
@pytest.mark.parametrize("model", MODELS)
def test_an_update_is_the_fit_made_anew(model):
    function, formula, data, arguments = MODELS[model]
    more = "x" if "x" in data else "z"
    updated = function(formula, data, **arguments).update(f"~ . + {more}", data=data)
    fixed, _, rest = formula.partition(" + ")
    anew = function(f"{fixed} + {more} + {rest}", data, **arguments)
    assert updated.llf == pytest.approx(anew.llf, abs=1e-9)
    np.testing.assert_allclose(updated.params[anew.params.index], anew.params, rtol=1e-6)
    assert updated.reml == anew.reml
    assert updated.nobs == anew.nobs


@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
@pytest.mark.parametrize("model", ["plain", "residuals", "weights", "zeros"])
def test_rows_without_a_value_of_a_new_term_are_left_out(model):
    function, formula, data, arguments = MODELS[model]
    gaps = data.assign(z=data["z"].where(np.arange(len(data)) % 7 > 0))
    fit = function(formula, gaps, **arguments)
    with pytest.warns(DroppedRowsWarning, match="26 of 180 rows"):
        updated = fit.update("~ . + z", data=gaps)
    fixed, _, rest = formula.partition(" + ")
    with pytest.warns(DroppedRowsWarning):
        anew = function(f"{fixed} + z + {rest}", gaps, **arguments)
    assert updated.llf == pytest.approx(anew.llf, abs=1e-9)
    assert list(updated.resid.index) == list(anew.resid.index)


def test_rows_are_matched_by_their_labels():
    data = SLEEP.set_axis([f"row {i}" for i in range(180)], axis=0)
    fit = mfx.lmer("Reaction ~ Days + (1 | Subject)", data.iloc[10:])
    updated = fit.update("~ . + z", data=data.iloc[::-1])
    anew = mfx.lmer("Reaction ~ Days + z + (1 | Subject)", data.iloc[10:])
    assert updated.params.tolist() == pytest.approx(anew.params.tolist(), rel=1e-8)


def test_the_criterion_may_change():
    fit = mfx.lmer("Reaction ~ Days + (1 | Subject)", SLEEP)
    by_ml = fit.update("~ .", reml=False)
    assert not by_ml.reml
    anew = mfx.lmer("Reaction ~ Days + (1 | Subject)", SLEEP, reml=False)
    assert by_ml.llf == pytest.approx(anew.llf, abs=1e-9)


def test_what_an_update_cannot_do_is_said():
    fit = mfx.lmer("Reaction ~ Days + (1 | Subject)", SLEEP)
    with pytest.raises(MissingColumnError, match=r"'z' is not in the data.* give data="):
        fit.update("~ . + z")
    with pytest.raises(DataError, match=r"of the same rows\. For other rows call lmer"):
        fit.update("~ . + z", data=SLEEP.iloc[:20])
    with pytest.raises(DataError, match="once"):
        fit.update("~ . + z", data=pd.concat([SLEEP, SLEEP]))
    with pytest.raises(ArgumentError, match="must be a DataFrame"):
        fit.update("~ . + z", data="sleep.csv")
    with pytest.raises(ArgumentError, match="fitted by maximum likelihood"):
        mfx.glmer("incidence ~ period + (1 | herd)", HERDS, family="poisson").update(
            "~ .", reml=True
        )
    with_priors = mfx.lmer(
        "Reaction ~ Days + (1 | Subject)", SLEEP, priors={"sd": mfx.priors.HalfNormal(50)}
    )
    with pytest.raises(ArgumentError, match="anew, with priors="):
        with_priors.update("~ . - Days")


COUNTS = "count ~ w + offset(log(e2)) + (1 | Subject)"
OFFSETS = {
    "the same": ("~ . + e", None, "count ~ w + e + offset(log(e2)) + (1 | Subject)"),
    "none": ("~ . - offset(log(e2))", None, "count ~ w + (1 | Subject)"),
    "another": (
        *("~ w + offset(sqrt(e2)) + (1 | Subject)", None),
        "count ~ w + offset(sqrt(e2)) + (1 | Subject)",
    ),
    "beside an argument": (
        *("~ . - offset(log(e2)) + offset(e)", "w"),
        "count ~ w + offset(e) + (1 | Subject)",
    ),
    "an argument alone": ("~ . - offset(log(e2))", "w", "count ~ w + (1 | Subject)"),
}


@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
@pytest.mark.parametrize("case", OFFSETS)
def test_the_offset_is_that_of_the_new_formula(case):
    change, argument, formula = OFFSETS[case]
    data = SLEEP.assign(e2=SLEEP["w"] ** 2)
    options = {"family": "poisson", "offset": argument}
    updated = mfx.glmer(COUNTS, data, **options).update(change, data=data)
    anew = mfx.glmer(formula, data, **options)
    assert updated.llf == pytest.approx(anew.llf, abs=1e-9)
    new = data.head(4)
    np.testing.assert_allclose(updated.predict(new), anew.predict(new), rtol=1e-6)
    assert updated.model.spec.offset_column == argument


def half(x):
    return 0.5 * x


def test_functions_are_those_of_the_fit_and_of_the_caller():
    fit = mfx.lmer("Reaction ~ half(Days) + (1 | Subject)", SLEEP)
    assert fit.update("~ .").llf == pytest.approx(fit.llf, abs=1e-9)

    def third(x):
        return x / 3.0

    both = fit.update("~ . + third(z)", data=SLEEP)
    anew = mfx.lmer("Reaction ~ half(Days) + third(z) + (1 | Subject)", SLEEP)
    assert both.llf == pytest.approx(anew.llf, abs=1e-9)
    np.testing.assert_allclose(both.predict(SLEEP.head()), anew.predict(SLEEP.head()))
