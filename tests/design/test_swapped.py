"""Random terms whose sides are swapped."""

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ColumnWarning, GroupingError


@pytest.fixture(scope="module")
def sleep():
    sleep = mfx.datasets.load("sleepstudy")
    return sleep.assign(x=np.random.default_rng(1).normal(size=len(sleep)))


@pytest.mark.parametrize("number", ["Days", "x"])
@pytest.mark.parametrize("effects", ["Subject", "0 + Subject"])
def test_they_are_named_with_the_right_formula(sleep, number, effects):
    with pytest.raises(GroupingError, match=rf"swapped: write '\({number} \| Subject\)'"):
        mfx.lmer(f"Reaction ~ Days + ({effects} | {number})", sleep)


def test_the_advice_works(sleep):
    assert mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep).converged


def by_dose(rng):
    data = pd.DataFrame(
        {"dose": np.tile([0.0, 0.5, 1.0, 2.0, 4.0, 8.0], 60), "lab": np.repeat(list("abc"), 120)}
    )
    data["y"] = (
        rng.normal(size=360)
        + rng.normal(size=(6, 3))[np.tile(np.arange(6), 60), np.repeat(np.arange(3), 120)]
    )
    return data


def test_what_can_be_fitted_is_fitted_with_a_warning():
    with pytest.warns(ColumnWarning, match=r"swapped: write '\(dose \| lab\)'"):
        mfx.lmer("y ~ 1 + (0 + lab || dose)", by_dose(np.random.default_rng(2)))


def test_conditions_of_numbered_subjects_are_not_remarked_on():
    rng = np.random.default_rng(3)
    subject, condition = np.repeat(np.arange(30), 12), np.tile(list("abc"), 120)
    effects = rng.normal(size=(30, 3))[subject, np.tile(np.arange(3), 120)]
    data = pd.DataFrame({"subject": subject, "condition": condition})
    data["y"] = effects + rng.normal(size=360)
    fit = mfx.lmer("y ~ condition + (0 + condition || subject)", data)
    assert not fit.notes
