"""The posterior density with fixed and random effects integrated out, and its gradient.

Source of truth: the response is normal with mean ``X m`` and covariance ``V + X S X'``, both
written out as dense matrices; coefficients with flat priors are the limit of REML.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from designs import cases
from hypothesis import given
from oracle import dense_z, marginal, slope
from scipy import stats
from tiers import examples

import mixedfx as mfx
from mixedfx.bayes.log_posterior import LogPosterior
from mixedfx.design.build import Design, build
from mixedfx.formula.parser import parse_dispersion
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.priors import LKJ, Constant, Exponential, Flat, HalfNormal, HalfStudentT, Normal
from mixedfx.priors.specification import match_priors

PRIORS = {
    "flat": {},
    "one coefficient": {"x": Normal(0.5, 1.5), "sd": HalfNormal(2)},
    "a constant": {"x": Normal(0.5, 0)},
    "all": {
        "Intercept": Normal(1, 3),
        "fixed": Normal(0.3, 2),
        "sd": HalfStudentT(3, 2),
        "sigma": Exponential(0.7),
    },
    "known": {"Intercept": Normal(2, 1), "sd": Constant(0.8), "sigma": Constant(1.2)},
}
MODELS = {
    "one factor": ("y ~ x + (1 | g)", {}),
    "slopes": ("y ~ x + z + (x | g)", {}),
    "uncorrelated": ("y ~ x + (x + z || g)", {}),
    "two terms of a factor": ("y ~ x + (x | g) + (0 + z | g)", {}),
    "crossed": ("y ~ x + (x | g) + (1 | h)", {}),
    "nested": ("y ~ x + (1 | g / k)", {}),
    "three factors": ("y ~ x + (x | g) + (z | h) + (1 | k)", {}),
    "no random effects": ("y ~ x + z", {}),
    "nearly dependent columns": ("y ~ x + near + (1 | g)", {}),
    "weights and offset": ("y ~ x + (x | g)", {"weights": "w", "offset": "o"}),
    "weights, crossed": ("y ~ x + (1 | g) + (1 | h)", {"weights": "w", "offset": "o"}),
    "known sds": ("y ~ x + (1 | g)", {"residual_sd": "s"}),
    "strata": ("y ~ x + (x | g)", {"dispersion": "~ kind"}),
    "strata, crossed": ("y ~ x + (1 | g) + (1 | h)", {"dispersion": "~ kind", "weights": "w"}),
    "strata of each kind": ("y ~ x + (1 | g)", {"dispersion": "~ 0 + kind"}),
}
every_model = pytest.mark.parametrize("model", MODELS)
every_prior = pytest.mark.parametrize("prior", PRIORS)


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    n = 48
    g, h = np.repeat(np.arange(8), 6), np.tile(np.arange(6), 8)
    d = pd.DataFrame({"g": g, "h": h, "k": np.tile([0, 0, 0, 1, 1, 1], 8)})
    d["x"], d["z"] = rng.normal(size=n), rng.uniform(size=n)
    d["near"] = 1e3 + 1e-4 * rng.normal(size=n)
    d["kind"] = rng.permutation(np.resize(["p", "q"], n))
    d["w"], d["s"], d["o"] = np.exp(rng.normal(size=n)), np.exp(rng.normal(size=n)), 3.0 * d["x"]
    noise = np.where(d["kind"] == "p", 0.5, 1.5) * rng.normal(size=n)
    return d.assign(y=2.0 + 0.5 * d["x"] + (0.7 + 0.5 * d["x"]) * rng.normal(size=8)[g] + noise)


def built(formula: str, dispersion: str | None = None, **options) -> Design:
    scale = None if dispersion is None else parse_dispersion(dispersion)
    return build(mfx.parse(formula), frame(), residual=scale, **options)


def posterior_of(model: str, prior: str) -> LogPosterior:
    formula, options = MODELS[model]
    design = built(formula, **options)
    priors = dict(PRIORS[prior])
    if not design.rows.random_terms:
        priors.pop("sd", None)
    if design.spec.fixed_sigma is not None or (design.spec.residual.n_params and prior == "known"):
        priors.pop("sigma", None)
    return LogPosterior(design, match_priors(priors, design.spec))


def coordinates(posterior: LogPosterior, seed: int = 0, points: int = 1) -> np.ndarray:
    return 0.6 * np.random.default_rng(seed).normal(size=(points, posterior.size))


def dense(posterior: LogPosterior, z: np.ndarray):
    """-2 log density of the response, and mean and covariance of all fixed and random effects."""
    design, priors = posterior.design, posterior.priors
    params = posterior.transform.constrain(z[None])
    sds = np.full(design.rows.n, posterior.transform.baseline_sigma(params)[0])
    if posterior.model.n_params:
        sds = np.exp(design.rows.residual.D @ posterior.transform.gamma(params)[0])
    if design.rows.weights is not None:
        sds = sds / np.sqrt(design.rows.weights)
    covariances = [root[:, :, 0] @ root[:, :, 0].T for root in params.cov_factors]
    known = np.isfinite(priors.coef_sd)
    X, m, y = design.rows.X, priors.coef_mean, design.rows.response_less_offset
    # The coefficients with priors are integrated out as random effects are, about their means.
    law = marginal(
        replace(
            design,
            rows=replace(design.rows, X=X[:, ~known], y=y - X[:, known] @ m[known], offset=None),
        ),
        covariances,
        sds,
        reml=True,
    )
    V = law.V + (X[:, known] * priors.coef_sd[known] ** 2) @ X[:, known].T
    return _reml(y - X[:, known] @ m[known], X[:, ~known], V)


def _reml(y: np.ndarray, X: np.ndarray, V: np.ndarray) -> float:
    """-2 log of the normal density, the coefficients of X integrated over flat priors."""
    root = np.linalg.cholesky(V)
    w, A = np.linalg.solve(root, y), np.linalg.solve(root, X)
    R = np.linalg.qr(A, mode="r")
    rest = w - A @ np.linalg.lstsq(A, w, rcond=None)[0] if X.shape[1] else w
    logs = np.log(np.diag(root)).sum() + np.log(np.abs(np.diag(R))).sum()
    return float(2.0 * logs + (len(y) - X.shape[1]) * np.log(2.0 * np.pi) + rest @ rest)


@pytest.mark.covering(1)
@every_model
@every_prior
def test_the_response_has_its_dense_normal_density(model, prior):
    posterior = posterior_of(model, prior)
    # Columns that nearly depend cost the plain matrices their last digits.
    rtol = 1e-5 if model == "nearly dependent columns" else 1e-10
    for z in coordinates(posterior, points=3):
        found = posterior.solution(posterior.transform.constrain(z[None]), 0).deviance
        assert found == pytest.approx(dense(posterior, z), rel=rtol)


@pytest.mark.parametrize("model", ["one factor", "crossed", "weights and offset"])
def test_proper_priors_leave_a_proper_normal_density(model):
    # Nothing is flat, so scipy's multivariate normal is the whole truth.
    posterior = posterior_of(model, "all")
    z = coordinates(posterior)[0]
    params, design = posterior.transform.constrain(z[None]), posterior.design
    w = np.ones(design.rows.n) if design.rows.weights is None else design.rows.weights
    V = np.diag(params.sigma[0] ** 2 / w)
    for random_term, root in zip(design.rows.random_terms, params.cov_factors, strict=True):
        Z, S = dense_z(random_term), root[:, :, 0] @ root[:, :, 0].T
        V += Z @ np.kron(np.eye(random_term.n_levels), S) @ Z.T
    V += (design.rows.X * posterior.priors.coef_sd**2) @ design.rows.X.T
    law = stats.multivariate_normal(design.rows.X @ posterior.priors.coef_mean, V)
    found = posterior.solution(params, 0).deviance
    assert found == pytest.approx(-2.0 * law.logpdf(design.rows.response_less_offset), rel=1e-10)


@pytest.mark.full
@given(case=cases(fixed=("1", "x", "0 + x", "x + z + c"), most_factors=2))
@examples(60)
def test_any_design_has_its_dense_density_and_moments(case):
    priors = match_priors({}, case.design.spec)
    rng = np.random.default_rng(case.seed)
    sd = rng.choice([np.inf, 0.0, 0.7, 3.0], size=case.design.rows.X.shape[1])
    priors = replace(priors, coef_mean=rng.normal(size=len(sd)), coef_sd=sd)
    posterior = LogPosterior(case.design, priors)
    z = coordinates(posterior, case.seed)[0]
    found = posterior.solution(posterior.transform.constrain(z[None]), 0)
    assert found.deviance == pytest.approx(dense(posterior, z), rel=1e-8, abs=1e-7)


@pytest.mark.covering(1)
@pytest.mark.parametrize("prior", ["one coefficient", "a constant", "all"])
@pytest.mark.parametrize("model", ["slopes", "crossed", "strata"])
def test_coefficients_have_their_conditional_moments(model, prior):
    # Kalman's step, in information form: precisions add.
    posterior = posterior_of(model, prior)
    z = coordinates(posterior, 4)[0]
    params = posterior.transform.constrain(z[None])
    found = posterior.solution(params, 0)
    flat = replace(posterior.priors, coef_sd=np.full_like(posterior.priors.coef_sd, np.inf))
    plain = LogPosterior(posterior.design, replace(flat)).solution(params, 0)
    K = plain.sigma**2 * plain.vcov_unscaled
    tiny = np.maximum(posterior.priors.coef_sd, 1e-7)
    precision = np.linalg.inv(K) + np.diag(tiny**-2.0)
    told = np.linalg.solve(K, plain.beta) + tiny**-2.0 * posterior.priors.coef_mean
    np.testing.assert_allclose(found.beta, np.linalg.solve(precision, told), rtol=1e-5)
    cov = found.sigma**2 * found.vcov_unscaled
    np.testing.assert_allclose(cov, np.linalg.inv(precision), rtol=1e-4, atol=1e-10)


@pytest.mark.full
@pytest.mark.covering(1)
@every_model
@every_prior
def test_many_points_at_once_are_as_one_by_one(model, prior):
    posterior = posterior_of(model, prior)
    Z = coordinates(posterior, 1, points=12)
    alone = [posterior.objective(z, jacobian=True)[0] for z in Z]
    rtol = 1e-8 if model == "nearly dependent columns" else 1e-11
    np.testing.assert_allclose(-2.0 * posterior.log_densities(Z), alone, rtol=rtol)


def test_many_points_of_memberships_are_as_one_by_one():
    design = built("y ~ x + (x | g) + (1 | mm(h, k))")
    posterior = LogPosterior(design, match_priors({}, design.spec))
    Z = coordinates(posterior, 1, points=12)
    alone = [posterior.objective(z, jacobian=True)[0] for z in Z]
    np.testing.assert_allclose(-2.0 * posterior.log_densities(Z), alone, rtol=1e-10)


@pytest.mark.parametrize("model", MODELS)
def test_models_without_strata_take_the_batch(model):
    posterior = posterior_of(model, "flat")
    assert (posterior.vectorized is None) == (posterior.model.n_params > 0)


@pytest.mark.full
@pytest.mark.parametrize("model", ["crossed", "weights, crossed", "nested", "three factors"])
def test_effects_are_drawn_from_their_conditional_distribution(model):
    # Given beta = 0 and sigma: mean and covariance of all effects from the dense equations.
    posterior = posterior_of(model, "flat")
    crossprod, vectorized = posterior.crossprod, posterior.vectorized
    B, z = 10_000, coordinates(posterior, 3)[:1]
    params = posterior.transform.constrain(z)
    solution, sigma = posterior.solution(params, 0), float(params.sigma[0])
    eliminated = vectorized.solve(posterior.transform.constrain(np.repeat(z, B, 0)), slice(0, B))
    coef = np.tile(np.append(np.zeros(crossprod.p), 1.0), (B, 1))
    drawn = eliminated.eliminated.draw_effects(coef, np.full(B, sigma), np.random.default_rng(1))
    found = np.concatenate([effects.reshape(B, -1) for effects in drawn], axis=1)
    rhs = np.zeros((crossprod.symbolic.size, 1))
    numeric, at = solution.schur.numeric, []
    for f in crossprod.symbolic.layout.factors:
        columns = crossprod.symbolic.columns(f)
        rhs[columns, 0] = crossprod.ZtXy[f][:, -1].ravel()
        at.extend(range(columns.start, columns.stop))
    mean = numeric.solve(rhs)[at, 0]
    cov = sigma**2 * numeric.solve(np.eye(len(rhs)))[np.ix_(at, at)]
    sds = np.sqrt(np.diag(cov))
    assert (np.abs(found.mean(axis=0) - mean) / sds).max() < 4.5 / np.sqrt(B)
    assert np.abs((np.cov(found.T) - cov) / np.outer(sds, sds)).max() < 4.5 * np.sqrt(2.0 / B)


@pytest.mark.covering(1)
@every_model
@pytest.mark.parametrize("prior", ["flat", "all", "a constant"])
@pytest.mark.parametrize("jacobian", [True, False])
def test_the_density_has_its_gradient(model, prior, jacobian):
    posterior = posterior_of(model, prior)
    z = coordinates(posterior, 2)[0]
    found = posterior.objective(z, jacobian=jacobian)[1]
    expected = slope(lambda at: posterior.objective(at, jacobian=jacobian)[0], z)
    rtol = 1e-4 if model == "nearly dependent columns" else 1e-6
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-6)


def test_the_gradient_of_three_correlated_effects_is_right():
    design = built("y ~ x + (x + z | g)")
    priors = {"sd": HalfNormal(2), "corr": LKJ(3)}
    posterior = LogPosterior(design, match_priors(priors, design.spec))
    z = coordinates(posterior, 3)[0]
    expected = slope(lambda at: posterior.objective(at, jacobian=True)[0], z)
    np.testing.assert_allclose(posterior.objective(z, jacobian=True)[1], expected, rtol=1e-6)


@pytest.mark.parametrize("model", ["one factor", "crossed", "strata"])
def test_theta_held_leaves_sigma_free(model):
    formula, options = MODELS[model]
    design = built(formula, **options)
    theta = np.linspace(0.8, 0.3, compute_crossproducts(design).parametrization.size)
    posterior = LogPosterior(design, match_priors({"theta": Constant(theta)}, design.spec))
    z = coordinates(posterior, 2)[0]
    assert posterior.size == 1 + posterior.model.n_params
    np.testing.assert_allclose(
        posterior.objective(z, jacobian=True)[1],
        slope(lambda at: posterior.objective(at, jacobian=True)[0], z),
        rtol=1e-6,
    )
    found = posterior.solution(posterior.transform.constrain(z[None]), 0).deviance
    assert found == pytest.approx(dense(posterior, z), rel=1e-10)


@pytest.mark.parametrize("formula", ["y ~ x + (1 | g)", "y ~ x + (1 | g) + (1 | h)"])
def test_a_point_too_far_has_no_density(formula):
    design = built(formula)
    posterior = LogPosterior(design, match_priors({}, design.spec))
    Z = np.full((1, posterior.size), 500.0)
    assert posterior.log_densities(Z)[0] == -np.inf
    assert posterior.objective(Z[0], jacobian=True)[0] == np.inf


@pytest.mark.full
@pytest.mark.parametrize("model", ["slopes", "crossed", "no random effects", "strata"])
def test_no_point_is_too_far_to_be_asked_for(model):
    # Warnings are errors here: overflows and singular matrices must end in a number.
    posterior = posterior_of(model, "all")
    Z = 60.0 * np.random.default_rng(1).standard_normal((400, posterior.size))
    found = posterior.log_densities(Z)
    assert not np.isnan(found).any()
    assert found.max() < np.inf


def test_the_logarithm_of_sigma_has_one_prior_only():
    # With '~ kind' the intercept is log sigma: its normal prior is that of the coordinate, and
    # no density of sigma is added to it.
    design = built("y ~ x + (1 | g)", dispersion="~ kind")
    own = {"dispersion(Intercept)": Normal(0.3, 0.5), "sd": Constant(1.0)}
    priors = match_priors(own, design.spec)
    posterior = LogPosterior(design, priors)
    params = posterior.transform.constrain(coordinates(posterior, 1, points=5))
    found = posterior.transform.log_prior(params, priors, jacobian=True)
    gamma = posterior.transform.gamma(params)[:, 0]
    np.testing.assert_allclose(found, stats.norm(0.3, 0.5).logpdf(gamma), rtol=1e-12)
    assert priors.sigma == Flat()
