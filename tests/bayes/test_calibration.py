"""Simulation-based calibration: parameters from the prior, data from them, and the posterior.

Source of truth: whatever the model, the rank of the parameter that made the data among draws of
its posterior is uniform (Cook, Gelman and Rubin 2006; Talts and others 2018, arXiv:1804.06788).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixedfx as mfx
from mixedfx.bayes.draws import draw_posterior
from mixedfx.design.build import build
from mixedfx.priors import LKJ, Exponential, HalfNormal, Normal
from mixedfx.priors.specification import match_priors

pytestmark = pytest.mark.slow

SETS, LEVELS, EACH = 500, 10, 5
# Draws are nearly independent, and are thinned to be more so: 99 of them have 100 ranks.
DRAWS, THIN = 396, 4
BINS = 20
PRIORS = {
    "Intercept": Normal(1, 2),
    "x": Normal(0, 1),
    "sd": HalfNormal(1),
    "sigma": Exponential(1),
}
MODELS = {
    "intercepts": ("y ~ 1 + x + (1 | g)", PRIORS),
    "slopes": ("y ~ 1 + x + (x | g)", {**PRIORS, "corr": LKJ(2)}),
}
QUANTITIES = {
    "intercepts": ["Intercept", "x", "sd 0", "sigma", "b 0"],
    "slopes": ["Intercept", "x", "sd 0", "sd 1", "corr", "sigma", "b 0", "b 1"],
}


def from_the_prior(name: str, rng: np.random.Generator) -> dict[str, float]:
    """Parameters from scipy's priors."""
    k = 1 if name == "intercepts" else 2
    made = {"Intercept": rng.normal(1.0, 2.0), "x": rng.normal(), "sigma": rng.exponential()}
    made |= {f"sd {a}": abs(rng.normal()) for a in range(k)}
    # Two effects: LKJ(2) is Beta(2, 2) on (-1, 1).
    return made | ({"corr": 2.0 * rng.beta(2.0, 2.0) - 1.0} if k == 2 else {})


def ranks_of_one(name: str, seed: int) -> dict[str, int]:
    rng = np.random.default_rng([seed, len(name)])
    made = from_the_prior(name, rng)
    g, x = np.repeat(np.arange(LEVELS), EACH), rng.normal(size=LEVELS * EACH)
    b = np.zeros((LEVELS, 2))
    noise = rng.standard_normal((LEVELS, 2))
    b[:, 0] = made["sd 0"] * noise[:, 0]
    if name == "slopes":
        r = made["corr"]
        b[:, 1] = made["sd 1"] * (r * noise[:, 0] + np.sqrt(1.0 - r**2) * noise[:, 1])
        made["b 1"] = b[3, 1]
    made["b 0"] = b[3, 0]
    mean = made["Intercept"] + b[g, 0] + (made["x"] + b[g, 1]) * x
    y = mean + made["sigma"] * rng.standard_normal(len(x))
    formula, priors = MODELS[name]
    design = build(mfx.parse(formula), pd.DataFrame({"y": y, "x": x, "g": g}))
    found = draw_posterior(
        design, match_priors(priors, design.spec), draws=DRAWS, chains=1, rng=rng
    )
    params, drawn = found.draws.params, found.draws
    values = {"Intercept": drawn.beta[:, 0], "x": drawn.beta[:, 1], "sigma": params.sigma}
    for a, sds in enumerate(params.sds[0]):
        values |= {f"sd {a}": sds, f"b {a}": drawn.random_effects[0][:, a, 3]}
    if name == "slopes":  # of two effects the partial correlation is the correlation
        values["corr"] = params.partials[0][0]
    return {q: int((v[THIN - 1 :: THIN] < made[q]).sum()) for q, v in values.items()}


@pytest.fixture(scope="module")
def ranks() -> dict[str, pd.DataFrame]:
    return {n: pd.DataFrame([ranks_of_one(n, seed) for seed in range(SETS)]) for n in MODELS}


@pytest.mark.parametrize(("name", "quantity"), [(n, q) for n in MODELS for q in QUANTITIES[n]])
def test_ranks_are_uniform(ranks, name, quantity):
    counts = np.histogram(ranks[name][quantity], BINS, (0, DRAWS // THIN + 1))[0]
    assert counts.sum() == SETS
    assert stats.chisquare(counts).pvalue > 0.001
