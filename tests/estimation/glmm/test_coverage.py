"""Coverage of 95 % intervals of generalised fits, by simulation from known parameters."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import mixedfx as mfx

DRAWS = 200
BETA, SD = np.array([0.4, -0.5]), 0.7


def _draw(family: str, rng: np.random.Generator) -> pd.DataFrame:
    levels, rows = 60, 10
    g, x = np.repeat(np.arange(levels), rows), rng.normal(size=levels * rows)
    eta = BETA[0] + BETA[1] * x + SD * rng.normal(size=levels)[g]
    if family == "poisson":
        return pd.DataFrame({"y": rng.poisson(np.exp(eta)), "x": x, "g": g})
    return pd.DataFrame({"y": rng.binomial(1, special.expit(eta)), "x": x, "g": g})


@pytest.mark.slow
@pytest.mark.parametrize("family", ["binomial", "poisson"])
def test_wald_intervals_cover_and_z_values_are_standard_normal(family):
    rng = np.random.default_rng(20)
    z, sds = [], []
    for _ in range(DRAWS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = mfx.glmer("y ~ x + (1 | g)", _draw(family, rng), family)
        z.append((fit.params.to_numpy() - BETA) / fit.bse.to_numpy())
        sds.append(fit.theta[0])
    covered = (np.abs(z) < stats.norm.ppf(0.975)).mean(axis=0)
    # Four standard errors of a share of 0.95.
    np.testing.assert_allclose(covered, 0.95, atol=4 * np.sqrt(0.95 * 0.05 / DRAWS))
    np.testing.assert_allclose(np.std(z, axis=0), 1.0, atol=0.15)
    # Maximum likelihood of a variance, and Laplace of 0 and 1, are a little biased downwards.
    assert np.mean(sds) == pytest.approx(SD, abs=0.06)
