"""Tables of a fit as DataFrames of Polars and tables of Arrow.

Source of truth: the DataFrame of pandas.
"""

from __future__ import annotations

import importlib
from functools import cache

import numpy as np
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError

pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")


@cache
def fit() -> mfx.Results:
    formula = "angle ~ recipe + temp + (1 | recipe:replicate)"
    return mfx.lmer(formula, mfx.datasets.load("cake"), engine="profiled")


TABLES = {
    "tidy": lambda f, **to: f.tidy(**to),
    "tidy by Wald": lambda f, **to: f.tidy(df_method="normal", exponentiate=True, **to),
    "glance": lambda f, **to: f.glance(**to),
    "augment": lambda f, **to: f.augment(**to),
    "predict": lambda f, **to: f.predict(interval="confidence", **to),
    "drop1": lambda f, **to: f.drop1(**to),
    "anova": lambda f, **to: f.anova(**to),
}


@pytest.mark.parametrize("kind", TABLES)
def test_polars_has_the_same_table(kind):
    expected = TABLES[kind](fit())
    found = TABLES[kind](fit(), to="polars")
    assert isinstance(found, pl.DataFrame)
    if expected.index.name:
        expected = expected.reset_index()
    assert found.columns == list(expected.columns)
    for name in found.columns:
        values = expected[name].astype(object).where(expected[name].notna(), None).tolist()
        assert found[name].to_list() == values


@pytest.mark.parametrize("kind", ["tidy", "augment"])
def test_arrow_has_the_same_table(kind):
    expected, found = TABLES[kind](fit()), TABLES[kind](fit(), to="pyarrow")
    assert isinstance(found, pa.Table)
    assert found.column_names == list(expected.columns)
    np.testing.assert_array_equal(found.column(found.num_columns - 1), expected.iloc[:, -1])


def test_factors_are_enums_in_their_order():
    levels = [str(i) for i in range(1, 16)]
    assert fit().augment(to="polars").schema["replicate"] == pl.Enum(levels)


@pytest.mark.full
def test_missing_values_are_null():
    data = mfx.datasets.load("cake").assign(twice=lambda d: 2 * d["temp"])
    with pytest.warns(mfx.errors.DroppedColumnsWarning):
        found = mfx.lmer("angle ~ temp + twice + (1 | recipe:replicate)", data).tidy(to="polars")
    assert found.filter(pl.col("term") == "twice")["estimate"].to_list() == [None]


def test_labels_of_rows_are_a_column():
    data = mfx.datasets.load("cake").iloc[10:].rename_axis("row")
    predicted = mfx.lmer("angle ~ temp", data).predict(to="polars")
    assert predicted.columns == ["row", "predicted"]
    assert predicted["row"][0] == 10


def test_a_fit_of_polars_gives_back_polars():
    table = pl.from_pandas(mfx.datasets.load("cake").astype({"temp": float}))
    found = mfx.lmer("angle ~ temp + (1 | replicate)", table).predict(table.head(3), to="polars")
    assert found.shape == (3, 1)


def test_other_libraries_are_refused():
    with pytest.raises(ArgumentError, match="to='dask'"):
        fit().tidy(to="dask")


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    found = importlib.import_module

    def missing(name, *args):
        if name == "polars":
            raise ImportError(name)
        return found(name, *args)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(ArgumentError, match=r'pip install "mixedfx\[polars\]"'):
        fit().glance(to="polars")
