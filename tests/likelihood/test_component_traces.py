"""Traces of products of the derivatives of V: exact beside dense matrices, and estimated."""

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.likelihood import component_traces
from mixedfx.likelihood.covariance_components import covariance_components

N = 240


def frame():
    rng = np.random.default_rng(3)
    columns = {"g": rng.integers(30, size=N), "h": rng.integers(20, size=N)}
    x = rng.normal(size=N)
    b, slope, c = rng.normal(size=30), rng.normal(size=30), rng.normal(size=20)
    y = x + b[columns["g"]] + slope[columns["g"]] * x + c[columns["h"]] + rng.normal(size=N)
    return pd.DataFrame(columns | {"x": x, "y": y})


FORMULAS = {
    "crossed": "y ~ x + (1 | g) + (1 | h)",
    "slopes": "y ~ x + (x | g) + (1 | h)",
    "two terms of a factor": "y ~ x + (1 | g) + (0 + x | g) + (1 | h)",
    "nested": "y ~ x + (1 | g / h)",
}


def solution_of(model):
    return mfx.lmer(FORMULAS[model], frame(), engine="profiled").model.solution


def dense_traces(solution):
    """Both traces with K as a matrix, of A and the factors of the covariances."""
    symbolic = solution.crossprod.symbolic
    q, layout = symbolic.size, symbolic.layout
    A = np.asarray(solution.crossprod.assembled.sparse_matrix @ np.eye(q))
    K = A - A @ solution.schur.numeric.solve(A)
    E = []
    for c in covariance_components(solution):
        own, L = np.zeros((q, q)), layout.levels(c.factor)
        at = np.arange(symbolic.starts[c.factor], symbolic.starts[c.factor] + L)
        for a, b in c.unit_entries:
            own[at + a * L, at + b * L] = 1.0
        E.append(own @ K)
    return np.array([np.trace(e) for e in E]), np.array([[np.trace(e @ f) for f in E] for e in E])


@pytest.mark.parametrize("model", FORMULAS)
def test_traces_are_those_of_dense_matrices(model):
    solution = solution_of(model)
    found = component_traces.component_traces(solution, covariance_components(solution))
    of_K, of_KK = dense_traces(solution)
    np.testing.assert_allclose(found.of_K, of_K, rtol=1e-10)
    np.testing.assert_allclose(found.of_KK, of_KK, rtol=1e-10, atol=1e-10 * of_KK.max())
    assert not found.errors.any()


@pytest.mark.parametrize("factors", [{0}, {1}, {0, 1}])
@pytest.mark.parametrize("model", [m for m in FORMULAS if m != "nested"])  # K is nearly diagonal
def test_vectors_of_random_signs_estimate_them(model, factors, monkeypatch):
    solution = solution_of(model)
    components = covariance_components(solution)
    monkeypatch.setattr(
        component_traces,
        "_signs_for",
        lambda probing, factor, most: 3000 if factor in factors else 0,
    )
    found = component_traces.component_traces(solution, components)
    of_K, of_KK = dense_traces(solution)
    random = np.array([[{c.factor, d.factor} <= factors for d in components] for c in components])
    assert (np.diagonal(found.errors) > 0.0).any()
    assert not found.errors[~random].any()
    assert (abs(found.of_KK - of_KK) <= 5.0 * found.errors + 1e-9 * of_KK.max()).all()
    # Their errors are small, and about those of the theory for matrices near the diagonal.
    assert (found.errors < 0.05 * np.sqrt(np.outer(*[np.diagonal(of_KK)] * 2))).all()
    np.testing.assert_allclose(found.of_K, of_K, rtol=0.02)
