"""What must hold before any test module is imported, and which tier is run."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import settings
from tiers import DEFAULT, FULL, outside_the_cover

# The matrices here are small: more BLAS threads than one cost time, and make the last digits of a
# sum depend on the machine. The libraries read these variables once, when numpy is imported, and
# no import above does that.
for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# No deadline: a fit takes as long as it takes, and the first one also pays for imports.
# The same commit gives the same answer twice; HYPOTHESIS_PROFILE=search looks further.
settings.register_profile("search", deadline=None)
settings.register_profile(FULL, deadline=None, derandomize=True, print_blob=True)
settings.register_profile(DEFAULT, settings.get_profile(FULL), max_examples=20)


def _is_default_tier(config: pytest.Config) -> bool:
    return "not full" in config.option.markexpr


def pytest_configure(config):
    tier = DEFAULT if _is_default_tier(config) else FULL
    searching = os.environ.get("HYPOTHESIS_PROFILE") == "search"
    settings.load_profile("search" if searching else tier)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Mark as ``full`` what the covers leave out, and, in the full tier, Hypothesis tests."""
    marked = [
        item
        for item in items
        if item.get_closest_marker("covering") and not item.get_closest_marker("full")
    ]
    for _, cases in itertools.groupby(marked, key=lambda item: (item.parent, item.originalname)):
        for item in outside_the_cover(list(cases)):
            item.add_marker("full")
    if not _is_default_tier(config):
        for item in items:
            if hasattr(getattr(item, "obj", None), "hypothesis"):
                item.add_marker("full")
