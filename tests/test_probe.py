"""Solving with the factorised matrix, and its inverse's entries from few right sides.

Source of truth: dense matrices made from the design's rows, without the package's cross-products
or its factorisation: ``A = Z'WZ`` and ``Lambda (Lambda' A Lambda + I)^-1 Lambda'``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from designs import THETAS, cases
from hypothesis import given, settings

import mixedfx as mfx
from mixedfx.crossprod import cross
from mixedfx.design import build
from mixedfx.factor import factorise, probes
from mixedfx.factor import plan as planning
from mixedfx.factor import probe as probing

# The inverse of a matrix whose smallest eigenvalue is one: digits are lost by what the "large"
# thetas make its largest, about 1e5.
DIGITS = 1e-9

many = settings(max_examples=30)


@pytest.fixture(autouse=True, scope="module", params=[0, planning.SMALL], ids=["chains", "tail"])
def order_of_elimination(request):
    """Small designs are one dense block by default; without that, chains are eliminated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "SMALL", request.param)
        yield


def dense(design, cp):
    """``A`` from the rows, columns where the plan has them."""
    n, plan = len(design.y), cp.plan
    Z = np.zeros((n, plan.size))
    for block, slot in zip(design.blocks, cp.slots, strict=True):
        L = len(block.levels)
        for j in range(slot.width):
            column = plan.starts[slot.factor] + (slot.start + j) * L + block.codes
            Z[np.arange(n), column] = block.values[:, j]
    weights = np.ones(n) if design.weights is None else design.weights
    return Z.T @ (weights[:, None] * Z)


def covariance(A, cp, theta):
    """``Lambda (Lambda' A Lambda + I)^-1 Lambda'``."""
    plan = cp.plan
    Lambda = np.zeros_like(A)
    for f, lam in enumerate(cp.factor_lambdas(cp.layout.lambdas(theta))):
        part = plan.columns(f)
        Lambda[part, part] = np.kron(lam, np.eye(plan.gram.levels(f)))
    M = Lambda.T @ A @ Lambda + np.eye(len(A))
    return Lambda @ np.linalg.solve(M, Lambda.T)


def factor_of(cp, theta):
    return factorise(cp.plan, cp.factor_lambdas(cp.layout.lambdas(theta)))


def assert_same(found, expected):
    size = max(1.0, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=DIGITS * size)


# ---------------------------------------------------------------- the matrix and its inverse


@many
@given(cases())
def test_matrix_holds_the_cross_products_of_all_columns(case):
    expected = dense(case.design, case.cross)
    assert_same(case.cross.plan.matrix.toarray(), expected)


@pytest.mark.parametrize("kind", THETAS)
def test_solve_multiplies_by_the_covariance_of_the_effects(kind):
    @settings(max_examples=12)
    @given(cases(kinds=(kind,)))
    def holds(case):
        A = dense(case.design, case.cross)
        right = np.random.default_rng(case.seed).normal(size=(len(A), 3))
        expected = covariance(A, case.cross, case.theta) @ right
        assert_same(factor_of(case.cross, case.theta).solve(right), expected)

    holds()


@many
@given(cases())
def test_solve_leaves_its_right_sides_as_they_are(case):
    right = np.random.default_rng(case.seed).normal(size=(case.cross.plan.size, 2))
    before = right.copy()
    factor_of(case.cross, case.theta).solve(right)
    np.testing.assert_array_equal(right, before)


# ---------------------------------------------------------------- which columns share a side


def columns_of(shared):
    """Factor, part and slot of each scalar column, in the plan's order."""
    gram, plan = shared.plan.gram, shared.plan
    part, slot = np.empty(plan.size, dtype=int), np.empty(plan.size, dtype=int)
    for f in gram.factors:
        K, L = gram.width(f), gram.levels(f)
        for a in range(K):
            at = plan.starts[f] + a * L + np.arange(L)
            part[at] = shared.parts[f]
            slot[at] = shared.starts[f] + K * shared.ranks[f] + a
    return part, slot


@many
@given(cases())
def test_entries_between_parts_are_zero(case):
    part, _ = columns_of(probes(case.cross.plan))
    inverse = covariance(dense(case.design, case.cross), case.cross, case.theta)
    assert not inverse[part[:, None] != part].any()


@many
@given(cases())
def test_columns_of_one_part_have_slots_of_their_own(case):
    part, slot = columns_of(probes(case.cross.plan))
    assert len(set(zip(part.tolist(), slot.tolist(), strict=True))) == len(part)


@pytest.mark.parametrize("portion", [1, 40, probing._PORTION])
def test_store_holds_every_entry_that_can_be_other_than_zero(monkeypatch, portion):
    monkeypatch.setattr(probing, "_PORTION", portion)

    @settings(max_examples=12)
    @given(cases())
    def holds(case):
        shared = probes(case.cross.plan)
        part, slot = columns_of(shared)
        inverse = covariance(dense(case.design, case.cross), case.cross, case.theta)
        store = shared.store(factor_of(case.cross, case.theta).solve)
        together = part[:, None] == part
        assert_same(np.where(together, store[:, slot], 0.0), inverse)

    holds()


@many
@given(cases())
def test_store_is_as_large_as_announced(case):
    shared = probes(case.cross.plan)
    store = shared.store(lambda right: right)
    assert (store.shape, store.size) == ((case.cross.plan.size, shared.slots), shared.cost)


# ---------------------------------------------------------------- how many right sides


def probes_of(formula, **columns):
    rng = np.random.default_rng(3)
    n = len(next(iter(columns.values())))
    table = pd.DataFrame({**columns, "y": rng.normal(size=n), "x": rng.normal(size=n)})
    return probes(cross(build(mfx.parse(formula), table)).plan)


@pytest.mark.parametrize(
    ("term", "effects"), [("(1 | g)", 1), ("(x | g)", 2), ("(x | g) + (0 + I(x**2) | g)", 3)]
)
def test_one_factor_needs_a_right_side_for_each_effect(term, effects):
    assert probes_of(f"y ~ 1 + {term}", g=np.arange(200) % 40).slots == effects


def test_nested_factors_need_the_most_levels_within_one_outer_level():
    # 6 batches of 2, 2, 2, 2, 2 and 5 casks: a right side for the batches, five for the casks.
    batch = np.repeat([0, 1, 2, 3, 4, 5], [20, 20, 20, 20, 20, 50])
    cask = np.concatenate([np.arange(20) % 2] * 5 + [np.arange(50) % 5])
    assert probes_of("y ~ 1 + (1 | batch/cask)", batch=batch, cask=cask).slots == 1 + 5


def test_crossed_factors_need_a_right_side_for_each_column():
    rows = np.arange(120)
    assert probes_of("y ~ 1 + (x | g) + (1 | h)", g=rows % 8, h=rows // 12).slots == 2 * 8 + 10


def test_factors_crossed_within_sites_need_no_more_than_the_largest_site():
    # Two sites, each with raters and papers of its own: 3 by 5 and 2 by 10.
    site = np.repeat([0, 1], [30, 40])
    rater = np.concatenate([np.arange(30) % 3, 3 + np.arange(40) % 2])
    paper = np.concatenate([np.arange(30) // 6, 5 + np.arange(40) // 4])
    found = probes_of("y ~ 1 + (1 | rater) + (1 | paper)", rater=rater, paper=paper, site=site)
    assert found.slots == 3 + 10


def test_no_factors_need_no_right_side():
    assert probes_of("y ~ x", g=np.arange(20)).slots == 0
