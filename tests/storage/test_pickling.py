"""Pickles of fits, and of what they give.

Source of truth: the fit that was pickled. What follows from the kept numbers is computed again by
the same operations, so every number must be the same to the last bit.
"""

from __future__ import annotations

import copy
import gc
import multiprocessing
import pickle
import subprocess
import sys
import tracemalloc

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest
from storage.kept_fits import (
    DATA,
    INDEXES,
    MODELS,
    OF_ROWS,
    SLEEP,
    WITHOUT_ROWS,
    assert_same,
    assert_same_fit,
    kept_fit,
)
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import StorageError

NEW = DATA.head(5)


def pickled(value):
    return pickle.loads(pickle.dumps(value))


@pytest.mark.full
@pytest.mark.parametrize(
    "name",
    but_for(MODELS, ["splines", "function", "weights"]),
)
def test_a_pickled_fit_gives_what_the_fit_gives(name):
    fit = kept_fit(name)
    assert_same_fit(fit, pickled(fit), WITHOUT_ROWS | OF_ROWS)


@pytest.mark.parametrize("kind", but_for(INDEXES, ["zone", "multi"]))
def test_labels_of_rows_keep_their_type(kind):
    fit = mfx.lmer("Reaction ~ Days + (1 | Subject)", DATA.set_axis(INDEXES[kind]))
    assert_same(fit.resid, pickled(fit).resid)


def test_a_pickle_of_a_pickled_fit_is_the_same():
    fit = kept_fit("splines")
    assert pickle.dumps(pickled(fit)) == pickle.dumps(pickled(pickled(fit)))
    assert joblib.hash(fit) == joblib.hash(pickled(fit))


def test_arrays_of_a_pickled_fit_are_read_only():
    again = pickled(kept_fit("weights")).model
    arrays = [again.rows.y, again.rows.X, again.solution.beta, again.crossprod.XytXy]
    assert not any(a.flags.writeable for a in arrays)


def results_of(fit):
    bootstrapped = fit.bootstrap(5, rng=1, progress=False)
    return {
        "emmeans": (fit.emmeans("kind"), lambda v: v.contrasts()),
        "kenward-roger": (fit.emmeans("kind", df_method="kenward-roger"), lambda v: v.joint()),
        "bootstrap": (bootstrapped, lambda v: v.conf_int()),
        "profile": (fit.profile(parm="sigma"), lambda v: v),
        "compare": (mfx.compare(fit, kept_fit("ml, profiled"), refit=True), lambda v: v),
        "table": (mfx.table(fit), str),
        "summary": (fit.summary(), str),
        "equation": (fit.equation(), str),
        "plot": (fit.plot, lambda v: str(v.model.formula)),
    }


@pytest.mark.full
def test_what_a_fit_gives_can_be_pickled():
    fit = mfx.lmer("Reaction ~ Days + kind + (1 | Subject)", DATA, engine="profiled")
    for value, ask in results_of(fit).values():
        assert_same(ask(value), ask(pickled(value)))
        assert_same(ask(value), ask(copy.deepcopy(value)))


@pytest.mark.full
def test_draws_can_be_pickled():
    samples = kept_fit("slopes").sample(draws=1000, chains=4, rng=1, progress=False)
    assert (pickled(samples)["posterior"]["sigma"] == samples["posterior"]["sigma"]).all()


def test_statsmodels_is_fitted_again():
    fit = kept_fit("slopes")
    again = pickled(fit)
    assert again.engine == "statsmodels"
    np.testing.assert_allclose(again.statsmodels.params, fit.statsmodels.params, rtol=1e-6)


def local_function():
    def f(x):
        return 2 * x

    return mfx.lmer("Reaction ~ f(Days) + (1 | Subject)", SLEEP)


@pytest.mark.parametrize("write", [pickle.dumps, lambda fit: joblib.hash([fit])])
def test_a_function_that_cannot_be_imported_says_what_to_do(write):
    with pytest.raises(StorageError, match=r"'f'.*top of a module.*cloudpickle"):
        write(local_function())


def test_cloudpickle_writes_functions_with_their_code():
    fit = local_function()
    assert_same(fit.predict(NEW), pickle.loads(cloudpickle.dumps(fit)).predict(NEW))


def test_joblib_keeps_fits(tmp_path):
    fit = kept_fit("slopes")
    joblib.dump(fit, tmp_path / "fit.joblib")
    assert_same(fit.bse, joblib.load(tmp_path / "fit.joblib").bse)
    calls = []

    def deviance(of):
        calls.append(of)
        return of.deviance

    cached = joblib.Memory(tmp_path, verbose=0).cache(deviance)
    assert cached(fit) == cached(pickled(fit)) == fit.deviance
    assert len(calls) == 1


def test_the_factor_at_the_optimum_is_not_pickled():
    # Two crossed factors: the factor of the smaller is a dense triangle, 300 x 300.
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"y": rng.normal(size=3000), "a": np.arange(3000) % 301})
    frame["b"] = rng.integers(0, 300, 3000)
    frame["y"] += rng.normal(size=301)[frame["a"]] + rng.normal(size=300)[frame["b"]]
    fit = mfx.lmer("y ~ 1 + (1 | a) + (1 | b)", frame, engine="profiled")
    assert len(pickle.dumps(fit)) < 8 * 300 * 300


@pytest.mark.full
def test_labels_of_other_rows_are_not_kept():
    n = 10**5
    frame = pd.DataFrame({"y": np.random.default_rng(1).normal(size=n), "g": np.arange(n) % 5})
    frame["y"] += 3.0 * frame["g"]
    few = frame.set_axis(pd.MultiIndex.from_arrays([frame.index, frame.index])).iloc[:60]
    mfx.lmer("y ~ 1 + (1 | g)", few)  # imports
    gc.collect()
    tracemalloc.start()
    fit = mfx.lmer("y ~ 1 + (1 | g)", few)
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert fit.resid.index.equals(few.index)
    assert kept < n  # bytes: less than the labels, 8 each


def _deviance(fit):
    return fit.deviance, fit.refit(fit.fittedvalues + 1.1 * fit.resid).sigma


def _fitted(reml):
    return mfx.lmer("Reaction ~ Days + (Days | Subject)", SLEEP, reml=reml, engine="profiled")


@pytest.mark.full
def test_processes_take_and_give_fits_by_fork():
    fit = _fitted(True)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map(_deviance, [fit]) == [_deviance(fit)]
        assert_same(pool.map(_fitted, [True])[0].params, fit.params)


SCRIPT = """
import multiprocessing, sys
import joblib
import mixedfx as mfx

def double(x):
    return 2 * x

def deviance(fit):
    return fit.deviance, fit.predict(mfx.datasets.load("sleepstudy").head(2)).tolist()

def fitted(reml):
    assert double(1) == 2  # cloudpickle takes along what the code names
    sleep = mfx.datasets.load("sleepstudy")
    return mfx.lmer("Reaction ~ double(Days) + (Days | Subject)", sleep, reml=reml)

if __name__ == "__main__":
    fits = [fitted(True), fitted(False)]
    expected = [deviance(fit) for fit in fits]
    if sys.argv[1] == "joblib":
        parallel = joblib.Parallel(n_jobs=2)
        assert parallel(joblib.delayed(deviance)(fit) for fit in fits) == expected
        again = parallel(joblib.delayed(fitted)(reml) for reml in (True, False))
    else:
        with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
            assert pool.map(deviance, fits) == expected
            again = pool.map(fitted, [True, False])
    assert [deviance(fit) for fit in again] == expected
    print("same")
"""


@pytest.mark.slow_beyond(2)
@pytest.mark.full
@pytest.mark.parametrize("method", ["spawn", "forkserver", "joblib"])
def test_processes_take_and_give_fits(tmp_path, method):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    run = [sys.executable, str(path), method]
    out = subprocess.run(run, capture_output=True, text=True, check=False)
    assert out.stdout == "same\n", out.stderr


@pytest.mark.slow
def test_a_thousand_fits_leave_nothing():
    few = SLEEP.head(60)

    def fitted():
        return pickled(mfx.lmer("Reaction ~ Days + (1 | Subject)", few, engine="profiled"))

    for _ in range(50):  # caches of the package fill up
        fitted()
    gc.collect()
    tracemalloc.start()
    for _ in range(1000):
        fitted()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 200_000
