"""Text that reads as numbers, and numbers with stray text: named, or a factor where codes are."""

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ColumnTypeError, DataError, ResponseError

FORMULA = "Reaction ~ x + (1 | Subject)"


@pytest.fixture(scope="module")
def sleep():
    sleep = mfx.datasets.load("sleepstudy")
    return sleep.set_index(pd.Index([f"row{i}" for i in range(len(sleep))]))


def with_text(sleep, stray=None, scale=1.0):
    x = (sleep["Days"] * scale).map(lambda v: f"{v:g}").astype(object)
    if stray is not None:
        x.iloc[7] = stray
    return sleep.assign(x=x)


STRAYS = ["n/a", "NA ", "-", "?", "1,5", "3 ms", "<1", "five"]


@pytest.mark.parametrize("stray", STRAYS)
@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_a_stray_string_in_a_column_of_numbers_is_named(sleep, stray, scale):
    with pytest.raises(ColumnTypeError) as caught:
        mfx.lmer(FORMULA, with_text(sleep, stray, scale))
    assert f"column 'x' is numbers but for 1 of 180 rows, the first {stray!r} in row row7" in str(
        caught.value
    )


@pytest.mark.kept("n/a", "1,5", "five")
@pytest.mark.parametrize("stray", STRAYS)
def test_the_advice_on_a_stray_string_works(sleep, stray):
    data = with_text(sleep, stray)
    data["x"] = pd.to_numeric(data["x"], errors="coerce")
    fit = mfx.lmer(FORMULA, data)
    assert fit.nobs == 179
    assert fit.params.index.tolist() == ["Intercept", "x"]
    assert len(mfx.lmer("Reaction ~ C(x) + (1 | Subject)", with_text(sleep, stray)).params) == 11


@pytest.mark.parametrize("stray", ["n/a", "5"])
def test_numbers_and_text_in_one_column_are_named(sleep, stray):
    x = sleep["Days"].astype(object)
    x.iloc[7] = stray
    with pytest.raises(ColumnTypeError, match=f"'{stray}' in row row7"):
        mfx.lmer(FORMULA, sleep.assign(x=x))


@pytest.mark.parametrize("dtype", [object, "string", "string[pyarrow]"])
@pytest.mark.parametrize("role", [FORMULA, "Reaction ~ 1 + (x | Subject)", "Reaction ~ x * Days"])
def test_text_with_decimal_fractions_is_named(sleep, dtype, role):
    data = with_text(sleep, scale=1.5)
    with pytest.raises(ColumnTypeError, match=r"'x' is text that reads as numbers, such as '0'"):
        mfx.lmer(role, data.assign(x=data["x"].astype(dtype)))


def test_text_of_many_integers_is_named(sleep):
    x = np.random.default_rng(1).integers(0, 1000, len(sleep)).astype(str)
    with pytest.raises(ColumnTypeError, match=r"as a factor it would have 1\d\d levels"):
        mfx.lmer(FORMULA, sleep.assign(x=x))


@pytest.mark.parametrize("stray", [None, "n/a", "word"])
def test_a_response_of_text_is_named_with_a_row(sleep, stray):
    data = with_text(sleep, stray)
    row = "row0" if stray is None else "row7"
    with pytest.raises(ResponseError, match=f"'x' is not numeric.* in row {row}"):
        mfx.lmer("x ~ Reaction + (1 | Subject)", data)
    numeric = data.assign(x=pd.to_numeric(data["x"], errors="coerce"))
    assert mfx.lmer("x ~ Reaction", numeric).nobs == 180 - (stray is not None)


FACTORS = {
    "codes": lambda day: day.astype(int).astype(str),
    "grades": lambda day: np.where(day == 9, "K", day.astype(int).astype(str)),
    "yes, no and unknown": lambda day: np.where(day == 9, "unknown", (day > 4).astype(int)),
    "classes of age": lambda day: np.where(day > 4, "18-24", "25+"),
    "categories": lambda day: (1.5 * day).astype(str).astype("category"),
}


@pytest.mark.parametrize("name", FACTORS)
def test_codes_are_a_factor(sleep, name):
    data = sleep.assign(x=FACTORS[name](sleep["Days"]))
    fit = mfx.lmer(FORMULA, data)
    assert len(fit.params) == data["x"].nunique()


def test_many_levels_of_digits_with_many_rows_each_are_a_factor(sleep):
    data = pd.concat([sleep.assign(Subject=sleep["Subject"].astype(str))] * 2, ignore_index=True)
    data["x"] = (np.arange(len(data)) % 30 + 100).astype(str)
    assert len(mfx.lmer("Reaction ~ 0 + x", data).params) == 30
    assert len(mfx.lmer("Reaction ~ Subject", data).params) == 18


def test_groups_are_of_any_text(sleep):
    data = with_text(sleep, "n/a", 1.5)
    assert mfx.lmer("Reaction ~ 1 + (1 | x)", data, engine="profiled").ngroups == {"x": 11}


@pytest.mark.parametrize(("stray", "shown"), [("n/a", "n/a"), (None, "0")])
def test_text_in_an_expression_is_named(sleep, stray, shown):
    with pytest.raises(DataError, match=f"Column 'x' holds text, such as '{shown}': make it num"):
        mfx.lmer("Reaction ~ np.log1p(x) + (1 | Subject)", with_text(sleep, stray))
