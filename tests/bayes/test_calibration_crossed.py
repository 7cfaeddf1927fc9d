"""Simulation-based calibration of ten standard deviations and correlations, crossed.

Source of truth: as in test_calibration, ranks are uniform. So many parameters are drawn by
importance resampling, from one proposal of transformed coordinates.
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

SETS, ROWS, FIRST, SECOND = 100, 80, 10, 8
DRAWS, THIN, BINS = 990, 10, 10
PRIORS = {
    "Intercept": Normal(1, 2),
    "x": Normal(0, 1),
    "sd": HalfNormal(1),
    "sigma": Exponential(1),
    "corr": LKJ(2),
}
QUANTITIES = ["Intercept", "x", "sigma", "sd 0", "sd 1", "sd 2", "sd 3", "sd 4", "corr 0", "corr 1"]
QUANTITIES += ["corr 2", "b", "c"]


def root_from_lkj(k: int, rng: np.random.Generator) -> np.ndarray:
    """Cholesky factor of a draw from LKJ(2), by partial correlations (Lewandowski et al. 2009)."""
    root = np.zeros((k, k))
    for i in range(k):
        remaining = 1.0
        for j in range(i):
            shape = 2.0 + 0.5 * (k - 2 - j)
            partial = 2.0 * rng.beta(shape, shape) - 1.0
            root[i, j] = partial * np.sqrt(remaining)
            remaining *= 1.0 - partial**2
        root[i, i] = np.sqrt(remaining)
    return root


def ranks_of_one(seed: int) -> dict[str, int]:
    rng = np.random.default_rng([seed, 77])
    made = {"Intercept": rng.normal(1.0, 2.0), "x": rng.normal(), "sigma": rng.exponential()}
    g, h = np.arange(ROWS) % FIRST, np.arange(ROWS) // FIRST % SECOND
    x, z = rng.normal(size=ROWS), rng.normal(size=ROWS)
    sds = np.abs(rng.normal(size=5))
    made |= {f"sd {a}": sd for a, sd in enumerate(sds)}
    of_g, of_h = root_from_lkj(3, rng), root_from_lkj(2, rng)
    made |= {"corr 0": of_g[1, 0], "corr 1": of_g[2, 0], "corr 2": of_h[1, 0]}
    b = rng.standard_normal((FIRST, 3)) @ (sds[:3, None] * of_g).T
    c = rng.standard_normal((SECOND, 2)) @ (sds[3:, None] * of_h).T
    made |= {"b": b[3, 1], "c": c[2, 0]}
    mean = made["Intercept"] + b[g, 0] + c[h, 0] + (made["x"] + b[g, 1] + c[h, 1]) * x + b[g, 2] * z
    y = mean + made["sigma"] * rng.standard_normal(ROWS)
    data = pd.DataFrame({"y": y, "x": x, "z": z, "g": g, "h": h})
    design = build(mfx.parse("y ~ 1 + x + (x + z | g) + (x | h)"), data)
    found = draw_posterior(
        design, match_priors(PRIORS, design.spec), draws=DRAWS, chains=1, rng=rng
    )
    assert found.chains.sampler == "importance resampling"
    params, drawn = found.draws.params, found.draws
    values = {"Intercept": drawn.beta[:, 0], "x": drawn.beta[:, 1], "sigma": params.sigma}
    values |= {f"sd {a}": column for a, column in enumerate(np.concatenate(params.sds))}
    # Of a first row and of two effects partial correlations are the correlations.
    partials = (params.partials[0][0], params.partials[0][1], params.partials[1][0])
    values |= {f"corr {a}": column for a, column in enumerate(partials)}
    values |= {"b": drawn.random_effects[0][:, 1, 3], "c": drawn.random_effects[1][:, 0, 2]}
    return {q: int((values[q][THIN - 1 :: THIN] < made[q]).sum()) for q in QUANTITIES}


@pytest.fixture(scope="module")
def ranks() -> pd.DataFrame:
    return pd.DataFrame([ranks_of_one(seed) for seed in range(SETS)])


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_ranks_are_uniform(ranks, quantity):
    counts = np.histogram(ranks[quantity], BINS, (0, DRAWS // THIN + 1))[0]
    assert counts.sum() == SETS
    assert stats.chisquare(counts).pvalue > 0.001
