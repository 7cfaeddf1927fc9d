"""The likelihood of correlated residuals, its derivatives, and its symmetries.

Source of truth: V written out from the definition (``oracle``), differences, and identities.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from oracle import curvature, dense_model_of, slope
from residuals.trials import trial
from tiers import but_for

import mixedfx as mfx
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.design.build import build
from mixedfx.errors import MixedfxWarning
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.residuals.registry import residual_model, residual_request

RANDOM = {
    "none": "",
    "crossed": " + (1 | item)",
    "subject": " + (0 + x | id)",
    "two": " + (x | item) + (1 | arm:item)",
}
CASES = [(name, random) for name in STRUCTURES for random in RANDOM]
DEFAULT = [(name, "none") for name in STRUCTURES] + [("ar1", "two"), ("us", "crossed")]


def fit(residual, data, formula="y ~ x", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixedfxWarning)
        return mfx.lmer(formula, data, residual=residual, **options)


def design_data(seed):
    """Dropout and gaps; one subject with a single row, a visit that few have."""
    data = trial(subjects=14, visits=5, seed=seed, dropout=0.25)
    data = data[(data["visit"] != 4) | (data["id"] > "s05")]
    first = data["id"] == "s00"
    return data[~first | (data.groupby("id").cumcount() == 0)].reset_index(drop=True)


def residual_text(name, strata=""):
    place = {"ou": "t", "exp": "lon + lat", "gau": "lon + lat", "mat": "t"}.get(name, "visit")
    return f"{name}({place} | {strata}id)"


def dense_R(model, params):
    """Covariances of all rows, entry by entry."""
    R, n = model.covariances(params), len(model.subjects)
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if model.subjects[i] == model.subjects[j]:
                out[i, j] = R[model.strata[i], model.positions[i], model.positions[j]]
    return out


def setting(name, random, seed, strata=""):
    """A design, its residual model, and well-conditioned parameters."""
    request = residual_request(residual_text(name, strata))
    formula = mfx.parse("y ~ x" + RANDOM[random])
    design = build(formula, design_data(seed), weights="w", residual=request)
    model, rng = residual_model(design), np.random.default_rng(seed)
    near = model.params_near(rng.normal(size=design.rows.n), None)
    return design, model, near + 0.1 * rng.normal(size=model.n_params)


def at(design, model, params, theta, *, reml):
    sums = model.reduce(design)
    likelihood = GaussianLikelihood(model.reweight(sums, params), reml)
    return sums, likelihood.at(theta)


@pytest.mark.covering(1)
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("name", "random"), but_for(CASES, DEFAULT))
def test_the_deviance_and_its_score_are_those_of_the_dense_definition(name, random, reml):
    design, model, params = setting(name, random, seed=3)
    theta = np.array(
        {"none": [], "crossed": [0.7], "subject": [0.4], "two": [0.6, 0.2, 0.3, 0.5]}[random]
    )
    sums, solution = at(design, model, params, theta, reml=reml)
    relative = [lam @ lam.T for lam in solution.lambdas]

    def dense(x):
        return dense_model_of(relative, design, reml=reml, residual=dense_R(model, x))

    expected = dense(params)
    assert solution.deviance == pytest.approx(expected.deviance, abs=1e-8)
    assert solution.sigma == pytest.approx(expected.sigma, rel=1e-9)
    np.testing.assert_allclose(solution.beta, expected.beta, rtol=1e-8, atol=1e-9)
    if not model.n_params:  # homdiag has the one standard deviation
        return
    score = model.score(sums, design.rows, params, solution)
    by_differences = slope(lambda x: dense(x).deviance, params)
    np.testing.assert_allclose(score, by_differences, rtol=1e-5, atol=1e-5)


@pytest.mark.kept("ar1h-True", "cs-False")
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", but_for(["us", "ar1h", "toeph", "cs", "ou"], ["ar1h", "cs"]))
def test_the_exact_hessian_is_that_of_differences(name, reml):
    design, model, params = setting(name, "none", seed=5, strata="arm / " if name == "cs" else "")
    sums, solution = at(design, model, params, np.zeros(0), reml=reml)
    exact = model.exact_derivatives(sums, params, solution)

    def deviance(x):
        return at(design, model, x, np.zeros(0), reml=reml)[1].deviance

    np.testing.assert_allclose(exact.gradient, slope(deviance, params), rtol=1e-6, atol=1e-6)
    numeric = curvature(deviance, params, step=1e-2)
    np.testing.assert_allclose(exact.hessian, numeric, rtol=1e-4, atol=1e-3)


# ---------------------------------------------------------------- symmetries

DATA = trial(seed=8)


@pytest.mark.kept("us(visit | id)", "ar1h(visit | id)")
@pytest.mark.parametrize("residual", ["us(visit | id)", "ar1h(visit | id)", "ou(t | id)"])
def test_the_order_of_rows_and_the_labels_of_subjects_do_not_matter(residual):
    plain = fit(residual, DATA)
    other = DATA.assign(id=DATA["id"].map(lambda s: f"{97 * int(s[1:]) % 101}-{s}"))
    shuffled = fit(residual, other.sample(frac=1.0, random_state=4))
    assert shuffled.deviance == pytest.approx(plain.deviance, abs=1e-7)
    np.testing.assert_allclose(shuffled.bse, plain.bse, rtol=1e-5)


@pytest.mark.parametrize("reml", [True, False])
def test_compound_symmetry_is_a_random_intercept_where_the_correlation_is_positive(reml):
    residual = fit("cs(visit | id)", DATA, reml=reml)
    intercept = fit(None, DATA, "y ~ x + (1 | id)", reml=reml)
    assert residual.deviance == pytest.approx(intercept.deviance, abs=1e-8)
    np.testing.assert_allclose(residual.params, intercept.params, rtol=1e-5)


def test_free_covariances_of_complete_data_are_those_of_multivariate_regression():
    data = trial(seed=9, dropout=0.0)
    arm = data.groupby("id")["arm"].first() == "a"
    Y = data.pivot_table(index="id", columns="visit", values="y").to_numpy()
    X = np.column_stack([np.ones(len(Y)), arm])
    E = Y - X @ np.linalg.lstsq(X, Y, rcond=None)[0]
    found = fit("us(visit | id)", data, "y ~ 0 + C(visit) + C(visit):arm")
    [R] = found.sigma**2 * found.model.residual.model.covariances(found.model.residual.params)
    np.testing.assert_allclose(R, E.T @ E / (len(Y) - 2), rtol=2e-4, atol=2e-4)


def test_weights_of_four_are_half_the_standard_deviation():
    plain = fit("ar1(visit | id)", DATA)
    scaled = fit("ar1(visit | id)", DATA.assign(four=4.0), weights="four")
    assert scaled.deviance == pytest.approx(plain.deviance, abs=1e-7)
    assert scaled.sigma == pytest.approx(2.0 * plain.sigma, rel=1e-6)


def test_a_diagonal_of_visits_is_a_dispersion_formula_of_visits():
    diagonal = fit("diag(visit | id)", DATA)
    by_formula = fit(None, DATA.assign(v=DATA["visit"].astype(str)), dispersion="~ v")
    assert diagonal.deviance == pytest.approx(by_formula.deviance, abs=1e-7)
