"""Likelihoods without a maximum: modes merge where a density is not log-concave; ends of families.

Source of truth: quadrature with 25 nodes, whose log-likelihood lme4 1.1-31 in R 4.2.2 gives as
-127.9572 for the cauchit model below (`glmer(y ~ x + (1 | g), nAGQ = 25)`).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from reference_models import FOLDER
from scipy import optimize

import mixedfx as mfx
from mixedfx.errors import ArgumentError, ConvergenceWarning


def answers():
    """Levels of successes alone, and one separated by x, among others."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(30), 8)
    x = rng.normal(size=240)
    noise = [rng.random(240), rng.normal(size=30)[g], rng.normal(size=30)[g]]
    eta = 0.3 + x + 1.2 * noise[1] + 0.7 * noise[2] * x
    y = (noise[0] < 1.0 / (1.0 + np.exp(-eta))).astype(int)
    y[g == 0] = 1
    y[g == 1] = x[g == 1] > 0.0
    return pd.DataFrame({"y": y, "x": x, "g": g.astype(str)})


DATA = answers()
SALAMANDERS = FOLDER / "generalized" / "data" / "Salamanders.csv"
NODES = {"(1 | g)": 25, "(x | g)": 15}  # to the power of the number of effects


@pytest.mark.full
@pytest.mark.kept("(1 | g)")
@pytest.mark.parametrize("term", ["(1 | g)", "(x | g)"])
def test_merging_modes_are_named_with_the_mend(term):
    with pytest.warns(ConvergenceWarning, match="modes of the random effects merge"):
        fit = mfx.glmer(f"y ~ x + {term}", DATA, link="cauchit")
    assert not fit.converged
    assert f"nagq={NODES[term]}" in " ".join(fit.notes)
    assert fit.bse.isna().all()
    assert "not estimated" in str(fit.certificate)
    check_uses(fit)


def check_uses(fit):
    """What uses the covariance of the estimates says that there is none, or leaves it out."""
    for use in (fit.approximation, fit.profile, lambda: fit.conf_int(method="profile")):
        with pytest.raises(ArgumentError, match=r"no finite curvature .* fit.notes says more"):
            use()
    assert len(fit.check(rng=1).table) > 3
    found = fit.predict(interval="prediction")
    assert found["predicted"].notna().all()
    assert found[["conf_low", "conf_high"]].isna().all().all()


@pytest.mark.full
def test_merging_modes_of_several_predictors_are_named_with_the_mend():
    # glmmTMB 1.1 reports a false convergence, no standard errors and no log-likelihood.
    data = pd.read_csv(SALAMANDERS)
    arguments = {"family": "nbinom2", "zero_inflation": "~ mined + (1 | site)"}
    with pytest.warns(ConvergenceWarning, match="modes of the random effects merge"):
        fit = mfx.glmer("count ~ mined + (1 | site)", data, **arguments)
    assert "nagq=15" in " ".join(fit.notes)
    check_uses(fit)


@pytest.mark.full
@pytest.mark.kept("(1 | g)")
@pytest.mark.parametrize("term", ["(1 | g)", "(x | g)"])
def test_the_mend_of_merging_modes_works(term):
    fit = mfx.glmer(f"y ~ x + {term}", DATA, link="cauchit", nagq=NODES[term])
    assert fit.converged
    assert fit.notes == ()
    if term == "(1 | g)":
        # lme4's nodes are placed by the expected information.
        assert fit.llf == pytest.approx(-127.9572, rel=0, abs=2e-3)


@pytest.mark.full
def test_the_likelihood_stays_near_that_of_quadrature_where_modes_merge():
    # Without a bound of the curvature the search ends at -123.1, and rises further.
    with pytest.warns(ConvergenceWarning):
        fit = mfx.glmer("y ~ x + (1 | g)", DATA, link="cauchit")
    assert fit.llf == pytest.approx(-127.96, rel=0, abs=0.5)


def test_without_random_effects_nothing_merges():
    assert mfx.glmer("y ~ x", DATA, link="cauchit").converged


@pytest.mark.full
@pytest.mark.parametrize("dispersion", [None, "~ x"])
def test_tweedies_power_that_goes_to_one_is_named_with_the_mend(dispersion):
    rng = np.random.default_rng(4)
    g, x = np.repeat(np.arange(10), 12), rng.normal(size=120)
    y = rng.poisson(np.exp(0.4 + 0.3 * x + 0.4 * rng.normal(size=10)[g]))
    data = pd.DataFrame({"y": y, "x": x, "g": g.astype(str)})
    with pytest.warns(ConvergenceWarning, match="as the power goes to one, where"):
        fit = mfx.glmer("y ~ x + (1 | g)", data, family="tweedie", dispersion=dispersion)
    assert fit.model.optimizer_result.evaluations < 400
    check_uses(fit)
    if dispersion is None:  # the limit is Poisson's distribution
        counts = mfx.glmer("y ~ x + (1 | g)", data, family="poisson")
        np.testing.assert_allclose(fit.params, counts.params, atol=0.02)
    # Amounts have an optimum.
    amounts = data.assign(y=y * rng.gamma(2.0, size=120))
    assert mfx.glmer("y ~ x + (1 | g)", amounts, family="tweedie").converged


@pytest.mark.full
@pytest.mark.parametrize("hurdle", [False, True])
def test_counts_beyond_the_logarithmic_distribution_are_named_with_the_mend(hurdle):
    # The supremum is the likelihood of the logarithmic distribution, the limit (Fisher, Corbet and
    # Williams 1943), of which alpha and the mean before truncation are not told apart.
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(15), 14), rng.normal(size=210)
    y = 1 + np.floor(np.exp(1.8 * rng.normal(size=210) + 0.3 * x - 0.8))
    data = pd.DataFrame({"y": y, "x": x, "g": g.astype(str), "row": np.arange(210)})
    zeros = {"zero_inflation": "~ 1"} if hurdle else {}
    if hurdle:
        data.loc[rng.random(210) < 0.3, "y"] = 0
    with pytest.warns(ConvergenceWarning, match="as alpha goes to infinity"):
        fit = mfx.glmer("y ~ x", data, family="truncated_nbinom2", **zeros)
    assert fit.model.optimizer_result.evaluations < 200
    positive = data[data["y"] > 0]
    counts, column = positive["y"], positive["x"]

    def deviance(beta):  # eta is log(p / (1 - p)) as alpha grows
        log_p = -np.logaddexp(0.0, -(beta[0] + beta[1] * column))
        log_rest = -np.logaddexp(0.0, beta[0] + beta[1] * column)
        return -2.0 * np.sum(counts * log_p - np.log(counts) - np.log(-log_rest))

    limit = optimize.minimize(deviance, [0.0, 0.0], method="Nelder-Mead", options={"fatol": 1e-9})
    share = (data["y"] == 0).mean()
    of_zeros = 420 * (share * np.log(share) + (1 - share) * np.log1p(-share)) if hurdle else 0.0
    assert fit.deviance == pytest.approx(limit.fun - of_zeros, abs=1e-4)
    assert fit.params["x"] == pytest.approx(limit.x[1], abs=1e-3)
    with_rows = mfx.glmer("y ~ x + (1 | row)", positive, family="truncated_poisson")
    assert with_rows.converged
