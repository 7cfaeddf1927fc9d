"""Models shown from a formula, with and without data, and from a fit.

Source of truth: the example texts' own structure (friends; classrooms in schools in districts in
states, crossed with background; apps in publishers, crossed with devices), and the data's counts.
"""

from __future__ import annotations

import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError

ROMCOM = "rating ~ 1 + (1 | friend)"
SCHOOLS = "y ~ hours + (1 | state/district/school/classroom) + (1 | ses)"
CRASHES = "y ~ 1 + (1 | publisher/app) + (1 | device)"


@pytest.mark.parametrize(("formula", "tree"), [(ROMCOM, True), (SCHOOLS, False), (CRASHES, False)])
def test_only_purely_nested_levels_are_a_tree(formula, tree):
    assert mfx.graph(formula).tree is tree


@pytest.mark.full
@pytest.mark.parametrize("formula", [ROMCOM, SCHOOLS, CRASHES])
def test_the_figures_of_the_text_are_drawn_from_the_formula(formula):
    ax = mfx.draw(formula)
    assert len(ax.patches) > 3


def test_data_are_counted():
    plates = mfx.graph(ROMCOM, mfx.datasets.load("romcom")).plates
    table = mfx.datasets.load("romcom")
    assert [p.count for p in plates] == [table["friend"].nunique(), len(table)]


def test_data_show_what_lies_within_what():
    pastes = mfx.datasets.load("Pastes")
    samples = pastes.assign(sample=pastes["batch"].astype(str) + pastes["cask"].astype(str))
    formula = "strength ~ 1 + (1 | batch) + (1 | sample)"
    assert (mfx.graph(formula).tree, mfx.graph(formula, samples).tree) == (False, True)


def test_a_fit_gives_the_graph_of_its_data():
    table = mfx.datasets.load("romcom")
    assert mfx.lmer(ROMCOM, table).graph() == mfx.graph(ROMCOM, table)


@pytest.mark.full
def test_a_fit_draws_its_graph():
    fit = mfx.lmer(ROMCOM, mfx.datasets.load("romcom"))
    assert len(fit.plot.graph().patches) == len(mfx.draw(fit).patches)


def test_equations_without_data_name_what_they_cannot_know():
    assert "σ_friend" in mfx.equation(ROMCOM).unicode


def test_equations_of_a_fit_hold_its_estimates():
    fit = mfx.lmer(ROMCOM, mfx.datasets.load("romcom"))
    text = fit.equation(estimates=True).unicode
    shown = [fit.params["Intercept"], fit.sigma, fit.varcorr["sdcor"].iloc[0]]
    assert all(f"{value:.4g}" in text for value in shown)


def test_equations_expand_factors_with_data():
    sleep = mfx.datasets.load("sleepstudy").assign(late=lambda d: pd.Categorical(d["Days"] > 4))
    formula = "Reaction ~ late + (1 | Subject)"
    assert "True" in mfx.equation(formula, sleep).unicode
    assert "True" not in mfx.equation(formula).unicode


def test_a_mean_that_cannot_be_told_apart_is_folded_in_and_said():
    (note,) = mfx.equation(CRASHES).notes
    assert "device" in note


def test_functions_of_the_caller_are_seen():
    def halved(x):
        return x / 2

    sleep = mfx.datasets.load("sleepstudy")
    assert mfx.graph("Reaction ~ halved(Days) + (1 | Subject)", sleep).tree


def test_what_is_no_model_is_not_drawn():
    with pytest.raises(ArgumentError, match="formula, a graph or a fit"):
        mfx.draw(3)
