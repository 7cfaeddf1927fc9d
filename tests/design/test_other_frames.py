"""Tables of other libraries, and columns of pandas' other types, in.

Source of truth: the same data in plain columns of NumPy.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache

import numpy as np
import pandas as pd
import pytest
from patsy import EvalEnvironment

from mixedfx.design.build import build
from mixedfx.formula.parser import parse

pa = pytest.importorskip("pyarrow")
pl = pytest.importorskip("polars")

FORMULA = "y ~ n + flag + arm + lev + (1 | g)"
ORDER = ["mid", "high", "low"]


@cache
def plain() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 60
    frame = pd.DataFrame({"y": rng.normal(size=n), "n": rng.integers(0, 5, n).astype(float)})
    frame["flag"], frame["arm"] = rng.random(n) > 0.5, rng.choice(["b", "a"], n)
    frame["lev"], frame["g"] = rng.choice(ORDER, n), np.repeat([f"s{i}" for i in range(10)], 6)
    frame.loc[[3, 20], "n"] = np.nan
    frame["arm"] = frame["arm"].astype(object).mask(frame.index == 40, None)
    return frame


def arrow_strings(column, type_):
    values = [None if v is None or v != v else v for v in column]
    return pd.array(values, dtype=pd.ArrowDtype(type_))


def whole(column, dtype):
    return pd.array([None if v != v else int(v) for v in column], dtype=dtype)


def with_columns(**changed):
    def changed_frame(frame):
        return frame.assign(**{name: made(frame[name]) for name, made in changed.items()})

    return changed_frame


DICTIONARY = pa.dictionary(pa.int32(), pa.string())
DECIMAL = pd.ArrowDtype(pa.decimal128(5, 1))
FRAMES = {
    "pandas' nullable types": lambda f: f.convert_dtypes(),
    "Arrow-backed types": lambda f: f.convert_dtypes(dtype_backend="pyarrow"),
    "Int64": with_columns(n=lambda c: whole(c, "Int64")),
    "int8 of Arrow": with_columns(n=lambda c: whole(c, "int8[pyarrow]")),
    "double of Arrow": with_columns(n=lambda c: whole(c, "double[pyarrow]")),
    "decimals": with_columns(
        n=lambda c: pd.array([None if v != v else Decimal(int(v)) for v in c], dtype=DECIMAL)
    ),
    "boolean": with_columns(flag=lambda c: c.astype("boolean")),
    "string of Arrow": with_columns(arm=lambda c: c.astype("string[pyarrow]")),
    "dictionary of Arrow": with_columns(
        arm=lambda c: arrow_strings(c, DICTIONARY), g=lambda c: arrow_strings(c, DICTIONARY)
    ),
    "categories of strings of Arrow": with_columns(
        g=lambda c: c.astype("string[pyarrow]").astype("category")
    ),
    "Arrow table": pa.Table.from_pandas,
    "Arrow record batch": pa.RecordBatch.from_pandas,
    "polars": pl.from_pandas,
    "polars' Categorical": lambda f: pl.from_pandas(f).with_columns(
        pl.col("lev", "g").cast(pl.Categorical)
    ),
    "polars' Decimal": lambda f: pl.from_pandas(f).with_columns(pl.col("n").cast(pl.Decimal(10))),
}


def built(frame):
    return build(parse(FORMULA), frame, env=EvalEnvironment([{}]))


@pytest.mark.kept("pandas' nullable types", "Arrow-backed types", "polars", "polars' Categorical")
@pytest.mark.parametrize("kind", FRAMES)
def test_the_type_of_the_table_makes_no_difference(kind):
    found, expected = built(FRAMES[kind](plain())), built(plain())
    assert found.spec.column_names == expected.spec.column_names
    np.testing.assert_array_equal(found.rows.X, expected.rows.X)
    np.testing.assert_array_equal(found.rows.y, expected.rows.y)
    levels = [list(d.spec.levels_of("g").labels) for d in (found, expected)]
    assert levels[0] == levels[1]
    assert found.rows.n_dropped == 3


@pytest.mark.parametrize("kind", ["polars", "Arrow"])
def test_an_enum_of_polars_keeps_its_order(kind):
    table = pl.from_pandas(plain()).with_columns(pl.col("lev").cast(pl.Enum(ORDER)))
    found = built(table if kind == "polars" else table.to_arrow())
    assert [n for n in found.spec.column_names if "lev" in n] == ["lev[T.high]", "lev[T.low]"]


def test_levels_of_a_categorical_of_polars_do_not_depend_on_the_order_of_the_rows():
    # Polars sorts them as text, and gives pandas the order in which it met them.
    table = pl.from_pandas(plain()).with_columns(pl.col("lev").cast(pl.Categorical))
    for rows in (table, table.sort("lev", descending=True), table.reverse()):
        names = [n for n in built(rows).spec.column_names if "lev" in n]
        assert names == ["lev[T.low]", "lev[T.mid]"]


def test_a_frame_of_narwhals_is_that_which_it_wraps():
    narwhals = pytest.importorskip("narwhals")
    table = pl.from_pandas(plain()).with_columns(pl.col("lev").cast(pl.Enum(ORDER)))
    names = built(narwhals.from_native(table)).spec.column_names
    assert names == built(table).spec.column_names


@pytest.mark.parametrize("method", ["_to_pandas", "toPandas"])
def test_frames_of_modin_and_spark_are_converted_by_their_own_method(method):
    table = type("Frame", (), {method: lambda self: plain()})()
    np.testing.assert_array_equal(built(table).rows.X, built(plain()).rows.X)
