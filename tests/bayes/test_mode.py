"""The mode of the posterior: what ``lmer(..., priors=...)`` fits.

Source of truth: with flat priors the REML fit; with others, scipy's optimum of the dense normal
density plus scipy's priors; with a point mass, the fit in which the same is an offset. Fixed and
random effects are integrated out, and the density is that of standard deviations.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from oracle import covariances, marginal
from scipy import optimize, stats

import mixedfx as mfx
from mixedfx.errors import ArgumentError, SingularFitWarning
from mixedfx.priors import LKJ, Constant, Exponential, Flat, HalfNormal, HalfStudentT, Normal

DATA = {
    "sleepstudy": "Reaction ~ Days + (Days | Subject)",
    "Penicillin": "diameter ~ 1 + (1 | plate) + (1 | sample)",
    "Pastes": "strength ~ 1 + (1 | batch / cask)",
    "Dyestuff": "Yield ~ 1 + (1 | Batch)",
    "cake": "angle ~ recipe * temperature + (1 | recipe:replicate)",
}
SLEEP = DATA["sleepstudy"]
EIGHT = pd.DataFrame(
    {
        "school": list("ABCDEFGH"),
        "y": [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0],
        "se": [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0],
    }
)
every_set = pytest.mark.parametrize("name", DATA)


@cache
def reml(name: str) -> mfx.Results:
    return mfx.lmer(DATA[name], mfx.datasets.load(name))


def mode(name: str, priors, **options) -> mfx.Results:
    return mfx.lmer(DATA[name], mfx.datasets.load(name), priors=priors, **options)


@cache
def flat(name: str) -> mfx.Results:
    return mode(name, {})


@cache
def informed() -> mfx.Results:
    return mode("sleepstudy", INFORMED)


INFORMED = {
    "Intercept": Normal(260, 10),
    "Days": Normal(8, 2),
    "sd": HalfNormal(15),
    "corr": LKJ(2),
    "sigma": HalfStudentT(3, 20),
}

# ------------------------------------------------------------------ flat priors


@pytest.mark.full
@every_set
def test_flat_priors_have_the_deviance_of_reml(name):
    assert flat(name).deviance == pytest.approx(reml(name).deviance, abs=1e-8)


@pytest.mark.kept("sleepstudy", "Penicillin", "Dyestuff")
@every_set
def test_flat_priors_have_the_coefficients_of_reml(name):
    np.testing.assert_allclose(flat(name).params, reml(name).params, rtol=1e-6)
    np.testing.assert_allclose(flat(name).bse, reml(name).bse, rtol=1e-4)


@pytest.mark.full
@pytest.mark.cases(1)
@every_set
def test_flat_priors_have_the_covariances_of_reml(name):
    for ours, theirs in zip(covariances(flat(name)), covariances(reml(name)), strict=True):
        scale = np.sqrt(np.outer(np.diag(theirs), np.diag(theirs)))
        np.testing.assert_allclose(ours / scale, theirs / scale, atol=2e-4)
    assert flat(name).sigma == pytest.approx(reml(name).sigma, rel=1e-5)


def test_flat_by_name_is_flat():
    named = mode("Dyestuff", {"sd": Flat(), "sigma": Flat(), "Intercept": Flat()})
    assert named.deviance == flat("Dyestuff").deviance


def test_a_variance_of_zero_is_said_to_be_zero():
    data = mfx.datasets.load("Dyestuff2")
    with pytest.warns(SingularFitWarning, match="boundary"):
        fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", data, priors={})
    assert fit.is_singular
    assert fit.theta[0] == 0.0
    with pytest.warns(SingularFitWarning):
        plain = mfx.lmer("Yield ~ 1 + (1 | Batch)", data)
    assert fit.deviance == pytest.approx(plain.deviance, abs=1e-7)


@pytest.mark.full
def test_a_dispersion_with_flat_priors_is_reml():
    data = mfx.datasets.load("romcom")
    formula = "rating ~ 1 + (1 | friend)"
    ours = mfx.lmer(formula, data, dispersion="~ kind", priors={})
    plain = mfx.lmer(formula, data, dispersion="~ kind")
    assert ours.deviance == pytest.approx(plain.deviance, abs=1e-7)
    np.testing.assert_allclose(ours.dispersion["estimate"], plain.dispersion["estimate"], atol=1e-5)
    np.testing.assert_allclose(
        ours.dispersion["std_error"], plain.dispersion["std_error"], rtol=1e-3
    )


def test_known_residual_standard_deviations_with_flat_priors_are_reml():
    options = {"residual_sd": "se", "reml": True}
    data = EIGHT.assign(y=3.0 * EIGHT["y"])
    plain = mfx.lmer("y ~ 1 + (1 | school)", data, **options)
    ours = mfx.lmer("y ~ 1 + (1 | school)", data, priors={}, **options)
    assert ours.deviance == pytest.approx(plain.deviance, abs=1e-8)
    np.testing.assert_allclose(ours.theta, plain.theta, rtol=1e-4)


@pytest.mark.parametrize(
    ("data", "formula"),
    [("romcom", "rating ~ 1 + (1 | friend)"), ("Dyestuff", "Yield ~ 1 + (1 | Batch)")],
)
def test_known_parameters_are_those_of_the_fit_that_they_come_from(data, formula):
    # No standard deviation is free then: six batches have several starts where one is.
    table = mfx.datasets.load(data)
    plain = mfx.lmer(formula, table)
    priors = {"theta": Constant(plain.theta), "sigma": Constant(plain.sigma)}
    known = mfx.lmer(formula, table, priors=priors)
    assert known.deviance == pytest.approx(plain.deviance, abs=1e-8)
    np.testing.assert_allclose(known.params, plain.params, rtol=1e-10)


# ------------------------------------------------------------------ proper priors


def sleep_density(point) -> float:
    """-2 log posterior density of two standard deviations, a correlation and sigma; dense."""
    s0, s1, r, sigma = point
    if min(s0, s1, sigma) <= 0.0 or abs(r) >= 1.0:
        return np.inf
    design = informed().model.original_design
    S = np.array([[s0**2, r * s0 * s1], [r * s0 * s1, s1**2]])
    V = marginal(design, [S], sigma, reml=False).V
    V += (design.rows.X * np.array([10.0, 2.0]) ** 2) @ design.rows.X.T
    law = stats.multivariate_normal(design.rows.X @ [260.0, 8.0], V)
    prior = stats.halfnorm(scale=15).logpdf([s0, s1]).sum() + np.log(1.0 - r**2)
    prior += np.log(2.0) + stats.t(3, scale=20).logpdf(sigma)
    return -2.0 * (law.logpdf(design.rows.y) + prior)


def at(fit) -> np.ndarray:
    S = covariances(fit)[0]
    s = np.sqrt(np.diag(S))
    return np.array([*s, S[0, 1] / s.prod(), fit.sigma])


@pytest.mark.full
def test_the_mode_is_no_worse_than_scipys():
    start = np.array([20.0, 6.0, 0.1, 25.0])
    options = {"xatol": 1e-4, "fatol": 1e-7, "maxiter": 1500}
    other = optimize.minimize(sleep_density, start, method="Nelder-Mead", options=options)
    assert sleep_density(at(informed())) <= other.fun + 1e-6
    np.testing.assert_allclose(at(informed()), other.x, rtol=2e-3, atol=2e-3)


def test_the_mode_is_stationary():
    here = at(informed())
    for j, step in enumerate(1e-3 * np.abs(here)):
        ends = [sleep_density(here + s * np.eye(4)[j]) for s in (step, -step)]
        assert abs(ends[0] - ends[1]) < 1e-5


def test_coefficients_are_the_mean_given_the_mode():
    # Lindley and Smith (1972): precisions add.
    design, fit = informed().model.original_design, informed()
    V = marginal(design, covariances(fit), fit.sigma, reml=False).V
    told = design.rows.X.T @ np.linalg.inv(V)
    precision = told @ design.rows.X + np.diag([1 / 100, 1 / 4])
    mean = np.linalg.solve(precision, told @ design.rows.y + np.array([260 / 100, 8 / 4]))
    np.testing.assert_allclose(fit.params, mean, rtol=1e-8)
    np.testing.assert_allclose(fit.bse, np.sqrt(np.diag(np.linalg.inv(precision))), rtol=1e-8)


def test_a_prior_pulls_the_estimate_towards_it():
    plain = reml("sleepstudy").params["Days"]
    pulled = mode("sleepstudy", {"Days": Normal(0, 2)}).params["Days"]
    assert 0.0 < pulled < plain


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
def test_eight_schools_have_the_mode_of_their_density():
    # Rubin (1981). One parameter is left: the standard deviation between schools.
    fit = mfx.lmer("y ~ 1 + (1 | school)", EIGHT, residual_sd="se", priors={"sd": HalfNormal(10)})

    def minus_log(tau):
        w = 1.0 / (EIGHT["se"] ** 2 + tau**2)
        mu = (w @ EIGHT["y"]) / w.sum()
        log_law = stats.norm(mu, w**-0.5).logpdf(EIGHT["y"]).sum() - 0.5 * np.log(w.sum())
        return -(log_law + stats.halfnorm(scale=10).logpdf(tau))

    best = optimize.minimize_scalar(minus_log, bounds=(0.0, 30.0), options={"xatol": 1e-9})
    found = float(np.sqrt(covariances(fit)[0][0, 0]))
    assert minus_log(found) <= best.fun + 1e-7


# ------------------------------------------------------------------ constants, and no prior


@pytest.mark.parametrize("sd", [0.0, 1e-6])
def test_a_prior_without_variance_turns_a_coefficient_into_a_constant(sd):
    data = mfx.datasets.load("sleepstudy")
    fit = mode("sleepstudy", {"Days": Normal(7.0, sd)})
    other = mfx.lmer("Reaction ~ 1 + (Days | Subject)", data, offset=7.0 * data["Days"])
    assert fit.params["Days"] == pytest.approx(7.0, abs=1e-9)
    assert fit.bse["Days"] == pytest.approx(sd, abs=1e-8)
    assert fit.params["Intercept"] == pytest.approx(other.params["Intercept"], rel=1e-5)
    np.testing.assert_allclose(fit.theta, other.theta, rtol=1e-3, atol=1e-4)
    assert fit.sigma == pytest.approx(other.sigma, rel=1e-4)


def test_a_constant_is_exact():
    fit = mode("sleepstudy", {"Days": Normal(7.3, 0)})
    assert fit.params["Days"] == 7.3
    assert fit.bse["Days"] == 0.0


@pytest.mark.parametrize("sd", [1e6, 1e10])
def test_a_very_wide_prior_is_no_prior(sd):
    fit = mode("sleepstudy", {"Intercept": Normal(0, sd), "Days": Normal(0, sd)})
    plain = reml("sleepstudy")
    np.testing.assert_allclose(fit.params, plain.params, rtol=1e-6)
    np.testing.assert_allclose(fit.bse, plain.bse, rtol=1e-4)
    np.testing.assert_allclose(fit.theta, plain.theta, atol=1e-4)


def test_theta_held_and_flat_priors_give_the_blups_and_their_standard_errors():
    plain = reml("sleepstudy")
    held = {"theta": Constant(plain.theta), "sigma": Constant(plain.sigma)}
    fit = mode("sleepstudy", held)
    np.testing.assert_allclose(fit.params, plain.params, rtol=1e-10)
    np.testing.assert_allclose(fit.bse, plain.bse, rtol=1e-10)
    ours, theirs = (f.ranef("Subject", cond_sd=True) for f in (fit, plain))
    np.testing.assert_allclose(ours, theirs, rtol=1e-8)


def test_theta_held_leaves_sigma_as_reml_estimates_it():
    plain = reml("sleepstudy")
    assert mode("sleepstudy", {"theta": Constant(plain.theta)}).sigma == pytest.approx(
        plain.sigma, rel=1e-6
    )


def test_standard_deviations_held_are_those_of_the_fit():
    fit = mode("Penicillin", {"sd(Intercept | plate)": Constant(1.25), "sigma": Constant(0.5)})
    assert fit.sigma == 0.5
    assert np.sqrt(covariances(fit)[0][0, 0]) == pytest.approx(1.25, rel=1e-12)


@pytest.mark.full
@pytest.mark.parametrize("value", [1.0, 30.0])
def test_a_single_standard_deviation_may_be_held(value):
    # The other one, the correlation and sigma are then at scipy's optimum of the dense density.
    fit = mode("sleepstudy", {"sd(Days | Subject)": Constant(value), "corr": LKJ(2)})
    design = fit.model.original_design

    def minus_twice(point):
        s0, r, sigma = np.exp(point[0]), np.tanh(point[1]), np.exp(point[2])
        S = np.array([[s0**2, r * s0 * value], [r * s0 * value, value**2]])
        return marginal(design, [S], sigma, reml=True).deviance - 2.0 * np.log(1.0 - r**2)

    S = covariances(fit)[0]
    assert np.sqrt(S[1, 1]) == pytest.approx(value, rel=1e-10)
    s0 = np.sqrt(S[0, 0])
    here = np.array([np.log(s0), np.arctanh(S[0, 1] / s0 / value), np.log(fit.sigma)])
    best = optimize.minimize(
        minus_twice, here + 0.05, method="Nelder-Mead", options={"fatol": 1e-8}
    )
    assert minus_twice(here) <= best.fun + 1e-5


# ------------------------------------------------------------------ the rest of a fit


def test_the_optimum_is_certified():
    assert informed().certificate.ok
    assert informed().converged


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda fit: fit.conf_int(method="profile"), "profile"),
        (lambda fit: fit.profile(), "profile"),
        (lambda fit: fit.tidy(df_method="kenward-roger"), "df_method='kenward-roger'"),
        (lambda fit: mfx.compare(fit, fit), r"compare\(\)"),
        (lambda fit: fit.ranova(), r"ranova\(\)"),
        (lambda fit: fit.influence("Subject"), r"influence\(group\)"),
    ],
)
def test_what_asks_the_likelihood_alone_is_refused(ask, what):
    with pytest.raises(ArgumentError, match=f"{what}.*priors"):
        ask(informed())


@pytest.mark.parametrize("ask", [lambda fit: mfx.compare(fit, fit), lambda fit: fit.ranova()])
def test_comparisons_name_what_compares_posteriors(ask):
    with pytest.raises(ArgumentError, match=r"arviz_stats.compare\({'one': one.sample\(\)"):
        ask(informed())


@pytest.mark.full
@pytest.mark.parametrize("kind", ["parametric", "residual", "cases"])
def test_the_bootstrap_refits_the_mode(kind):
    # A response is one that simulate() draws; its estimates are those of refit().
    fit = small_with_priors()
    boot = fit.bootstrap(2, rng=1, progress=False, kind=kind)
    assert not boot.failures
    if kind == "parametric":
        refit = fit.refit(fit.simulate(2, rng=1)[1])
        found = boot.draws.loc[1, ["Intercept", "sigma", "theta[0]"]]
        np.testing.assert_allclose(found, [*refit.params, refit.sigma, *refit.theta], rtol=1e-8)
    # A prior as narrow as this one hardly lets an estimate move: its draws are those of a mode.
    assert boot.draws["Intercept"].between(1495.0, 1505.0).all()


@pytest.mark.full
def test_the_bootstrap_of_a_generalised_fit_refits_the_joint_mode():
    cows = mfx.datasets.load("cbpp").astype({"period": str})
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    fit = mfx.glmer(formula, cows, priors={"fixed": Normal(0, 0.5)})
    boot = fit.bootstrap(1, rng=1, progress=False)
    refit = fit.refit(fit.simulate(1, rng=1)[0])
    np.testing.assert_allclose(boot.draws.iloc[0, :4], refit.params, rtol=1e-6)


def small_with_priors() -> mfx.Results:
    data = mfx.datasets.load("Dyestuff")
    priors = {"sd": HalfNormal(20), "Intercept": Normal(1500, 1)}
    return mfx.lmer("Yield ~ 1 + (1 | Batch)", data, priors=priors)


def test_criteria_of_the_likelihood_are_not_a_number():
    assert np.isnan(informed().aic)
    assert np.isnan(informed().bic)


def test_the_summary_says_that_there_are_priors():
    assert "REML with priors" in str(informed().summary())
    assert "mode of the posterior" in str(informed().summary())


def test_prediction_and_simulation_go_on_from_the_mode():
    fit = informed()
    expected = fit.model.rows.X @ fit.params.to_numpy()
    effects = fit.ranef("Subject")
    data = mfx.datasets.load("sleepstudy")
    rows = effects.loc[data["Subject"]].to_numpy()
    expected = expected + rows[:, 0] + rows[:, 1] * data["Days"].to_numpy()
    np.testing.assert_allclose(fit.predict(), expected, rtol=1e-10)
    assert np.isfinite(fit.simulate(2, rng=1)).to_numpy().all()


def test_a_refit_keeps_the_priors():
    fit = informed()
    y = mfx.datasets.load("sleepstudy")["Reaction"]
    again = fit.refit(y)
    assert again.model.priors.sd_priors == fit.model.priors.sd_priors
    np.testing.assert_allclose(again.params, fit.params, rtol=1e-8)
    np.testing.assert_allclose(again.theta, fit.theta, atol=1e-5)


def test_a_refit_to_another_response_is_a_fit_to_it():
    data = mfx.datasets.load("sleepstudy")
    other = data["Reaction"].to_numpy()[::-1].copy()
    fresh = mfx.lmer(SLEEP, data.assign(Reaction=other), priors=INFORMED)
    again = informed().refit(other)
    np.testing.assert_allclose(again.params, fresh.params, rtol=1e-6)
    assert again.deviance == pytest.approx(fresh.deviance, abs=1e-6)


def test_a_model_without_random_effects_takes_priors():
    # Conjugate but for sigma: sigma's mode by quadrature-free search of the dense density.
    data = mfx.datasets.load("sleepstudy")
    fit = mfx.lmer(
        "Reaction ~ Days", data, priors={"Days": Normal(8, 1), "sigma": Exponential(0.1)}
    )
    X, y = fit.model.rows.X, fit.model.rows.y

    def minus_log(sigma):
        V = sigma**2 * np.eye(len(y)) + np.outer(X[:, 1], X[:, 1])
        law = marginal_reml(y - 8 * X[:, 1], X[:, :1], V)
        return law + 0.1 * sigma

    best = optimize.minimize_scalar(minus_log, bounds=(20.0, 90.0), options={"xatol": 1e-8})
    assert fit.sigma == pytest.approx(best.x, rel=1e-5)


def marginal_reml(y, X, V) -> float:
    """Minus the log density, the coefficients of X integrated over flat priors."""
    Vi = np.linalg.inv(V)
    information = X.T @ Vi @ X
    beta = np.linalg.solve(information, X.T @ Vi @ y)
    rest = y - X @ beta
    logs = np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1]
    return 0.5 * float(logs + rest @ Vi @ rest)


def test_the_deviance_is_that_of_the_response_alone():
    design, fit = informed().model.original_design, informed()
    V = marginal(design, covariances(fit), fit.sigma, reml=False).V
    V += (design.rows.X * np.array([10.0, 2.0]) ** 2) @ design.rows.X.T
    law = stats.multivariate_normal(design.rows.X @ [260.0, 8.0], V)
    assert fit.deviance == pytest.approx(-2.0 * law.logpdf(design.rows.y), abs=1e-7)


@pytest.mark.parametrize("ask", [lambda f: f.anova(), lambda f: f.wald_test("Days = 7")])
def test_what_a_prior_makes_constant_is_not_tested(ask):
    fit = mfx.lmer(
        "Reaction ~ Days + (Days | Subject)",
        mfx.datasets.load("sleepstudy"),
        priors={"Days": mfx.priors.Normal(7, 0)},
    )
    with pytest.raises(ArgumentError, match="Days is constant by the priors"):
        ask(fit)


def test_a_constant_has_no_statistic():
    fit = mfx.lmer(
        "Reaction ~ Days + (Days | Subject)",
        mfx.datasets.load("sleepstudy"),
        priors={"Days": mfx.priors.Normal(7, 0)},
    )
    assert np.isnan(fit.tidy().set_index("term").loc["Days", "statistic"])


def test_a_prior_that_is_zero_at_zero_keeps_the_mode_off_it():
    # Eight schools, whose likelihood is highest without differences.
    fit = mfx.lmer(
        "y ~ 1 + (1 | school)", EIGHT, residual_sd="se", priors={"sd": mfx.priors.Gamma(2, 0.1)}
    )
    assert not fit.is_singular
    assert float(fit.vcomp.iloc[0]) > 1.0


def test_a_fit_lists_the_priors_that_were_given():
    priors = {"sd": HalfNormal(30), "Days": Normal(0, 5)}
    assert mode("sleepstudy", priors).priors == priors
    assert "Days ~ Normal(mean=0, sd=5)" in " ".join(str(mode("sleepstudy", priors)).split())


def test_a_fit_without_priors_lists_none():
    assert reml("sleepstudy").priors == {}


# ------------------------------------------------------------------ ill-conditioned columns


@cache
def with_column(shift: float) -> mfx.Results:
    """The slope has a prior, the intercept has none: where zero lies makes no difference."""
    rng = np.random.default_rng(3)
    g, x = np.repeat(np.arange(10), 6), rng.normal(size=60)
    y = 2.0 + x + rng.normal(size=10)[g] + rng.normal(size=60)
    return mfx.lmer(
        "y ~ x + (1 | g)",
        pd.DataFrame({"y": y, "x": x + shift, "g": g}),
        priors={"x": Normal(0.5, 0.1), "sd": HalfNormal(1)},
    )


def test_a_prior_of_a_slope_far_from_zero_acts_as_near_it():
    near, far = with_column(0.0), with_column(1e4)
    assert near.model.crossprod.qr_R is None
    assert far.model.crossprod.qr_R is not None
    assert far.deviance == pytest.approx(near.deviance, abs=1e-6)
    for quantity in ("params", "bse"):
        expected = getattr(near, quantity)["x"]
        assert getattr(far, quantity)["x"] == pytest.approx(expected, rel=1e-6)
    assert far.sigma == pytest.approx(near.sigma, rel=1e-6)


@pytest.mark.full
def test_draws_of_a_slope_far_from_zero_are_those_near_it():
    # Equal covariances, and the same coefficients in another basis: the draws' moments are equal.
    near, far = (with_column(shift).sample(draws=4000, rng=1).posterior for shift in (0.0, 1e4))
    np.testing.assert_allclose(near["sigma"], far["sigma"], rtol=1e-5)
    slopes = [tree["beta"].to_numpy()[..., 1].ravel() for tree in (near, far)]
    error = np.std(slopes[0]) * np.sqrt(2.0 / len(slopes[0]))
    assert abs(np.mean(slopes[0]) - np.mean(slopes[1])) < 4.5 * error
    assert np.std(slopes[1]) == pytest.approx(np.std(slopes[0]), rel=0.1)


def two_modes() -> pd.DataFrame:
    rng = np.random.default_rng(16)
    m, n = int(rng.integers(2, 7)), int(rng.integers(12, 40))
    g = np.r_[np.arange(m), rng.integers(m, size=n - m)]
    h, x = rng.integers(3, size=n), rng.normal(size=n)
    k = rng.permutation(np.r_[np.repeat([0, 1], 4), rng.integers(2, size=n - 8)])
    tau = rng.choice([0, 0.3, 1, 3])
    y = tau * rng.normal(size=m)[g] + 0.5 * rng.normal(size=3)[h]
    y = y + rng.normal(size=n) * np.where(k, 1, rng.choice([0.3, 1, 3])) + rng.choice([0, 2]) * 1.0
    return pd.DataFrame({"y": y, "x": x, "g": g.astype(str), "k": k.astype(str)})


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:singular mode")
def test_the_higher_of_two_modes_is_found():
    # From the REML estimates alone the search ended 0.137 lower, with sd(Intercept | g) positive.
    data, formula = two_modes(), "y ~ x + (x || g)"

    def objective(priors) -> float:
        fit = mfx.lmer(formula, data, priors=priors, dispersion="~ k")
        assert fit.converged
        of_g = fit.varcorr["group"].str.startswith("g")
        return fit.deviance + 2.0 * float(fit.varcorr.loc[of_g, "sdcor"].sum())

    free = objective({"sd": Exponential(1.0)})
    at_zero = {"sd(Intercept | g)": Constant(0.0), "sd(x | g)": Exponential(1.0)}
    assert free <= objective(at_zero) + 1e-8


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:singular mode")
def test_a_correlation_of_one_at_the_mode_is_on_the_boundary_and_certified():
    # Its coordinate, Fisher's z, goes to infinity, where the density is flat.
    rng = np.random.default_rng(3)
    g, x = np.repeat(np.arange(4), 8), rng.normal(size=32)
    y = 2.0 * rng.normal(size=4)[g] * (1.0 + 0.5 * x) + rng.normal(size=32)
    fit = mfx.lmer(
        "y ~ x + (x | g)", pd.DataFrame({"y": y, "x": x, "g": g}), priors={"sd": HalfNormal(3.0)}
    )
    assert fit.convergence.boundary == ("corr(Intercept, x | g)",)
    assert fit.convergence.ok
    assert fit.converged
