"""How long an animal model takes: 2,000 animals with a dense relationship matrix."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx

pytestmark = pytest.mark.benchmark(warmup=True, warmup_iterations=1, min_rounds=3)


def animals(size: int, n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Records of all animals of a pedigree, and the relationships."""
    rng = np.random.default_rng(0)
    parents = np.array([rng.choice(max(i, 1), 2) for i in range(size)])
    founder = np.arange(size) < size // 10
    sires, dams = ([None if f else p for f, p in zip(founder, c, strict=True)] for c in parents.T)
    A = mfx.Relationship.from_pedigree(range(size), sires, dams).covariance(range(size))
    b = np.linalg.cholesky(A.to_numpy()) @ rng.normal(size=size)
    animal = np.concatenate([np.arange(size), rng.choice(size, n - size)])
    data = pd.DataFrame({"animal": animal, "x": rng.normal(size=n)})
    data["y"] = 0.5 * data["x"] + b[animal] + rng.normal(size=n)
    return data, A


def test_dense_relationship_matrix(benchmark):
    data, A = animals(2_000, 4_000)
    fit = benchmark(mfx.lmer, "y ~ x + (1 | animal)", data, relmat={"animal": A})
    assert fit.converged
