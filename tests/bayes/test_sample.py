"""Draws from the posterior, as ``fit.sample`` gives them.

Source of truth: with the covariances held, the best linear unbiased estimates and predictions and
Henderson's standard errors; with one or two parameters free, the posterior on a grid, the density
written out with dense matrices; ArviZ for the measures of the chains. All to within Monte-Carlo
error, at fixed seeds.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache

import arviz_stats
import numpy as np
import pandas as pd
import pytest
from oracle import marginal
from scipy import stats
from tiers import but_for

import mixedfx as mfx
from mixedfx.bayes import draws
from mixedfx.bayes import sampler as sampler_module
from mixedfx.errors import (
    ArgumentError,
    MissingPackageError,
    PriorError,
    SamplingWarning,
)
from mixedfx.priors import LKJ, Constant, Exponential, HalfNormal, Normal

SLEEP = "Reaction ~ Days + (Days | Subject)"
# Each claim is about a mean of N draws or so, in its Monte-Carlo standard errors.
MOST = 4.5


@cache
def sleep() -> mfx.Results:
    return mfx.lmer(SLEEP, mfx.datasets.load("sleepstudy"))


@cache
def sleep_tree():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return sleep().sample(rng=1)


@cache
def small() -> pd.DataFrame:
    """Forty rows of eight levels across five, with weights, an offset and two kinds."""
    rng = np.random.default_rng(5)
    n = 40
    g, h = np.repeat(np.arange(8), 5), np.tile(np.arange(5), 8)
    d = pd.DataFrame({"g": g, "h": h, "x": rng.normal(size=n), "w": np.exp(rng.normal(size=n))})
    d["o"], d["kind"] = 5.0 * rng.normal(size=n), rng.permutation(np.resize(["p", "q"], n))
    noise = np.where(d["kind"] == "p", 0.5, 1.5) * rng.normal(size=n)
    effects = rng.normal(size=8)[g] + rng.normal(size=5)[h]
    return d.assign(y=2.0 + d["x"] + effects + noise + d["o"])


def flattened(tree, name: str, group: str = "posterior") -> np.ndarray:
    values = tree[group][name].to_numpy()
    return values.reshape(-1, *values.shape[2:])


def away(found: np.ndarray, mean, sd) -> float:
    """How far means and standard deviations of independent normal draws are, in their errors."""
    n = len(found)
    mean, sd = np.asarray(mean), np.asarray(sd)
    of_means = np.abs(found.mean(axis=0) - mean) / (sd / np.sqrt(n))
    of_sds = np.abs(found.std(axis=0) - sd) / (sd / np.sqrt(2 * n))
    return float(max(of_means.max(), of_sds.max()))


# ------------------------------------------------------------------ the covariances held

HELD = {
    "one factor": ("y ~ x + (x | g)", {}),
    "weights and offset": ("y ~ x + (1 | g)", {"weights": "w", "offset": "o"}),
    "crossed": ("y ~ x + (1 | g) + (1 | h)", {"offset": "o"}),
    "crossed, weights": ("y ~ x + (x | g) + (1 | h)", {"weights": "w", "offset": "o"}),
    "two terms of a factor": ("y ~ x + (1 | g) + (0 + x | g)", {"offset": "o"}),
    "known sds": ("y ~ x + (1 | g)", {"residual_sd": np.linspace(0.5, 2.0, 40)}),
    "no random effects": ("y ~ x", {"weights": "w"}),
}
SLOW = ("crossed", "crossed, weights")
every_held = pytest.mark.parametrize("name", but_for(HELD, [n for n in HELD if n not in SLOW]))
THETA = {1: [0.9], 2: [0.9, 0.6], 3: [0.9, 0.3, 0.7], 4: [0.9, 0.3, 0.7, 0.5]}


@cache
def held(name: str):
    """A fit with everything known but the effects, and 20,000 draws of those."""
    formula, options = HELD[name]
    size = {"one factor": 3, "weights and offset": 1, "crossed": 2, "crossed, weights": 4}
    m = size.get(name, 2 if name.startswith("two") else 1)
    priors = {} if name == "no random effects" else {"theta": Constant(THETA[m])}
    if name != "known sds":
        priors["sigma"] = Constant(1.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mfx.errors.SingularFitWarning)
        fit = mfx.lmer(formula, small(), priors=priors, **options)
    draws = 500 if "crossed" in name else 5000
    return fit, fit.sample(draws, rng=2)


@pytest.mark.full
@every_held
def test_fixed_effects_are_drawn_with_their_standard_errors(name):
    fit, tree = held(name)
    assert away(flattened(tree, "beta"), fit.params, fit.bse) < MOST


@pytest.mark.kept("weights and offset", "two terms of a factor", "no random effects")
@every_held
def test_fixed_effects_are_drawn_with_their_covariance(name):
    fit, tree = held(name)
    found, bse = flattened(tree, "beta"), fit.bse.to_numpy()
    expected = (fit.cov_params() / np.outer(bse, bse)).to_numpy()
    np.testing.assert_allclose(np.corrcoef(found.T), expected, atol=MOST / np.sqrt(len(found)))


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "name",
    but_for([n for n in HELD if n != "no random effects"], [n for n in HELD if n not in SLOW]),
)
def test_random_effects_are_drawn_about_the_best_predictions(name):
    fit, tree = held(name)
    for group in fit.formula.groups:
        found = flattened(tree, f"b_{group}")
        expected = fit.ranef(group).to_numpy()
        errors = found.std(axis=0) / np.sqrt(len(found))
        assert (np.abs(found.mean(axis=0) - expected) / errors).max() < MOST


@pytest.mark.cases(1)
@every_held
def test_rows_are_drawn_with_hendersons_prediction_errors(name):
    # X beta + Z b: their covariance counts, not only each one's spread.
    fit, tree = held(name)
    design = fit.model.original_design
    rows = flattened(tree, "beta") @ design.rows.X.T
    seen: dict[str, int] = {}
    for random_term in design.rows.random_terms:
        effects = flattened(tree, f"b_{random_term.group}")
        for a in range(random_term.model_matrix.shape[1]):
            j = seen.get(random_term.group, 0)
            rows = rows + random_term.model_matrix[:, a] * effects[:, random_term.codes, j]
            seen[random_term.group] = j + 1
    rows = rows + (0.0 if design.rows.offset is None else design.rows.offset)
    told = fit.predict(se=True)
    assert away(rows, told.iloc[:, 0], told.iloc[:, 1]) < MOST


@every_held
def test_new_responses_add_the_residual_variance(name):
    fit, tree = held(name)
    response = flattened(tree, "y", "posterior_predictive")
    told, design = fit.predict(se=True), fit.model.original_design
    w = 1.0 if design.rows.weights is None else design.rows.weights
    sd = fit.sigma / np.sqrt(w)
    if design.spec.fixed_sigma is not None:
        sd = np.linspace(0.5, 2.0, 40)
    total = np.sqrt(told.iloc[:, 1] ** 2 + sd**2)
    assert away(response, told.iloc[:, 0], total) < MOST


def test_nothing_but_effects_is_left_to_draw():
    _, tree = held("one factor")
    assert tree["posterior"].attrs["sampler"] == "exact"
    assert np.ptp(tree["posterior"]["sigma"].to_numpy()) == 0.0


@pytest.mark.full
def test_a_constant_coefficient_is_drawn_as_itself():
    fit = mfx.lmer("y ~ x + (1 | g)", small(), offset="o", priors={"x": Normal(0.7, 0)})
    found = fit.sample(1000, rng=1)["posterior"]["beta"]
    assert (found.sel(term="x") == 0.7).all()
    assert float(found.sel(term="Intercept").std()) > 0.01


# ------------------------------------------------------------------ the posterior on a grid


def summary(shares: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    mean = float((shares * values).sum())
    return mean, float(np.sqrt((shares * (values - mean) ** 2).sum()))


def agrees(tree, name: str, mean: float, sd: float) -> bool:
    """Whether mean and standard deviation of a scalar's draws are these, to within their errors."""
    draws = tree["posterior"][name].squeeze()
    ess = float(arviz_stats.ess(draws.to_numpy(), method="mean", chain_axis=0, draw_axis=1))
    values = draws.to_numpy()
    if abs(values.mean() - mean) > MOST * sd / np.sqrt(ess):
        return False
    # A fourth moment widens the error of a variance.
    kurtosis = float(stats.kurtosis(values.ravel(), fisher=False))
    return abs(values.std() / sd - 1.0) < MOST * np.sqrt((kurtosis - 1.0) / 4.0 / ess)


DYESTUFF = {"sd": HalfNormal(50), "sigma": Exponential(1 / 60), "Intercept": Normal(1500, 40)}


@cache
def dyestuff() -> mfx.Results:
    data = mfx.datasets.load("Dyestuff")
    return mfx.lmer("Yield ~ 1 + (1 | Batch)", data, priors=DYESTUFF)


@cache
def dyestuff_grid():
    """Shares of a grid of (sd, sigma), by Dyestuff's dense density and scipy's priors."""
    sds, sigmas = np.linspace(0.25, 200.0, 160), np.linspace(30.0, 110.0, 120)
    design = dyestuff().model.original_design
    logs = np.empty((len(sds), len(sigmas)))
    # The covariance has two eigenspaces besides the mean: one factorisation serves all points.
    blocks = marginal(design, [np.eye(1)], 1e-6, reml=False).V
    _, vectors = np.linalg.eigh(blocks + 1e6 * np.ones_like(blocks))
    rest = vectors.T @ (design.rows.y - 1500.0)
    between = np.einsum("ij,ij->j", vectors, blocks @ vectors)
    mean = np.einsum("ij,ij->j", vectors, np.ones_like(blocks) @ vectors)
    for i, sd in enumerate(sds):
        V = sd**2 * between[None] + sigmas[:, None] ** 2 + 40.0**2 * mean[None]
        logs[i] = -0.5 * (np.log(V) + rest**2 / V).sum(axis=1)
    logs += stats.halfnorm(scale=50).logpdf(sds)[:, None] + stats.expon(scale=60).logpdf(sigmas)
    shares = np.exp(logs - logs.max())
    return sds, sigmas, shares / shares.sum()


@pytest.fixture(
    params=[
        "independence Metropolis",
        "importance resampling",
        pytest.param("emcee ensembles", marks=pytest.mark.full),
    ]
)
def sampler(request, monkeypatch):
    """The name of a sampler that is made to be used."""
    if request.param.startswith("emcee"):
        monkeypatch.setattr(sampler_module, "_MIN_EFFICIENCY", 2.0)
    if request.param.startswith("importance"):
        monkeypatch.setattr(sampler_module, "MOST_DIMENSIONS", 0)
    return request.param


@pytest.mark.full
def test_two_standard_deviations_have_their_posterior(sampler):
    tree = dyestuff().sample(2000, rng=3)
    assert tree["posterior"].attrs["sampler"] == sampler
    sds, sigmas, shares = dyestuff_grid()
    assert agrees(tree, "sd", *summary(shares, sds[:, None]))
    assert agrees(tree, "sigma", *summary(shares, sigmas[None]))


@pytest.mark.full
def test_quantiles_are_those_of_the_grid():
    tree = dyestuff().sample(5000, rng=4)
    sds, _, shares = dyestuff_grid()
    found = np.sort(tree["posterior"]["sd"].to_numpy().ravel())
    cumulative = np.cumsum(shares.sum(axis=1))
    for q in (0.05, 0.25, 0.5, 0.75, 0.95):
        at = np.interp(q, cumulative, sds + 0.5 * (sds[1] - sds[0]))
        below = np.searchsorted(found, at) / len(found)
        assert abs(below - q) < MOST * np.sqrt(q * (1 - q) / 10_000)


@pytest.mark.full
def test_crossed_factors_have_their_posterior():
    # The other factor's standard deviation is known; the effects are integrated out.
    priors = {
        "sd(Intercept | g)": HalfNormal(1),
        "sd(Intercept | h)": Constant(0.9),
        "sigma": Exponential(1),
    }
    fit = mfx.lmer("y ~ x + (1 | g) + (1 | h)", small(), offset="o", weights="w", priors=priors)
    tree, design = fit.sample(1000, rng=8), fit.model.original_design
    sds, sigmas = np.linspace(0.02, 3.2, 36), np.linspace(0.6, 2.4, 30)
    logs = np.empty((36, 30))
    for i, j in np.ndindex(36, 30):
        S = [np.array([[sds[i] ** 2]]), np.array([[0.81]])]
        by_row = sigmas[j] / np.sqrt(design.rows.weights)
        logs[i, j] = -0.5 * marginal(design, S, by_row, reml=True).deviance
    logs += stats.halfnorm.logpdf(sds)[:, None] + stats.expon.logpdf(sigmas)
    shares = np.exp(logs - logs.max())
    shares /= shares.sum()
    sd = tree["posterior"]["sd"].sel(effect="Intercept | g")
    for drawn, grid in ((sd, sds[:, None]), (tree["posterior"]["sigma"], sigmas[None])):
        mean, spread = summary(shares, grid)
        assert abs(float(drawn.mean()) - mean) < MOST * spread / np.sqrt(1000)
        assert float(drawn.std()) == pytest.approx(spread, rel=0.1)


EIGHT = pd.DataFrame(
    {
        "school": list("ABCDEFGH"),
        "y": [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0],
        "se": [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0],
    }
)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
def test_eight_schools_have_their_posterior(sampler):
    # Rubin (1981); Gelman and others (2013), section 5.5. Integrated over tau on a grid.
    fit = mfx.lmer("y ~ 1 + (1 | school)", EIGHT, residual_sd="se", priors={"sd": HalfNormal(10)})
    tree = fit.sample(2000, rng=5)
    tau = np.linspace(0.005, 60.0, 6000)
    w = 1.0 / (EIGHT["se"].to_numpy() ** 2 + tau[:, None] ** 2)
    y = EIGHT["y"].to_numpy()
    mu = (w @ y) / w.sum(axis=1)
    logs = 0.5 * np.log(w).sum(axis=1) - 0.5 * np.log(w.sum(axis=1))
    logs -= 0.5 * (w * (y - mu[:, None]) ** 2).sum(axis=1) + tau**2 / 200.0
    shares = np.exp(logs - logs.max())
    shares /= shares.sum()
    assert agrees(tree, "sd", *summary(shares, tau))
    mean = float(shares @ mu)
    variance = float(shares @ (1.0 / w.sum(axis=1) + (mu - mean) ** 2))
    assert agrees(tree, "beta", mean, np.sqrt(variance))
    # School A: between its own estimate and the mean of all.
    pull = tau**2 * w[:, 0]
    school = float(shares @ (mu + pull * (28.0 - mu)))
    a = flattened(tree, "beta")[:, 0] + flattened(tree, "b_school")[:, 0, 0]
    assert abs(a.mean() - school) < 0.5


@pytest.mark.full
def test_resampled_draws_of_standardized_correlations_agree_with_chains(monkeypatch):
    data = mfx.datasets.load("sleepstudy")
    fit = mfx.lmer(SLEEP, data, priors={"sd": HalfNormal(30), "corr": LKJ(2)})
    one = fit.sample(2000, rng=6)
    monkeypatch.setattr(sampler_module, "MOST_DIMENSIONS", 0)
    other = fit.sample(2000, rng=7)
    assert other["posterior"].attrs["sampler"] == "importance resampling"
    for name in ("beta", "sd", "corr", "sigma"):
        a, b = flattened(one, name), flattened(other, name)
        spread = a.std(axis=0)
        assert (np.abs(a.mean(axis=0) - b.mean(axis=0)) < MOST * spread * np.sqrt(2 / 2000)).all()
        np.testing.assert_allclose(b.std(axis=0), spread, rtol=0.1)


@pytest.mark.full
def test_ensembles_agree_with_independent_proposals(monkeypatch):
    data = mfx.datasets.load("sleepstudy")
    fit = mfx.lmer(SLEEP, data, priors={"sd": HalfNormal(30), "corr": LKJ(2)})
    one = fit.sample(2000, rng=6)
    monkeypatch.setattr(sampler_module, "_MIN_EFFICIENCY", 2.0)
    other = fit.sample(2000, rng=6)
    assert other["posterior"].attrs["sampler"] == "emcee ensembles"
    for name in ("beta", "sd", "corr", "sigma"):
        a, b = flattened(one, name), flattened(other, name)
        error = a.std(axis=0) * np.sqrt(2.0 / 1500.0)
        assert (np.abs(a.mean(axis=0) - b.mean(axis=0)) / error).max() < MOST


# ------------------------------------------------------------------ strata


@pytest.mark.full
def test_strata_are_drawn_about_their_estimates():
    data = mfx.datasets.load("romcom")
    fit = mfx.lmer("rating ~ 1 + (1 | friend)", data, dispersion="~ kind")
    tree = fit.sample(500, chains=2, rng=7)
    gamma = flattened(tree, "gamma")
    estimate, error = fit.dispersion["estimate"], fit.dispersion["std_error"]
    assert (np.abs(gamma.mean(axis=0) - estimate) / error).max() < 0.3
    np.testing.assert_allclose(gamma.std(axis=0), error, rtol=0.15)


@pytest.mark.full
def test_the_coefficients_of_the_dispersion_are_named():
    fit = mfx.lmer("y ~ x + (1 | g)", small(), offset="o", dispersion="~ kind")
    with pytest.warns(SamplingWarning):
        posterior = fit.sample(50, rng=1)["posterior"]
    assert list(posterior["dispersion_term"].to_numpy()) == [
        "dispersion(Intercept)",
        "dispersion(kind[T.q])",
    ]
    first = posterior["gamma"].isel(dispersion_term=0)
    np.testing.assert_allclose(np.exp(first), posterior["sigma"], rtol=1e-12)


@pytest.mark.full
def test_new_responses_have_the_spread_of_their_stratum():
    fit = mfx.lmer("y ~ x + (1 | g)", small(), offset="o", dispersion="~ kind")
    tree = fit.sample(500, rng=1)
    design = fit.model.original_design
    sds = np.exp(flattened(tree, "gamma") @ design.rows.residual.D.T)
    mean = flattened(tree, "beta") @ design.rows.X.T + design.rows.offset
    mean = mean + flattened(tree, "b_g")[:, design.rows.random_terms[0].codes, 0]
    scaled = (flattened(tree, "y", "posterior_predictive") - mean) / sds
    assert abs(scaled.mean()) < MOST / np.sqrt(scaled.size)
    assert scaled.std() == pytest.approx(1.0, abs=MOST / np.sqrt(2 * scaled.size))


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
def test_a_normal_prior_of_log_sigma_is_the_prior_that_is_drawn_from():
    # Both coefficients of the dispersion on a grid, all else known or integrated out.
    priors = {"dispersion(Intercept)": Normal(1.0, 0.5), "sd": Constant(0.8)}
    fit = mfx.lmer("y ~ x + (1 | g)", small(), offset="o", dispersion="~ kind", priors=priors)
    tree, design = fit.sample(1000, rng=1), fit.model.original_design
    one, other = np.linspace(-0.9, 1.2, 36), np.linspace(-1.5, 2.5, 36)
    D = design.rows.residual.D
    logs = np.empty((36, 36))
    for i, j in np.ndindex(36, 36):
        sds = np.exp(D @ [one[i], other[j]])
        logs[i, j] = -0.5 * marginal(design, [np.array([[0.64]])], sds, reml=True).deviance
    shares = np.exp(logs - logs.max()) * stats.norm(1.0, 0.5).pdf(one)[:, None]
    shares /= shares.sum()
    gamma = tree["posterior"]["gamma"]
    for k, grid in enumerate((one[:, None], other[None])):
        drawn = gamma.isel(dispersion_term=k)
        mean, sd = summary(shares, grid)
        assert abs(float(drawn.mean()) - mean) < MOST * sd / np.sqrt(2000)
        assert float(drawn.std()) == pytest.approx(sd, rel=0.08)


# ------------------------------------------------------------------ chains


@pytest.mark.full
def test_chains_of_sleepstudy_are_good_by_default():
    posterior = sleep_tree()["posterior"].to_dataset()
    for name, array in arviz_stats.ess(posterior, method="bulk").data_vars.items():
        assert float(array.min()) > 400.0, name
    for name, array in arviz_stats.rhat(posterior).data_vars.items():
        assert float(array.max()) < 1.01, name


def test_too_few_draws_warn_and_name_the_parameter():
    with pytest.warns(SamplingWarning) as caught:
        sleep().sample(20, rng=1)
    told = " ".join(str(warning.message) for warning in caught)
    assert "effective draws are 400 or fewer for beta[Intercept] (" in told
    assert "chains differ (R-hat of 1.01 or more) in " in told
    assert told.endswith(": draw more, by draws=.")


def test_the_warning_points_at_the_caller():
    with pytest.warns(SamplingWarning) as caught:
        sleep().sample(20, rng=1)
    assert {warning.filename for warning in caught} == {__file__}


def test_a_single_chain_is_not_compared():
    with pytest.warns(SamplingWarning) as caught:
        tree = sleep().sample(50, chains=1, rng=1)
    assert all("chains differ" not in str(warning.message) for warning in caught)
    assert tree["posterior"].sizes["chain"] == 1


@pytest.mark.full
def test_a_seed_gives_the_same_draws():
    one, other = sleep().sample(rng=1), sleep_tree()
    for group in ("posterior", "posterior_predictive", "sample_stats"):
        for name, array in one[group].data_vars.items():
            np.testing.assert_array_equal(array, other[group][name])


@pytest.mark.full
def test_ensembles_give_the_same_draws_for_a_seed(monkeypatch):
    monkeypatch.setattr(sampler_module, "_MIN_EFFICIENCY", 2.0)
    one, other = dyestuff().sample(500, rng=1), dyestuff().sample(500, rng=1)
    np.testing.assert_array_equal(one["posterior"]["sd"], other["posterior"]["sd"])


@pytest.mark.full
def test_another_seed_gives_other_draws():
    other = sleep().sample(rng=np.random.default_rng(2))
    assert (other["posterior"]["sigma"] != sleep_tree()["posterior"]["sigma"]).any()


@pytest.mark.full
def test_a_generator_goes_on():
    rng = np.random.default_rng(2)
    one, other = dyestuff().sample(1000, rng=rng), dyestuff().sample(1000, rng=rng)
    assert (one["posterior"]["sd"] != other["posterior"]["sd"]).any()


# ------------------------------------------------------------------ the tree


@pytest.mark.full
def test_the_tree_has_the_groups_that_arviz_reads():
    assert list(sleep_tree().children) == [
        "posterior",
        "sample_stats",
        "posterior_predictive",
        "log_likelihood",
        "observed_data",
    ]
    assert sleep_tree().attrs["formula"] == SLEEP


SHAPES = {
    "beta": ("term",),
    "sd": ("effect",),
    "corr": ("pair",),
    "sigma": (),
    "b_Subject": ("Subject", "Subject_effect"),
}


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("name", SHAPES)
def test_a_variable_has_its_dimensions(name):
    assert sleep_tree()["posterior"][name].dims == ("chain", "draw", *SHAPES[name])


def test_the_posterior_has_these_variables_only():
    assert set(sleep_tree()["posterior"].data_vars) == set(SHAPES)


COORDINATES = {
    "chain": [0, 1, 2, 3],
    "term": ["Intercept", "Days"],
    "effect": ["Intercept | Subject", "Days | Subject"],
    "pair": ["Intercept, Days | Subject"],
    "Subject_effect": ["Intercept", "Days"],
}


@pytest.mark.parametrize("name", COORDINATES)
def test_a_dimension_has_its_labels(name):
    assert list(sleep_tree()["posterior"][name].to_numpy()) == COORDINATES[name]


def test_levels_are_in_the_order_of_the_estimates():
    levels = sleep_tree()["posterior"]["Subject"].to_numpy()
    assert list(levels) == list(sleep().ranef("Subject").index)


def test_observed_data_are_the_response():
    data = mfx.datasets.load("sleepstudy")
    observed = sleep_tree()["observed_data"]["Reaction"]
    np.testing.assert_array_equal(observed, data["Reaction"])
    assert list(observed["row"].to_numpy()) == list(data.index)


def test_observed_data_keep_their_offset():
    _, tree = held("weights and offset")
    np.testing.assert_allclose(tree["observed_data"]["y"], small()["y"], rtol=1e-12)


@pytest.mark.full
def test_lp_is_the_log_density_of_the_draw():
    # But for a constant: differences between draws are those of the dense density.
    tree, design = dyestuff().sample(1000, rng=1), dyestuff().model.original_design
    lp, expected = [], []
    for i in range(5):
        sd, sigma = (float(tree["posterior"][n][0, i].squeeze()) for n in ("sd", "sigma"))
        V = marginal(design, [np.array([[sd**2]])], sigma, reml=False).V + 1600.0
        law = stats.multivariate_normal(np.full(len(V), 1500.0), V).logpdf(design.rows.y)
        prior = stats.halfnorm(scale=50).logpdf(sd) + stats.expon(scale=60).logpdf(sigma)
        expected.append(law + prior + np.log(sd) + np.log(sigma))
        lp.append(float(tree["sample_stats"]["lp"][0, i]))
    np.testing.assert_allclose(np.diff(lp), np.diff(expected), rtol=1e-8, atol=1e-8)


def test_correlations_are_those_of_the_covariance_that_is_held():
    _, tree = held("one factor")
    lam = np.array([[0.9, 0.0], [0.3, 0.7]])
    S = 1.1**2 * lam @ lam.T
    expected = S[0, 1] / np.sqrt(S[0, 0] * S[1, 1])
    np.testing.assert_allclose(flattened(tree, "corr"), expected, rtol=1e-12)
    np.testing.assert_allclose(flattened(tree, "sd")[0], np.sqrt(np.diag(S)), rtol=1e-12)


@pytest.mark.full
def test_predictions_are_of_fewer_draws_where_there_are_many_rows(monkeypatch):
    monkeypatch.setattr(draws, "_MAX_PREDICTED", 180 * 4 * 250)
    tree = sleep().sample(rng=1)
    predicted = tree["posterior_predictive"]["Reaction"]
    assert predicted.shape == (4, 250, 180)
    assert list(predicted["draw"].to_numpy()) == list(range(0, 1000, 4))


GROUP_NAMES = ["sample", "chain", "draw", "term", "effect", "beta", "sigma"]


@pytest.mark.full
@pytest.mark.parametrize("name", but_for(GROUP_NAMES, ["chain", "sigma"]))
def test_a_group_may_have_the_name_of_a_dimension_or_variable(name):
    data = small().rename(columns={"g": name})
    tree = mfx.lmer(f"y ~ x + (1 | {name})", data, offset="o").sample(1000, rng=1)
    posterior = tree["posterior"]
    assert posterior[f"b_{name}"].dims == ("chain", "draw", f"{name}_level", f"{name}_effect")
    assert posterior["beta"].dims == ("chain", "draw", "term")
    assert posterior["sigma"].dims == ("chain", "draw")


@pytest.mark.full
@pytest.mark.parametrize("name", but_for(["row", "chain", "draw"], ["row"]))
def test_a_response_with_the_name_of_a_dimension_gets_another(name):
    data = small().rename(columns={"y": name})
    tree = mfx.lmer(f"{name} ~ x + (1 | g)", data, offset="o").sample(1000, rng=1)
    np.testing.assert_allclose(tree["observed_data"][f"{name}_response"], data[name], rtol=1e-12)


@pytest.mark.full
def test_a_slash_in_a_name_is_no_branch():
    data = small().rename(columns={"g": "a/b"})
    fit = mfx.lmer("I(y/2) ~ x + (1 | Q('a/b'))", data, offset=data["o"] / 2)
    tree = fit.sample(1000, rng=1)
    assert list(tree["observed_data"].data_vars) == ["I(y _ 2)"]
    assert "b_a_b" in tree["posterior"].data_vars


@pytest.mark.full
def test_the_log_likelihood_is_that_of_the_rows_given_all_effects():
    fit = mfx.lmer("y ~ x + (1 | g)", small(), offset="o")
    tree = fit.sample(1000, rng=1)
    posterior, design = tree["posterior"], fit.model.design
    for draw in (0, 31):
        at = posterior.isel(chain=0, draw=draw)
        mean = design.rows.X @ at["beta"].to_numpy()
        mean = mean + at["b_g"].to_numpy()[design.rows.random_terms[0].codes, 0]
        expected = stats.norm.logpdf(design.rows.response_less_offset, mean, float(at["sigma"]))
        found = tree["log_likelihood"]["y"].isel(chain=0, draw=draw)
        np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("name", but_for(["sigma", "beta", "sd", "lp", "term"], ["sigma", "lp"]))
def test_a_response_may_have_the_name_of_a_variable(name):
    data = small().rename(columns={"y": name})
    tree = mfx.lmer(f"{name} ~ x + (1 | g)", data, offset="o").sample(1000, rng=1)
    assert tree["posterior_predictive"][name].shape == (4, 1000, 40)
    np.testing.assert_allclose(tree["observed_data"][name], data[name], rtol=1e-12)
    assert tree["posterior"]["beta"].shape == (4, 1000, 2)


def test_terms_of_one_factor_stand_side_by_side():
    _, tree = held("two terms of a factor")
    posterior = tree["posterior"]
    assert list(posterior["g_effect"].to_numpy()) == ["Intercept", "x"]
    assert list(posterior["effect"].to_numpy()) == ["Intercept | g", "x | g"]


@pytest.mark.full
def test_nested_factors_have_a_variable_each():
    fit = mfx.lmer("strength ~ 1 + (1 | batch / cask)", mfx.datasets.load("Pastes"))
    with pytest.warns(SamplingWarning):
        posterior = fit.sample(50, chains=2, rng=1)["posterior"]
    assert posterior["b_batch"].shape == (2, 50, 10, 1)
    assert posterior["b_batch:cask"].shape == (2, 50, 30, 1)


@pytest.mark.full
def test_a_fit_by_maximum_likelihood_is_sampled_as_by_reml():
    ml = mfx.lmer(SLEEP, mfx.datasets.load("sleepstudy"), reml=False)
    found, other = ml.sample(rng=1)["posterior"]["sigma"], sleep_tree()["posterior"]["sigma"]
    np.testing.assert_allclose(found.mean(), other.mean(), rtol=0.01)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 0}, "draws=0 must be an integer of at least 4"),
        ({"draws": 3}, "draws=3 must be"),
        ({"draws": 2.5}, "draws=2.5 must be"),
        ({"draws": True}, "draws=True must be"),
        ({"chains": 0}, "chains=0 must be an integer of at least 1"),
        ({"chains": "2"}, "chains='2' must be"),
        ({"rng": "a"}, "rng='a' must be a seed"),
        ({"rng": -1}, "rng=-1 must be a seed"),
    ],
)
def test_bad_arguments_are_refused_by_name(options, message):
    with pytest.raises(ArgumentError, match=message):
        sleep().sample(**options)


@pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")
@pytest.mark.parametrize(("formula", "levels"), [("y ~ x + (x | g)", 3), ("y ~ x + (1 | g)", 2)])
def test_flat_priors_with_too_few_levels_are_refused(formula, levels):
    fit = mfx.lmer(formula, small()[small()["g"] < levels], offset="o")
    with pytest.raises(PriorError, match=rf"with {levels} levels of 'g'.*HalfNormal"):
        fit.sample(rng=1)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
def test_few_levels_will_do_with_a_proper_prior():
    rows = small()[small()["g"] < 2]
    fit = mfx.lmer("y ~ x + (1 | g)", rows, offset="o", priors={"sd": HalfNormal(2)})
    sd = flattened(fit.sample(rng=1), "sd")
    assert 0.5 < sd.mean() < 4.0


def test_a_missing_extra_is_named_with_its_cure(monkeypatch):
    monkeypatch.setattr("mixedfx._extras.find_spec", lambda name: name != "emcee" or None)
    with pytest.raises(MissingPackageError, match=r'needs emcee: .*"mixedfx\[bayes\]"') as caught:
        sleep().sample()
    assert isinstance(caught.value, ArgumentError)
    assert isinstance(caught.value, ImportError)
    assert caught.value.name == "emcee"


def test_a_density_without_a_value_at_its_start_is_an_error(monkeypatch):
    found = sampler_module.maximize_posterior
    monkeypatch.setattr(
        sampler_module, "maximize_posterior", lambda *a, **k: replace(found(*a, **k), value=np.inf)
    )
    with pytest.raises(mfx.errors.SearchError, match="cannot be computed at its start"):
        sleep().sample(rng=1)
