"""What a fit of chunks gives for each row: files, samples in plots, and errors that name a way.

Source of truth: the fit of the same rows in memory.
"""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamed.streamed_cases import fit, table

import mixedfx as mfx
from mixedfx.errors import ArgumentError, RowsNotInMemory, SourceChangedError

pytest.importorskip("pyarrow")
DATA = table()


@pytest.fixture(scope="module")
def fits() -> tuple[mfx.Results, mfx.Results]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = fit("crossed", DATA, engine="profiled")
        return whole, fit("crossed", DATA, chunk_rows=70)


def points(f: mfx.Results) -> np.ndarray:
    return max((line.get_xydata() for line in f.plot.residuals().lines), key=len)


def written(folder: Any) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(f) for f in sorted(folder.glob("*.parquet"))])


def test_augment_writes_all_rows(fits, tmp_path):
    whole, parts = fits
    folder = parts.augment(
        lambda: (DATA.iloc[i : i + 90] for i in range(0, 400, 90)), to=tmp_path / "a"
    )
    found, expected = written(folder), whole.augment(DATA)
    assert len(found) == len(DATA)
    for name in ("fitted", "resid", "fixed", "hat"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-8, atol=1e-9)


def test_predict_writes_all_rows(fits, tmp_path):
    whole, parts = fits
    new = DATA.dropna().drop(columns="y")
    folder = parts.predict(new, to=str(tmp_path / "p"), se=True)
    found, expected = written(folder), whole.predict(new, se=True)
    np.testing.assert_allclose(found[expected.columns], expected, rtol=1e-8)
    with pytest.raises(ArgumentError, match="new folder"):
        parts.predict(new, to=tmp_path / "p")


ASKED = {
    "fit.fittedvalues": lambda f: f.fittedvalues,
    "fit.resid": lambda f: f.resid,
    "fit.augment": lambda f: f.augment(),
    "fit.predict": lambda f: f.predict(),
    "fit.influence": lambda f: f.influence(),
    "fit.simulate": lambda f: f.simulate(1, rng=1),
    "fit.plot.fitted": lambda f: f.plot.fitted(),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_needs_rows_names_itself_and_the_way(name, fits):
    with pytest.raises(RowsNotInMemory) as caught:
        ASKED[name](fits[1])
    message = str(caught.value)
    assert message.startswith(f"{name} needs the rows")
    assert "fit.augment(source, to='folder')" in message
    assert "slim" not in message


@pytest.mark.full
def test_plots_show_a_sample_and_say_so(monkeypatch):
    pytest.importorskip("matplotlib").use("Agg")
    import mixedfx.design.stream.sampling as sampling

    monkeypatch.setattr(sampling.Reservoir.__init__, "__defaults__", (50,))
    few = fit("slope", DATA, chunk_rows=70)
    titles = [np.ravel(axes)[0].get_title() for axes in (few.plot.residuals(), few.plot.qq())]
    assert titles == ["a random sample of 50 of 387 rows"] * 2
    assert len(points(few)) == 50
    assert "Scaled residuals (50 random rows):" in str(few.summary())


@pytest.mark.full
def test_the_title_of_a_sample_is_above_the_legend(monkeypatch):
    pytest.importorskip("matplotlib").use("Agg")
    import mixedfx.design.stream.sampling as sampling

    monkeypatch.setattr(sampling.Reservoir.__init__, "__defaults__", (300,))
    ax = fit("slope", DATA, chunk_rows=70).plot.residuals()
    ax.figure.draw_without_rendering()
    assert ax.get_title() == "a random sample of 300 of 387 rows"
    assert not ax.title.get_window_extent().overlaps(ax.get_legend().get_window_extent())


def test_plots_of_all_rows_have_no_title(fits):
    pytest.importorskip("matplotlib").use("Agg")
    whole, parts = fits
    drawn = [points(f) for f in (whole, parts)]
    np.testing.assert_allclose(np.asarray(drawn[0]), np.asarray(drawn[1]), rtol=1e-7, atol=1e-8)
    assert not parts.plot.residuals().get_title()


@pytest.mark.full
def test_a_fit_of_chunks_can_be_kept(fits, tmp_path):
    _, parts = fits
    parts.save(tmp_path / "fit.mfx")
    for again in (mfx.read(tmp_path / "fit.mfx"), pickle.loads(pickle.dumps(parts)), parts.slim()):
        assert str(again.summary()) == str(parts.summary())
        folder = again.augment(lambda: [DATA], to=tmp_path / f"again{id(again)}")
        assert written(folder)["resid"].notna().sum() == parts.nobs


def test_rows_of_another_table_are_refused(fits, tmp_path):
    other = DATA.assign(g=DATA["g"] + 1000)
    with pytest.raises(SourceChangedError, match="level '10"):
        fits[1].augment(other, to=tmp_path / "other")
