"""Contrasts as R writes them, or none: the error says what to write, and that is right.

R's ``contr.treatment(base = 2)`` takes the second level, from one; patsy's reference is a level.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx

SECOND = "C(f, Treatment(reference='b'))"
WRITTEN = {
    "C(f, base=2)": SECOND,
    "C(f, ref='b')": SECOND,
    "C(f, Treatment(base=2))": SECOND,
    "C(f, contr.treatment(base=2))": SECOND,
    "contr.treatment(f, base=2)": SECOND,
    "contr.sum(f)": "C(f, Sum)",
    "Sum(f)": "C(f, Sum)",
    "C(f, 'sum')": "C(f, Sum)",
    "C(f, sum)": "C(f, Sum)",
    "C(f, contrasts='helmert')": "C(f, Helmert)",
    "C(f, Sum, 3)": "C(f, Sum)",
    "C(f, how_many=2)": "C(f, Sum)",
}
UNKNOWN = ["C(f, Treatment(reference='z'))", "C(f, Treatment(7))", "C(f, Sum(omit='z'))"]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    columns = {"y": rng.normal(size=36), "f": np.tile(["a", "b", "c"], 12)}
    return pd.DataFrame({**columns, "g": np.repeat(np.arange(6), 6)})


@pytest.mark.cases(12)
@pytest.mark.parametrize("term", WRITTEN)
def test_what_to_write_is_said_and_can_be_fitted(frame, term):
    with pytest.raises(mfx.errors.DataError) as caught:
        mfx.lmer(f"y ~ {term} + (1 | g)", frame)
    advised = re.search(r"Write '(.*)'", str(caught.value))[1]
    assert advised == WRITTEN[term]
    assert len(mfx.lmer(f"y ~ {advised}", frame).params) == 3


@pytest.mark.parametrize("term", UNKNOWN)
def test_levels_are_listed_for_one_that_is_none(frame, term):
    with pytest.raises(mfx.errors.DataError, match="no level of 'f'; its levels are 'a', 'b', 'c'"):
        mfx.lmer(f"y ~ {term} + (1 | g)", frame)


def test_the_reference_is_the_second_level(frame):
    names = mfx.lmer(f"y ~ {SECOND}", frame).params.index
    assert [name[-5:] for name in names[1:]] == ["[T.a]", "[T.c]"]
