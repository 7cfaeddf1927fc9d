"""Cross-products without some rows: those of the other rows, computed from scratch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest

from mixedfx.design.build import build, subset_rows
from mixedfx.formula.parser import parse
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.deleted_rows import DeletedRows, has_independent_columns
from mixedfx.likelihood.likelihood import GaussianLikelihood

MODELS = {
    "slopes": "y ~ x + (x | g)",
    "crossed": "y ~ x + (x | g) + (1 | h)",
    "nested": "y ~ x + (1 | g / h)",
    "two terms of a factor": "y ~ x + (1 | g) + (0 + x | g) + (1 | h)",
    "years": "y ~ year + (1 | g)",
}
LEFT_OUT = {"rows": [0, 7, 33], "a group": list(range(10, 20)), "most rows": list(range(20, 60))}


@lru_cache
def world() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(6), 10)
    x = rng.normal(size=60)
    y = x + rng.normal(size=6)[g] + rng.normal(size=60)
    columns = {"y": y, "x": x, "year": 2000 + rng.integers(20, size=60), "g": g}
    return pd.DataFrame({**columns, "h": rng.integers(4, size=60), "w": rng.uniform(0.5, 2, 60)})


@pytest.mark.parametrize("left_out", LEFT_OUT)
@pytest.mark.parametrize("model", MODELS)
def test_the_criterion_is_that_of_the_other_rows(model, left_out):
    design = build(parse(MODELS[model]), world(), weights="w")
    rows = np.array(LEFT_OUT[left_out])
    crossprod = DeletedRows.of(compute_crossproducts(design), design.rows).without(rows)
    keep = np.ones(60, dtype=bool)
    keep[rows] = False
    others = compute_crossproducts(subset_rows(design, keep))
    theta = np.linspace(0.4, 0.9, crossprod.parametrization.size)
    for reml in (True, False):
        a, b = (GaussianLikelihood(c, reml).at(theta) for c in (crossprod, others))
        assert a.deviance == pytest.approx(b.deviance, rel=1e-11)
        np.testing.assert_allclose(a.beta, b.beta, rtol=1e-9)
        assert a.sigma == pytest.approx(b.sigma, rel=1e-10)


def test_a_level_without_rows_has_products_of_zero_and_the_mode_of_a_new_one():
    design = build(parse(MODELS["crossed"]), world())
    rows = np.array(LEFT_OUT["a group"])
    crossprod = DeletedRows.of(compute_crossproducts(design), design.rows).without(rows)
    assert not crossprod.ZtZ.diagonal[0][:, :, 1].any()
    solution = GaussianLikelihood(crossprod, True).at(np.array([0.7, 0.2, 0.4, 0.5]))
    assert not solution.conditional_modes()[0][:, 1].any()
    lam = solution.lambdas[0]
    covariance = solution.conditional_covariances()[0][:, :, 1]
    np.testing.assert_allclose(covariance, solution.sigma**2 * lam @ lam.T, rtol=1e-10)


def test_dependent_columns_and_those_without_rows_are_found():
    data = world().assign(f=np.where(world()["g"] == 1, "only", "other"))
    design = build(parse("y ~ x + f + (1 | g)"), data)
    deleted = DeletedRows.of(compute_crossproducts(design), design.rows)
    assert has_independent_columns(deleted.without(np.array([3])))
    assert not has_independent_columns(deleted.without(np.array(LEFT_OUT["a group"])))
    of_columns = build(parse("y ~ x + (0 + f | g)"), data)
    deleted = DeletedRows.of(compute_crossproducts(of_columns), of_columns.rows)
    assert not has_independent_columns(deleted.without(np.array(LEFT_OUT["a group"])))
