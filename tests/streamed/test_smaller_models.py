"""Refits of models whose rows were read in chunks: with terms left out, and with one fixed.

Source of truth: those of the fit of the same rows in memory.
"""

from __future__ import annotations

import gc
import pickle
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamed import generalized_cases as cases
from streamed import streamed_cases
from tiers import but_for, examples

import mixedfx as mfx
from mixedfx.errors import ArgumentError, RowsNotInMemory
from mixedfx.sources import array_blocks

pytestmark = pytest.mark.usefixtures("quiet")

Ask = Callable[[mfx.Results], Any]

# Statistics near zero, and p-values of them, are of deviances whose rounding is this.
ROUNDING = 1e-9
LINEAR = [*streamed_cases.MODELS, *streamed_cases.STRATA]
OTHER_LINEAR = but_for(LINEAR, ["crossed"])
OTHERS = but_for(list(cases.MODELS), ["binary"])


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    cases.with_small_blocks(monkeypatch)


def linear_in_chunks(name: str, cuts: tuple[int, ...] = (37, 150)) -> mfx.Results:
    rows = streamed_cases.table()
    ends = [0, *cuts, len(rows)]
    return streamed_cases.fit(name, lambda: [rows[a:b] for a, b in pairwise(ends)])


@cache
def linear_in_memory(name: str) -> mfx.Results:
    return streamed_cases.fit(name, streamed_cases.table())


def generalized_in_chunks(name: str, cuts: list[int] | None = None) -> mfx.Results:
    rows = cases.in_chunks([100, 290] if cuts is None else cuts)
    return cases.fitted(name, rows, chunk_rows=cases.N)


def assert_same(ask: Ask, whole: mfx.Results, parts: mfx.Results) -> None:
    """Relative to the largest of a column to 1e-8, and missing where it is."""
    a, b = ask(whole), ask(parts)
    if isinstance(a, pd.DataFrame):
        assert list(a.index) == list(b.index)
        assert list(a.columns) == list(b.columns)
        a, b = a.select_dtypes("number"), b.select_dtypes("number")
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    np.testing.assert_allclose(b, a, rtol=1e-8, atol=ROUNDING * max(1.0, np.abs(whole.deviance)))


def of_terms(fit: mfx.Results) -> dict[str, pd.DataFrame]:
    return {
        **({"ranova": fit.ranova()} if fit.formula.random else {}),
        "drop1": fit.drop1(),
        "ratios": fit.drop1(test="chisq"),
    }


def selected(fit: mfx.Results) -> mfx.Results:
    """Without the terms that tell least."""
    return fit.step(alpha_random=1e-3, alpha_fixed=1e-3).fit


# What a fit that was selected is asked for: it has summaries of all rows.
OF_SELECTED: dict[str, Ask] = {
    "tidy": lambda f: f.tidy(),
    "glance": lambda f: f.glance(),
    "anova": lambda f: f.anova(),
    "r2": lambda f: f.r2,
    "varcorr": lambda f: f.varcorr,
}


def assert_same_smaller_models(whole: mfx.Results, parts: mfx.Results) -> None:
    expected = of_terms(whole)
    for name in expected:
        assert_same(lambda f, name=name: of_terms(f)[name], whole, parts)
    a, b = selected(whole), selected(parts)
    assert str(b.formula) == str(a.formula)
    for ask in OF_SELECTED.values():
        assert_same(ask, a, b)


@pytest.mark.full
def test_terms_of_a_linear_model_are_tested_from_its_cross_products():
    assert_same_smaller_models(linear_in_memory("crossed"), linear_in_chunks("crossed"))


@pytest.mark.full
@pytest.mark.parametrize("name", OTHER_LINEAR)
def test_every_linear_model_has_the_smaller_ones_of_the_rows(name):
    assert_same_smaller_models(linear_in_memory(name), linear_in_chunks(name))


@pytest.mark.parametrize(("name", "term"), [("crossed", "h"), ("offset", "g"), ("far", "g")])
def test_the_exact_test_of_a_variance_is_that_of_the_rows(name, term):
    ask = lambda f: f.rlrt(term, n_sim=500, rng=1)  # noqa: E731
    assert_same(ask, linear_in_memory(name), linear_in_chunks(name))


@pytest.mark.full
def test_terms_of_a_generalised_model_are_tested_on_its_blocks():
    whole, parts = cases.in_memory("binary"), generalized_in_chunks("binary")
    for name in of_terms(whole):
        assert_same(lambda f, name=name: of_terms(f)[name], whole, parts)


@pytest.mark.full
@pytest.mark.parametrize("name", OTHERS)
def test_every_generalised_model_has_the_smaller_ones_of_the_rows(name):
    assert_same_smaller_models(cases.in_memory(name), generalized_in_chunks(name))


@pytest.mark.full
@given(cuts=st.lists(st.integers(1, cases.N - 1), max_size=9))
@examples(2)
def test_the_chunks_change_no_digit_of_tests(cuts):
    one, several = generalized_in_chunks("crossed", []), generalized_in_chunks("crossed", cuts)
    pd.testing.assert_frame_equal(several.ranova(), one.ranova(), check_exact=True)
    pd.testing.assert_frame_equal(several.drop1(), one.drop1(), check_exact=True)


# Parameters of each kind.
PROFILED = {
    "crossed": ["x", "sd(Intercept | h)", "corr(Intercept, x | g)"],
    "weights": ["scale(x)", "phi"],
    "ordered": ["x"],
}


@pytest.mark.full
@pytest.mark.parametrize("name", PROFILED)
def test_profiles_are_those_of_the_rows(name):
    whole, parts = cases.in_memory(name), generalized_in_chunks(name)
    assert_same(lambda f: f.conf_int(parm=PROFILED[name], method="profile"), whole, parts)


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in cases.MODELS if name != "no effects"])
def test_levels_are_pooled_as_in_memory(name):
    whole, parts = cases.in_memory(name), generalized_in_chunks(name)
    for group in whole.formula.groups:
        assert_same(lambda f, group=group: f.pooling(group), whole, parts)


@pytest.mark.full
def test_imputed_data_sets_are_pooled():
    frames = [cases.table().assign(x=lambda t, i=i: t["x"] + 3.0 * i * t["o"]) for i in range(3)]
    pooled = [
        mfx.pool([mfx.glmer("yes ~ x + (1 | g)", frame, chunk_rows=rows) for frame in frames])
        for rows in (None, 120)
    ]
    numbers = [table.select_dtypes("number") for table in pooled]
    np.testing.assert_allclose(numbers[1], numbers[0], rtol=1e-6)


@pytest.mark.full
def test_the_posterior_of_a_linear_model_is_drawn_from_its_cross_products():
    pytest.importorskip("arviz_base")
    pytest.importorskip("arviz_stats")
    whole, parts = (
        fit.sample(draws=2000, rng=1, progress=False)
        for fit in (linear_in_memory("crossed"), linear_in_chunks("crossed"))
    )
    for name, draws in parts["posterior"].data_vars.items():
        others = whole["posterior"][name]
        difference = draws.mean(("chain", "draw")) - others.mean(("chain", "draw"))
        assert float(np.abs(difference / others.std(("chain", "draw"))).max()) < 0.15
    assert "log_likelihood" not in parts.children
    assert "log_likelihood" in whole.children


@pytest.mark.full
def test_averages_over_rows_take_some():
    whole, parts = linear_in_memory("crossed"), linear_in_chunks("crossed")
    some = streamed_cases.table().dropna()
    assert_same(lambda f: f.comparisons(data=some), whole, parts)
    for ask in (lambda f: f.comparisons(), lambda f: f.predictions()):
        with pytest.raises(RowsNotInMemory, match=r"give some of them, .* as data="):
            ask(parts)


# ---------------------------------------------------------------- responses that are drawn


def optimum(fit: mfx.Results) -> pd.Series:
    """Estimates of a complete fit, whose search ends with a Newton step."""
    return pd.Series({"deviance": fit.deviance, **fit.params, **fit.family_params})


# Of these a row takes its random numbers after those of the row before, so that draws are the same.
DRAWN = ["binary", "crossed", "weights", "successes", "trials", "ordered", "expression"]


@pytest.mark.full
@pytest.mark.parametrize("random", ["new", "fitted"])
@pytest.mark.parametrize("name", DRAWN)
def test_responses_are_drawn_and_fitted_as_in_memory(name, random):
    whole, parts = (
        fit.bootstrap(2, rng=1, random=random, progress=False, statistic=optimum)
        for fit in (cases.in_memory(name), generalized_in_chunks(name))
    )
    assert len(parts.draws) == len(whole.draws) == 2
    np.testing.assert_allclose(parts.draws, whole.draws, rtol=1e-7, atol=1e-7)


@pytest.mark.full
@pytest.mark.parametrize("name", ["binary", "weights", "successes"])
def test_parameters_of_draws_are_those_of_rows_in_memory(name):
    # Their searches end where a step would gain 1e-8, and begin elsewhere.
    whole, parts = (
        fit.bootstrap(3, rng=1, progress=False)
        for fit in (cases.in_memory(name), generalized_in_chunks(name))
    )
    assert list(parts.draws) == list(whole.draws)
    errors = np.abs(parts.draws - whole.draws) / cases.in_memory(name).bse.max()
    assert float(errors.max(axis=None)) < 1e-3
    assert parts.singular == whole.singular


@pytest.mark.full
@given(cuts=st.lists(st.integers(1, cases.N - 1), max_size=9))
@examples(2)
def test_the_chunks_change_no_digit_of_draws(cuts):
    one, several = (
        generalized_in_chunks("dispersed", c).bootstrap(2, rng=1, progress=False).draws
        for c in ([], cuts)
    )
    pd.testing.assert_frame_equal(several, one, check_exact=True)


@pytest.mark.full
def test_a_statistic_of_a_draw_is_of_its_response_and_leaves_the_fit_as_it_was():
    whole, parts = cases.in_memory("binary"), generalized_in_chunks("binary")
    before = parts.ranova()

    def statistic(fit: mfx.Results) -> list[float]:
        return [fit.ranova()["llf"].iloc[-1], fit.icc.iloc[0], fit.family_deviance]

    draws = [
        f.bootstrap(2, rng=1, progress=False, statistic=statistic).draws for f in (whole, parts)
    ]
    np.testing.assert_allclose(draws[1], draws[0], rtol=1e-6)
    pd.testing.assert_frame_equal(parts.ranova(), before, check_exact=True)


@pytest.mark.full
@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda f: f.bootstrap(2, kind="cases"), "take kind='parametric'"),
        (lambda f: f.bootstrap(2, n_jobs=2), "leave n_jobs= and client= out"),
        (lambda f: f.profile(parm=["x"], n_jobs=2), "leave n_jobs= and client= out"),
    ],
)
def test_what_cannot_be_drawn_from_a_file_says_why(ask, message):
    with pytest.raises(ArgumentError, match=message):
        ask(generalized_in_chunks("binary"))


# ---------------------------------------------------------------- where the rows are


def test_sums_are_part_of_a_kept_fit(tmp_path: Path):
    parts = linear_in_chunks("crossed")
    parts.save(tmp_path / "fit.mfx")
    for again in (pickle.loads(pickle.dumps(parts)), mfx.read(tmp_path / "fit.mfx")):
        pd.testing.assert_frame_equal(again.ranova(), parts.ranova(), check_exact=True)


@pytest.mark.full
def test_the_file_is_not_and_that_is_said(tmp_path: Path):
    parts = generalized_in_chunks("binary")
    parts.save(tmp_path / "fit.mfx")
    kept = pickle.loads(pickle.dumps(parts)), mfx.read(tmp_path / "fit.mfx"), parts.slim()
    for again in kept:
        with pytest.raises(RowsNotInMemory, match=r"fit\.ranova needs .*Fit the model again"):
            again.ranova()
        assert str(again.summary()) == str(parts.summary())


def test_the_file_is_there_as_long_as_the_fit(monkeypatch: pytest.MonkeyPatch):
    stores = []
    init = array_blocks.ArrayBlocks.__init__

    def remembered(self: array_blocks.ArrayBlocks, n_bytes: float) -> None:
        init(self, n_bytes)
        stores.append(self.close)

    monkeypatch.setattr(array_blocks.ArrayBlocks, "__init__", remembered)
    parts = generalized_in_chunks("no effects")
    assert [close.alive for close in stores] == [True]
    del parts
    gc.collect()
    assert [close.alive for close in stores] == [False]
