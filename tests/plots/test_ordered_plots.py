"""Plots of ordered categories: what they draw is in the tables that they name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from reference_models import FOLDER

import mixedfx as mfx
from mixedfx.errors import ArgumentError


@pytest.fixture(scope="module")
def fit():
    wine = pd.read_csv(FOLDER / "generalized" / "data" / "wine.csv")
    wine["x"] = np.random.default_rng(1).normal(size=len(wine))
    formula = "rating ~ temp + contact + x + (1 | judge)"
    return mfx.glmer(formula, wine, family="cumulative")


@pytest.mark.full
def test_bars_of_a_factor_are_the_marginal_probabilities(fit):
    axes = fit.plot.probabilities("temp", by="contact")
    assert [ax.get_title() for ax in axes] == ["contact = no", "contact = yes"]
    table = fit.emmeans(["temp", "contact"], which="probabilities").table
    for ax, contact in zip(axes, ("no", "yes"), strict=True):
        heights = [[bar.get_height() for bar in bars] for bars in ax.containers]
        rows = table[table["contact"] == contact]
        expected = [rows[rows["rating"] == k]["emmean"].tolist() for k in "12345"]
        np.testing.assert_allclose(heights, expected)
        np.testing.assert_allclose(np.sum(heights, axis=0), 1.0)


def test_areas_along_a_number_reach_one(fit):
    [ax] = fit.plot.probabilities("x")
    top = ax.collections[-1].get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx(1.0)
    assert len(ax.collections) == 5


def test_lines_of_the_thresholds_are_at_their_estimates(fit):
    ax = fit.plot.thresholds()
    cuts = [segment[0, 0] for segment in ax.collections[5].get_segments()]
    np.testing.assert_allclose(cuts, fit.family_params)
    limits = [segment[:, 0] for segment in ax.collections[6].get_segments()]
    np.testing.assert_allclose(limits, fit.conf_int(parm=list(fit.family_params.index)))


def test_other_families_have_no_such_plots():
    herds = mfx.datasets.load("cbpp")
    fit = mfx.glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", herds)
    with pytest.raises(ArgumentError, match="family='cumulative'"):
        fit.plot.probabilities("period")
    with pytest.raises(ArgumentError, match="family='cumulative'"):
        fit.plot.thresholds()
