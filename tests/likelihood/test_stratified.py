"""Cross-products by stratum: at any weights they are those of the weighed rows.

Source of truth: :func:`compute_crossproducts` of the design with those weights, which sums
over the rows and has its own tests.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from designs import cases
from hypothesis import given
from hypothesis import strategies as st

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.pls import solve_pls
from mixedfx.likelihood.stratified import sum_by_stratum
from mixedfx.linalg.cholesky import analysis

MODELS = {
    "one factor": "y ~ x + (1 | g)",
    "slopes": "y ~ x + (x + z | g)",
    "diagonal": "y ~ x + (x || g)",
    "two terms of a group": "y ~ x + (1 | g) + (0 + x | g)",
    "crossed": "y ~ x + (x | g) + (1 | h)",
    "nested": "y ~ x + (1 | g / h)",
    "three factors": "y ~ x + (1 | g) + (x | h) + (1 | k)",
    "no fixed effects": "y ~ 0 + (1 | g)",
    "no random terms": "y ~ x + z",
    "ill-conditioned": "y ~ year + I(year**2) + (1 | g)",
}
STRATA = {
    "one": lambda d: np.zeros(len(d), dtype=int),
    "three": lambda d: d["k"].to_numpy(),
    "a level each": lambda d: d["g"].to_numpy(),
    "a row each": lambda d: np.arange(len(d)),
}
every_model = pytest.mark.parametrize("name", MODELS)
every_strata = pytest.mark.parametrize("which", STRATA)


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(11)
    n = 90
    return pd.DataFrame(
        {
            "y": 5.0 + rng.normal(size=n),
            "x": rng.normal(size=n),
            "z": rng.normal(size=n),
            "year": rng.integers(1990, 2020, n).astype(float),
            "g": np.repeat(np.arange(9), 10),
            "h": np.tile(np.arange(5), 18),
            "k": np.arange(n) % 3,
            "w": rng.uniform(0.5, 2.0, n),
        }
    )


def close(found, expected):
    """Hold to the largest entry: sums of signed numbers may cancel."""
    scale = max(np.abs(expected).max(initial=0.0), 1e-300)
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=1e-12)


def both(design, codes, seed=0):
    """The sums over strata, and those over rows, at the same random weights."""
    weights = np.exp(np.random.default_rng(seed).normal(size=codes.max() + 1))
    by_row = weights[codes] if design.rows.weights is None else weights[codes] * design.rows.weights
    strata = sum_by_stratum(design, codes)
    by_rows = compute_crossproducts(design.with_weights(by_row), bases=strata.plain.bases)
    return strata.reweight(weights), by_rows


def parts(found):
    ZtZ = found.ZtZ
    yield from ZtZ.diagonal
    for pair in sorted(ZtZ.off_diagonal):
        yield ZtZ.off_diagonal[pair]


def designed(frame, name, **options):
    return build(mfx.parse(MODELS[name]), frame, **options)


@pytest.mark.covering(2)
@every_model
@every_strata
@pytest.mark.parametrize("weights", [None, "w"], ids=["plain", "weighted"])
def test_the_products_of_the_random_effects_are_those_of_the_rows(frame, name, which, weights):
    design = designed(frame, name, weights=weights)
    found, expected = both(design, STRATA[which](frame))
    for mine, theirs in zip(parts(found), parts(expected), strict=True):
        close(mine, theirs)


# The basis and the centre of an ill-conditioned X depend on the weights, and its corner with
# them; what a solution says of them does not, and is held below.
PLAIN = [name for name in MODELS if name != "ill-conditioned"]


@pytest.mark.covering(1)
@pytest.mark.parametrize("name", PLAIN)
@every_strata
def test_the_deviance_is_that_of_the_rows(frame, name, which):
    found, expected = both(designed(frame, name, weights="w"), STRATA[which](frame))
    theta = 0.7 * found.parametrization.coordinates.is_sd
    for reml in (True, False):
        assert solve_pls(found, theta, reml=reml).deviance == pytest.approx(
            solve_pls(expected, theta, reml=reml).deviance, rel=1e-12, abs=1e-9
        )


@every_strata
def test_the_deviance_is_that_of_the_rows_where_x_needs_a_basis(frame, which):
    found, expected = both(designed(frame, "ill-conditioned"), STRATA[which](frame))
    for reml in (True, False):
        assert solve_pls(found, np.array([0.7]), reml=reml).deviance == pytest.approx(
            solve_pls(expected, np.array([0.7]), reml=reml).deviance, abs=1e-7
        )


@every_strata
def test_coefficients_are_those_of_the_rows_where_x_needs_a_basis(frame, which):
    found, expected = both(designed(frame, "ill-conditioned"), STRATA[which](frame))
    mine, theirs = (solve_pls(c, np.array([0.7]), reml=True) for c in (found, expected))
    errors = np.sqrt(np.diag(theirs.sigma**2 * theirs.vcov_unscaled))
    np.testing.assert_allclose(mine.beta / errors, theirs.beta / errors, rtol=0, atol=1e-3)


@pytest.mark.covering(1)
@every_model
@every_strata
def test_the_counts_add_up_to_the_rows(frame, name, which):
    strata = sum_by_stratum(designed(frame, name), STRATA[which](frame))
    assert strata.counts.sum() == len(frame)


@every_model
def test_weights_of_one_give_the_plain_products(frame, name):
    strata = sum_by_stratum(designed(frame, name, weights="w"), STRATA["three"](frame))
    found = strata.reweight(np.ones(3))
    for mine, theirs in zip(parts(found), parts(strata.plain), strict=True):
        close(mine, theirs)


@pytest.mark.full
@given(cases(kinds=("ordinary", "some zero")), st.sampled_from([1, 2, 5, 0]))
def test_any_model_and_any_strata_have_the_deviance_of_the_rows(case, count):
    rng = np.random.default_rng(case.seed)
    codes = rng.integers(count, size=case.rows) if count else np.arange(case.rows)
    codes = np.unique(codes, return_inverse=True)[1]
    found, expected = both(case.design, codes, case.seed)
    assert solve_pls(found, case.theta, reml=case.reml).deviance == pytest.approx(
        solve_pls(expected, case.theta, reml=case.reml).deviance, rel=1e-9, abs=1e-7
    )


@pytest.mark.parametrize("name", ["crossed", "nested", "three factors"])
def test_one_analysis_serves_all_weights(frame, name, monkeypatch):
    analysed = []

    def counted(pattern, analyze=analysis.analyze):
        analysed.append(pattern)
        return analyze(pattern)

    monkeypatch.setattr(analysis, "analyze", counted)
    analysis.forget_patterns()
    sums = sum_by_stratum(designed(frame, name), STRATA["three"](frame))
    theta = np.full(sums.plain.parametrization.size, 0.7)
    for weights in np.random.default_rng(1).uniform(0.5, 2.0, (5, 3)):
        solve_pls(sums.reweight(weights), theta, reml=True)
    assert analysed == [sums.plain.ZtZ.pattern]
