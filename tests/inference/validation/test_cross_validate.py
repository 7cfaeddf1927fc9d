"""Predictions of rows that were left out: fits of tables without them, from scratch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special, stats

import mixedfx as mfx
from mixedfx.errors import (
    ArgumentError,
    CallError,
    ColumnTypeError,
    DataError,
    MissingColumnError,
    NewLevelError,
)

SLOPES = "Reaction ~ Days + (Days | Subject)"
Z = stats.norm.ppf(0.975)
CONTROL = mfx.Control(tolerance=1e-12)

pytestmark = pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")


@lru_cache
def sleep() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    data = mfx.datasets.load("sleepstudy")
    data["Subject"] = data["Subject"].astype(str)
    made = {"w": rng.uniform(0.5, 2, 180), "off": rng.uniform(0, 20, 180), "late": data["Days"] > 4}
    return data.assign(**made, week=np.arange(180) % 4, sd=rng.uniform(20, 30, 180))


@lru_cache
def made_once(formula, **options):
    return mfx.cross_validate(formula, sleep(), **options)


MODELS = {
    "slopes": (SLOPES, {}),
    "maximum likelihood": (SLOPES, {"reml": False}),
    "crossed": ("Reaction ~ Days + (1 | Subject) + (1 | week)", {}),
    "weights": (SLOPES, {"weights": "w"}),
    "offset": (SLOPES, {"offset": "off"}),
    "known sds": (SLOPES, {"residual_sd": "sd"}),
    "regression": ("Reaction ~ Days", {}),
    "splines": ("Reaction ~ bs(Days, 4) + (1 | Subject)", {}),
    "scale": ("Reaction ~ scale(Days) + (scale(Days) | Subject)", {}),
    "a transformed response": ("np.log(Reaction) ~ Days + (1 | Subject)", {}),
    "dispersion": ("Reaction ~ Days + (1 | Subject)", {"dispersion": "~ late"}),
    "correlated": ("Reaction ~ Days + (1 | Subject)", {"residual": "ar1(Days | Subject)"}),
}


@pytest.mark.full
@pytest.mark.parametrize("by", [None, "Subject"])
@pytest.mark.parametrize("name", MODELS)
def test_predictions_are_those_of_fits_of_the_other_rows(name, by):
    formula, options = MODELS[name]
    cv = mfx.cross_validate(formula, sleep(), by=by, folds=3, rng=1, **options)
    plain = not {"weights", "dispersion", "residual"} & set(options)
    for fold, part in cv.predictions.groupby("fold"):
        test = sleep().index.isin(part["row"])
        fit = mfx.lmer(formula, sleep()[~test], engine="profiled", control=CONTROL, **options)
        new = sleep().loc[part["row"]]
        expected = fit.predict(new, new_levels="population", interval="prediction")
        np.testing.assert_allclose(part["prediction"], expected["predicted"], rtol=1e-6)
        if plain or "dispersion" in options:
            sd = (expected["conf_high"] - expected["conf_low"]) / (2 * Z)
            np.testing.assert_allclose(part["sd"], sd, rtol=1e-6)
        if "weights" in options:  # predict() is of rows of weight one
            sd = (expected["conf_high"] - expected["conf_low"]) / (2 * Z)
            variance = sd**2 + fit.sigma**2 * (1 / new["w"] - 1)
            np.testing.assert_allclose(part["sd"], np.sqrt(variance), rtol=1e-6)
        assert cv.table.set_index("fold").loc[fold, "n_test"] == len(part)


@pytest.mark.full
def test_log_scores_crps_and_coverage_are_those_of_the_predictive_distributions():
    cv = made_once(SLOPES, by="Subject", folds="loo")
    rows = cv.predictions
    expected = stats.norm(rows["prediction"], rows["sd"]).logpdf(rows["y"])
    np.testing.assert_allclose(rows["log_score"], expected, rtol=1e-12)
    scores = cv.summary["estimate"]
    assert scores["log_score"] == pytest.approx(expected.mean(), rel=1e-12)
    error = rows["y"] - rows["prediction"]
    assert scores["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-12)
    assert scores["mae"] == pytest.approx(error.abs().mean(), rel=1e-12)
    assert scores["coverage"] == pytest.approx((error.abs() <= Z * rows["sd"]).mean(), rel=1e-12)
    assert not rows["known_groups"].any()
    # One fold by itself: 308's rows, and the mean of the others.
    others = sleep().loc[sleep()["Subject"] != "308", "Reaction"]
    own = error[rows["fold"] == "308"]
    y = rows["y"][rows["fold"] == "308"]
    r2 = 1 - (own**2).sum() / ((y - others.mean()) ** 2).sum()
    assert cv.table.set_index("fold").loc["308", "r2"] == pytest.approx(r2, rel=1e-12)


@pytest.mark.full
def test_standard_errors_are_those_of_means_of_independent_rows_or_groups():
    cv = made_once(SLOPES, folds=5, rng=1)
    per_row = cv.predictions["log_score"]
    expected = per_row.std() / np.sqrt(len(per_row))
    assert cv.summary.loc["log_score", "std_error"] == pytest.approx(expected, rel=1e-12)
    by_group = made_once(SLOPES, by="Subject", folds="loo")
    per_group = by_group.predictions.groupby("fold")["crps"].mean()
    expected = per_group.std() / np.sqrt(len(per_group))
    assert by_group.summary.loc["crps", "std_error"] == pytest.approx(expected, rel=1e-12)


def test_what_a_transform_learns_is_learned_from_the_rows_that_are_fitted():
    # The knots of the spline are quantiles of x, and the outlier is among the rows left out.
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"x": rng.uniform(size=60), "g": np.repeat(np.arange(6), 10)})
    data["y"] = np.sin(6 * data["x"]) + rng.normal(size=6)[data["g"]] + rng.normal(size=60) / 5
    fold = np.arange(60) % 3
    data.loc[0, "x"] = 0.999
    formula = "y ~ bs(x, 4, lower_bound=0, upper_bound=1) + (1 | g)"
    cv = mfx.cross_validate(formula, data, folds=fold)
    train, test = data[fold != 0], data[fold == 0]
    fit = mfx.lmer(formula, train, engine="profiled", control=CONTROL)
    predicted = cv.predictions.loc[cv.predictions["fold"] == 0, "prediction"]
    np.testing.assert_allclose(predicted, fit.predict(test), rtol=1e-7)
    # With knots of all rows the fit of the same rows is another one.
    knots = np.quantile(data["x"], [0.5])
    leaking = f"y ~ bs(x, knots=[{knots[0]!r}], lower_bound=0, upper_bound=1) + (1 | g)"
    other = mfx.lmer(leaking, train, engine="profiled").predict(test)
    assert np.abs(other - fit.predict(test)).max() > 1e-4


@pytest.mark.full
def test_a_group_mean_is_that_of_the_rows_that_are_fitted():
    data = sleep().assign(x=np.random.default_rng(1).normal(size=180))
    formula = "Reaction ~ group_mean(x, Subject) + (1 | Subject)"
    fold = np.arange(180) % 2
    cv = mfx.cross_validate(formula, data, folds=fold)
    fit = mfx.lmer(formula, data[fold == 1], engine="profiled", control=CONTROL)
    own = cv.predictions.loc[cv.predictions["fold"] == 0, "prediction"]
    np.testing.assert_allclose(own, fit.predict(data[fold == 0]), rtol=1e-7)


def test_a_response_that_is_computed_from_all_rows_is_refused():
    with pytest.raises(ArgumentError, match=r"response 'scale\(Reaction\)' is computed from all"):
        mfx.cross_validate("scale(Reaction) ~ Days + (1 | Subject)", sleep(), rng=1)


def test_a_level_that_only_the_rows_left_out_have_is_named_with_its_fold():
    data = sleep().assign(f=np.where(sleep()["Subject"] == "309", "only", sleep()["late"]))
    with pytest.raises(NewLevelError, match=r"^fold '309', fitted to 170 rows: .*'only'.*folds="):
        mfx.cross_validate("Reaction ~ f + (1 | Subject)", data, by="Subject", folds="loo")
    alone = sleep().assign(one=np.where(sleep().index < 90, "a", "b"))
    with pytest.raises(DataError, match=r"^fold 'a', fitted to 90 rows: .*'one'"):
        mfx.cross_validate("Reaction ~ Days + (1 | one)", alone, by="one", folds="loo")


class EverySecond:
    """A splitter, by its protocol."""

    def split(self, X, y, groups=None):
        rows = np.arange(len(y))
        assert len(X) == len(rows)
        yield rows[rows % 2 == 0], rows[rows % 2 == 1]


@pytest.mark.full
def test_folds_are_a_column_labels_or_a_splitter():
    labels = np.arange(180) % 4
    by_column = made_once(SLOPES, folds="week", scores="mae")
    by_labels = mfx.cross_validate(SLOPES, sleep(), folds=labels, scores="mae")
    pd.testing.assert_frame_equal(by_column.table, by_labels.table)
    split = mfx.cross_validate(SLOPES, sleep(), folds=EverySecond(), scores="mae")
    assert split.table[["fold", "n_train", "n_test"]].to_numpy().tolist() == [[1, 90, 90]]
    assert split.predictions["row"].tolist() == list(range(1, 180, 2))


def test_rows_with_missing_values_are_left_out_and_labels_are_matched():
    data = sleep().copy()
    data.loc[[3, 8], "Days"] = np.nan
    data = data.set_axis([f"r{i}" for i in range(180)])
    cv = mfx.cross_validate(SLOPES, data, folds=np.arange(180) % 3, scores="mae")
    assert len(cv.predictions) == 178
    fold = cv.predictions.set_index("row")["fold"]
    assert all(fold[f"r{i}"] == i % 3 for i in range(180) if i not in (3, 8))


@pytest.mark.full
def test_each_group_is_in_one_fold_and_the_seed_decides_which():
    first, again = (made_once(SLOPES, by="Subject", folds=4, rng=seed) for seed in (7, 8))
    subject = sleep().loc[first.predictions["row"], "Subject"].to_numpy()
    folds = first.predictions.groupby(subject)["fold"]
    assert folds.min().equals(folds.max())
    same = mfx.cross_validate(SLOPES, sleep(), by="Subject", folds=4, rng=7)
    pd.testing.assert_frame_equal(first.predictions, same.predictions)
    assert not first.table["rmse"].equals(again.table["rmse"])


def test_scores_can_be_functions():
    cv = mfx.cross_validate(
        SLOPES, sleep(), folds=3, rng=1, scores={"bias": lambda y, m, sd: y - m}
    )
    bias = cv.predictions["y"] - cv.predictions["prediction"]
    assert cv.summary.loc["bias", "estimate"] == pytest.approx(bias.mean(), abs=1e-10)


BAD = {
    "column": ({"by": "Subjct"}, MissingColumnError, "Did you mean 'Subject'"),
    "many": ({"by": "Subject", "folds": 40}, ArgumentError, "there are 18 groups of 'Subject'"),
    "word": ({"folds": "lo"}, ArgumentError, "neither 'loo' nor a column"),
    "one": ({"folds": 1}, ArgumentError, "at least 2, or 'loo'"),
    "short": ({"folds": [1, 2]}, ArgumentError, "the data has 180 rows"),
    "matrix": ({"folds": np.ones((2, 2))}, ArgumentError, "give one value for each"),
    "ragged": ({"by": [[1], [1, 2]]}, ArgumentError, "give one value for each"),
    "split": ({"by": "Subject", "folds": "week"}, ArgumentError, "Subject '308' is in several"),
    "splitter": ({"by": "Subject", "folds": EverySecond()}, ArgumentError, "GroupKFold"),
    "score": ({"scores": "rms"}, ArgumentError, "Did you mean 'rmse'"),
    "no function": ({"scores": {"a": 3}}, ArgumentError, "must be a function"),
    "shape": ({"scores": {"a": lambda y, m, s: 1.0}}, ArgumentError, "one for each"),
    "level": ({"conf_level": 95}, ArgumentError, "between 0 and 1"),
    "seed": ({"rng": "x"}, ArgumentError, "rng='x' must be a seed"),
    "cv": ({"cv": 3}, CallError, "write folds="),
    "reml": ({"family": "gamma", "reml": True}, CallError, "'reml'"),
    "constant": ({"by": np.ones(180)}, ArgumentError, "all rows have one value"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_named(case):
    arguments, error, text = BAD[case]
    with pytest.raises(error, match=text):
        mfx.cross_validate(SLOPES, sleep(), **arguments)


@pytest.mark.full
def test_models_that_have_no_predictive_distribution_are_refused():
    with pytest.raises(ArgumentError, match="leave its random term out"):
        mfx.cross_validate(
            "Reaction ~ Days + (1 | Subject)", sleep(), dispersion="~ 1 + (1 | Subject)"
        )


@lru_cache
def herds() -> pd.DataFrame:
    return mfx.datasets.load("cbpp").query("herd in ['1', '2', '3', '4', '5', '6', '9']")


CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


@pytest.mark.full
def test_a_generalised_model_predicts_a_new_group_by_its_mean_over_the_effects():
    data = herds().assign(herd=herds()["herd"].astype(str))
    cv = mfx.cross_validate(CBPP, data, by="herd", folds="loo", family="binomial")
    part = cv.predictions[cv.predictions["fold"] == "3"]
    fit, new = mfx.glmer(CBPP, data[data["herd"] != "3"]), data[data["herd"] == "3"]
    eta = fit.predict(new, which="linear", new_levels="population")
    error = fit.predict(new, which="linear", random="none", se=True)["std_error"]
    sd = np.sqrt(error**2 + float(fit.cov_re.iloc[0, 0]))
    # Two searches from different starts, each to 1e-8 of deviance.
    for (_, row), m, s, (_, cow) in zip(part.iterrows(), eta, sd, new.iterrows(), strict=True):

        def pmf(e, cow=cow):
            return stats.binom.pmf(cow["incidence"], cow["size"], special.expit(e))

        def over(f, m=m, s=s):
            return integrate.quad(lambda x: stats.norm.pdf(x) * f(m + s * x), -9, 9)[0]

        assert row["log_score"] == pytest.approx(np.log(over(pmf)), abs=2e-5)
        assert row["prediction"] == pytest.approx(over(special.expit), abs=2e-6)


@pytest.mark.full
def test_ordered_categories_are_scored_by_their_probabilities():
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(8), 12), rng.normal(size=96)
    latent = x + rng.normal(size=8)[g] + rng.logistic(size=96)
    rating = pd.cut(latent, [-np.inf, -1, 1, np.inf], labels=["low", "mid", "high"])
    data = pd.DataFrame({"g": g, "x": x, "rating": rating})
    cv = mfx.cross_validate("rating ~ x + (1 | g)", data, folds=3, rng=1, family="cumulative")
    fold = cv.predictions["fold"] == 2
    rows = cv.predictions.loc[fold, "row"]
    fit = mfx.glmer("rating ~ x + (1 | g)", data.drop(rows), family="cumulative")
    # At the estimates, without their errors, the probabilities are those of predict().
    shares = fit.predict(data.loc[rows], which="probabilities").to_numpy()
    observed = shares[np.arange(len(rows)), data.loc[rows, "rating"].cat.codes]
    assert np.abs(np.exp(cv.predictions.loc[fold, "log_score"]) - observed).max() < 0.05
    # Of a lost category there is no probability.
    folds = np.where(data["rating"] == "high", "with", "without")
    with pytest.raises(DataError, match=r"fold 'with'.* category 'high' of the response"):
        mfx.cross_validate("rating ~ x + (1 | g)", data, folds=folds, family="cumulative")


@pytest.mark.full
def test_the_text_says_what_was_left_out():
    text = str(made_once(SLOPES, by="Subject", folds="loo"))
    assert "18 folds of groups of 'Subject', 180 predictions" in text
    assert "log_score" in made_once(SLOPES, folds=5, rng=1)._repr_html_()


# Taken by position, labels and weights of other rows gave scores without a word; lmer refuses them.
@pytest.mark.parametrize("name", ["weights", "offset", "folds", "by"])
def test_a_series_in_another_order_of_rows_is_refused(name):
    data = mfx.datasets.load("Dyestuff")
    values = pd.Series(np.arange(30.0) % 3 + 1.0, index=data.index)[::-1]
    with pytest.raises(ColumnTypeError, match=f"^{name} is a Series whose index differs"):
        mfx.cross_validate("Yield ~ 1 + (1 | Batch)", data, **{name: values})


@pytest.mark.parametrize("name", ["folds", "by"])
def test_a_fit_takes_a_series_of_all_rows_by_its_index(name):
    data = mfx.datasets.load("Dyestuff").copy()
    data.loc[3, "Yield"] = np.nan
    fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", data, engine="profiled")
    values = pd.Series(np.arange(30) % 3, index=data.index)
    options = {} if name == "folds" else {"folds": "loo"}
    expected = fit.cross_validate(**{name: values.drop(3).to_numpy()}, **options).predictions
    found = fit.cross_validate(**{name: values[::-1]}, **options).predictions
    pd.testing.assert_frame_equal(found, expected)
    with pytest.raises(ColumnTypeError, match=f"^{name} is a Series whose index differs"):
        fit.cross_validate(**{name: values[:29].reset_index(drop=True)}, **options)
