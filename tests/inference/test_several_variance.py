"""Shares of variance and leverages of models with several linear predictors, or thresholds.

Source of truth: R 4.2.2 with glmmTMB 1.1.5 and ordinal 2022.11-16, and the dense definition.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from oracle import dense_z
from reference_models import FOLDER

import mixedfx as mfx
from mixedfx.errors import ArgumentError

# glmmTMB's search leaves variances within 5e-5 of their size, and shares within:
SHARES = 1e-5
DATA = FOLDER / "generalized" / "data"

COUNTS = "count ~ spp + mined + (1 | site)"
NEGATIVE = "count ~ mined + (1 | site)"

# glmmTMB: var(X %*% fixef(fit)$cond); VarCorr(fit)$cond; with the model without fixed effects,
# null = update(fit, . ~ 1 + (1 | site)), mu = exp(fixef(null)$cond + VarCorr(null)$cond / 2), and
# p = predict(fit, type = "zprob"): of a Poisson response mean((1 - p) (mu + p mu^2)) /
# mean((1 - p) mu)^2; of a negative binomial one mu^2 / sigma(fit), or mu^2 / predict(fit, type =
# "disp"), is added to mu; of a hurdle, with m = mu / (1 - exp(-mu)), mean((1 - p) (m (1 + mu - m) +
# p m^2)) over the squared mean((1 - p) dm / d eta). insight::get_variance, 0.19, has the same
# fixed and random variances.
SEVERAL = {
    "zero-inflated": (
        COUNTS,
        {"family": "poisson", "zero_inflation": "~ mined"},
        (0.81146749906, 0.111337288896, 1.43713581123),
    ),
    "random zero part": (
        COUNTS,
        {"family": "poisson", "zero_inflation": "~ mined + (1 | site)"},
        (0.693085852669, 0.0702903125629, 1.38476054221),
    ),
    "hurdle": (
        COUNTS,
        {"family": "truncated_poisson", "zero_inflation": "~ mined"},
        (0.407979314411, 0.0531823306401, 2.84652741592),
    ),
    "dispersion": (
        NEGATIVE,
        {"family": "nbinom2", "dispersion": "~ DOY"},
        (1.23723606588, 0.282588183993, 2.17029820575),
    ),
    "zero-inflated negative binomial": (
        NEGATIVE,
        {"family": "nbinom2", "zero_inflation": "~ 1"},
        (1.26567602556, 0.271806904909, 2.06379919913),
    ),
}


@pytest.fixture(scope="module")
def salamanders():
    return pd.read_csv(DATA / "Salamanders.csv").astype({"site": str})


@pytest.mark.full
@pytest.mark.parametrize("name", SEVERAL)
def test_shares_of_several_predictors_are_of_the_response(salamanders, name):
    formula, options, (fixed, random, delta) = SEVERAL[name]
    fit = mfx.glmer(formula, salamanders, **options)
    shares = fit.variance_explained("delta")
    found = [shares.fixed, shares.groups.sum(), shares.residual]
    np.testing.assert_allclose(found, [fixed, random, delta], rtol=5e-5)
    # The default is the lognormal approximation, log(1 + c).
    residual = np.log1p(delta)
    whole = fixed + random + residual
    assert fit.variance_explained().method == "lognormal"
    assert fit.r2["marginal"] == pytest.approx(fixed / whole, abs=SHARES)
    assert fit.r2["conditional"] == pytest.approx((fixed + random) / whole, abs=SHARES)
    assert fit.icc["total"] == pytest.approx(random / (random + residual), abs=SHARES)


# performance::r2_nakagawa and icc of ordinal::clmm(rating ~ temp + contact + (1 | judge), wine).
CUMULATIVE = {
    "logit": (0.414294218774, 0.578298089880, 0.280010674921),
    "probit": (0.433103928327, 0.606259872046, 0.305445658158),
}


@pytest.mark.parametrize("link", CUMULATIVE)
def test_shares_of_ordered_categories_are_of_the_latent_response(wine, link):
    fit = mfx.glmer("rating ~ temp + contact + (1 | judge)", wine, "cumulative", link=link)
    found = [*fit.r2, fit.icc["total"]]
    assert found == pytest.approx(CUMULATIVE[link], abs=SHARES)


@pytest.fixture(scope="module")
def wine():
    frame = pd.read_csv(DATA / "wine.csv").astype(str)
    return frame.assign(rating=pd.Categorical(frame["rating"], ordered=True))


def test_a_method_of_a_zero_part_that_has_none_lists_what_there_is(salamanders):
    frame = salamanders.iloc[::3]
    fit = mfx.glmer("count ~ mined", frame, "poisson", zero_inflation="~ 1")
    with pytest.raises(ArgumentError, match=r"'lognormal'.*'delta'"):
        fit.variance_explained("trigamma")


@pytest.fixture(scope="module")
def dispersed(salamanders):
    return mfx.glmer("count ~ mined + (1 | site)", salamanders, "nbinom2", dispersion="~ DOY")


@pytest.mark.full
def test_leverages_beside_a_dispersion_formula_are_of_the_working_model(salamanders, dispersed):
    # W = -d2 l / d eta2 of a negative binomial row, at the dispersion of the row.
    alpha = dispersed.predict(which="dispersion").to_numpy()
    mu, y = dispersed.fittedvalues.to_numpy(), salamanders["count"].to_numpy()
    root = np.sqrt(mu * (1.0 + alpha * y) / (1.0 + alpha * mu) ** 2)[:, None]
    rows = dispersed.model.rows
    (term,) = rows.random_terms
    sd = float(dispersed.varcorr.iloc[0, -1])
    columns = np.hstack([root * rows.X, root * sd * dense_z(term)])
    p = rows.X.shape[1]
    penalty = np.diag([0.0] * p + [1.0] * (columns.shape[1] - p))
    hat = columns @ np.linalg.solve(columns.T @ columns + penalty, columns.T)
    table = dispersed.influence()
    np.testing.assert_allclose(table["hat"], np.diag(hat), atol=1e-9)
    np.testing.assert_allclose(dispersed.augment()["hat"], np.diag(hat), atol=1e-9)


def test_a_row_has_no_leverage_where_its_density_is_not_continuous(salamanders):
    frame = salamanders.iloc[::3]
    fit = mfx.glmer("count ~ mined", frame, "poisson", zero_inflation="~ 1")
    with pytest.raises(ArgumentError, match=r"zero_inflation=: a leverage .* not continuous"):
        fit.influence()
    assert fit.augment()["hat"].isna().all()
