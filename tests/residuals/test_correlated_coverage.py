"""Coverage of intervals of a treatment effect in a small trial, simulated.

Source of truth: the nominal level. Twenty patients of three visits with free covariances: the
normal law covers 0.87, Satterthwaite 0.91, Kenward and Roger 0.95. The approximation has its limit:
of twelve patients of four visits, ten free covariances, it covers 0.875, and Satterthwaite 0.77.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import MixedfxWarning

METHODS = ("normal", "satterthwaite", "kenward-roger")
DRAWS = 400


def covered(seed):
    """Whether 95% intervals of the effect, zero, contain it, by method."""
    rng, n, visits = np.random.default_rng(seed), 20, 3
    R = 0.6 ** np.abs(np.subtract.outer(np.arange(visits), np.arange(visits)))
    y = rng.multivariate_normal(np.zeros(visits), R, n).ravel()
    data = pd.DataFrame({"id": np.repeat(np.arange(n), visits), "visit": np.tile(range(visits), n)})
    data = data.assign(arm=data["id"] % 2, y=y)[rng.random(n * visits) > 0.1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixedfxWarning)
        fit = mfx.lmer("y ~ arm + C(visit)", data, residual="us(visit | id)")
    tables = [fit.tidy(df_method=m).set_index("term").loc["arm"] for m in METHODS]
    return [t["conf_low"] <= 0.0 <= t["conf_high"] for t in tables]


@pytest.mark.slow
def test_kenward_and_roger_cover_better_than_satterthwaite_in_a_small_trial():
    normal, satterthwaite, kenward_roger = np.mean([covered(seed) for seed in range(DRAWS)], axis=0)
    assert normal < satterthwaite < kenward_roger
    # Three standard errors of a share of 400 draws are 0.033.
    assert kenward_roger == pytest.approx(0.95, abs=0.033)
