"""The marginal likelihood of several predictors: against its definition, and its gradient.

The definition is code of its own: densities of SciPy, dense matrices, numerical integration.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, special, stats
from tiers import but_for

import mixedfx as mfx
from mixedfx.estimation.glmm.search import MarginalObjective, free_coordinates
from mixedfx.estimation.glmm.several_predictors import several_rows
from mixedfx.estimation.glmm.working import basis_coefficients
from mixedfx.likelihood.generalized.likelihood import GeneralizedLikelihood, Point


@pytest.fixture(scope="module")
def counts():
    """120 counts of 8 sites in 5 years, with excess zeros."""
    rng = np.random.default_rng(12)
    n = 120
    frame = pd.DataFrame(
        {
            "x": rng.standard_normal(n),
            "kind": rng.choice(["a", "b"], n),
            "site": rng.integers(0, 8, n).astype(str),
            "year": rng.integers(0, 5, n).astype(str),
        }
    )
    b = 0.5 * rng.standard_normal(8)[frame["site"].astype(int)]
    mu = np.exp(0.8 + 0.4 * frame["x"] + b)
    absent = rng.random(n) < special.expit(-0.6 + 0.5 * (frame["kind"] == "b"))
    frame["y"] = np.where(absent, 0, rng.negative_binomial(2.0, 1.0 / (1.0 + mu / 2.0)))
    frame["share"] = np.clip(rng.beta(2.0, 3.0, n) + 0.03 * b, 0.01, 0.99)
    frame["trials"] = rng.integers(2, 12, n)
    frame["k"] = np.where(absent, 0, rng.binomial(frame["trials"], 0.4))
    return frame


MODELS = {
    "poisson": ("y ~ x + (1 | site)", {"zero_inflation": "~ kind"}),
    "poisson, effects of zeros": ("y ~ x + (x | site)", {"zero_inflation": "~ 1 + (1 | site)"}),
    "nbinom2": (
        "y ~ x + (1 | site)",
        {"zero_inflation": "~ x + (1 | year)", "dispersion": "~ kind"},
    ),
    "nbinom1": ("y ~ x + (1 | site)", {"zero_inflation": "~ kind"}),
    "truncated_poisson": ("y ~ x + (1 | site)", {"zero_inflation": "~ kind + (1 | site)"}),
    "truncated_nbinom2": ("y ~ x + (1 | site)", {"zero_inflation": "~ 1", "dispersion": "~ x"}),
    "beta": ("share ~ x + (1 | site)", {"dispersion": "~ kind + (1 | year)"}),
    "student": ("share ~ x + (1 | site)", {"dispersion": "~ kind"}),
    "gamma": ("share ~ x + (1 | site) + (1 | year)", {"dispersion": "~ kind"}),
    "betabinomial": ("prop(k, trials) ~ x + (1 | site)", {"zero_inflation": "~ 1"}),
}


def fitted(frame, name):
    formula, parts = MODELS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mfx.glmer(formula, frame, name.split(",")[0], **parts)


def point_of(fit, rows):
    parts = [fit.model, *fit.model.residual.predictors.values()]
    beta = np.concatenate([part.solution.beta for part in parts])
    factors = tuple(F for part in parts for F in part.solution.factors)
    coordinates = rows.family.coordinates(fit.model.residual.params)
    return Point(factors, basis_coefficients(rows, beta), coordinates)


def near_the_maximum(frame, name):
    """Objective and a point off the boundary, and away from the maximum."""
    fit = fitted(frame, name)
    rows = several_rows(fit.model.design)
    point = point_of(fit, rows)
    point = Point(
        tuple(0.3 * np.eye(len(F)) + 0.5 * F for F in point.factors),
        point.beta + 0.1,
        point.family_coordinates - 0.2,
    )
    coordinates, x = free_coordinates(GeneralizedLikelihood(rows), point)
    objective = MarginalObjective(GeneralizedLikelihood(rows), coordinates)
    return objective, x


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "name", but_for(MODELS, ["poisson, effects of zeros", "truncated_nbinom2"])
)
def test_the_gradient_is_that_of_differences(counts, name):
    objective, x = near_the_maximum(counts, name)
    gradient, h = objective(x)[1], 1e-3
    for i in range(len(x)):
        steps = np.zeros((6, len(x)))
        steps[:, i] = h * np.array([-3, -2, -1, 1, 2, 3])
        values = np.array([objective(x + step)[0] for step in steps])
        found = values @ np.array([-1.0, 9.0, -45.0, 45.0, -9.0, 1.0]) / (60.0 * h)
        assert found == pytest.approx(gradient[i], rel=1e-6, abs=1e-6 * np.abs(gradient).max())


@pytest.mark.full
@pytest.mark.parametrize("name", ["poisson, effects of zeros", "truncated_nbinom2", "nbinom1"])
def test_the_hessian_is_that_of_differences_of_the_gradient(counts, name):
    objective, x = near_the_maximum(counts, name)
    found, h = objective.exact_hessian(x), 1e-5
    for i, step in enumerate(h * np.eye(len(x))):
        column = (objective(x + step)[1] - objective(x - step)[1]) / (2.0 * h)
        np.testing.assert_allclose(found[i], column, rtol=0, atol=2e-6 * np.abs(found).max())


@pytest.mark.full
@pytest.mark.parametrize("name", ["nbinom2", "gamma"])
def test_of_two_factors_the_hessian_is_not_in_closed_form(counts, name):
    objective, x = near_the_maximum(counts, name)
    assert objective.exact_hessian(x) is None


@pytest.mark.full
@pytest.mark.parametrize(
    "name", but_for(["nbinom2", "poisson, effects of zeros", "beta"], ["beta"])
)
def test_laplace_is_that_of_the_dense_definition(counts, name):
    fit = fitted(counts, name)
    rows = several_rows(fit.model.design)
    parts = [fit.model, *fit.model.residual.predictors.values()]
    columns, owner = [], []
    for k, part in enumerate(parts):
        terms = zip(part.design.rows.random_terms, part.solution.lambdas, strict=True)
        for term, lam in terms:
            ZL = term.model_matrix @ lam
            for level in range(term.n_levels):
                columns += list((ZL * (term.codes == level)[:, None]).T)
                owner += [k] * len(lam)
    A, owner = np.array(columns).T, np.array(owner)
    fixed = np.array([part.rows.fixed_predictor(part.solution.beta) for part in parts])

    def negative(u):
        eta = fixed + np.array([A[:, owner == k] @ u[owner == k] for k in range(len(parts))])
        return 0.5 * u @ u - log_density(fit, eta).sum()

    found = optimize.minimize(negative, np.zeros(A.shape[1]), method="BFGS", tol=1e-9)
    H = second_differences(negative, found.x)
    deviance = 2.0 * negative(found.x) + np.linalg.slogdet(H)[1]
    at = GeneralizedLikelihood(rows).at(point_of(fit, rows))
    assert at.deviance == pytest.approx(deviance, abs=2e-4)
    assert fit.deviance == pytest.approx(at.deviance, abs=1e-8)


def log_density(fit, eta):
    """Definition, by SciPy."""
    name, y = fit.family.name, fit.model.rows.y
    if name == "beta":
        mu, phi = special.expit(eta[0]), np.exp(eta[1])
        return stats.beta(mu * phi, (1.0 - mu) * phi).logpdf(y)
    if name == "poisson":
        f = stats.poisson(np.exp(eta[0])).pmf(y)
    else:
        k = np.exp(-eta[2])
        f = stats.nbinom(k, 1.0 / (1.0 + np.exp(eta[0]) / k)).pmf(y)
    p = special.expit(eta[1])
    return np.log(p * (y == 0.0) + (1.0 - p) * f)


def second_differences(function, x, h=1e-3):
    """Hessian by differences of order two, (q, q)."""
    q = len(x)
    H, step = np.empty((q, q)), h * np.eye(q)
    for i in range(q):
        for j in range(i + 1):
            a, b = step[i], step[j]
            total = function(x + a + b) - function(x + a - b)
            total += function(x - a - b) - function(x - a + b)
            H[i, j] = H[j, i] = total / (4.0 * h * h)
    return H


@pytest.mark.full
def test_quadrature_is_the_integral(counts):
    # One random effect: the integral over each site's by SciPy.
    fit = mfx.glmer("y ~ x + (1 | site)", counts, "poisson", zero_inflation="~ kind", nagq=25)
    sd = float(fit.theta[0])
    zero = fit.zero_inflation.model
    p = special.expit(zero.rows.fixed_predictor(zero.solution.beta))
    eta = fit.model.rows.fixed_predictor(fit.model.solution.beta)
    total = 0.0
    for level in counts["site"].unique():
        own = (counts["site"] == level).to_numpy()
        y, p_own, eta_own = counts["y"].to_numpy()[own], p[own], eta[own]

        def integrand(u, y=y, p=p_own, eta=eta_own):
            f = stats.poisson(np.exp(eta + sd * u)).pmf(y)
            return np.prod((y == 0) * p + (1.0 - p) * f) * stats.norm.pdf(u)

        value, _ = integrate.quad(integrand, -8.0, 8.0, epsabs=0.0, epsrel=1e-11, limit=200)
        total += np.log(value)
    assert fit.llf == pytest.approx(total, rel=1e-9)
