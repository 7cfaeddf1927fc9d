"""Estimators of scikit-learn: its own checks, and the fits of the package behind them."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import mixedfx as mfx
from mixedfx.errors import ArgumentError, MissingColumnError
from mixedfx.sklearn import MixedModelClassifier, MixedModelRegressor

SLOPES = "~ Days + (Days | Subject)"

pytestmark = pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")


@lru_cache
def sleep() -> pd.DataFrame:
    data = mfx.datasets.load("sleepstudy")
    return data.assign(Subject=data["Subject"].astype(str))


@lru_cache
def answers() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    g, x = np.repeat(np.arange(12), 15), rng.normal(size=180)
    eta = x + rng.normal(size=12)[g]
    word = np.where(rng.uniform(size=180) < 1 / (1 + np.exp(-eta)), "right", "wrong")
    return pd.DataFrame({"x": x, "g": g.astype(str), "word": word})


@lru_cache
def slopes():
    return MixedModelRegressor(SLOPES).fit(sleep()[["Days", "Subject"]], sleep()["Reaction"])


def fit_of_the_package():
    return mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep(), engine="profiled")


@pytest.mark.full
@pytest.mark.parametrize("estimator", [MixedModelRegressor(), MixedModelClassifier()])
def test_the_checks_of_scikit_learn_pass(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of separated classes, dependent columns
        results = check_estimator(estimator, on_skip=None)
    assert len(results) > 40
    assert {r["check_name"] for r in results if r["status"] == "skipped"} <= {
        "check_array_api_input"
    }


def test_a_formula_gives_the_fit_of_the_package():
    model, fit = slopes(), fit_of_the_package()
    assert str(model.result_.formula) == "Reaction ~ Days + (Days | Subject)"
    assert model.result_.deviance == pytest.approx(fit.deviance, rel=1e-12)
    assert model.feature_names_in_.tolist() == ["Days", "Subject"]
    np.testing.assert_allclose(model.predict(sleep()), fit.fittedvalues, rtol=1e-12)


def test_new_groups_are_predicted_at_the_population_with_the_spread_of_a_new_response():
    new = pd.DataFrame({"Days": [0, 9], "Subject": ["nobody", "308"]})
    fit = fit_of_the_package()
    expected = fit.predict(new, new_levels="population", interval="prediction")
    mean, sd = slopes().predict(new, return_std=True)
    np.testing.assert_allclose(mean, expected["predicted"], rtol=1e-10)
    width = expected["conf_high"] - expected["conf_low"]
    np.testing.assert_allclose(sd, width / (2 * 1.959963984540054), rtol=1e-8)


def test_groups_have_a_random_intercept_without_a_formula():
    X, y, groups = sleep()[["Days"]], sleep()["Reaction"], sleep()["Subject"]
    model = MixedModelRegressor().fit(X, y, groups=groups)
    fit = mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep(), engine="profiled")
    np.testing.assert_allclose([model.intercept_, *model.coef_], fit.params, rtol=1e-10)
    np.testing.assert_allclose(model.predict(X, groups=groups), fit.fittedvalues, rtol=1e-10)
    population = fit.predict(sleep(), random="none")
    np.testing.assert_allclose(model.predict(X), population, rtol=1e-10)
    assert model.score(X, y, groups=groups) > model.score(X, y)


def test_without_groups_it_is_a_regression_of_minimum_norm_where_that_is_exact():
    X, y = sleep()[["Days"]].to_numpy(dtype=float), sleep()["Reaction"].to_numpy()
    model = MixedModelRegressor().fit(X, y)
    assert model.coef_ == pytest.approx(np.polyfit(X[:, 0], y, 1)[:1], rel=1e-10)
    exact = MixedModelRegressor().fit(X, 3 + 2 * X[:, 0])
    assert exact.result_ is None
    np.testing.assert_allclose(exact.predict([[10.0]]), [23.0], rtol=1e-12)


def test_weights_are_precisions_and_rows_of_weight_zero_are_left_out():
    w = np.linspace(0, 2, 180)
    X, y = sleep()[["Days", "Subject"]], sleep()["Reaction"]
    model = MixedModelRegressor("~ Days + (1 | Subject)").fit(X, y, sample_weight=w)
    fit = mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep()[w > 0], weights=w[w > 0])
    np.testing.assert_allclose(model.result_.params, fit.params, rtol=1e-5)
    assert model.result_.nobs == 179
    with pytest.raises(ValueError, match=r"(?i)weights.*zero"):
        MixedModelRegressor("~ Days").fit(X, y, sample_weight=np.zeros(180))


def test_copies_and_pickles():
    model = slopes()
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(sleep()), model.predict(sleep()))
    copy = clone(MixedModelRegressor(SLOPES, reml=False))
    assert copy.get_params()["formula"] == SLOPES
    assert not copy.reml
    with pytest.raises(NotFittedError):
        copy.predict(sleep())


@pytest.mark.full
def test_pipelines_grids_and_group_folds():
    X, y = sleep()[["Days", "Subject"]], sleep()["Reaction"]
    scaled = ColumnTransformer(
        [("scaled", StandardScaler(), ["Days"])],
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    pipeline = make_pipeline(scaled, MixedModelRegressor(SLOPES)).set_output(transform="pandas")
    # Scaling a column with its random slope changes nothing.
    predicted = pipeline.fit(X, y).predict(X)
    np.testing.assert_allclose(predicted, slopes().predict(X), rtol=1e-6)
    grid = {"formula": ["~ 1 + (1 | Subject)", SLOPES]}
    search = GridSearchCV(
        MixedModelRegressor(), grid, cv=KFold(3, shuffle=True, random_state=1)
    ).fit(X, y)
    assert search.best_params_ == {"formula": SLOPES}
    scores = cross_val_score(
        MixedModelRegressor(SLOPES), X, y, groups=X["Subject"], cv=GroupKFold(3)
    )
    folds = list(GroupKFold(3).split(X, y, X["Subject"]))
    cv = mfx.cross_validate(
        f"Reaction {SLOPES}", sleep(), by="Subject", folds=GroupKFold(3), scores="rmse"
    )
    for (_, test), score, rmse in zip(folds, scores, cv.table["rmse"], strict=True):
        of_test = y.iloc[test]
        assert score == pytest.approx(1 - rmse**2 / of_test.var(ddof=0), abs=1e-6)


@pytest.mark.full
def test_groups_are_routed():
    X, y, groups = sleep()[["Days"]], sleep()["Reaction"], sleep()["Subject"]
    folds = KFold(3, shuffle=True, random_state=0)
    with sklearn.config_context(enable_metadata_routing=True):
        known = cross_validate(MixedModelRegressor(), X, y, params={"groups": groups}, cv=folds)
        model = MixedModelRegressor().set_score_request(groups=False).set_fit_request(groups=True)
        population = cross_validate(model, X, y, params={"groups": groups}, cv=folds)
        new = cross_validate(model, X, y, params={"groups": groups}, cv=GroupKFold(3))
    train, test = next(folds.split(X))
    fit = mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep().iloc[train], engine="profiled")
    error = y.iloc[test] - fit.predict(sleep().iloc[test])
    expected = 1 - (error**2).sum() / ((y.iloc[test] - y.iloc[test].mean()) ** 2).sum()
    assert known["test_score"][0] == pytest.approx(expected, abs=1e-6)
    assert known["test_score"].mean() > population["test_score"].mean()
    assert new["test_score"].shape == (3,)


@pytest.mark.full
def test_families_functions_and_transformed_targets():
    X, y = sleep()[["Days", "Subject"]], sleep()["Reaction"]
    gamma = MixedModelRegressor("~ Days + (1 | Subject)", family="gamma", link="log").fit(X, y)
    fit = mfx.glmer("Reaction ~ Days + (1 | Subject)", sleep(), family="gamma", link="log")
    np.testing.assert_allclose(gamma.predict(X), fit.fittedvalues, rtol=1e-8)
    assert (gamma.predict(X, return_std=True)[1] > 0).all()
    logs = TransformedTargetRegressor(
        MixedModelRegressor("~ np.log1p(Days) + (1 | Subject)"), func=np.log, inverse_func=np.exp
    ).fit(X, y)
    fit = mfx.lmer("np.log(Reaction) ~ log1p(Days) + (1 | Subject)", sleep(), engine="profiled")
    np.testing.assert_allclose(logs.predict(X), np.exp(fit.fittedvalues), rtol=1e-8)
    groups = MixedModelRegressor("~ Days + (1 | groups)").fit(X[["Days"]], y, groups=X["Subject"])
    assert groups.predict(X[["Days"]].head(1)) == pytest.approx(groups.result_.params.iloc[0])


def test_a_classifier_is_the_binomial_model_of_the_second_class():
    data = answers()
    model = MixedModelClassifier("~ x + (1 | g)").fit(data, data["word"])
    fit = mfx.glmer("word ~ x + (1 | g)", data)
    assert model.classes_.tolist() == ["right", "wrong"]
    proba = model.predict_proba(data)
    np.testing.assert_allclose(proba[:, 1], fit.fittedvalues, rtol=1e-7)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-14)
    predicted = model.predict(data)
    assert (predicted == np.where(proba[:, 1] > 0.5, "wrong", "right")).all()
    assert model.score(data, data["word"]) == (predicted == data["word"]).mean()


@pytest.mark.full
def test_a_classifier_without_a_formula():
    data = answers()
    grouped = MixedModelClassifier().fit(data[["x"]], data["word"], groups=data["g"])
    fit = mfx.glmer("word ~ x + (1 | g)", data)
    assert grouped.coef_[0] == pytest.approx(fit.params["x"], rel=1e-6)
    # Of weights a row counts as so many.
    w = np.arange(180) % 3
    weighted = MixedModelClassifier().fit(data[["x"]], data["word"], sample_weight=w)
    repeated = data.loc[np.repeat(data.index, w)]
    other = MixedModelClassifier().fit(repeated[["x"]], repeated["word"])
    np.testing.assert_allclose(weighted.coef_, other.coef_, rtol=1e-6)


def bad(model, X, y, **arguments):
    return lambda: model.fit(X, y, **arguments)


@pytest.mark.parametrize("case", ["response", "array", "column", "groups", "classes", "one class"])
def test_bad_arguments_are_named(case):
    X, y = sleep()[["Days", "Subject"]], sleep()["Reaction"]
    found = {
        "response": (bad(MixedModelRegressor("Reaction ~ Days"), X, y), "without a response"),
        "array": (bad(MixedModelRegressor("~ Days"), X.to_numpy(), y), "give a DataFrame"),
        "column": (bad(MixedModelRegressor("~ Days + (1 | Subjct)"), X, y), "'Subject'"),
        "groups": (bad(MixedModelRegressor(), X[["Days"]], y, groups=[1, 2]), "180 rows"),
        "classes": (bad(MixedModelClassifier(), X[["Days"]], X["Subject"]), "18 classes"),
        "one class": (bad(MixedModelClassifier(), X[["Days"]], np.ones(180)), "one class"),
    }
    call, text = found[case]
    with pytest.raises((ArgumentError, MissingColumnError), match=text):
        call()


@pytest.mark.full
def test_the_package_does_not_import_scikit_learn_and_says_what_installs_it():
    script = "import sys, mixedfx; print('sklearn' in sys.modules); sys.modules['sklearn'] = None\n"
    script += "try:\n    import mixedfx.sklearn\nexcept ModuleNotFoundError as e:\n    print(e)"
    run = [sys.executable, "-c", script]
    found = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert found.startswith("False\n")
    assert "mixedfx[sklearn]" in found


def test_the_dot_of_a_formula_is_the_columns_of_X_and_no_weights():
    rng = np.random.default_rng(1)
    X = pd.DataFrame({"x": rng.normal(size=40), "g": np.repeat(list("abcdefgh"), 5)})
    y, w = X["x"] + rng.normal(size=40), rng.uniform(0.5, 2.0, 40)
    fit = MixedModelRegressor("~ . + (1 | g)", reml=False).fit(X, y, sample_weight=w).result_
    assert list(fit.params.index) == ["Intercept", "x"]
    written = MixedModelRegressor("~ x + (1 | g)", reml=False).fit(X, y, sample_weight=w).result_
    assert fit.deviance == written.deviance
