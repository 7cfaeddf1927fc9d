"""Small sets in which the deviance has several minima by the residual variances and theta.

Source of truth: the lowest of 20 minimisations by scipy (L-BFGS-B, random starts) of the dense
deviance of the marginal covariance ``diag(exp(2 x_k)) + sum_t tau_t^2 Z_t Z_t'``; and its value at
the estimates by tests/oracle.py.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from oracle import marginal

import mixedfx as mfx


def drawn(seed: int) -> tuple[str, pd.DataFrame, bool]:
    """A random model of a few levels and strata, its rows, and whether the criterion is REML."""
    rng = np.random.default_rng(seed)
    m, K = int(rng.integers(2, 7)), int(rng.integers(2, 5))
    n = int(rng.integers(max(4 * K, 12), 45))
    g = np.r_[np.arange(m), rng.integers(m, size=n - m)]
    k = rng.permutation(np.r_[np.repeat(np.arange(K), 3), rng.integers(K, size=n - 3 * K)])
    x, sd = rng.normal(size=n), np.exp(rng.choice([0.3, 1, 1.5]) * rng.normal(size=K))
    tau, h = rng.choice([0, 0.3, 1, 3]), rng.integers(3, size=n)
    two, fixed = rng.random() < 0.4, str(rng.choice(["1", "x", "0 + x"]))
    y = tau * rng.normal(size=m)[g] + sd[k] * rng.normal(size=n)
    y = y + (fixed != "1") * x * rng.normal() + two * 0.5 * rng.normal(size=3)[h]
    y = y + rng.choice([0, 2])
    data = pd.DataFrame(
        {"y": y, "x": x, "g": g.astype(str), "h": h.astype(str), "k": k.astype(str)}
    )
    formula = f"y ~ {fixed} + (1 | g)" + (" + (1 | h)" if two else "")
    return formula, data, bool(rng.random() < 0.5)


@pytest.mark.filterwarnings("ignore:singular fit")
# By one start of equal variances the fits ended 0.049 and 0.735 above.
@pytest.mark.parametrize(("seed", "lowest"), [(6, 90.019705490), (54, 52.818195443)])
def test_the_fit_is_the_lowest_of_the_minima(seed, lowest):
    formula, data, reml = drawn(seed)
    fit = mfx.lmer(formula, data, dispersion="~ k", reml=reml)
    assert fit.deviance == pytest.approx(lowest, abs=1e-6)
    assert fit.converged
    assert fit.convergence.ok
    covs = [fit.sigma**2 * np.array([[theta**2]]) for theta in fit.theta]
    dense = marginal(fit.model.design, covs, fit.residual_sd, reml=reml)
    assert fit.deviance == pytest.approx(dense.deviance, abs=1e-7)
