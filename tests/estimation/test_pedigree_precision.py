"""Pedigrees by their sparse inverse: the fits of their dense relationships, and their limits."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from tiers import but_for

import mixedfx as mfx
from mixedfx.covariance import pedigree as pedigrees
from mixedfx.design.levels import Levels
from mixedfx.errors import EngineRefusal, SizeError
from mixedfx.likelihood import level_precision
from mixedfx.likelihood.level_precision import PrecisionSolver

N_ANIMALS, N_LEVELS = 500, 200


def parents_of(kind, size, rng):
    """Numbers of sires and dams: by generations, overlapping ones, or any earlier animals."""
    parents = np.full((size, 2), -1)
    for i in range(size // 10, size):
        window = {"generations": (i // 100 - 1) * 100, "overlapping": i - 150, "any": 0}[kind]
        high = max((i // 100) * 100, size // 10) if kind == "generations" else i
        parents[i] = rng.integers(max(window, 0), high, 2)
        if rng.random() < 0.1:
            parents[i, rng.integers(2)] = -1
    return parents


def relationship(parents):
    sires, dams = ([None if p < 0 else p for p in c] for c in parents.T.tolist())
    return mfx.Relationship.from_pedigree(range(len(parents)), sires, dams)


def records(kind, seed=0, n=500):
    rng = np.random.default_rng(seed)
    parents = parents_of(kind, N_ANIMALS, rng)
    b = np.zeros((N_ANIMALS, 2))
    for i, (s, d) in enumerate(parents.tolist()):
        b[i] = 0.5 * (b[s] * (s >= 0) + b[d] * (d >= 0)) + 0.8 * rng.normal(size=2)
    animal = rng.choice(N_ANIMALS, N_LEVELS, replace=False)
    animal = np.concatenate([animal, rng.choice(animal, n - N_LEVELS)])
    data = pd.DataFrame(
        {
            "animal": animal,
            "herd": rng.integers(0, 12, n),
            "x": rng.normal(size=n),
            "w": rng.uniform(0.5, 2.0, n),
        }
    )
    data["y"] = 1.0 + (0.5 + 0.6 * b[animal, 1]) * data["x"] + b[animal, 0]
    data["y"] += 0.5 * rng.normal(size=12)[data["herd"]] + rng.normal(size=n) / np.sqrt(data["w"])
    return data, relationship(parents)


def always_sparse(monkeypatch):
    monkeypatch.setattr(level_precision, "DENSE_EFFECTS", 0)
    monkeypatch.setattr(level_precision, "_EIGEN", np.inf)


def both_fits(monkeypatch, kind, formula, **options):
    """The fit with dense relationships, and that with their sparse inverse."""
    data, A = records(kind)
    dense = mfx.lmer(formula, data, relmat={"animal": A}, **options)
    always_sparse(monkeypatch)
    sparse = mfx.lmer(formula, data, relmat={"animal": A}, **options)
    assert isinstance(sparse.model.crossprod.solver, PrecisionSolver)
    assert not isinstance(dense.model.crossprod.solver, PrecisionSolver)
    return dense, sparse


FORMULAS = [
    "y ~ x + (1 | animal)",
    "y ~ x + (1 | animal) + (1 | herd)",
    "y ~ x + (1 + x | animal) + (1 | herd)",
    "y ~ x + (1 + x || animal)",
]
KINDS = ["generations", "overlapping", "any"]


CASES = list(itertools.product(KINDS, FORMULAS))


@pytest.mark.full
@pytest.mark.parametrize(("kind", "formula"), but_for(CASES, CASES[6:7]))
def test_fit_is_that_of_the_dense_relationships(monkeypatch, kind, formula):
    dense, sparse = both_fits(monkeypatch, kind, formula, weights="w")
    assert sparse.deviance == pytest.approx(dense.deviance, abs=1e-8)
    np.testing.assert_allclose(sparse.params, dense.params, atol=1e-6)
    np.testing.assert_allclose(sparse.bse, dense.bse, rtol=1e-5)
    # animals without records, ancestors or not, are among them
    table, expected = (fit.ranef("animal", cond_sd=True) for fit in (sparse, dense))
    assert len(table) == N_ANIMALS
    np.testing.assert_allclose(table, expected.loc[table.index], atol=2e-5)


@pytest.mark.parametrize(
    ("formula", "reml"),
    [(FORMULAS[2], True), pytest.param(FORMULAS[1], False, marks=pytest.mark.full)],
)
def test_deviance_and_score_are_those_of_the_definition(monkeypatch, formula, reml):
    data, A = records("overlapping")
    always_sparse(monkeypatch)
    fit = mfx.lmer(formula, data, relmat={"animal": A}, reml=reml)
    likelihood, theta = fit.model.likelihood, fit.theta * 1.2 + 0.1
    V = np.eye(len(data))
    for term, lam in zip(
        fit.model.rows.random_terms, fit.model.crossprod.parametrization.lambdas(theta), strict=True
    ):
        Z = np.eye(term.n_levels)[term.codes]
        within = A.covariance(fit.model.spec.levels_of(term.group).labels).to_numpy()
        within = within if term.group == "animal" else np.eye(term.n_levels)
        of_rows = term.model_matrix @ lam @ lam.T @ term.model_matrix.T
        V += of_rows * (Z @ within @ Z.T)
    X, y = fit.model.rows.X, fit.model.rows.y
    expected = criterion(V, X, y, reml=reml)
    assert likelihood.deviance(theta) == pytest.approx(expected, abs=1e-8)
    step = 1e-5
    numeric = [
        (likelihood.deviance(theta + step * e) - likelihood.deviance(theta - step * e)) / (2 * step)
        for e in np.eye(len(theta))
    ]
    np.testing.assert_allclose(likelihood.score(theta), numeric, rtol=1e-5, atol=1e-4)


def criterion(V, X, y, *, reml):
    """-2 log-likelihood or the REML criterion of ``y ~ N(X beta, sigma**2 V)``."""
    Vi = np.linalg.inv(V)
    information = X.T @ Vi @ X
    r = y - X @ np.linalg.solve(information, X.T @ Vi @ y)
    nu = len(y) - reml * X.shape[1]
    value = np.linalg.slogdet(V)[1] + nu * (1.0 + np.log(2.0 * np.pi * (r @ Vi @ r) / nu))
    return value + reml * np.linalg.slogdet(information)[1]


def numbers(result):
    """The numeric values of a table."""
    frame = pd.DataFrame(result).select_dtypes("number")
    return frame.to_numpy(dtype=float)


NEW = pd.DataFrame(
    {"animal": [3, 7, 499, 498, 250, 251], "x": [0.0, 1, 2, 0, 1, 2], "herd": [0, 1, 2, 3, 4, 5]}
)
TABLES = {
    "tidy": lambda fit: fit.tidy(),
    "heritability": lambda fit: fit.heritability(),
    "predict": lambda fit: fit.predict(NEW, interval="prediction"),
    "augment": lambda fit: fit.augment(),
    "influence": lambda fit: fit.influence(),
    "kenward-roger": lambda fit: fit.anova(df_method="kenward-roger"),
    "joint": lambda fit: fit.ranef("animal", cond_sd="joint").sort_index(),
    "herd": lambda fit: fit.ranef("herd", cond_sd=True),
    "random_effects_cov": lambda fit: np.concatenate(
        [np.stack([*by_level.values()]).ravel() for by_level in fit.random_effects_cov.values()]
    ),
    "refit": lambda fit: fit.refit(fit.model.rows.y[::-1].copy()).varcorr,
}


@pytest.mark.full
@pytest.mark.parametrize("name", but_for(TABLES, ["predict"]))
def test_inference_is_that_of_the_dense_relationships(monkeypatch, name):
    dense, sparse = both_fits(monkeypatch, "overlapping", "y ~ x + (1 | animal) + (1 | herd)")
    table = TABLES[name]
    found = numbers(table(sparse))
    assert found.size
    np.testing.assert_allclose(found, numbers(table(dense)), rtol=1e-4, atol=1e-5)


def test_simulated_effects_have_the_covariance_of_the_relationships(monkeypatch):
    _, A = records("any")
    levels = A.labels[::5]
    basis = level_precision.pedigree_basis(A, _levels(levels))
    T = np.eye(basis.n_nodes) @ basis.T
    np.testing.assert_allclose(T.T @ T, A.covariance(levels), atol=1e-12)
    np.testing.assert_allclose(np.eye(len(levels)) @ basis, T.T, atol=1e-12)


def _levels(labels):
    return Levels((labels,), (np.arange(len(labels)),))


@pytest.mark.full
def test_kept_fit_is_the_same(monkeypatch, tmp_path):
    _, sparse = both_fits(monkeypatch, "any", "y ~ x + (1 | animal)")
    sparse.save(tmp_path / "fit.mfx")
    kept = mfx.read(tmp_path / "fit.mfx")
    assert kept.deviance == pytest.approx(sparse.deviance, abs=1e-9)
    pd.testing.assert_frame_equal(kept.ranef("animal"), sparse.ranef("animal"))


@pytest.mark.full
def test_a_pedigree_that_leaves_too_large_a_block_is_refused_before_the_search(monkeypatch):
    data, A = records("any")
    always_sparse(monkeypatch)
    monkeypatch.setattr(level_precision, "_MOST_OPERATIONS", 1.0)
    with pytest.raises(SizeError, match=r"200 levels with records, \d+ with their ancestors.*sire"):
        mfx.lmer("y ~ x + (1 | animal)", data, relmat={"animal": A})


@pytest.mark.full
def test_em_is_refused(monkeypatch):
    data, A = records("any")
    always_sparse(monkeypatch)
    with pytest.raises(EngineRefusal, match="use engine='profiled'"):
        mfx.lmer("y ~ x + (1 | animal)", data, relmat={"animal": A}, engine="em")


@pytest.mark.parametrize("kind", KINDS)
def test_inbreeding_is_the_same_by_columns_and_by_gene_flow(monkeypatch, kind):
    parents = parents_of(kind, 300, np.random.default_rng(3))
    found = []
    for cost in (0.0, np.inf):
        monkeypatch.setattr(pedigrees, "_COLUMN_COST", cost)
        found.append(relationship(parents).inbreeding())
    assert found[0].max() > 0.0
    np.testing.assert_allclose(found[0], found[1], atol=1e-12)
    # the diagonal of A less one, by A from the factors
    A = relationship(parents).covariance()
    np.testing.assert_allclose(np.diag(A) - 1.0, found[0], atol=1e-12)


@pytest.mark.full
def test_twenty_thousand_animals_fit():
    rng = np.random.default_rng(5)
    parents = np.full((20_000, 2), -1)
    for first in range(4_000, 20_000, 4_000):  # of each generation 100 sires
        parents[first : first + 4_000, 0] = rng.integers(first - 4_000, first - 3_900, 4_000)
        parents[first : first + 4_000, 1] = rng.integers(first - 3_900, first, 4_000)
    animal = np.repeat(rng.choice(20_000, 4_000, replace=False), 2)
    data = pd.DataFrame({"animal": animal, "x": rng.normal(size=8_000)})
    data["y"] = data["x"] + rng.normal(size=20_000)[animal] + rng.normal(size=8_000)
    fit = mfx.lmer("y ~ x + (1 | animal)", data, relmat={"animal": relationship(parents)})
    assert isinstance(fit.model.crossprod.solver, PrecisionSolver)
    assert fit.converged
    assert len(fit.ranef("animal")) == 20_000
