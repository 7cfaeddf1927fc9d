"""Bootstrap of linear fits whose rows were read in chunks: responses are drawn as sums.

Source of truth: the bootstrap of the same rows in memory, up to the Monte Carlo error of both.
"""

from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from streamed import streamed_cases
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import ArgumentError, SizeError
from mixedfx.linalg import available_memory

pytestmark = pytest.mark.usefixtures("quiet")

NAMES = [*streamed_cases.MODELS, *streamed_cases.STRATA]


def in_chunks(name):
    rows = streamed_cases.table()
    return streamed_cases.fit(name, lambda: [rows[a:b] for a, b in pairwise([0, 37, 150, 400])])


def draws(fit, n=200, **options):
    options = {"rng": 1, "progress": False, **options}
    return fit.bootstrap(n, **options).draws


@pytest.mark.full
@pytest.mark.slow_beyond(6)
@pytest.mark.parametrize("random", ["new", "fitted"])
@pytest.mark.parametrize("name", NAMES)
def test_draws_have_the_means_and_deviations_of_rows_in_memory(name, random):
    n = 200
    whole = draws(streamed_cases.fit(name, streamed_cases.table()), n, rng=2, random=random)
    parts = draws(in_chunks(name), n, random=random)
    assert list(parts) == list(whole)
    of_both = (whole.var() / len(whole) + parts.var() / len(parts)) ** 0.5
    z = (parts.mean() - whole.mean()) / of_both.where(of_both > 0.0, 1.0)
    assert float(z.abs().max()) < 4.5
    ratio = (parts.std() / whole.std().where(whole.std() > 0.0, 1.0)).replace(0.0, 1.0)
    assert float(np.log(ratio).abs().max()) < 0.5


@pytest.mark.full
@pytest.mark.parametrize("name", ["crossed", "strata"])
def test_draws_are_about_the_estimates(name):
    fit = in_chunks(name)
    found = fit.bootstrap(100, rng=1, progress=False)
    z = (found.draws.mean() - found.estimates) / (found.draws.std() / 10.0)
    assert float(z[list(fit.params.index)].abs().max()) < 4.0
    assert abs(float(z["sigma"])) < 4.0
    ratio = found.draws[list(fit.params.index)].std() / fit.bse
    assert 0.7 < float(ratio.min()) < float(ratio.max()) < 1.4


@pytest.mark.full
def test_draws_depend_on_the_seed_alone():
    fit = in_chunks("crossed")
    again = [fit, pickle.loads(pickle.dumps(fit)), fit]
    found = [draws(f, 4, n_jobs=jobs) for f, jobs in zip(again, (1, 1, 2), strict=True)]
    for other in found[1:]:
        pd.testing.assert_frame_equal(other, found[0], rtol=1e-10)


CUTS = ([0, 400], [0, 37, 150, 400], [*range(0, 400, 9), 400])


@pytest.mark.parametrize("name", but_for(NAMES, ["slope", "crossed", "strata"]))
def test_draws_do_not_depend_on_the_chunks(name, monkeypatch):
    rows = streamed_cases.table()
    sources = [lambda cuts=cuts: [rows[a:b] for a, b in pairwise(cuts)] for cuts in CUTS]
    found = [draws(streamed_cases.fit(name, source), 3) for source in sources]
    streamed_cases.read_twice(monkeypatch)  # in other bases
    found.append(draws(streamed_cases.fit(name, rows, chunk_rows=64), 3))
    for other in found[1:]:
        for column, values in found[0].items():
            size = max(1e-3, float(values.abs().max()))
            np.testing.assert_allclose(other[column], values, rtol=1e-6, atol=1e-6 * size)


@pytest.mark.parametrize(
    "name", but_for(["slope", "crossed", "strata", "least squares"], ["slope"])
)
def test_a_statistic_is_of_the_drawn_response(name):
    fit = in_chunks(name)
    before = (str(fit.summary()), fit.drop1())

    def statistic(f):
        return {"r2": f.r2.iloc[0], "F": f.drop1()["F"].iloc[-1], "x": f.params.iloc[-1]}

    found = draws(fit, 5, statistic=statistic)
    np.testing.assert_allclose(found["x"], draws(fit, 5).iloc[:, len(fit.params) - 1], rtol=1e-6)
    assert (found.std() > 0.0).all()
    assert str(fit.summary()) == before[0]
    pd.testing.assert_frame_equal(fit.drop1(), before[1], check_exact=True)


@pytest.mark.full
def test_rows_of_the_sample_have_no_drawn_response():
    found = draws(in_chunks("slope"), 2, statistic=lambda f: f.model.rows.random_sample.y.mean())
    assert found.isna().all(axis=None)
    draws(in_chunks("slope"), 2, statistic=lambda f: len(str(f.summary())))


@pytest.mark.full
def test_models_that_were_reduced_are_drawn_from_too():
    fit = in_chunks("crossed").step(alpha_random=1e-9, alpha_fixed=1e-9).fit
    assert fit.formula != in_chunks("crossed").formula
    found = fit.bootstrap(60, rng=1, progress=False, statistic=lambda f: [*f.params, *f.icc])
    assert not found.failures
    z = (found.draws.mean() - found.estimates) / (found.draws.std() / 60**0.5)
    assert float(z.iloc[: len(fit.params)].abs().max()) < 4.0


@pytest.mark.full
def test_more_effects_than_rows_leave_squares_to_the_span_alone():
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"g": np.arange(60) // 2, "h": rng.permutation(60) // 2})
    data["y"] = (
        rng.normal(size=60) + rng.normal(size=30)[data["g"]] + rng.normal(size=30)[data["h"]]
    )
    whole = mfx.lmer("y ~ 1 + (1 | g) + (1 | h)", data)
    parts = mfx.lmer("y ~ 1 + (1 | g) + (1 | h)", data, chunk_rows=20)
    one, other = draws(whole, 300, rng=2), draws(parts, 300)
    z = (one.mean() - other.mean()) / ((one.var() + other.var()) / 300) ** 0.5
    assert float(z.abs().max()) < 4.0


def test_intervals_by_the_bootstrap_are_those_of_draws():
    fit = in_chunks("slope")
    found = fit.conf_int(method="bootstrap", parm=["x"], rng=1, n=30)
    assert (found.iloc[0, 0] < fit.params["x"]) & (fit.params["x"] < found.iloc[0, 1])


@pytest.mark.parametrize("kind", ["residual", "cases"])
def test_what_resamples_rows_says_that_there_are_none(kind):
    with pytest.raises(ArgumentError, match="take kind='parametric'"):
        in_chunks("slope").bootstrap(2, kind=kind)


def test_a_root_that_memory_cannot_hold_is_refused_before_it_is_made(monkeypatch):
    fit = in_chunks("crossed")
    monkeypatch.setattr(available_memory, "_ALWAYS_AVAILABLE", 0)
    monkeypatch.setattr(available_memory, "available_memory", lambda: 100.0)
    with pytest.raises(SizeError, match="responses of rows that are not in memory are drawn"):
        fit.bootstrap(2, rng=1, progress=False)


def test_many_strata_that_memory_cannot_hold_are_refused_before_they_are_made(monkeypatch):
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"g": np.arange(1200) % 40, "s": np.arange(1200) % 300})
    data["y"] = rng.normal(size=40)[data["g"]] + rng.normal(size=1200)
    fit = mfx.lmer("y ~ 1 + (1 | g)", lambda: iter([data]), dispersion="~ s")
    monkeypatch.setattr(available_memory, "available_memory", lambda: 1e6)
    with pytest.raises(SizeError, match="for each of 300 strata of dispersion=: 2 MB"):
        fit.bootstrap(2, rng=1, progress=False)


# ---------------------------------------------------------------- resampled levels


@pytest.mark.parametrize("name", ["slope", "offset", "transforms"])
def test_resampled_levels_are_those_of_rows_in_memory(name):
    parts = in_chunks(name).bootstrap(
        20, rng=1, kind="cases", data=streamed_cases.source, progress=False
    )
    whole = streamed_cases.fit(name, streamed_cases.table(), engine="profiled")
    expected = whole.bootstrap(20, rng=1, kind="cases", progress=False)
    pd.testing.assert_frame_equal(parts.frequencies, expected.frequencies)
    assert repr(parts) == repr(expected)
    np.testing.assert_allclose(parts.draws, expected.draws, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(parts.estimates, expected.estimates, rtol=1e-5, atol=1e-6)


SEVERAL = {
    "nested": ("y ~ year + (1 | school/g)", None),
    "nested slopes": ("y ~ x + (x | school) + (x | g) + (1 | f:g)", None),
    "innermost first": ("y ~ x + (1 | f:g) + (1 | g) + (1 | school)", None),
    "crossed": ("y ~ x + (x | g) + (1 | h)", "g"),
    "the other of crossed": ("y ~ x + (x | g) + (1 | h)", "h"),
    "nested beside crossed": ("y ~ x + (1 | school/g) + (1 | h)", "school"),
    "nested in what stays": ("y ~ x + (1 | school) + (1 | g) + (1 | h)", "g"),
    "all crossed": ("y ~ x + (1 | f) + (1 | h) + (1 | g)", "g"),
}


@pytest.mark.parametrize("length", [37, 250])
@pytest.mark.parametrize("name", but_for(SEVERAL, ["nested"]))
def test_levels_nested_in_those_that_are_drawn_are_copied_with_them(name, length):
    (formula, groups), rows = SEVERAL[name], streamed_cases.table()
    source = lambda: (rows[i : i + length] for i in range(0, len(rows), length))  # noqa: E731
    options = {"rng": 1, "kind": "cases", "groups": groups, "progress": False}
    parts = mfx.lmer(formula, source).bootstrap(8, data=source, **options)
    expected = mfx.lmer(formula, rows, engine="profiled").bootstrap(8, **options)
    pd.testing.assert_frame_equal(parts.frequencies, expected.frequencies)
    assert repr(parts) == repr(expected)
    np.testing.assert_allclose(parts.draws, expected.draws, rtol=1e-4, atol=1e-5)


@pytest.mark.full
def test_a_statistic_of_copied_levels_has_their_labels():
    def labels(fit):
        return {"n": len(fit.ranef()["school:g"]), "dots": sum("." in str(i) for i in at(fit))}

    def at(fit):
        return fit.ranef()["school:g"].index

    rows, source = streamed_cases.table(), streamed_cases.source
    fits = [mfx.lmer("y ~ year + (1 | school/g)", d, engine="profiled") for d in (rows, source)]
    options = {"rng": 2, "kind": "cases", "statistic": labels, "progress": False}
    expected = fits[0].bootstrap(5, **options).draws
    pd.testing.assert_frame_equal(fits[1].bootstrap(5, data=source, **options).draws, expected)
    long = fits[1].bootstrap(
        2, data=source, **options | {"statistic": lambda f: len(str(f.summary()))}
    )
    assert not long.failures


@pytest.mark.parametrize(
    ("name", "message"),
    [("crossed", "has 2: take"), ("weights", "one residual variance"), ("strata", "one residual")],
)
def test_levels_without_sums_of_their_own_are_not_resampled(name, message):
    with pytest.raises(ArgumentError, match=message):
        in_chunks(name).bootstrap(2, kind="cases", data=streamed_cases.source)


def test_a_source_is_of_resampled_levels():
    with pytest.raises(ArgumentError, match="leave it out"):
        in_chunks("slope").bootstrap(2, data=streamed_cases.source)
    with pytest.raises(ArgumentError, match="the rows of this fit are in memory: leave it out"):
        streamed_cases.fit("slope", streamed_cases.table()).bootstrap(2, data=[])
