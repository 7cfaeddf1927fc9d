"""Predictions that know how far off they may be: standard errors and intervals.

Source of truth: the inverse of Henderson's mixed model equations, formed densely here, for the
mean; the definition of the model, term by term, for what a new response adds to it; and
simulated coverage. Means without uncertainty are tested in test_results.py and, against lme4, in
test_reference.py.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from oracle import dense_z, lambdas
from reference_models import REFERENCES, fit_of, tiered
from scipy import stats
from scipy.linalg import block_diag

import mixedfx as mfx
from mixedfx.errors import (
    ArgumentError,
    DroppedColumnsWarning,
    MissingColumnError,
    NewLevelError,
    NotEstimableWarning,
)

# The equations are solved in two ways, neither of which is far from rounding, but for the
# ill-conditioned model, whose columns have a condition number of 3e5 when scaled.
DIGITS, FEWER_DIGITS = 1e-12, 1e-8

MODELS = {
    "slope": ("y ~ x + arm + (x | site)", {}),
    "crossed": ("y ~ x + (1 | site) + (1 | day)", {}),
    "nested": ("y ~ x + (1 | site/plot)", {}),
    "several": ("y ~ x + arm + (x | site) + (1 | site:plot) + (1 | day)", {}),
    "two terms of a group": ("y ~ x + (1 | site) + (0 + x | site) + (1 | day)", {}),
    "uncorrelated": ("y ~ x + (x || site)", {}),
    "maximum likelihood": ("y ~ x + (x | site)", {"reml": False}),
    "weights and offset": ("y ~ x + (x | site) + (1 | day)", {"weights": "w", "offset": "off"}),
    "ill-conditioned": ("y ~ year + I(year**2) + (1 | site)", {}),
    "no fixed effects": ("y ~ 0 + (x | site)", {}),
    "no random terms": ("y ~ x + arm", {"weights": "w"}),
}
every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(21)
    n = 200
    site, plot, day = rng.integers(6, size=n), rng.integers(4, size=n), rng.integers(9, size=n)
    x = rng.normal(size=n)
    slopes = (0.8 * rng.normal(size=6))[site] * x
    plots = 0.7 * rng.normal(size=(6, 4))[site, plot]
    effects = rng.normal(size=6)[site] + slopes + plots + 0.9 * rng.normal(size=9)[day]
    return pd.DataFrame(
        {
            "y": 2 + 0.5 * x + effects + 0.6 * rng.normal(size=n),
            "x": x,
            "year": rng.integers(1990, 2020, n),
            "site": [f"s{i}" for i in site],
            "plot": [f"p{i}" for i in plot],
            "day": day,
            "arm": pd.Categorical(rng.choice(["old", "new", "none"], size=n)),
            "w": rng.uniform(0.5, 2.0, size=n),
            "off": 0.1 * rng.normal(size=n),
        },
        index=pd.Index(np.arange(1000, 1000 + 2 * n, 2), name="row"),
    )


@pytest.fixture(scope="module")
def fits(data):
    return {name: mfx.lmer(formula, data, **options) for name, (formula, options) in MODELS.items()}


def digits_of(name):
    return FEWER_DIGITS if name == "ill-conditioned" else DIGITS


def joint_root(fit):
    """A root of the covariance of the errors of beta, then of each term's effects by level.

    With ``b = Lambda u`` Henderson's equations are those of a regression with more rows, one for
    each u; by its orthonormal basis they are solved without losing digits.
    """
    design, X = fit.model.design, fit.model.rows.X
    w = np.ones(len(X)) if design.rows.weights is None else design.rows.weights
    roots = zip(design.rows.random_terms, lambdas(design, fit.theta), strict=True)
    root = block_diag(np.eye(X.shape[1]), *(np.kron(np.eye(b.n_levels), lam) for b, lam in roots))
    T = np.concatenate([X, *map(dense_z, design.rows.random_terms)], axis=1) @ root
    penalty = np.eye(len(root))[X.shape[1] :]
    R = np.linalg.qr(np.vstack([np.sqrt(w)[:, None] * T, penalty]), mode="r")
    return fit.sigma * root @ np.linalg.inv(R)


def textbook_error(fit, groups):
    """Standard error of the mean of each of the fit's rows, with the effects of some groups."""
    parts = [dense_z(b) * (b.group in groups) for b in fit.model.rows.random_terms]
    columns = np.concatenate([fit.model.rows.X, *parts], axis=1)
    return np.linalg.norm(columns @ joint_root(fit), axis=1)


def between(fit, group, table):
    """``z'Gz`` in each row of a table: the variance between levels of a group."""
    columns = {"Intercept": 1.0, "x": table["x"].to_numpy()}
    total = np.zeros(len(table))
    for r in fit.varcorr.itertuples():
        if r.group == group:
            second = r.effect if pd.isna(r.effect2) else r.effect2
            twice = 1.0 if pd.isna(r.effect2) else 2.0
            total += twice * r.vcov * columns[r.effect] * columns[second]
    return total


def half_width(table):
    return ((table["conf_high"] - table["conf_low"]) / 2).to_numpy()


def variance_of(table, level=0.95):
    """The variance that an interval of a normal distribution stands for."""
    return (half_width(table) / stats.norm.ppf(0.5 + level / 2)) ** 2


# ---------------------------------------------------------------- the shape of the answer

ASKED = {
    "nothing": ({}, None),
    "a standard error": ({"se": True}, ["predicted", "std_error"]),
    "confidence": ({"interval": "confidence"}, ["predicted", "conf_low", "conf_high"]),
    "prediction": ({"interval": "prediction"}, ["predicted", "conf_low", "conf_high"]),
    "both": (
        {"interval": "prediction", "se": True},
        ["predicted", "std_error", "conf_low", "conf_high"],
    ),
}


@pytest.mark.parametrize("asked", ASKED)
def test_a_prediction_has_the_columns_asked_for(fits, asked):
    options, expected = ASKED[asked]
    found = fits["slope"].predict(**options)
    assert (None if isinstance(found, pd.Series) else list(found)) == expected


@pytest.mark.parametrize("new", [False, True])
def test_intervals_keep_the_rows_labels(fits, data, new):
    some = data.iloc[[7, 3, 100]]
    found = fits["slope"].predict(some if new else None, interval="confidence")
    pd.testing.assert_index_equal(found.index, some.index if new else data.index)


@pytest.mark.covering(2)
@every_model
@pytest.mark.parametrize("random", ["all", "none"])
@pytest.mark.parametrize("interval", ["confidence", "prediction"])
def test_the_mean_of_an_interval_is_the_prediction_without(fits, data, name, random, interval):
    fit = fits[name]
    found = fit.predict(data, random=random, interval=interval)["predicted"]
    pd.testing.assert_series_equal(found, fit.predict(data, random=random))


@every_model
def test_intervals_are_symmetric_about_the_mean(fits, data, name):
    found = fits[name].predict(data, interval="prediction")
    middle = (found["conf_low"] + found["conf_high"]) / 2
    np.testing.assert_allclose(middle, found["predicted"], rtol=1e-12)


# ---------------------------------------------------------------- the standard error of a mean


@pytest.mark.covering(1)
@every_model
@pytest.mark.parametrize("new", [False, True])
def test_the_error_of_a_known_levels_mean_is_the_joint_covariances(fits, data, name, new):
    fit = fits[name]
    found = fit.predict(data if new else None, se=True)["std_error"]
    expected = textbook_error(fit, fit.formula.groups)
    np.testing.assert_allclose(found, expected, rtol=digits_of(name))


@pytest.mark.covering(1)
@every_model
@pytest.mark.parametrize("new", [False, True])
def test_the_error_of_the_populations_mean_is_that_of_the_coefficients(fits, data, name, new):
    fit = fits[name]
    found = fit.predict(data if new else None, random="none", se=True)["std_error"]
    np.testing.assert_allclose(found, textbook_error(fit, ()), rtol=digits_of(name))


@pytest.mark.covering(1)
@pytest.mark.parametrize("groups", [["site"], ["day"], ["site", "day"], ["site:plot"], []])
@pytest.mark.parametrize("new", [False, True])
def test_the_error_with_some_groups_is_that_of_their_effects(fits, data, groups, new):
    fit = fits["several"]
    found = fit.predict(data if new else None, random=groups, se=True)["std_error"]
    expected = textbook_error(fit, groups)
    np.testing.assert_allclose(found, expected, rtol=DIGITS)


@every_model
def test_the_error_does_not_depend_on_other_rows(fits, data, name):
    some = data.iloc[[7, 3, 100]]
    found = fits[name].predict(some, se=True)
    expected = fits[name].predict(se=True).loc[some.index]
    pd.testing.assert_frame_equal(found, expected, rtol=1e-9)


def test_the_error_of_a_pair_of_levels_that_never_met_is_the_joint_covariances(data):
    # Site s1 has no rows on day 3: their effects' covariance is that between rows of the two.
    apart = data[(data["site"] != "s1") | (data["day"] != 3)]
    fit = mfx.lmer(MODELS["crossed"][0], apart)
    found = fit.predict({"x": [0.7], "site": ["s1"], "day": [3]}, se=True)["std_error"]
    columns = np.zeros(2 + 6 + 9)
    columns[[0, 1, 2 + 1, 2 + 6 + 3]] = [1.0, 0.7, 1.0, 1.0]
    expected = np.linalg.norm(columns @ joint_root(fit))
    np.testing.assert_allclose(found, expected, rtol=DIGITS)


def test_dependent_columns_do_not_change_the_error(fits, data):
    with pytest.warns(DroppedColumnsWarning, match="twice"):
        fit = mfx.lmer("y ~ x + twice + (x | site)", data.assign(twice=2 * data["x"]))
    plain = mfx.lmer("y ~ x + (x | site)", data)
    found = fit.predict(data.assign(twice=2 * data["x"]), interval="prediction", se=True)
    pd.testing.assert_frame_equal(found, plain.predict(data, interval="prediction", se=True))


@pytest.fixture(scope="module")
def holed():
    """Two factors of which one combination has no rows, and the fit of their interaction."""
    rng = np.random.default_rng(12)
    a, b, g = rng.integers(3, size=120), rng.integers(2, size=120), rng.integers(8, size=120)
    table = pd.DataFrame({"a": np.array(["p", "q", "r"])[a], "b": np.array(["lo", "hi"])[b]})
    table["x"], table["g"] = rng.normal(size=120), g
    table["y"] = a + b + table["x"] + rng.normal(size=8)[g] + rng.normal(size=120)
    table = table[~((table["a"] == "r") & (table["b"] == "lo"))]
    with pytest.warns(DroppedColumnsWarning, match="a = r, b = lo"):
        return mfx.lmer("y ~ a * b + x + (1 | g)", table), table


@pytest.mark.parametrize("how", [{}, {"se": True}, {"interval": "prediction", "random": "none"}])
def test_a_cell_without_data_is_not_predicted(holed, how):
    fit, table = holed
    new = pd.DataFrame({"a": ["p", "r", "r"], "b": "lo", "x": 0.5, "g": [1, 1, 2]}, index=[5, 6, 7])
    new.loc[7, "b"] = "hi"
    with pytest.warns(NotEstimableWarning, match=r"1 of 3 rows is .* a = r, b = lo\.") as caught:
        found = pd.DataFrame(fit.predict(new, **how))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert found.loc[6].isna().all()
    # The others are those of a model of the cells.
    cells = mfx.lmer("y ~ 0 + ab + x + (1 | g)", table.assign(ab=table["a"] + table["b"]))
    expected = cells.predict(new.assign(ab=new["a"] + new["b"]).drop(index=6), **how)
    np.testing.assert_allclose(found.drop(index=6).squeeze(), expected, rtol=1e-6)


def test_a_missing_value_is_not_taken_for_a_cell_without_data(holed):
    new = pd.DataFrame({"a": ["p", None], "b": "lo", "x": 0.5, "g": 1})
    assert holed[0].predict(new).isna().tolist() == [False, True]


def test_dependent_columns_that_part_in_new_rows_are_not_predicted(data):
    with pytest.warns(DroppedColumnsWarning, match="twice"):
        fit = mfx.lmer("y ~ x + twice + (x | site)", data.assign(twice=2 * data["x"]))
    new = data.iloc[:2].assign(twice=2 * data["x"].iloc[:2] + [0.0, 1.0])
    with pytest.warns(NotEstimableWarning, match="1 of 2 rows"):
        assert fit.predict(new).isna().tolist() == [False, True]


def test_an_offset_is_known_and_adds_no_error(fits, data):
    fit = fits["weights and offset"]
    moved = fit.predict(data.assign(off=data["off"] + 10.0), se=True)
    np.testing.assert_allclose(moved["std_error"], fit.predict(se=True)["std_error"], rtol=1e-12)


def test_a_standard_error_scales_with_the_response(data):
    plain = mfx.lmer(MODELS["crossed"][0], data).predict(se=True)
    scaled = mfx.lmer(MODELS["crossed"][0], data.assign(y=1e3 * data["y"])).predict(se=True)
    np.testing.assert_allclose(scaled["std_error"], 1e3 * plain["std_error"], rtol=1e-6)


# ---------------------------------------------------------------- intervals


@pytest.mark.covering(1)
@every_model
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_a_confidence_interval_is_normal_quantiles_of_the_standard_error(fits, name, level):
    found = fits[name].predict(interval="confidence", se=True, conf_level=level)
    expected = stats.norm.ppf(0.5 + level / 2) * found["std_error"]
    np.testing.assert_allclose(half_width(found), expected, rtol=1e-9)


@pytest.mark.covering(1)
@every_model
@pytest.mark.parametrize("level", [0.5, 0.999])
def test_the_level_of_a_prediction_interval_scales_its_width(fits, data, name, level):
    fit = fits[name]
    found = half_width(fit.predict(data, interval="prediction", conf_level=level))
    usual = half_width(fit.predict(data, interval="prediction"))
    ratio = stats.norm.ppf(0.5 + level / 2) / stats.norm.ppf(0.975)
    np.testing.assert_allclose(found, ratio * usual, rtol=1e-9)


@every_model
def test_a_known_levels_prediction_adds_the_residual_variance(fits, data, name):
    fit = fits[name]
    found = fit.predict(data, interval="prediction", se=True)
    np.testing.assert_allclose(variance_of(found), found["std_error"] ** 2 + fit.scale, rtol=1e-9)


@pytest.mark.parametrize("name", ["weights and offset", "no random terms"])
def test_a_prediction_of_the_fits_own_rows_has_their_weights(fits, data, name):
    fit = fits[name]
    found = fit.predict(interval="prediction", se=True)
    expected = found["std_error"] ** 2 + fit.scale / data["w"]
    np.testing.assert_allclose(variance_of(found), expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["weights and offset", "no random terms"])
def test_a_prediction_of_new_rows_has_weight_one(fits, data, name):
    # Also where the new rows have a column of the weights' name.
    fit = fits[name]
    found = fit.predict(data, interval="prediction", se=True)
    np.testing.assert_allclose(variance_of(found), found["std_error"] ** 2 + fit.scale, rtol=1e-9)


@pytest.mark.parametrize("name", ["slope", "uncorrelated", "two terms of a group", "several"])
def test_a_new_levels_mean_is_as_uncertain_as_the_populations(fits, data, name):
    fit, new = fits[name], data.assign(site="s99")
    others = [g for g in fit.formula.groups if "site" not in g]
    found = fit.predict(new, new_levels="population", interval="confidence", se=True)
    expected = fit.predict(new, random=others, interval="confidence", se=True)
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("name", ["slope", "uncorrelated", "two terms of a group", "several"])
def test_a_new_levels_prediction_adds_the_variance_between_levels(fits, data, name):
    fit, new = fits[name], data.assign(site="s99")
    found = fit.predict(new, new_levels="population", interval="prediction", se=True)
    unknown = [g for g in fit.formula.groups if "site" in g]  # a new site's plots are new, too
    added = sum(between(fit, g, data) for g in unknown) + fit.scale
    expected = found["std_error"] ** 2 + added
    np.testing.assert_allclose(variance_of(found), expected, rtol=1e-9)


@pytest.mark.covering(1)
@pytest.mark.parametrize("name", ["slope", "uncorrelated", "two terms of a group", "several"])
@pytest.mark.parametrize("new", [False, True])
def test_a_prediction_without_random_effects_adds_the_variance_between_all_groups(
    fits, data, name, new
):
    fit = fits[name]
    own = data if new else None
    found = fit.predict(own, random="none", interval="prediction", se=True)
    added = sum(between(fit, g, data) for g in fit.formula.groups) + fit.scale
    np.testing.assert_allclose(variance_of(found), found["std_error"] ** 2 + added, rtol=1e-9)


@pytest.mark.parametrize("groups", [["site"], ["day"], ["site", "site:plot"]])
@pytest.mark.parametrize("new", [False, True])
def test_a_prediction_with_some_groups_adds_the_variance_between_the_others(
    fits, data, groups, new
):
    fit = fits["several"]
    found = fit.predict(data if new else None, random=groups, interval="prediction", se=True)
    others = [g for g in fit.formula.groups if g not in groups]
    added = sum(between(fit, g, data) for g in others) + fit.scale
    np.testing.assert_allclose(variance_of(found), found["std_error"] ** 2 + added, rtol=1e-9)


def test_only_rows_of_new_levels_get_the_variance_between_levels(fits, data):
    fit = fits["several"]
    mixed = data.head(4).assign(day=[99, *data["day"].iloc[1:4]])
    found = fit.predict(mixed, new_levels="population", interval="prediction", se=True)
    added = between(fit, "day", mixed) * [1, 0, 0, 0] + fit.scale
    np.testing.assert_allclose(variance_of(found), found["std_error"] ** 2 + added, rtol=1e-9)


def test_a_new_level_is_refused_with_intervals_too(fits, data):
    with pytest.raises(NewLevelError, match="'s99'"):
        fits["slope"].predict(data.assign(site="s99"), interval="prediction")


@pytest.mark.parametrize("combination", [("B", "z"), ("Z", "a"), ("Z", "z")])
def test_an_unseen_value_within_a_combination_is_a_new_level(combination):
    pastes = mfx.datasets.load("Pastes")
    fit = mfx.lmer("strength ~ 1 + (1 | batch:cask)", pastes)
    new = pd.DataFrame([combination], columns=["batch", "cask"])
    with pytest.raises(NewLevelError, match=":".join(combination)):
        fit.predict(new)
    population = fit.predict(new, new_levels="population")
    assert population.to_list() == pytest.approx([fit.params["Intercept"]], rel=1e-12)


@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
def test_a_variance_of_zero_adds_nothing():
    fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff2"))
    known = fit.predict({"Batch": ["A"]}, interval="prediction")
    new = fit.predict({"Batch": ["Z"]}, interval="prediction", new_levels="population")
    pd.testing.assert_frame_equal(known, new)


# ---------------------------------------------------------------- columns and missing values


@pytest.mark.parametrize("interval", ["confidence", "prediction"])
def test_columns_of_groups_left_out_are_not_needed(fits, data, interval):
    fit = fits["several"]
    found = fit.predict(data[["x", "arm"]], random="none", interval=interval, se=True)
    pd.testing.assert_frame_equal(
        found, fit.predict(data, random="none", interval=interval, se=True)
    )


def test_a_slopes_column_is_needed_for_a_prediction_without_the_slopes(fits, data):
    # Its variance depends on it; the mean does not.
    fit = fits["no fixed effects"]
    fit.predict(data[["y"]], random="none", interval="confidence")
    with pytest.raises(MissingColumnError, match="'x'"):
        fit.predict(data[["y"]], random="none", interval="prediction")


@pytest.mark.covering(1)
@pytest.mark.parametrize("column", ["x", "arm", "site", "day", "plot"])
@pytest.mark.parametrize("interval", ["confidence", "prediction"])
def test_a_row_with_a_missing_value_is_missing_in_every_column(fits, data, column, interval):
    fit = fits["several"]
    holed = data.copy()
    holed[column] = holed[column].astype(object)
    holed.loc[[1004, 1010], column] = None
    found = fit.predict(holed.infer_objects(), interval=interval, se=True)
    whole = fit.predict(data, interval=interval, se=True)
    pd.testing.assert_frame_equal(found, whole.mask(holed[column].isna()), rtol=1e-9)


def test_a_missing_level_that_is_not_needed_does_not_matter(fits, data):
    fit = fits["several"]
    found = fit.predict(data.assign(day=np.nan), random=["site"], interval="prediction")
    pd.testing.assert_frame_equal(found, fit.predict(data, random=["site"], interval="prediction"))


def test_a_missing_slope_leaves_the_mean_but_not_the_interval(fits, data):
    holed = data.assign(x=data["x"].where(data.index != 1004))
    found = fits["no fixed effects"].predict(holed, random="none", interval="prediction")
    missing = found.isna()
    assert missing.loc[1004].tolist() == [False, True, True]
    assert not missing.drop(index=1004).to_numpy().any()


def test_rows_that_are_all_missing_are_predicted_as_missing(fits, data):
    holed = data.head(2).assign(x=np.nan)
    assert fits["several"].predict(holed, interval="prediction", se=True).isna().to_numpy().all()


def test_rows_dropped_from_the_fit_have_no_interval(data):
    fit = mfx.lmer(MODELS["slope"][0], data.assign(x=data["x"].where(data.index != 1004)))
    found = fit.predict(interval="prediction")
    pd.testing.assert_index_equal(found.index, data.index.drop(1004))
    assert found.notna().to_numpy().all()


# ---------------------------------------------------------------- references

EVERY_NEW = [name for name, r in REFERENCES.items() if r["predict_new"]]


@pytest.mark.slow_beyond(24)
@pytest.mark.full
@pytest.mark.parametrize("name", tiered(EVERY_NEW))
def test_predictions_of_new_rows_have_finite_errors(name):
    # lme4 gives no standard errors; the means beside them are lme4's (test_reference.py).
    found = fit_of(name, "profiled").predict(
        REFERENCES[name].new_data, new_levels="population", interval="prediction", se=True
    )
    assert np.isfinite(found).to_numpy().all()
    assert (found["std_error"] > 0).all()


# ---------------------------------------------------------------- coverage


GROUPS, EACH, DRAWS = 30, 8, 80


def world(rng):
    """Groups with slopes: a row more of each known group, and a row of as many new groups."""
    g = np.repeat(np.arange(2 * GROUPS), EACH + 1)
    x = rng.normal(size=len(g))
    b = rng.multivariate_normal([0, 0], [[1.0, 0.3], [0.3, 0.5]], 2 * GROUPS)
    mean = 1 + 0.5 * x + b[g, 0] + b[g, 1] * x
    frame = pd.DataFrame({"g": g, "x": x, "mean": mean, "y": mean + rng.normal(size=len(g))})
    held_out = np.tile(np.arange(EACH + 1) == EACH, 2 * GROUPS)
    return frame[~held_out & (g < GROUPS)], frame[held_out]


@pytest.fixture(scope="module")
def covered():
    """For each kind of interval, the share of held-out rows that it covers."""
    rng = np.random.default_rng(3)
    hits = {}
    for _ in range(DRAWS):
        seen, held_out = world(rng)
        fit = mfx.lmer("y ~ x + (x | g)", seen, engine="profiled")
        known = (held_out["g"] < GROUPS).to_numpy()
        for interval, target in [("confidence", "mean"), ("prediction", "y")]:
            table = fit.predict(held_out, interval=interval, new_levels="population")
            inside = held_out[target].between(table["conf_low"], table["conf_high"]).to_numpy()
            hits.setdefault(("known", interval), []).append(inside[known].mean())
            hits.setdefault(("new", interval), []).append(inside[~known].mean())
        table = fit.predict(held_out[known], random="none", interval="prediction")
        inside = held_out["y"][known].between(table["conf_low"], table["conf_high"])
        hits.setdefault(("left out", "prediction"), []).append(inside.mean())
    return hits


@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
@pytest.mark.full
@pytest.mark.parametrize(
    "kind",
    [
        ("known", "confidence"),
        ("known", "prediction"),
        ("new", "prediction"),
        ("left out", "prediction"),
    ],
    ids=" ".join,
)
def test_intervals_cover_what_they_should(covered, kind):
    # Taking covariances as known costs a little of the coverage: of 30 groups, about a percent.
    shares = np.array(covered[kind])
    error = shares.std(ddof=1) / np.sqrt(DRAWS)
    assert 0.95 - 0.015 - 3 * error < shares.mean() < 0.95 + 3 * error


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
def test_a_new_levels_confidence_interval_is_not_of_its_own_mean(covered):
    # It is of the population's mean, which is known far better.
    assert np.mean(covered["new", "confidence"]) < 0.6


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize("interval", ["mean", "obs", True, 0.95, ""])
def test_an_unknown_interval_lists_the_choices(fits, interval):
    with pytest.raises(ArgumentError, match="'confidence', 'prediction'"):
        fits["slope"].predict(interval=interval)


@pytest.mark.parametrize("level", [0, 1, 95, -0.5, "0.95", None, True, np.nan])
def test_a_level_must_be_a_share(fits, level):
    with pytest.raises(ArgumentError, match=r"conf_level=.*between 0 and 1"):
        fits["slope"].predict(interval="confidence", conf_level=level)


def test_predicting_changes_neither_data_nor_fit(fits, data):
    fit, before = fits["several"], data.copy(deep=True)
    kept = fit.predict(interval="prediction", se=True)
    spoilt = fit.predict(data, interval="prediction", se=True)
    spoilt.iloc[:] = -99.0
    pd.testing.assert_frame_equal(data, before)
    pd.testing.assert_frame_equal(fit.predict(interval="prediction", se=True), kept)
