"""Pictures: what is drawn is what the table says."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

import mixedfx as mfx

mpl.use("agg")
from matplotlib import pyplot as plt


@pytest.fixture
def fit():
    sleep = mfx.datasets.load("sleepstudy")
    yield mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
    plt.close("all")


def test_a_caterpillar_has_axes_for_each_effect(fit):
    assert [ax.get_title() for ax in fit.plot.caterpillar("Subject")] == ["Intercept", "Days"]


@pytest.mark.parametrize(("which", "effect"), [(0, "Intercept"), (1, "Days")])
def test_a_caterpillar_shows_the_effects_sorted(fit, which, effect):
    ax = fit.plot.caterpillar("Subject")[which]
    expected = fit.ranef("Subject")[effect].sort_values()
    drawn = ax.containers[0].lines[0].get_xdata()
    np.testing.assert_allclose(np.asarray(drawn, dtype=float), expected.to_numpy())
    assert [t.get_text() for t in ax.get_yticklabels()] == expected.index.tolist()


def test_a_caterpillars_intervals_are_conditional(fit):
    ax = fit.plot.caterpillar("Subject")[1]
    table = fit.ranef("Subject", cond_sd=True).sort_values("Days")
    ends = np.array([segment[:, 0] for segment in ax.collections[0].get_segments()])
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 2 * 1.96 * table["Days_sd"])


def test_a_caterpillar_can_be_drawn_on_given_axes(fit):
    _, axes = plt.subplots(1, 2)
    assert list(fit.plot.caterpillar("Subject", ax=axes)) == list(axes)


def test_too_few_axes_are_refused(fit):
    with pytest.raises(ValueError, match="2 axes"):
        fit.plot.caterpillar("Subject", ax=plt.subplots()[1])


def test_the_names_of_many_levels_are_left_out():
    crashes = mfx.datasets.load("appcrash")
    ax = mfx.lmer("y ~ 1 + (1 | publisher/app) + (1 | device)", crashes).plot.caterpillar(
        "publisher:app"
    )[0]
    assert len(ax.get_yticks()) == 0
    assert "levels of publisher:app" in ax.get_ylabel()
    plt.close("all")


def test_no_global_style_is_changed(fit):
    before = dict(mpl.rcParams)
    fit.plot.caterpillar("Subject")
    assert dict(mpl.rcParams) == before
