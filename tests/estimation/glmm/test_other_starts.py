"""Several maxima of the likelihood by the correlations of a term: the search ends at the highest.

Source of truth: the highest likelihood of searches that begin at each point of a grid.
"""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import MixedfxWarning


@pytest.mark.full
@pytest.mark.parametrize(("name", "seed"), [("gau", 2), ("exp", 4)])
def test_a_field_of_counts_ends_at_the_highest_likelihood(name, seed):
    # One search ended 1.47 and 0.37 below the maximum, and was certified.
    rng = np.random.default_rng(seed)
    x = rng.normal(size=24)
    lon, lat = rng.uniform(0.0, 3.0, size=(2, 24)).round(2)
    rng.choice(list("abc"), 24), rng.choice(list("pqrs"), 24)  # as the seeds were found
    y = rng.poisson(3.0 * np.exp(0.6 * rng.normal(size=24)))
    table = pd.DataFrame({"y": y, "x": x, "lon": lon, "lat": lat})

    def fit(**start):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MixedfxWarning)
            return mfx.glmer(f"y ~ x + {name}(lon + lat | 1)", table, "poisson", **start)

    grid = itertools.product([0.3, 1.0], [-3.0, -2.0, -1.0, 0.0, 1.0])
    highest = max(fit(start=theta).llf for theta in grid)
    found = fit()
    assert found.llf > highest - 1e-6
    assert found.converged
