"""Multiple membership: rows that belong to several levels, with weights."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError, DataError, FormulaError, NewLevelError

FORMULA = "y ~ x + (1 | mm(t1, t2, weights=[w1, w2]))"
NAME = "mm(t1, t2)"


def pupils(seed, n=120, levels=9):
    rng = np.random.default_rng(seed)
    t = np.array([rng.choice(levels, 2, replace=False) for _ in range(n)])
    w1 = rng.uniform(0.0, 1.0, n).round(2)
    data = pd.DataFrame(
        {"t1": [f"T{i}" for i in t[:, 0]], "t2": [f"T{i}" for i in t[:, 1]], "w1": w1}
    )
    data["w2"], data["x"] = 1.0 - w1, rng.normal(size=n)
    b = 1.2 * rng.normal(size=levels)
    data["y"] = 1.0 + data["x"] + w1 * b[t[:, 0]] + (1.0 - w1) * b[t[:, 1]] + rng.normal(size=n)
    return data


def dense(fit, data, Z):
    vc = fit.varcorr.set_index("group")["vcov"]
    V = vc[NAME] * Z @ Z.T + vc["Residual"] * np.eye(len(data))
    X, y, Vi = np.column_stack([np.ones(len(data)), data["x"]]), data["y"], np.linalg.inv(V)
    information = X.T @ Vi @ X
    r = y - X @ np.linalg.solve(information, X.T @ Vi @ y)
    criterion = np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1] + r @ Vi @ r
    return criterion + (len(y) - 2) * np.log(2 * np.pi), vc[NAME] * Z.T @ Vi @ r


def weights_matrix(data, w1, w2):
    levels = np.array(sorted({*data["t1"].dropna(), *data["t2"].dropna()}))
    Z = np.zeros((len(data), len(levels)))
    for column, w in (("t1", w1), ("t2", w2)):
        Z += (data[column].to_numpy()[:, None] == levels) * np.asarray(w)[:, None]
    return Z


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fit_is_that_of_the_dense_definition(seed):
    data = pupils(seed)
    fit = mfx.lmer(FORMULA, data)
    criterion, modes = dense(fit, data, weights_matrix(data, data["w1"], data["w2"]))
    assert fit.deviance == pytest.approx(criterion, abs=1e-7)
    np.testing.assert_allclose(fit.ranef(NAME)["Intercept"], modes, atol=1e-8)


def test_without_weights_memberships_share_equally_and_missing_ones_take_no_part():
    data = pupils(4)
    data.loc[::5, "t2"] = None
    alone = data["t2"].isna()
    fit = mfx.lmer("y ~ x + (1 | mm(t1, t2))", data)
    share = np.where(alone, 1.0, 0.5)
    criterion, _ = dense(fit, data, weights_matrix(data, share, share))
    assert fit.nobs == len(data)
    assert fit.deviance == pytest.approx(criterion, abs=1e-7)


def test_weights_of_missing_memberships_do_not_count_and_rows_without_any_are_dropped():
    data = pupils(5)
    data.loc[::7, "t2"] = None
    data.loc[3, ["t1", "t2"]] = None
    data.loc[4, "w1"] = np.nan
    used = data.drop(index=[3, 4])
    fit = mfx.lmer(FORMULA, data)
    criterion, _ = dense(fit, used, weights_matrix(used, used["w1"], used["w2"]))
    assert fit.nobs == len(used)
    assert fit.deviance == pytest.approx(criterion, abs=1e-7)


def test_one_level_in_both_columns_is_an_ordinary_random_intercept():
    data = pupils(6)
    data["t2"] = data["t1"]
    plain = mfx.lmer("y ~ x + (1 | t1)", data, engine="profiled")
    assert mfx.lmer(FORMULA, data).deviance == pytest.approx(plain.deviance, abs=1e-8)


def test_order_of_the_columns_does_not_matter():
    data = pupils(7)
    turned = mfx.lmer("y ~ x + (1 | mm(t2, t1, weights=[w2, w1]))", data)
    assert turned.deviance == pytest.approx(mfx.lmer(FORMULA, data).deviance, abs=1e-9)


def test_integers_stay_labels():
    data = pupils(8)
    for column in ("t1", "t2"):
        data[column] = data[column].str[1:].astype(int)
    assert mfx.lmer(FORMULA, data).ranef(NAME).index.tolist() == list(range(9))


def test_predictions_of_the_rows_as_new_ones_are_the_same():
    data = pupils(9)
    fit = mfx.lmer(FORMULA, data)
    np.testing.assert_allclose(fit.predict(data), fit.fittedvalues, atol=1e-12)
    own, new = (fit.predict(d, interval="prediction") for d in (None, data))
    np.testing.assert_allclose(own, new, atol=1e-10)


def test_new_levels_are_refused_or_taken_as_zero_beside_known_ones():
    data = pupils(10)
    fit = mfx.lmer(FORMULA, data)
    new = data.head(1).assign(t2="new")
    with pytest.raises(NewLevelError, match="mm\\(t1, t2\\)"):
        fit.predict(new)
    found = fit.predict(new, new_levels="population")
    effect = fit.ranef(NAME).loc[new["t1"].iloc[0], "Intercept"] * new["w1"].iloc[0]
    expected = fit.params["Intercept"] + fit.params["x"] * new["x"].iloc[0] + effect
    assert found.iloc[0] == pytest.approx(expected)


def test_formula_is_parsed_again_to_the_same_and_named_without_weights():
    formula = mfx.parse(FORMULA)
    assert mfx.parse(str(formula)) == formula
    assert formula.groups == (NAME,)
    assert NAME in str(mfx.lmer(FORMULA, pupils(11)).summary())


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("mm(t1)", "two columns or more"),
        ("mm(t1, t2):x", "by itself"),
        ("mm(t1, t2)/x", "by itself"),
        ("mm(t1, t2, w=[w1, w2])", "columns and weights="),
        ("mm(t1, t2, weights=[w1])", "a list of weights, one for each"),
        ("mm(t1, t2, weights=w1)", "a list of weights, one for each"),
    ],
)
def test_other_calls_are_refused_with_the_place(group, message):
    with pytest.raises(FormulaError, match=message):
        mfx.parse(f"y ~ x + (1 | {group})")


def test_negative_weights_are_refused_with_the_row():
    data = pupils(12)
    data.loc[2, "w1"] = -0.5
    with pytest.raises(DataError, match=r"weight -0.5 in row 2"):
        mfx.lmer(FORMULA, data)


def test_relationships_of_members_are_refused():
    with pytest.raises(ArgumentError, match="levels of multiple memberships are independent"):
        mfx.lmer(FORMULA, pupils(13), relmat={NAME: np.eye(9)})


def test_the_generalised_model_of_a_normal_response_is_the_linear_one():
    data = pupils(13)
    generalised = mfx.glmer(FORMULA, data, family="gaussian")
    linear = mfx.lmer(FORMULA, data, reml=False)
    assert generalised.llf == pytest.approx(linear.llf, abs=1e-7)
    np.testing.assert_allclose(generalised.ranef(NAME), linear.ranef(NAME), atol=1e-4)


def test_kept_fit_has_the_memberships(tmp_path):
    data = pupils(14)
    fit = mfx.lmer(FORMULA, data)
    fit.save(tmp_path / "fit.mfx")
    kept = mfx.read(tmp_path / "fit.mfx")
    pd.testing.assert_series_equal(kept.predict(data), fit.predict(data))
    assert kept.refit(data["y"] + data["x"]).deviance == pytest.approx(
        fit.refit(data["y"] + data["x"]).deviance
    )
