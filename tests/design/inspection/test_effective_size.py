"""Design effects: Kish's formulas, and the dense definition."""

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx

RNG = np.random.default_rng(7)


def _n_effective(formula, data, **arguments):
    table = mfx.check_design(formula, data, **arguments).coefficients
    return table.set_index("coefficient")["n_effective"]


def test_design_effects_of_equal_groups_are_those_of_kish():
    # Kish (1965): 1 + (m - 1) ICC of a mean and of a covariate of the groups, 1 - ICC within.
    m, icc = 8, 0.3
    data = pd.DataFrame({"g": np.repeat(range(12), m), "x": np.tile(range(m), 12)})
    data["w"] = (data["g"] % 2) - 0.5
    found = _n_effective("~ x + w + (1 | g)", data, icc=icc)
    n, between, within = 12 * m, 1 + (m - 1) * icc, 1 - icc
    assert found["w"] == pytest.approx(n / between, rel=1e-10)
    assert found["x"] == pytest.approx(n / within, rel=1e-10)


@pytest.mark.full
def test_design_effects_are_those_of_the_dense_covariance():
    n = 90
    data = pd.DataFrame(
        {"g": RNG.integers(0, 9, n), "h": RNG.integers(0, 7, n), "x": RNG.normal(3.0, 2.0, n)}
    )
    found = _n_effective("~ x + (x | g) + (1 | h)", data, icc={"g": 0.2, "h": 0.1})
    X = np.column_stack([np.ones(n), data["x"]])
    z = (data["x"] - data["x"].mean()) / data["x"].std(ddof=0)
    same_g = np.equal.outer(data["g"].to_numpy(), data["g"].to_numpy())
    same_h = np.equal.outer(data["h"].to_numpy(), data["h"].to_numpy())
    V = 0.5 * np.eye(n) + 0.2 * same_g * (1.0 + np.outer(z, z)) + 0.1 * same_h
    variances = np.diag(np.linalg.inv(X.T @ np.linalg.solve(V, X)))
    expected = n * np.diag(np.linalg.inv(X.T @ X)) / variances
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.full
def test_shares_are_a_tenth_or_together_a_half():
    data = pd.DataFrame({"g": np.repeat(range(6), 5), "x": RNG.normal(size=30)})
    assert "0.1 by g" in mfx.check_design("~ x + (x | g)", data).assumption
    wide = data.assign(**{f"x{j}": RNG.normal(size=30) for j in range(7)})
    slopes = " + ".join(f"x{j}" for j in range(7))
    assert "0.0625 by g" in mfx.check_design(f"~ x + ({slopes} | g)", wide).assumption
