"""Columns of terms that are products of columns are patsy's, and learned once for each formula."""

import gc
import tracemalloc
import weakref

import numpy as np
import pandas as pd
import pytest
from patsy import EvalEnvironment, build_design_matrices, design_matrix_builders

import mixedfx as mfx
from mixedfx.design import column_terms
from mixedfx.design.column_terms import learned_before, product_columns
from mixedfx.formula.expansion import terms_of

ROWS = 12


def columns(**replaced):
    i = np.arange(ROWS)
    found = {
        "x": pd.Series(np.sqrt(i)),
        "k": pd.Series(i - 3),
        "b": pd.Series(i % 2 == 0),
        "f": pd.Series(pd.Categorical(np.array(["u", "v", "w"])[i % 3])),
        "g": pd.Series(pd.Categorical(i % 4 // 2, categories=[1, 0], ordered=True)),
        "d": pd.Series(pd.Categorical(pd.to_datetime(["2024-01-01", "2024-01-02"])[i // 6])),
    }
    return found | {name: pd.Series(values) for name, values in replaced.items()}


@pytest.mark.parametrize(
    "text", ["x", "0 + f", "x * f", "f * g - 1", "b + k:f", "f:x:g + d", "k + x:k", "1", "0 + f:b"]
)
def test_columns_are_those_of_patsy(text):
    variables, terms = columns(), terms_of(text)
    info = learned_before([terms], variables)[0]
    expected = design_matrix_builders([terms], lambda: iter([variables]), EvalEnvironment([{}]))[0]
    assert info.column_names == expected.column_names
    factors = info.factor_infos
    assert {f.name(): i.categories for f, i in factors.items()} == {
        f.name(): i.categories for f, i in expected.factor_infos.items()
    }
    built = product_columns(info, variables, ROWS)
    by_patsy = np.ones((ROWS, 1))
    if factors:
        by_patsy = np.asarray(build_design_matrices([expected], variables)[0])
    np.testing.assert_array_equal(built, by_patsy)


def test_terms_are_learned_once_for_all_rows_of_the_same_types():
    first = learned_before([terms_of("x * f")], columns())
    again = learned_before([terms_of("x * f")], columns(x=np.arange(ROWS) / 7.0))
    assert first[0] is again[0]


@pytest.mark.parametrize("levels", [[1, 2], [1.0, 2.0], [True, 2], ["1", "2"]])
def test_levels_that_are_equal_keep_their_names(levels):
    values = pd.Categorical.from_codes(np.arange(ROWS) % 2, pd.Index(levels, dtype=object))
    info = learned_before([terms_of("0 + f")], columns(f=values))[0]
    assert info.column_names == [f"f[{level}]" for level in levels]


@pytest.mark.parametrize(
    ("text", "replaced"),
    [
        ("np.log(x)", {}),
        ("C(f)", {}),
        ("f", {"f": pd.Categorical(range(65))}),
        ("z", {}),
        ("x", {"x": ["a", "b"] * 6}),
    ],
)
def test_other_terms_are_left_to_patsy(text, replaced):
    assert learned_before([terms_of(text)], columns(**replaced)) is None


def test_levels_in_another_order_are_those_that_were_learned():
    info = learned_before([terms_of("f")], columns())[0]
    values = np.array(["v", "u"] * 6)
    built = product_columns(info, columns(f=pd.Categorical(values, ["v", "x", "u"][::2])), ROWS)
    by_patsy = build_design_matrices([info], {"f": values})[0]
    np.testing.assert_array_equal(built, np.asarray(by_patsy))


def test_other_levels_are_left_to_patsy():
    info = learned_before([terms_of("f")], columns())[0]
    other = pd.Categorical(["v", "u"] * 6, categories=["v", "u", "x"])
    assert product_columns(info, columns(f=other), ROWS) is None


@pytest.mark.parametrize("engine", ["profiled", "auto"])
def test_no_cache_keeps_a_table_or_its_rows(engine):
    def fitted():
        sleep = mfx.datasets.load("sleepstudy").copy()
        fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep, engine=engine)
        rows = fit.model.rows
        return [weakref.ref(v) for v in (sleep, rows, rows.y, rows.X, fit.model.crossprod)]

    kept = fitted()  # a frame that runs keeps its variables
    gc.collect()
    assert [ref() for ref in kept] == [None] * len(kept)


@pytest.mark.full
@pytest.mark.parametrize(("engine", "fits"), [("profiled", 20), ("auto", 6)])
def test_many_fits_keep_nothing(engine, fits):
    sleep = mfx.datasets.load("sleepstudy")

    def size_after(fits):
        for i in range(fits):
            table = sleep.assign(Reaction=sleep["Reaction"] + i)
            mfx.lmer("Reaction ~ Days + (Days | Subject)", table, engine=engine)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep, engine=engine)  # imports
    tracemalloc.start(1)
    try:
        first, second = size_after(10), size_after(fits)
    finally:
        tracemalloc.stop()
    # The arrays of one fit take some 40 kB; free lists and caches vary by some 80 kB.
    assert second - first < 20_000 * fits


def test_the_cache_of_formulas_is_bounded():
    assert column_terms._learn.cache_info().maxsize is not None
