"""Formula and data to arrays: the right columns and levels, from any table, which is not changed.

Sources of truth: R's documented behaviour where a convention is R's (which dependent columns are
dropped, ``poly``), patsy for coded columns (see also formula/test_expansion.py), and values small
enough to be written down.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.design.checks import independent_columns
from mixedfx.design.new_data import evaluate_new_data
from mixedfx.errors import DroppedColumnsWarning
from mixedfx.formula.parser import parse


def _build(text, data, **options):
    return build(parse(text), data, **options)


def _frame() -> pd.DataFrame:
    """Small, with every kind of column."""
    rng = np.random.default_rng(10)
    n = 24
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "z": rng.normal(size=n),
            "w": rng.uniform(1.0, 2.0, n),
            "unused": np.nan,
            "f": np.tile(["b", "a", "c"], 8),
            "o": pd.Categorical(np.tile(["low", "high"], 12), ["low", "high", "never"]),
            "t": np.tile([True, False, False], 8),
            "g": np.repeat(list("dbca"), 6),
            "k": np.repeat([30, -2, 7, 1], 6),
            "h": np.tile(["p", "q"], 12),
        },
        index=pd.Index([f"row{i}" for i in range(n)], name="label"),
    )


@pytest.fixture
def frame():
    return _frame()


# ------------------------------------------------------------------ what build gives


def test_response_is_the_column(frame):
    np.testing.assert_array_equal(_build("y ~ x", frame).rows.y, frame["y"])


def test_response_may_be_an_expression(frame):
    np.testing.assert_array_equal(_build("np.exp(y) ~ x", frame).rows.y, np.exp(frame["y"]))


def test_fixed_columns_are_intercept_and_slope(frame):
    expected = np.column_stack([np.ones(len(frame)), frame["x"]])
    np.testing.assert_array_equal(_build("y ~ x", frame).rows.X, expected)


def test_fixed_columns_are_named(frame):
    assert _build("y ~ x + f", frame).spec.X_names == ("Intercept", "f[T.b]", "f[T.c]", "x")


def test_formula_without_fixed_part_has_no_fixed_columns(frame):
    assert _build("y ~ 0 + (1 | g)", frame).rows.X.shape == (24, 0)


def test_each_random_term_has_a_group_and_effects(frame):
    random_terms = _build("y ~ x + (x | g) + (1 | h)", frame).spec.random_terms
    assert [(b.group, b.effect_names) for b in random_terms] == [
        ("g", ("Intercept", "x")),
        ("h", ("Intercept",)),
    ]


def test_model_matrix_of_a_random_term_has_the_effects_columns(frame):
    random_term = _build("y ~ 1 + (x | g)", frame).rows.random_terms[0]
    np.testing.assert_array_equal(
        random_term.model_matrix, np.column_stack([np.ones(24), frame["x"]])
    )


def test_model_matrix_of_a_random_intercept_is_ones(frame):
    np.testing.assert_array_equal(
        _build("y ~ 1 + (1 | g)", frame).rows.random_terms[0].model_matrix, np.ones((24, 1))
    )


def test_codes_point_at_each_rows_level(frame):
    design = _build("y ~ 1 + (1 | g)", frame)
    labels = design.spec.levels_of("g").labels
    assert labels[design.rows.codes_of("g")].tolist() == frame["g"].tolist()


def test_text_levels_are_sorted(frame):
    assert list(_build("y ~ 1 + (1 | g)", frame).spec.random_terms[0].levels.labels) == list("abcd")


def test_numeric_levels_are_sorted_by_value(frame):
    assert list(_build("y ~ 1 + (1 | k)", frame).spec.levels_of("k").labels) == [-2, 1, 7, 30]


def test_categorical_levels_keep_their_order(frame):
    frame["g"] = pd.Categorical(frame["g"], list("cdab"))
    assert list(_build("y ~ 1 + (1 | g)", frame).spec.random_terms[0].levels.labels) == list("cdab")


def test_categorical_order_decides_the_reference_level(frame):
    frame["f"] = pd.Categorical(frame["f"], list("cab"))
    assert _build("y ~ f", frame).spec.X_names == ("Intercept", "f[T.a]", "f[T.b]")


def test_levels_that_no_row_has_are_dropped_from_groups(frame):
    frame["g"] = pd.Categorical(frame["g"], list("zdcba"))
    assert list(_build("y ~ 1 + (1 | g)", frame).spec.random_terms[0].levels.labels) == list("dcba")


def test_levels_that_no_row_has_are_dropped_from_fixed_factors(frame):
    assert _build("y ~ o", frame).spec.X_names == ("Intercept", "o[T.high]")


def test_levels_whose_rows_are_all_incomplete_are_dropped(frame):
    frame.loc[frame["f"] == "a", "x"] = np.nan
    assert _build("y ~ x + f", frame).spec.X_names == ("Intercept", "f[T.c]", "x")


def test_integer_factors_are_named_by_their_numbers(frame):
    # patsy's own name for the column, given a DataFrame.
    assert _build("y ~ C(k)", frame).spec.X_names == (
        "Intercept",
        "C(k)[T.1]",
        "C(k)[T.7]",
        "C(k)[T.30]",
    )


def test_interaction_labels_join_levels_with_colons(frame):
    labels = _build("y ~ 1 + (1 | g:h)", frame).spec.random_terms[0].levels.labels
    assert list(labels) == [f"{g}:{h}" for g in "abcd" for h in "pq"]


def test_interaction_codes_point_at_each_rows_combination(frame):
    design = _build("y ~ 1 + (1 | g:h)", frame)
    labels = design.spec.levels_of("g:h").labels
    assert labels[design.rows.codes_of("g:h")].tolist() == (frame["g"] + ":" + frame["h"]).tolist()


def test_interaction_has_only_the_combinations_that_occur(frame):
    kept = frame[(frame["g"] != "b") | (frame["h"] == "q")]
    labels = _build("y ~ 1 + (1 | g:h)", kept).spec.random_terms[0].levels.labels
    assert "b:p" not in labels
    assert len(labels) == 7


def test_interaction_of_three_factors_is_labelled_in_order(frame):
    labels = _build("y ~ 1 + (1 | h:g:t)", frame).spec.random_terms[0].levels.labels
    assert labels[0] == "p:a:False"


def test_interaction_with_numbers_labels_them_as_text(frame):
    assert _build("y ~ 1 + (1 | k:h)", frame).spec.random_terms[0].levels.labels[0] == "-2:p"


def test_nested_groups_count_their_levels(frame):
    assert _build("y ~ 1 + (1 | g/h)", frame).spec.ngroups == {"g": 4, "g:h": 8}


def test_combinations_that_share_a_label_stay_apart():
    # 'a' with 'b:c', and 'a:b' with 'c', both read 'a:b:c'.
    data = pd.DataFrame({"y": np.arange(6.0), "g": ["a", "a:b"] * 3, "h": ["b:c", "c"] * 3})
    assert _build("y ~ 1 + (1 | g:h)", data).spec.ngroups == {"g:h": 2}


def test_labels_of_levels_are_unlike():
    # Otherwise a dict or a table by level loses one of the two.
    data = pd.DataFrame({"y": np.arange(6.0), "g": ["a", "a:b"] * 3, "h": ["b:c", "c"] * 3})
    assert _build("y ~ 1 + (1 | g:h)", data).spec.random_terms[0].levels.labels.is_unique


@pytest.mark.parametrize("written", ["C(g)", "Q('g')", "g.str.upper()", "np.asarray(g)"])
def test_grouping_factor_may_be_an_expression(frame, written):
    frame["g"] = frame["g"].astype(object)
    codes = _build(f"y ~ 1 + (1 | {written})", frame).rows.random_terms[0].codes
    np.testing.assert_array_equal(
        codes, _build("y ~ 1 + (1 | g)", frame).rows.random_terms[0].codes
    )


def test_grouping_factor_may_have_an_odd_name(frame):
    odd = frame.rename(columns={"g": "the group"})
    assert _build("y ~ 1 + (1 | Q('the group'))", odd).spec.ngroups == {"the group": 4}


def test_grouping_factor_may_be_a_comparison(frame):
    assert list(_build("y ~ 1 + (1 | k > 5)", frame).spec.ngroups.values()) == [2]


def test_double_bar_keeps_factor_columns_in_one_term(frame):
    random_term = _build("y ~ 1 + (0 + f || g)", frame).spec.random_terms[0]
    assert (random_term.formula_term.structure, random_term.effect_names) == (
        "diag",
        ("f[a]", "f[b]", "f[c]"),
    )


def test_functions_of_the_caller_are_found(frame):
    def double(v):
        return 2 * v

    fit = mfx.lmer("y ~ double(x)", frame)
    assert fit.params["double(x)"] == pytest.approx(mfx.lmer("y ~ x", frame).params["x"] / 2)


def test_a_column_goes_before_a_variable_of_the_caller(frame):
    x = np.zeros(len(frame))
    assert len(x) == len(frame)
    np.testing.assert_array_equal(mfx.lmer("y ~ I(x)", frame).model.rows.X[:, 1], frame["x"])


@pytest.mark.parametrize("function", ["log", "exp", "sqrt"])
def test_common_functions_need_no_prefix(frame, function):
    bare = _build(f"y ~ {function}(w)", frame).rows.X
    np.testing.assert_array_equal(bare, _build(f"y ~ np.{function}(w)", frame).rows.X)


def test_weights_are_kept(frame):
    np.testing.assert_array_equal(_build("y ~ x", frame, weights="w").rows.weights, frame["w"])


def test_offset_is_taken_from_the_response(frame):
    np.testing.assert_array_equal(
        _build("y ~ x", frame, offset="z").rows.response_less_offset, frame["y"] - frame["z"]
    )


@pytest.mark.covering(1)
@pytest.mark.parametrize("option", ["weights", "offset"])
@pytest.mark.parametrize("kind", [np.asarray, list, tuple, pd.Series], ids=lambda k: k.__name__)
def test_weights_and_offset_may_be_values(frame, option, kind):
    by_value = _build("y ~ x", frame, **{option: kind(frame["w"])})
    by_name = _build("y ~ x", frame, **{option: "w"})
    np.testing.assert_array_equal(getattr(by_value.rows, option), getattr(by_name.rows, option))


def test_arrays_of_a_design_cannot_be_written(frame):
    design = _build("y ~ x + (x | g)", frame, weights="w", offset="z")
    random_term = design.rows.random_terms[0]
    arrays = (
        design.rows.y,
        design.rows.X,
        design.rows.weights,
        design.rows.offset,
        random_term.codes,
        random_term.model_matrix,
    )
    assert not any(array.flags.writeable for array in arrays)


# ------------------------------------------------------------------ missing values and rows


def test_index_is_kept(frame):
    assert _build("y ~ x", frame).rows.index.equals(frame.index)


def test_index_is_that_of_the_rows_used(frame):
    frame.loc["row3", "x"] = np.nan
    assert _build("y ~ x", frame).rows.index.equals(frame.index.drop("row3"))


def test_fitted_values_carry_the_rows_labels(frame):
    frame.loc["row3", "x"] = np.nan
    assert mfx.lmer("y ~ x", frame).fittedvalues.index.equals(frame.index.drop("row3"))


USES = {
    "response": ("y ~ 1", "y", {}),
    "fixed part": ("y ~ x", "x", {}),
    "function": ("y ~ np.exp(x)", "x", {}),
    "quoted name": ("y ~ Q('x')", "x", {}),
    "random slope": ("y ~ 1 + (x | h)", "x", {}),
    "grouping factor": ("y ~ 1 + (1 | g)", "g", {}),
    "grouping expression": ("y ~ 1 + (1 | C(g))", "g", {}),
    "interaction": ("y ~ 1 + (1 | h:g)", "g", {}),
    "categorical": ("y ~ o", "o", {}),
    "weights": ("y ~ x", "w", {"weights": "w"}),
    "offset": ("y ~ x", "w", {"offset": "w"}),
}


@pytest.mark.parametrize("use", USES)
def test_row_that_misses_a_used_value_is_dropped(frame, use):
    text, column, options = USES[use]
    frame.loc["row3", column] = None
    assert _build(text, frame, **options).rows.index.equals(frame.index.drop("row3"))


@pytest.mark.parametrize("use", USES)
def test_dropped_rows_are_counted(frame, use):
    text, column, options = USES[use]
    frame.loc[["row3", "row7"], column] = None
    assert _build(text, frame, **options).rows.n_dropped == 2


@pytest.mark.parametrize("option", ["weights", "offset"])
def test_row_that_misses_a_weight_or_offset_by_value_is_dropped(frame, option):
    values = frame["w"].to_numpy().copy()
    values[3] = np.nan
    design = _build("y ~ x", frame, **{option: values})
    assert design.rows.index.equals(frame.index.drop("row3"))


def test_missing_values_in_other_columns_are_no_matter(frame):
    assert _build("y ~ x + (1 | g)", frame).rows.n_dropped == 0


def test_dropping_rows_is_as_leaving_them_out(frame):
    frame.loc["row3", "x"] = np.nan
    with_gaps = _build("y ~ x + f + (x | g)", frame)
    without = _build("y ~ x + f + (x | g)", frame.drop(index="row3"))
    np.testing.assert_array_equal(with_gaps.rows.X, without.rows.X)


def test_transforms_learn_from_the_rows_used(frame):
    frame.loc["row3", "y"] = np.nan
    column = _build("y ~ scale(x)", frame).rows.X[:, 1]
    moments = column.mean(), column.std(ddof=1)
    assert moments == (pytest.approx(0, abs=1e-14), pytest.approx(1))


def test_dropped_rows_are_told(frame):
    frame.loc["row3", "x"] = np.nan
    assert "1 of 24 rows" in mfx.lmer("y ~ x", frame).notes[0]


# ------------------------------------------------------------------ kinds of columns and tables


def _same(found, expected):
    np.testing.assert_allclose(found.rows.X, expected.rows.X, rtol=1e-15)
    np.testing.assert_allclose(found.rows.y, expected.rows.y, rtol=1e-15)
    assert found.spec.column_names == expected.spec.column_names
    for a, b in zip(found.spec.random_terms, expected.spec.random_terms, strict=True):
        assert list(a.levels.labels) == list(b.levels.labels)
    for a, b in zip(found.rows.random_terms, expected.rows.random_terms, strict=True):
        np.testing.assert_array_equal(a.codes, b.codes)
        np.testing.assert_allclose(a.model_matrix, b.model_matrix, rtol=1e-15)


MODEL = "y ~ x + k + f + t + (x | g) + (1 | k) + (0 + f || h) + (1 | k:h)"

COLUMN_KINDS = {
    "nullable": lambda d: d.convert_dtypes(),
    "Arrow-backed": lambda d: d.convert_dtypes(dtype_backend="pyarrow"),
    "text as object": lambda d: d.astype({"f": object, "g": object, "h": object}),
    "text as string": lambda d: d.astype({"f": "string", "g": "string", "h": "string"}),
    "text as categorical": lambda d: d.astype({"f": "category", "g": "category", "h": "category"}),
    "ordered categorical": lambda d: d.assign(f=pd.Categorical(d["f"], ordered=True)),
    "numbers as object": lambda d: d.astype({"x": object, "y": object, "k": object}),
    "truth as object": lambda d: d.astype({"t": object}),
    "truth as boolean": lambda d: d.astype({"t": "boolean"}),
    "narrow integers": lambda d: d.astype({"k": "int8"}),
    "nullable integers": lambda d: d.astype({"k": "Int16"}),
    "sparse": lambda d: d.assign(x=pd.arrays.SparseArray(d["x"])),
    "long floats": lambda d: d.astype({"x": np.longdouble}),
    "columns reversed": lambda d: d[d.columns[::-1]],
    "index not unique": lambda d: d.set_index(np.zeros(len(d), dtype=int)),
    "index of two levels": lambda d: d.set_index(["g", "h"], drop=False),
}


@pytest.mark.full
@pytest.mark.parametrize("kind", COLUMN_KINDS)
def test_kind_of_column_makes_no_difference(frame, kind):
    _same(_build(MODEL, COLUMN_KINDS[kind](frame)), _build(MODEL, frame))


@pytest.mark.full
@pytest.mark.parametrize("kind", COLUMN_KINDS)
def test_kind_of_column_makes_no_difference_to_missing_values(frame, kind):
    changed = COLUMN_KINDS[kind](frame)
    gaps = {"x": 2, "y": 5, "g": 9, "f": 11}
    for column, row in gaps.items():
        frame[column] = frame[column].where(np.arange(len(frame)) != row)
        changed[column] = changed[column].where(np.arange(len(frame)) != row)
    _same(_build(MODEL, changed), _build(MODEL, frame))


class _Table:
    """A table of another library, which can give a pandas one."""

    def __init__(self, frame):
        self.frame = frame

    def to_pandas(self):
        return self.frame.copy()


class _ArrowOnly:
    """A table that speaks only the Arrow interface."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def _arrow(frame):
    return pytest.importorskip("pyarrow").table(frame.reset_index(drop=True))


TABLE_KINDS = {
    "dict of lists": lambda d: d.to_dict("list"),
    "dict of arrays": lambda d: {name: d[name].to_numpy() for name in d},
    "dict of Series": lambda d: {name: d[name] for name in d},
    "object with to_pandas": _Table,
    "Arrow table": _arrow,
    "Arrow interface": lambda d: _ArrowOnly(_arrow(d)),
    "Arrow record batch": lambda d: _arrow(d).to_batches()[0],
}


@pytest.mark.parametrize("kind", TABLE_KINDS)
def test_kind_of_table_makes_no_difference(frame, kind):
    _same(_build(MODEL, TABLE_KINDS[kind](frame)), _build(MODEL, frame))


def test_dictionary_encoded_arrow_columns_are_categorical(frame):
    pa = pytest.importorskip("pyarrow")
    table = _arrow(frame)
    at = table.column_names.index("f")
    coded = pa.chunked_array([pa.DictionaryArray.from_arrays([0, 1, 2] * 8, ["c", "a", "b"])])
    assert _build("y ~ f", table.set_column(at, "f", coded)).spec.column_names[1:] == (
        "f[T.a]",
        "f[T.b]",
    )


def test_truth_is_a_factor_as_in_patsy_and_r(frame):
    assert _build("y ~ t", frame).spec.column_names == ("Intercept", "t[T.True]")


def test_truth_may_be_a_response(frame):
    np.testing.assert_array_equal(_build("t ~ x", frame).rows.y, frame["t"].astype(float))


def test_comparison_may_be_a_response(frame):
    np.testing.assert_array_equal(
        _build("I(y > 0) ~ x", frame).rows.y, (frame["y"] > 0).astype(float)
    )


def test_truth_may_be_a_group(frame):
    assert list(_build("y ~ 1 + (1 | t)", frame).spec.levels_of("t").labels) == [False, True]


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "Int8"])
def test_integer_groups_may_span_their_whole_type(frame, dtype):
    info = np.iinfo(dtype.lower())
    frame["k"] = pd.Series(np.repeat([info.max, 0, info.min, 1], 6), index=frame.index, dtype=dtype)
    labels = _build("y ~ 1 + (1 | k)", frame).spec.random_terms[0].levels.labels
    assert list(labels) == sorted({info.max, 0, info.min, 1})


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "Float32"])
def test_groups_may_be_floats(frame, dtype):
    frame["k"] = pd.Series(np.repeat([1.5, -2.0, 0.0, 3.0], 6), index=frame.index).astype(dtype)
    assert list(_build("y ~ 1 + (1 | k)", frame).spec.random_terms[0].levels.labels) == [
        -2.0,
        0.0,
        1.5,
        3.0,
    ]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "float16"])
def test_narrow_numbers_do_not_overflow_in_the_formula(frame, dtype):
    frame["k"] = np.repeat([100, 2, 7, 1], 6)
    wide = _build("y ~ I(k**3) + I(k - 50)", frame)
    np.testing.assert_array_equal(
        _build("y ~ I(k**3) + I(k - 50)", frame.astype({"k": dtype})).rows.X, wide.rows.X
    )


def test_unsigned_numbers_may_become_negative_in_the_formula(frame):
    frame["k"] = np.repeat([100, 2, 7, 1], 6)
    unsigned = frame.astype({"k": "uint64"})
    expected = _build("y ~ I(k - 50)", frame).rows.X
    np.testing.assert_array_equal(_build("y ~ I(k - 50)", unsigned).rows.X, expected)


def test_single_precision_is_widened_before_the_formula_is_evaluated(frame):
    # R has doubles only: the stored value is exact, what is computed from it should be as well.
    narrow = frame.astype({"w": "float32"})
    expected = np.log(narrow["w"].astype(float))
    np.testing.assert_allclose(_build("y ~ log(w)", narrow).rows.X[:, 1], expected, rtol=1e-14)


def test_names_of_columns_may_be_numbers(frame):
    assert _build("y ~ Q('3')", frame.rename(columns={"x": 3})).spec.column_names[1] == "3"


def test_dot_is_all_other_columns(frame):
    design = _build("y ~ . + (1 | g)", frame[["z", "y", "g", "x"]])
    assert design.spec.column_names == ("Intercept", "z", "x")


def test_dot_takes_columns_whose_names_are_odd(frame):
    odd = frame[["y", "x", "g"]].rename(columns={"x": "a b"})
    assert _build("y ~ . + (1 | g)", odd).spec.column_names == ("Intercept", "a b")


@pytest.mark.full
def test_dot_takes_hundreds_of_columns():
    data = pd.DataFrame(np.random.default_rng(1).normal(size=(1500, 1201)))
    data.columns = ["y", *(f"x{i}" for i in range(1200))]
    assert len(_build("y ~ .", data).spec.column_names) == 1201


# ------------------------------------------------------------------ the data is not changed

CALLS = {
    "fixed": ("y ~ x*f + o", {}),
    "transforms": ("np.exp(y) ~ scale(x) + poly(z, 2) + bs(w, 4)", {}),
    "random": ("y ~ x + (x | g) + (1 | h) + (1 | k)", {}),
    "weights and offset by name": ("y ~ x + (1 | g)", {"weights": "w", "offset": "z"}),
    "missing values": ("y ~ x + (1 | g)", {}),
}


@pytest.mark.parametrize("call", CALLS)
def test_data_is_not_changed(frame, call):
    text, options = CALLS[call]
    if call == "missing values":
        frame.loc["row3", ["x", "g"]] = None
    before = frame.copy(deep=True)
    _build(text, frame, **options)
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("option", ["weights", "offset"])
def test_arrays_given_by_value_are_not_changed(frame, option):
    values = frame["w"].to_numpy().copy()
    before = values.copy()
    _build("y ~ x", frame, **{option: values})
    np.testing.assert_array_equal(values, before)


def test_arrays_given_by_value_are_not_locked(frame):
    values = frame["w"].to_numpy().copy()
    _build("y ~ x", frame, weights=values)
    assert values.flags.writeable


def test_mapping_is_not_changed_or_locked(frame):
    data = {"y": frame["y"].to_numpy().copy(), "x": frame["x"].to_numpy().copy()}
    _build("y ~ x", data)
    assert data["y"].flags.writeable
    np.testing.assert_array_equal(data["y"], frame["y"])


def test_design_does_not_see_later_changes_of_the_data(frame):
    design = _build("y ~ x + (x | g)", frame)
    expected = frame["y"].to_numpy().copy()
    frame.loc[:, ["y", "x"]] = 0.0
    np.testing.assert_array_equal(design.rows.y, expected)


def test_design_does_not_see_later_changes_of_an_array(frame):
    values = frame["y"].to_numpy().copy()
    design = _build("y ~ x", {"y": values, "x": frame["x"].to_numpy()})
    values[:] = 0.0
    np.testing.assert_array_equal(design.rows.y, frame["y"])


# ------------------------------------------------------------------ dependent columns


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("y ~ x + twice", ("twice",)),
        ("y ~ twice + x", ("x",)),
        ("y ~ x + z + both", ("both",)),
        ("y ~ both + x + z", ("z",)),
        ("y ~ x + one", ("one",)),
        ("y ~ x + zero", ("zero",)),
        ("y ~ x + zero + one + twice + z", ("zero", "one", "twice")),
        ("y ~ 0 + f + h + one", ("one",)),
        ("y ~ f + C(copy)", ("C(copy)[T.b]", "C(copy)[T.c]")),
        ("y ~ x + I(1 + 2 * x)", ("I(1 + 2 * x)",)),
    ],
)
def test_of_dependent_columns_the_later_go(frame, text, dropped):
    # R's lm gives NA to the same coefficients (limited column pivoting of dqrdc2).
    data = frame.assign(
        twice=2 * frame["x"], both=frame["x"] + frame["z"], one=1.0, zero=0.0, copy=frame["f"]
    )
    assert _build(text, data).spec.dropped_names == dropped


def test_columns_that_are_kept_stay_as_they_are(frame):
    data = frame.assign(twice=2 * frame["x"])
    np.testing.assert_array_equal(
        _build("y ~ x + twice + z", data).rows.X, _build("y ~ x + z", data).rows.X
    )


def test_empty_cell_of_an_interaction_is_dropped(frame):
    kept = frame[(frame["f"] != "b") | (frame["h"] == "p")]
    assert _build("y ~ f*h", kept).spec.dropped_names == ("f[T.b]:h[T.q]",)


def test_nearly_dependent_column_is_kept(frame):
    data = frame.assign(near=frame["x"] + 1e-5 * frame["z"])
    assert _build("y ~ x + near", data).spec.dropped_names == ()


@pytest.mark.parametrize("scale", [1e-140, 1e-100, 1e-20, 1e20, 1e100, 1e140])
def test_units_do_not_make_a_column_dependent(frame, scale):
    assert _build("y ~ x + z", frame.assign(x=scale * frame["x"])).spec.dropped_names == ()


def test_dropped_columns_have_missing_coefficients(frame):
    data = frame.assign(twice=2 * frame["x"])
    with pytest.warns(DroppedColumnsWarning):
        fit = mfx.lmer("y ~ x + twice + z", data)
    assert fit.params.isna().tolist() == [False, False, True, False]


def test_independent_columns_of_nothing_are_none():
    assert independent_columns(np.zeros((5, 0))).tolist() == []


def test_column_of_zeros_is_dependent():
    assert independent_columns(np.column_stack([np.zeros(4), np.arange(4.0)])).tolist() == [1]


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_independent_columns_are_a_basis_from_the_left(seed, sources):
    # Each column is new, or a combination of those before it; which are new is known.
    rng = np.random.default_rng(seed)
    columns, new = [], []
    for j, source in enumerate(sources):
        if source and columns:
            columns.append(np.column_stack(columns) @ rng.uniform(1, 2, len(columns)))
        else:
            columns.append(rng.normal(size=20))
            new.append(j)
    assert independent_columns(np.column_stack(columns)).tolist() == new


@pytest.mark.parametrize("apart", [1e-5, 1e-6])
def test_columns_that_are_nearly_parallel_do_not_hide_dependence(apart):
    # The basis of columns this close loses orthogonality in one pass of Gram-Schmidt: the last
    # column, a combination of two before it, then seems to be new.
    rng = np.random.default_rng(0)
    first, others = rng.normal(size=30), rng.normal(size=(30, 4))
    near = first[:, None] + apart * others
    X = np.column_stack([first, near, near[:, 0] + near[:, 1] - near[:, 2], others[:, 0]])
    assert independent_columns(X).tolist() == [0, 1, 2, 3, 4]


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(-100, 100), min_size=4, max_size=4))
def test_independent_columns_do_not_depend_on_units(seed, powers):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(20, 3))
    X = np.column_stack([X, X @ rng.normal(size=3)])
    assert independent_columns(X * 10.0 ** np.array(powers)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("c", [0.0, 1e3, 1e7, 1e10])
def test_columns_far_from_zero_are_independent_and_what_depends_on_them_is_found(c):
    rng = np.random.default_rng(1)
    z, one, a = rng.normal(size=90), np.ones(90), np.arange(90) % 3
    A, x = (a[:, None] == [1, 2]).astype(float), rng.normal(size=90) + c
    interaction = A * x[:, None]
    X = np.column_stack([one, A, x, 2.0 * x, x + 1.0, z, interaction, interaction * 3.0 + A])
    assert independent_columns(X).tolist() == [0, 1, 2, 3, 6, 7, 8]
    cells = np.column_stack([a == 0, A, x, one, x - 5.0])  # the constant is among their sums
    assert independent_columns(cells).tolist() == [0, 1, 2, 3]


def test_dates_in_nanoseconds_are_independent_and_their_hours_are_not():
    ns = 1.6e18 + 3.6e12 * np.arange(200.0)
    X = np.column_stack([np.ones(200), ns, ns / 3.6e12, ns - 1.6e18])
    assert independent_columns(X).tolist() == [0, 1]


# ------------------------------------------------------------------ poly

FIVE = {"x": [1.0, 2.0, 3.0, 4.0, 5.0], "y": [0.0, 1.0, 0.0, 2.0, 5.0]}


def test_poly_is_the_textbooks_linear_contrast():
    expected = np.array([-2, -1, 0, 1, 2]) / np.sqrt(10)
    np.testing.assert_allclose(_build("y ~ poly(x, 2)", FIVE).rows.X[:, 1], expected, atol=1e-15)


def test_poly_is_the_textbooks_quadratic_contrast():
    expected = np.array([2, -1, -2, -1, 2]) / np.sqrt(14)
    np.testing.assert_allclose(_build("y ~ poly(x, 2)", FIVE).rows.X[:, 2], expected, atol=1e-15)


def test_poly_is_of_first_degree_unless_told():
    assert _build("y ~ poly(x)", FIVE).rows.X.shape == (5, 2)


@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_poly_is_orthonormal_and_orthogonal_to_the_intercept(frame, degree):
    X = _build(f"y ~ poly(x, {degree})", frame).rows.X
    expected = np.eye(degree + 1)
    expected[0, 0] = len(frame)
    np.testing.assert_allclose(X.T @ X, expected, atol=1e-12)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_poly_spans_the_powers(frame, degree):
    poly = _build(f"y ~ poly(x, {degree})", frame).rows.X
    powers = np.vander(frame["x"], degree + 1)
    rest = powers - poly @ np.linalg.lstsq(poly, powers, rcond=None)[0]
    np.testing.assert_allclose(rest, 0, atol=1e-12)


def test_poly_leads_with_a_positive_sign(frame):
    # R: the highest power of each column has a positive coefficient.
    X = _build("y ~ poly(x, 3)", frame).rows.X
    leading = [np.polyfit(frame["x"], X[:, d], d)[0] for d in (1, 2, 3)]
    assert (np.array(leading) > 0).all()


def test_poly_stays_orthonormal_far_from_zero(frame):
    X = _build("y ~ poly(I(x + 1000), 3)", frame).rows.X[:, 1:]
    np.testing.assert_allclose(X.T @ X, np.eye(3), atol=1e-9)


def test_poly_takes_its_degree_by_name(frame):
    by_name = _build("y ~ poly(x, degree=2)", frame).rows.X
    np.testing.assert_array_equal(by_name, _build("y ~ poly(x, 2)", frame).rows.X)


# ------------------------------------------------------------------ new rows, same columns

TRANSFORMS = [
    "scale(x)",
    "center(x)",
    "standardize(x)",
    "bs(x, 4)",
    "cr(x, 4) - 1",
    "poly(x, 2)",
    "poly(x, 2)*scale(z)",
    "scale(np.exp(x))",
    "np.log(w)",
    "f",
    "0 + f",
    "C(f, Sum)",
    "C(k)",
    "o",
    "t",
    "f*o + x:t",
]


@pytest.mark.covering(1)
@pytest.mark.parametrize("written", TRANSFORMS)
@pytest.mark.parametrize("rows", [slice(3, 9), slice(4, 5), slice(None, None, -1)])
def test_fixed_columns_are_rebuilt_on_new_rows(frame, written, rows):
    design = _build(f"y ~ {written}", frame)
    _, X, _, _ = evaluate_new_data(design.spec, frame.iloc[rows], groups=())
    np.testing.assert_allclose(X, design.rows.X[rows], rtol=0, atol=1e-14)


@pytest.mark.parametrize("written", TRANSFORMS)
def test_random_columns_are_rebuilt_on_new_rows(frame, written):
    data = pd.concat([frame] * 8, ignore_index=True)
    design = _build(f"y ~ 1 + ({written} | h)", data)
    _, _, (values,), _ = evaluate_new_data(design.spec, data.iloc[3:9], groups=["h"])
    np.testing.assert_allclose(
        values, design.rows.random_terms[0].model_matrix[3:9], rtol=0, atol=1e-14
    )


@pytest.mark.parametrize(
    "group", ["g", "k", "o", "t", "g:h", "k:t", "C(g)", "Q('g')", "g.str.upper()", "k > 5"]
)
def test_levels_are_recognised_on_new_rows(frame, group):
    design = _build(f"y ~ 1 + (1 | {group})", frame)
    _, _, _, (codes,) = evaluate_new_data(
        design.spec, frame.iloc[::-1], groups=[design.rows.random_terms[0].group]
    )
    np.testing.assert_array_equal(codes, design.rows.random_terms[0].codes[::-1])


@pytest.mark.parametrize("written", ["scale(x)", "bs(x, 4)", "poly(x, 2)", "f + o", "C(k)"])
def test_prediction_on_some_rows_is_their_fitted_value(frame, written):
    fit = mfx.lmer(f"y ~ {written}", frame)
    some = frame.iloc[[7, 3, 20]]
    np.testing.assert_allclose(fit.predict(some), fit.fittedvalues[some.index], rtol=1e-12)


def test_new_rows_need_only_the_columns_of_the_groups_asked_for(frame):
    design = _build("y ~ x + (1 | g) + (z | h)", frame)
    _, _, _, codes = evaluate_new_data(design.spec, frame[["x", "g"]], groups=["g"])
    assert [(c >= 0).all() for c in codes] == [True, False]


def test_new_rows_with_missing_values_are_missing(frame):
    design = _build("y ~ x + f", frame)
    new = pd.DataFrame({"x": [1.0, None, 2.0], "f": ["a", "b", None]})
    _, X, _, _ = evaluate_new_data(design.spec, new, groups=())
    assert np.isnan(X).all(axis=1).tolist() == [False, True, True]


@pytest.mark.parametrize("written", ["x", "scale(x)", "poly(x, 2)", "bs(x, 4)", "f"])
def test_new_rows_may_all_be_missing(frame, written):
    design = _build(f"y ~ {written}", frame)
    new = pd.DataFrame({"x": [np.nan, np.nan], "f": [None, None]})
    _, X, _, _ = evaluate_new_data(design.spec, new, groups=())
    assert np.isnan(X).all()


def test_new_rows_are_numbered_by_level_unseen_or_missing(frame):
    design = _build("y ~ 1 + (1 | g)", frame)
    _, _, _, (codes,) = evaluate_new_data(
        design.spec, {"g": ["b", "other", None, "a"]}, groups=["g"]
    )
    assert codes.tolist() == [1, -1, -2, 0]


def test_a_combination_with_an_unseen_value_is_no_level_of_its_neighbour(frame):
    # In mixed radix (a, unseen) is the number of the level before (a, first): an observed one.
    data = frame.assign(
        a=np.resize(["p", "q"], len(frame)), b=np.resize(["u", "u", "v"], len(frame))
    )
    design = _build("y ~ 1 + (1 | a:b)", data)
    new = {"a": ["p", "q", "other", "other", "q"], "b": ["new", "new", "u", "new", "v"]}
    _, _, _, (codes,) = evaluate_new_data(design.spec, new, groups=["a:b"])
    assert codes.tolist() == [-1, -1, -1, -1, 3]


def test_new_rows_of_an_intercept_only_model_are_ones(frame):
    design = _build("y ~ 1 + (1 | g)", frame)
    _, X, _, _ = evaluate_new_data(design.spec, {"g": ["b", "a"]}, groups=["g"])
    np.testing.assert_array_equal(X, np.ones((2, 1)))


# The same three values, in columns that a user of pandas may well hold them in.
NEW_FACTORS = {
    "text": lambda v: v,
    "object": lambda v: np.array(v, dtype=object),
    "string": lambda v: pd.array(v, dtype="string"),
    "categorical of these": pd.Categorical,
    "categorical of all": lambda v: pd.Categorical(v, list("abc")),
    "categorical of more": lambda v: pd.Categorical(v, list("zabc")),
    "categorical in another order": lambda v: pd.Categorical(v, list("cba")),
}


@pytest.mark.covering(1)
@pytest.mark.parametrize("fitted", ["text", "categorical"])
@pytest.mark.parametrize("kind", NEW_FACTORS)
def test_factor_of_new_rows_may_be_of_another_kind(frame, fitted, kind):
    if fitted == "categorical":
        frame["f"] = pd.Categorical(frame["f"], list("bca"))
    design = _build("y ~ f", frame)
    _, X, _, _ = evaluate_new_data(
        design.spec, pd.DataFrame({"f": NEW_FACTORS[kind](["c", "b", "c"])}), groups=()
    )
    np.testing.assert_array_equal(X, design.rows.X[[2, 0, 2]])


@pytest.mark.covering(1)
@pytest.mark.parametrize("fitted", ["text", "categorical"])
@pytest.mark.parametrize("kind", NEW_FACTORS)
def test_group_of_new_rows_may_be_of_another_kind(frame, fitted, kind):
    if fitted == "categorical":
        frame["f"] = pd.Categorical(frame["f"], list("bca"))
    design = _build("y ~ 1 + (1 | f)", frame)
    new = pd.DataFrame({"f": NEW_FACTORS[kind](["c", "b", "c"])})
    _, _, _, (codes,) = evaluate_new_data(design.spec, new, groups=["f"])
    np.testing.assert_array_equal(codes, design.rows.random_terms[0].codes[[2, 0, 2]])


def test_data_of_the_fit_can_be_predicted_though_categories_are_unused(frame):
    assert "never" in frame["o"].cat.categories
    fit = mfx.lmer("y ~ o", frame)
    np.testing.assert_allclose(fit.predict(frame), fit.fittedvalues, rtol=1e-12)


def test_missing_category_of_a_new_row_is_missing(frame):
    design = _build("y ~ f", frame)
    _, X, _, _ = evaluate_new_data(
        design.spec, pd.DataFrame({"f": pd.Categorical(["c", None])}), groups=()
    )
    assert np.isnan(X).all(axis=1).tolist() == [False, True]


ORDERED_THINGS = {
    "intervals": lambda d: pd.cut(d["x"], 3),
    "interval array": lambda d: pd.arrays.IntervalArray(pd.cut(d["x"], 3)),
    "periods": lambda d: pd.period_range("2020-01", periods=3, freq="M").repeat(8),
    "tuples": lambda d: [(v,) for v in d["f"]],
}


@pytest.mark.parametrize("kind", ORDERED_THINGS)
def test_factor_of_other_things_is_rebuilt_on_new_rows(frame, kind):
    frame["c"] = ORDERED_THINGS[kind](frame)
    design = _build("y ~ c", frame)
    _, X, _, _ = evaluate_new_data(design.spec, frame.iloc[3:9], groups=())
    np.testing.assert_array_equal(X, design.rows.X[3:9])


@pytest.mark.parametrize("kind", ORDERED_THINGS)
def test_group_of_other_things_is_recognised_on_new_rows(frame, kind):
    frame["c"] = ORDERED_THINGS[kind](frame)
    design = _build("y ~ 1 + (1 | c)", frame)
    _, _, _, (codes,) = evaluate_new_data(design.spec, frame.iloc[3:9], groups=["c"])
    np.testing.assert_array_equal(codes, design.rows.random_terms[0].codes[3:9])


NEW_NUMBERS = {
    "integer": lambda v: v,
    "float": lambda v: np.array(v, dtype=float),
    "int8": lambda v: np.array(v, dtype="int8"),
    "nullable": lambda v: pd.array(v, dtype="Int64"),
    "object": lambda v: np.array(v, dtype=object),
    "categorical": pd.Categorical,
}


@pytest.mark.covering(1)
@pytest.mark.parametrize("fitted", ["int64", "int8", "float64", "Int64", "category", "object"])
@pytest.mark.parametrize("kind", NEW_NUMBERS)
def test_numeric_group_is_recognised_in_any_type(frame, fitted, kind):
    design = _build("y ~ 1 + (1 | k)", frame.astype({"k": fitted}))
    new = pd.DataFrame({"k": NEW_NUMBERS[kind]([7, -2, 7])})
    _, _, _, (codes,) = evaluate_new_data(design.spec, new, groups=["k"])
    assert design.spec.random_terms[0].levels.labels[codes].tolist() == [7, -2, 7]


def test_encode_finds_levels_of_another_type_by_their_text(frame):
    levels = _build("y ~ 1 + (1 | k)", frame).spec.random_terms[0].levels
    assert levels.encode([np.array(["7", "-2", "07"])]).tolist() == [2, 0, -1]


def test_encode_gives_minus_one_for_combinations_that_never_occurred(frame):
    kept = frame[(frame["g"] != "b") | (frame["h"] == "q")]
    levels = _build("y ~ 1 + (1 | g:h)", kept).spec.random_terms[0].levels
    codes = levels.encode([np.array(["b", "b", "z", "a"]), np.array(["p", "q", "q", "r"])])
    assert [levels.labels[c] if c >= 0 else None for c in codes] == [None, "b:q", None, None]


def test_encode_beyond_the_last_level_is_unseen(frame):
    levels = _build("y ~ 1 + (1 | g:h)", frame[frame["g"] != "d"]).spec.random_terms[0].levels
    assert levels.encode([np.array(["d"]), np.array(["q"])]).tolist() == [-1]


@given(st.lists(st.integers(-5, 5), min_size=12, max_size=40), st.lists(st.integers(-7, 7)))
def test_encode_finds_a_level_exactly_where_it_was_seen(seen, asked):
    data = pd.DataFrame({"y": np.arange(float(len(seen))), "g": seen})
    if not 2 <= data["g"].nunique() < len(data):
        return
    levels = _build("y ~ 1 + (1 | g)", data).spec.random_terms[0].levels
    codes = levels.encode([np.array(asked, dtype=int)])
    found = [None if c < 0 else levels.labels[c] for c in codes]
    assert found == [a if a in set(seen) else None for a in asked]
