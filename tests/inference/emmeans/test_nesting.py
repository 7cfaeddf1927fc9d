"""Marginal means of factors nested in others, against R's emmeans and by hand."""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import ArgumentError, DroppedColumnsWarning

FOLDER = Path(__file__).parents[2] / "reference" / "nested"
# emmeans 1.8.4-1 on lmerTest 3.1-3, made by tests/reference/r/nested_means.R.
RECORDS = json.loads((FOLDER / "emmeans.json").read_text())
VARIETIES = pd.read_csv(FOLDER / "varieties.csv")
NESTED = "fam/var"


@cache
def fit_of(fixed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DroppedColumnsWarning)
        return mfx.lmer(f"y ~ {fixed} + (1 | block)", VARIETIES)


def label(record):
    by = f" by {','.join(record['by'])}" if record["by"] else ""
    return f"{','.join(record['specs'])}{by} in {record['fixed']}"


FEW = ["fam in fam/var", "fam in fam + var", "var in fam/var", "var by fam in fam/var"]


@pytest.mark.kept("fam in fam/var", "var by fam in fam/var")
@pytest.mark.parametrize("case", but_for(map(label, RECORDS), FEW))
def test_means_and_contrasts_of_nested_factors_match_emmeans(case):
    record = next(r for r in RECORDS if label(r) == case)
    means = fit_of(record["fixed"]).emmeans(record["specs"], by=record["by"] or None)
    expected = pd.DataFrame(record["means"])
    levels = [name for name in expected if name in VARIETIES]
    found = means.table.set_index(levels).sort_index()
    expected = expected.set_index(levels).sort_index()
    assert list(found.index) == list(expected.index)
    np.testing.assert_allclose(
        found[["emmean", "std_error", "df"]], expected.astype(float), rtol=1e-4
    )
    # The order of the means, and so of the differences and their signs, is emmeans'.
    contrasts = means.contrasts()
    pairs = pd.DataFrame(record["pairs"]).astype(float)
    found = contrasts[["estimate", "std_error", "df", "p_value"]].dropna()
    np.testing.assert_allclose(found.iloc[:, :3], pairs.iloc[:, :3], rtol=1e-4, atol=1e-6)
    if record["by"] != ["var"]:  # of which emmeans makes one family of all varieties together
        np.testing.assert_allclose(found["p_value"], pairs["p.value"], atol=1e-5)


def test_a_mean_is_that_of_the_levels_within():
    fit = fit_of(NESTED)
    var = fit.emmeans("var").table
    expected = var.groupby("fam")["emmean"].mean()
    found = fit.emmeans("fam").table.set_index("fam")["emmean"]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("nesting", ["var %in% fam", {"var": "fam"}, {"var": ["fam"]}])
def test_nesting_can_be_given(nesting):
    fit = fit_of(NESTED)
    expected = fit.emmeans("fam").table
    pd.testing.assert_frame_equal(fit.emmeans("fam", nesting=nesting).table, expected)


def test_several_nested_factors_can_be_given_as_text():
    fit = fit_of("fam/var/line")
    found = fit.emmeans("line", nesting="var %in% fam, line %in% fam*var")
    pd.testing.assert_frame_equal(found.table, fit.emmeans("line").table)


def test_without_nesting_the_means_need_cells_that_cannot_occur():
    means = fit_of(NESTED).emmeans("fam", nesting=None)
    assert means.table["emmean"].isna().all()
    assert any("fam = q, var = v1" in note for note in means.notes)


def test_nesting_is_said():
    fit = fit_of(NESTED)
    assert any("var is nested in fam" in note for note in fit.emmeans("fam").notes)
    assert any("var is nested in fam" in note for note in fit.notes)


@pytest.mark.full
def test_levels_of_one_family_are_compared_within_it():
    found = fit_of(NESTED).emmeans("var", by="fam").contrasts()
    assert found[["fam", "contrast"]].agg(" ".join, axis=1).tolist() == [
        "p v1 - v2",
        "p v1 - v3",
        "p v2 - v3",
        "q v4 - v5",
    ]


def test_crossed_factors_are_not_nested():
    means = fit_of("fam * trt").emmeans("trt")
    assert list(means.table["trt"]) == ["c", "d"]
    assert not any("nested" in note for note in means.notes)


@pytest.mark.parametrize(
    ("nesting", "message"),
    [
        ("var in fam", "'var in fam' cannot be read; write 'var %in% fam'"),
        ("var %in% family", "nesting: 'family' is in no term .*'fam'"),
        ({"vra": "fam"}, "nesting: 'vra' is in no term .*'var'"),
        (3, "nesting=3 must be as 'var %in% fam'"),
    ],
)
def test_a_nesting_that_cannot_be_is_refused(nesting, message):
    with pytest.raises(ArgumentError, match=message):
        fit_of(NESTED).emmeans("fam", nesting=nesting)
