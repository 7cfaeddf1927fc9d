"""The rank of the derivatives of V, in the space of the random effects and in that of the rows.

Source of truth: the dense derivatives ``Z (I (x) E) Z'`` by every variance and covariance, formed
from the dense Z of tests/oracle.py and projected off the fixed columns by a dense projector.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from designs import cases
from hypothesis import assume, given
from oracle import dense_z
from tiers import examples

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.likelihood.identifiability import dependences
from mixedfx.likelihood.likelihood import GaussianLikelihood


def dense_rank(design, *, reml):
    """Number of covariance parameters with the residual variance, and rank of their derivatives."""
    rows = design.rows
    w = np.ones(rows.n) if rows.weights is None else rows.weights
    root = np.sqrt(w)
    project = np.eye(rows.n)
    if reml and rows.X.shape[1]:
        Q = np.linalg.qr(root[:, None] * rows.X)[0]
        project -= Q @ Q.T
    derivatives = [np.eye(rows.n)]
    for spec, term in zip(design.spec.random_terms, rows.random_terms, strict=True):
        scaled = term.model_matrix / np.sqrt(w @ term.model_matrix**2 / rows.n)
        k = scaled.shape[1]
        Z = root[:, None] * dense_z(type(term)(term.group, term.n_levels, term.codes, scaled))
        for a, b in itertools.combinations_with_replacement(range(k), 2):
            if a == b or spec.formula_term.structure == "us":
                E = np.zeros((k, k))
                E[a, b] = E[b, a] = 1.0
                derivatives.append(Z @ np.kron(np.eye(term.n_levels), E) @ Z.T)
    flat = np.array([(project @ D @ project).ravel() for D in derivatives])
    norms = np.linalg.norm(flat, axis=1)
    flat = flat / np.where(norms > 1e-10 * norms.max(), norms, np.inf)[:, None]
    s = np.linalg.svd(flat, compute_uv=False)
    rank = int((s > 1e-6).sum())
    # None where they are neither dependent nor clearly independent.
    return len(flat), rank if int((s > 1e-3).sum()) == rank else None


def nullity(design, *, reml):
    likelihood = GaussianLikelihood.from_design(design, reml=reml)
    return sum(len(d.coefficients) for d in likelihood.dependences)


@examples(200)
@given(cases())
def test_the_nullity_is_that_of_the_dense_derivatives(case):
    size, rank = dense_rank(case.design, reml=case.reml)
    assume(rank is not None)
    assert nullity(case.design, reml=case.reml) == size - rank


TERMS = ["1 | g", "x | g", "0 + x | g", "0 + f | g", "f | g", "f || g", "1 | g:f", "b | g", "1 | h"]


@pytest.mark.full
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("rows_a_cell", [1, 2])
def test_pairs_of_terms_have_the_dense_nullity(rows_a_cell, reml):
    rng = np.random.default_rng(5)
    data = pd.DataFrame(list(itertools.product("abcdefg", "uv", range(rows_a_cell))))
    data.columns = ["g", "f", "repeat"]
    n = len(data)
    data = data.assign(
        y=rng.normal(size=n), x=rng.normal(size=n), h=rng.integers(3, size=n).astype(str),
        b=data["g"].isin(list("abc")) + 0.0,
    )  # fmt: skip
    seen = set()
    for first, second in itertools.combinations(TERMS, 2):
        try:
            design = build(mfx.parse(f"y ~ x + ({first}) + ({second})"), data)
        except mfx.errors.GroupingError:  # one row a level
            continue
        size, rank = dense_rank(design, reml=reml)
        assert nullity(design, reml=reml) == size - rank, (first, second)
        seen.add(size - rank)
    assert len(seen) >= 3


def test_one_subject_that_differs_identifies_the_terms():
    # All subjects but one have the same values of x: their rows alone do not tell the variances
    # of (x | id) from the residual's.
    data = pd.DataFrame({"id": np.repeat(np.arange(40), 2), "x": np.tile([0.0, 1.0], 40)})
    data["y"] = np.random.default_rng(2).normal(size=80)
    formula = mfx.parse("y ~ x + (x | id)")
    alike = GaussianLikelihood.from_design(build(formula, data), reml=True)
    assert [d.with_residual for d in alike.dependences] == [True]
    data.loc[0, "x"] = 0.3
    differing = GaussianLikelihood.from_design(build(formula, data), reml=True)
    assert differing.dependences == ()


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_the_rank_does_not_depend_on_units(unit):
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"g": np.repeat(np.arange(10), 6), "x": unit * rng.normal(size=60)})
    data["y"] = rng.normal(size=60)
    for text, surplus in [("(1 | g) + (x | g)", 1), ("(1 | g) + (0 + x | g)", 0)]:
        assert nullity(build(mfx.parse(f"y ~ x + {text}"), data), reml=True) == surplus


def test_a_known_residual_variance_takes_no_part():
    data = pd.DataFrame({"id": np.repeat(np.arange(9), 2), "t": np.tile([0.0, 1.0], 9)})
    data = data.assign(y=np.random.default_rng(1).normal(size=18), sd=1.0)
    design = build(mfx.parse("y ~ t + (t | id)"), data, residual_sd="sd")
    crossprod = GaussianLikelihood.from_design(design, reml=True).crossprod
    assert dependences(crossprod, reml=True) == ()
