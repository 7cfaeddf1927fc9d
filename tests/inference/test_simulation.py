"""Simulated responses: the moments of the textbook, and draws that depend on nothing else."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest
from oracle import dense_z, lambdas
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import ArgumentError
from mixedfx.inference.simulation import simulate

MODELS = {
    "slope": ("y ~ x + (x | g)", {}),
    "crossed": ("y ~ x + (1 | g) + (1 | h)", {}),
    "two terms of a group": ("y ~ x + (1 | g) + (0 + x | g)", {}),
    "nested": ("y ~ 1 + (1 | h/g)", {"reml": False}),
    "weights": ("y ~ x + (x || g)", {"weights": "w"}),
    "offset": ("y ~ x + (1 | g)", {"offset": "o"}),
    "no fixed effects": ("y ~ 0 + (1 | g)", {}),
    "no random terms": ("y ~ x", {"weights": "w", "offset": "o"}),
}
RANDOM = ("new", "fitted")
DRAWS = 4000
# Monte Carlo standard errors. Of the ten thousand moments compared, right ones exceed five with a
# chance of less than one in a hundred, and the seeds are fixed.
FAR = 5.0

pytestmark = pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(11)
    n = 36
    g, h = np.repeat(np.arange(6), 6), np.tile(np.arange(4), 9)
    frame = pd.DataFrame({"g": g, "h": h, "x": rng.normal(size=n), "w": rng.uniform(0.2, 5, n)})
    slopes = rng.normal(size=6)[g] * frame["x"]
    effects = 2 * rng.normal(size=6)[g] + 1.5 * rng.normal(size=4)[h] + slopes
    o = rng.normal(10, 5, n)
    return frame.assign(o=o, y=3 + frame["x"] + effects + rng.normal(size=n))


@pytest.fixture(scope="module")
def fits(data):
    return {name: mfx.lmer(formula, data, **options) for name, (formula, options) in MODELS.items()}


def textbook(results, kind):
    """Mean and covariance of a response, from dense matrices."""
    design, sigma = results.model.design, results.sigma
    n = design.rows.n
    w = np.ones(n) if design.rows.weights is None else design.rows.weights
    V = sigma**2 * np.diag(1 / w)
    if kind == "fitted":
        return results.fittedvalues.to_numpy(), V
    for random_term, lam in zip(
        design.rows.random_terms, lambdas(design, results.theta), strict=True
    ):
        Z = dense_z(random_term)
        V += sigma**2 * Z @ np.kron(np.eye(random_term.n_levels), lam @ lam.T) @ Z.T
    return results.predict(random="none").to_numpy(), V


def whitened(results, kind):
    """Responses less their mean, times the inverse root of their covariance: standard normal."""
    mean, V = textbook(results, kind)
    drawn = simulate(results.model, DRAWS, rng=3, random=kind).to_numpy()
    return np.linalg.solve(np.linalg.cholesky(V), drawn - mean[:, None])


every_model = pytest.mark.parametrize("name", but_for(MODELS, list(MODELS)[::2]))
every_kind = pytest.mark.parametrize("kind", RANDOM)


@pytest.mark.full
@pytest.mark.covering(1)
@every_model
@every_kind
def test_the_mean_of_responses_is_the_textbooks(fits, name, kind):
    z = whitened(fits[name], kind)
    assert np.abs(z.mean(axis=1)).max() < FAR / np.sqrt(DRAWS)


@pytest.mark.full
@pytest.mark.covering(1)
@every_model
@every_kind
def test_the_covariance_of_responses_is_the_textbooks(fits, name, kind):
    z = whitened(fits[name], kind)
    found, expected = z @ z.T / DRAWS, np.eye(len(z))
    assert np.abs((found - expected) / np.sqrt((1 + expected) / DRAWS)).max() < FAR


def test_rows_are_labelled_as_in_the_data(data):
    holed = data.assign(x=data["x"].where(data.index != 7)).rename(index=lambda i: f"r{i}")
    fit = mfx.lmer("y ~ x + (1 | g)", holed).model
    assert list(simulate(fit, 2, rng=1).index) == [f"r{i}" for i in range(36) if i != 7]


def test_columns_are_numbered(fits):
    assert list(simulate(fits["slope"].model, 3, rng=1).columns) == [0, 1, 2]


def test_one_response_is_drawn_unless_more_are_asked_for(fits):
    assert simulate(fits["slope"].model, rng=1).shape == (36, 1)


def test_a_seed_gives_the_same_responses_again(fits):
    fit = fits["weights"].model
    pd.testing.assert_frame_equal(simulate(fit, 3, rng=4), simulate(fit, 3, rng=4))


def test_a_response_does_not_depend_on_how_many_follow(fits):
    fit = fits["slope"].model
    few, many = simulate(fit, 3, rng=4), simulate(fit, 8, rng=4)
    pd.testing.assert_frame_equal(few, many[[0, 1, 2]])


def test_a_generator_gives_what_its_seed_gives(fits):
    fit = fits["slope"].model
    made = simulate(fit, 3, rng=np.random.default_rng(4))
    pd.testing.assert_frame_equal(made, simulate(fit, 3, rng=4))


def test_a_generator_goes_on(fits):
    rng = np.random.default_rng(4)
    first, second = (simulate(fits["slope"].model, 1, rng=rng) for _ in range(2))
    assert not first.equals(second)


def test_no_seed_gives_other_responses_each_time(fits):
    fit = fits["slope"].model
    assert not simulate(fit, 1).equals(simulate(fit, 1))


def test_the_global_random_state_is_not_touched(fits):
    before, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    simulate(fits["slope"].model, 2)
    after = np.random.get_state()  # noqa: NPY002
    assert random.getstate() == before
    assert (after[1] == legacy[1]).all()
    assert after[2:] == legacy[2:]


@every_kind
def test_the_fit_is_not_changed(data, kind):
    results = mfx.lmer("y ~ x + (x | g)", data, weights="w", offset="o")
    before = (
        str(results.summary()),
        results.model.rows.response_less_offset.copy(),
        results.fittedvalues,
    )
    simulate(results.model, 2, rng=1, random=kind)
    assert str(results.summary()) == before[0]
    np.testing.assert_array_equal(results.model.rows.response_less_offset, before[1])
    pd.testing.assert_series_equal(results.fittedvalues, before[2])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n": 0}, "n=0 must be a positive integer"),
        ({"n": -3}, "n=-3 must be a positive integer"),
        ({"n": 2.5}, "n=2.5 must be a positive integer"),
        ({"n": True}, "n=True must be a positive integer"),
        ({"random": "all"}, "'new', 'fitted'"),
        ({"random": None}, "'new', 'fitted'"),
        ({"rng": -1}, "rng=-1 must be a seed"),
        ({"rng": "one"}, "rng='one' must be a seed"),
        ({"rng": 1.5}, "rng=1.5 must be a seed"),
    ],
)
def test_an_argument_that_cannot_be_understood_is_named(fits, arguments, words):
    with pytest.raises(ArgumentError, match=words):
        simulate(fits["slope"].model, **arguments)
