"""The rounding error of a deviance is known where random effects vary much more than residuals.

Source of truth: the REML criterion of one grouping factor in closed form, by extended precision.
"""

import warnings

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx

EXTENDED = np.longdouble
needs_extended = pytest.mark.skipif(
    np.finfo(EXTENDED).eps > 1e-18, reason="no extended precision on this machine"
)


def data_of(ratio):
    """Intercepts that vary ``ratio`` times as much as the residuals."""
    rng = np.random.default_rng(2)
    g, x = rng.integers(0, 8, 90), rng.normal(size=90)
    y = 5 + x + ratio * rng.normal(size=8)[g] + rng.normal(size=90)
    return pd.DataFrame({"y": y, "x": x, "g": g})


def criterion(data, theta):
    """REML criterion of ``y ~ x + (1 | g)``: ``V_j^-1 = I - theta**2 J / (1 + m theta**2)``."""
    n, variance = len(data), EXTENDED(theta) ** 2
    columns = np.column_stack([np.ones(n), data["x"], data["y"]]).astype(EXTENDED)
    total, log_det = np.zeros((3, 3), dtype=EXTENDED), EXTENDED(0)
    for rows in data.groupby("g").indices.values():
        own, m = columns[rows], len(rows)
        means = own.mean(axis=0)
        centred = own - means  # within levels, and between them: no difference of large numbers
        total += centred.T @ centred + np.outer(means, means) * m / (1 + m * variance)
        log_det += np.log1p(m * variance)
    (a, b, c), (_, d, e), (_, _, f) = total
    det = a * d - b * b
    pwrss = f - (c * (d * c - b * e) + e * (a * e - b * c)) / det
    nu = n - 2
    return log_det + np.log(det) + nu * (1 + np.log(2 * np.pi * pwrss / nu))


@needs_extended
@pytest.mark.parametrize("ratio", [1e1, 1e2, 1e3, 1e4, 1e5, 1e6])
def test_a_deviance_is_right_to_its_rounding_error_and_certified_where_that_is_small(ratio):
    data = data_of(ratio)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mfx.errors.ConvergenceWarning)
        fit = mfx.lmer("y ~ x + (1 | g)", data, engine="profiled")
    error = abs(float(fit.deviance - criterion(data, fit.theta[0])))
    assert error < fit.convergence.rounding + 1e-11
    assert fit.converged == fit.convergence.ok == (fit.convergence.rounding < 1e-6)
    assert fit.converged == (ratio < 5e3)


def test_a_diagonal_term_by_a_column_far_from_zero_has_the_rounding_error_of_its_evaluation():
    rng = np.random.default_rng(0)
    g, year = np.arange(240) % 15, rng.integers(1990, 2025, 240).astype(float)
    t = (year - 2007) / 10
    y = t + 10 * rng.normal(size=15)[g] * t + 10 * rng.normal(size=15)[g] + rng.normal(size=240)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mfx.errors.ConvergenceWarning)
        fit = mfx.lmer("y ~ year + (year || g)", pd.DataFrame({"y": y, "year": year, "g": g}))
    likelihood, factors = fit.model.likelihood, fit.model.solution.factors
    deviances = [
        likelihood.at_factors([F * (1 + k * 1e-12) for F in factors]).deviance for k in range(20)
    ]
    # A change by 1e-12 of theta is one of 1e-11 of the deviance: the rest is rounding.
    assert np.ptp(deviances) < 3 * fit.convergence.rounding
    assert fit.convergence.ok == (fit.convergence.rounding < 1e-6)


def test_a_known_coefficient_adds_what_its_share_of_the_response_rounds():
    # Its variance is zero, which divided t^2: a warning, and an infinite rounding error.
    priors = {"Intercept": mfx.priors.Normal(5, 0), "x": mfx.priors.Normal(1, 0)}
    known = mfx.lmer("y ~ x + (1 | g)", data_of(1.0), priors=priors)
    assert known.convergence.ok
