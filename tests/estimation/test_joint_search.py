"""Strata beside crossed intercepts of many levels: one search over theta and the variances."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.estimation import joint_search, nested

N, LEVELS = 6000, (700, 450)


def rows(sds, seed=0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    codes = [rng.integers(0, levels, N) for levels in LEVELS]
    kind, x = rng.integers(0, 3, N), rng.standard_normal(N)
    effects = sum(
        sd * rng.standard_normal(L)[c] for sd, L, c in zip(sds, LEVELS, codes, strict=True)
    )
    y = x + effects + np.exp(0.3 * kind) * rng.standard_normal(N)
    a, b = codes
    return pd.DataFrame({"y": y, "x": x, "kind": kind.astype(str), "a": a, "b": b})


def fitted(data, reml=True):
    return mfx.lmer(
        "y ~ x + (1 | a) + (1 | b)", data, dispersion="~ kind", reml=reml, engine="profiled"
    )


def ends(monkeypatch) -> list:
    """What searches over all parameters end with, from now on."""
    found = []

    def kept(*args):
        found.append(joint_search.joint_end(*args))
        return found[-1]

    monkeypatch.setattr(nested, "joint_end", kept)
    return found


@pytest.mark.parametrize("reml", [pytest.param(True, marks=pytest.mark.full), False])
def test_is_the_optimum_of_the_nested_search_in_fewer_evaluations(monkeypatch, reml):
    data = rows((0.8, 0.6))
    found = ends(monkeypatch)
    jointly = fitted(data, reml)
    assert found[0] is not None
    monkeypatch.setattr(nested, "joint_end", lambda *_: None)
    apart = fitted(data, reml)
    assert jointly.deviance == pytest.approx(apart.deviance, abs=1e-8)
    np.testing.assert_allclose(jointly.theta, apart.theta, rtol=1e-5)
    columns = ["estimate", "std_error"]
    np.testing.assert_allclose(
        jointly.dispersion[columns], apart.dispersion[columns], rtol=1e-5, atol=1e-6
    )
    assert jointly.model.optimizer_result.evaluations < apart.model.optimizer_result.evaluations
    assert jointly.converged


def test_leaves_the_boundary_to_the_nested_search(monkeypatch):
    found = ends(monkeypatch)
    fit = fitted(rows((0.8, 0.0)))
    assert found == [None]
    assert fit.converged
