"""Pictures: what is drawn is what the tables say.

Source of truth: the tables of the results (``ranef``, ``pooling``, ``tidy``, ``predict``,
``profile``, ``conf_int``, ``influence``, ``augment``, ``icc``, ``r2``), read back from the artists.
"""

from __future__ import annotations

import sys
import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from scipy import stats
from tiers import but_for

import mixedfx as mfx
from mixedfx import plots
from mixedfx.errors import ArgumentError, SingularFitWarning


@pytest.fixture(scope="module")
def sleep():
    return mfx.datasets.load("sleepstudy")


@pytest.fixture(scope="module")
def fit(sleep):
    return mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)


@pytest.fixture(scope="module")
def crossed():
    data = mfx.datasets.load("Penicillin")
    return mfx.lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", data)


@pytest.fixture(scope="module")
def nested():
    data = mfx.datasets.load("appcrash")
    return mfx.lmer("y ~ 1 + (1 | publisher/app) + (1 | device)", data)


@pytest.fixture(scope="module")
def singular():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        return mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff2"))


@pytest.fixture(scope="module")
def plain(sleep):
    return mfx.lmer("Reaction ~ Days", sleep)


def simulated(levels, rows=4):
    rng = np.random.default_rng(levels)
    g = np.repeat(np.arange(levels), rows)
    x, z, w = rng.uniform(0, 5, len(g)), rng.normal(size=len(g)), rng.uniform(0.5, 2, len(g))
    b = rng.normal(size=(levels, 2))
    y = 10 + x + z + b[g, 0] + 0.5 * b[g, 1] * x + rng.normal(size=len(g)) / np.sqrt(w)
    arm = rng.choice(["old", "new"], len(g))
    return pd.DataFrame({"y": y, "x": x, "z": z, "w": w, "arm": arm, "g": [f"g{i:03}" for i in g]})


@pytest.fixture(scope="module")
def many():
    return mfx.lmer("y ~ x * arm + z + (x | g)", simulated(200))


@pytest.fixture(scope="module")
def weighted():
    data = simulated(8, 6)
    data["o"] = 100.0 + data["z"]
    data["y"] += data["o"]
    data.loc[[3, 17], "x"] = np.nan
    return mfx.lmer("y ~ np.sqrt(x) + z + arm + (1 | g)", data, weights="w", offset="o")


@pytest.fixture(scope="module")
def drawn(fit):
    return fit.bootstrap(60, rng=1, progress=False)


def numbers(values):
    return np.ma.getdata(np.ma.filled(np.ma.asarray(values, dtype=float), np.nan))


def line(ax, label):
    """The line with this label."""
    (found,) = [one for one in ax.get_lines() if one.get_label() == label]
    return numbers(found.get_xdata()), numbers(found.get_ydata())


def texts(ax):
    return [text.get_text() for text in ax.texts]


def names(ticks):
    return [tick.get_text() for tick in ticks]


# ---------------------------------------------------------------- what holds for all

PICTURES = {
    "caterpillar": (2, lambda plot, ax: plot.caterpillar("Subject", ax=ax)),
    "shrinkage": (1, lambda plot, ax: plot.shrinkage("Subject", ax=ax)),
    "shrinkage of one": (1, lambda plot, ax: plot.shrinkage("Subject", "Days", ax=ax)),
    "fitted": (18, lambda plot, ax: plot.fitted(ax=ax)),
    "fitted, some": (3, lambda plot, ax: plot.fitted(levels=3, ax=ax)),
    "coefficients": (1, lambda plot, ax: plot.coefficients(ax=ax)),
    "variance": (1, lambda plot, ax: plot.variance(ax=ax)),
    "residuals": (1, lambda plot, ax: plot.residuals(ax=ax)),
    "scale-location": (1, lambda plot, ax: plot.residuals("scale-location", ax=ax)),
    "residuals by group": (1, lambda plot, ax: plot.residuals("group", ax=ax)),
    "qq": (1, lambda plot, ax: plot.qq(ax=ax)),
    "qq of effects": (2, lambda plot, ax: plot.qq("Subject", ax=ax)),
    "profile": (2, lambda plot, ax: plot.profile(["sigma", "Days"], ax=ax)),
    "influence": (1, lambda plot, ax: plot.influence(ax=ax)),
    "influence of levels": (1, lambda plot, ax: plot.influence("Subject", ax=ax)),
}
SLOW = ("fitted", "qq of effects", "profile", "scale-location")
every_picture = pytest.mark.parametrize(
    "picture", but_for(PICTURES, [name for name in PICTURES if name not in SLOW])
)


def given_axes(count):
    _, axes = plt.subplots(1, count, squeeze=False)
    return axes[0] if count > 1 else axes[0, 0]


@pytest.mark.full
@every_picture
def test_a_picture_is_drawn_on_the_axes_given_and_opens_no_figure(fit, picture):
    count, draw = PICTURES[picture]
    given = given_axes(count)
    before = plt.get_fignums()
    assert list(np.ravel(draw(fit.plot, given))) == list(np.ravel(given))
    assert plt.get_fignums() == before


@pytest.mark.cases(1)
@every_picture
def test_other_axes_than_are_needed_are_refused(fit, picture):
    count, draw = PICTURES[picture]
    with pytest.raises(ArgumentError, match=rf"{count} axes .*needed.*got {count + 1}"):
        draw(fit.plot, given_axes(count + 1))
    with pytest.raises(ArgumentError, match="takes matplotlib axes, not str"):
        draw(fit.plot, ["here"] * count)


@every_picture
def test_a_picture_changes_no_global_style_shows_nothing_and_has_two_sides(
    fit, picture, monkeypatch
):
    monkeypatch.setattr(plt, "show", lambda *_, **__: pytest.fail("shown"))
    before = dict(mpl.rcParams)
    drawn = PICTURES[picture][1](fit.plot, None)
    assert dict(mpl.rcParams) == before
    for ax in np.ravel(drawn):
        assert isinstance(ax, Axes)
        assert not ax.spines["top"].get_visible()
        assert not ax.spines["right"].get_visible()


@every_picture
def test_without_matplotlib_the_error_says_how_to_install_it(fit, picture, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"mixedfx\[plot\]"):
        PICTURES[picture][1](fit.plot, None)


@pytest.mark.parametrize("name", ["caterpillar", "shrinkage", "fitted", "variance"])
def test_a_picture_of_levels_needs_random_terms(plain, name):
    with pytest.raises(ArgumentError, match=r"'Reaction ~ Days' has no random terms.*\(1 \| group"):
        getattr(plain.plot, name)()


@pytest.mark.parametrize("name", ["coefficients", "residuals", "qq", "influence", "profile"])
def test_other_pictures_do_without_random_terms(plain, name):
    assert len(np.ravel(getattr(plain.plot, name)())) >= 1


@pytest.mark.parametrize("name", ["caterpillar", "shrinkage"])
def test_an_unknown_group_is_refused_and_the_groups_listed(fit, name):
    with pytest.raises(ArgumentError, match="group='Days' is not one of the choices 'Subject'"):
        getattr(fit.plot, name)("Days")


@pytest.mark.parametrize("name", ["qq", "influence"])
def test_an_unknown_source_is_refused_and_the_groups_listed(fit, name):
    with pytest.raises(ArgumentError, match="'Subject'"):
        getattr(fit.plot, name)("Days")


SINGULAR = ["caterpillar", "shrinkage", "fitted", "variance", "residuals", "qq", "profile"]


@pytest.mark.full
@pytest.mark.parametrize("name", but_for(SINGULAR, ["caterpillar", "shrinkage", "profile"]))
def test_a_singular_fit_is_drawn(singular, name):
    axes = np.ravel(getattr(singular.plot, name)())
    axes[0].figure.draw_without_rendering()


# ---------------------------------------------------------------- caterpillar


def test_a_caterpillar_has_axes_for_each_effect(fit):
    assert [ax.get_title() for ax in fit.plot.caterpillar("Subject")] == ["Intercept", "Days"]


@pytest.mark.parametrize(("which", "effect"), [(0, "Intercept"), (1, "Days")])
def test_a_caterpillar_shows_the_effects_sorted(fit, which, effect):
    ax = fit.plot.caterpillar("Subject")[which]
    expected = fit.ranef("Subject")[effect].sort_values()
    drawn = ax.containers[0].lines[0].get_xdata()
    np.testing.assert_allclose(np.asarray(drawn, dtype=float), expected.to_numpy())
    assert names(ax.get_yticklabels()) == expected.index.tolist()


def test_a_caterpillars_intervals_are_conditional(fit):
    ax = fit.plot.caterpillar("Subject")[1]
    table = fit.ranef("Subject", cond_sd=True).sort_values("Days")
    ends = np.array([segment[:, 0] for segment in ax.collections[0].get_segments()])
    width = 2 * stats.norm.ppf(0.975)
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], width * table["Days_sd"])


@pytest.mark.parametrize("conf_level", [0.5, 0.99])
def test_a_caterpillars_intervals_have_the_coverage_asked_for(fit, conf_level):
    ax = fit.plot.caterpillar("Subject", conf_level=conf_level)[1]
    table = fit.ranef("Subject", cond_sd=True).sort_values("Days")
    ends = np.array([segment[:, 0] for segment in ax.collections[0].get_segments()])
    width = 2 * stats.norm.ppf(0.5 + conf_level / 2)
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], width * table["Days_sd"])


@pytest.mark.full
def test_a_profile_reaches_the_limits_asked_for(fit):
    low, high = fit.conf_int(method="profile", parm="Days", conf_level=0.999).loc["Days"]
    (ax,) = fit.plot.profile("Days", conf_level=0.999)
    x, zeta = ax.lines[3].get_data()
    # Points at the limits, where zeta is the normal quantile, 3.29: beyond those of a 95% interval.
    assert np.interp([low, high], x, zeta) == pytest.approx([-3.2905, 3.2905], abs=1e-3)


@pytest.mark.full
def test_a_densitys_interval_has_the_coverage_asked_for(fit):
    boot = fit.bootstrap(50, rng=1, progress=False)
    (ax,) = fit.plot.density(boot, "Days", conf_level=0.5)
    low, high = boot.conf_int(conf_level=0.5).loc["Days"]
    assert ax.get_xlabel() == f"{low:.2f} to {high:.2f}".replace("-", "−")


@pytest.mark.full
def test_the_band_of_a_quantile_plot_has_the_coverage_asked_for(fit):
    def width(**options):
        (ax,) = fit.plot.qq("resid", **options)
        band = ax.collections[0].get_paths()[0].vertices[:, 1]
        return np.ptp(band)

    assert width(conf_level=0.5) < width() < width(conf_level=0.999)


def test_the_names_of_many_levels_are_left_out(nested):
    ax = nested.plot.caterpillar("publisher:app")[0]
    assert len(ax.get_yticks()) == 0
    assert ax.get_ylabel() == "80 levels of publisher:app"


def test_a_long_name_is_shortened_in_its_middle():
    effects = pd.DataFrame({"Intercept": [1.0], "Intercept_sd": [0.1]}, index=["very " * 20 + "17"])
    (label,) = names(plots.caterpillar(effects)[0].get_yticklabels())
    assert len(label) == 32
    assert label.startswith("very very")
    assert label.endswith("very 17")


def test_a_dollar_in_a_name_is_a_dollar():
    effects = pd.DataFrame({"a $x$": [1.0], "a $x$_sd": [0.1]}, index=["5$ to 9$"])
    ax = plots.caterpillar(effects)[0]
    assert names(ax.get_yticklabels()) == [r"5\$ to 9\$"]
    ax.figure.draw_without_rendering()


# ---------------------------------------------------------------- shrinkage


def arrows(ax):
    (quiver,) = [c for c in ax.collections if type(c).__name__ == "Quiver"]
    return quiver.get_offsets(), np.column_stack([quiver.U, quiver.V])


def test_two_effects_span_a_plane_with_arrows_from_unpooled_to_partial(fit):
    ax = fit.plot.shrinkage()
    tables = [fit.pooling().xs(name, level="effect") for name in ("Intercept", "Days")]
    tails, moves = arrows(ax)
    np.testing.assert_allclose(tails, np.transpose([t["unpooled"] for t in tables]))
    np.testing.assert_allclose(tails + moves, np.transpose([t["partial"] for t in tables]))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Intercept", "Days")


def test_the_plane_shows_what_all_share(fit):
    x, y = line(fit.plot.shrinkage(), "pooled")
    np.testing.assert_allclose([x[0], y[0]], fit.params)


def test_the_rings_are_one_and_two_standard_deviations_of_the_random_effects(fit):
    lines = fit.plot.shrinkage().get_lines()
    away = np.linalg.inv(fit.cov_re)
    for k, ring in enumerate(lines[:2], 1):
        off = np.column_stack(ring.get_data()) - fit.params.to_numpy()
        np.testing.assert_allclose(np.einsum("ni,ij,nj->n", off, away, off), k**2)


def test_one_effects_arrows_stand_below_each_other_sorted(fit):
    ax = fit.plot.shrinkage(effects="Days")
    table = fit.pooling("Subject").xs("Days", level="effect").sort_values("partial")
    tails, moves = arrows(ax)
    np.testing.assert_allclose(tails[:, 0], table["unpooled"])
    np.testing.assert_allclose(tails[:, 0] + moves[:, 0], table["partial"])
    assert names(ax.get_yticklabels()) == table.index.tolist()
    np.testing.assert_allclose(line(ax, "pooled")[0], fit.params["Days"])
    assert ax.get_xlabel() == "Days"


def test_a_single_effect_is_named(crossed):
    assert crossed.plot.shrinkage("sample").get_xlabel() == "Intercept"


def test_three_effects_are_too_many_and_their_pairs_are_listed():
    index = pd.MultiIndex.from_product([["u", "v"], ["a", "b", "c"]], names=["g", "effect"])
    table = pd.DataFrame({"unpooled": 1.0, "pooled": 0.0, "partial": 0.5}, index=index)
    with pytest.raises(
        ArgumentError, match=r"effects= from \['a', 'b'\], \['a', 'c'\], \['b', 'c'"
    ):
        plots.shrinkage(table)
    ax = plots.shrinkage(table, effects=["c", "a"])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("c", "a")


@pytest.mark.parametrize("effects", ["hours", ["Days", "hours"], ["Days", "Days"], []])
def test_effects_that_cannot_be_drawn_are_refused(fit, effects):
    with pytest.raises(ArgumentError, match="effects="):
        fit.plot.shrinkage(effects=effects)


def test_a_level_without_an_estimate_of_its_own_has_no_arrow():
    table = pd.DataFrame(
        {"unpooled": [np.nan, 2.0, 3.0], "pooled": 1.0, "partial": [1.0, 1.5, 2.0]},
        index=pd.Index(["a", "b", "c"], name="g"),
    )
    ax = plots.shrinkage(table)
    assert arrows(ax)[0][:, 0].tolist() == [2.0, 3.0]
    assert line(ax, "partially pooled")[0].tolist() == [1.0, 1.5, 2.0]


def test_estimates_far_outside_are_counted_not_drawn():
    alone = np.r_[np.linspace(0, 1, 20), 1e6]
    index = pd.Index(range(21), name="g")
    table = pd.DataFrame({"unpooled": alone, "pooled": 0.5, "partial": 0.5}, index=index)
    ax = plots.shrinkage(table)
    assert ax.get_xlim()[1] < 2
    assert "1 unpooled estimate lies outside" in ax.get_xlabel()


def test_a_singular_covariance_is_a_line():
    index = pd.MultiIndex.from_product([["u", "v"], ["a", "b"]], names=["g", "effect"])
    table = pd.DataFrame({"unpooled": [1.0, 2, 3, 4], "pooled": 0.0, "partial": 0.5}, index=index)
    flat = pd.DataFrame([[1.0, 2.0], [2.0, 4.0]], index=["a", "b"], columns=["a", "b"])
    x, y = plots.shrinkage(table, covariance=flat).get_lines()[0].get_data()
    np.testing.assert_allclose(y, 2 * x, atol=1e-7)


# ---------------------------------------------------------------- fitted lines


def panel(axes, level):
    (ax,) = [one for one in axes if one.get_title() == level]
    return ax


@pytest.mark.full
@pytest.mark.parametrize("level", ["308", "335"])
def test_a_level_has_a_panel_with_its_rows(fit, sleep, level):
    axes = fit.plot.fitted()
    rows = sleep[sleep["Subject"] == level]
    points = panel(axes, level).get_lines()[0]
    np.testing.assert_allclose(points.get_xdata(), rows["Days"])
    np.testing.assert_allclose(points.get_ydata(), rows["Reaction"])
    assert len(axes) == 18


@pytest.mark.full
@pytest.mark.parametrize(("label", "random"), [("partially pooled", "all"), ("population", "none")])
def test_the_lines_are_predictions(fit, label, random):
    x, y = line(panel(fit.plot.fitted(), "335"), label)
    new = pd.DataFrame({"Days": x, "Subject": "335"})
    np.testing.assert_allclose(y, fit.predict(new, random=random))
    assert (x[0], x[-1]) == (0.0, 9.0)


@pytest.mark.full
def test_the_unpooled_line_is_least_squares_in_the_levels_own_rows(fit, sleep):
    x, y = line(panel(fit.plot.fitted(), "335"), "unpooled")
    own = sleep[sleep["Subject"] == "335"]
    np.testing.assert_allclose(y, np.polyval(np.polyfit(own["Days"], own["Reaction"], 1), x))


def test_unpooled_lines_can_be_left_out(fit):
    (ax,) = fit.plot.fitted(levels=["335"], unpooled=False)
    assert "unpooled" not in [one.get_label() for one in ax.get_lines()]


def test_other_columns_stand_at_the_levels_mean_and_commonest_value(weighted):
    x, y = line(weighted.plot.fitted(levels=["g001"])[0], "partially pooled")
    frame = weighted.model.rows.model_frame
    own = frame[frame["g"] == "g001"]
    offset = weighted.model.rows.offset[(frame["g"] == "g001").to_numpy()].mean()
    still = {"z": own["z"].mean(), "arm": own["arm"].value_counts().index[0], "g": "g001"}
    new = pd.DataFrame({"x": x, "o": offset}).assign(**still)
    np.testing.assert_allclose(y, weighted.predict(new))


def test_a_random_intercepts_partial_line_is_the_weighted_mean_of_the_two_others(weighted):
    # Gelman and Hill (2007), equation 12.1, at every x.
    (ax,) = weighted.plot.fitted(levels=["g001"])
    weight = weighted.pooling("g").loc["g001", "weight"]
    x, alone = line(ax, "unpooled")
    at, partial = line(ax, "partially pooled")
    shared = line(ax, "population")[1]
    own = np.isin(at, x)
    expected = weight * alone + (1 - weight) * shared[own]
    np.testing.assert_allclose(partial[own], expected)


@pytest.mark.full
def test_points_show_the_response_with_its_offset_and_only_rows_that_were_used(weighted):
    points = [ax.get_lines()[0] for ax in weighted.plot.fitted()]
    assert sum(len(line.get_xdata()) for line in points) == weighted.nobs == 46
    assert min(min(line.get_ydata()) for line in points) > 100


@pytest.mark.full
def test_the_first_column_that_varies_within_levels_runs(fit, many, weighted):
    found = [f.plot.fitted(levels=2)[0].figure.get_supxlabel() for f in (fit, many, weighted)]
    assert found == ["Days", "x", "x"]


@pytest.mark.full
def test_another_column_can_run(many):
    axes = many.plot.fitted("z", levels=2)
    assert axes[0].figure.get_supxlabel() == "z"
    x, y = line(axes[0], "population")
    np.testing.assert_allclose(np.diff(y) / np.diff(x), many.params["z"])


def test_a_factor_can_run(many):
    ax = many.plot.fitted("arm", levels=["g003"])[0]
    assert names(ax.get_xticklabels()) == ["new", "old"]
    own = many.model.rows.model_frame.query("g == 'g003'")
    new = pd.DataFrame({"arm": ["new", "old"], "x": own["x"].mean(), "z": own["z"].mean()})
    expected = many.predict(new.assign(g="g003"))
    np.testing.assert_allclose(line(ax, "partially pooled")[1], expected)


def test_a_number_that_the_formula_makes_a_factor_runs_over_its_own_values(sleep):
    fit = mfx.lmer("Reaction ~ C(Days) + (1 | Subject)", sleep)
    x, y = line(fit.plot.fitted(levels=["308"])[0], "population")
    assert x.tolist() == list(range(10))
    np.testing.assert_allclose(y[1:] - y[0], fit.params.to_numpy()[1:])


@pytest.mark.full
def test_factors_that_vary_within_levels_are_at_one_combination_in_all_panels():
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"g": np.repeat(list("abcd"), 20), "x": rng.normal(size=80)})
    data["arm"] = np.repeat(["f", "m", "f", "m"], 20)
    share = np.repeat([0.3, 0.8, 0.3, 0.8], 20)
    data["cond"] = np.where(rng.random(80) < share, "hi", "lo")
    data["y"] = 3.0 * (data["cond"] == "hi") + data["x"] + rng.normal(size=80)
    data["y"] += np.repeat(rng.normal(size=4), 20)
    fit = mfx.lmer("y ~ x + cond + arm + (1 | g)", data)
    axes = fit.plot.fitted()
    common = data["cond"].value_counts().index[0]
    for ax, level, arm in zip(axes, "abcd", "fmfm", strict=True):
        x, y = line(ax, "partially pooled")
        new = pd.DataFrame({"x": x, "cond": common, "arm": arm, "g": level})
        np.testing.assert_allclose(y, fit.predict(new))
    written = axes[0].figure.get_suptitle()
    assert written == f"Lines at cond = {common}; arm as in each level"
    (overlay,) = fit.plot.fitted(ax=plt.subplots()[1])
    assert written in [text.get_text() for text in overlay.texts]


def test_an_unknown_column_is_refused_and_the_columns_listed(fit, crossed):
    with pytest.raises(ArgumentError, match="x='hours' is not one of the choices 'Days'"):
        fit.plot.fitted("hours")
    with pytest.raises(ArgumentError, match="x='hours' cannot run"):
        crossed.plot.fitted("hours")


@pytest.mark.full
def test_many_levels_are_laid_over_each_other(many):
    (ax,) = many.plot.fitted()
    lines = ax.collections[0].get_segments()
    assert len(lines) == 200
    assert ax.get_title(loc="left") == "200 levels of g"
    frame = many.model.rows.model_frame
    own = frame[frame["g"] == "g007"]
    still = {"z": own["z"].mean(), "arm": own["arm"].value_counts().index[0], "g": "g007"}
    x, y = lines[7].T
    np.testing.assert_allclose(y, many.predict(pd.DataFrame({"x": x}).assign(**still)))
    assert (x[0], x[-1]) == (own["x"].min(), own["x"].max())


@pytest.mark.full
def test_the_overlay_shows_the_population_at_the_means_of_all_rows(many):
    x, y = line(many.plot.fitted()[0], "population")
    frame = many.model.rows.model_frame
    still = {"z": frame["z"].mean(), "arm": frame["arm"].value_counts().index[0]}
    expected = many.predict(pd.DataFrame({"x": x}).assign(**still), random="none")
    np.testing.assert_allclose(y, expected)


def test_a_sample_of_the_levels_is_told_in_the_title(many):
    (ax,) = many.plot.fitted(levels=50)
    assert ax.get_title(loc="left") == "50 of 200 levels of g"
    assert len(ax.collections[0].get_segments()) == 50


def test_one_axes_given_for_several_levels_is_an_overlay(fit):
    (ax,) = fit.plot.fitted(ax=plt.subplots()[1])
    assert ax.get_title(loc="left") == "18 levels of Subject"


def test_levels_can_be_chosen_by_name_in_any_order(fit):
    axes = fit.plot.fitted(levels=["335", "308"])
    assert [ax.get_title() for ax in axes] == ["335", "308"]


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (["3o8"], "'3o8' is not a level of 'Subject'.*Did you mean '308'"),
        (0, "positive"),
        (True, "positive"),
        ([], "nothing to draw"),
    ],
)
def test_levels_that_cannot_be_drawn_are_refused(fit, levels, message):
    with pytest.raises(ArgumentError, match=message):
        fit.plot.fitted(levels=levels)


def test_without_a_number_to_run_levels_are_rows(crossed):
    (ax,) = crossed.plot.fitted(group="plate")
    coef = crossed.coef("plate")["Intercept"].sort_values()
    np.testing.assert_allclose(line(ax, "partially pooled")[0], coef)
    table = crossed.pooling("plate")
    place = {name: i for i, name in enumerate(names(ax.get_yticklabels()))}
    alone, _ = line(ax, "unpooled")
    np.testing.assert_allclose(alone, [table.loc[n, "unpooled"] for n in place])
    np.testing.assert_allclose(line(ax, "population")[0], crossed.params["Intercept"])
    data = crossed.model.rows.model_frame
    x, y = line(ax, "diameter")
    np.testing.assert_allclose(x, data["diameter"])
    np.testing.assert_allclose(y, data["plate"].map(place).astype(float))


def test_a_level_has_the_effects_of_the_levels_that_contain_it(nested):
    (ax,) = nested.plot.fitted(group="publisher:app", levels=["pub01:app01"])
    partial = line(ax, "partially pooled")[0][0]
    inner, outer = nested.ranef("publisher:app"), nested.ranef("publisher")
    expected = nested.params["Intercept"] + inner.loc["pub01:app01"] + outer.loc["pub01"]
    np.testing.assert_allclose(partial, expected["Intercept"])
    assert ax.get_title(loc="left") == "1 of 80 levels of publisher:app"


@pytest.mark.full
def test_levels_may_be_truth_values():
    data = simulated(8, 6)
    data["half"] = data["g"] < "g004"
    data["y"] += 5 * data["half"]
    fit = mfx.lmer("y ~ x + (1 | half) + (1 | g)", data)
    axes = fit.plot.fitted(group="half")
    assert [ax.get_title() for ax in axes] == ["False", "True"]


# ---------------------------------------------------------------- estimates


def test_coefficients_are_those_of_the_table_from_the_top(many):
    ax = many.plot.coefficients(df_method="normal")
    table = many.tidy(df_method="normal").set_index("term").drop("Intercept")
    assert names(ax.get_yticklabels()) == table.index.tolist()
    assert ax.yaxis.get_majorticklocs().tolist() == list(range(len(table)))[::-1]
    np.testing.assert_allclose(ax.containers[0].lines[0].get_xdata(), table["estimate"])
    ends = np.array([segment[:, 0] for segment in ax.collections[0].get_segments()])
    np.testing.assert_allclose(ends, table[["conf_low", "conf_high"]])


def test_the_intercept_is_drawn_if_asked_for(fit):
    ax = fit.plot.coefficients(intercept=True, conf_level=0.9)
    assert names(ax.get_yticklabels()) == ["Intercept", "Days"]
    assert ax.get_xlabel() == "estimate, with 90% interval"


def test_the_intercept_is_drawn_if_there_is_nothing_else(crossed):
    assert names(crossed.plot.coefficients().get_yticklabels()) == ["Intercept"]


def test_coefficients_that_were_left_out_are_not_drawn():
    data = simulated(8)
    data["twice"] = 2 * data["x"]
    with pytest.warns(mfx.errors.DroppedColumnsWarning):
        fit = mfx.lmer("y ~ x + twice + (1 | g)", data)
    assert names(fit.plot.coefficients().get_yticklabels()) == ["x"]


def bars(ax):
    return {
        name: bar.get_width() / 100
        for name, bar in zip(names(ax.get_yticklabels()), ax.patches, strict=True)
    }


def test_the_variances_bars_are_intraclass_correlations(nested):
    expected = nested.icc.drop("total").to_dict() | {"Residual": 1 - nested.icc["total"]}
    assert bars(nested.plot.variance()) == pytest.approx(expected)


def test_with_the_fixed_part_the_variances_bars_are_those_of_r_squared(fit):
    found = bars(fit.plot.variance(fixed=True))
    marginal, conditional = fit.r2["marginal"], fit.r2["conditional"]
    expected = {"fixed effects": marginal, "Subject": conditional - marginal}
    assert found == pytest.approx({**expected, "Residual": 1 - conditional})


def test_a_bar_tells_its_percentage():
    shares = pd.Series({"a": 0.5, "b": 0.4549, "c": 0.045, "d": 0.0001, "e": 0.0})
    assert texts(plots.variance(shares)) == ["50%", "45%", "4.5%", "<0.1%", "0%"]


def test_the_fixed_parts_share_needs_no_random_term(plain):
    assert bars(plain.plot.variance(fixed=True))["fixed effects"] == pytest.approx(
        plain.r2["marginal"]
    )


@pytest.mark.full
def test_a_profile_is_that_of_the_table_with_its_interval(fit):
    parm = ["sd(Days | Subject)", "Days"]
    axes = fit.plot.profile(parm)
    table, intervals = fit.profile(parm), fit.conf_int(method="profile", parm=parm)
    assert [ax.get_title() for ax in axes] == parm
    for ax, name in zip(axes, parm, strict=True):
        mine = table[table["parameter"] == name]
        (points,) = [one for one in ax.get_lines() if one.get_marker() == "o"]
        np.testing.assert_allclose(points.get_xdata(), mine["value"])
        np.testing.assert_allclose(points.get_ydata(), mine["zeta"])
        drops, interval = (c.get_segments() for c in ax.collections)
        np.testing.assert_allclose(interval[0][:, 0], intervals.loc[name])
        np.testing.assert_allclose(
            [d[1] for d in drops],
            [[v, z] for v, z in zip(intervals.loc[name], (-1.96, 1.96), strict=True)],
            rtol=1e-3,
        )


@pytest.mark.full
def test_a_profiles_interval_is_told_below_it(fit):
    (ax,) = fit.plot.profile("Days")
    assert ax.get_xlabel() == "7.36 to 13.58"


def test_a_profile_that_ends_at_zero_is_drawn_to_there(singular):
    (ax,) = singular.plot.profile("sd(Intercept | Batch)")
    (points,) = [one for one in ax.get_lines() if one.get_marker() == "o"]
    assert points.get_xdata()[0] == 0.0
    assert ax.collections[1].get_segments()[0][0, 0] == 0.0


@pytest.mark.full
def test_densities_are_those_of_the_draws_with_estimate_and_interval(fit, drawn):
    axes = fit.plot.density(drawn)
    shown = [name for name in drawn.draws if not name.startswith("theta")]
    assert [ax.get_title() for ax in axes] == shown
    for ax, name in zip(axes, shown, strict=True):
        assert ax.get_lines()[-1].get_xdata()[0] == drawn.estimates[name]
        np.testing.assert_allclose(
            ax.collections[-1].get_segments()[0][:, 0], drawn.conf_int().loc[name]
        )
        low, high = drawn.draws[name].min(), drawn.draws[name].max()
        edges = [ax.patches[0].get_x(), ax.patches[-1].get_x() + ax.patches[-1].get_width()]
        np.testing.assert_allclose(edges, [low, high])


def test_a_density_is_that_of_a_gaussian_kernel(fit, drawn):
    (ax,) = fit.plot.density(drawn, "Days")
    x, y = ax.get_lines()[0].get_data()
    np.testing.assert_allclose(y, stats.gaussian_kde(drawn.draws["Days"])(x))


@pytest.mark.full
def test_a_value_drawn_again_and_again_has_no_density(singular):
    (ax,) = singular.plot.density(
        singular.bootstrap(40, rng=1, progress=False), "sd(Intercept | Batch)"
    )
    assert len(ax.get_lines()) == 1  # the estimate


@pytest.mark.parametrize("values", [[], [np.nan], [2.0, 2.0, 2.0], [0.0, 0.0], [1.0]])
def test_draws_that_have_no_spread_are_drawn(values):
    draws = pd.DataFrame({"a": np.array(values, dtype=float)})
    ends = pd.DataFrame([[np.nan, np.nan]], index=["a"])
    (ax,) = plots.density(draws, pd.Series({"a": np.nan}), ends)
    ax.figure.draw_without_rendering()


def test_a_density_needs_a_bootstrap_and_its_names(fit, drawn):
    with pytest.raises(ArgumentError, match=r"fit\.bootstrap\(\) gives, not DataFrame"):
        fit.plot.density(drawn.draws)
    with pytest.raises(ArgumentError, match="parm='hours' is not one of the choices"):
        fit.plot.density(drawn, "hours")


# ---------------------------------------------------------------- checks


def points_of(ax):
    found = max(ax.get_lines(), key=lambda one: len(one.get_xdata()))
    return numbers(found.get_xdata()), numbers(found.get_ydata())


def test_residuals_stand_over_the_fitted_values(fit):
    ax = fit.plot.residuals()
    x, y = points_of(ax)
    np.testing.assert_allclose(x, fit.augment()["fitted"])
    np.testing.assert_allclose(y, fit.augment()["resid"])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("fitted", "residual")


def test_the_mean_of_neighbours_is_that_of_the_trend(fit):
    x, y = line(fit.plot.residuals(), "mean of neighbours")
    table = plots.binned_means(fit.fittedvalues, fit.resid)
    np.testing.assert_allclose(x, table["x"])
    np.testing.assert_allclose(y, table["y"])


def test_weighted_residuals_are_multiplied_by_the_root_of_the_weight(weighted):
    ax = weighted.plot.residuals()
    expected = weighted.resid * np.sqrt(weighted.model.rows.weights)
    np.testing.assert_allclose(points_of(ax)[1], expected)
    assert ax.get_ylabel() == "residual × √weight"


def test_a_scale_location_plot_shows_roots_of_standardised_residuals(fit):
    ax = fit.plot.residuals("scale-location")
    np.testing.assert_allclose(points_of(ax)[1] ** 2, fit.influence()["std_resid"].abs())


def test_residuals_by_group_show_quartiles_sorted_by_the_median(fit):
    ax = fit.plot.residuals("group", "Subject")
    subjects = fit.model.rows.model_frame["Subject"]
    grouped = fit.resid.groupby(subjects.astype(str))
    median = grouped.median().sort_values()
    assert names(ax.get_yticklabels()) == median.index.tolist()
    boxes = np.array([segment[:, 0] for segment in ax.collections[1].get_segments()])
    np.testing.assert_allclose(boxes[:, 0], grouped.quantile(0.25)[median.index])
    np.testing.assert_allclose(boxes[:, 1], grouped.quantile(0.75)[median.index])


def test_residuals_of_an_unknown_kind_are_refused(fit):
    with pytest.raises(ArgumentError, match="'fitted', 'scale-location', 'group'"):
        fit.plot.residuals("qq")


def test_a_normal_quantile_plot_shows_standardised_residuals_sorted(fit):
    (ax,) = fit.plot.qq()
    x, y = points_of(ax)
    np.testing.assert_allclose(y, np.sort(fit.influence()["std_resid"]))
    shares = stats.beta.median(np.arange(1, 181), np.arange(180, 0, -1))
    np.testing.assert_allclose(x, stats.norm.ppf(shares), atol=1e-12)


def test_the_envelope_is_that_of_order_statistics(fit):
    (ax,) = fit.plot.qq()
    (path,) = ax.collections[0].get_paths()
    order = np.arange(1, 181), np.arange(180, 0, -1)
    low, high = (stats.norm.ppf(stats.beta.ppf(p, *order)) for p in (0.025, 0.975))
    drawn = path.vertices[:, 1]
    assert set(np.round(low, 9)) | set(np.round(high, 9)) <= set(np.round(drawn, 9))


def test_residuals_far_outside_the_envelope_are_named(fit):
    (ax,) = fit.plot.qq()
    worst = fit.influence()["std_resid"].abs().idxmax()
    assert str(worst) in texts(ax)


def test_effects_are_standardised_by_what_conditional_means_vary(fit):
    axes = fit.plot.qq("Subject")
    table = fit.ranef("Subject", cond_sd=True)
    assert [ax.get_title() for ax in axes] == ["Intercept", "Days"]
    for ax, name in zip(axes, ["Intercept", "Days"], strict=True):
        sd = np.sqrt(fit.cov_re.loc[name, name] - table[f"{name}_sd"] ** 2)
        np.testing.assert_allclose(points_of(ax)[1], np.sort(table[name] / sd))


def test_standardised_effects_are_standard_normal_where_the_model_is_true():
    # 2,000 levels: the standard error of a standard deviation is 0.016.
    fit = mfx.lmer("y ~ x + (1 | g)", simulated_intercepts(2000))
    values = points_of(fit.plot.qq("g")[0])[1]
    assert np.std(values) == pytest.approx(1.0, abs=0.05)


def simulated_intercepts(levels):
    rng = np.random.default_rng(7)
    g = np.repeat(np.arange(levels), rng.integers(1, 8, levels))
    x = rng.normal(size=len(g))
    y = x + rng.normal(size=levels)[g] + rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "g": g})


def test_effects_without_variance_are_said_to_have_none(singular):
    (ax,) = singular.plot.qq("Batch")
    assert "variance is estimated as zero" in texts(ax)[0]


def test_rows_have_stems_of_cooks_distance_and_the_largest_are_named(fit):
    ax = fit.plot.influence()
    distance = fit.influence()["cooks_distance"]
    tips = np.array([segment[1] for segment in ax.collections[0].get_segments()])
    np.testing.assert_allclose(tips[:, 1], distance)
    np.testing.assert_allclose(tips[:, 0], np.arange(1, 181))
    assert len(ax.texts) == 5
    assert texts(ax)[0] == str(distance.idxmax())


@pytest.mark.full
def test_levels_are_named_the_most_influential_on_top(fit):
    ax = fit.plot.influence("Subject")
    distance = fit.influence("Subject")["cooks_distance"].sort_values()
    assert names(ax.get_yticklabels()) == distance.index.tolist()
    np.testing.assert_allclose(ax.get_lines()[0].get_xdata(), distance)


def test_of_many_levels_the_most_influential_are_named():
    distance = pd.Series(np.r_[np.full(99, 0.01), 1.0, np.nan], index=[f"g{i}" for i in range(101)])
    ax = plots.influence(distance, group="g")
    assert texts(ax)[0] == "g g99"  # the group, too: a level's name may be a number
    assert len(ax.collections[0].get_segments()) == 100


def test_names_of_points_do_not_overlap():
    distance = pd.Series(np.linspace(1.0, 0.9, 300), index=[f"a long name {i}" for i in range(300)])
    ax = plots.influence(distance)
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    overlaps = [a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert not any(overlaps)


# ---------------------------------------------------------------- tables


def test_quantiles_of_many_values_keep_both_ends():
    values = np.random.default_rng(1).normal(size=20_000)
    table = plots.quantiles(values)
    assert len(table) == 2_000
    np.testing.assert_array_equal(table["value"].iloc[:300], np.sort(values)[:300])
    np.testing.assert_array_equal(table["value"].iloc[-300:], np.sort(values)[-300:])


def test_quantiles_leave_out_what_is_not_finite():
    assert plots.quantiles([1.0, np.nan, np.inf]).index.tolist() == [0]


def test_a_trends_bins_hold_every_point_once():
    table = plots.binned_means(np.repeat([1.0, 2.0], 500), np.arange(1000))
    assert table["x"].tolist() == [1.0, 2.0]
    assert table["n"].sum() == 1000


def test_boxes_reach_as_tukeys_do():
    values = pd.Series(np.random.default_rng(2).standard_cauchy(60))
    table = plots.boxplot_stats(values, np.repeat(["a", "b", "c"], 20))
    for i, level in enumerate("abc"):
        expected = mpl.cbook.boxplot_stats(values[20 * i : 20 * i + 20])[0]
        found = table.loc[level, ["low", "q1", "median", "q3", "high"]]
        keys = ("whislo", "q1", "med", "q3", "whishi")
        np.testing.assert_allclose(found.to_numpy(dtype=float), [expected[k] for k in keys])


def test_a_grid_leaves_out_rows_without_a_level():
    frame = pd.DataFrame({"x": [0.0, 1.0, 9.0], "g": ["a", "a", "b"]})
    rows, codes = plots.data_grid(frame, np.array([0, 0, -1]), x="x", own=["g"], points=2)
    assert rows["x"].tolist() == [0.0, 1.0]
    assert codes.tolist() == [0, 0]
