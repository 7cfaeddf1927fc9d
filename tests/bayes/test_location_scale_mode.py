"""Priors beside random terms of the residual standard deviation.

Source of truth: the dense density of the response with the coefficients' normal priors in its
covariance, its integral by Laplace's approximation of scipy's optimum and numerical derivatives
(``Integrand``), and the densities of the priors written out.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from estimation.dispersion.test_random import Integrand
from estimation.dispersion.test_several_terms import small
from oracle import lambdas, marginal
from scipy import stats

import mixedfx as mfx
from mixedfx.bayes.draws import log_posterior
from mixedfx.errors import PriorError
from mixedfx.priors import LKJ, Constant, Exponential, Gamma, HalfNormal, Normal

FORMULA, DISPERSION = "y ~ x + (1 | g)", "~ kind + (1 | g) + (1 | h)"
OF_COEFFICIENTS = {"Intercept": Normal(0.8, 0.2), "x": Normal(0.3, 0.1)}
OF_SDS = {
    "sd(Intercept | g)": HalfNormal(0.4),
    "sd(dispersion | g)": HalfNormal(0.3),
    "sd(dispersion | h)": Gamma(3, 8),
    "dispersion(kind[T.wild])": Normal(0, 0.2),
    "sigma": HalfNormal(0.7),
}
PRIORS = OF_COEFFICIENTS | OF_SDS


def fitted(priors=None, dispersion: str = DISPERSION) -> mfx.Results:
    return mfx.lmer(FORMULA, small(), dispersion=dispersion, priors=priors)


@cache
def at_mode() -> mfx.Results:
    return fitted(PRIORS)


class WithPriors(Integrand):
    """The response is normal about ``X m``, with ``X S X'`` in its covariance."""

    def given(self, point):
        roots, gamma, taus, _ = np.split(point, self.parts)
        G = [lam @ lam.T for lam in lambdas(self.design, roots)]
        base = np.exp(self.model.model.rows.residual.D @ gamma)
        X, y = self.design.rows.X, self.design.rows.y
        m, s = ([getattr(p, name) for p in OF_COEFFICIENTS.values()] for name in ("mean", "sd"))

        def deviance(u):
            sds = base * np.exp(self.log_sds(taus, u))
            V = marginal(self.design, G, sds, reml=False, beta=np.array(m)).V
            V = V + X @ np.diag(np.square(s)) @ X.T
            r = y - X @ m
            logs = np.linalg.slogdet(V)[1] + len(y) * np.log(2.0 * np.pi)
            return float(logs + r @ np.linalg.solve(V, r) + u @ u)

        return deviance


def log_prior(point: np.ndarray) -> float:
    """Of sd(g), the three coefficients of log sigma, and the two standard deviations of it."""
    sd, log_sigma, wild, tau_g, tau_h = point
    return float(
        stats.halfnorm(scale=0.4).logpdf(abs(sd))
        + stats.halfnorm(scale=0.3).logpdf(abs(tau_g))
        + stats.gamma(3, scale=1 / 8).logpdf(abs(tau_h))
        + stats.norm(0, 0.2).logpdf(wild)
        + stats.halfnorm(scale=0.7).logpdf(np.exp(log_sigma))
    )


@pytest.mark.full
def test_the_deviance_is_that_of_the_dense_model_with_priors_of_the_coefficients():
    integrand = WithPriors(at_mode())
    assert at_mode().deviance == pytest.approx(integrand.laplace(integrand.point), abs=1e-5)


@pytest.mark.full
def test_the_mode_is_that_of_the_dense_posterior():
    integrand = WithPriors(at_mode())

    def criterion(point):
        return integrand.laplace(point) - 2.0 * log_prior(point)

    centre, step = criterion(integrand.point), 0.05
    for i in range(len(integrand.point)):
        moved = step * np.eye(len(integrand.point))[i]
        below, above = criterion(integrand.point - moved), criterion(integrand.point + moved)
        curvature = (above + below - 2.0 * centre) / step**2
        # The third derivative is in the difference: a share of the step squared.
        assert abs(above - below) / (2.0 * step) / curvature < 0.1 * step


def test_the_density_that_is_drawn_from_is_highest_there():
    # The sampler's priors and coordinates are not the search's.
    fit = at_mode()
    posterior = log_posterior(fit.model.original_design, fit.model.priors)
    table = fit.dispersion["estimate"]
    sd = fit.sigma * float(fit.theta[0])
    inner = np.linalg.solve(posterior.location_scale.coefficient_matrix, table.iloc[:2])
    z = np.array([np.log(sd), *inner, *np.log(table.iloc[2:])])
    value, gradient = posterior.objective(z, jacobian=False)
    point = np.array([sd, *table])
    assert value == pytest.approx(fit.deviance - 2.0 * log_prior(point), abs=1e-6)
    assert np.abs(gradient).max() < 1e-3


def test_flat_priors_are_no_priors():
    one, other = fitted({}), fitted()
    assert one.deviance == pytest.approx(other.deviance, abs=1e-8)
    pd.testing.assert_frame_equal(one.dispersion, other.dispersion, rtol=1e-5)
    np.testing.assert_allclose(one.bse, other.bse, rtol=1e-6)


def test_the_fit_is_certified():
    assert at_mode().converged
    assert at_mode().certificate.ok


def test_priors_pull_the_estimates():
    free, held = fitted(), fitted(PRIORS | {"sd(dispersion | g)": HalfNormal(0.01)})
    assert held.dispersion.loc["sd(g)", "estimate"] < 0.1 * free.dispersion.loc["sd(g)", "estimate"]
    assert abs(held.params["x"] - 0.3) < abs(free.params["x"] - 0.3)


def test_priors_of_all_sds_are_those_of_the_mean():
    held = fitted({"sd": HalfNormal(0.3)})
    free = fitted()
    np.testing.assert_allclose(
        held.dispersion["estimate"].iloc[2:], free.dispersion["estimate"].iloc[2:], rtol=0.2
    )
    assert held.sigma * held.theta[0] < free.sigma * free.theta[0]


def test_correlations_of_the_scale_have_priors():
    dispersion = "~ 1 + (x | g)"
    free = fitted({}, dispersion)
    held = fitted({"corr(dispersion: g)": LKJ(200)}, dispersion)
    row = "corr(Intercept, x | g)"
    assert abs(held.dispersion.loc[row, "estimate"]) < 0.2
    assert abs(held.dispersion.loc[row, "estimate"]) < abs(free.dispersion.loc[row, "estimate"])


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        ({"sd": Exponential(1)}, "has a corner at a standard deviation of zero"),
        ({"sd(dispersion | g)": Gamma(1, 2)}, "has a corner at a standard deviation of zero"),
        ({"sd(dispersion | h)": Constant(0.3)}, "no standard deviation can be known"),
        ({"x": Normal(0.5, 0)}, "no parameter can be a constant by its prior"),
        ({"sd(dispersion | k)": HalfNormal(1)}, "which is no parameter of this model"),
    ],
)
def test_what_has_no_mode_is_refused_with_the_reason(priors, message):
    with pytest.raises(PriorError, match=message):
        fitted(priors)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::mixedfx.errors.SamplingWarning")
def test_draws_have_the_priors(monkeypatch):
    monkeypatch.setattr("mixedfx.bayes.sampler._COSTLY", (60, 0.25, 0))
    priors = {"sd(dispersion | g)": HalfNormal(0.02), "x": Normal(0.3, 0.001)}
    fit = mfx.lmer(FORMULA, small(), dispersion="~ 1 + (1 | g)", priors=priors)
    posterior = fit.sample(60, chains=2, rng=1, progress=False)["posterior"]
    assert float(posterior["dispersion_sd"].mean()) < 0.04
    drawn = posterior["beta"].to_numpy().reshape(-1, 2)[:, 1]
    assert abs(drawn.mean() - 0.3) < 0.002
    assert drawn.std() < 0.002
