"""How long draws take: ``python -m pytest tests/benchmarks/test_sampling.py``.

Beside Bambi too, where ``MIXEDFX_BAMBI_PYTHON`` names a Python that has it.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import arviz_stats
import pytest

import mixedfx as mfx

pytestmark = pytest.mark.benchmark(warmup=True, warmup_iterations=1, min_rounds=3)

HERE = Path(__file__).parent
BAMBI = os.environ.get("MIXEDFX_BAMBI_PYTHON")
DRAWS, CHAINS = 1000, 4


def least(tree) -> float:
    """The least bulk effective sample size of a parameter, random effects aside."""
    names = [name for name in tree["posterior"].data_vars if not str(name).startswith("b_")]
    ess = arviz_stats.ess(tree["posterior"].to_dataset()[names], method="bulk")
    return min(float(array.min()) for array in ess.data_vars.values())


def sampled(benchmark, formula: str) -> float:
    """Draw some rounds, and give the effective draws per second."""
    fit = mfx.lmer(formula, mfx.datasets.load("sleepstudy"), engine="profiled")
    tree = benchmark(fit.sample, DRAWS, chains=CHAINS, rng=1)
    per_second = least(tree) / benchmark.stats.stats.median
    benchmark.extra_info["ess"] = round(least(tree))
    benchmark.extra_info["ess_per_second"] = round(per_second)
    return per_second


def test_a_thousand_draws_of_four_chains(benchmark):
    assert sampled(benchmark, "Reaction ~ Days + (Days | Subject)") > 0.0


@pytest.mark.skipif(BAMBI is None, reason="MIXEDFX_BAMBI_PYTHON names no Python that has Bambi")
def test_effective_draws_beside_bambi(benchmark):
    ours = sampled(benchmark, "Reaction ~ Days + (Days || Subject)")
    told = HERE.parents[1] / "datasets" / "sleepstudy.csv"
    run = [BAMBI, HERE / "beside_bambi.py", told, DRAWS, CHAINS]
    done = subprocess.run(
        [str(part) for part in run], capture_output=True, text=True, timeout=900, check=True
    )
    bambi = json.loads(done.stdout.strip().splitlines()[-1])
    theirs = bambi["ess"] / bambi["seconds"]
    benchmark.extra_info["bambi_ess"] = round(bambi["ess"])
    benchmark.extra_info["bambi_seconds"] = round(bambi["seconds"], 2)
    benchmark.extra_info["bambi_sampling_seconds"] = round(bambi["sampling"], 2)
    benchmark.extra_info["bambi_ess_per_second"] = round(theirs)
    benchmark.extra_info["ratio"] = round(ours / theirs)
    benchmark.extra_info["ratio_sampling"] = round(ours * bambi["sampling"] / bambi["ess"])
    assert ours > theirs
