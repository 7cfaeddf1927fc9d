"""Terms that depend on other rows: found at the fit, right there, and refused in new rows.

Sources of truth: columns computed with pandas before the fit; the fitted values of the same rows.
"""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from patsy import EvalEnvironment
from tiers import but_for

import mixedfx as mfx
from mixedfx.design.build import Design, build
from mixedfx.design.new_data import NewRows, evaluate_new_data
from mixedfx.errors import DataError, ExtrapolationWarning
from mixedfx.formula.parser import parse

NEW = [5, 17, 40, 41]


def table() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    n, g = 96, np.repeat(np.arange(12), 8)
    x = rng.normal(size=n)
    return pd.DataFrame(
        {
            "y": x + rng.normal(size=12)[g] + rng.normal(size=n) * 0.7,
            "x": x,
            "k": rng.integers(1, 6, n),
            "g": [f"s{i:02d}" for i in g],
            "f": np.tile(list("abcd"), 24),
            "h": rng.permutation(np.repeat(list("uvwxyz"), 16)),
            "o": pd.Categorical(
                np.tile(["low", "mid", "high"], 32), ["low", "mid", "high"], ordered=True
            ),
            "t": np.tile(pd.date_range("2020-01-31", periods=12, freq="31D").astype(str), 8),
        }
    )


def z_score(v):
    return (v - v.mean()) / v.std()


def winsorise(v):
    return v.clip(upper=v.quantile(0.95))


def doubled(v):
    return 2 * v


def relabelled(v):
    return v.set_axis(v.index[::-1] + 7)


VECTOR = np.random.default_rng(2).normal(size=96)

ROW_DEPENDENT = [
    "x.rank()",
    "k.rank()",
    "np.cumsum(x)",
    "I(x - x.groupby(g).transform('mean'))",
    "x.groupby(h).transform('max')",
    "pd.qcut(x, 4)",
    "pd.qcut(x, 4, labels=False)",
    "pd.cut(x, 4)",
    "pd.cut(k, 2)",
    "z_score(x)",
    "z_score(k)",
    "winsorise(x)",
    "np.sort(x)",
    "I(x + VECTOR)",
    "x.rolling(3, min_periods=1).mean()",
    "x.shift(1, fill_value=0)",
    "np.gradient(x)",
    "k.duplicated()",
    "pd.factorize(k)[0]",
    "k.astype('category').cat.codes",
    "I(x - x.iloc[0])",
    "x.cummax()",
]
ROWWISE = [
    "np.log(x + 9)",
    "I(x**2)",
    "x.clip(0, 1)",
    "f.map({'a': 'u', 'b': 'u', 'c': 'w', 'd': 'w'})",
    "f.map({'a': 1.0, 'b': 1.5, 'c': 3.0, 'd': 2.0})",
    "f.astype('category')",
    "k.astype('category')",
    "f.cat.codes",
    "C(f, levels=['d', 'c', 'b', 'a'])",
    "f.str[0]",
    "pd.to_datetime(t).dt.month",
    "I(f == 'a')",
    "I(o >= 'mid')",
    "o.cat.codes",
    "np.where(x > 0, 'p', 'n')",
    "pd.cut(x, [-9, 0, 9])",
    "doubled(x)",
    "C(k)",
    "np.sin(2 * np.pi * x)",
    "bs(x, 4)",
    "cr(x, 3)",
    "scale(x)",
    "group_mean(x, h)",
    "within(x, h)",
    "x.sort_values()",
]
# Numbers that a reduction gives on the rows of the fit are remembered.
REDUCTIONS = [
    "I(x - x.mean())",
    "I(x / x.max())",
    "I((x - x.mean()) / (x - x.mean()).std())",
    "I((x - np.mean(x)) / np.std(x))",
    "x.clip(upper=x.quantile(0.9))",
    "I(x > x.median())",
    "I(x - max(x))",
]


def fitted(text: str, **options):
    return mfx.lmer(text, table(), engine="profiled", **options)


def built(text: str) -> Design:
    return build(parse(text), table(), env=EvalEnvironment.capture())


def new_rows(design: Design) -> NewRows:
    groups = [term.group for term in design.rows.random_terms]
    return evaluate_new_data(design.spec, table().iloc[NEW], groups=groups)


# In the default tier, one term of each kind: a method, a reduction, a function of the caller's.
FEW = ["x.rank()", "pd.cut(x, 4)", "winsorise(x)", "I(x + VECTOR)", "k.duplicated()", "C(k)"]
FEW += ["f.astype('category')", "I(o >= 'mid')", "f.str[0]", "doubled(x)", "within(x, h)"]
FEW += ["I(x - x.mean())", "x.clip(upper=x.quantile(0.9))", "pd.cut(x, [-9, 0, 9])"]


@pytest.mark.parametrize("term", ["I(x - x.mean())", "I((x - np.mean(x)) / np.std(x))"])
def test_one_new_row_has_the_value_that_it_has_in_the_fit(term):
    # Of one row alone the deviation over the standard deviation is 0 / 0.
    design = built(f"y ~ {term} + (1 | g)")
    found = evaluate_new_data(design.spec, table().iloc[:1], groups=()).X
    np.testing.assert_allclose(found, design.rows.X[:1], rtol=1e-12)


@pytest.mark.parametrize("term", but_for(ROW_DEPENDENT, FEW))
def test_term_of_other_rows_is_refused_in_new_rows(term):
    with pytest.raises(DataError, match=r"computed from other rows.*center\(x\)") as caught:
        new_rows(built(f"y ~ {term} + (1 | g)"))
    assert f"'{term}'" in str(caught.value)


@pytest.mark.parametrize("term", but_for(ROWWISE + REDUCTIONS, FEW))
def test_other_terms_are_the_same_in_new_rows(term):
    design = built(f"y ~ {term} + (1 | g)")
    assert design.spec.row_dependent == ()
    np.testing.assert_allclose(new_rows(design).X, design.rows.X[NEW], rtol=0, atol=1e-13)


@pytest.mark.parametrize("term", [ROW_DEPENDENT[0], *ROW_DEPENDENT[3:5], "z_score(x)"])
def test_fit_is_that_of_the_column_computed_before(term):
    data = table()
    names = {"z_score": z_score, **{name: data[name] for name in data}}
    before = data.assign(v=eval(term.removeprefix("I"), names))
    expected = mfx.lmer("y ~ v + (1 | g)", before, engine="profiled")
    np.testing.assert_allclose(fitted(f"y ~ {term} + (1 | g)").deviance, expected.deviance)


PARTS = {
    "fixed": "y ~ x.rank() + (1 | g)",
    "interaction": "y ~ f * z_score(x) + (1 | g)",
    "random": "y ~ x + (1 + x.rank() | h)",
    "group": "y ~ x + (1 | pd.qcut(x, 5, labels=False))",
    "nested group": "y ~ x + (1 | h:pd.qcut(x, 3, labels=False))",
}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_a_formula_is_examined(part):
    with pytest.raises(DataError, match="computed from other rows"):
        new_rows(built(PARTS[part]))


@pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")
def test_random_term_that_is_not_asked_for_is_no_matter():
    fit = fitted("y ~ x + (1 + x.rank() | h)")
    assert len(fit.predict(table().iloc[NEW], random="none")) == len(NEW)


def test_dispersion_is_examined():
    fit = fitted("y ~ x + (1 | g)", dispersion="~ pd.qcut(x, 2, labels=False)")
    with pytest.raises(DataError, match="computed from other rows"):
        fit.predict(table().iloc[NEW], interval="prediction")


@pytest.mark.parametrize("call", [lambda fit: fit.emmeans("f"), lambda fit: fit.plot.fitted()])
def test_grids_are_new_rows(call):
    fit = fitted("y ~ f + z_score(x) + (1 | g)")
    with pytest.raises(DataError, match="'z_score\\(x\\)' is computed from other rows"):
        call(fit)


def test_a_reduction_is_not_computed_again_in_new_rows():
    # Of a single row numpy's standard deviation is undefined, with a warning.
    design = built("y ~ I(x / np.std(x.to_numpy(), ddof=1)) + (1 | g)")
    X = evaluate_new_data(design.spec, table().iloc[[7]], groups=()).X
    np.testing.assert_allclose(X, design.rows.X[[7]], rtol=1e-14)


def test_means_of_a_remembered_reduction_are_those_of_center():
    centred = fitted("y ~ f * center(x) + (1 | g)").emmeans("f", at={"x": [1.0]}).table
    own = fitted("y ~ f * I(x - x.mean()) + (1 | g)").emmeans("f", at={"x": [1.0]}).table
    np.testing.assert_allclose(own["emmean"], centred["emmean"], rtol=1e-10)


ALIGNED = ["x.sort_values()", "I(x.iloc[::-1])", "np.exp(x.sort_values())", "C(k.iloc[::-1])"]
ALIGNED += ["bs(x.sort_values(), 4)", "within(x.sort_values(), h.iloc[::-1])"]


@pytest.mark.parametrize("written", but_for(ALIGNED, ALIGNED[::2]))
def test_columns_are_aligned_by_their_index(written):
    plain = written.replace(".sort_values()", "").replace(".iloc[::-1]", "")
    expected = built(f"y ~ {plain} + (1 | g)").rows.X
    np.testing.assert_array_equal(built(f"y ~ {written} + (1 | g)").rows.X, expected)


def test_groups_are_aligned_by_their_index():
    expected = built("y ~ x + (1 | g)").rows.random_terms[0].codes
    codes = built("y ~ x + (1 | g.iloc[::-1])").rows.random_terms[0].codes
    np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize("text", ["y ~ relabelled(x) + (1 | g)", "y ~ x + (1 | relabelled(g))"])
def test_another_index_is_refused(text):
    with pytest.raises(DataError, match=r"index is not that of the rows.*\.to_numpy\(\)"):
        built(text)


PICKLED = ["I(x - x.mean())", "within(x, h)", "ns(x, 3)", "k.astype('category')", "o.cat.codes"]


@pytest.mark.parametrize("term", but_for(PICKLED, PICKLED[:2]))
def test_a_pickled_fit_remembers(term):
    fit = fitted(f"y ~ {term} + (1 | g)")
    kept = pickle.loads(pickle.dumps(fit))
    np.testing.assert_allclose(kept.predict(table().iloc[NEW]), fit.predict(table().iloc[NEW]))


def test_a_pickled_fit_refuses_new_rows_as_the_fit_does():
    kept = pickle.loads(pickle.dumps(fitted("y ~ x.rank() + (1 | g)")))
    with pytest.raises(DataError, match="computed from other rows"):
        kept.predict(table().iloc[NEW])


# ---------------------------------------------------------------- group_mean, within


def test_group_means_are_pandas_means():
    data = table()
    mean = data.groupby("h")["x"].transform("mean")
    before = mfx.lmer("y ~ b + w + (1 | g)", data.assign(b=mean, w=data["x"] - mean))
    own = mfx.lmer("y ~ group_mean(x, h) + within(x, h) + (1 | g)", data)
    np.testing.assert_allclose(own.params, before.params, rtol=1e-10)


def test_new_rows_have_the_means_of_the_fit():
    data = table()
    fit = mfx.lmer("y ~ within(x, h) + (1 | g)", data)
    by_level = data.assign(w=data["x"] - data.groupby("h")["x"].transform("mean"))
    new = by_level.iloc[NEW].assign(x=by_level["x"].iloc[NEW] + 1.0)
    expected = fit.params["Intercept"] + fit.params["within(x, h)"] * (new["w"] + 1.0)
    np.testing.assert_allclose(fit.predict(new, random="none"), expected, rtol=1e-12)


def test_groups_match_as_text():
    data = table()
    fit = mfx.lmer("y ~ group_mean(x, k) + (1 | g)", data)
    new = data.iloc[NEW]
    as_text = new.assign(k=new["k"].astype(str))
    np.testing.assert_array_equal(fit.predict(as_text), fit.predict(new))


def test_a_new_group_has_the_mean_of_all_rows():
    data = table()
    fit = mfx.lmer("y ~ group_mean(x, h) + (1 | g)", data)
    with pytest.warns(ExtrapolationWarning, match="the group 'new'"):
        predicted = fit.predict(pd.DataFrame({"x": [3.0], "h": ["new"]}), random="none")
    expected = fit.params @ [1.0, data["x"].mean()]
    assert predicted.iloc[0] == pytest.approx(expected, rel=1e-12)


def test_an_expression_of_ordered_categories_keeps_their_order_in_new_rows():
    design = built("y ~ I(o >= 'mid') + (1 | g)")  # as text, 'high' < 'mid'
    new = pd.DataFrame({"o": ["low", "high", "mid", "high"]})
    X = evaluate_new_data(design.spec, new, groups=()).X
    assert X[:, 1].tolist() == [0.0, 1.0, 1.0, 1.0]


def test_a_value_that_the_fit_does_not_have_is_still_told():
    design = built("y ~ f + f.str.upper() + (1 | g)")
    with pytest.raises(DataError, match="'f' has the new value 'z'"):
        evaluate_new_data(design.spec, pd.DataFrame({"f": ["a", "z"]}), groups=())
