"""The doctor's refits of fits whose rows were read in chunks, or merged.

Source of truth: the same refits of the rows in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamed import generalized_cases as generalized
from streamed.streamed_cases import MODELS, STRATA, source, table
from tiers import but_for

import mixedfx as mfx
from mixedfx.design.stream import sampling
from mixedfx.errors import ArgumentError, RowsNotInMemory
from mixedfx.inference.doctor.called_fits import parsed_call
from mixedfx.inference.doctor.diagnosis import Diagnosis
from mixedfx.streamed import called_fits
from mixedfx.streamed.doctoring import ModelsOfSource

pytestmark = pytest.mark.filterwarnings("ignore")  # rows left out


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generalized.with_small_blocks(monkeypatch)


def rows() -> Iterator[pd.DataFrame]:
    return iter(source())


def diagnosed(name: str, of: Any, **options: Any) -> Diagnosis:
    formula, arguments = (MODELS | STRATA)[name]
    engine = {} if "dispersion" in arguments else {"engine": "profiled"}
    return mfx.lmer(formula, of, **arguments, **engine).doctor(max_seconds=600.0, **options)


@cache
def of_rows(name: str) -> Diagnosis:
    return diagnosed(name, table())


def assert_same_refits(found: Diagnosis, whole: Diagnosis) -> None:
    """The same log-likelihoods of what both tried, and no simpler model is missing."""
    own, other = (d.refits.set_index("refit") for d in (found, whole))
    simpler = other.index.str.startswith("without") & (other["kind"] != "fewer rows")
    assert set(other.index[simpler]) <= set(own.index)
    both = own.index.intersection(other.index)
    np.testing.assert_allclose(
        own.loc[both, "log_likelihood"].astype(float),
        other.loc[both, "log_likelihood"].astype(float),
        rtol=1e-8,
    )
    pd.testing.assert_frame_equal(
        found.random.drop(columns="test"), whole.random.drop(columns="test"), atol=1e-4, rtol=1e-4
    )
    assert found.recommended == whole.recommended


def what(found: Diagnosis) -> set[tuple[str, str]]:
    return set(zip(found.checks.table["check"], found.checks.table["what"], strict=True))


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["slope", "nested", "strata"])
def test_simpler_models_are_those_of_the_rows(name):
    assert_same_refits(diagnosed(name, rows), of_rows(name))


@pytest.mark.full
def test_what_was_not_tried_is_said():
    found = diagnosed("crossed", rows)
    text = " ".join(found.sentences)
    assert "Not tried, as it needs the rows: with group_mean(x, g)" in text
    assert "influence of g, influence of h. fit.doctor(data=source) reads them again." in text
    assert len(found.influence) == 0


@pytest.mark.full
@pytest.mark.parametrize("name", ["slope", "crossed", "strata"])
def test_with_the_source_it_is_that_of_the_rows(name):
    whole, found = of_rows(name), diagnosed(name, rows, data=rows)
    assert_same_refits(found, whole)
    assert what(found) == what(whole)
    tables = (d.checks.table for d in (found, whole))
    own, other = (t[t["check"].isin(["within and between", "random slopes"])] for t in tables)
    np.testing.assert_allclose(own["statistic"], other["statistic"], rtol=1e-5, atol=1e-5)
    numbers = ["cooks_distance", "displacement", "largest_shift"]
    np.testing.assert_allclose(
        found.influence[numbers].astype(float), whole.influence[numbers].astype(float), atol=1e-5
    )
    told = " ".join(found.sentences)
    assert "as it needs the rows" not in told
    assert "Not tried, as it needs rows in memory: another engine, centred and scaled" in told


@pytest.mark.full
def test_advice_is_tried_on_the_source():
    data = table()
    data["y"] += 2.0 * data["x"].fillna(0.0) ** 2

    def parts() -> Iterator[pd.DataFrame]:
        return iter([data[:200], data[200:]])

    whole = mfx.lmer("y ~ x + f + (1 | g)", data, engine="profiled").doctor(max_seconds=600.0)
    found = mfx.lmer("y ~ x + f + (1 | g)", parts).doctor(data=parts, max_seconds=600.0)
    tried = [
        {w.code: w.tried for w in d.weaknesses if "I(x ** 2)" in w.code} for d in (found, whole)
    ]
    assert tried[0] == tried[1] != {}


def skewed(data: pd.DataFrame) -> pd.DataFrame:
    """With errors of long tails and of two variances, counts of more variance, and gaps."""
    rng, data = np.random.default_rng(4), data.copy()
    n, wide = len(data), np.where(data["f"].isin(["high", "a"]), 4.0, 1.0)
    data["y"] = 3.0 + data["x"].fillna(0.0) + wide * rng.standard_t(3, n)
    data["number"] = rng.poisson(np.exp(0.3 * data["x"].fillna(0.0)) * rng.gamma(0.5, 2.0, n))
    data["yes"] = rng.integers(0, 2, n)
    return data


CALLED = {
    "family": 'mfx.glmer("y ~ x + (1 | g)", data, family="student")',
    "weights": 'mfx.glmer("y ~ x + (1 | g)", data, family="student", weights="w", offset="o")',
    "strata": 'mfx.lmer("y ~ x + f + (x | g)", data, dispersion="~ f")',
    "numbers": 'mfx.lmer("y ~ x + (1 | g)", data, weights="w", dispersion="~ x")',
    "scale": 'mfx.lmer("y ~ x + (1 | g)", data, dispersion="~ 1 + (1 | g)")',
    "counts": 'mfx.glmer("number ~ x + f + (1 | g)", data, family="nbinom2")',
    "merged": 'mfx.glmer("yes ~ f + (1 | g)", data, family="binomial", link="probit")',
    "formula": 'mfx.lmer("y ~ x + I(x ** 2) + (1 | g)", data, reml=False)',
}


@pytest.mark.parametrize("name", but_for(CALLED, ["strata"]))
def test_a_call_is_made_with_the_source(name):
    data = skewed(table())
    parts = mfx.lmer("y ~ x + f + (1 | g)", lambda: iter([data[:150], data[150:]])).model
    found = ModelsOfSource(data).of_call(parts, CALLED[name])
    # Rows that lack a value of the fit, not of the call alone.
    used = data.dropna(subset=["y", "x", "f"])
    call = parsed_call(CALLED[name])
    function = getattr(mfx, call.function)
    reml = {"reml": False} if call.function == "lmer" else {}
    expected = function(str(call.formula), used, **{**call.literals, **reml}).model
    assert abs(found.deviance - expected.deviance) < 1e-7 * abs(expected.deviance)
    assert found.nobs == expected.nobs == len(used)


@pytest.mark.full
@pytest.mark.parametrize("length", [90, 300])
def test_other_families_are_tried_on_the_source(length):
    data = skewed(generalized.table())
    parts = lambda: (data[i : i + length] for i in range(0, len(data), length))  # noqa: E731
    for function, formula, options, in_chunks in (
        (mfx.lmer, "y ~ x + f + (1 | g)", {"weights": "w"}, {}),
        (mfx.glmer, "number ~ x + (1 | g)", {"family": "poisson"}, {"chunk_rows": 100}),
    ):
        whole = function(formula, data, **options).doctor(max_seconds=600.0)
        found = function(formula, parts, **options, **in_chunks)
        tried = [
            {w.code: w.tried for w in d.weaknesses if "family" in w.code or "disp" in w.code}
            for d in (whole, found.doctor(data=parts, max_seconds=600.0))
        ]
        assert tried[0] == tried[1] != {}


def test_a_call_that_takes_minutes_is_not_made(monkeypatch):
    parts = mfx.lmer("y ~ x + f + (1 | g)", rows).model
    with pytest.raises(RowsNotInMemory, match="reads all rows anew"):
        ModelsOfSource(None).of_call(parts, CALLED["family"])
    monkeypatch.setattr(called_fits, "_MOST_ROWS", 300)
    for name in ("family", "scale"):
        with pytest.raises(RowsNotInMemory, match="rows at each evaluation, which takes minutes"):
            ModelsOfSource(table()).of_call(parts, CALLED[name])
    assert ModelsOfSource(table()).of_call(parts, 'mfx.compare("y ~ x", data)') is None


@pytest.mark.full
@pytest.mark.parametrize("name", ["counts", "crossed"])
def test_blocks_are_examined_as_the_rows_are(name):
    chunks = generalized.in_chunks([120, 300])
    whole = generalized.in_memory(name).doctor(max_seconds=600.0)
    found = generalized.fitted(name, chunks, chunk_rows=90).doctor(max_seconds=600.0, data=chunks)
    assert_same_refits(found, whole)
    assert what(found) == what(whole)


@pytest.mark.full
@pytest.mark.parametrize(
    ("formula", "family"), [("count ~ f + (1 | g)", "poisson"), ("cbind(k, m) ~ f + (1 | g)", None)]
)
def test_merged_rows_are_examined_as_all_rows_are(formula, family, monkeypatch):
    data = generalized.table()
    chunks = [data[:250], data[250:]]
    monkeypatch.setattr("mixedfx.inference.checks.checked_rows.SAMPLE_ROWS", 300)
    fits = [mfx.glmer(formula, of, family or "binomial") for of in (data, lambda: iter(chunks))]
    whole, found = (fit.doctor(max_seconds=600.0) for fit in fits)
    assert_same_refits(found, whole)
    assert found.influence["number"].tolist() == whole.influence["number"].tolist()
    # Beta-binomial rows do not merge.
    assert not any("betabinomial" in w.code and "AIC" in w.tried for w in found.weaknesses)


def test_order_is_not_that_of_a_sample(monkeypatch):
    monkeypatch.setattr(sampling.Reservoir.__init__, "__defaults__", (100,))
    with pytest.raises(ArgumentError, match=r"order= is of neighbours, .* 100 random rows of 387"):
        diagnosed("slope", rows, order="x")


def test_a_source_is_of_rows_in_chunks():
    with pytest.raises(ArgumentError, match="leave it out"):
        diagnosed("slope", table(), data=table())


@pytest.mark.full
def test_plots_of_the_doctor_are_of_rows_in_chunks():
    plt = pytest.importorskip("matplotlib.pyplot")
    axes = mfx.lmer("y ~ x + (x | g)", rows).plot.doctor()
    np.ravel(axes)[0].figure.canvas.draw()
    plt.close("all")
