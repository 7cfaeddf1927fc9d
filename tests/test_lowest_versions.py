"""Constraints that pin the lowest versions declared, with which CI runs part of the tests."""

from __future__ import annotations

import pytest
from lowest_versions import lowest_versions


def _project(*requirements):
    return {
        "dependencies": list(requirements),
        "optional-dependencies": {"plot": ["matplotlib>=3.8"], "parquet": ["pyarrow[x]>=14"]},
    }


def test_lower_bounds_become_pins():
    pins = lowest_versions(_project("numpy>=1.26"))
    assert pins == ["numpy==1.26", "matplotlib==3.8", "pyarrow==14"]


@pytest.mark.parametrize("requirement", ["numpy", "numpy<3", "numpy>=1,<3"])
def test_a_requirement_without_a_lower_bound_alone_is_refused(requirement):
    with pytest.raises(ValueError, match="lowest version"):
        lowest_versions(_project(requirement))
