"""Links that limit the linear predictor: a search that reaches the limit says so.

There is no number to compare with: glmmTMB 1.1.5 ends such fits with an error of eigen().
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ConvergenceWarning, SearchError
from mixedfx.families import resolve_family


def logistic(seed):
    """Answers of a logistic model, whose probabilities go to one."""
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(20), 10), rng.normal(size=200)
    p = 1.0 / (1.0 + np.exp(-(0.3 + 0.8 * x + 0.7 * rng.normal(size=20)[g])))
    return pd.DataFrame({"y": (rng.random(200) < p).astype(int), "x": x, "g": g})


def test_links_without_a_limit():
    assert resolve_family("binomial", "logit").other_links == ()
    assert resolve_family("binomial", "log").other_links == (
        "logit",
        "probit",
        "cloglog",
        "cauchit",
    )
    assert resolve_family("poisson", "identity").other_links == ("log",)
    assert resolve_family("gamma", "inverse").other_links == ("log",)
    assert resolve_family("gaussian", "log").other_links == ()


@pytest.mark.full
@pytest.mark.kept("101")
@pytest.mark.parametrize("seed", [101, 102])
def test_a_fit_that_reaches_the_limit_names_other_links(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            fit = mfx.glmer("y ~ x + (1 | g)", logistic(seed), link="log")
        except SearchError as error:
            said = str(error)
        else:
            assert not fit.converged
            said = " ".join(fit.notes)
            assert str(fit.certificate)
    assert "without a limit" in said.lower()
    assert "logit, probit" in said


def test_the_other_link_fits():
    assert mfx.glmer("y ~ x + (1 | g)", logistic(103), link="logit").converged


@pytest.mark.full
def test_modes_at_the_limit_of_a_link_are_an_error_that_names_other_links():
    # Zero counts by the identity link have their density's maximum at a mean of zero.
    rng = np.random.default_rng(5038)
    rng.choice(7), rng.choice(3)
    n, levels = int(rng.integers(30, 300)), int(rng.integers(3, 25))
    g, _, x = rng.integers(levels, size=n), rng.integers(5, size=n), rng.normal(size=n)
    mean = 2.0 + 0.3 * np.abs(rng.normal(size=levels))[g] + 0.1 * np.clip(x, -2.0, 2.0)
    data = pd.DataFrame({"y": rng.poisson(mean), "x": x, "g": g})
    with pytest.raises(SearchError, match=r"without a limit \(log\)"):
        mfx.glmer("y ~ x + (x | g)", data, "poisson", link="identity")
