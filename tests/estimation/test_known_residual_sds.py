"""Known residual standard deviations: sigma is no parameter, and one row per level will do.

Source of truth: the normal density of the response with the covariance written out, of which
nothing but the coefficients is profiled; scipy's optimum of it; the textbook formulas of
Satterthwaite and of Kenward and Roger on dense matrices; and a meta-analysis by R's
metafor.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from designs import cases
from hypothesis import given
from oracle import covariances, curvature, dense_z, lambdas, marginal, slope
from scipy import optimize, special

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.errors import (
    ConvergenceWarning,
    DataError,
    EngineRefusal,
    MissingColumnError,
    SingularFitWarning,
    WeightsError,
)
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.pls import solve_pls

both_criteria = pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])

MODELS = {
    "intercept": "y ~ x + (1 | g)",
    "slope": "y ~ x + (x | g)",
    "crossed": "y ~ x + (1 | g) + (1 | h)",
    "one row per level": "y ~ x + (1 | row)",
    "two levels of rows": "y ~ x + (1 | g / row)",
}
quietly = pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
every_model = pytest.mark.parametrize("name", MODELS)


@cache
def frame() -> pd.DataFrame:
    """Forty-eight rows whose standard deviations differ by a factor of about ten."""
    rng = np.random.default_rng(3)
    n = 48
    g, h = np.repeat(np.arange(8), 6), np.tile(np.arange(6), 8)
    x, se = rng.normal(size=n), np.exp(rng.uniform(-1.5, 0.8, n))
    effects = rng.normal(size=8)[g] + 0.7 * rng.normal(size=8)[g] * x + 0.8 * rng.normal(size=6)[h]
    y = 2.0 + 0.5 * x + effects + 0.6 * rng.normal(size=n) + se * rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "se": se, "g": g, "h": h, "row": np.arange(n)})


def fitted(name: str, reml: bool = True) -> mfx.Results:
    return _fitted(name, reml)


@cache
def _fitted(name: str, reml: bool) -> mfx.Results:
    return mfx.lmer(MODELS[name], frame(), residual_sd="se", reml=reml)


def dense(fit: mfx.Results, theta=None):
    """The density at a theta, by default the fit's."""
    design, theta = fit.model.design, fit.theta if theta is None else theta
    covs = [lam @ lam.T for lam in lambdas(design, theta)]
    return marginal(design, covs, frame()["se"].to_numpy(), reml=fit.reml)


# ------------------------------------------------------------------ the likelihood


def _with_sds(case):
    sds = np.exp(np.random.default_rng(case.seed).normal(size=case.rows))
    design = build(mfx.parse(case.formula), case.data, residual_sd=sds)
    return design, sds, solve_pls(compute_crossproducts(design), case.theta, reml=case.reml)


def _truth(case, design, sds):
    return marginal(
        design, [lam @ lam.T for lam in lambdas(design, case.theta)], sds, reml=case.reml
    )


@pytest.mark.full
@given(cases())
def test_the_deviance_is_that_of_the_normal_density_at_any_theta(case):
    design, sds, solution = _with_sds(case)
    expected = _truth(case, design, sds).deviance
    assert solution.deviance == pytest.approx(expected, rel=1e-8, abs=1e-6)


@pytest.mark.full
@given(cases(kinds=("ordinary", "some zero", "singular")))
def test_the_covariance_of_the_coefficients_is_that_of_least_squares_at_any_theta(case):
    design, sds, solution = _with_sds(case)
    expected = _truth(case, design, sds).cov_beta
    found = solution.sigma**2 * solution.vcov_unscaled
    scale = np.abs(expected).max(initial=1e-300)
    np.testing.assert_allclose(found / scale, expected / scale, rtol=1e-6, atol=1e-8)


@pytest.mark.covering(1)
@every_model
@both_criteria
def test_the_deviance_of_a_fit_is_that_of_the_normal_density(name, reml):
    fit = fitted(name, reml)
    assert fit.deviance == pytest.approx(dense(fit).deviance, abs=1e-7)


@pytest.mark.covering(1)
@every_model
@both_criteria
def test_scipy_finds_no_better_theta(name, reml):
    fit = fitted(name, reml)
    end = optimize.minimize(lambda theta: dense(fit, theta).deviance, fit.theta, method="BFGS")
    assert fit.deviance <= end.fun + 1e-7


@pytest.mark.covering(1)
@every_model
@both_criteria
def test_the_coefficients_are_those_of_generalised_least_squares(name, reml):
    fit = fitted(name, reml)
    np.testing.assert_allclose(fit.params, dense(fit).beta, rtol=1e-8)


@every_model
def test_the_covariance_of_the_coefficients_is_that_of_generalised_least_squares(name):
    fit = fitted(name)
    np.testing.assert_allclose(fit.cov_params(), dense(fit).cov_beta, rtol=1e-7, atol=1e-12)


@every_model
def test_the_random_effects_are_their_conditional_means(name):
    fit = fitted(name)
    truth = dense(fit)
    weighted_residuals = np.linalg.solve(
        truth.V, fit.model.rows.response_less_offset - truth.X @ truth.beta
    )
    by_term = zip(fit.model.rows.random_terms, covariances(fit), strict=True)
    for (random_term, S), group in zip(by_term, fit.formula.groups, strict=True):
        Zr = (dense_z(random_term).T @ weighted_residuals).reshape(random_term.n_levels, -1)
        expected = Zr @ S
        np.testing.assert_allclose(fit.ranef(group), expected, rtol=1e-6, atol=1e-9)


@both_criteria
def test_no_random_term_gives_generalised_least_squares(reml):
    fit = mfx.lmer("y ~ x", frame(), residual_sd="se", reml=reml)
    design = fit.model.design
    truth = marginal(design, [], frame()["se"], reml=reml)
    assert fit.deviance == pytest.approx(truth.deviance, abs=1e-8)
    np.testing.assert_allclose(fit.params, truth.beta, rtol=1e-10)
    np.testing.assert_allclose(fit.cov_params(), truth.cov_beta, rtol=1e-10)


# ------------------------------------------------------------------ sigma is no parameter


def test_sigma_is_one():
    assert fitted("intercept").sigma == 1.0


def test_the_residual_sds_are_those_given():
    np.testing.assert_allclose(fitted("intercept").residual_sd, frame()["se"], rtol=1e-14)


@every_model
def test_sigma_is_not_counted_among_the_parameters(name):
    fit = fitted(name)
    assert fit.df_modelwc == len(fit.params) + len(fit.theta)


def test_the_estimates_of_an_array_are_those_of_a_column():
    fit = mfx.lmer(MODELS["slope"], frame(), residual_sd=frame()["se"].to_numpy())
    np.testing.assert_array_equal(fit.params, fitted("slope").params)


@every_model
def test_doubling_the_units_doubles_the_estimates(name):
    doubled = frame().assign(y=2.0 * frame()["y"], se=2.0 * frame()["se"])
    fit, plain = mfx.lmer(MODELS[name], doubled, residual_sd="se"), fitted(name)
    np.testing.assert_allclose(fit.params, 2.0 * plain.params, rtol=1e-6)
    np.testing.assert_allclose(fit.vcomp, 4.0 * plain.vcomp, rtol=1e-4)


@every_model
def test_doubling_the_units_moves_the_deviance_by_the_jacobian(name):
    doubled = frame().assign(y=2.0 * frame()["y"], se=2.0 * frame()["se"])
    fit, plain = mfx.lmer(MODELS[name], doubled, residual_sd="se"), fitted(name)
    moved = 2.0 * (plain.nobs - len(plain.params)) * np.log(2.0)
    assert fit.deviance - plain.deviance == pytest.approx(moved, abs=1e-7)


@quietly
@pytest.mark.parametrize("name", ["intercept", "slope", "crossed"])
@both_criteria
def test_weights_with_a_free_sigma_fit_no_worse(name, reml):
    free = mfx.lmer(MODELS[name], frame(), weights=frame()["se"] ** -2.0, reml=reml)
    assert free.deviance <= fitted(name, reml).deviance + 1e-8


@quietly
@pytest.mark.parametrize("name", ["intercept", "slope", "crossed"])
@both_criteria
def test_sds_that_weights_would_estimate_give_the_fit_of_the_weights(name, reml):
    free = mfx.lmer(MODELS[name], frame(), weights=frame()["se"] ** -2.0, reml=reml)
    known = mfx.lmer(MODELS[name], frame(), residual_sd=free.sigma * frame()["se"], reml=reml)
    assert known.deviance == pytest.approx(free.deviance, abs=1e-8)
    np.testing.assert_allclose(known.vcomp, free.vcomp, rtol=1e-4)


def test_em_ends_where_the_profiled_engine_does():
    em = mfx.lmer(MODELS["crossed"], frame(), residual_sd="se", engine="em")
    assert em.deviance == pytest.approx(fitted("crossed").deviance, abs=1e-6)


def test_statsmodels_is_refused():
    with pytest.raises(EngineRefusal, match="engine='profiled'"):
        mfx.lmer(MODELS["intercept"], frame(), residual_sd="se", engine="statsmodels")


# ------------------------------------------------------------------ meta-analysis

# Colditz et al. (1994): thirteen trials of BCG against tuberculosis, cases and others among
# the vaccinated and the controls.
TRIALS = """
4 119 11 128 44 1948
6 300 29 274 55 1949
3 228 11 209 42 1960
62 13536 248 12619 52 1977
33 5036 47 5761 13 1973
180 1361 372 1079 44 1953
8 2537 10 619 19 1973
505 87886 499 87892 13 1980
29 7470 45 7232 27 1968
17 1699 65 1600 42 1961
186 50448 141 27197 18 1974
5 2493 3 2338 33 1969
27 16886 29 17825 33 1976
"""


@cache
def trials() -> pd.DataFrame:
    """Logarithm of each trial's risk ratio, and its standard error."""
    rows = np.array([line.split() for line in TRIALS.split("\n") if line], dtype=float)
    a, b, c, d, latitude, year = rows.T
    return pd.DataFrame(
        {
            "y": np.log(a / (a + b)) - np.log(c / (c + d)),
            "se": np.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)),
            "latitude": latitude,
            "year": year,
            "trial": np.arange(13),
        }
    )


def meta(formula: str = "y ~ 1 + (1 | trial)", **options) -> mfx.Results:
    return mfx.lmer(formula, trials(), residual_sd="se", **options)


# metafor 3.8-1 in R 4.2.2 on its own copy of these trials: rma(yi, vi, data = escalc(measure =
# "RR", ai = tpos, bi = tneg, ci = cpos, di = cneg, data = dat.bcg), method = "REML", control =
# list(threshold = 1e-14, maxiter = 10000)), without and with mods = ~ ablat + year.
METAFOR = {
    "y ~ 1 + (1 | trial)": (
        {"Intercept": -0.714532342158139},
        {"Intercept": 0.179781516105206},
        0.313243258136481,
    ),
    "y ~ latitude + year + (1 | trial)": (
        {
            "Intercept": -3.54535301985947759,
            "latitude": -0.02801132944422689,
            "year": 0.00190748044747169,
        },
        {
            "Intercept": 29.0956222325972611,
            "latitude": 0.0102339432310022,
            "year": 0.0146836858920150,
        },
        0.11078469694691,
    ),
}
every_meta = pytest.mark.parametrize("formula", METAFOR)


@every_meta
def test_the_coefficients_are_metafors(formula):
    estimates, _, _ = METAFOR[formula]
    assert meta(formula).params.to_dict() == pytest.approx(estimates, rel=1e-5)


@every_meta
def test_the_standard_errors_are_metafors(formula):
    _, errors, _ = METAFOR[formula]
    assert meta(formula).bse.to_dict() == pytest.approx(errors, rel=1e-5)


@every_meta
def test_the_variance_between_trials_is_metafors(formula):
    _, _, variance = METAFOR[formula]
    assert float(meta(formula).vcomp.iloc[0]) == pytest.approx(variance, rel=1e-5)


def test_the_log_likelihood_is_metafors():
    # By maximum likelihood; metafor's REML criterion has another constant.
    fit = mfx.lmer("y ~ 1 + (1 | trial)", trials(), residual_sd="se", reml=False)
    assert fit.llf == pytest.approx(-12.6650763482768, abs=1e-8)


def _textbook(tau2: float) -> float:
    """Restricted log-likelihood of the heterogeneity alone, times minus two."""
    v, y = trials()["se"] ** 2 + tau2, trials()["y"]
    mean = (y / v).sum() / (1 / v).sum()
    constant = (len(y) - 1) * np.log(2 * np.pi)
    return float(constant + np.log(v).sum() + np.log((1 / v).sum()) + ((y - mean) ** 2 / v).sum())


def test_the_deviance_is_the_textbooks_at_its_optimum():
    best = optimize.minimize_scalar(_textbook, bounds=(0.0, 5.0), options={"xatol": 1e-10})
    assert meta().deviance == pytest.approx(best.fun, abs=1e-9)


def test_the_variance_is_where_the_textbooks_deviance_is_lowest():
    best = optimize.minimize_scalar(
        _textbook, bounds=(0.0, 5.0), method="bounded", options={"xatol": 1e-10}
    )
    assert float(meta().vcomp.iloc[0]) == pytest.approx(best.x, rel=1e-5)


def test_a_variance_of_zero_gives_the_common_effect():
    # Studies nearer to each other than their standard errors allow: tau is zero.
    data = trials().assign(se=20.0 * trials()["se"])
    with pytest.warns(SingularFitWarning):
        fit = mfx.lmer("y ~ 1 + (1 | trial)", data, residual_sd="se")
    w = data["se"] ** -2.0
    assert fit.params.iloc[0] == pytest.approx((w * data["y"]).sum() / w.sum(), rel=1e-9)
    assert fit.bse.iloc[0] == pytest.approx(w.sum() ** -0.5, rel=1e-9)


def test_leaving_the_only_term_out_gives_the_likelihood_at_zero():
    table = meta().ranova()
    assert table["chisq"].iloc[1] == pytest.approx(_textbook(0.0) - meta().deviance, abs=1e-7)


def test_a_comparison_is_the_likelihood_ratio_under_maximum_likelihood():
    small, large = (meta(formula, reml=False) for formula in METAFOR)
    table = mfx.compare(small, large)
    assert table["chisq"].iloc[1] == pytest.approx(small.deviance - large.deviance, abs=1e-8)


# ------------------------------------------------------------------ degrees of freedom


def variance_of(fit: mfx.Results, row: np.ndarray):
    return lambda theta: float(row @ dense(fit, theta).cov_beta @ row)


@pytest.mark.covering(1)
@pytest.mark.parametrize("name", ["intercept", "slope", "crossed", "one row per level"])
@both_criteria
def test_satterthwaites_df_are_the_delta_method_on_the_dense_likelihood(name, reml):
    fit, row = fitted(name, reml), np.array([0.0, 1.0])
    information = curvature(lambda theta: dense(fit, theta).deviance, fit.theta)
    variance = variance_of(fit, row)
    by_theta = slope(variance, fit.theta)
    spread = by_theta @ (2.0 * np.linalg.solve(information, by_theta))
    expected = 2.0 * variance(fit.theta) ** 2 / spread
    assert fit.t_test(row)["df"].iloc[0] == pytest.approx(expected, rel=1e-4)


def test_degrees_of_freedom_are_infinite_without_random_terms():
    fit = mfx.lmer("y ~ x", frame(), residual_sd="se")
    assert np.isinf(fit.t_test([0, 1])["df"].iloc[0])


def kenward_roger(fit: mfx.Results, row: np.ndarray) -> tuple[np.ndarray, float]:
    """Equations 3 to 6 of Kenward and Roger (1997), for variances alone and one row."""
    truth = dense(fit)
    X, Vi, Phi = truth.X, np.linalg.inv(truth.V), truth.cov_beta
    G = [Z @ Z.T for Z in map(dense_z, fit.model.rows.random_terms)]
    P = [-X.T @ Vi @ S @ Vi @ X for S in G]
    Q = [[X.T @ Vi @ S @ Vi @ T @ Vi @ X for T in G] for S in G]
    M = Vi - Vi @ X @ Phi @ X.T @ Vi
    W = np.linalg.inv([[0.5 * np.trace(M @ S @ M @ T) for T in G] for S in G])
    m = range(len(G))
    inner = sum(W[i, j] * (Q[i][j] - P[i] @ Phi @ P[j]) for i in m for j in m)
    Theta = np.outer(row, row) / (row @ Phi @ row)
    A2 = sum(
        W[i, j] * np.trace(Theta @ Phi @ P[i] @ Phi @ Theta @ Phi @ P[j] @ Phi)
        for i in m
        for j in m
    )
    return Phi + 2.0 * Phi @ inner @ Phi, 2.0 / A2


@pytest.mark.parametrize("name", ["intercept", "crossed", "one row per level"])
def test_kenward_and_rogers_standard_error_is_that_of_the_dense_formula(name):
    fit, row = fitted(name), np.array([0.0, 1.0])
    cov, _ = kenward_roger(fit, row)
    found = fit.t_test(row, df_method="kenward-roger")["std_error"].iloc[0]
    assert found == pytest.approx(np.sqrt(row @ cov @ row), rel=1e-6)


@pytest.mark.parametrize("name", ["intercept", "crossed", "one row per level"])
def test_kenward_and_rogers_df_are_those_of_the_dense_formula(name):
    fit, row = fitted(name), np.array([0.0, 1.0])
    _, df = kenward_roger(fit, row)
    found = fit.t_test(row, df_method="kenward-roger")["df"].iloc[0]
    assert found == pytest.approx(df, rel=1e-5)


# ------------------------------------------------------------------ profiles


def test_profile_limits_of_a_standard_deviation_are_roots_of_the_dense_deviance():
    fit = meta(reml=False)
    lo, hi = fit.conf_int(parm="sd(Intercept | trial)", method="profile").iloc[0]

    def height(sd: float) -> float:
        design = fit.model.design
        return marginal(design, [np.array([[sd**2]])], trials()["se"], reml=False).deviance

    quantile = special.chdtri(1, 0.05)
    rises = [height(end) - fit.deviance for end in (lo, hi)]
    np.testing.assert_allclose(rises, quantile, rtol=1e-4)


def test_profile_limits_of_a_coefficient_are_roots_of_the_dense_deviance():
    fit = meta(reml=False)
    lo, hi = fit.conf_int(parm="Intercept", method="profile").iloc[0]

    def height(beta: float) -> float:
        def at(sd: float) -> float:
            G = [np.array([[sd**2]])]
            design, se = fit.model.design, trials()["se"]
            return marginal(design, G, se, reml=False, beta=np.array([beta])).deviance

        return optimize.minimize_scalar(at, bounds=(0.0, 5.0), method="bounded").fun

    rises = [height(end) - fit.deviance for end in (lo, hi)]
    np.testing.assert_allclose(rises, special.chdtri(1, 0.05), rtol=1e-4)


@pytest.mark.full
def test_sigma_is_not_profiled():
    assert not any("sigma" in name for name in meta().profile()["parameter"].unique())


# ------------------------------------------------------------------ drawing and predicting


@pytest.mark.full
def test_simulated_residuals_have_the_sds_given():
    # A variance of 4000 draws has a standard error of 2.2 %; the largest of 48 is within five.
    draws = fitted("intercept").simulate(4000, rng=1, random="fitted")
    ratio = draws.var(axis=1).to_numpy() / frame()["se"].to_numpy() ** 2
    assert np.abs(ratio - 1.0).max() < 5 * np.sqrt(2 / 4000)


@pytest.mark.full
def test_simulated_responses_have_the_models_covariance():
    fit = meta()
    draws = fit.simulate(4000, rng=2).to_numpy()
    expected = fit.vcomp.iloc[0] + trials()["se"].to_numpy() ** 2
    assert np.abs(draws.var(axis=1) / expected - 1.0).max() < 5 * np.sqrt(2 / 4000)


def test_a_bootstrap_has_no_sigma():
    names = meta().bootstrap(20, rng=1, progress=False).draws.columns.tolist()
    assert names == ["Intercept", "sd(Intercept | trial)", "theta[0]"]


@pytest.mark.full
def test_a_bootstraps_spread_is_the_standard_error_without_random_terms():
    # Known normal law: the error of a standard deviation of 400 draws is 3.5 %.
    fit = mfx.lmer("y ~ x", frame(), residual_sd="se")
    spread = fit.bootstrap(400, rng=1, progress=False).draws["x"].std()
    assert spread == pytest.approx(fit.bse["x"], rel=5 * 0.035)


def test_a_prediction_interval_has_the_new_rows_sd():
    fit = meta()
    new = pd.DataFrame({"trial": [99, 99], "se": [0.1, 2.0]})
    table = fit.predict(new, interval="prediction", new_levels="population", se=True)
    half = (table["conf_high"] - table["conf_low"]) / 2
    variance = fit.bse.iloc[0] ** 2 + fit.vcomp.iloc[0] + new["se"] ** 2
    np.testing.assert_allclose(half, special.ndtri(0.975) * np.sqrt(variance), rtol=1e-7)


def test_a_prediction_interval_without_the_sds_column_is_refused():
    with pytest.raises(MissingColumnError, match="'se'"):
        meta().predict(trials()[["trial"]], interval="prediction")


def test_a_prediction_interval_is_refused_where_the_sds_were_an_array():
    fit = mfx.lmer("y ~ 1 + (1 | trial)", trials(), residual_sd=trials()["se"].to_numpy())
    with pytest.raises(DataError, match="array"):
        fit.predict(trials(), interval="prediction")


def test_a_prediction_needs_no_sds():
    np.testing.assert_allclose(meta().predict(trials()[["trial"]]), meta().fittedvalues)


def test_a_missing_sd_leaves_its_row_out():
    data = trials().assign(se=trials()["se"].where(trials()["trial"] != 4))
    fit = mfx.lmer("y ~ 1 + (1 | trial)", data, residual_sd="se")
    without = mfx.lmer("y ~ 1 + (1 | trial)", data.drop(index=4), residual_sd="se")
    assert fit.params.to_dict() == without.params.to_dict()


def test_a_refit_is_a_fit_of_the_new_response():
    y = trials()["y"] ** 2
    again = meta().refit(y)
    anew = mfx.lmer("y ~ 1 + (1 | trial)", trials().assign(y=y), residual_sd="se")
    assert again.deviance == pytest.approx(anew.deviance, abs=1e-9)


# ------------------------------------------------------------------ one row nearly exact


@pytest.mark.full
@pytest.mark.kept("0.0001")
@pytest.mark.parametrize("exact", [1e-3, 1e-4, 1e-5])
@pytest.mark.filterwarnings("ignore::mixedfx.errors.ConvergenceWarning")
def test_a_nearly_exact_row_does_not_hide_the_optimum(exact):
    # Its weight makes the columns' root mean squares its own, and a moment estimate worthless.
    films = mfx.datasets.load("romcom")
    sds = np.r_[exact, np.ones(len(films) - 1)]
    fit = mfx.lmer("rating ~ 1 + (1 | friend)", films, residual_sd=sds)

    def deviance(sd: float) -> float:
        return marginal(fit.model.design, [np.array([[sd**2]])], sds, reml=True).deviance

    best = optimize.minimize_scalar(deviance, bounds=(0.1, 2.0), method="bounded")
    assert fit.deviance == pytest.approx(best.fun, abs=1e-3)


def test_a_fit_that_rounding_keeps_from_its_optimum_does_not_claim_it():
    films = mfx.datasets.load("romcom")
    sds = np.r_[1e-6, np.ones(len(films) - 1)]
    with pytest.warns(ConvergenceWarning, match="uneven"):
        fit = mfx.lmer("rating ~ 1 + (1 | friend)", films, residual_sd=sds)
    assert not fit.converged


@pytest.mark.parametrize("given", [{"residual_sd": 1e-8}, {"weights": 1e16}])
def test_a_row_beside_which_the_others_are_lost_is_refused(given):
    films = mfx.datasets.load("romcom")
    (name, value), others = next(iter(given.items())), np.ones(len(films) - 1)
    with pytest.raises(WeightsError, match="row 0"):
        mfx.lmer("rating ~ 1 + (1 | friend)", films, **{name: np.r_[value, others]})
