"""Residual bootstrap of Carpenter, Goldstein and Rasbash (2003).

Source of truth: its definition (given the fit, effects and residuals are drawn from sets with mean
zero and exactly the covariances of the fit), and exact standard errors of balanced designs.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError
from mixedfx.inference.bootstrap.residual import resampled_response

pytestmark = pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
FAR = 5.0


@cache
def sleep() -> mfx.Results:
    data = mfx.datasets.load("sleepstudy")
    return mfx.lmer("Reaction ~ Days + (Days | Subject)", data, engine="profiled")


def _data() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    g, h = np.repeat(np.arange(12), 10), np.tile(np.arange(5), 24)
    x, w = rng.normal(size=120), rng.uniform(0.5, 2.0, 120)
    y = x + rng.normal(size=12)[g] + rng.normal(size=5)[h] + rng.normal(size=120) / np.sqrt(w)
    return pd.DataFrame({"y": y, "x": x, "w": w, "g": g, "h": h, "k": np.tile(list("ab"), 60)})


MODELS = {
    "slope": ("y ~ x + (x | g)", {}),
    "crossed": ("y ~ x + (1 | g) + (1 | h)", {}),
    "three effects": ("y ~ x + (x + w | g)", {}),
    "singular": ("y ~ x + (k + x | h)", {}),
    "weights and offset": ("y ~ x + (x || g)", {"weights": "w", "offset": "x"}),
    "dispersion": ("y ~ x + (1 | g)", {"dispersion": "~ k"}),
    "no random terms": ("y ~ x", {}),
}


@pytest.mark.kept("slope", "singular", "weights and offset")
@pytest.mark.parametrize("name", MODELS)
def test_draws_are_from_the_moments_of_the_fit(name):
    formula, options = MODELS[name]
    fit = mfx.lmer(formula, _data(), **options)
    drawn = resampled_response(fit.model)
    sigma = fit.model.solution.sigma
    for b, lam in zip(drawn.effects, fit.model.solution.lambdas, strict=True):
        np.testing.assert_allclose(b.mean(axis=1), 0.0, atol=1e-12)
        rank = min(len(b), b.shape[1] - 1)
        if rank == len(b):
            expected = sigma**2 * lam @ lam.T
            np.testing.assert_allclose(b @ b.T / b.shape[1], expected, rtol=1e-7, atol=1e-9)
    assert drawn.residuals.mean() == pytest.approx(0.0, abs=1e-12)
    assert np.square(drawn.residuals).mean() == pytest.approx(1.0, rel=1e-12)
    np.testing.assert_allclose(drawn.sds, fit.residual_sd)


def test_effects_keep_the_order_and_the_shape_of_the_modes():
    # One effect: a positive multiple of the centred modes.
    fit = mfx.lmer("y ~ x + (1 | g)", _data())
    (b,) = resampled_response(fit.model).effects
    modes = fit.ranef("g")["Intercept"].to_numpy()
    ratio = b[0] / (modes - modes.mean())
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
    assert ratio[0] > 1.0  # modes are shrunk


def test_two_effects_are_reflated_as_by_carpenter_goldstein_and_rasbash():
    # U* = U A with A = (L_R L_S^-1)', lower Cholesky factors of the estimate and of U'U / J.
    (b,) = resampled_response(sleep().model).effects
    U = sleep().ranef("Subject").to_numpy()
    U = U - U.mean(axis=0)
    L_S = np.linalg.cholesky(U.T @ U / len(U))
    L_R = np.linalg.cholesky(sleep().cov_re.to_numpy())
    np.testing.assert_allclose(b.T, U @ (L_R @ np.linalg.inv(L_S)).T, rtol=1e-6, atol=1e-8)


@cache
def many_draws() -> pd.DataFrame:
    return sleep().bootstrap(300, rng=1, progress=False, kind="residual").draws


@pytest.mark.full
@pytest.mark.parametrize("name", ["Intercept", "Days"])
def test_standard_errors_are_walds_in_a_balanced_design(name):
    # There the estimates are those of least squares whatever theta, and y* has the fit's V.
    drawn = many_draws()[name]
    n = len(drawn)
    assert abs(drawn.std() / sleep().bse[name] - 1) < FAR / np.sqrt(2 * n)
    assert abs(drawn.mean() - sleep().params[name]) < FAR * sleep().bse[name] / np.sqrt(n)


def test_a_draw_is_the_refit_of_the_drawn_response():
    drawn = sleep().bootstrap(1, rng=4, progress=False, kind="residual").draws.iloc[0]
    rng = np.random.default_rng(4).spawn(1)[0]
    again = sleep().refit(resampled_response(sleep().model).draw(rng))
    np.testing.assert_allclose(drawn[["Intercept", "Days"]], again.params, rtol=1e-8)


def test_draws_follow_the_units_of_the_response():
    one, two = (
        mfx.lmer("y ~ x + (1 | g)", _data().assign(y=lambda d, a=a: 5 * a + (a + 1) * d["y"]))
        for a in (0, 1)
    )
    a, b = (f.bootstrap(3, rng=1, progress=False, kind="residual").draws for f in (one, two))
    np.testing.assert_allclose(b["x"], 2.0 * a["x"], rtol=1e-6)
    np.testing.assert_allclose(b["Intercept"], 5.0 + 2.0 * a["Intercept"], rtol=1e-6)


def test_models_without_one_distribution_of_residuals_are_refused():
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    herds = mfx.glmer(formula, mfx.datasets.load("cbpp"), "binomial")
    with pytest.raises(ArgumentError, match="linear models"):
        herds.bootstrap(2, kind="residual", progress=False)
    data = mfx.datasets.load("sleepstudy")
    correlated = mfx.lmer("Reaction ~ Days", data, residual="ar1(Days | Subject)")
    with pytest.raises(ArgumentError, match="independent residuals"):
        correlated.bootstrap(2, kind="residual", progress=False)


def test_the_kind_is_in_the_representation():
    found = sleep().bootstrap(2, rng=1, progress=False, kind="residual")
    assert repr(found).startswith("<mixedfx.Bootstrap: 2 draws of resampled residuals, 0 failed")
