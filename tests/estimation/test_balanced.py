"""Balanced designs: moment estimates are the REML optimum, and a minimum inside is the only one.

Source of truth: the search from all points of the grid, and the closed forms of balanced analyses
of variance (Searle, Casella and McCulloch 1992, Variance components, section 4.4).
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.errors import MixedfxWarning
from mixedfx.estimation import dense_moments as dense_moments_module
from mixedfx.estimation import profiled
from mixedfx.estimation.balanced import balanced_estimates
from mixedfx.estimation.dense_moments import dense_moments
from mixedfx.likelihood.likelihood import GaussianLikelihood

BALANCED = {
    "crossed": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin"),
    "nested": ("strength ~ 1 + (1 | batch/cask)", "Pastes"),
    "one factor": ("Yield ~ 1 + (1 | Batch)", "Dyestuff"),
    "with a slope": ("Reaction ~ Days + (1 | Subject)", "sleepstudy"),
}


def likelihood_of(formula, data, *, reml=True, **kwargs):
    design = build(mfx.parse(formula), data, **kwargs)
    return GaussianLikelihood.from_design(design, reml=reml)


def is_balanced(likelihood):
    return balanced_estimates(likelihood) is not None


@pytest.mark.parametrize("name", BALANCED)
def test_balanced_designs_are_known(name):
    formula, data = BALANCED[name]
    assert is_balanced(likelihood_of(formula, mfx.datasets.load(data)))


@pytest.mark.parametrize("name", BALANCED)
def test_a_row_less_is_not_balanced_but_for_one_factor_alone(name):
    formula, data = BALANCED[name]
    assert not is_balanced(likelihood_of(formula, mfx.datasets.load(data).iloc[1:]))


def test_ml_and_known_variances_are_not_looked_at():
    formula, data = BALANCED["crossed"]
    data = mfx.datasets.load(data)
    assert not is_balanced(likelihood_of(formula, data, reml=False))
    assert not is_balanced(likelihood_of(formula, data, residual_sd=np.ones(len(data))))


@pytest.mark.parametrize("name", BALANCED)
def test_estimates_from_the_products_of_a_balanced_design_are_those_of_its_factor(name):
    formula, data = BALANCED[name]
    likelihood = likelihood_of(formula, mfx.datasets.load(data))
    covariances, variance = balanced_estimates(likelihood)
    expected, of_residuals = dense_moments(likelihood.dense, reml=True)
    assert variance == pytest.approx(of_residuals, rel=1e-10)
    np.testing.assert_allclose(covariances, expected, rtol=1e-9)


@pytest.mark.parametrize("name", [*BALANCED, "correlated"])
def test_moment_estimates_of_balanced_designs_are_the_optimum(name):
    correlated = ("Reaction ~ Days + (Days | Subject)", "sleepstudy")
    formula, data = BALANCED.get(name, correlated)
    fit = mfx.lmer(formula, mfx.datasets.load(data), engine="profiled")
    found = dense_moments(fit.model.likelihood.dense, reml=True)
    assert found is not None
    covariances, variance = found
    assert variance == pytest.approx(fit.sigma**2, rel=1e-7)
    for cov, F in zip(covariances, fit.model.solution.factors, strict=True):
        np.testing.assert_allclose(cov, fit.sigma**2 * F @ F.T, rtol=1e-6, atol=1e-6)
    assert fit.model.optimizer_result.evaluations == 1


def test_estimates_of_equal_levels_are_those_at_the_identity(monkeypatch):
    data = mfx.datasets.load("sleepstudy")
    dense = likelihood_of("Reaction ~ Days + (Days | Subject)", data).dense
    assert dense_moments_module._has_equal_levels(dense.crossprod)
    ((cov,), variance) = dense_moments(dense, reml=True)
    monkeypatch.setattr(dense_moments_module, "_has_equal_levels", lambda crossprod: False)
    ((expected,), of_residuals) = dense_moments(dense, reml=True)
    assert variance == pytest.approx(of_residuals, rel=1e-10)
    np.testing.assert_allclose(cov, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("formula", "first"),
    [("Reaction ~ Days + (Days | Subject)", 1), ("Reaction ~ Days + (Days || Subject)", 0)],
    ids=["a row less", "no correlation"],
)
def test_of_other_levels_and_structures_estimates_are_at_the_identity(formula, first):
    likelihood = likelihood_of(formula, mfx.datasets.load("sleepstudy").iloc[first:])
    assert not dense_moments_module._has_equal_levels(likelihood.crossprod)


def test_moment_estimates_of_one_factor_are_those_of_the_analysis_of_variance():
    data = mfx.datasets.load("Dyestuff")
    groups = data.groupby("Batch", observed=True)["Yield"]
    n = 5
    within = groups.var().mean()
    between = n * groups.mean().var()
    likelihood = likelihood_of("Yield ~ 1 + (1 | Batch)", data)
    ((cov,), variance) = dense_moments(likelihood.dense, reml=True)
    assert variance == pytest.approx(within, rel=1e-10)
    assert cov.item() == pytest.approx((between - within) / n, rel=1e-10)


def test_moment_estimates_with_a_known_variance_leave_it():
    data = mfx.datasets.load("Dyestuff")
    likelihood = likelihood_of(
        "Yield ~ 1 + (1 | Batch)", data, residual_sd=np.full(len(data), 40.0)
    )
    found = dense_moments(likelihood.dense, reml=True)
    assert found[1] == pytest.approx(likelihood.crossprod.sigma**2)


FORMULAS = (
    "y ~ 1 + (1 | g) + (1 | h)",
    "y ~ 1 + (1 | g/h)",
    "y ~ 1 + (1 | g) + (1 | h) + (1 | g:h)",
    "y ~ x + (1 | g) + (1 | h)",
    "y ~ 1 + (1 | g)",
)


def crossed(seed):
    """All combinations of a few levels, variances of any size."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(3, 7, 3)
    g, h, _ = (v.ravel() for v in np.meshgrid(*map(np.arange, sizes), indexing="ij"))
    y = rng.normal(size=len(g))
    for codes, levels in ((g, sizes[0]), (h, sizes[1])):
        y += (10.0 ** rng.uniform(-1.0, 2.0) * rng.normal(size=levels))[codes]
    x = rng.normal(size=sizes[0])[g]
    return pd.DataFrame({"y": y, "x": x, "g": g, "h": h})


@pytest.mark.slow_beyond(60)
@pytest.mark.parametrize("seed", range(60))
def test_without_the_grid_the_optimum_is_that_of_all_its_points(seed, monkeypatch):
    formula, data = FORMULAS[seed % len(FORMULAS)], crossed(seed)

    def fit():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MixedfxWarning)
            return mfx.lmer(formula, data, engine="profiled")

    found = fit()
    monkeypatch.setattr(profiled, "balanced_estimates", lambda likelihood: None)
    by_grid = fit()
    assert found.deviance == pytest.approx(by_grid.deviance, abs=1e-8)
    assert found.converged == by_grid.converged
