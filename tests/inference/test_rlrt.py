"""The exact test of a variance: RLRsim's p-values, the distribution by fits, and its size.

Source of truth: exactRLRT of RLRsim 3.1-8 with 100,000 draws, on lme4 1.1-31.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError, SizeError
from mixedfx.inference.rlrt import null_draws, spectrum

pytestmark = pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")

PENICILLIN, PASTES = mfx.datasets.load("Penicillin"), mfx.datasets.load("Pastes")
SLEEP, DYESTUFF = mfx.datasets.load("sleepstudy"), mfx.datasets.load("Dyestuff")


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("formula", "data", "term", "statistic", "p_value"),
    [
        ("Reaction ~ Days + (1 | Subject)", SLEEP, None, 107.2, 0.0),
        ("diameter ~ 1 + (1 | plate)", PENICILLIN, None, 0.17402, 0.313),
        ("strength ~ 1 + (1 | batch)", PASTES, "batch", 8.5837, 0.00115),
        ("strength ~ 1 + (1 | batch/cask)", PASTES, "(1 | batch)", 0.65766, 0.1787),
        ("Yield ~ 1 + (1 | Batch)", DYESTUFF, "(1 | Batch)", 6.369, 0.0045),
    ],
    ids=["sleepstudy", "Penicillin", "Pastes", "nested", "Dyestuff"],
)
def test_p_values_are_rlrsims(formula, data, term, statistic, p_value):
    n_sim = 40_000
    found = mfx.lmer(formula, data).rlrt(term, n_sim=n_sim, rng=7)
    assert found["statistic"] == pytest.approx(statistic, abs=6e-3 if statistic > 100 else 6e-5)
    # Four standard errors of both simulations.
    error = np.sqrt(p_value * (1 - p_value) * (1 / n_sim + 1e-5))
    assert found["p_value"] == pytest.approx(p_value, abs=4 * error + 1e-4)


@pytest.mark.slow
def test_the_distribution_is_that_of_fits_without_the_effect():
    rng, g = np.random.default_rng(5), np.repeat(np.arange(6), 3)
    x = rng.standard_normal(18)
    data = pd.DataFrame({"y": rng.standard_normal(18), "x": x, "g": g})
    fit = mfx.lmer("y ~ x + (1 | g)", data, engine="profiled")
    Y = pd.DataFrame(rng.standard_normal((18, 400)))
    null = mfx.lmer("y ~ x", data)
    statistics = [null.refit(Y[i]).deviance - fit.refit(Y[i]).deviance for i in Y]
    mu = spectrum(fit.model.rows, 0)[0]
    draws = null_draws(mu, 16 - len(mu), 20_000, np.random.default_rng(1))
    zero = np.mean(np.array(statistics) < 1e-6)
    assert zero == pytest.approx((draws < 1e-6).mean(), abs=0.1)
    for q in (0.8, 0.9, 0.95):
        assert np.mean(statistics > np.quantile(draws, q)) == pytest.approx(1 - q, abs=0.06)


def test_without_variance_the_p_value_is_one():
    fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff2"))
    assert fit.rlrt()["p_value"] == 1.0


def test_weights_are_those_of_the_rows():
    # Two rows of weight one are one of weight two with their mean, but for the residual df.
    data = DYESTUFF.assign(w=2.0)
    once, twice = (mfx.lmer("Yield ~ 1 + (1 | Batch)", data, weights=w) for w in (None, "w"))
    mu = spectrum(once.model.rows, 0)[0]
    np.testing.assert_allclose(spectrum(twice.model.rows, 0)[0], 2.0 * mu)


def test_a_seed_gives_the_same_p_value():
    fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", DYESTUFF)
    assert fit.rlrt(rng=3).equals(fit.rlrt(rng=3))


@pytest.mark.parametrize(
    ("fit", "term", "message"),
    [
        (lambda: mfx.lmer("Reaction ~ Days + (Days | Subject)", SLEEP), None, "one variance"),
        (lambda: mfx.lmer("strength ~ 1 + (1 | batch/cask)", PASTES), None, "one of the terms"),
        (lambda: mfx.lmer("strength ~ 1 + (1 | batch/cask)", PASTES), "cask", "term"),
        (lambda: mfx.lmer("Reaction ~ Days", SLEEP), None, "no random term"),
        (lambda: mfx.lmer("Yield ~ 1 + (1 | Batch)", DYESTUFF, reml=False), None, "REML"),
    ],
    ids=["slopes", "several", "unknown", "none", "maximum likelihood"],
)
@pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")
def test_what_has_no_such_test_is_refused(fit, term, message):
    with pytest.raises(ArgumentError, match=message):
        fit().rlrt(term)


def test_a_spectrum_beyond_memory_is_refused_before_it_is_allocated(monkeypatch):
    fit = mfx.lmer("Reaction ~ 1 + (1 | Subject)", mfx.datasets.load("sleepstudy"))
    monkeypatch.setattr("mixedfx.linalg.available_memory.available_memory", lambda: 1e3)
    monkeypatch.setattr("mixedfx.linalg.available_memory._ALWAYS_AVAILABLE", 0.0)
    with pytest.raises(SizeError, match=r"rlrt\(\) of 18 levels .* ranova\(\)"):
        fit.rlrt()
