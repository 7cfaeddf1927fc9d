"""A fit changes nothing of the process: filters of warnings, numpy's errors, random state, BLAS."""

import ast
import concurrent.futures
import locale
import os
import subprocess
import sys
import textwrap
import warnings
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas.core.dtypes.common
import pytest
from threadpoolctl import threadpool_info

import mixedfx as mfx
from mixedfx.linalg.blas_threads import single_threaded_blas

SLEEP = mfx.datasets.load("sleepstudy")
SLOPES = "Reaction ~ Days + (Days | Subject)"
SOURCES = sorted(Path(mfx.__file__).parent.rglob("*.py"))

# Functions that change the process for all threads; np.errstate is the thread's own.
FORBIDDEN = {
    "catch_warnings",
    "simplefilter",
    "filterwarnings",
    "resetwarnings",
    "seterr",
    "seed",
    "setlocale",
    "putenv",
    "chdir",
    "set_option",
    "setrecursionlimit",
}


def _state():
    return {
        "filters": list(warnings.filters),
        "numpy": np.geterr(),
        "random": np.random.get_state()[1].tolist(),  # noqa: NPY002 - the global one is the claim
        "environment": dict(os.environ),
        "locale": locale.setlocale(locale.LC_ALL),
        "threads": [pool["num_threads"] for pool in threadpool_info()],
    }


@pytest.fixture
def pandas_without_filters(monkeypatch):
    """Let pandas convert types without ``catch_warnings``.

    Its ``pandas_dtype`` uses it, which is not thread-safe before Python 3.14: filters that pandas
    leaves behind, whoever calls it in threads, would be taken for those of a fit.
    """
    own = SimpleNamespace(
        warn=warnings.warn, catch_warnings=nullcontext, simplefilter=lambda *_: None
    )
    monkeypatch.setattr(pandas.core.dtypes.common, "warnings", own)


def _estimates(**options):
    fit = mfx.lmer(SLOPES, SLEEP, **options)
    return fit.deviance, fit.params.tolist(), fit.theta.tolist(), fit.tidy()["df"].tolist()


@pytest.mark.full
def test_no_function_of_the_package_changes_global_state():
    called = {
        (path.name, getattr(node.func, "attr", getattr(node.func, "id", "")))
        for path in SOURCES
        if any(name in (text := path.read_text()) for name in FORBIDDEN)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
    }
    assert not [(name, function) for name, function in called if function in FORBIDDEN]


def test_fits_in_threads_are_those_in_one_thread_and_change_nothing(pandas_without_filters):
    options = [{"engine": e} for e in ("auto", "profiled", "statsmodels")] * 4
    alone = [_estimates(**o) for o in options[:3]] * 4
    before, interval = _state(), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads alternate within a fit
    try:
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            together = list(pool.map(lambda o: _estimates(**o), options))
    finally:
        sys.setswitchinterval(interval)
    assert together == alone
    assert _state() == before


@pytest.mark.full
def test_the_first_fits_of_a_process_in_threads_leave_its_filters():
    # statsmodels inserts filters when it is first imported.
    code = """
        import concurrent.futures, contextlib, types, warnings
        import pandas.core.dtypes.common
        import mixedfx as mfx
        # As the fixture pandas_without_filters.
        pandas.core.dtypes.common.warnings = types.SimpleNamespace(
            warn=warnings.warn, catch_warnings=contextlib.nullcontext, simplefilter=lambda *_: None
        )
        sleep = mfx.datasets.load("sleepstudy")
        before = list(warnings.filters)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            fits = list(pool.map(
                lambda _: mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep).deviance, range(24)
            ))
        assert len(set(fits)) == 1, fits
        assert list(warnings.filters) == before, warnings.filters
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_an_error_within_a_fit_changes_nothing():
    before = _state()
    with pytest.raises(mfx.errors.DataError):
        mfx.lmer("Reaction ~ np.log(Days) + (Days | Subject)", SLEEP)
    assert _state() == before


def test_overlapping_limits_restore_the_number_of_blas_threads():
    # The first to enter leaves first: each restoring what it found would leave the limit.
    before = [pool["num_threads"] for pool in threadpool_info()]
    first, second = single_threaded_blas(1), single_threaded_blas(1)
    first.__enter__()
    second.__enter__()
    assert {p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"} == {1}
    first.__exit__(None, None, None)
    assert {p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"} == {1}
    second.__exit__(None, None, None)
    assert [pool["num_threads"] for pool in threadpool_info()] == before


def test_an_error_restores_the_number_of_blas_threads():
    before = [pool["num_threads"] for pool in threadpool_info()]
    with pytest.raises(ZeroDivisionError), single_threaded_blas(1):
        raise ZeroDivisionError
    assert [pool["num_threads"] for pool in threadpool_info()] == before
