"""Predictions of rows by posterior draws.

Source of truth: with all covariances held, Henderson's prediction errors and the variance of a new
level, of ``fit.predict``; the draws themselves, put together by hand; the design's own rows.
"""

from __future__ import annotations

import pickle
from functools import cache

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError, NewLevelError
from mixedfx.priors import Constant

HELD = {"theta": Constant([0.9, 0.3, 0.7]), "sigma": Constant(30.0)}
NEW = pd.DataFrame(
    {"Days": [0, 9, 9, 4], "Subject": ["308", "someone", "someone", "another"]}, index=list("abcd")
)
# Each claim is about a mean of N draws, in its Monte-Carlo standard errors.
MOST = 4.5


def sleepstudy() -> pd.DataFrame:
    return mfx.datasets.load("sleepstudy")


@cache
def held() -> tuple:
    fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleepstudy(), priors=HELD)
    return fit, fit.sample(4000, rng=1)


def flat(draws) -> np.ndarray:
    return draws.to_numpy().reshape(-1, draws.sizes["row"])


@pytest.mark.full
@pytest.mark.parametrize(("kind", "interval"), [("mean", None), ("response", "prediction")])
def test_rows_are_drawn_with_hendersons_prediction_errors(kind, interval):
    fit, tree = held()
    drawn = flat(tree.predict(NEW, kind=kind, rng=2))
    told = fit.predict(NEW, new_levels="population", interval=interval or "confidence", se=True)
    half = (told["conf_high"] - told["conf_low"]).to_numpy() / 2.0 / 1.959964
    if kind == "mean":  # confidence limits do not have the variance of new levels
        cov = 30.0**2 * np.array([[0.9, 0.0], [0.3, 0.7]]) @ np.array([[0.9, 0.3], [0.0, 0.7]])
        x = np.column_stack([np.ones(4), NEW["Days"]])
        half = np.sqrt(half**2 + [0.0, 1.0, 1.0, 1.0] * np.einsum("ij,jk,ik->i", x, cov, x))
    n = len(drawn)
    assert (np.abs(drawn.mean(axis=0) - told["predicted"]) / half).max() < MOST / np.sqrt(n)
    assert np.abs(drawn.std(axis=0) / half - 1.0).max() < MOST / np.sqrt(2 * n)


@pytest.mark.full
def test_a_new_level_has_one_effect_in_all_its_rows():
    _, tree = held()
    drawn = flat(tree.predict(NEW, rng=2))
    np.testing.assert_array_equal(drawn[:, 1], drawn[:, 2])
    assert abs(np.corrcoef(drawn[:, 1], drawn[:, 3])[0, 1]) < 0.5


@cache
def crossed() -> tuple:
    rng = np.random.default_rng(1)
    g, h = np.repeat(np.arange(8), 5), np.tile(np.arange(5), 8)
    data = pd.DataFrame({"g": g, "h": h, "x": rng.normal(size=40)})
    data["w"], data["kind"] = np.exp(0.3 * rng.normal(size=40)), np.resize(["p", "q", "q"], 40)
    data["o"] = rng.normal(size=40)
    data["y"] = data["o"] + rng.normal(size=8)[g] + rng.normal(size=5)[h] + rng.normal(size=40)
    return data, {}


MODELS = {
    "crossed": ("y ~ x + (x | g) + (1 | h)", {"offset": "o", "weights": "w"}),
    "strata": ("y ~ x + (1 | g)", {"offset": "o", "dispersion": "~ kind"}),
    "known": ("y ~ x + (1 | g)", {"residual_sd": "w"}),
    "nothing random": ("y ~ x", {}),
}


@cache
def tree_of(name: str):
    formula, options = MODELS[name]
    fit = mfx.lmer(formula, crossed()[0], **options)
    return fit.sample(50, chains=2, rng=1)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")
@pytest.mark.parametrize("kind", ["mean", "response"])
@pytest.mark.parametrize("name", MODELS)
def test_the_fits_own_rows_are_predicted_as_any_rows(name, kind):
    tree, data = tree_of(name), crossed()[0]
    own, new = tree.predict(kind=kind, rng=3), tree.predict(data, kind=kind, rng=3)
    np.testing.assert_allclose(own, new, rtol=1e-9, atol=1e-9)
    assert own.dims == ("chain", "draw", "row")
    assert own.name == "y"


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")
def test_missing_values_are_missing_and_new_levels_may_be_zero():
    tree, data = tree_of("crossed"), crossed()[0]
    rows = data.head(3).assign(h=[0, 99, 99], g=[0, 1, None])
    found = tree.predict(rows, new_levels="population")
    posterior = tree["posterior"]
    beta, b = posterior["beta"].to_numpy(), posterior["b_g"].to_numpy()[:, :, 1]
    x, o = rows["x"].iloc[1], rows["o"].iloc[1]
    expected = o + beta[..., 0] + b[..., 0] + x * (beta[..., 1] + b[..., 1])
    np.testing.assert_allclose(found[:, :, 1], expected, rtol=1e-9)
    assert np.isnan(found[:, :, 2]).all()
    assert not np.isnan(found[:, :, :2]).any()


@pytest.mark.full
def test_a_seed_gives_the_same_predictions():
    _, tree = held()
    one, other = (tree.predict(NEW, kind="response", rng=5) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert (tree.predict(NEW, kind="response", rng=6) != one).all()


@pytest.mark.full
def test_new_levels_are_an_error_where_that_is_asked_for():
    with pytest.raises(NewLevelError, match=r"row b has a level of 'Subject'.*new_levels='draw'"):
        held()[1].predict(NEW, new_levels="error")


@pytest.mark.full
@pytest.mark.parametrize("options", [{"kind": "pps"}, {"new_levels": "zero"}, {"rng": "a"}])
def test_bad_arguments_are_refused_by_name(options):
    with pytest.raises(ArgumentError, match=f"{next(iter(options))}='"):
        held()[1].predict(NEW, **options)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")
def test_a_copy_has_no_model_and_a_pickle_has():
    tree = tree_of("nothing random")
    with pytest.raises(ArgumentError, match=r"this tree is a copy.*fit.sample\(\)"):
        tree.copy().predict()
    kept = pickle.loads(pickle.dumps(tree))
    np.testing.assert_array_equal(kept.predict(), tree.predict())


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")
def test_memberships_are_of_the_fits_own_rows():
    data = crossed()[0].assign(k=lambda d: (d["g"] + 1) % 8)
    fit = mfx.lmer("y ~ x + (1 | mm(g, k))", data)
    tree = fit.sample(50, chains=2, rng=1)
    assert tree.predict().shape == (2, 50, 40)
    with pytest.raises(ArgumentError, match=r"Leave the data out"):
        tree.predict(data)
