"""Rubin's rules. Source of truth: mice 3.15.0, files mi_*.json of tests/reference/robust."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reference_models import FOLDER

import mixedfx as mfx
from mixedfx.errors import ArgumentError

ROBUST = Path(FOLDER) / "robust"
COLUMNS = {
    "estimate": "estimate",
    "std_error": "se",
    "statistic": "statistic",
    "df": "df",
    "p_value": "p",
    "conf_low": "lo",
    "conf_high": "hi",
    "fmi": "fmi",
    "riv": "riv",
}


def fits_of(name):
    expected = json.loads((ROBUST / f"{name}.json").read_text())
    data = pd.read_csv(ROBUST / expected["data"])
    fits = [mfx.lmer(expected["formula"], part) for _, part in data.groupby("imp")]
    return fits, pd.DataFrame(expected["pooled"]).set_index("name")


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["mi_lmer", "mi_lm"])
def test_pooled_fits_are_mices(name):
    fits, expected = fits_of(name)
    expected.index = [
        {"(Intercept)": "Intercept", "gb": "g[T.b]", "gc": "g[T.c]"}.get(n, n)
        for n in expected.index
    ]
    table = mfx.pool(fits).set_index("term")
    assert list(table.columns) == list(COLUMNS)
    for ours, theirs in COLUMNS.items():
        np.testing.assert_allclose(
            table[ours], expected.loc[table.index, theirs], rtol=1e-5, atol=1e-9, err_msg=ours
        )
    large = mfx.pool(fits, dfcom=1e7).set_index("term")
    of = expected.loc[large.index, "df_large_sample"]
    np.testing.assert_allclose(large["df"], of, rtol=1e-5)


def test_without_variance_between_imputations_the_fit_is_pooled():
    data = mfx.datasets.load("sleepstudy")
    fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", data)
    table = mfx.pool([fit, fit, fit], dfcom=np.inf)
    np.testing.assert_allclose(table["std_error"], fit.bse)
    assert (table["riv"] < 1e-20).all()


def test_generalised_fits_are_pooled():
    data = mfx.datasets.load("cbpp")
    fits = [
        mfx.glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", data[data.index != i])
        for i in range(3)
    ]
    table = mfx.pool(iter(fits))
    np.testing.assert_allclose(table["estimate"], np.mean([f.params for f in fits], axis=0))
    assert (table["df"] < 50).all()


@pytest.mark.full
def test_marginal_means_are_pooled_by_the_same_rules():
    fits, _ = fits_of("mi_lm")
    means = mfx.pool([fit.emmeans("g") for fit in fits])
    # A mean is a linear combination of coefficients: pooled by hand.
    tables = [fit.emmeans("g").table for fit in fits]
    estimates = np.array([t["emmean"] for t in tables])
    within = np.mean([t["std_error"] ** 2 for t in tables], axis=0)
    total = within + 1.2 * estimates.var(axis=0, ddof=1)
    assert list(means.columns[:3]) == ["g", "emmean", "std_error"]
    np.testing.assert_allclose(means["emmean"], estimates.mean(axis=0))
    np.testing.assert_allclose(means["std_error"], np.sqrt(total))
    share = 1.0 - within / total
    dfcom = fits[0].df_resid
    observed = (dfcom + 1) / (dfcom + 3) * dfcom * (1 - share)
    np.testing.assert_allclose(means["df"], 1 / (share**2 / 4 + 1 / observed))


def other_models():
    sleep = mfx.datasets.load("sleepstudy")
    return [
        mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep),
        mfx.lmer("Reaction ~ 1 + (1 | Subject)", sleep),
    ]


@pytest.mark.parametrize(
    ("fits", "message"),
    [
        (lambda: other_models(), "different coefficients"),
        (lambda: other_models()[:1], "there is one"),
        (lambda: other_models()[0], "there is one"),
        (lambda: [other_models()[0], "fit"], "takes a list of fits"),
        (list, "takes a list of fits"),
    ],
    ids=["other models", "one", "no list", "text", "none"],
)
def test_what_is_no_list_of_fits_is_refused(fits, message):
    with pytest.raises(ArgumentError, match=message):
        mfx.pool(fits())


@pytest.mark.parametrize("options", [{"dfcom": 0}, {"conf_level": 95}])
def test_arguments_out_of_range_are_refused(options):
    fit = other_models()[0]
    with pytest.raises(ArgumentError, match=next(iter(options))):
        mfx.pool([fit, fit], **options)
