"""Ordinary fits are certified, and a fit that is stopped early is not.

Source of truth: the model that the data were drawn from; a fit with another limit on evaluations.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import MixedfxWarning

SEEDS = but_for(range(300), range(0, 300, 60))


def ordinary_set(seed):
    """Data of one to three factors with intercepts, or slopes by a column in its usual units."""
    rng = np.random.default_rng([12, seed])
    n = int(10.0 ** rng.uniform(1.8, 2.8))
    kind = rng.choice(["standard", "year", "days", "income"])
    x = {
        "standard": rng.normal(size=n),
        "year": rng.integers(1990, 2025, n) * 1.0,
        "days": rng.integers(0, 10, n) * 1.0,
        "income": np.exp(rng.normal(10.0, 0.6, n)),
    }[kind]
    z, sigma = (x - x.mean()) / x.std(), 10.0 ** rng.uniform(-1.0, 2.0)
    y, data, terms = sigma * (rng.normal(size=n) + z), {"x": x}, []
    for name in "ghk"[: int(rng.integers(1, 4))]:
        codes = rng.integers(0, int(rng.integers(5, max(6, n // 8) + 1)), n)
        levels = codes.max() + 1
        y += sigma * (rng.choice([0.0, 0.5, 1.0, 3.0]) * rng.normal(size=levels))[codes]
        effects = rng.choice(["1 |", "1 |", "x |"] + ["x ||"] * (kind in ("standard", "days")))
        if effects != "1 |":
            y += sigma * (rng.choice([0.0, 0.5, 1.0]) * rng.normal(size=levels))[codes] * z
        terms.append(f"({effects} {name})")
        data[name] = codes
    data["y"] = y
    return f"y ~ x + {' + '.join(terms)}", pd.DataFrame(data), bool(rng.random() < 0.5)


def fit_of(seed, **kwargs):
    formula, data, reml = ordinary_set(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixedfxWarning)
        return mfx.lmer(formula, data, reml=reml, engine="profiled", **kwargs)


@pytest.mark.slow_beyond(80)
@pytest.mark.kept("60", "120")
@pytest.mark.parametrize("seed", SEEDS)
def test_an_ordinary_fit_is_certified_and_one_stopped_early_is_not(seed):
    fit = fit_of(seed)
    assert fit.converged, fit.notes
    # No point that the search has seen is lower than its end.
    assert fit.deviance < min(fit.model.optimizer_result.trace) + 1e-8
    stopped = fit_of(seed, control=mfx.Control(max_evaluations=2))
    if stopped.deviance > fit.deviance + 1e-5:
        assert not stopped.converged
