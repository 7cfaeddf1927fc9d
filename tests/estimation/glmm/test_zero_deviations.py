"""A heterogeneous structure with a standard deviation of zero: the boundary is reached and probed.

By such a deviation the deviance has a kink at zero, where a search cannot converge: on either side
the covariances with the other effects rise from zero, linearly. The certificate is the truth here:
first and second order conditions, and the slope off the boundary.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx

FORMULA = "y ~ x + csh(0 + v | g)"


def answers(seed: int) -> pd.DataFrame:
    """Nine answers by each of twelve subjects, of which the second kind does not vary."""
    rng = np.random.default_rng(seed)
    g, v = np.repeat(np.arange(12), 9), np.tile(list("abc"), 36)
    x = rng.normal(size=108)
    effects = rng.normal(size=(12, 3)) * np.array([0.6, 0.0, 0.3])
    eta = 0.3 + 0.3 * x + effects[g, pd.Categorical(v).codes]
    y = rng.binomial(1, 1.0 / (1.0 + np.exp(-eta)))
    return pd.DataFrame({"y": y, "x": x, "v": v, "g": g})


@pytest.mark.cases(3)
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
def test_the_search_ends_at_an_optimum_that_is_probed(seed):
    fit = mfx.glmer(FORMULA, answers(seed))
    assert fit.converged, fit.convergence


@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
def test_another_correlation_is_no_better():
    # The effect that does not vary tells no correlation: held at its estimate, the others do.
    fit = mfx.glmer(FORMULA, answers(1))
    others = [mfx.glmer(FORMULA, answers(1), start=[0.3, 0.1, 0.3, x]) for x in (-3.0, 0.0, 3.0)]
    assert fit.deviance <= min(other.deviance for other in others) + 1e-6
