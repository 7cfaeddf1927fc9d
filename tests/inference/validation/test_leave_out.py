"""Log predictive densities of groups: conditional normal distributions, and integrals."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from oracle import covariances, dense_z
from scipy import integrate, special, stats

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.errors import ArgumentError
from mixedfx.formula.parser import parse
from mixedfx.inference.prediction import rows_of_predictor

CONTROL = mfx.Control(tolerance=1e-12)
MODELS = {
    "slopes": ("Reaction ~ Days + (Days | Subject)", {}),
    "maximum likelihood": ("Reaction ~ Days + (Days | Subject)", {"reml": False}),
    "crossed": ("Reaction ~ Days + (1 | Subject) + (1 | week)", {}),
    "weights": ("Reaction ~ Days + (1 | Subject)", {"weights": "w"}),
    "splines": ("Reaction ~ bs(Days, 4) + (1 | Subject)", {}),
    "known sds": ("Reaction ~ Days + (1 | Subject)", {"residual_sd": "sd"}),
}

pytestmark = pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")


@lru_cache
def sleep():
    rng = np.random.default_rng(2)
    data = mfx.datasets.load("sleepstudy").head(80)
    made = {"w": rng.uniform(0.5, 2, 80), "sd": rng.uniform(20, 30, 80)}
    return data.assign(Subject=data["Subject"].astype(str), week=np.arange(80) % 4, **made)


def conditional_log_density(formula, data, keep, options):
    """
    Log density of the rows left out given the others, at a fit of these, coefficients integrated.

    ``y ~ N(X b, V)`` with a flat prior of b: the normal distribution of the rows left out given the
    others, with dense V.
    """
    fit = mfx.lmer(formula, data[keep], engine="profiled", control=CONTROL, **options)
    design = build(parse(formula), data, **{k: v for k, v in options.items() if k != "reml"})
    X = design.rows.X
    if "bs(" in formula:  # the columns of the fit of the others
        frame = data.reset_index(drop=True)
        X = rows_of_predictor(fit.model, frame, "none", "population")[2].X
    w = np.ones(len(data)) if design.rows.weights is None else design.rows.weights
    V = np.diag(fit.model.solution.sigma**2 / w)
    for term, S in zip(design.rows.random_terms, covariances(fit), strict=True):
        Z = dense_z(term)
        V += Z @ np.kron(np.eye(term.n_levels), S) @ Z.T
    o, t, y = np.flatnonzero(keep), np.flatnonzero(~keep), data["Reaction"].to_numpy()
    Vo = np.linalg.inv(V[np.ix_(o, o)])
    cov_beta = np.linalg.inv(X[o].T @ Vo @ X[o])
    beta = cov_beta @ X[o].T @ Vo @ y[o]
    K = V[np.ix_(t, o)] @ Vo
    D = X[t] - K @ X[o]
    mean = X[t] @ beta + K @ (y[o] - X[o] @ beta)
    cov = V[np.ix_(t, t)] - K @ V[np.ix_(o, t)] + D @ cov_beta @ D.T
    return stats.multivariate_normal(mean, cov).logpdf(y[t])


@pytest.mark.full
@pytest.mark.parametrize("name", MODELS)
def test_densities_are_those_of_conditional_normal_distributions(name):
    formula, options = MODELS[name]
    table = mfx.lmer(formula, sleep(), **options)
    table = table.loo(by="Subject").table.set_index("group")
    for subject in ("308", "330", "333"):
        keep = (sleep()["Subject"] != subject).to_numpy()
        expected = conditional_log_density(formula, sleep(), keep, options)
        assert table.loc[subject, "elpd"] == pytest.approx(expected, abs=2e-6)
        assert table.loc[subject, "n"] == 10


@lru_cache
def loo(formula, **options):
    return mfx.lmer(formula, sleep(), **options).loo(by="Subject")


@pytest.mark.full
def test_the_sum_its_error_and_the_difference_of_two_models():
    slopes, intercepts = loo(MODELS["slopes"][0]), loo("Reaction ~ Days + (1 | Subject)")
    elpd = slopes.table["elpd"]
    assert slopes.elpd == pytest.approx(elpd.sum())
    assert slopes.looic == -2 * slopes.elpd
    assert slopes.se == pytest.approx(np.sqrt(8 * elpd.var()))
    difference = elpd - intercepts.table["elpd"]
    compared = slopes.compare(intercepts)
    assert compared["elpd_diff"] == pytest.approx(difference.sum())
    assert compared["se_diff"] == pytest.approx(np.sqrt(8 * difference.var()))
    assert "8 groups of 'Subject'" in repr(slopes)


@pytest.mark.full
def test_of_groups_of_one_row_the_density_is_that_of_the_prediction():
    fit = mfx.lmer("Reaction ~ Days + (1 | Subject) + (1 | week)", sleep().iloc[::3])
    found = fit.loo(by="Reaction").table["elpd"]  # each response occurs once
    cv = fit.cross_validate(by="Reaction", folds="loo", scores="log_score")
    assert len(found) == 27
    np.testing.assert_allclose(found, cv.predictions["log_score"], rtol=1e-9)


CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


@pytest.mark.full
def test_of_a_generalised_model_the_effects_are_integrated_out():
    herds = mfx.datasets.load("cbpp")
    herds["herd"] = herds["herd"].astype(str)
    table = mfx.glmer(CBPP, herds, nagq=15).loo().table.set_index("group")
    for herd in ("1", "9"):
        fit = mfx.glmer(CBPP, herds[herds["herd"] != herd], nagq=15)
        new = herds[herds["herd"] == herd]
        eta, sd = fit.predict(new, which="linear", random="none"), float(fit.theta[0])

        def density(b, eta=eta, new=new, sd=sd):
            p = special.expit(eta + b)
            return (
                stats.norm.pdf(b, scale=sd)
                * stats.binom.pmf(new["incidence"], new["size"], p).prod()
            )

        expected = np.log(integrate.quad(density, -8, 8, epsabs=0, epsrel=1e-11)[0])
        assert table.loc[herd, "elpd"] == pytest.approx(expected, abs=1e-5)
    assert table["converged"].all()


@pytest.mark.full
def test_groups_and_models_without_a_density_are_refused():
    crossed = mfx.lmer(MODELS["crossed"][0], sleep())
    with pytest.raises(ArgumentError, match="there are: 'Subject', 'week'"):
        crossed.loo()
    late = mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep(), dispersion="~ I(Days > 4)")
    with pytest.raises(ArgumentError, match="one residual variance"):
        late.loo()
    with pytest.raises(ArgumentError, match="another model of the same rows"):
        loo(MODELS["slopes"][0]).compare(crossed.loo(by="week"))
