"""Equations and graphs of generalised models: distribution, link, trials, offset, parameters.

Source of truth: the models' textbook form, written out; balanced braces and environments, which
KaTeX and MathJax need; and the estimates of fits.
"""

from __future__ import annotations

import re

import pytest
from generalized_models import COSTLY, GENERALIZED, generalized_fit
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import ArgumentError

SLOPES = "y ~ x + (x | g)"
INTERCEPTS = "count ~ x + (1 | g)"
LAPLACE = [name for name in GENERALIZED if name.endswith("__laplace")]


def first_lines(equation, count=2):
    return [" ".join(line.split()) for line in equation.unicode.splitlines()[:count]]


@pytest.mark.parametrize(
    ("formula", "family", "link", "lines"),
    [
        (SLOPES, "binomial", None, ["yᵢⱼ | bᵢ ~ Bernoulli(pᵢⱼ)", "logit(pᵢⱼ) ="]),
        (SLOPES, "binomial", "probit", ["yᵢⱼ | bᵢ ~ Bernoulli(pᵢⱼ)", "probit(pᵢⱼ) ="]),
        (SLOPES, "poisson", None, ["yᵢⱼ | bᵢ ~ Poisson(λᵢⱼ)", "log(λᵢⱼ) ="]),
        (SLOPES, "poisson", "sqrt", ["yᵢⱼ | bᵢ ~ Poisson(λᵢⱼ)", "√λᵢⱼ ="]),
        (SLOPES, "nbinom2", None, ["yᵢⱼ | bᵢ ~ NegBinomial(λᵢⱼ, α)", "log(λᵢⱼ) ="]),
        (SLOPES, "gamma", "inverse", ["yᵢⱼ | bᵢ ~ Gamma(μᵢⱼ, φ)", "1 / μᵢⱼ ="]),
        (SLOPES, "inverse_gaussian", None, ["yᵢⱼ | bᵢ ~ InverseGaussian(μᵢⱼ, φ)", "log(μᵢⱼ) ="]),
        (SLOPES, "gaussian", "log", ["yᵢⱼ | bᵢ ~ N(μᵢⱼ, σ²)", "log(μᵢⱼ) ="]),
        (INTERCEPTS, "poisson", None, ["countᵢⱼ | Cᵢ ~ Poisson(λᵢⱼ)", "log(λᵢⱼ) = Cᵢ + β₁ xᵢⱼ"]),
        # The overall mean is mu already.
        ("y ~ x + (1 | g)", "gamma", None, ["yᵢⱼ | μᵢ ~ Gamma(mᵢⱼ, φ)", "log(mᵢⱼ) = μᵢ + β₁ xᵢⱼ"]),
        (
            "cbind(k, n - k) ~ x + (1 | g)",
            "binomial",
            "cloglog",
            ["kᵢⱼ | μᵢ ~ Binomial(nᵢⱼ, pᵢⱼ)", "cloglog(pᵢⱼ) = μᵢ + β₁ xᵢⱼ"],
        ),
        ("cbind(a, b) ~ x + (1 | g)", "binomial", None, ["aᵢⱼ | μᵢ ~ Binomial((a + b)ᵢⱼ, pᵢⱼ)"]),
        ("prop(k, n) ~ x + (1 | g)", "binomial", None, ["kᵢⱼ | μᵢ ~ Binomial(nᵢⱼ, pᵢⱼ)"]),
    ],
)
def test_distribution_and_link_are_written(formula, family, link, lines):
    found = first_lines(mfx.equation(formula, family=family, link=link), len(lines))
    assert all(one.startswith(start) for one, start in zip(found, lines, strict=True)), found


def test_without_a_family_equations_are_of_a_linear_model():
    assert "~ N(" in mfx.equation(SLOPES).unicode
    assert mfx.equation(SLOPES, family="gaussian").lines[0].left.unicode == "yᵢⱼ | bᵢ"


def test_offset_and_trials_are_explained():
    equation = generalized_fit("owls_pois__laplace").equation()
    assert "+ logBroodSizeᵢⱼ" in equation.unicode
    assert "logBroodSizeᵢⱼ is an offset: its coefficient is one." in equation.notes
    equation = generalized_fit("cbpp_prop__laplace").equation()
    assert first_lines(equation, 1) == ["sizeᵢⱼ propᵢⱼ | Pᵢ ~ Binomial(sizeᵢⱼ, pᵢⱼ)"]
    assert "sizeᵢⱼ is the number of trials." in equation.notes


def test_data_say_whether_there_are_trials():
    cbpp = mfx.datasets.load("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    fit = mfx.glmer(formula, cbpp)
    assert first_lines(fit.equation(), 1) == ["incidenceᵢⱼ | μᵢ ~ Binomial(sizeᵢⱼ, pᵢⱼ)"]
    assert fit.equation().lines == mfx.equation(formula, cbpp, family="binomial").lines
    assert fit.graph() == mfx.graph(formula, cbpp, family="binomial")


def test_estimates_include_the_parameters_of_the_family():
    fit = generalized_fit("salam_nb2__laplace")
    alpha = f"{fit.model.residual.params[0]:.4g}"
    equation = fit.equation(estimates=True)
    assert f"NegBinomial(λᵢⱼ, {alpha})" in equation.unicode
    assert f"The variance of the response is λᵢⱼ + {alpha} λᵢⱼ²." in equation.notes


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", but_for(LAPLACE, [n for n in LAPLACE if n not in COSTLY]))
@pytest.mark.parametrize("estimates", [False, True])
def test_latex_is_balanced(name, estimates):
    latex = generalized_fit(name).equation(estimates=estimates).latex
    plain = latex.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", latex) for word in ("begin", "end"))
    assert sorted(begun) == sorted(ended)
    assert latex.count("(") == latex.count(")")


@pytest.mark.parametrize(
    ("family", "params"), [("poisson", []), ("nbinom2", ["α"]), ("gamma", ["φ"]), (None, ["σ"])]
)
def test_graphs_have_the_parameters_of_the_family(family, params):
    labels = [node.label for node in mfx.graph(SLOPES, family=family).nodes]
    assert [label for label in labels if label in ("α", "φ", "σ")] == params


def test_the_response_of_a_graph_is_the_successes():
    nodes = mfx.graph("cbind(k, n - k) ~ x + (1 | g)", family="binomial").nodes
    assert [node.label for node in nodes if node.kind == "response"] == ["kᵢⱼ"]


def test_a_family_that_does_not_exist_is_named():
    with pytest.raises(ArgumentError, match="poisson"):
        mfx.equation(SLOPES, family="poison")


# ---------------------------------------------------------------- several linear predictors

ZEROS = {"family": "nbinom2", "zero_inflation": "~ x + (1 | g)", "dispersion": "~ kind"}


def test_each_linear_predictor_has_a_line_and_symbols_of_its_own():
    found = mfx.equation("count ~ x + (1 | g)", **ZEROS)
    assert [" ".join(line.split()) for line in found.unicode.splitlines()] == [
        "countᵢⱼ | Cᵢ, bᵢ ~ πᵢⱼ δ₀ + (1 − πᵢⱼ) NegBinomial(λᵢⱼ, αᵢⱼ)",
        "log(λᵢⱼ) = Cᵢ + β₁ xᵢⱼ",
        "logit(πᵢⱼ) = γ₀ + bᵢ + γ₁ xᵢⱼ",
        "log(αᵢⱼ) = ψ₀ + ψ₁ kindᵢⱼ",
        "Cᵢ ~ N(C, σ_g²)",
        "bᵢ ~ N(0, σ_zero,g²)",
    ]
    assert "πᵢⱼ is its probability, beside those of the distribution." in found.notes[0]
    assert found.notes[1] == "The variance of the distribution is λᵢⱼ + αᵢⱼ λᵢⱼ²."


def test_a_factor_of_the_zero_part_alone_indexes_the_rows():
    found = mfx.equation("y ~ x", family="truncated_poisson", zero_inflation="~ 1 + (1 | g)")
    lines = [" ".join(line.split()) for line in found.unicode.splitlines()]
    assert lines[1:3] == ["log(μᵢⱼ) = β₀ + β₁ xᵢⱼ", "logit(πᵢⱼ) = γ₀ + bᵢ"]
    assert found.where == (("i", "g"), ("j", "rows"))
    assert "of positive counts" in found.notes[0]


def test_slopes_of_two_predictors_share_no_symbol():
    found = mfx.equation("y ~ x + (x | g)", family="poisson", zero_inflation="~ x + (x | g)")
    symbols = ["Σ_g", "Σ_zero,g", "σ_zero,g,x", "ρ_zero,g", "c₁ᵢ"]
    assert all(symbol in found.unicode for symbol in symbols)
    left = [line.left.unicode for line in found.lines]
    assert len(set(left)) == len(left)


def test_a_modelled_standard_deviation_is_that_of_the_row():
    lines = mfx.equation("y ~ x + (1 | g)", dispersion="~ kind").unicode.splitlines()
    assert lines[0].endswith("~ N(mᵢⱼ, σᵢⱼ²)")
    assert lines[2].split() == ["log(σᵢⱼ)", "=", "ψ₀", "+", "ψ₁", "kindᵢⱼ"]


def test_a_zero_part_is_refused_by_a_family_without_zeros():
    with pytest.raises(ArgumentError, match="never exactly zero"):
        mfx.equation("y ~ x", family="gamma", zero_inflation="~ 1")


@pytest.mark.full
def test_estimates_of_each_predictor_stand_in_its_line():
    herds = mfx.datasets.load("cbpp")
    options = {"family": "nbinom2", "zero_inflation": "~ size", "dispersion": "~ size"}
    formula = "incidence ~ period + (1 | herd)"
    fit = mfx.glmer(formula, herds, **options)
    zero = fit.zero_inflation.params
    line = next(one for one in fit.equation(estimates=True).lines if "π" in one.left.unicode)
    assert f"{abs(zero['size']):.4g} size" in "".join(line.right)
    assert fit.equation().unicode == mfx.equation(formula, herds, **options).unicode
    graph = fit.graph()
    assert graph == mfx.graph(formula, herds, **options)
    assert [p.count for p in graph.plates] == [15, 56]


def test_a_graph_has_the_parents_of_all_predictors():
    found = mfx.graph("count ~ x + (1 | g)", **ZEROS)
    parents = [edge.source for edge in found.edges if edge.target == "count"]
    effects, coefficients = ["(1 | g)", "zero (1 | g)"], ["beta", "zero beta", "dispersion beta"]
    assert sorted(parents) == sorted([*effects, *coefficients, "x", "kind"])
    labels = [node.label for node in found.nodes]
    assert {"σ_g", "σ_zero,g", "β₁", "γ", "ψ"} <= set(labels)
    assert "α" not in labels
