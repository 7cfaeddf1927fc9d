"""Columns of a user's table, by identifier, as arrays and as Series."""

import gc

import numpy as np
import pandas as pd
import pytest

from mixedfx.design.table import _LATEST, Table, UsedColumns
from mixedfx.errors import ColumnTypeError

COLUMNS = {
    "float": pd.Series([1.5, np.nan, 2.0]),
    "int": pd.Series([3, 1, 2], dtype="int16"),
    "bool": pd.Series([True, False, True]),
    "text": pd.Series(["b", "a", "b"]),
    "object": pd.Series(["b", None, 3], dtype=object),
    "category": pd.Series(pd.Categorical(["u", "v", "u"], ["v", "u"], ordered=True)),
    "nullable": pd.Series([1, None, 2], dtype="Int64"),
    "date": pd.Series(pd.to_datetime(["2026-01-01", "2026-01-02", "2026-01-03"])),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_the_array_of_a_column_has_the_values_of_its_series(name):
    table = Table(pd.DataFrame(COLUMNS))
    array, column = table.array(name), table.column(name)
    pd.testing.assert_series_equal(pd.Series(array), column, check_names=False)


def test_a_frame_without_pandas_shortcut_has_the_same_arrays(monkeypatch):
    frame = pd.DataFrame(COLUMNS)
    quick = [np.asarray(Table(frame).array(name), dtype=object) for name in COLUMNS]
    monkeypatch.delattr(pd.DataFrame, "_get_column_array")
    plain = [np.asarray(Table(frame).array(name), dtype=object) for name in COLUMNS]
    for a, b in zip(quick, plain, strict=True):
        assert pd.Series(a).equals(pd.Series(b))


def test_the_column_whose_label_is_text_is_meant():
    table = Table(pd.DataFrame([[1, 2]], columns=[5, "5"]))
    (name,) = table.identifiers
    assert table.column(name).tolist() == [2]
    assert list(table.array(name)) == [2]


@pytest.mark.parametrize("labels", [["x", "x"], [1, True]])
def test_labels_that_are_equal_are_an_error(labels):
    table = Table(pd.DataFrame([[1, 2]], columns=pd.Index(labels, dtype=object)))
    name = next(iter(table.identifiers))
    with pytest.raises(ColumnTypeError, match="rename all but one"):
        table.array(name)


def test_labels_are_known_as_long_as_their_index_lives():
    frame = pd.DataFrame({"a": [1], "b": [2]})
    assert Table(frame).names is Table(frame).names
    del frame
    gc.collect()
    assert _LATEST._known is None


def test_renamed_columns_have_their_new_names():
    frame = pd.DataFrame({"a": [1], "b": [2]})
    assert Table(frame).names == ["a", "b"]
    frame.columns = ["c", "b"]
    assert Table(frame).names == ["c", "b"]


def test_used_columns_of_two_formulas_are_joined():
    table = Table(pd.DataFrame({"a": [1], "b": [2], "c": [3]}))
    joined = UsedColumns(table, ["b"]) | UsedColumns(table, ["a", "b"])
    assert list(joined) == ["b", "a"]
    assert "c" not in joined
    with pytest.raises(KeyError):
        joined["c"]
