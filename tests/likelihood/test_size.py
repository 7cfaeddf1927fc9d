"""Crossed factors whose dense block memory cannot hold, refused before it is allocated."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import SizeError
from mixedfx.linalg import available_memory


def crossed(n_levels, n):
    rng = np.random.default_rng(2)
    codes = rng.integers(0, n_levels, (n, 2))
    return pd.DataFrame({"a": codes[:, 0], "b": codes[:, 1], "y": rng.normal(size=n)})


@pytest.mark.full
def test_the_bytes_of_the_dense_block_are_named(monkeypatch):
    monkeypatch.setattr(available_memory, "available_memory", lambda: 16e9)
    with pytest.raises(SizeError, match=r"'[ab]' \(30,000 levels\).*: 7\.2 GB.* 16\.0 GB"):
        mfx.lmer("y ~ 1 + (1 | a) + (1 | b)", crossed(30_000, 300_000), engine="profiled")


def test_the_bytes_of_the_iterations_are_named(monkeypatch):
    monkeypatch.setattr(available_memory, "available_memory", lambda: 3e7)
    # It fits the columns of the rows, but not the vectors of 60,000 effects.
    with pytest.raises(
        SizeError, match=r"pairs of levels of 'a' and 'b' and \d+ vectors.*: \d+ MB"
    ):
        mfx.lmer("y ~ 1 + (1 | a) + (1 | b)", crossed(30_000, 100_000), engine="iterative")


def test_one_factor_of_many_levels_has_no_dense_block(monkeypatch):
    monkeypatch.setattr(available_memory, "available_memory", lambda: 1e6)
    data = crossed(300, 3000).assign(y=lambda d: d["y"] + np.sin(d["a"]) + np.sin(d["b"]))
    assert mfx.lmer("y ~ 1 + (1 | a)", data, engine="profiled").converged


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
def test_a_limit_on_the_address_space_is_respected():
    code = """
import resource, numpy as np, pandas as pd, mixedfx as mfx
data = pd.DataFrame(np.random.default_rng(2).integers(0, 9000, (90000, 2)), columns=["a", "b"])
data["y"] = np.random.default_rng(3).normal(size=len(data))
resource.setrlimit(resource.RLIMIT_AS, (3_000_000_000, 3_000_000_000))
try:
    mfx.lmer("y ~ 1 + (1 | a) + (1 | b)", data, engine="profiled")
except mfx.errors.MixedfxError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("SizeError the grouping factors are crossed")


def test_the_available_memory_is_positive():
    assert available_memory.available_memory() > 0
    assert available_memory.size_text(7.2e9) == "7.2 GB"
    assert available_memory.size_text(5e7) == "50 MB"
