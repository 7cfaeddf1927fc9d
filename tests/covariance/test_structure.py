"""A covariance structure added from outside: AR(1) in one class and one line, in place of ours.

Source of truth: glmmTMB 1.1.5's REML fit of ``y ~ x + ar1(0 + visit | patient)``, the dense
definition (``oracle``), and differences.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from oracle import dense_model_of
from reference_models import FOLDER
from scipy import optimize, stats

import mixedfx as mfx
from mixedfx.covariance.components import Component
from mixedfx.covariance.registry import STRUCTURES, register_structure
from mixedfx.covariance.structure import CovarianceStructure, cholesky_derivative
from mixedfx.errors import (
    ArgumentError,
    EngineRefusal,
    GroupingError,
    MixedfxWarning,
    PriorError,
)
from mixedfx.inference.bootstrap.refit import refit_model
from mixedfx.inference.bootstrap.resampling import Resampling
from mixedfx.likelihood.pls import solve_pls
from mixedfx.likelihood.score import score_theta
from mixedfx.linalg.random_streams import spawn_generators


class AR1(CovarianceStructure):
    """Covariance ``sd**2 rho**|i - j|``; parameters sd and ``rho / sqrt(1 - rho**2)``."""

    name = "ar1"

    def n_params(self, k):
        return 2

    def factor(self, params, at):
        return params[0] * np.linalg.cholesky(self.correlation(params, at)[0])

    def factor_jacobian(self, params, at):
        R, dR = self.correlation(params, at)
        root = np.linalg.cholesky(R)
        return np.stack([root, params[0] * cholesky_derivative(root, dR[None])[0]])

    def correlation(self, params, at):
        lag = np.abs(np.subtract.outer(np.arange(at.k), np.arange(at.k)))
        rho = params[1] / np.hypot(1.0, params[1])
        slope = (1.0 - rho**2) ** 1.5
        return rho**lag, slope * lag * rho ** np.maximum(lag - 1, 0)

    def nearest(self, cov, at):
        variance = np.mean(np.diag(cov))
        rho = np.clip(np.mean(np.diag(cov, 1)) / variance, -1.0 + 1e-10, 1.0 - 1e-10)
        return np.array([np.sqrt(variance), rho / np.sqrt(1.0 - rho**2)])

    def components(self, factor, at):
        sd, rho = np.linalg.norm(factor[0]), np.nan
        if sd > 0.0:
            rho = factor[0] @ factor[1] / sd**2
        return Component("sd", (), sd, 0), Component("corr", (), rho, 1)


FORMULA = "y ~ x + ar1(0 + visit | patient)"


@pytest.fixture(scope="module", autouse=True)
def registered():
    built_in = STRUCTURES["ar1"]
    register_structure(AR1())
    yield
    register_structure(built_in)


@pytest.fixture(scope="module")
def data():
    return pd.read_csv(FOLDER / "data" / "ar1.csv")


@pytest.fixture(scope="module")
def fit(data, registered):
    return mfx.lmer(FORMULA, data)


def test_the_criterion_is_glmmtmbs(fit):
    assert fit.deviance == pytest.approx(758.741914, abs=1e-6)


def test_the_parameters_are_glmmtmbs(fit):
    sd, rho, sigma = fit.varcorr["sdcor"]
    assert (sd, rho, sigma) == pytest.approx((1.15933, 0.60446, 0.34325), abs=5e-6)


def test_it_is_certified(fit):
    assert fit.converged
    assert fit.certificate.ok
    assert fit.certificate.boundary == ()


@pytest.mark.full
def test_profiles_of_a_normal_response_are_those_of_the_linear_model(data, registered):
    parm = ["sd(visit | patient)", "corr(visit | patient)"]
    linear = mfx.lmer(FORMULA, data, reml=False).conf_int(method="profile", parm=parm)
    fit = mfx.glmer(FORMULA, data, family="gaussian", link="identity")
    limits = fit.conf_int(method="profile", parm=parm)
    np.testing.assert_allclose(limits, linear, rtol=1e-4)


def test_the_estimates_are_those_of_the_dense_definition(fit):
    sd, rho, sigma = fit.varcorr["sdcor"]
    R = rho ** np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    dense = dense_model_of([(sd / sigma) ** 2 * R], fit.model.design, reml=True)
    assert (fit.deviance, fit.sigma) == pytest.approx((dense.deviance, dense.sigma), rel=1e-10)
    np.testing.assert_allclose(fit.params, dense.beta, rtol=1e-8)
    np.testing.assert_allclose(fit.cov_params(), dense.cov_beta, rtol=1e-8)
    np.testing.assert_allclose(fit.ranef("patient"), dense.effects[0], atol=1e-8)


def test_the_score_is_that_of_differences(fit):
    crossprod, theta = fit.model.crossprod, np.array([2.0, 0.5])

    def deviance(theta):
        return solve_pls(crossprod, theta, reml=True).deviance

    score = score_theta(solve_pls(crossprod, theta, reml=True))
    expected = [
        (deviance(theta + h) - deviance(theta - h)) / 2e-5 for h in 1e-5 * np.eye(len(theta))
    ]
    np.testing.assert_allclose(score, expected, rtol=1e-6)


def test_its_rows_in_the_table_of_components(fit):
    rows = fit.varcorr.fillna("").astype(object)[["group", "effect", "effect2"]].to_numpy().tolist()
    assert rows == [["patient", "visit", ""], ["patient", "visit", "ar1"], ["Residual", "", ""]]


def test_the_summary_shows_the_correlation(fit):
    (line,) = [line for line in str(fit.summary()).splitlines() if line.startswith(" patient")]
    assert line.split()[-3:] == ["1.1593", "0.60", "(ar1)"]


def test_the_equation_has_one_covariance_matrix(fit):
    assert "Σ_patient ∈ ar1" in str(fit.equation())
    assert "0.6045" in str(fit.equation(estimates=True))


def test_priors_refuse_it(data):
    with pytest.raises(PriorError, match="ar1"):
        mfx.lmer(FORMULA, data, priors={"sd": mfx.priors.HalfNormal(1.0)})


@pytest.mark.full
def test_satterthwaites_degrees_of_freedom_are_the_delta_method(fit):
    # df = 2 v^2 / (g' A g), A = 2 H^-1, in (sd, rho, sigma) of the dense likelihood.
    design = fit.model.design

    def relative(params):
        sd, rho, sigma = params
        return (sd / sigma) ** 2 * rho ** np.abs(np.subtract.outer(np.arange(5), np.arange(5)))

    def deviance(params):
        sigma = params[2]
        dense = dense_model_of([relative(params)], design, reml=True)
        nu = design.rows.n - 2
        ratio = (dense.sigma / sigma) ** 2
        return dense.deviance + nu * (ratio - 1.0 - np.log(ratio))

    def variance(params):
        dense = dense_model_of([relative(params)], design, reml=True)
        return dense.cov_beta[1, 1] / dense.sigma**2 * params[2] ** 2

    at = fit.varcorr["sdcor"].to_numpy()
    H, g = second_differences(deviance, at), first_differences(variance, at)
    df = 2.0 * variance(at) ** 2 / (g @ (2.0 * np.linalg.inv(H)) @ g)
    assert fit.tidy().set_index("term").loc["x", "df"] == pytest.approx(df, rel=1e-3)


def first_differences(f, at, step=1e-4):
    return np.array([(f(at + h) - f(at - h)) / (2 * step) for h in step * np.eye(len(at))])


def second_differences(f, at, step=1e-3):
    return np.array(
        [
            (first_differences(f, at + h, step) - first_differences(f, at - h, step)) / (2 * step)
            for h in step * np.eye(len(at))
        ]
    )


@pytest.mark.full
def test_profile_intervals_end_where_the_deviance_has_risen_by_the_quantile(data, fit):
    limits = fit.conf_int(method="profile", parm=["sd(visit | patient)", "corr(visit | patient)"])
    assert (limits[0] < fit.varcorr["sdcor"][:2].to_numpy()).all()
    assert (fit.varcorr["sdcor"][:2].to_numpy() < limits[1]).all()
    ml = mfx.lmer(FORMULA, data, reml=False)
    crossprod = ml.model.crossprod
    for rho in limits.loc["corr(visit | patient)"]:
        z = rho / np.sqrt(1.0 - rho**2)
        best = optimize.minimize_scalar(
            lambda s, z=z: solve_pls(crossprod, np.array([np.exp(s), z]), reml=False).deviance,
            bounds=(0.0, 9.0),
            method="bounded",
            options={"xatol": 1e-8},
        )
        assert best.fun - ml.deviance == pytest.approx(stats.chi2.ppf(0.95, 1), abs=1e-4)


@pytest.fixture(scope="module")
def drawn(fit):
    return fit.bootstrap(20, rng=1, progress=False)


@pytest.mark.full
def test_a_bootstrap_estimates_its_components(drawn):
    assert not drawn.failures
    assert {"sd(visit | patient)", "corr(visit | patient)"} <= set(drawn.estimates.index)
    assert drawn.draws[["sd(visit | patient)", "corr(visit | patient)"]].std().min() > 0.0


@pytest.mark.full
def test_a_draw_without_residual_variance_has_the_estimates_of_ar1_alone(fit, drawn):
    without = drawn.draws[drawn.draws["sigma"] < 0.01]
    assert len(without) == 3
    responses = refit_model(fit.model, Resampling(), None).responses
    for draw, found in without.iterrows():
        beta, sd, rho = _ar1_alone(fit, responses.draw(spawn_generators(1, 20)[draw]))
        names = ["Intercept", "x", "sd(visit | patient)", "corr(visit | patient)"]
        np.testing.assert_allclose(found[names], [*beta, sd, rho], rtol=1e-4)


def _ar1_alone(fit, y):
    """REML estimates where ``sd**2 rho**|i - j|`` is the covariance of the responses."""
    term, X = fit.model.rows.random_terms[0], fit.model.rows.X
    visit, df = term.model_matrix.argmax(axis=1), X.shape[0] - X.shape[1]
    same, lag = np.equal.outer(term.codes, term.codes), np.abs(np.subtract.outer(visit, visit))

    def at(rho):
        V = np.where(same, rho**lag, 0.0)
        VX = np.linalg.solve(V, X)
        beta = np.linalg.solve(X.T @ VX, VX.T @ y)
        e = y - X @ beta
        rss = e @ np.linalg.solve(V, e)
        log_dets = np.linalg.slogdet(V)[1] + np.linalg.slogdet(X.T @ VX)[1]
        return df * np.log(rss) + log_dets, beta, np.sqrt(rss / df)

    best = optimize.minimize_scalar(
        lambda rho: at(rho)[0], bounds=(0.1, 0.9), method="bounded", options={"xatol": 1e-9}
    )
    return *at(best.x)[1:], best.x


@pytest.mark.full
def test_simulated_responses_have_the_fits_covariance(fit):
    drawn = fit.simulate(4000, rng=2).to_numpy()
    sd, rho, sigma = fit.varcorr["sdcor"]
    first = fit.model.rows.random_terms[0]
    pair = np.flatnonzero(first.codes == first.codes[0])[:2]
    i, j = first.model_matrix[pair].argmax(axis=1)
    found = np.cov(drawn[pair])
    assert found[0, 0] == pytest.approx(sd**2 + sigma**2, rel=0.1)
    assert found[0, 1] == pytest.approx(sd**2 * rho ** abs(i - j), rel=0.15)


@pytest.mark.full
def test_a_residual_of_zero_is_in_the_profile_of_sigma(fit):
    # AR(1) alone has a finite likelihood: here it is within the quantile of the maximum.
    low, high = fit.conf_int(method="profile", parm="sigma").loc["sigma"]
    assert low == 0.0
    assert high > fit.sigma


def test_the_order_of_rows_does_not_matter(data, fit):
    other = mfx.lmer(FORMULA, data.sample(frac=1.0, random_state=3))
    assert other.deviance == pytest.approx(fit.deviance, abs=1e-8)


def test_two_visits_do_not_tell_it_from_the_residual(data):
    few = data[data["visit"].isin(["v0", "v1"])]
    with pytest.raises(GroupingError, match="residual"):
        mfx.lmer(FORMULA, few)


@pytest.mark.parametrize("engine", ["em", "statsmodels"])
def test_engines_that_cannot_express_it_say_so(data, engine):
    with pytest.raises(EngineRefusal, match="ar1"):
        mfx.lmer(FORMULA, data, engine=engine)


@pytest.mark.parametrize("method", ["kenward-roger", "kenward-roger-linear"])
def test_kenward_and_roger_refuse_a_structure_that_names_no_variances(fit, method):
    with pytest.raises(ArgumentError, match=r"'ar1' does not say .*df_method='satterthwaite'"):
        fit.tidy(df_method=method)


def test_the_formula_is_written_as_it_was_read():
    assert str(mfx.parse(FORMULA)) == FORMULA


def simulated(sd, rho, k, levels, seed):
    rng, lag = np.random.default_rng(seed), np.abs(np.subtract.outer(np.arange(k), np.arange(k)))
    b = sd * rng.normal(size=(levels, k)) @ np.linalg.cholesky(rho**lag).T
    g, t = np.repeat(np.arange(levels), 2 * k), np.tile(np.repeat(np.arange(k), 2), levels)
    y = b[g, t] + 0.5 * rng.normal(size=len(g))
    return pd.DataFrame({"g": g, "t": [f"t{i}" for i in t], "y": y})


def test_a_correlation_near_one_is_not_cut_off(registered):
    fit = mfx.lmer("y ~ 1 + ar1(0 + t | g)", simulated(2.0, 0.995, 6, 40, seed=0))
    assert fit.converged
    assert fit.varcorr["sdcor"][1] > 0.99
    crossprod, theta = fit.model.crossprod, fit.theta
    near = [solve_pls(crossprod, theta * [1.0, f], reml=True).deviance for f in (0.9, 1.1)]
    assert min(near) > fit.deviance


@pytest.mark.full
def test_a_profile_interval_without_an_end_ends_at_the_limit(registered):
    fit = mfx.lmer("y ~ 1 + ar1(0 + t | g)", simulated(0.4, 0.8, 4, 6, seed=1))
    low, high = fit.conf_int(method="profile", parm="corr(t | g)").loc["corr(t | g)"]
    assert -1.0 <= low < fit.varcorr["sdcor"][1] < high <= 1.0


@pytest.mark.parametrize("seed", [1, 3, 8])
def test_data_that_do_not_identify_it_are_not_certified(data, seed):
    # With a correlation near zero AR(1) effects and residuals are one variance.
    noise = data.assign(y=np.random.default_rng(seed).normal(size=len(data)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixedfxWarning)
        fit = mfx.lmer(FORMULA, noise)
    assert not fit.certificate.ok
