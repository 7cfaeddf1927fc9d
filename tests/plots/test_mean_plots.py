"""Plots of means, predictions and slopes: what is drawn is what the tables say.

Source of truth: ``fit.emmeans``, ``fit.slopes``, ``fit.predict`` and the data, read back from the
artists.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import ArgumentError


@pytest.fixture(scope="module")
def trial():
    rng = np.random.default_rng(21)
    n = 240
    table = pd.DataFrame(
        {
            "clinic": rng.integers(12, size=n).astype(str),
            "age": rng.uniform(20, 70, n),
            "sex": rng.choice(["female", "male"], n),
            "dose": pd.Categorical(rng.choice(["none", "low", "high"], n), ["none", "low", "high"]),
        }
    )
    effect = rng.normal(size=12)[table["clinic"].astype(int)]
    eta = 0.04 * (table["age"] - 45) + (table["dose"] == "high") + effect
    table["score"] = 50 + 5 * eta + rng.normal(size=n)
    table["cured"] = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int)
    table["many"] = [f"m{i % 45:02}" for i in range(n)]
    return table


@pytest.fixture(scope="module")
def fit(trial):
    return mfx.lmer("score ~ age * sex + dose + (1 | clinic)", trial)


@pytest.fixture(scope="module")
def logit(trial):
    return mfx.glmer("cured ~ age * sex + dose + (1 | clinic)", trial, family="binomial")


def lines(ax, marker=None):
    """Lines of estimates, in the order drawn: they have labels, or none with one colour."""
    drawn = [one for one in ax.get_lines() if one.get_zorder() in (3, 4)]
    return [one for one in drawn if marker is None or one.get_marker() == marker]


def points(ax):
    return [one for one in ax.get_lines() if one.get_zorder() == 1]


def xy(line):
    return np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)


def test_means_and_their_intervals_are_those_of_the_table(fit):
    (ax,) = fit.plot.means("dose", by="sex")
    table = fit.emmeans(["dose", "sex"], which="mean").table
    for line, intervals, sex in zip(
        lines(ax, "o"), ax.collections, ["female", "male"], strict=True
    ):
        own = table[table["sex"] == sex]
        np.testing.assert_allclose(xy(line)[1], own["emmean"])
        ends = np.array([segment[:, 1] for segment in intervals.get_segments()])
        np.testing.assert_allclose(ends, own[["conf_low", "conf_high"]])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["none", "low", "high"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("dose", "score")


def test_all_rows_are_drawn_behind_beside_their_own_mean(fit, trial):
    (ax,) = fit.plot.means("dose", by="sex")
    for drawn, mean, sex in zip(points(ax), lines(ax, "o"), ["female", "male"], strict=True):
        own = trial[trial["sex"] == sex]
        x, y = xy(drawn)
        np.testing.assert_array_equal(y, own["score"])
        centre = xy(mean)[0][own["dose"].cat.codes]
        assert np.abs(x - centre).max() < 0.2
        assert drawn.get_alpha() < 0.35


def test_one_mean_a_level_without_data(fit):
    (ax,) = fit.plot.means("dose", data=False)
    assert not points(ax)
    assert len(lines(ax)) == 1
    assert ax.figure.legends == []


def test_an_interaction_plot_joins_the_means(fit):
    (ax,) = fit.plot.interaction("dose", "sex")
    joined = [one for one in ax.get_lines() if one.get_linestyle() == "-"]
    assert len(joined) == 2
    assert not points(ax)
    table = fit.emmeans(["dose", "sex"], which="mean").table
    np.testing.assert_allclose(xy(joined[0])[1], table["emmean"][table["sex"] == "female"])


def test_a_curve_is_the_prediction_without_random_effects(fit, trial):
    (ax,) = fit.plot.predictions("age", by="dose", at={"sex": "male"})
    for line, dose in zip(lines(ax), ["none", "low", "high"], strict=True):
        x, y = xy(line)
        new = pd.DataFrame({"age": x, "sex": "male", "dose": dose})
        table = fit.predict(new, random="none", interval="confidence")
        np.testing.assert_allclose(y, table["predicted"], rtol=1e-9)
    assert (x.min(), x.max()) == (trial["age"].min(), trial["age"].max())
    assert len(ax.collections) == 3
    assert sum(len(xy(one)[0]) for one in points(ax)) == len(trial)


@pytest.mark.full
def test_a_third_variable_has_panels(fit):
    axes = fit.plot.predictions("age", by=["sex", "dose"])
    assert [ax.get_title(loc="left") for ax in axes] == ["dose: none", "dose: low", "dose: high"]
    (legend,) = axes[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["female", "male"]
    assert legend.get_title().get_text() == "sex"
    formula = fit.plot.predictions("~ age * sex | dose")
    assert len(formula) == 3


def test_a_number_has_colours_at_its_mean_and_a_standard_deviation_around(trial):
    fit = mfx.lmer("score ~ age * sex + dose + (1 | clinic)", trial)
    (ax,) = fit.plot.means("dose", by="age")
    (legend,) = ax.figure.legends
    levels = [float(text.get_text()) for text in legend.get_texts()]
    mean, sd = trial["age"].mean(), trial["age"].std()
    assert levels == pytest.approx([mean - sd, mean, mean + sd], rel=0.01)


def test_partial_residuals_are_the_curve_plus_residuals(fit, trial):
    (ax,) = fit.plot.predictions("age", by="sex", data="partial")
    for drawn, line, sex in zip(points(ax), lines(ax), ["female", "male"], strict=True):
        own = (trial["sex"] == sex).to_numpy()
        expected = np.interp(trial["age"][own], *xy(line)) + fit.resid[own]
        np.testing.assert_allclose(xy(drawn)[1], expected)
    assert "partial residuals" in ax.figure.get_suptitle()


def test_probabilities_are_drawn_over_responses_with_a_little_jitter(logit, trial):
    (ax,) = logit.plot.predictions("age", by="sex")
    assert ax.get_ylabel() == "cured (probability)"
    for drawn, sex in zip(points(ax), ["female", "male"], strict=True):
        y = xy(drawn)[1]
        assert np.abs(y - trial["cured"][trial["sex"] == sex]).max() < 0.0251
    (ax,) = logit.plot.means("dose", which="linear")
    assert ax.get_ylabel() == "cured (log odds)"
    assert not points(ax)


def test_working_residuals_are_partial_residuals_of_the_linear_predictor(logit, trial):
    (ax,) = logit.plot.predictions("age", which="linear", data="partial")
    (drawn,), (line,) = points(ax), lines(ax)
    expected = np.interp(trial["age"], *xy(line)) + logit.residuals("working")
    np.testing.assert_allclose(xy(drawn)[1], expected)


@pytest.mark.full
def test_a_transformed_response_is_drawn_on_its_own_scale(trial):
    fit = mfx.lmer("np.log(score) ~ dose + (1 | clinic)", trial)
    (ax,) = fit.plot.means("dose")
    assert ax.get_ylabel() == "score"
    (drawn,) = points(ax)
    np.testing.assert_allclose(xy(drawn)[1], trial["score"])
    (ax,) = fit.plot.means("dose", which="linear")
    assert ax.get_ylabel() == "np.log(score)"
    with pytest.raises(ArgumentError, match="add which='linear'"):
        fit.plot.predictions("dose", data="partial")


def test_slopes_and_a_line_at_zero_are_drawn(fit):
    (ax,) = fit.plot.slopes("age", by="sex")
    (line,) = lines(ax, "o")
    np.testing.assert_allclose(xy(line)[1], fit.slopes("age", by="sex").table["slope"])
    assert any(set(np.ravel(one.get_ydata())) == {0.0} for one in ax.get_lines())
    assert ax.get_ylabel() == "slope of score by age"


def test_slopes_along_a_number_are_a_curve(logit):
    (ax,) = logit.plot.slopes("age", by=["age", "sex"], which="mean")
    line = lines(ax)[1]
    x = xy(line)[0]
    at = {"age": x[[0, 40]], "sex": "male"}
    expected = logit.slopes("age", by="age", at=at, which="mean").table["slope"]
    np.testing.assert_allclose(xy(line)[1][[0, 40]], expected, rtol=1e-9)
    assert ax.get_ylabel() == "slope of cured (probability) by age"


def test_numbers_with_values_are_at_their_place(fit, trial):
    (ax,) = fit.plot.means("age", at={"age": [30, 60]})
    np.testing.assert_allclose(xy(lines(ax, "o")[0])[0], [30, 60])
    np.testing.assert_allclose(xy(points(ax)[0])[0], trial["age"])


def test_levels_that_are_not_shown_have_no_data(fit, trial):
    (ax,) = fit.plot.means("dose", at={"dose": ["none", "high"]})
    assert len(xy(points(ax)[0])[1]) == (trial["dose"] != "low").sum()


def test_colours_are_told_apart_and_those_of_the_data(fit):
    (ax,) = fit.plot.means("sex", by="dose")
    colors = [to_hex(one.get_color()) for one in lines(ax, "o")]
    assert colors == [to_hex(one.get_color()) for one in points(ax)]
    assert len(set(colors)) == 3


WITH_LEGENDS = {
    "points": lambda plot: plot.means("dose", "sex"),
    "panels": lambda plot: plot.predictions("age", ["sex", "dose"]),
}


@pytest.mark.parametrize("kind", but_for(WITH_LEGENDS, ["points"]))
def test_nothing_is_clipped(fit, kind):
    axes = WITH_LEGENDS[kind](fit.plot)
    figure = axes[0].figure
    figure.draw_without_rendering()
    frame = figure.bbox.padded(1.0)
    shown = [*figure.texts, *figure.legends]
    shown += [text for ax in axes for text in (ax.xaxis.label, ax.yaxis.label, ax.title)]
    for artist in shown:
        box = artist.get_window_extent()
        assert frame.x0 <= box.x0, artist
        assert box.x1 <= frame.x1, artist


@pytest.mark.full
def test_axes_given_are_drawn_on_with_a_legend_inside(fit):
    _, (left, right) = plt.subplots(1, 2)
    assert fit.plot.means("dose", "sex", ax=left)[0] is left
    assert fit.plot.slopes("age", "sex", ax=right)[0] is right
    assert left.get_legend() is not None
    assert left.get_xlabel() == "dose"
    with pytest.raises(ArgumentError, match="3 axes are needed, one for each panel; got 1"):
        fit.plot.predictions("age", by=["sex", "dose"], ax=left)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda plot: plot.means("doze"), "x: 'doze' is in no term .*mean 'dose'"),
        (lambda plot: plot.means("dose", by="clinic"), "by: 'clinic' is in no term"),
        (lambda plot: plot.means([]), "names no variable to draw"),
        (lambda plot: plot.means(["age", "sex", "dose", "many"]), "'many' is in no term"),
        (lambda plot: plot.slopes("sex"), "'sex' is categorical and has no slope"),
        (lambda plot: plot.slopes("age", by="clinic"), "'clinic' is in no term"),
        (lambda plot: plot.predictions("age", data="residuals"), "data='residuals' is not one"),
        (lambda plot: plot.means("dose", which="response"), "which='response'"),
        (lambda plot: plot.means("dose", by="age", at={"age": range(20, 60)}), "40 levels, and 8"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_what_can(fit, draw, message):
    with pytest.raises(ArgumentError, match=message):
        draw(fit.plot)


@pytest.mark.full
def test_too_many_levels_are_refused(trial):
    fit = mfx.lmer("score ~ many + sex + (1 | clinic)", trial)
    with pytest.raises(ArgumentError, match="'many' has 45 levels, more than 40"):
        fit.plot.means("many")
    with pytest.raises(ArgumentError, match="'many' has 45 levels, and 8 colors"):
        fit.plot.means("sex", by="many")
    assert len(fit.plot.means("many", at={"many": ["m01", "m02"]})) == 1


def test_of_very_many_rows_some_are_drawn():
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"a": rng.choice(["p", "q"], 7000), "g": rng.integers(20, size=7000)})
    table["y"] = rng.normal(size=20)[table["g"]] + rng.normal(size=7000)
    (ax,) = mfx.lmer("y ~ a + (1 | g)", table).plot.means("a")
    assert len(xy(points(ax)[0])[1]) == 6000
    assert "6,000 random rows" in " ".join(ax.figure.get_suptitle().split())
