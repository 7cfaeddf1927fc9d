"""Profiles of several linear predictors: R's numbers, and models whose likelihood is a product."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from reference_models import FOLDER
from scipy import special

import mixedfx as mfx

SALAMANDERS = pd.read_csv(FOLDER / "generalized" / "data" / "Salamanders.csv")
# R 4.2.2, glmmTMB 1.1.5: confint(profile(m, npts = 20, stepfac = 0.25)) of
# glmmTMB(count ~ mined + (1 | site), zi = ~ mined, family = poisson), which interpolates a spline
# through the profile: that of the slope is off by 4e-5.
LIMITS = {
    "sd(Intercept | site)": (0.143138483, 0.560571815),
    "mined[T.yes]": (-1.741835657, -0.720858211),
}
INTERCEPT_OF_ZEROS = (-0.840343483, -0.362418653)


@pytest.mark.full
def test_limits_are_those_of_glmmtmb():
    options = {"family": "poisson", "zero_inflation": "~ mined"}
    fit = mfx.glmer("count ~ mined + (1 | site)", SALAMANDERS, **options)
    found = fit.conf_int(method="profile", parm=list(LIMITS))
    np.testing.assert_allclose(found, list(LIMITS.values()), atol=5e-5)
    of_zeros = fit.zero_inflation.conf_int(method="profile", parm="Intercept")
    np.testing.assert_allclose(of_zeros.iloc[0], INTERCEPT_OF_ZEROS, atol=2e-6)


@pytest.fixture(scope="module")
def counts():
    """200 counts of 10 groups, whose zeros have intercepts and slopes by group."""
    rng = np.random.default_rng(8)
    frame = pd.DataFrame({"x": rng.standard_normal(200), "g": np.arange(200) % 10})
    b, c, d = (rng.standard_normal(10)[frame["g"]] for _ in range(3))
    mean = np.exp(1.0 + 0.4 * frame["x"] + 0.5 * b)
    present = rng.random(200) < special.expit(0.5 + c + (1.0 + d) * frame["x"])
    return frame.assign(y=rng.poisson(mean) * present)


@pytest.mark.full
def test_profiles_of_a_hurdle_are_those_of_its_two_models(counts):
    # Without effects in common the likelihood is a product.
    options = {"family": "truncated_poisson", "zero_inflation": "~ x + (1 | g)"}
    both = mfx.glmer("y ~ x + (1 | g)", counts, **options)
    positive = mfx.glmer("y ~ x + (1 | g)", counts[counts["y"] > 0], "truncated_poisson")
    zero = mfx.glmer("I(y == 0) ~ x + (1 | g)", counts, "binomial")
    names = ["sd(Intercept | g)", "x"]
    found, expected = (f.profile(names, zetas=[-1.0, 1.0]) for f in (both, positive))
    pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1e-4)
    expected = zero.profile(names, zetas=[-1.0, 1.0])
    found = both.zero_inflation.profile(names, zetas=[-1.0, 1.0])
    pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.full
def test_a_correlation_of_the_zero_part_is_profiled_among_its_own_effects(counts):
    options = {"family": "truncated_poisson", "zero_inflation": "~ 1 + (x | g)"}
    both = mfx.glmer("y ~ 1 + (1 | g)", counts, **options)
    zero = mfx.glmer("I(y == 0) ~ 1 + (x | g)", counts, "binomial")
    name = "corr(Intercept, x | g)"
    found, expected = (f.profile(name, zetas=[-0.5]) for f in (both.zero_inflation, zero))
    np.testing.assert_allclose(found["value"], expected["value"], atol=1e-3)


@pytest.mark.full
def test_a_constant_dispersion_formula_has_the_profile_of_the_parameter(counts):
    one = mfx.glmer("y ~ x + (1 | g)", counts, "nbinom2")
    modelled = mfx.glmer("y ~ x + (1 | g)", counts, "nbinom2", dispersion="~ 1")
    found = modelled.profile("dispersion(Intercept)", zetas=[1.0])
    expected = one.profile("alpha", zetas=[1.0])
    np.testing.assert_allclose(np.exp(found["value"]), expected["value"], rtol=1e-3)
