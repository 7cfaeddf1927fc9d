"""Wrong use: each has its own error, which names the culprit and says what to do.

One table holds the calls. A bare TypeError, KeyError or LinAlgError from one of them is a bug,
and so is an answer: where the data cannot give one, the words must.
"""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx import errors
from mixedfx.errors import (
    ArgumentError,
    ColumnTypeError,
    ColumnWarning,
    ConvergenceWarning,
    DataError,
    DatasetError,
    DispersionError,
    DroppedColumnsWarning,
    DroppedRowsWarning,
    EmptyDataError,
    EngineRefusal,
    ExtrapolationWarning,
    FormulaError,
    GroupingError,
    InfiniteValueError,
    MissingColumnError,
    MixedfxError,
    MixedfxWarning,
    NewLevelError,
    PriorError,
    RelationshipError,
    ResponseError,
    SamplingWarning,
    SearchError,
    SelectionWarning,
    SingularFitWarning,
    SizeError,
    SourceChangedError,
    SourceError,
    WeightsError,
)

N = 60
MODEL = "y ~ x + (1 | g)"


def _frame() -> pd.DataFrame:
    """Rows with labels, so that a message can name one."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=N)
    effects = np.repeat(rng.normal(size=6), 10)
    return pd.DataFrame(
        {
            "y": x + 3 * effects + rng.normal(size=N),
            "x": x,
            "z": rng.normal(size=N),
            "f": np.tile(list("uvw"), 20),
            "g": np.repeat(list("abcdef"), 10),
            "h": np.tile(list("pqrst"), 12),
        },
        index=pd.Index([f"row{i}" for i in range(N)]),
    )


def _with(data: pd.DataFrame, column: str, row: int, value: Any) -> pd.DataFrame:
    """Put one value in."""
    values = data[column].astype(object).to_list()
    values[row] = value
    return data.assign(**{column: values})


def _ever_fewer(data: pd.DataFrame) -> Callable[[], list[pd.DataFrame]]:
    """Rows of which each call gives one less."""
    calls = itertools.count(1)
    return lambda: [data.iloc[: -next(calls)]]


def _codes(n: int) -> np.ndarray:
    """Each of half as many numbers twice."""
    return np.arange(n) % (n // 2)


def _at(row: int, value: float) -> np.ndarray:
    """Ones, and one other value."""
    values = np.ones(N)
    values[row] = value
    return values


@dataclass(frozen=True)
class Bad:
    """A wrong use: its kind and name, its error, and words that the message must have."""

    name: str
    call: Callable[[pd.DataFrame], object]
    error: type[MixedfxError]
    words: tuple[str, ...]


def _fits(text: str, **options: Any) -> Callable[[pd.DataFrame], object]:
    return lambda d: mfx.lmer(text, d, **options)


def _relationship(**last: float) -> pd.DataFrame:
    """Identity of the levels of g, with numbers in the last column."""
    return pd.DataFrame(np.eye(6), list("abcdef"), list("abcdef")).assign(**last)


def _fits_with(text: str = MODEL, **columns: Any) -> Callable[[pd.DataFrame], object]:
    return lambda d: mfx.lmer(text, d.assign(**columns))


def _predicts(text: str, change: Callable[[pd.DataFrame], Any], **options: Any) -> Any:
    return lambda d: mfx.lmer(text, d).predict(change(d), **options)


def _duplicated(d: pd.DataFrame, column: str) -> pd.DataFrame:
    return pd.concat([d, d[[column]]], axis=1)


def _sleep(**change: float) -> pd.DataFrame:
    sleep = mfx.datasets.load("sleepstudy")
    return sleep.assign(**{name: sleep[name] * by for name, by in change.items()})


DAYS = pd.date_range("2020-01-01", periods=N)

FORMULAS = [
    Bad(
        "formula: bracket not closed",
        _fits("y ~ x + (1 | g"),
        FormulaError,
        ("never closed", "(1 | group)"),
    ),
    Bad("formula: no parentheses", _fits("y ~ x | g"), FormulaError, ("parentheses", "(x | g)")),
    Bad(
        "formula: no response",
        _fits("x + (1 | g)"),
        FormulaError,
        ("no response", "response ~ terms"),
    ),
    Bad("formula: empty", _fits(""), FormulaError, ("no response", "response ~ terms")),
    Bad("formula: nothing on the right", _fits("y ~"), FormulaError, ("term is missing", "y ~")),
    Bad("formula: no group", _fits("y ~ x + (1 | )"), FormulaError, ("term is missing", "(1 | )")),
    Bad(
        "formula: power of one variable",
        _fits("y ~ x^2 + (1 | g)"),
        FormulaError,
        ("x^2", "I(x**2)"),
    ),
    Bad(
        "formula: random term twice",
        _fits("y ~ (1 | g) + (1 | g)"),
        FormulaError,
        ("(1 | g)", "twice"),
    ),
    Bad(
        "formula: random term multiplied",
        _fits("y ~ x*(1 | g)"),
        FormulaError,
        ("(1 | g)", "top level"),
    ),
    Bad("formula: two responses", _fits("y + z ~ x"), FormulaError, ("response", "I(a + b)")),
    Bad(
        "formula: offset inside a term",
        _fits("y ~ x:offset(z)"),
        FormulaError,
        ("offset", "offset="),
    ),
    Bad(
        "formula: structure that is not there",
        _fits("y ~ rr(x | g)"),
        FormulaError,
        ("'rr'", "us, diag"),
    ),
    Bad("formula: None", lambda d: mfx.lmer(None, d), FormulaError, ("string", "NoneType")),
    Bad(
        "formula: list of columns",
        lambda d: mfx.lmer(["y", "x"], d),
        FormulaError,
        ("string", "list"),
    ),
    Bad(
        "formula: data and formula swapped",
        lambda d: mfx.lmer(d, MODEL),
        FormulaError,
        ("string", "DataFrame"),
    ),
    Bad("formula: mapping", lambda d: mfx.parse({"y": "x"}), FormulaError, ("string", "dict")),
    Bad(
        "formula: number as a term",
        lambda d: mfx.parse("y ~ 2*x"),
        FormulaError,
        ("numbers", "0 and 1"),
    ),
    Bad(
        "formula: dot that stands for nothing",
        lambda d: mfx.lmer("y ~ .", d[["y"]]),
        FormulaError,
        ("'.'", "no column"),
    ),
]

TABLES = [
    Bad("table: None", lambda d: mfx.lmer(MODEL, None), ColumnTypeError, ("NoneType", "DataFrame")),
    Bad(
        "table: one column",
        lambda d: mfx.lmer(MODEL, d["x"]),
        ColumnTypeError,
        ("Series", "DataFrame"),
    ),
    Bad(
        "table: list of records",
        lambda d: mfx.lmer(MODEL, d.to_dict("records")),
        ColumnTypeError,
        ("list",),
    ),
    Bad("table: array", lambda d: mfx.lmer(MODEL, d.to_numpy()), ColumnTypeError, ("ndarray",)),
    Bad(
        "table: name of a file",
        lambda d: mfx.lmer(MODEL, "d.csv"),
        SourceError,
        ("no file", "d.csv", "folder"),
    ),
    Bad(
        "table: rows that differ at each pass",
        lambda d: mfx.lmer("y ~ center(x) + (1 | g)", _ever_fewer(d)),
        SourceChangedError,
        ("first pass", "same rows"),
    ),
    Bad(
        "table: class instead of a table",
        lambda d: mfx.lmer(MODEL, pd.DataFrame),
        ColumnTypeError,
        ("DataFrame", "type"),
    ),
    Bad(
        "table: grouped table",
        lambda d: mfx.lmer(MODEL, d.groupby("g")),
        ColumnTypeError,
        ("GroupBy",),
    ),
    Bad(
        "table: two levels of column names",
        lambda d: mfx.lmer(MODEL, pd.concat({"top": d}, axis=1)),
        ColumnTypeError,
        ("several levels", "join"),
    ),
    Bad(
        "table: mapping of scalars",
        lambda d: mfx.lmer(MODEL, {"y": 1, "x": 2, "g": 3}),
        DataError,
        ("y", "column"),
    ),
    Bad(
        "table: columns of two lengths",
        lambda d: mfx.lmer(MODEL, {"y": [1, 2], "x": [1], "g": ["a", "b"]}),
        DataError,
        ("x", "length"),
    ),
    Bad(
        "table: column of two dimensions",
        lambda d: mfx.lmer(MODEL, {"y": np.zeros((3, 2)), "x": [1, 2, 3], "g": [1, 1, 2]}),
        DataError,
        ("y", "dimension"),
    ),
    Bad(
        "table: column of lists of several lengths",
        lambda d: mfx.lmer(MODEL, {"y": [[1], [2, 3]], "x": [1, 2], "g": ["a", "b"]}),
        DataError,
        ("'y'",),
    ),
]


ROWS = [
    Bad("rows: none", lambda d: mfx.lmer(MODEL, d.iloc[:0]), EmptyDataError, ("no rows",)),
    Bad(
        "rows: empty table", lambda d: mfx.lmer(MODEL, pd.DataFrame()), EmptyDataError, ("no rows",)
    ),
    Bad(
        "rows: covariate all missing",
        _fits_with(x=np.nan),
        EmptyDataError,
        ("no row is complete", "x (60)"),
    ),
    Bad(
        "rows: group all missing",
        _fits_with(g=None),
        EmptyDataError,
        ("no row is complete", "g (60)"),
    ),
    Bad(
        "rows: weights all missing",
        _fits(MODEL, weights=_at(0, 1) * np.nan),
        EmptyDataError,
        ("weights (60)",),
    ),
    Bad("rows: one", lambda d: mfx.lmer("y ~ x", d.iloc[:1]), DataError, ("row",)),
    Bad(
        "rows: as many as columns",
        lambda d: mfx.lmer("y ~ x", d.iloc[:2]),
        DataError,
        ("2 fixed columns", "2 rows"),
    ),
    Bad(
        "rows: as many as columns of an interaction",
        lambda d: mfx.lmer("y ~ x*z*f + (1 | h)", d.iloc[:12]),
        DataError,
        ("12 fixed columns", "leave terms out"),
    ),
]

NAMES = [
    Bad(
        "name: response in the wrong case",
        _fits("Y ~ x + (1 | g)"),
        MissingColumnError,
        ("'Y'", "Did you mean 'y'"),
    ),
    Bad(
        "name: no such covariate",
        _fits("y ~ days + (1 | g)"),
        MissingColumnError,
        ("'days'", "columns are: y, x"),
    ),
    Bad(
        "name: no such covariate in an expression",
        _fits("y ~ I(days**2)"),
        MissingColumnError,
        ("'days'", "columns are"),
    ),
    Bad(
        "name: no such quoted name",
        _fits("y ~ Q('the x')"),
        MissingColumnError,
        ("'the x'", "columns are"),
    ),
    Bad(
        "name: no such slope",
        _fits("y ~ (days | g)"),
        MissingColumnError,
        ("'days'", "columns are"),
    ),
    Bad(
        "name: group in the wrong case",
        _fits("y ~ x + (1 | G)"),
        MissingColumnError,
        ("grouping", "'G'", "mean 'g'"),
    ),
    Bad(
        "name: nested group in the wrong case",
        _fits("y ~ x + (1 | g/H)"),
        MissingColumnError,
        ("grouping", "'H'", "mean 'h'"),
    ),
    Bad(
        "name: no such weights",
        _fits(MODEL, weights="W"),
        MissingColumnError,
        ("weights", "'W'", "columns are"),
    ),
    Bad(
        "name: no such offset",
        _fits(MODEL, offset="Z"),
        MissingColumnError,
        ("offset", "'Z'", "mean 'z'"),
    ),
    Bad(
        "name: name with a minus",
        lambda d: mfx.lmer("y ~ I(a-b)", d.rename(columns={"x": "a-b"})),
        MissingColumnError,
        ("'a'", "a-b"),
    ),
    Bad(
        "name: covariate twice",
        lambda d: mfx.lmer("y ~ x", _duplicated(d, "x")),
        ColumnTypeError,
        ("'x'",),
    ),
    Bad(
        "name: response twice",
        lambda d: mfx.lmer("y ~ x", _duplicated(d, "y")),
        ColumnTypeError,
        ("'y'",),
    ),
    Bad(
        "name: group twice",
        lambda d: mfx.lmer(MODEL, _duplicated(d, "g")),
        ColumnTypeError,
        ("'g'",),
    ),
    Bad(
        "name: weights twice",
        lambda d: mfx.lmer("y ~ x", _duplicated(d, "z"), weights="z"),
        ColumnTypeError,
        ("several columns", "'z'"),
    ),
]

TYPES = [
    Bad(
        "type: dates as a covariate",
        _fits_with(x=DAYS),
        ColumnTypeError,
        ("'x'", "datetime64", "number"),
    ),
    Bad(
        "type: dates with a zone",
        _fits_with(x=DAYS.tz_localize("UTC")),
        ColumnTypeError,
        ("'x'", "datetime64"),
    ),
    Bad(
        "type: dates as a response",
        _fits_with(y=DAYS),
        ColumnTypeError,
        ("'y'", "datetime64", "number"),
    ),
    Bad(
        "type: durations",
        _fits_with(x=DAYS - DAYS[0]),
        ColumnTypeError,
        ("'x'", "timedelta64", "number"),
    ),
    Bad(
        "type: complex covariate", _fits_with(x=np.full(N, 1j)), ColumnTypeError, ("'x'", "complex")
    ),
    Bad(
        "type: complex response",
        _fits_with(y=np.arange(N) * 1j),
        ColumnTypeError,
        ("'y'", "complex"),
    ),
    Bad(
        "type: lists in cells",
        _fits_with(x=[[i] for i in range(N)]),
        ColumnTypeError,
        ("'x'", "numbers"),
    ),
    Bad(
        "type: dicts in cells",
        _fits_with(g=[{} for _ in range(N)]),
        ColumnTypeError,
        ("'g'", "text"),
    ),
    Bad(
        "type: text as a response",
        _fits("f ~ x + (1 | g)"),
        ResponseError,
        ("'f'", "not numeric", "to_numeric"),
    ),
    Bad(
        "type: text among the response's numbers",
        lambda d: mfx.lmer(MODEL, _with(d, "y", 7, "n/a")),
        ResponseError,
        ("'y'", "n/a"),
    ),
    Bad(
        "type: numbers as text as a response",
        lambda d: mfx.lmer(MODEL, d.assign(y=d["y"].astype(str))),
        ResponseError,
        ("'y'", "not numeric", "to_numeric"),
    ),
    Bad(
        "type: categories as a response",
        lambda d: mfx.lmer(MODEL, d.assign(y=d["y"].round().astype("category"))),
        ResponseError,
        ("'y'", "not numeric"),
    ),
    Bad(
        "type: two columns as a response",
        _fits("np.column_stack([y, z]) ~ x"),
        ResponseError,
        ("2 columns", "one"),
    ),
]

VALUES = [
    Bad(
        "value: infinite covariate",
        lambda d: mfx.lmer(MODEL, d.assign(x=d["x"].where(d.index != "row7", np.inf))),
        InfiniteValueError,
        ("'x'", "inf", "1 rows", "row7"),
    ),
    Bad(
        "value: infinite response",
        lambda d: mfx.lmer(MODEL, d.assign(y=d["y"].where(d.index != "row7", -np.inf))),
        InfiniteValueError,
        ("'y'", "-inf", "1 rows", "row7"),
    ),
    Bad(
        "value: infinite slope",
        lambda d: mfx.lmer("y ~ 1 + (z | g)", d.assign(z=d["z"].where(d.index != "row7", np.inf))),
        InfiniteValueError,
        ("'z'", "(z | g)", "row7"),
    ),
    Bad(
        "value: infinite group",
        lambda d: mfx.lmer(MODEL, d.assign(g=np.where(d.index == "row7", np.inf, 1.0))),
        InfiniteValueError,
        ("'g'", "inf", "row7"),
    ),
    Bad(
        "value: infinite weight",
        lambda d: mfx.lmer(MODEL, d, weights=_at(7, np.inf)),
        InfiniteValueError,
        ("weights", "inf", "row7"),
    ),
    Bad(
        "value: infinite offset",
        lambda d: mfx.lmer(MODEL, d, offset=_at(7, np.inf)),
        InfiniteValueError,
        ("offset", "inf", "row7"),
    ),
    Bad(
        "value: infinite response after a missing value",
        # The row's label, not its place among the rows that are left.
        lambda d: mfx.lmer(
            MODEL,
            d.assign(x=d["x"].where(d.index != "row2"), y=d["y"].where(d.index != "row7", np.inf)),
        ),
        InfiniteValueError,
        ("'y'", "row7", "make them missing"),
    ),
    Bad(
        "value: a factor of thousands of levels",
        lambda d: mfx.lmer("y ~ C(x) + (1 | g)", pd.concat([d] * 100).assign(x=_codes(6000))),
        SizeError,
        ("'C(x)'", "3,000 levels", "144 MB", "(1 | x)"),
    ),
    Bad(
        "value: logarithm of zero as a covariate",
        _fits("y ~ log(0 * x) + (1 | g)"),
        InfiniteValueError,
        ("'log(0 * x)'", "inf"),
    ),
    Bad(
        "value: logarithm of zero as the response",
        _fits("log(0 * y) ~ x + (1 | g)"),
        InfiniteValueError,
        ("'log(0 * y)'", "inf"),
    ),
    Bad(
        "value: division by zero",
        _fits("y ~ I(x / 0) + (1 | g)"),
        InfiniteValueError,
        ("'I(x / 0)'", "inf"),
    ),
]

RESPONSES = [
    Bad("response: constant", _fits_with(y=3.0), ResponseError, ("'y'", "3", "every row")),
    Bad(
        "response: constant, in a regression",
        _fits_with("y ~ x", y=3.0),
        ResponseError,
        ("'y'", "every row"),
    ),
    Bad(
        "response: constant where it is not missing",
        lambda d: mfx.lmer(MODEL, d.assign(y=np.where(d.index == "row7", np.nan, 3.0))),
        ResponseError,
        ("'y'", "every row"),
    ),
    Bad(
        "response: constant within groups, covariate",
        _fits_with(y=np.repeat(np.arange(6.0), 10)),
        ResponseError,
        ("'y'", "group"),
    ),
    Bad(
        "response: constant within groups",
        _fits_with("y ~ 1 + (1 | g)", y=np.repeat(np.arange(6.0), 10)),
        ResponseError,
        ("'y'", "group"),
    ),
    Bad(
        "response: explained by slopes",
        lambda d: mfx.lmer("y ~ 1 + (x | g)", d.assign(y=d["x"] * np.repeat(np.arange(6.0), 10))),
        ResponseError,
        ("'y'",),
    ),
    Bad(
        "response: exactly linear",
        lambda d: mfx.lmer(MODEL, d.assign(y=3 * d["x"] + 1)),
        ResponseError,
        ("'y'",),
    ),
    Bad(
        "response: exactly proportional",
        lambda d: mfx.lmer(MODEL, d.assign(y=3 * d["x"])),
        ResponseError,
        ("'y'",),
    ),
    Bad(
        "response: exactly proportional, in a regression",
        lambda d: mfx.lmer("y ~ x", d.assign(y=3 * d["x"])),
        ResponseError,
        ("'y'",),
    ),
    Bad("response: its own covariate", _fits("y ~ y + (1 | g)"), ResponseError, ("'y'",)),
    Bad(
        "response: its own offset",
        lambda d: mfx.lmer(MODEL, d, offset="y"),
        ResponseError,
        ("'y'", "offset"),
    ),
]

GROUPS = [
    Bad("group: one level", _fits_with(g="a"), GroupingError, ("'g'", "only one level", "two")),
    Bad(
        "group: a level per row",
        _fits_with(g=np.arange(N)),
        GroupingError,
        ("'g'", "60 levels", "60 rows"),
    ),
    Bad(
        "group: the response itself",
        _fits("y ~ x + (1 | y)"),
        GroupingError,
        ("'y'", "60 levels", "60 rows"),
    ),
    Bad(
        "group: a level per row by nesting",
        _fits("y ~ x + (1 | g/h/f)"),
        GroupingError,
        ("'g:h:f'", "60 levels"),
    ),
    Bad(
        "group: as many effects as rows",
        _fits_with("y ~ x + (t | k)", k=np.repeat(np.arange(30), 2), t=np.tile([0.0, 1.0], 30)),
        GroupingError,
        ("(t | k)", "60 effects", "fewer effects"),
    ),
    Bad(
        "group: unknown function",
        _fits("y ~ x + (1 | nope(g))"),
        DataError,
        ("nope()", "no function", "define it"),
    ),
    Bad(
        "fixed part: misspelt function",
        _fits("y ~ lgo(x) + (1 | g)"),
        DataError,
        ("lgo()", "Did you mean 'log'?"),
    ),
    Bad(
        "fixed part: a function of R",
        _fits("y ~ relevel(x, 'a') + (1 | g)"),
        DataError,
        ("relevel()", "Treatment"),
    ),
    Bad(
        "group: unknown method", _fits("y ~ x + (1 | g.nope())"), DataError, ("'g.nope()'", "nope")
    ),
    Bad(
        "group: one value for all rows",
        _fits("y ~ x + (1 | len(g))"),
        GroupingError,
        ("'len(g)'", "per row"),
    ),
    Bad(
        "group: text instead of a name",
        _fits("y ~ x + (1 | 'g')"),
        GroupingError,
        ("'g'", "per row"),
    ),
    Bad(
        "group: a column and a number",
        _fits("y ~ x + us(1 | g, 3)"),
        GroupingError,
        ("'g, 3'", "per row"),
    ),
    Bad(
        "group: slope of zeros",
        _fits("y ~ x + (I(0 * x) | g)"),
        DataError,
        ("I(0 * x)", "zero", "leave it out"),
    ),
]

WEIGHTS = [
    Bad("weights: zero", _fits(MODEL, weights=_at(7, 0)), WeightsError, ("positive", "0", "row7")),
    Bad(
        "weights: negative",
        _fits(MODEL, weights=_at(7, -2)),
        WeightsError,
        ("positive", "-2", "row7"),
    ),
    Bad(
        "weights: column with negative values",
        _fits(MODEL, weights="z"),
        WeightsError,
        ("weights", "positive"),
    ),
    Bad(
        "weights: too few",
        _fits(MODEL, weights=np.ones(5)),
        ColumnTypeError,
        ("weights", "5", "60 rows"),
    ),
    Bad("weights: one number", _fits(MODEL, weights=2.0), ColumnTypeError, ("weights", "60 rows")),
    Bad("weights: none", _fits(MODEL, weights=[]), ColumnTypeError, ("weights", "0", "60 rows")),
    Bad(
        "weights: column of text",
        _fits(MODEL, weights="f"),
        ColumnTypeError,
        ("weights", "numbers"),
    ),
    Bad(
        "weights: two dimensions",
        _fits(MODEL, weights=np.ones((N, 2))),
        ColumnTypeError,
        ("weights",),
    ),
    Bad(
        "weights: complex",
        _fits(MODEL, weights=np.ones(N) + 1j),
        ColumnTypeError,
        ("weights", "complex"),
    ),
    Bad("weights: dates", _fits(MODEL, weights=DAYS), ColumnTypeError, ("weights", "numbers")),
    Bad("weights: function", _fits(MODEL, weights=len), ColumnTypeError, ("weights", "numbers")),
    Bad(
        "weights: Series with other labels",
        _fits(MODEL, weights=pd.Series(1.0, index=range(100, 100 + N))),
        ColumnTypeError,
        ("weights", "Series", "index"),
    ),
    Bad(
        "weights: Series in another order",
        lambda d: mfx.lmer(MODEL, d, weights=pd.Series(1.0, index=d.index[::-1])),
        ColumnTypeError,
        ("weights", "Series", "index"),
    ),
    Bad(
        "offset: too few offsets",
        _fits(MODEL, offset=np.ones(5)),
        ColumnTypeError,
        ("offset", "5", "60 rows"),
    ),
    Bad("offset: offset of text", _fits(MODEL, offset="f"), ColumnTypeError, ("offset", "numbers")),
    Bad(
        "offset: offset of dates", _fits(MODEL, offset=DAYS), ColumnTypeError, ("offset", "numbers")
    ),
    Bad(
        "offset: complex offset",
        _fits(MODEL, offset=np.full(N, 1j)),
        ColumnTypeError,
        ("offset", "complex"),
    ),
]

SDS = [
    Bad(
        "residual_sd: zero",
        _fits(MODEL, residual_sd=_at(7, 0)),
        WeightsError,
        ("residual_sd", "positive", "0", "row7"),
    ),
    Bad(
        "residual_sd: negative",
        _fits(MODEL, residual_sd=_at(7, -2)),
        WeightsError,
        ("residual_sd", "positive", "-2", "row7"),
    ),
    Bad(
        "residual_sd: infinite",
        _fits(MODEL, residual_sd=_at(7, np.inf)),
        InfiniteValueError,
        ("residual_sd", "inf", "row7", "missing"),
    ),
    Bad(
        "residual_sd: all missing",
        _fits(MODEL, residual_sd=np.full(N, np.nan)),
        EmptyDataError,
        ("missing", "residual_sd"),
    ),
    Bad(
        "residual_sd: too few",
        _fits(MODEL, residual_sd=np.ones(5)),
        ColumnTypeError,
        ("residual_sd", "5", "60 rows"),
    ),
    Bad(
        "residual_sd: one number",
        _fits(MODEL, residual_sd=2.0),
        ColumnTypeError,
        ("residual_sd", "60 rows"),
    ),
    Bad(
        "residual_sd: column of text",
        _fits(MODEL, residual_sd="f"),
        ColumnTypeError,
        ("residual_sd", "numbers"),
    ),
    Bad(
        "residual_sd: no such column",
        _fits(MODEL, residual_sd="se"),
        MissingColumnError,
        ("residual_sd", "'se'"),
    ),
    Bad(
        "residual_sd: weights too",
        _fits(MODEL, residual_sd=np.ones(N), weights=np.ones(N)),
        ArgumentError,
        ("weights", "residual_sd", "one of them"),
    ),
    Bad(
        "residual_sd: dispersion too",
        _fits(MODEL, residual_sd=np.ones(N), dispersion="~ f"),
        ArgumentError,
        ("residual_sd", "dispersion", "one of them"),
    ),
    Bad(
        "relationship matrix: not symmetric",
        _fits(MODEL, relmat={"g": _relationship(f=0.5)}),
        RelationshipError,
        ("not symmetric", "0.5", "'f'"),
    ),
    Bad(
        "relationship matrix: a level is not in it",
        _fits(MODEL, relmat={"g": _relationship().drop(index="c", columns="c")}),
        RelationshipError,
        ("'c'",),
    ),
    Bad(
        "residual and dispersion: the same standard deviations",
        _fits("y ~ x", residual="ar1h(h | g:f)", dispersion="~ h"),
        DispersionError,
        ("standard deviations of its own", "'ar1'"),
    ),
    Bad(
        "residual: no structure of that name",
        _fits("y ~ x", residual="ar2(h | g)"),
        ArgumentError,
        ("'ar2'", "ar1"),
    ),
    Bad(
        "residual: two rows of a subject at one position",
        _fits("y ~ x", residual="ar1(f | g)"),
        ArgumentError,
        ("one position",),
    ),
    Bad(
        "dispersion: the same in all rows",
        _fits(MODEL, dispersion="~ 1"),
        DispersionError,
        ("~ 1", "varies within nothing", "leave dispersion= out"),
    ),
    Bad(
        "dispersion: no intercept",
        _fits(MODEL, dispersion="~ 0 + x"),
        DispersionError,
        ("~ 0 + x", "intercept", "'0 +'"),
    ),
    Bad(
        "dispersion: dependent columns",
        _fits(MODEL, dispersion="~ x + I(2 * x)"),
        DispersionError,
        ("'I(2 * x)'", "depend", "leave"),
    ),
    Bad(
        "dispersion: a random term that is another",
        _fits(MODEL, dispersion="~ 1 + (x | g) + (1 | g)"),
        DispersionError,
        ("only the sum of var(Intercept | g)", "(x | g)", "(1 | g)", "leave a term"),
    ),
    Bad(
        "dispersion: levels that the columns tell apart",
        _fits(MODEL, dispersion="~ g + (1 | g)"),
        DispersionError,
        ("'~ g + (1 | g)'", "tells the levels of 'g' apart", "leave one of the two out"),
    ),
    Bad(
        "dispersion: a term of several levels a row",
        _fits(MODEL, dispersion="~ 1 + (1 | mm(g, h))"),
        DispersionError,
        ("(1 | mm(g, h))", "plain columns", "(1 | friend)"),
    ),
    Bad(
        "dispersion: a single level",
        lambda d: mfx.lmer(MODEL, d.assign(one="a"), dispersion="~ 1 + (1 | one)"),
        GroupingError,
        ("'one'", "only one level"),
    ),
    Bad(
        "dispersion: a perfectly fitted stratum",
        lambda d: mfx.lmer(
            MODEL,
            d.assign(y=d["y"].mask(d["g"] == "a", 0.0), k=np.where(d["g"] == "a", "flat", "not")),
            dispersion="~ k",
        ),
        DispersionError,
        ("k = flat (10 rows)", "fewer strata", "(1 | g)"),
    ),
    Bad(
        "dispersion: a stratum for each row",
        lambda d: mfx.lmer("y ~ x", d.assign(row=range(N)), dispersion="~ C(row)"),
        DispersionError,
        ("(1 row)", "fewer strata"),
    ),
    Bad(
        "dispersion: a level for each row",
        lambda d: mfx.lmer(MODEL, d.assign(row=range(N)), dispersion="~ 1 + (1 | row)"),
        GroupingError,
        ("'row'", "60 levels"),
    ),
    Bad(
        "dispersion: infinite values",
        _fits(MODEL, dispersion="~ np.log(0 * x)"),
        InfiniteValueError,
        ("np.log(0 * x)", "dispersion", "row"),
    ),
    Bad(
        "dispersion: no such column",
        _fits(MODEL, dispersion="~ kind"),
        MissingColumnError,
        ("'kind'", "columns are"),
    ),
    Bad(
        "dispersion: a response",
        _fits(MODEL, dispersion="y ~ f"),
        FormulaError,
        ("no response", "~ terms"),
    ),
    Bad(
        "dispersion: a column that is not there",
        _fits(MODEL, dispersion="~ knd"),
        MissingColumnError,
        ("dispersion column", "'knd'"),
    ),
    Bad(
        "dispersion: with a start",
        _fits(MODEL, dispersion="~ f", start=[1.0]),
        ArgumentError,
        ("start=", "dispersion="),
    ),
    Bad(
        "priors: an unknown parameter",
        _fits(MODEL, priors={"slope": mfx.priors.Normal(0, 1)}),
        PriorError,
        ("'slope'", "'x'", "'sd(Intercept | g)'", "'sigma'"),
    ),
    Bad(
        "priors: a name nearly right",
        _fits(MODEL, priors={"sd(intercept | g)": mfx.priors.HalfNormal(1)}),
        PriorError,
        ("Did you mean 'sd(Intercept | g)'",),
    ),
    Bad(
        "priors: one of the wrong kind",
        _fits(MODEL, priors={"sd": mfx.priors.Normal(0, 1)}),
        PriorError,
        ("'sd'", "Normal(mean=0, sd=1)", "HalfNormal"),
    ),
    Bad(
        "priors: a class",
        _fits(MODEL, priors={"sd": mfx.priors.HalfNormal}),
        PriorError,
        ("the class HalfNormal",),
    ),
    Bad("priors: no dict", _fits(MODEL, priors=[1]), PriorError, ("dict", "[1]")),
    Bad(
        "priors: by maximum likelihood",
        _fits(MODEL, priors={}, reml=False),
        ArgumentError,
        ("integrated out", "reml=True"),
    ),
    Bad(
        "priors: another engine",
        _fits(MODEL, priors={}, engine="em"),
        EngineRefusal,
        ("engine='em'", "priors", "engine='profiled'"),
    ),
    Bad(
        "priors: with a corner at zero, beside random effects of the dispersion",
        _fits(MODEL, priors={"sd": mfx.priors.Exponential(1)}, dispersion="~ 1 + (1 | g)"),
        PriorError,
        ("dispersion=", "Exponential(rate=1)", "HalfNormal"),
    ),
    Bad(
        "prior: a standard deviation below zero",
        lambda d: mfx.priors.HalfNormal(-1),
        PriorError,
        ("HalfNormal(sd=-1)", "positive"),
    ),
    Bad("dispersion: no string", _fits(MODEL, dispersion=3), FormulaError, ("string", "int")),
    Bad("dispersion: a dot", _fits(MODEL, dispersion="~ ."), FormulaError, ("'.'",)),
    Bad(
        "dispersion: another engine",
        _fits(MODEL, dispersion="~ f", engine="em"),
        EngineRefusal,
        ("engine='em'", "engine='profiled'"),
    ),
    Bad(
        "dispersion: effects of none",
        lambda d: mfx.lmer(MODEL, d).dispersion_ranef(),
        ArgumentError,
        ("one residual standard deviation", "dispersion="),
    ),
]

TERMS = [
    Bad(
        "term: spline with too few degrees of freedom",
        _fits("y ~ bs(x, 1) + (1 | g)"),
        DataError,
        ("bs(x, 1)", "df"),
    ),
    Bad(
        "term: poly of too high a degree",
        _fits("y ~ poly(x, 100) + (1 | g)"),
        DataError,
        ("poly(x, 100)", "degree"),
    ),
    Bad(
        "term: poly of degree zero",
        _fits("y ~ poly(x, 0) + (1 | g)"),
        DataError,
        ("poly(x, 0)", "degree"),
    ),
    Bad(
        "term: poly of a fraction",
        _fits("y ~ poly(x, 1.5) + (1 | g)"),
        DataError,
        ("poly(x, 1.5)", "integer"),
    ),
    Bad("term: poly of text", _fits("y ~ poly(f, 2) + (1 | g)"), DataError, ("poly(f, 2)",)),
    Bad(
        "term: scale of text",
        _fits("y ~ scale(f) + (1 | g)"),
        DataError,
        ("scale(f)", "non-numeric"),
    ),
    Bad("term: logarithm of text", _fits("y ~ np.log(f) + (1 | g)"), DataError, ("np.log(f)",)),
    Bad(
        "term: function that numpy has not",
        _fits("y ~ np.nope(x) + (1 | g)"),
        DataError,
        ("np.nope(x)", "nope"),
    ),
    Bad(
        "term: attribute that is not there",
        _fits("y ~ x.nope + (1 | g)"),
        DataError,
        ("x.nope", "nope"),
    ),
    Bad("term: index that is not there", _fits("y ~ x['a'] + (1 | g)"), DataError, ("x['a']",)),
    Bad("term: text instead of a name", _fits("y ~ 'x' + (1 | g)"), DataError, ("'x'", "row")),
    Bad("term: one number for all rows", _fits("y ~ I(1) + (1 | g)"), DataError, ("I(1)", "row")),
    Bad(
        "term: too few values",
        _fits("y ~ np.arange(6) + (1 | g)"),
        DataError,
        ("np.arange(6)", "6", "60"),
    ),
    Bad(
        "term: too few values in a slope",
        _fits("y ~ x + (np.arange(6) | g)"),
        DataError,
        ("np.arange(6)", "6", "60"),
    ),
    Bad(
        "term: too few values in the response",
        _fits("np.arange(6) ~ x + (1 | g)"),
        DataError,
        ("np.arange(6)", "6", "60"),
    ),
    Bad("term: list of columns", _fits("y ~ [x] + (1 | g)"), DataError, ("[x]",)),
]

ARGUMENTS = [
    Bad(
        "argument: unknown engine",
        _fits(MODEL, engine="lme4"),
        ArgumentError,
        ("engine", "lme4", "'profiled'"),
    ),
    Bad(
        "argument: engine in the wrong case",
        _fits(MODEL, engine="Auto"),
        ArgumentError,
        ("engine", "mean 'auto'"),
    ),
    Bad("argument: no engine", _fits(MODEL, engine=None), ArgumentError, ("engine=None", "'auto'")),
    Bad(
        "argument: array as an engine",
        _fits(MODEL, engine=np.ones(2)),
        ArgumentError,
        ("engine", "'auto'"),
    ),
    Bad(
        "argument: start too long",
        _fits(MODEL, start=[1.0, 2.0]),
        ArgumentError,
        ("start", "2", "1"),
    ),
    Bad(
        "argument: start too short",
        _fits("y ~ (x | g)", start=[1.0]),
        ArgumentError,
        ("start", "1", "3"),
    ),
    Bad("argument: start empty", _fits(MODEL, start=[]), ArgumentError, ("start", "0", "1")),
    Bad(
        "argument: start not a number",
        _fits(MODEL, start=[np.nan]),
        ArgumentError,
        ("start", "nan"),
    ),
    Bad("argument: start of text", _fits(MODEL, start="a"), ArgumentError, ("start", "numbers")),
    Bad("argument: complex start", _fits(MODEL, start=[1j]), ArgumentError, ("start", "numbers")),
    Bad(
        "argument: method as text",
        _fits(MODEL, reml="ML"),
        ArgumentError,
        ("reml", "'ML'", "False"),
    ),
    Bad(
        "argument: control as text",
        _fits(MODEL, control="fast"),
        ArgumentError,
        ("control", "Control"),
    ),
    Bad(
        "argument: control as a mapping",
        _fits(MODEL, control={"tolerance": 1}),
        ArgumentError,
        ("control", "Control"),
    ),
    Bad(
        "argument: negative tolerance",
        lambda d: mfx.Control(tolerance=-1.0),
        ArgumentError,
        ("tolerance", "-1"),
    ),
    Bad(
        "argument: tolerance of text",
        lambda d: mfx.Control(tolerance="a"),
        ArgumentError,
        ("tolerance", "'a'"),
    ),
    Bad(
        "argument: no evaluations",
        lambda d: mfx.Control(max_evaluations=0),
        ArgumentError,
        ("max_evaluations",),
    ),
    Bad(
        "argument: group of ranef in the wrong case",
        lambda d: mfx.lmer(MODEL, d).ranef("G"),
        ArgumentError,
        ("group", "mean 'g'"),
    ),
    Bad(
        "argument: group of coef that has no effects",
        lambda d: mfx.lmer(MODEL, d).coef("h"),
        ArgumentError,
        ("group", "'h'", "'g'"),
    ),
    Bad(
        "argument: list of groups for ranef",
        lambda d: mfx.lmer(MODEL, d).ranef(["g"]),
        ArgumentError,
        ("group", "'g'"),
    ),
]

ENGINES = [
    Bad(
        "engine: correlated crossed terms",
        lambda d: mfx.lmer("y ~ x + (x | g) + (x | h)", d, engine="statsmodels"),
        EngineRefusal,
        ("statsmodels", "correlated term", "engine='profiled'"),
    ),
    Bad(
        "engine: weights",
        lambda d: mfx.lmer(MODEL, d, weights=np.ones(N), engine="statsmodels"),
        EngineRefusal,
        ("weights", "engine='profiled'"),
    ),
    Bad(
        "engine: no fixed effects",
        lambda d: mfx.lmer("y ~ 0 + (1 | g)", d, engine="statsmodels"),
        EngineRefusal,
        ("fixed effect", "engine='profiled'"),
    ),
    Bad(
        "engine: singular optimum",
        lambda d: mfx.lmer("Yield ~ 1 + (1 | Batch)", _dyestuff2(), engine="statsmodels"),
        EngineRefusal,
        ("singular", "sd(Intercept | Batch)"),
    ),
    Bad(
        "engine: weighted result as MixedLM's",
        lambda d: mfx.lmer(MODEL, d, weights=np.ones(N)).statsmodels,
        EngineRefusal,
        ("statsmodels", "weights"),
    ),
    Bad(
        "engine: units that MixedLM cannot search in",
        # A slope 1e10 times smaller than the intercept is more than MixedLM can search for.
        lambda d: mfx.lmer(
            "Reaction ~ Days + (Days | Subject)", _sleep(Days=1e10), engine="statsmodels"
        ),
        SearchError,
        ("MixedLM", "engine='profiled'"),
    ),
]

PREDICTIONS = [
    Bad(
        "prediction: no covariate",
        _predicts(MODEL, lambda d: d.drop(columns="x")),
        MissingColumnError,
        ("'x'", "columns are"),
    ),
    Bad(
        "prediction: no group",
        _predicts(MODEL, lambda d: d.drop(columns="g")),
        MissingColumnError,
        ("grouping", "'g'"),
    ),
    Bad(
        "prediction: new level",
        _predicts(MODEL, lambda d: d.assign(g="z")),
        NewLevelError,
        ("'g'", "'z'", "new_levels='population'"),
    ),
    Bad(
        "prediction: new combination",
        _predicts("y ~ x + (1 | g:f)", lambda d: d.assign(f="z")),
        NewLevelError,
        ("'g:f'", "'a:z'", "new_levels='population'"),
    ),
    Bad(
        "prediction: new category",
        _predicts("y ~ f + (1 | g)", lambda d: d.assign(f="never")),
        DataError,
        ("f", "'never'", "'u', 'v', 'w'"),
    ),
    Bad(
        "prediction: text for numbers",
        _predicts(MODEL, lambda d: d.assign(x="a")),
        DataError,
        ("x", "numeric"),
    ),
    Bad(
        "prediction: dates for numbers",
        _predicts(MODEL, lambda d: d.assign(x=DAYS)),
        DataError,
        ("'x'",),
    ),
    Bad(
        "prediction: no rows", _predicts(MODEL, lambda d: d.iloc[:0]), EmptyDataError, ("no rows",)
    ),
    Bad("prediction: one column", _predicts(MODEL, lambda d: d["x"]), ColumnTypeError, ("Series",)),
    Bad("prediction: list", _predicts(MODEL, lambda d: [1, 2]), ColumnTypeError, ("list",)),
    Bad(
        "prediction: mapping of scalars",
        _predicts(MODEL, lambda d: {"x": 1.0, "g": "a"}),
        DataError,
        ("x", "column"),
    ),
    Bad(
        "prediction: column twice",
        _predicts(MODEL, lambda d: _duplicated(d, "x")),
        ColumnTypeError,
        ("several columns", "'x'"),
    ),
    Bad(
        "prediction: group without effects",
        _predicts(MODEL, lambda d: d, random="h"),
        ArgumentError,
        ("random", "'h'", "'all', 'none', 'g'"),
    ),
    Bad(
        "prediction: list of a group without effects",
        _predicts(MODEL, lambda d: d, random=["h"]),
        ArgumentError,
        ("'h'", "'g'"),
    ),
    Bad(
        "prediction: number for groups",
        _predicts(MODEL, lambda d: d, random=3),
        ArgumentError,
        ("random=3",),
    ),
    Bad(
        "prediction: unknown treatment of new levels",
        _predicts(MODEL, lambda d: d, new_levels="zero"),
        ArgumentError,
        ("new_levels", "'zero'", "'population'"),
    ),
    Bad(
        "prediction: no offset",
        lambda d: mfx.lmer(MODEL, d, offset="z").predict(d.drop(columns="z")),
        MissingColumnError,
        ("offset", "'z'"),
    ),
    Bad(
        "prediction: offset given as an array",
        lambda d: mfx.lmer(MODEL, d, offset=d["z"]).predict(d),
        DataError,
        ("offset", "array", "column's name"),
    ),
    Bad(
        "prediction: offset twice",
        lambda d: mfx.lmer(MODEL, d, offset="z").predict(_duplicated(d, "z")),
        ColumnTypeError,
        ("several columns", "'z'"),
    ),
    Bad(
        "prediction: offset of text",
        lambda d: mfx.lmer(MODEL, d, offset="z").predict(d.assign(z="a")),
        ColumnTypeError,
        ("offset", "numbers"),
    ),
    Bad(
        "prediction: offset of dates",
        lambda d: mfx.lmer(MODEL, d, offset="z").predict(d.assign(z=DAYS)),
        ColumnTypeError,
        ("offset", "numbers"),
    ),
]

DATASETS = [
    Bad(
        "data set: unknown",
        lambda d: mfx.datasets.load("iris"),
        DatasetError,
        ("'iris'", "sleepstudy"),
    ),
    Bad(
        "data set: short for another",
        lambda d: mfx.datasets.load("Sleep"),
        DatasetError,
        ("mean 'sleepstudy'",),
    ),
    Bad("data set: None", lambda d: mfx.datasets.load(None), DatasetError, ("None", "sleepstudy")),
    Bad(
        "data set: list", lambda d: mfx.datasets.load(["cake"]), DatasetError, ("['cake']", "cake")
    ),
]

KEPT_FITS = [
    Bad(
        "read: no such file",
        lambda d: mfx.read("no such file.mfx"),
        errors.StorageError,
        ("'no such file.mfx'", "cannot be read"),
    ),
    Bad(
        "slim: residuals",
        lambda d: mfx.lmer(MODEL, d).slim().resid,
        errors.RowsNotInMemory,
        ("fit.resid needs the rows", "Keep the full fit"),
    ),
]

OTHER_PROGRAMS = [
    Bad(
        f"another program's argument: {name}",
        _fits(MODEL, **{name: value}),
        errors.CallError,
        (f"no argument {name}=", *words),
    )
    for name, value, words in (
        ("REML", False, ("reml=",)),
        ("groups", "g", ("(1 | group)",)),
        ("re_formula", "~x", ("(x | group)",)),
        ("vc_formula", {}, ("(1 | group)",)),
        ("weight", "z", ("weights=",)),
        ("family", "binomial", ("normal responses", "mfx.glmer")),
        ("cov_type", "HC3", ("weights=", "dispersion=")),
        ("method", "lbfgs", ("reml=", "engine=")),
    )
] + [
    Bad("no data", lambda d: mfx.lmer(MODEL), errors.CallError, ("data", "lmer(formula, data)")),
    Bad(
        "pooling_fits: another argument",
        lambda d: mfx.pooling_fits(MODEL, d, wieghts="z"),
        errors.CallError,
        ("'wieghts'", "Did you mean 'weights'"),
    ),
    Bad(
        "predict: another program's argument",
        _predicts(MODEL, lambda d: d, re_form=None),
        errors.CallError,
        ("random=",),
    ),
    *(
        Bad(
            f"another program's attribute: {name}",
            lambda d, name=name: getattr(mfx.lmer(MODEL, d), name),
            errors.UnknownAttributeError,
            (f"'{name}'", ours),
        )
        for name, ours in (
            ("fixef", "params"),
            ("AIC", "aic"),
            ("BIC", "bic"),
            ("VarCorr", "varcorr"),
            ("logLik", "llf"),
            ("coefficients", "params"),
            ("fe_pvalues", "pvalues"),
            ("random_effect", "random_effects"),
            ("confint", "conf_int()"),
            ("summary2", "summary()"),
            ("fitedvalues", "Did you mean 'fittedvalues'"),
        )
    ),
    Bad("glmmTMB", lambda d: mfx.glmmTMB, errors.UnknownAttributeError, ("mixedfx.glmer",)),
]

BAD = [
    *OTHER_PROGRAMS,
    *KEPT_FITS,
    *FORMULAS,
    *TABLES,
    *ROWS,
    *NAMES,
    *TYPES,
    *VALUES,
    *RESPONSES,
    *GROUPS,
    *WEIGHTS,
    *SDS,
    *TERMS,
    *ARGUMENTS,
    *ENGINES,
    *PREDICTIONS,
    *DATASETS,
]


def _dyestuff2() -> pd.DataFrame:
    return mfx.datasets.load("Dyestuff2")


@pytest.fixture
def frame() -> pd.DataFrame:
    return _frame()


# ------------------------------------------------------------------ the table's claims


@pytest.mark.parametrize("bad", BAD, ids=[bad.name for bad in BAD])
def test_bad_input_has_its_own_error_and_is_not_changed(frame, bad):
    before = frame.copy(deep=True)
    with pytest.raises(bad.error) as caught:
        bad.call(frame)
    assert bad.error is DataError or type(caught.value) is bad.error
    missing = [word for word in bad.words if word not in str(caught.value)]
    assert not missing, str(caught.value)
    pd.testing.assert_frame_equal(frame, before)


def test_table_covers_every_error_that_a_user_can_reach():
    defined = {
        c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, MixedfxError)
    }
    # Two are families, and a disagreement of two programs is a bug of one of them, not of the user.
    # Searches catch ModesNotFound, and go on or raise their own SearchError; after TooManyStrata
    # the rows are read into memory. Extras are installed here; tests of each take one away.
    unreachable = {MixedfxError, errors.EngineError, errors.EngineDisagreement}
    unreachable |= {errors.ModesNotFound, errors.TooManyStrata, errors.MissingPackageError}
    assert {bad.error for bad in BAD} == defined - unreachable


@pytest.mark.parametrize("error", sorted({bad.error for bad in BAD}, key=lambda e: e.__name__))
def test_errors_of_wrong_values_are_value_errors(error):
    # An attribute that is not there is no value.
    assert issubclass(error, ValueError | AttributeError) or error is SearchError


# ------------------------------------------------------------------ odd, but not wrong

ODD = {
    "group of numbers and text": _fits_with(g=[1, "a", 2.5, "b", 3, "c"] * 10),
    "group of tuples": _fits_with(g=[(i, i) for i in np.repeat(np.arange(6), 10)]),
    "group of half-precision numbers": _fits_with(g=np.repeat(np.arange(6), 10).astype("float16")),
    "group of bytes": _fits_with(g=[b"a"] * 20 + [b"b"] * 20 + [b"c"] * 20),
    "group of periods": _fits_with(g=pd.period_range("2020", periods=6, freq="D").repeat(10)),
    "group of intervals": _fits_with(g=pd.cut(np.arange(float(N)), 6)),
    "column named Intercept": lambda d: mfx.lmer(
        "y ~ Intercept + (1 | g)", d.rename(columns={"x": "Intercept"})
    ),
    "group named Residual": lambda d: mfx.lmer(
        "y ~ x + (1 | Residual)", d.rename(columns={"g": "Residual"})
    ),
    "column named log": lambda d: mfx.lmer("y ~ log(x**2) + log", d.assign(log=d["z"])),
    "nothing fixed, nothing random": _fits("y ~ 0"),
    "minus one alone": _fits("y ~ -1"),
    "offset of another kind": lambda d: mfx.lmer(MODEL, d, offset=pd.array([1] * N, dtype="Int8")),
    "weights of true": lambda d: mfx.lmer(MODEL, d, weights=np.ones(N, dtype=bool)),
    "terms that repeat an effect": _fits("y ~ x + (1 | g) + (0 + x | g)"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_use_is_answered_or_refused_in_our_words(frame, case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixedfxWarning)
        try:
            found = ODD[case](frame)
        except MixedfxError as error:
            found = error
    assert isinstance(found, mfx.Results | MixedfxError)


# Estimates that these would give look like any other, and mean nothing.
MEANINGLESS = {
    "factor that is fixed and random": _fits("y ~ g + (1 | g)"),
    "fixed factor with one level": _fits_with("y ~ f + (1 | g)", f="u"),
    "factor with one level as a slope": _fits_with("y ~ x + (f | g)", f="u"),
    "one factor under two names": _fits_with(
        "y ~ x + (1 | g) + (1 | k)", k=np.repeat(range(6), 10)
    ),
}


@pytest.mark.parametrize("case", MEANINGLESS)
def test_meaningless_model_is_not_fitted_in_silence(frame, case):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            notes = MEANINGLESS[case](frame).notes
        except MixedfxError as error:
            notes = (str(error),)
    assert notes or caught


def test_numbers_of_a_database_are_numbers(frame):
    # What a database driver gives for NUMERIC: objects, which patsy would take for categories.
    exact = frame["x"].round(3)
    decimals = frame.assign(x=[Decimal(f"{v:.3f}") for v in exact])
    found = mfx.lmer(MODEL, decimals).params
    assert found.to_dict() == pytest.approx(mfx.lmer(MODEL, frame.assign(x=exact)).params.to_dict())


# ------------------------------------------------------------------ units at the ends of the range

SCALES = [1e-300, 1e-200, 1e-160, 1e-100, 1e-20, 1e20, 1e100, 1e150, 1e160, 1e200, 1e300]


def _right_or_refused(text: str, data: pd.DataFrame, expected: pd.Series, **options: Any) -> None:
    """Hold that a model is fitted right, or that the data are said to be the reason."""
    try:
        found: Any = mfx.lmer(text, data, **options).params
    except DataError as error:
        found = error
    if isinstance(found, pd.Series):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.kept("1e-300", "1e-160", "1e-20", "1e+20", "1e+150", "1e+300")
@pytest.mark.parametrize("scale", SCALES)
def test_units_of_the_response_do_no_harm(frame, scale):
    expected = mfx.lmer(MODEL, frame).params * scale
    _right_or_refused(MODEL, frame.assign(y=frame["y"] * scale), expected)


@pytest.mark.kept("1e-300", "1e-160", "1e-20", "1e+20", "1e+150", "1e+300")
@pytest.mark.parametrize("scale", SCALES)
def test_units_of_a_covariate_do_no_harm(frame, scale):
    expected = mfx.lmer(MODEL, frame).params / [1.0, scale]
    _right_or_refused(MODEL, frame.assign(x=frame["x"] * scale), expected)


@pytest.mark.kept("1e-300", "1e-160", "1e-20", "1e+20", "1e+150", "1e+300")
@pytest.mark.parametrize("scale", SCALES)
def test_units_of_a_random_slope_do_no_harm(scale):
    text = "Reaction ~ Days + (Days | Subject)"
    expected = mfx.lmer(text, _sleep()).params / [1.0, scale]
    _right_or_refused(text, _sleep(Days=scale), expected)


@pytest.mark.parametrize("scale", SCALES)
def test_units_of_the_weights_do_no_harm(frame, scale):
    weights = np.linspace(1.0, 2.0, N)
    expected = mfx.lmer(MODEL, frame, weights=weights).params
    _right_or_refused(MODEL, frame, expected, weights=weights * scale)


# ------------------------------------------------------------------ warnings


def _warned(call: Callable[[], object]) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return caught


WARNED = {
    "logarithm of a negative covariate": (
        lambda d: mfx.lmer("y ~ log(x) + (1 | g)", d.assign(y=d["x"] + d["y"])),
        DroppedRowsWarning,
        "log(x) (29)",
    ),
    "logarithm of a negative response": (
        lambda d: mfx.lmer("log(y) ~ x", d),
        DroppedRowsWarning,
        "log(y) (40)",
    ),
    "logarithm of a negative number in the dispersion": (
        lambda d: mfx.lmer("y ~ x", d, dispersion="~ np.log(x)"),
        DroppedRowsWarning,
        "np.log(x) (29)",
    ),
    "row numbers": (
        lambda d: mfx.lmer("y ~ . - f + (1 | g)", d.assign(h=np.arange(N))),
        ColumnWarning,
        "'h'",
    ),
    "dropped column": (
        lambda d: mfx.lmer("y ~ x + twice + (1 | g)", d.assign(twice=2 * d["x"])),
        DroppedColumnsWarning,
        "twice",
    ),
    "several dropped columns": (
        lambda d: mfx.lmer("y ~ x + one + twice + (1 | g)", d.assign(one=1.0, twice=2 * d["x"])),
        DroppedColumnsWarning,
        "one, twice",
    ),
    "variance of zero": (
        lambda d: mfx.lmer("Yield ~ 1 + (1 | Batch)", _dyestuff2()),
        SingularFitWarning,
        "sd(Intercept | Batch)",
    ),
    "correlation of one": (
        lambda d: mfx.lmer("y ~ x + (x | g)", d),
        SingularFitWarning,
        "corr(Intercept, x | g)",
    ),
    "search cut short": (
        lambda d: mfx.lmer(MODEL, d, control=mfx.Control(max_evaluations=1)),
        ConvergenceWarning,
        "did not converge",
    ),
}
each_warning = pytest.mark.parametrize("case", WARNED)


@each_warning
def test_warning_is_of_its_kind(frame, case):
    call, kind, _ = WARNED[case]
    assert [caught.category for caught in _warned(lambda: call(frame))] == [kind]


@each_warning
def test_warning_names_the_culprit(frame, case):
    call, _, words = WARNED[case]
    assert words in str(_warned(lambda: call(frame))[0].message)


@each_warning
def test_warning_points_at_the_callers_line(frame, case):
    call, _, _ = WARNED[case]
    caught = _warned(lambda: call(frame))[0]
    source, first = inspect.getsourcelines(call)
    assert caught.filename == __file__
    assert first <= caught.lineno < first + len(source)


@each_warning
def test_warning_is_kept_in_the_notes(frame, case):
    call, kind, words = WARNED[case]
    with pytest.warns(kind):
        fit = call(frame)
    assert any(words in note for note in fit.notes)


def test_every_kind_of_warning_is_tested():
    # No fit gives these: tests/bayes/test_sample.py, tests/design/test_splines.py,
    # tests/inference/test_stepwise.py.
    of_others = {SamplingWarning, ExtrapolationWarning, SelectionWarning}
    expected = set(MixedfxWarning.__subclasses__()) - of_others
    assert {kind for _, kind, _ in WARNED.values()} == expected


def test_dropped_column_has_no_estimate(frame):
    with pytest.warns(DroppedColumnsWarning):
        fit = mfx.lmer("y ~ x + twice + (1 | g)", frame.assign(twice=2 * frame["x"]))
    assert fit.params.isna().to_dict() == {"Intercept": False, "x": False, "twice": True}


def test_dropped_column_has_no_standard_error(frame):
    with pytest.warns(DroppedColumnsWarning):
        fit = mfx.lmer("y ~ x + twice + (1 | g)", frame.assign(twice=2 * frame["x"]))
    assert fit.bse.isna().to_dict() == {"Intercept": False, "x": False, "twice": True}


def test_dropped_column_leaves_the_other_estimates_as_they_are(frame):
    with pytest.warns(DroppedColumnsWarning):
        fit = mfx.lmer("y ~ x + twice + (1 | g)", frame.assign(twice=2 * frame["x"]))
    without = mfx.lmer(MODEL, frame)
    assert fit.params.dropna().to_dict() == pytest.approx(without.params.to_dict())


def test_dropped_column_does_not_stop_predictions(frame):
    data = frame.assign(twice=2 * frame["x"])
    with pytest.warns(DroppedColumnsWarning):
        fit = mfx.lmer("y ~ x + twice + (1 | g)", data)
    np.testing.assert_allclose(fit.predict(data), fit.fittedvalues, rtol=1e-12)


def test_dyestuff2_has_a_variance_of_exactly_zero():
    # Box and Tiao (1973), table 5.1.4: simulated so that the variance between batches is zero.
    with pytest.warns(SingularFitWarning):
        fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", _dyestuff2())
    assert (fit.theta.tolist(), fit.is_singular) == ([0.0], True)


def test_singular_fit_is_an_optimum_all_the_same():
    with pytest.warns(SingularFitWarning):
        fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", _dyestuff2())
    assert fit.converged
    assert fit.certificate.ok


def test_dropped_rows_are_noted_and_not_warned_of(frame):
    frame.loc["row7", "x"] = np.nan
    fit = mfx.lmer(MODEL, frame)
    assert fit.notes == ("1 of 60 rows have missing values and were left out: x (1).",)


@pytest.mark.parametrize("engine", ["auto", "statsmodels", "profiled"])
def test_good_fit_warns_of_nothing(frame, engine):
    assert not _warned(lambda: mfx.lmer(MODEL, frame, engine=engine).summary())
