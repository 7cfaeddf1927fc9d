"""Formulas of marginal means: the variables and the comparison that they name, and their errors."""

import pickle

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError, CallError, FormulaError

# R 4.2.2, lmerTest, emmeans 1.8.4 with lmer.df = "satterthwaite", on lme4's cake:
# m <- lmer(angle ~ recipe * temp + (1 | recipe:replicate), cake)
# emmeans(m, revpairwise ~ recipe | temp, at = list(temp = c(175, 225)))$contrasts
R_ESTIMATE = [-1.7492063, -1.5746032, 0.17460317, -1.2063492, -1.4698413, -0.26349206]
R_STD_ERROR, R_DF = 2.6509921, 56.697372
R_P_VALUE = [0.78757103, 0.82390854, 0.99761133, 0.89235933, 0.84461909, 0.9945688]


@pytest.fixture(scope="module")
def cake_fit():
    cake = mfx.datasets.load("cake")
    return mfx.lmer("angle ~ recipe * temp + (1 | recipe:replicate)", cake)


@pytest.fixture(scope="module")
def odd_fit():
    cake = mfx.datasets.load("cake").rename(columns={"recipe": "the recipe", "temp": "class"})
    return mfx.lmer("angle ~ `the recipe` * class + (1 | `the recipe`:replicate)", cake)


@pytest.mark.parametrize(
    ("formula", "specs", "by"),
    [
        ("~ recipe", "recipe", None),
        ("~ recipe | temp", "recipe", "temp"),
        ("pairwise ~ recipe|temp", "recipe", "temp"),
        ("~ recipe * temp", ["recipe", "temp"], None),
        ("~ temp:recipe", ["temp", "recipe"], None),
        ("~ (temp + recipe)", ["temp", "recipe"], None),
        ("~ 1", "1", None),
        ("~ 1 | recipe", [], "recipe"),
        ("~ `recipe` | `temp`", "recipe", "temp"),
    ],
)
def test_a_formula_names_the_variables_and_those_that_group_them(cake_fit, formula, specs, by):
    at = {"temp": [175, 225]}
    means = cake_fit.emmeans(formula, at=at)
    expected = cake_fit.emmeans(specs, by=by, at=at)
    pd.testing.assert_frame_equal(means.table, expected.table)
    assert (means.specs, means.by) == (expected.specs, expected.by)


@pytest.mark.cases(1)
@pytest.mark.parametrize("method", ["pairwise", "revpairwise", "trt.vs.ctrl", "consec", "eff"])
def test_the_left_side_is_the_method_of_contrasts(cake_fit, method):
    means = cake_fit.emmeans(f"{method} ~ recipe")
    assert means.method == method
    expected = cake_fit.emmeans("recipe").contrasts(method)
    pd.testing.assert_frame_equal(means.contrasts(), expected)


def test_contrasts_of_a_formula_are_those_of_emmeans(cake_fit):
    contrasts = cake_fit.emmeans("revpairwise ~ recipe | temp", at={"temp": [175, 225]}).contrasts()
    assert contrasts["temp"].tolist() == [175] * 3 + [225] * 3
    assert contrasts["contrast"].tolist() == ["B - A", "C - A", "C - B"] * 2
    np.testing.assert_allclose(contrasts["estimate"], R_ESTIMATE, rtol=1e-6)
    np.testing.assert_allclose(contrasts["std_error"], R_STD_ERROR, rtol=1e-5)
    np.testing.assert_allclose(contrasts["df"], R_DF, rtol=1e-3)
    np.testing.assert_allclose(contrasts["p_value"], R_P_VALUE, rtol=1e-4)


@pytest.mark.full
def test_contrasts_are_printed_below_the_means_where_a_formula_asks_for_them(cake_fit):
    means = cake_fit.emmeans("pairwise ~ recipe")
    for text in (str(means), means._repr_html_()):
        assert "A - B" in text
        assert (
            "Contrasts: pairwise. Adjustment: tukey, for 3 contrasts, all pairs of 3 means" in text
        )
    assert "A - B" not in str(cake_fit.emmeans("~ recipe"))


def test_names_in_a_formula_are_those_of_the_data(odd_fit):
    means = odd_fit.emmeans("pairwise ~ `the recipe` | class")
    assert means.specs == ("the recipe",)
    assert means.by == ("class",)
    assert list(means.contrasts())[:2] == ["class", "contrast"]
    assert odd_fit.emmeans("~ Q('the recipe')").specs == ("the recipe",)


def test_a_column_whose_name_has_a_tilde_is_no_formula():
    cake = mfx.datasets.load("cake").rename(columns={"recipe": "a ~ b"})
    fit = mfx.lmer("angle ~ `a ~ b` + (1 | replicate)", cake)
    assert fit.emmeans("a ~ b").specs == ("a ~ b",)


def test_means_that_are_asked_for_by_a_formula_are_kept_by_pickle(cake_fit):
    means = cake_fit.emmeans("consec ~ recipe")
    again = pickle.loads(pickle.dumps(means))
    assert str(again) == str(means)


@pytest.mark.parametrize(
    ("formula", "marked", "message"),
    [
        ("pairwise ~ recip", "recip", "Did you mean 'recipe'"),
        ("pairs ~ recipe", "pairs", "Did you mean 'pairwise'"),
        ("pairwise ~ log(temp)", "log(temp)", "no term of the fixed part"),
        ("~ recipe - 1", "recipe - 1", "joined by"),
        ("~ recipe^2", "recipe^2", "joined by"),
        ("~ recipe | temp | temp", "recipe | temp", "joined by"),
        ("pairwise ~ | recipe", "| recipe", "before the bar"),
        ("pairwise ~ recipe |", "|", "missing"),
        ("pairwise ~", "~", "missing"),
        ("~ `recip", "`recip", "never closed"),
        ("~ `recip` | temp", "`recip`", "Did you mean 'recipe'"),
    ],
)
def test_what_is_no_formula_of_means_is_marked(cake_fit, formula, marked, message):
    with pytest.raises(FormulaError, match=message) as caught:
        cake_fit.emmeans(formula)
    error = caught.value
    assert error.text[error.start : error.end] == marked


def test_one_mean_has_no_contrasts(cake_fit):
    with pytest.raises(ArgumentError, match="nothing to compare"):
        cake_fit.emmeans("pairwise ~ temp")


def test_variables_behind_the_bar_are_not_given_as_by_too(cake_fit):
    with pytest.raises(ArgumentError, match="by='temp' is given twice"):
        cake_fit.emmeans("~ recipe | temp", by="temp")


@pytest.mark.parametrize(
    ("specs", "advice"),
    [
        ("recipe | temp", "write '~ recipe | temp'"),
        ("recipe*temp", "write '~ recipe*temp'"),
        (["pairwise ~ recipe"], "write 'pairwise ~ recipe'"),
    ],
)
def test_a_formula_without_tilde_or_in_a_list_says_how_it_is_written(cake_fit, specs, advice):
    with pytest.raises(ArgumentError) as caught:
        cake_fit.emmeans(specs)
    assert advice in str(caught.value)
    assert len(cake_fit.emmeans(advice.partition("'")[2].strip("'")).table)


def test_the_adjustment_is_an_argument_of_contrasts(cake_fit):
    with pytest.raises(CallError, match=r"contrasts\(adjust=...\)"):
        cake_fit.emmeans("pairwise ~ recipe", adjust="none")
