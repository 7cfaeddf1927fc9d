"""A level of a dispersion formula within which the response does not vary: it is named.

As the dispersion of its rows goes to zero the density there rises without end, by definition.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from tiers import but_for

import mixedfx as mfx

ADVICE = "join its level with another in dispersion=, or leave the term out"
RESPONSES = {"gaussian": "y", "student": "y", "beta": "p", "gamma": "p", "inverse_gaussian": "p"}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    f = np.repeat(["a", "b", "c"], 20)
    made = pd.DataFrame({"f": f, "x": rng.normal(size=60), "g": np.tile(np.arange(10), 6)})
    made["y"] = np.where(f == "b", 3.0, rng.normal(size=60))
    made["p"] = np.where(f == "b", 0.4, rng.uniform(0.1, 0.9, 60))
    made["c"] = np.where(f == "b", 4, rng.negative_binomial(2, 0.3, 60))
    return made


@pytest.mark.parametrize("family", but_for(RESPONSES, ["student", "inverse_gaussian"]))
def test_the_cell_and_what_to_do_are_said(frame, family):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            mfx.glmer(f"{RESPONSES[family]} ~ f + (1 | g)", frame, family, dispersion="~ f")
            said = " ".join(str(warning.message) for warning in caught)
        except mfx.errors.SearchError as error:
            said = str(error)
    assert "explains all 20 rows exactly where f[T.b] of dispersion= is 1" in said
    assert ADVICE in said


@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
def test_joining_the_level_with_another_leads_to_an_optimum(frame):
    joined = frame.assign(kind=np.where(frame["f"] == "a", "a", "b or c"))
    assert mfx.glmer("p ~ f + (1 | g)", joined, "gamma", dispersion="~ kind").converged


@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
def test_counts_that_vary_no_more_than_poisson_name_the_rows(frame):
    with pytest.warns(mfx.errors.ConvergenceWarning, match="alpha of 20 rows to zero: join its"):
        mfx.glmer("c ~ f + (1 | g)", frame, "nbinom2", dispersion="~ f")


def test_a_linear_model_names_the_coefficient(frame):
    with pytest.raises(mfx.errors.DispersionError, match=r"go to zero by f\[T.b\].*Join a level"):
        mfx.lmer("y ~ f + (1 | g)", frame, dispersion="~ f + x")
