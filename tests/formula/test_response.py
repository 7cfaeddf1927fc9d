"""Responses of successes and trials in a formula's text."""

from __future__ import annotations

import re

import pytest

import mixedfx as mfx
from mixedfx.errors import FormulaError
from mixedfx.formula.response import response_code


@pytest.mark.parametrize(
    ("text", "function", "parts"),
    [
        ("cbind(a, b) ~ x + (1 | g)", "cbind", ("a", "b")),
        ("cbind( a,n-a )~x", "cbind", ("a", "n - a")),
        ("prop(k, 10) ~ x", "prop", ("k", "10")),
        ("prop(np.rint(k), n) ~ x", "prop", ("np.rint(k)", "n")),
        ("y ~ x", "", ("y",)),
        ("np.log(prop) ~ x", "", ("np.log(prop)",)),
        ("prop ~ cbind + (1 | g)", "", ("prop",)),
    ],
)
def test_the_arguments_of_a_response_are_expressions_of_their_own(text, function, parts):
    assert response_code(mfx.parse(text).response) == (function, parts)


@pytest.mark.parametrize(
    "text",
    [
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        "prop(`no. sick`, `herd size`) ~ period + (1 | herd)",
    ],
)
def test_successes_parse_back_to_the_same_formula(text):
    formula = mfx.parse(text)
    assert str(formula) == text
    assert mfx.parse(str(formula)) == formula


def test_the_name_of_a_response_is_its_text():
    formula = mfx.parse("cbind(`no. sick`, size - `no. sick`) ~ 1 + (1 | herd)")
    assert formula.response_name == "cbind(no. sick, size - no. sick)"


@pytest.mark.parametrize(
    ("text", "marked", "words"),
    [
        ("y ~ cbind(a, b) + (1 | g)", "cbind(a, b)", "left side only"),
        ("y ~ x * prop(a, b)", "prop(a, b)", "left side only"),
        ("y ~ x + (prop(a, b) | g)", "prop(a, b)", "left side only"),
        ("y ~ x + (1 | prop(a, b))", "prop(a, b)", "left side only"),
        ("y ~ x + offset(cbind(a, b))", "offset(cbind(a, b))", "left side only"),
        ("cbind(a) ~ x", "cbind(a)", "two columns, successes and failures"),
        ("cbind(a, b, c) ~ x", "cbind(a, b, c)", "two columns"),
        ("prop(a, n=b) ~ x", "prop(a, n=b)", "two columns, successes and trials"),
        ("prop(*a, b) ~ x", "prop(*a, b)", "two columns"),
        ("np.log(cbind(a, b)) ~ x", "np.log(cbind(a, b))", "whole response"),
        ("prop(cbind(a, b), n) ~ x", "prop(cbind(a, b), n)", "whole response"),
        ("cbind(a, b) / 2 ~ x", "cbind(a, b)", "whole response"),
        ("k / n ~ x", "k / n", "'prop(k, n) ~ ...'"),
        ("`no. sick` / n ~ x", "`no. sick` / n", "'prop(`no. sick`, n) ~ ...'"),
    ],
)
def test_successes_elsewhere_are_marked(text, marked, words):
    with pytest.raises(FormulaError) as caught:
        mfx.parse(text)
    assert text[caught.value.start : caught.value.end] == marked
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text", ["diag(x:prop | g)", "diag((prop : x) | g/h)", "diag(cbind + x | g)"]
)
def test_names_like_those_of_successes_may_stand_in_structured_terms(text):
    formula = mfx.parse(f"y ~ 1 + {text}")
    assert {"prop", "cbind"} & set(re.findall(r"\w+", formula.random[0].effects))
    assert mfx.parse(str(formula)) == formula


def test_a_dispersion_formula_has_no_successes():
    with pytest.raises(FormulaError, match="left side only"):
        mfx.lmer("y ~ x", {"y": [1.0, 2.0], "x": [1.0, 2.0]}, dispersion="~ prop(x, 2)")


def test_the_graph_and_the_equation_of_successes_need_no_data():
    assert "g" in str(mfx.graph("cbind(a, b) ~ x + (1 | g)"))
    written = mfx.equation("cbind(a, b) ~ x + (1 | g)", family="binomial").unicode
    assert "aᵢⱼ" in written
    assert "Binomial" in written
