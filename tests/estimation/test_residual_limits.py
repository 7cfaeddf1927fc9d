"""Likelihoods of correlated residuals that have no maximum: said, and not certified.

Source of truth: the deviance of the dense covariance by definition (tests/dense_search.py).
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from dense_search import Problem, covariance

import mixedfx as mfx

# Three subjects with both visits, whose contrasts ``y2 - c y1`` two fixed effects and c fit.
FEW = pd.DataFrame(
    {
        "id": ["s0", "s1", "s2", "s3", "s3", "s4", "s4", "s5", "s5"],
        "v": [1, 2, 1, 1, 2, 1, 2, 1, 2],
        "x": [-0.814, 0.348, 0.248, 1.099, -1.285, -0.662, -0.838, -1.734, 0.126],
        "y": [0.711, -1.211, 0.644, -0.022, -1.205, -0.488, -0.653, -1.188, -0.761],
    }
)


def quietly(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mfx.lmer(*args, **kwargs)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("residual", ["toeph(v | id)", "csh(0 + C(v) | id)", "ar1h(v | id)"])
def test_contrasts_of_few_subjects_that_are_fitted_perfectly_have_no_maximum(residual):
    fit = quietly("y ~ x", FEW, residual=residual)
    assert not fit.converged
    assert any("without bound" in text for text in fit.convergence.failures)
    assert any("without bound" in note for note in fit.notes)
    assert any("No start= leads to a maximum: take a structure" in note for note in fit.notes)


@pytest.mark.full
def test_the_deviance_of_such_contrasts_falls_by_the_logarithm_of_their_variance():
    # Three contrasts, of which two are the fixed effects': d changes by (3 - 2) log(eps).
    fit = quietly("y ~ x", FEW, residual="toeph(v | id)")
    sds = np.sqrt(np.diag(fit.residual_cov()))
    sign = np.sign(fit.residual_cov().iloc[0, 1])
    X = np.column_stack([np.ones(9), FEW["x"]])
    problem = Problem(FEW["y"].to_numpy(), X, None, True, True)
    t, at = np.array([1.0, 2.0]), FEW["v"].to_numpy() - 1
    same = np.equal.outer(FEW["id"].to_numpy(), FEW["id"].to_numpy())

    def deviance(eps):
        C = covariance("toeph", np.array([1.0, sds[1] / sds[0], 0.0]), t)
        C[0, 1] = C[1, 0] = sign * np.sqrt((1.0 - eps) * C[0, 0] * C[1, 1])
        return problem.deviance_of(C[np.ix_(at, at)] * same)

    assert deviance(1e-6) - deviance(1e-8) == pytest.approx(np.log(100.0), abs=0.02)


def test_more_subjects_have_a_maximum():
    rng = np.random.default_rng(3)
    table = pd.DataFrame(
        {
            "id": np.repeat([f"s{i}" for i in range(12)], 2),
            "v": np.tile([1, 2], 12),
            "x": rng.normal(size=24),
            "y": rng.normal(size=24),
        }
    )
    assert mfx.lmer("y ~ x", table, residual="toeph(v | id)").converged


@pytest.mark.full
def test_a_matern_field_that_goes_to_compound_symmetry_is_not_certified():
    rng = np.random.default_rng(11)
    n, k = 8, 3
    ids, t = np.repeat(np.arange(n), k), np.tile([1.0, 2.0, 4.0], n)
    y = 0.9 * rng.normal(size=n)[ids] + rng.normal(size=n * k)
    table = pd.DataFrame({"id": [f"s{i}" for i in ids], "t": t, "y": y})
    fit = quietly("y ~ t", table, residual="mat(t | id)", reml=False)
    # With independent residuals beside a random intercept: compound symmetry, by another path.
    limit = quietly("y ~ t + (1 | id)", table, reml=False)
    lower = limit.deviance < fit.deviance - 1e-6
    assert fit.converged == (not lower)
    assert lower
    assert any("cs(t | id)" in text for text in fit.convergence.failures)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("method", ["satterthwaite", "kenward-roger", "kenward-roger-linear"])
def test_tests_of_a_fit_that_ended_at_a_singular_covariance_are_nan_with_a_note(method):
    fit = quietly("y ~ x", FEW, residual="toeph(v | id)")
    table = fit.tidy(df_method=method)
    assert table[["std_error", "df", "p_value"]].isna().all(axis=None)
    assert fit.anova(df_method=method)[["den_df", "p_value"]].isna().all(axis=None)
    assert "nearly singular" in str(fit.summary(df_method=method))
