"""How long inference takes: ``python -m pytest tests/benchmarks/test_inference.py``."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
from tasks import REFERENCE, maximal

import mixedfx as mfx
from mixedfx.inference.denominator_df import denominator_df

pytestmark = pytest.mark.benchmark(warmup=True, warmup_iterations=1, min_rounds=3)


@pytest.fixture(scope="module")
def ratings() -> mfx.Results:
    table = pd.read_csv(REFERENCE / "InstEval.csv.gz")
    factors = ["service", "lectage", "studage", "s", "d"]
    table[factors] = table[factors].astype(str)
    formula = "y ~ service + lectage + studage + (1 | d) + (1 | s)"
    return mfx.lmer(formula, table.astype({"y": float}), engine="profiled")


def test_kenward_roger_of_73421_rows(benchmark, ratings):
    def run() -> list[float]:
        how = denominator_df(ratings.model, "kenward-roger")
        return [how.t_df(row) for row in np.eye(ratings.model.crossprod.p)]

    found = benchmark.pedantic(run, rounds=3)
    tracemalloc.start()
    run()
    benchmark.extra_info["peak_gib"] = round(tracemalloc.get_traced_memory()[1] / 2**30, 2)
    tracemalloc.stop()
    assert np.isfinite(found).all()


@pytest.mark.parametrize("method", ["satterthwaite", "kenward-roger"])
def test_a_table_of_a_maximal_model(benchmark, method):
    formula = "y ~ a * b + (a * b | subject) + (a * b | item)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mfx.errors.SingularFitWarning)
        fit = mfx.lmer(formula, maximal(), engine="profiled").model
    fresh = mfx.Results  # each round prepares everything anew
    table = benchmark(lambda: fresh(_copy(fit)).tidy(df_method=method))
    assert len(table) == 4


def _copy(fit):
    """Make a fit without what it has computed so far."""
    return type(fit)(**{name: getattr(fit, name) for name in fit.__dataclass_fields__})


@pytest.fixture(scope="module")
def sleep() -> mfx.Results:
    data = mfx.datasets.load("sleepstudy")
    return mfx.lmer("Reaction ~ Days + (Days | Subject)", data, engine="profiled")


def test_a_thousand_bootstrap_draws(benchmark, sleep):
    run = benchmark.pedantic(sleep.bootstrap, (1000,), {"rng": 1, "progress": False}, rounds=1)
    assert len(run.draws) + len(run.failures) == 1000


def test_ten_bootstrap_draws_of_73421_rows(benchmark, ratings):
    run = benchmark.pedantic(ratings.bootstrap, (10,), {"rng": 1, "progress": False}, rounds=3)
    assert len(run.draws) == 10


def test_profile_intervals_of_every_parameter(benchmark, sleep):
    assert len(benchmark(sleep.conf_int, method="profile")) == 6
