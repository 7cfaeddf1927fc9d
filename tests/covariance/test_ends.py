"""Correlations and standard deviations at the end of their range: boundary optima.

Source of truth: the lowest deviance of a plain search over dense covariances
(tests/dense_search.py).
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from dense_search import Part, Problem

import mixedfx as mfx
from mixedfx.errors import MixedfxWarning, ResponseError, SingularFitWarning
from mixedfx.likelihood.scaled import check_positive_pwrss

SHAPES = {
    "alike": [1.0, 1.4, 0.6],
    "alternating": [1.0, -1.3, 0.8],
    "one without": [1.0, 0.0, 1.2],
    "none": [0.0, 0.0, 0.0],
}


def subjects(shape: str, *, repeats: int = 2, seed: int = 0) -> pd.DataFrame:
    """Ten subjects with effects in the proportions of a shape, at visits 1, 2 and 4."""
    rng, visits = np.random.default_rng(seed), np.array([1, 2, 4])
    rows = [(i, v, r) for i in range(10) for v in range(3) for r in range(repeats)]
    table = pd.DataFrame(rows, columns=["i", "v", "r"])
    b = rng.normal(size=10)
    table["y"] = (
        b[table["i"]] * np.array(SHAPES[shape])[table["v"]]
        + 0.2 * table["v"]
        + 0.4 * rng.normal(size=len(table))
    )
    return table.assign(id=table["i"].map("s{}".format), visit=visits[table["v"]])


def lowest(table: pd.DataFrame, name: str, *, residual: bool, reml: bool) -> float:
    """Deviance by the plain search; of structures of columns the distances do not matter."""
    X = np.column_stack([np.ones(len(table)), table["visit"]]).astype(float)
    t = np.array([1.0, 2.0, 4.0])
    part = Part(name, t, table["v"].to_numpy(), table["i"].to_numpy())
    return Problem(table["y"].to_numpy(), X, part, residual, reml).lowest()


def fit(table, name, *, residual, reml=True):
    left = "C(visit)" if name in ("cs", "csh") and not residual else "visit"
    term = f"{name}(0 + {left} | id)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        if residual:
            return mfx.lmer("y ~ visit", table, residual=term, reml=reml)
        return mfx.lmer(f"y ~ visit + {term}", table, reml=reml)


@pytest.mark.slow_beyond(8)
@pytest.mark.parametrize("shape", ["alike", "alternating", "one without"])
@pytest.mark.parametrize("name", ["csh", "ar1h", "toeph", "ar1", "toep", "cs"])
@pytest.mark.full
def test_a_term_ends_at_the_lowest_deviance_and_is_certified(name, shape):
    table = subjects(shape)
    found = fit(table, name, residual=False)
    assert found.deviance < lowest(table, name, residual=False, reml=True) + 1e-6
    assert found.converged, found.convergence


@pytest.mark.parametrize("name", ["csh", "ar1h"])
def test_effects_in_proportion_have_a_correlation_of_one(name):
    found = fit(subjects("alike"), name, residual=False)
    assert found.converged
    assert any(b.startswith("corr(") for b in found.convergence.boundary)
    assert found.convergence.boundary_slope > 0.0
    assert found.varcorr.query("effect2.notna()")["sdcor"].to_numpy() == pytest.approx(
        1.0, abs=1e-6
    )


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["csh", "ar1h", "toeph"])
def test_effects_of_none_have_a_standard_deviation_of_zero(name):
    table = subjects("one without", seed=2)
    found = fit(table, name, residual=False)
    assert found.converged
    sds = found.varcorr.query("effect2.isna() and group == 'id'")["sdcor"].to_numpy()
    assert (sds[1] == 0.0) == (
        "sd(visit[2] | id)" in found.convergence.boundary
        or "sd(C(visit)[2] | id)" in found.convergence.boundary
    )


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["ou", "exp", "gau"])
def test_residuals_without_correlation_have_their_range_at_its_end(name):
    # A seed whose correlations are negative, which these structures have not.
    table = subjects("none", repeats=1, seed=3)
    found = fit(table, name, residual=True)
    plain = mfx.lmer("y ~ visit", table)
    assert found.deviance == pytest.approx(plain.deviance, abs=1e-8)
    assert found.converged
    [name] = found.convergence.boundary
    assert name.startswith(("rate(", "range("))
    assert any("on the boundary" in note for note in found.notes)


@pytest.mark.slow_beyond(12)
@pytest.mark.full
@pytest.mark.parametrize("shape", ["alike", "alternating", "none"])
@pytest.mark.parametrize(
    "name", ["cs", "csh", "ar1", "ar1h", "toep", "toeph", "ad", "adh", "ou", "exp", "gau"]
)
def test_residuals_end_at_the_lowest_deviance_and_are_certified(name, shape):
    table = subjects(shape, repeats=1, seed=1)
    found = fit(table, name, residual=True, reml=False)
    assert found.deviance < lowest(table, name, residual=True, reml=False) + 1e-6
    assert found.converged, found.convergence


def test_a_first_guess_whose_covariances_have_no_inverse_is_left_out():
    # The moments of proportional residuals are those of correlations of one.
    found = fit(subjects("alike", repeats=1, seed=1), "toep", residual=True, reml=False)
    assert found.converged, found.convergence


@pytest.mark.full
@pytest.mark.parametrize(("name", "seed", "reml"), [("exp", 11, True), ("gau", 5, False)])
def test_a_field_of_noise_ends_at_the_lowest_deviance(name, seed, reml):
    # A second optimum has a range below all distances, and hardly a nugget.
    rng = np.random.default_rng(seed)
    y, x = rng.normal(size=(2, 24))
    lon, lat = rng.uniform(0.0, 3.0, size=(2, 24)).round(2)
    table = pd.DataFrame({"y": y, "x": x, "lon": lon, "lat": lat})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        found = mfx.lmer(f"y ~ x + {name}(lon + lat | 1)", table, reml=reml)
    d = np.hypot(np.subtract.outer(lon, lon), np.subtract.outer(lat, lat))
    X = np.column_stack([np.ones(24), x])
    problem = Problem(y, X, Part(name, lon, lon, lon), False, reml)
    of_grid = [
        problem.deviance_of(sd**2 * np.exp(-((d / r) ** (1 + (name == "gau")))) + np.eye(24))
        for sd in np.geomspace(0.05, 100.0, 25)
        for r in np.geomspace(0.02, 100.0, 40)
    ]
    assert found.deviance < min(of_grid) + 1e-6
    assert found.converged


@pytest.mark.full
@pytest.mark.parametrize(("seed", "reml"), [(25, True), (34, False)])
def test_another_effect_can_be_the_one_that_does_not_vary(seed, reml):
    rng = np.random.default_rng(seed)
    f, h = rng.integers(0, 3, 40), rng.integers(0, 4, 40)
    y = rng.normal(size=40) * 2.0 + np.where(f == 1, rng.normal(size=4)[h], 0.0)
    x = rng.normal(size=40)
    table = pd.DataFrame({"y": y, "x": x, "f": f.astype(str), "h": h.astype(str)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        found = mfx.lmer("y ~ x + csh(0 + f | h)", table, reml=reml)
    X, part = np.column_stack([np.ones(40), x]), Part("csh", np.arange(3.0), f, h)
    lowest_by_search = Problem(y, X, part, False, reml).lowest(starts=12)
    assert found.deviance < lowest_by_search + 1e-6
    assert found.converged


@pytest.mark.full
def test_a_field_that_takes_the_residual_variance_is_fitted_as_residuals():
    # Without a nugget the likelihood is finite, and that of correlated residuals.
    rng = np.random.default_rng(3)
    lon, lat = rng.uniform(0.0, 3.0, size=(2, 30)).round(2)
    h = rng.integers(0, 3, 30)
    d = np.hypot(np.subtract.outer(lon, lon), np.subtract.outer(lat, lat))
    same = np.equal.outer(h, h)
    y = np.linalg.cholesky(np.exp(-d / 1.5) * same) @ rng.normal(size=30)
    table = pd.DataFrame({"lon": lon, "lat": lat, "h": h.astype(str), "y": y})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixedfxWarning)
        noise = table.assign(y=rng.normal(size=30))
        crossprod = mfx.lmer("y ~ 1 + exp(lon + lat | h)", noise).model.crossprod
    # Which searches come so far depends on rounding.
    with pytest.raises(ResponseError, match=r"goes to zero.*residual='exp\(\.\.\.\)'"):
        check_positive_pwrss(crossprod, 0.0)
    found = mfx.lmer("y ~ 1", table, residual="exp(lon + lat | h)")
    problem = Problem(y, np.ones((30, 1)), Part("exp", lon, lon, lon), False, True)
    ranges = np.geomspace(0.1, 20.0, 2000)
    lowest_of_ranges = min(problem.deviance_of(np.exp(-d / r) * same) for r in ranges)
    assert found.deviance == pytest.approx(lowest_of_ranges, abs=1e-4)
