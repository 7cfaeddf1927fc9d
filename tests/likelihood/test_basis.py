"""Bases of the columns of random terms.

Source of truth: invariance. A fit in shifted and rescaled columns is the fit in the columns
themselves, transformed; sleepstudy's numbers are lme4's.
"""

import warnings

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.likelihood.basis import ColumnBasis, well_conditioned


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    n = 120
    g, h, x = np.arange(n) % 10, rng.integers(0, 6, n), rng.normal(size=n)
    w = np.exp(rng.normal(size=n))
    effects = rng.normal(size=(10, 2)) @ np.array([[1.0, 0.3], [0.0, 0.8]])
    y = 2.0 + x + effects[g, 0] + effects[g, 1] * x + rng.normal(size=6)[h] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "w": w, "g": g, "h": h})


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_change_of_basis_and_its_inverse_undo_each_other(k):
    rng = np.random.default_rng(k)
    M = np.column_stack([np.ones(50), 1e3 + rng.normal(size=(50, 2))])[:, :k]
    basis = well_conditioned(M, None)
    np.testing.assert_allclose(basis.T @ basis.inverse, np.eye(k), atol=1e-10)
    np.testing.assert_allclose(basis.columns(M) @ basis.inverse, M, rtol=1e-12)
    products = basis.columns(M).T @ basis.columns(M) / len(M)
    np.testing.assert_allclose(products, np.eye(k), atol=1e-10)


def test_dependent_columns_have_no_uncorrelated_basis():
    x = np.arange(6.0)
    assert well_conditioned(np.column_stack([np.ones(6), x, 2.0 * x + 1.0]), None) is None


def test_differences_of_rows_are_transformed_as_rows_are():
    M = np.column_stack([np.ones(4), [2e3, 2001.0, 2005.0, 2009.0]])
    basis = well_conditioned(M, None)
    differences = basis.columns(M[1:] - M[:-1])
    np.testing.assert_allclose(differences, np.diff(basis.columns(M), axis=0), atol=1e-12)


def test_a_factor_of_own_columns_is_lower_triangular():
    basis = ColumnBasis(np.array([0.0, 3.0]), np.array([[1.0, 0.5], [0.0, 2.0]]))
    own = np.array([[1.0, 0.2], [-0.4, 0.7]])
    found = basis.factor(own)
    assert found[0, 1] == 0.0
    np.testing.assert_allclose(found @ found.T, basis.T @ own @ own.T @ basis.T.T, rtol=1e-12)
    np.testing.assert_allclose(basis.own_factor(basis.T @ own), own, rtol=1e-12)


@pytest.mark.kept(
    "y ~ x + (x | g)-options0-1000000.0",
    "y ~ x + (x | g) + (1 | h)-options1-1000000.0",
    "y ~ x + (x | g)-options2-2000.0",
)
@pytest.mark.parametrize("shift", [2e3, 1e6])
@pytest.mark.parametrize(
    ("formula", "options"),
    [
        ("y ~ x + (x | g)", {}),
        ("y ~ x + (x | g) + (1 | h)", {"reml": False}),
        ("y ~ x + (x | g)", {"weights": "w"}),
    ],
)
def test_columns_far_from_zero_change_no_estimate(data, formula, options, shift):
    far = data.assign(x=data["x"] + shift)
    near = far.assign(x=far["x"] - shift)  # with the same rounding
    found, expected = (mfx.lmer(formula, d, engine="profiled", **options) for d in (far, near))
    assert found.converged
    assert found.convergence.ok
    assert found.convergence.boundary == ()
    assert found.deviance == pytest.approx(expected.deviance, abs=1e-7)
    ours, theirs = (fit.tidy().set_index("term").loc["x"] for fit in (found, expected))
    columns = ["estimate", "std_error", "df"]
    np.testing.assert_allclose(
        ours[columns].astype(float), theirs[columns].astype(float), rtol=1e-7
    )
    np.testing.assert_allclose(found.ranef("g")["x"], expected.ranef("g")["x"], atol=1e-7)
    np.testing.assert_allclose(found.fittedvalues, expected.fittedvalues, atol=1e-7)
    assert "x" in str(found.summary())


@pytest.mark.parametrize("shift", [1e6, 2.46e6])
def test_julian_days_are_fitted_as_days(shift):
    # lme4 1.1: Reaction ~ Days + (Days | Subject): 10.467286, 1.545789, 1743.628272.
    sleep = mfx.datasets.load("sleepstudy")
    sleep = sleep.assign(Days=sleep["Days"] + shift)
    fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep, engine="profiled")
    found = [fit.params["Days"], fit.bse["Days"], fit.deviance]
    np.testing.assert_allclose(found, [10.467286, 1.545789, 1743.628272], rtol=3e-7)


def test_years_as_such_with_large_effects_have_a_summary():
    rng, g = np.random.default_rng(6), np.arange(60) % 4
    year = rng.integers(1990, 2025, 60) * 1.0
    slopes = rng.normal(size=4)[g] + rng.normal(size=4)[g] * (year - 2007.0) / 10.0
    table = pd.DataFrame({"year": year, "g": g, "t": year - 2007.0})
    table["y"] = 1e3 * slopes + rng.normal(size=60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, expected = (
            mfx.lmer(f"y ~ {x} + ({x} | g)", table, engine="profiled") for x in ("year", "t")
        )
        assert "year" in str(found.summary())
    assert found.deviance == pytest.approx(expected.deviance, abs=1e-5)
    assert found.bse["year"] == pytest.approx(expected.bse["t"], rel=1e-5)


@pytest.mark.filterwarnings("ignore::mixedfx.errors.ConvergenceWarning")
@pytest.mark.parametrize(("ratio", "converged"), [(1e2, True), (1e6, False)])
def test_effects_a_million_times_the_residuals_are_not_certified(ratio, converged):
    # The balanced one-way deviance has a closed form, which at 1e6 is missed by 0.01.
    rng, g = np.random.default_rng(0), np.repeat(np.arange(8), 6)
    y = ratio * rng.normal(size=8)[g] + rng.normal(size=48)
    fit = mfx.lmer("y ~ 1 + (1 | g)", pd.DataFrame({"y": y, "g": g}), engine="profiled")
    assert fit.converged == converged


@pytest.mark.full
@pytest.mark.parametrize("seed", range(24))
def test_years_as_they_stand_are_fitted_as_centred_years(seed):
    rng = np.random.default_rng(seed)
    n, fixed = 200, ["year", "1"][seed % 6 == 5]
    g, h = rng.integers(0, 18, n), rng.integers(0, 6, n)
    year = rng.integers(1990, 2025, n).astype(float)
    t, sds = (year - 2007.0) / 10.0, rng.choice([0.3, 1.0, 3.0], 2)
    y = t + sds[0] * rng.normal(size=18)[g] + sds[1] * rng.normal(size=18)[g] * t
    y += rng.normal(size=6)[h] + rng.normal(size=n)
    table = pd.DataFrame({"y": y, "year": year, "g": g, "h": h, "w": np.exp(rng.normal(size=n))})
    formula = f"y ~ {fixed} + " + ["(year | g)", "(year | g) + (1 | h)", "(year | g/h)"][seed % 3]
    options = {"weights": "w"} if seed % 4 == 0 else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        far, near = (
            mfx.lmer(formula, data, reml=seed % 2 == 0, **options)
            for data in (table, table.assign(year=year - 2007.0))
        )
    assert far.converged == near.converged
    assert far.convergence.ok == near.convergence.ok
    assert far.deviance == pytest.approx(near.deviance, abs=1e-6)
    assert "year" in str(far.summary())
    if fixed == "year":
        found, expected = (f.tidy().set_index("term").loc["year"] for f in (far, near))
        columns = ["estimate", "std_error", "df"]
        np.testing.assert_allclose(
            found[columns].astype(float), expected[columns].astype(float), rtol=1e-5
        )
