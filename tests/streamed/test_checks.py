"""Checks of fits whose rows were read in chunks, or merged.

Source of truth: Henderson's equations and quadrature for the draws, and the checks of the rows in
memory for what is checked and what fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import probabilities_of_counts
from scipy import stats
from streamed import generalized_cases as generalized
from streamed.streamed_cases import fit, table
from tiers import examples

import mixedfx as mfx
from mixedfx.design.stream import sampling
from mixedfx.inference.checks import checked_rows
from mixedfx.inference.checks.checked_rows import given_data
from mixedfx.linalg.random_streams import spawn_generators

DATA = table()
COUNT = 800
pytestmark = pytest.mark.filterwarnings("ignore")  # rows left out


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generalized.with_small_blocks(monkeypatch)


def parts(frame: pd.DataFrame, n: int = 90) -> Any:
    def rows() -> Iterator[pd.DataFrame]:
        for start in range(0, len(frame), n):
            yield frame.iloc[start : start + n]

    return rows


def what(checks: Any) -> set[tuple[str, str]]:
    return set(zip(checks.table["check"], checks.table["what"], strict=True))


@pytest.fixture(scope="module")
def crossed() -> mfx.Results:
    return fit("crossed", parts(DATA))


# ---------------------------------------------------------------- draws


@pytest.mark.full
@pytest.mark.parametrize("weights", [None, "w"])
def test_effects_from_sums_have_the_moments_of_hendersons_equations(weights):
    data = table(120).dropna()
    part = mfx.lmer("y ~ x + (1 | g) + (1 | h)", parts(data), weights=weights)
    indicators = [pd.get_dummies(data[name]).to_numpy(float) for name in "gh"]
    T = np.hstack([np.ones((len(data), 1)), data[["x"]], *indicators])
    variances = part.varcorr["vcov"].to_numpy()[:2]
    penalty = [np.full(Z.shape[1], 1 / v) for Z, v in zip(indicators, variances, strict=True)]
    w = np.ones(len(data)) if weights is None else data[weights].to_numpy()
    precision = (T.T * w) @ T / part.scale + np.diag(np.r_[0.0, 0.0, np.concatenate(penalty)])
    expected = np.linalg.inv(precision)[2:, 2:]
    draws = given_data(part.model).draws(spawn_generators(0, COUNT))
    b = np.array([np.concatenate([of[0] for of in draw.effects]) for draw in draws])
    modes = np.concatenate([part.ranef(name)["Intercept"] for name in "gh"])
    df = len(data) - 2
    size = df / (df - 2)  # sigma is drawn too
    assert (np.abs(b.mean(axis=0) - modes) < 4.5 * np.sqrt(np.diag(expected) / COUNT)).all()
    root = np.linalg.cholesky(expected * size)
    whitened = np.linalg.solve(root, (b - modes).T)
    np.testing.assert_allclose(np.diag(whitened @ whitened.T) / COUNT, 1.0, atol=0.25)
    assert np.abs(np.corrcoef(whitened) - np.eye(len(expected))).max() < 0.2


@pytest.mark.full
def test_effects_of_single_counts_in_a_file_are_drawn_from_their_density():
    rng = np.random.default_rng(4)
    y = rng.poisson(np.exp(-0.5 + 1.5 * rng.normal(size=400)))
    data = pd.DataFrame({"y": y, "row": range(400)})
    part = mfx.glmer("y ~ 1 + (1 | row)", data, "poisson", chunk_rows=90)
    intercept, sd = part.params["Intercept"], part.varcorr["sdcor"].iloc[0]
    draws = given_data(part.model).draws(spawn_generators(1, 10))
    zeros = y == 0
    found = [
        probabilities_of_counts(
            draw.effects[0][0][zeros], y[zeros], draw.eta[0] - draw.effects[0][0, 0], sd
        )
        for draw in draws
    ]
    assert stats.kstest(np.concatenate(found), "uniform").pvalue > 0.01
    assert abs(np.mean([draw.eta[0] - draw.effects[0][0, 0] for draw in draws]) - intercept) < 0.2


# ---------------------------------------------------------------- checks


@pytest.mark.full
@given(st.integers(30, 200), st.sampled_from(["slope", "strata of crossed"]))
@examples(3)
def test_checks_are_the_same_for_any_chunks(n, name):
    one = fit(name, DATA, chunk_rows=10_000).check(n_sim=20).table
    other = fit(name, parts(DATA, n)).check(n_sim=20).table
    np.testing.assert_allclose(other["p_value"], one["p_value"], rtol=1e-6)


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["slope", "strata", "weights"])
def test_the_checks_are_those_of_the_rows(name):
    whole, part = fit(name, DATA).check(n_sim=50), fit(name, parts(DATA)).check(n_sim=50)
    assert what(part) == what(whole)
    assert part.notes == ()
    assert len(part.failed) == len(whole.failed)


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["counts", "crossed", "amount"])
def test_the_checks_of_blocks_are_those_of_the_rows(name):
    of_name = "weights" if name == "amount" else name
    whole = generalized.in_memory(of_name).check(n_sim=50)
    part = generalized.fitted(of_name, generalized.in_chunks([120, 300]), chunk_rows=90)
    found = part.check(n_sim=50)
    assert what(found) == what(whole)
    strong = whole.table["p_adjusted"] < 1e-3
    sure = set(whole.table.loc[strong, "check"])
    assert sure <= set(found.failed["check"])


def curved(n: int = 3000, groups: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    g = rng.integers(0, groups, n)
    frame = pd.DataFrame({"g": g, "x": rng.normal(size=n), "z": rng.normal(size=groups)[g]})
    effects = rng.normal(size=groups)[g] + 0.8 * frame["z"] ** 2
    frame["y"] = frame["x"] + 0.5 * frame["x"] ** 2 + effects + rng.normal(size=n)
    return frame


def test_a_sample_says_what_it_is_and_what_is_not_checked(monkeypatch):
    monkeypatch.setattr(sampling.Reservoir.__init__, "__defaults__", (500,))
    checks = mfx.lmer("y ~ x + z + (1 | g)", parts(curved(), 700)).check(n_sim=20)
    failed = what(type(checks)(checks.failed))
    assert {("residuals", "x"), ("conditional modes", "g: Intercept by z")} <= failed
    assert ("residuals", "g") not in what(checks)
    text = " ".join(checks.notes)
    assert "Residuals are those of 500 of 3,000 rows, drawn at random" in text
    assert "Not checked: residuals and their spread by g, of whose levels" in text
    assert "Not checked: autocorrelation" in text
    assert checks.sentences[-1] in str(checks).replace("\n  ", " ")


def test_what_is_constant_within_levels_is_not_guessed_from_single_rows(monkeypatch):
    monkeypatch.setattr(sampling.Reservoir.__init__, "__defaults__", (40,))
    data = curved()
    data["g"] = np.arange(len(data)) // 2  # two rows a level, of which the sample has one
    checks = mfx.lmer("y ~ x + (1 | g)", parts(data, 700)).check(n_sim=20)
    assert "conditional modes" not in set(checks.table["check"])


@pytest.mark.full
def test_plots_of_checks_say_that_rows_are_a_sample(monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setattr(sampling.Reservoir.__init__, "__defaults__", (500,))
    part = mfx.lmer("y ~ x + z + (1 | g)", parts(curved(), 700))
    figure = np.ravel(part.plot.check(n_sim=20))[0].figure
    figure.canvas.draw()
    text = [t.get_text() for ax in figure.axes for t in ax.texts]
    assert any("500 random rows" in one for one in text)
    plt.close("all")


# ---------------------------------------------------------------- merged rows


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("formula", "family"),
    [
        ("yes ~ f + (1 | g)", "binomial"),
        ("cbind(k, m) ~ f + (1 | g)", "binomial"),
        ("count ~ f + (1 | g)", "poisson"),
    ],
)
def test_merged_rows_are_checked_one_by_one(formula, family):
    data = generalized.table()
    part = mfx.glmer(formula, parts(data), family)
    assert part.model.rows.n < part.nobs
    whole, found = mfx.glmer(formula, data, family).check(n_sim=50), part.check(n_sim=50)
    assert what(found) == what(whole)
    assert found.notes == ()
    strong = set(whole.table.loc[whole.table["p_adjusted"] < 1e-3, "check"])
    assert strong <= set(found.failed["check"])
    assert not any("weights=" in code for code in found.to_try)  # of numbers of equal rows


@pytest.mark.full
def test_a_zero_part_of_merged_rows_is_checked():
    data = generalized.table()
    arguments = {"family": "nbinom2", "zero_inflation": "~ 1"}
    part = mfx.glmer("count ~ f + (1 | g)", parts(data), **arguments)
    whole = mfx.glmer("count ~ f + (1 | g)", data, **arguments)
    assert what(part.check(n_sim=20)) == what(whole.check(n_sim=20))


def test_many_merged_rows_are_sampled(monkeypatch):
    monkeypatch.setattr(checked_rows, "SAMPLE_ROWS", 200)
    part = mfx.glmer("yes ~ f + (1 | g)", parts(generalized.table()))
    assert "those of 200 of 500 rows" in part.check(n_sim=20).notes[0]
