"""Columns of any name: fitted, shown and asked for by their names.

Source of truth: the same data with plain names.
"""

from __future__ import annotations

import datetime
import logging
import re
from math import log

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from tiers import but_for

import mixedfx as mfx
from mixedfx._names import FUNCTION_NAMES
from mixedfx.design.functions import FORMULA_FUNCTIONS, PATSY_FUNCTIONS
from mixedfx.design.r_functions import R_CONSTANTS, R_FUNCTIONS
from mixedfx.errors import ColumnTypeError, MissingColumnError

pytestmark = pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 120
    frame = pd.DataFrame({"y": rng.normal(size=n), "x": rng.uniform(1, 5, n)})
    frame["g"], frame["f"] = np.repeat(np.arange(12), 10), np.tile(list("ab"), 60)
    slopes = 0.4 * rng.normal(size=12)[frame["g"]] * frame["x"]
    return frame.assign(y=frame["y"] + rng.normal(size=12)[frame["g"]] + slopes)


@pytest.fixture(scope="module")
def plain(data) -> mfx.Results:
    return mfx.lmer("y ~ x*f + (x | g)", data)


# New names of the columns, and the formula with them.
WRITINGS = {
    "spaces": (
        {"y": "Größe", "x": "reading score", "f": "my group", "g": "class"},
        "`Größe` ~ `reading score`*`my group` + (`reading score` | class)",
    ),
    "numbers": ({"x": 5, "g": 7}, "y ~ `5`*f + (`5` | `7`)"),
    "dots": ({"x": "my.var"}, "y ~ my.var*f + (my.var | g)"),
    "colon": ({"x": "x:z"}, "y ~ `x:z`*f + (`x:z` | g)"),
    "bar": ({"x": "a|b"}, "y ~ Q('a|b')*f + (`a|b` | g)"),
    "quotes": ({"x": "it's", "g": 'a "g"'}, "y ~ `it's`*f + (`it's` | `a \"g\"`)"),
    "R's factor": ({"f": "odd f"}, "y ~ x*factor(`odd f`) + (x | g)"),
    **{f"group {k}": ({"g": k}, f"y ~ x*f + (x | {k})") for k in ("class", "effect", "Intercept")},
    **{
        f"group {k}": ({"g": k}, f"y ~ x*f + (x | {k})") for k in ("yield", "lambda", "None", "inf")
    },
    **{
        f"column {k}": ({"x": k}, f"y ~ {k}*f + ({k} | g)") for k in ("yield", "effect", "log", "C")
    },
    **{
        f"column {k}": ({"x": k}, f"y ~ {k}*f + ({k} | g)") for k in ("Q", "nan", "None", "np", "I")
    },
    "factor log": ({"f": "log"}, "y ~ x*log + (x | g)"),
}


def _texts(fit: mfx.Results, x: str, f: str, g: str) -> str:
    """All texts that name columns."""
    means = fit.emmeans(f, at={x: [1.0]})
    parts = [fit.summary(), fit.tidy(), fit.anova(), fit.varcorr, fit.equation(), repr(fit)]
    parts += [means, means.contrasts(), fit.ranef(g), fit.coef(g), fit.pooling(g), fit.augment()]
    parts += [fit.graph(), fit.graph().to_dot(), fit.ranova(), *fit.notes, fit.t_test(f"{x} = 0")]
    parts += [fit.conf_int(parm=f"sd({x} | {g})"), mfx.table(fit), fit.summary().to_latex()]
    return "\n".join(p.to_string() if isinstance(p, pd.DataFrame) else str(p) for p in parts)


@pytest.mark.kept("spaces", "numbers")
@pytest.mark.parametrize("writing", but_for(WRITINGS, ["spaces", "numbers", "dots"]))
def test_odd_names_are_fitted_shown_and_asked_for(data, plain, writing):
    names, formula = WRITINGS[writing]
    frame = data.rename(columns=names)
    x, f, g = (str(names.get(k, k)) for k in "xfg")
    fit = mfx.lmer(formula, frame)
    assert fit.deviance == pytest.approx(plain.deviance, rel=1e-10)
    assert mfx.lmer(str(fit.formula), frame).deviance == fit.deviance
    texts = _texts(fit, x, f, g)
    assert "Q__" not in texts
    assert x in texts
    assert list(fit.ranef()) == [g]
    np.testing.assert_allclose(fit.predict(frame[:5]), fit.fittedvalues[:5])
    np.testing.assert_allclose(fit.t_test(f"`{x}` = 0")["estimate"], fit.params[x])


@pytest.mark.full
@pytest.mark.parametrize("writing", WRITINGS)
@pytest.mark.parametrize("plot", ["caterpillar", "shrinkage", "fitted"])
def test_odd_names_are_drawn(data, writing, plot):
    names, formula = WRITINGS[writing]
    fit = mfx.lmer(formula, data.rename(columns=names))
    getattr(fit.plot, plot)(group=str(names.get("g", "g")))
    texts = [t.get_text() for t in plt.gcf().findobj(plt.Text)]
    assert not any("Q__" in text for text in texts)
    plt.close("all")


def test_every_function_of_formulas_is_known_as_one():
    # Columns go before R's functions of rows: floor is the name of many a column.
    own = FORMULA_FUNCTIONS.keys() - R_FUNCTIONS.keys() - R_CONSTANTS.keys()
    assert {n for n in own if n.isidentifier() and n[0] != "_"} <= FUNCTION_NAMES
    assert set(PATSY_FUNCTIONS) <= FUNCTION_NAMES


def test_variables_of_the_caller_do_not_hide_functions_of_formulas(data):
    I, C, scale, Q, exp = 20, None, "text", 3.0, logging.getLogger("exp")  # noqa: E741
    expected = mfx.lmer("y ~ I(x**2) + np.log(x) + C(f) + scale(x**3) + (1 | g)", data)
    fit = mfx.lmer("y ~ I(x^2) + log(x) + C(f) + scale(x**3) + exp(-x) + (1 | g)", data)
    assert log(1.0) == 0.0
    assert (I, C, scale, Q, exp.name) == (20, None, "text", 3.0, "exp")
    assert fit.params["I(x ** 2)"] != expected.params["I(x ** 2)"]
    fewer = mfx.lmer("y ~ I(x^2) + log(x) + C(f) + scale(x**3) + (1 | g)", data)
    assert fewer.deviance == expected.deviance


def test_columns_do_not_hide_functions_of_formulas(data):
    expected = mfx.lmer("y ~ log(x) + C(f) + (1 | g)", data)
    fit = mfx.lmer("y ~ log(x) + C(f) + (1 | C)", data.assign(log=1.0, C=data["g"]))
    assert fit.deviance == pytest.approx(expected.deviance, rel=1e-10)


def test_equal_texts_are_told_apart_by_type(data):
    frame = data.assign(**{"5": data["x"]})
    frame[5] = 0.0
    fit = mfx.lmer("y ~ `5` + (1 | g)", frame)
    assert fit.deviance == mfx.lmer("y ~ x + (1 | g)", data).deviance
    with pytest.raises(ColumnTypeError, match="several columns named '5'"):
        mfx.lmer("y ~ `5` + (1 | g)", pd.concat([frame[["y", "g"]], frame[["5", "5"]]], axis=1))


def test_a_group_in_the_index_is_named(data):
    with pytest.raises(MissingColumnError, match="reset_index"):
        mfx.lmer("y ~ x + (1 | g)", data.set_index("g"))


def test_columns_of_several_levels_are_explained(data):
    frame = data.set_axis(pd.MultiIndex.from_product([["a"], list(data)]), axis=1)
    with pytest.raises(ColumnTypeError, match="join"):
        mfx.lmer("y ~ x + (1 | g)", frame)
    frame.columns = ["_".join(map(str, c)) for c in frame.columns]
    mfx.lmer("a_y ~ a_x + (1 | a_g)", frame)


# ------------------------------------------------------------------ offsets


OFFSETS = {
    "column": ("offset(x)", lambda d: d["x"]),
    "expression": ("offset(log(x))", lambda d: np.log(d["x"])),
    "two": ("offset(x) + offset(2 * x)", lambda d: 3 * d["x"]),
}


@pytest.mark.parametrize("kind", OFFSETS)
def test_an_offset_in_the_formula_is_that_of_the_argument(data, kind):
    written, values = OFFSETS[kind]
    fit = mfx.lmer(f"y ~ f + {written} + (1 | g)", data)
    expected = mfx.lmer("y ~ f + (1 | g)", data, offset=values(data))
    assert fit.deviance == pytest.approx(expected.deviance, rel=1e-12)
    np.testing.assert_allclose(fit.predict(data[:7]), expected.fittedvalues[:7])
    both = mfx.lmer(f"y ~ f + {written} + (1 | g)", data.assign(o=1.5), offset="o")
    assert both.params["Intercept"] == pytest.approx(fit.params["Intercept"] - 1.5)
    np.testing.assert_allclose(both.predict(data[:7].assign(o=1.5)), fit.fittedvalues[:7])


def test_rows_without_an_offset_are_left_out(data):
    x = data["x"].where(data.index != 3)
    fit = mfx.lmer("y ~ f + offset(log(x)) + (1 | g)", data.assign(x=x))
    assert fit.nobs == len(data) - 1
    assert np.isnan(fit.predict(data[:5].assign(x=x[:5]))[3])


# ------------------------------------------------------------------ dates, times, intervals


DAYS = pd.Timestamp("2020-01-31") + pd.to_timedelta(np.arange(12) * 31, unit="D")
# Values of a column, and the label of its second level.
DATES = {
    "dates": (DAYS, "2020-03-02"),
    "times": (DAYS + pd.Timedelta("3h"), "2020-03-02 03:00:00"),
    "time zone": (DAYS.tz_localize("Europe/Vienna"), "2020-03-02 00:00:00+0100"),
    "periods": (DAYS.to_period("M"), "2020-03"),
    "Python's dates": (DAYS.date, "2020-03-02"),
    "times of day": ([datetime.time(h, 30) for h in range(12)], "01:30"),
    "durations": (pd.to_timedelta(np.arange(12), unit="h"), "0 days 01:00:00"),
    "intervals": (pd.interval_range(0, 12, 12), "(1, 2]"),
}


@pytest.fixture(scope="module")
def dated() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"k": np.tile(np.arange(12), 10), "x": rng.normal(size=120)})
    return frame.assign(y=rng.normal(size=12)[frame["k"]] + rng.normal(size=120))


@pytest.mark.parametrize("kind", DATES)
def test_dates_group(dated, kind):
    values, _ = DATES[kind]
    frame = dated.assign(t=pd.Series(values)[dated["k"]].to_numpy())
    fit, expected = mfx.lmer("y ~ x + (1 | t)", frame), mfx.lmer("y ~ x + (1 | k)", dated)
    assert fit.deviance == pytest.approx(expected.deviance, rel=1e-12)
    np.testing.assert_allclose(fit.ranef("t"), expected.ranef("k"))
    np.testing.assert_allclose(fit.predict(frame[:20]), expected.fittedvalues[:20])


@pytest.mark.parametrize("kind", DATES)
def test_dates_make_factors_with_readable_labels(dated, kind):
    values, label = DATES[kind]
    frame = dated.assign(t=pd.Series(values)[dated["k"]].to_numpy())
    fit = mfx.lmer("y ~ C(t) + (1 | x > 0)", frame)
    expected = mfx.lmer("y ~ C(k) + (1 | x > 0)", dated)
    assert fit.params.index[1] == f"C(t)[T.{label}]"
    np.testing.assert_allclose(fit.params, expected.params)
    np.testing.assert_allclose(fit.predict(frame[:20]), expected.fittedvalues[:20])


def test_a_date_is_no_covariate(dated):
    data = dated.assign(t=DAYS[dated["k"]])
    with pytest.raises(ColumnTypeError, match="days") as caught:
        mfx.lmer("y ~ t + (1 | k)", data)
    advice = re.search(r"data\['days'\] = (.+), or write", str(caught.value))[1]
    data["days"] = eval(advice, {"data": data})
    assert mfx.lmer("y ~ days + (1 | k)", data).converged
    assert mfx.lmer("y ~ t.dt.month + (1 | t.dt.year)", data).nobs == len(data)


@pytest.mark.parametrize(("given", "column"), [("`o o`", "o o"), ("o o", "o o"), ("7", 7)])
def test_an_offset_column_of_any_name_is_read_in_new_rows(data, given, column):
    fit = mfx.lmer("y ~ x + (1 | g)", data.assign(o=data["x"]), offset="o")
    renamed = data.assign(o=data["x"]).rename(columns={"o": column})
    of_any_name = mfx.lmer("y ~ x + (1 | g)", renamed, offset=given)
    expected = fit.predict(data.assign(o=1.5).head(7))
    found = of_any_name.predict(data.assign(o=1.5).rename(columns={"o": column}).head(7))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
