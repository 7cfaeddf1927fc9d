"""What must hold before any test module is imported, and which tier is run."""

from __future__ import annotations

import itertools
import logging
import os
import warnings

import pytest
from hypothesis import settings
from tiers import (
    DEFAULT,
    FEW,
    FULL,
    MORE,
    SLOW,
    beyond_the_cases,
    beyond_the_full_tier,
    leaves_out_full,
    leaves_out_slow,
    other_than_kept,
    outside_the_cover,
    unknown_ids,
)

# The matrices here are small: more BLAS threads than one cost time, and make the last digits of a
# sum depend on the machine. The libraries read these variables once, when numpy is imported, and
# no import above does that.
for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# No deadline: a fit takes as long as it takes, and the first one also pays for imports.
# The same commit gives the same answer twice; HYPOTHESIS_PROFILE=search looks further.
settings.register_profile("search", deadline=None)
settings.register_profile(SLOW, deadline=None, derandomize=True, print_blob=True)
settings.register_profile(FULL, settings.get_profile(SLOW), max_examples=MORE)
settings.register_profile(DEFAULT, settings.get_profile(SLOW), max_examples=FEW)


def _is_default_tier(config: pytest.Config) -> bool:
    return leaves_out_full(config.option.markexpr)


def _tier(config: pytest.Config) -> str:
    if _is_default_tier(config):
        return DEFAULT
    return FULL if leaves_out_slow(config.option.markexpr) else SLOW


def pytest_configure(config):
    tier = _tier(config)
    searching = os.environ.get("HYPOTHESIS_PROFILE") == "search"
    settings.load_profile("search" if searching else tier)


def pytest_pycollect_makeitem(collector, name, obj):
    """Collect no function that is marked ``full`` in the default tier: a millisecond a case."""
    marks = getattr(obj, "pytestmark", [])
    if _is_default_tier(collector.config) and any(mark.name == "full" for mark in marks):
        return []
    return None


# What the cases of one test that a marker leaves to the full tier are; without one, ``cases``.
LEFT_OUT = {
    "covering": outside_the_cover,
    "kept": other_than_kept,
    "cases": beyond_the_cases,
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Mark cases of a test that a tier leaves out, and Hypothesis tests in the tiers with more."""
    one_by_one = any("::" in arg for arg in config.args)
    divided = [
        item
        for item in items
        if hasattr(item, "originalname")
        and not any(item.get_closest_marker(tier) for tier in ("full", "slow"))
    ]
    for of, cases in itertools.groupby(divided, key=lambda i: (i.parent, i.originalname)):
        same = list(cases)
        if same[0].get_closest_marker("kept") and not one_by_one and (ids := unknown_ids(same)):
            raise pytest.UsageError(f"{of}: no case has the ids {sorted(ids)} that it keeps")
        for item in _left_out(same):
            item.add_marker("full")
    if (tier := _tier(config)) == DEFAULT:
        return
    for item in items:
        if hasattr(getattr(item, "obj", None), "hypothesis"):
            item.add_marker(tier)
    _mark_slow_cases(items)


def _mark_slow_cases(items):
    """Cases that the full tier leaves out are ``slow`` in the place of ``full``."""
    marked = (item for item in items if item.get_closest_marker("slow_beyond"))
    for _, cases in itertools.groupby(marked, key=lambda i: (i.parent, i.originalname)):
        for item in beyond_the_full_tier(list(cases)):
            item.own_markers[:] = [mark for mark in item.own_markers if mark.name != "full"]
            item.add_marker("slow")


def _left_out(cases):
    """Cases of one test that the full tier alone has: by its marker, or beyond a number."""
    markers = (marker for marker in LEFT_OUT if cases[0].get_closest_marker(marker))
    return LEFT_OUT[next(markers, "cases")](cases)


@pytest.fixture(scope="module")
def client():
    """A cluster of two processes; its dashboard takes any port, as several may run at once."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def quiet():
    """Notes that tests are not about: of selection, singular fits, rows left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
