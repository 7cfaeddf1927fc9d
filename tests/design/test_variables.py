"""Variables as arrays are what pandas makes of the same columns."""

import pickle

import numpy as np
import pandas as pd
import pytest

from mixedfx.design.columns import read_column
from mixedfx.design.variables import Numbers, Variables

ROWS = [60, 900]  # few rows are hashed in Python, many by pandas or Arrow
TEXT = {
    "objects": object,
    "text": "str",
    "string": "string",
    "python strings": "string[python]",
}


@pytest.fixture(params=ROWS)
def texts(request):
    rng = np.random.default_rng(3)
    return pd.Series(rng.choice(["b", "a", "10", "9", "Z", "ä"], request.param), dtype=object)


@pytest.mark.parametrize("dtype", TEXT.values(), ids=TEXT)
def test_text_has_the_levels_and_codes_of_a_categorical(texts, dtype):
    factor = read_column("g", texts.astype(dtype)).used(None)
    expected = pd.Categorical(texts)
    assert factor.levels.tolist() == expected.categories.tolist()
    np.testing.assert_array_equal(factor.codes, expected.codes)
    pd.testing.assert_series_equal(
        factor.series, pd.Series(expected), check_categorical=False, check_dtype=False
    )


@pytest.mark.parametrize("dtype", TEXT.values(), ids=TEXT)
def test_levels_without_a_row_are_left_out(texts, dtype):
    column = texts.astype(dtype).where(texts != "a")
    read, there = read_column("g", column), (texts != "a").to_numpy()
    np.testing.assert_array_equal(read.missing(), ~there)
    keep = there & (texts != "Z").to_numpy()
    factor = read.used(keep)
    expected = pd.Categorical(texts[keep])
    assert factor.missing() is None
    assert factor.levels.tolist() == expected.categories.tolist()
    np.testing.assert_array_equal(factor.codes, expected.codes)


@pytest.mark.parametrize("dtype", TEXT.values(), ids=TEXT)
def test_a_column_without_any_text_has_no_levels(dtype):
    column = pd.Series(["a", "b", "c"]).astype(dtype).where(np.zeros(3, dtype=bool))
    factor = read_column("g", column).used(None)
    assert factor.n_levels == 0
    assert factor.missing().all()


def test_categories_keep_their_order():
    column = pd.Series(pd.Categorical(["lo", "hi", "lo"], ["lo", "mid", "hi"], ordered=True))
    factor = read_column("g", column).used(None)
    assert factor.ordered
    assert factor.series.cat.categories.tolist() == ["lo", "hi"]


@pytest.mark.parametrize("column", [pd.Series([1.0, 2.0]), pd.Series(pd.Categorical(["a", "b"]))])
def test_values_are_copies_of_the_table(column):
    table = pd.DataFrame({"x": column})
    used = read_column("x", table["x"]).used(None)
    before = used.series.tolist()
    table.loc[0, "x"] = table["x"].iloc[1]
    assert used.series.tolist() == before


def test_variables_are_pickled_as_pandas_has_them():
    variables = Variables({"x": Numbers(np.arange(3.0))})
    copy = pickle.loads(pickle.dumps(variables))
    pd.testing.assert_series_equal(copy["x"], pd.Series([0.0, 1.0, 2.0]))
