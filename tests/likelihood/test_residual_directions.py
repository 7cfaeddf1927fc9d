"""Derivatives of V by the variances of strata, in sums over strata and in the space of the rows.

Source of truth: ``tr(P D_a P D_b)`` and ``tr(P D_a P Z (I (x) E) Z')`` of dense matrices with the
dense Z of tests/oracle.py, and the rank of all these derivatives.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from oracle import dense_z

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.formula.parser import parse_dispersion
from mixedfx.likelihood.identifiability import dependences
from mixedfx.likelihood.projected_blocks import ProjectedBlocks
from mixedfx.likelihood.residual_directions import OneVariance, StratumVariances
from mixedfx.residuals.registry import residual_model

both_criteria = pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])


def table(repeats: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(6)
    data = pd.DataFrame(list(itertools.product(range(8), [0.0, 1.0, 3.0], range(repeats))))
    data.columns = ["g", "t", "repeat"]
    n = len(data)
    return data.assign(
        y=rng.normal(size=n), x=rng.normal(size=n), late=(data["t"] > 0.5) + 0.0,
        h=rng.integers(3, size=n).astype(str), row=np.arange(n), w=rng.uniform(0.5, 2.0, n),
    )  # fmt: skip


class Case:
    """A design with a log-linear residual model somewhere, and its dense matrices."""

    def __init__(self, terms, dispersion, data, *, reml: bool, weights: str | None = "w") -> None:
        formula, self.reml = mfx.parse(f"y ~ t + {terms}"), reml
        self.design = build(formula, data, residual=parse_dispersion(dispersion), weights=weights)
        self.model = residual_model(self.design)
        self.params = 0.3 * np.random.default_rng(1).normal(size=self.model.n_params)
        sums = self.model.reduce(self.design)
        self.crossprod = self.model.reweight(sums, self.params)
        self.directions = self.model.variance_directions(sums, self.params)
        rows = self.design.rows
        self.root = np.sqrt(rows.combined_weights(np.exp(-2.0 * self.model.log_sds(self.params))))
        self.projector = np.eye(rows.n)
        if reml:
            Q = np.linalg.qr(self.root[:, None] * rows.X)[0]
            self.projector -= Q @ Q.T

    def project(self, D: np.ndarray) -> np.ndarray:
        """``W^1/2 D W^1/2`` off the fixed columns."""
        weighted = self.root[:, None] * D * self.root
        return self.projector @ weighted @ self.projector

    def residual_derivatives(self) -> list[np.ndarray]:
        by_row = self.directions.deltas[:, self.model.codes]
        return [self.project(np.diag(delta / self.root**2)) for delta in by_row]

    def term_derivatives(self) -> list[np.ndarray]:
        found = []
        design = self.design
        for spec, term in zip(design.spec.random_terms, design.rows.random_terms, strict=True):
            Z, k = dense_z(term), term.model_matrix.shape[1]
            for a, b in itertools.combinations_with_replacement(range(k), 2):
                if a == b or spec.formula_term.structure == "us":
                    E = np.zeros((k, k))
                    E[a, b] = E[b, a] = 1.0
                    found.append(self.project(Z @ np.kron(np.eye(term.n_levels), E) @ Z.T))
        return found

    def dense_nullity(self) -> int:
        every = self.residual_derivatives() + self.term_derivatives()
        flat = np.array([D.ravel() / np.linalg.norm(D) for D in every])
        s = np.linalg.svd(flat, compute_uv=False)
        assert not ((s > 1e-9) & (s < 1e-4)).any()
        return int((s < 1e-9).sum())

    def nullity(self) -> int:
        found = dependences(self.crossprod, reml=self.reml, residual=self.directions)
        return sum(len(d.coefficients) for d in found)


@both_criteria
@pytest.mark.parametrize("dispersion", ["~ t", "~ C(t)", "~ x", "~ late * h"])
def test_traces_are_those_of_dense_matrices(dispersion, reml):
    case = Case("(x | g) + (1 | h)", dispersion, table(2), reml=reml)
    blocks, dense = ProjectedBlocks.of(case.crossprod, reml=reml), case.residual_derivatives()
    expected = [[np.trace(a @ b) for b in dense] for a in dense]
    np.testing.assert_allclose(case.directions.products(blocks), expected, atol=1e-8)
    for f, own in enumerate([case.design.rows.random_terms[:1], case.design.rows.random_terms[1:]]):
        within, basis = case.directions.within(blocks, f), case.crossprod.bases[f]
        Z = case.root[:, None] * dense_z(own[0])
        k = own[0].model_matrix.shape[1]
        for D, found in zip(dense, within, strict=True):
            K = (Z.T @ D @ Z).reshape(own[0].n_levels, k, own[0].n_levels, k)
            dense_within = basis.T.T @ np.einsum("lalb->ab", K) @ basis.T
            np.testing.assert_allclose(found, dense_within, atol=1e-8)


@both_criteria
def test_one_stratum_is_one_variance(reml):
    case = Case("(x | g)", "~ t", table(2), reml=reml)
    blocks = ProjectedBlocks.of(case.crossprod, reml=reml)
    n, root_n = case.crossprod.n, np.sqrt(case.crossprod.n)
    sums, weights = case.directions.sums, case.directions.weights
    one = StratumVariances.of(sums, weights, np.zeros((len(weights), 0)))
    assert one.products(blocks)[0, 0] * n == pytest.approx(OneVariance().products(blocks)[0, 0])
    within = OneVariance().within(blocks, 0)
    np.testing.assert_allclose(np.abs(one.within(blocks, 0)) * root_n, np.abs(within), rtol=1e-9)


TERMS = [
    "(1 | g)", "(t || g)", "(0 + late | g)", "(late || g)", "(1 | g) + (1 | g:late)", "(C(t) || g)",
    "(1 | h) + (0 + late | g:late)", "(x | g)", "(1 | h) + (0 + x | g)",
]  # fmt: skip


@pytest.mark.full
@both_criteria
@pytest.mark.parametrize("dispersion", ["~ t", "~ C(t)", "~ late", "~ x"])
def test_the_nullity_is_that_of_dense_derivatives(dispersion, reml):
    seen = set()
    for terms in TERMS:
        case = Case(terms, dispersion, table(), reml=reml, weights=None)
        expected = case.dense_nullity()
        assert case.nullity() == expected, terms
        seen.add(expected)
    assert 0 in seen
    assert (len(seen) > 1) == (dispersion != "~ x")
