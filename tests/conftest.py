"""What must hold before any test module is imported, and which tier is run."""

from __future__ import annotations

import itertools
import logging
import os

import pytest
from hypothesis import settings
from tiers import (
    DEFAULT,
    FEW,
    FULL,
    beyond_the_cases,
    leaves_out_full,
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
settings.register_profile(FULL, deadline=None, derandomize=True, print_blob=True)
settings.register_profile(DEFAULT, settings.get_profile(FULL), max_examples=FEW)


def _is_default_tier(config: pytest.Config) -> bool:
    return leaves_out_full(config.option.markexpr)


def pytest_configure(config):
    tier = DEFAULT if _is_default_tier(config) else FULL
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
    """Mark as ``full`` all but some cases of a test, and, in the full tier, Hypothesis tests."""
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
    if not _is_default_tier(config):
        for item in items:
            if hasattr(getattr(item, "obj", None), "hypothesis"):
                item.add_marker("full")


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
