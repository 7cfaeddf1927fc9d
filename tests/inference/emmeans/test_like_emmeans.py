"""Slopes, weights, contrasts and back-transformed means: the numbers of R's emmeans.

Source of truth: ``tests/reference/marginal_effects.json``, made by
``tests/reference/r/marginal_effects.R``, which has the models and calls. Of the generalised model
emmeans takes t distributions on glmmTMB's residual degrees of freedom, and ours are normal.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from emmeans_models import MADE_BY_R, cbpp, fit_named
from tiers import but_for

DF = ("satterthwaite", "kenward-roger")


def slopes(name, *args, **how):
    return lambda df: fit_named(name).slopes(*args, df_method=df, **how)


def means(name, *args, **how):
    return lambda df: fit_named(name).emmeans(*args, df_method=df, **how)


def table_of(make):
    return lambda df: make(df).table


def compared(make, *args, **how):
    return lambda df: make(df).contrasts(*args, **how)


BY_CELLS = means("pup", ["Treatment", "sex"])
BY_TREATMENT = means("pup", "Treatment")
AT_TEMPERATURES = means("cake", ["recipe", "temp"], at={"temp": [175, 195, 225]})
CASES = {
    "slopes/sleep": table_of(slopes("sleep", "Days")),
    "slopes/sleep2@2": table_of(slopes("sleep2", "Days", at={"Days": 2})),
    "slopes/cake": table_of(slopes("cake", "temp", by="recipe")),
    "slopes/cake@180": table_of(slopes("cake", "temp", by="recipe", at={"temp": 180})),
    "slopes/pupx": table_of(slopes("pupx", "Lsize", by="Treatment")),
    "slopes/cakelin": table_of(slopes("cakelin", "temp", by="recipe")),
    "slopes/cakelin/pairs": compared(slopes("cakelin", "temp", by="recipe")),
    "slopes/pupx/dunnett": compared(
        slopes("pupx", "Lsize", by="Treatment"), "trt.vs.ctrl", adjust="dunnettx"
    ),
    "inter/pairwise": compared(BY_CELLS, interaction="pairwise"),
    "inter/trt-consec": compared(BY_CELLS, interaction=["trt.vs.ctrl", "consec"]),
    "inter/cake-poly": compared(AT_TEMPERATURES, interaction={"recipe": "eff", "temp": "poly"}),
    **{
        f"weights/{weights}": table_of(means("pup", "Treatment", weights=weights))
        for weights in ("equal", "proportional", "outer", "cells", "flat")
    },
    **{
        f"weights-all/{weights}": table_of(means("pup", [], weights=weights))
        for weights in ("proportional", "outer", "cells")
    },
    "median": table_of(means("pupx", "Treatment", cov_reduce="median")),
    "range": table_of(means("pupx", "~ Treatment | Lsize", cov_reduce="range")),
    "adjust/ctrl/dunnettx": compared(BY_TREATMENT, "trt.vs.ctrl", adjust="dunnettx"),
    "adjust/ctrl/scheffe": compared(BY_TREATMENT, "trt.vs.ctrl", adjust="scheffe"),
    "adjust/pairs/scheffe": compared(BY_TREATMENT, adjust="scheffe"),
    "contr/mean_chg": compared(BY_TREATMENT, "mean_chg", adjust="none"),
    "contr/del.eff": compared(BY_TREATMENT, "del.eff", adjust="none"),
    "contr/ctrlk": compared(BY_TREATMENT, "trt.vs.ctrlk", adjust="none"),
    "contr/ref2": compared(BY_TREATMENT, "trt.vs.ctrl", ref="High", adjust="none"),
    "contr/own": compared(BY_TREATMENT, {"h-l": {"High": 1, "Low": -1}}),
    "back/log": table_of(means("cakelog", "recipe", which="mean")),
    "back/sqrt": table_of(means("cakesqrt", "recipe", which="mean")),
    "bias/log": table_of(means("cakelog", "recipe", which="mean", bias_adjust=True)),
    "bias/sqrt": table_of(means("cakesqrt", "recipe", which="mean", bias_adjust=True)),
    "back/logratio": compared(means("cakelog", "recipe", which="mean")),
}
REGRIDDED = means("cakelog", "recipe")
CASES |= {
    "regrid/log": lambda df: REGRIDDED(df).regrid().table,
    "regrid/log/pairs": lambda df: REGRIDDED(df).regrid().contrasts(adjust="none"),
}
THEIR_NAMES = {"SE": "std_error", "lower.CL": "conf_low", "upper.CL": "conf_high"}
THEIR_NAMES |= {"p.value": "p_value"}


def r_table(name):
    """R's table, the estimate under that name."""
    table = pd.DataFrame(MADE_BY_R[name]).replace("NA", np.nan)
    estimate = table.columns[list(table.columns).index("SE") - 1]
    return table.rename(columns={**THEIR_NAMES, estimate: "estimate"})


def estimates(table):
    (name,) = {"emmean", "slope", "estimate", "ratio"} & set(table)
    return table.rename(columns={name: "estimate"})


KEPT = [(c, df) for c, df in zip(CASES, DF * len(CASES), strict=False)]


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize(("case", "df"), but_for([(c, d) for c in CASES for d in DF], KEPT))
def test_tables_match_emmeans(case, df):
    ours, theirs = estimates(CASES[case](df)), r_table(f"{case}/{df}")
    # Two optimisers, forward differences (of curved means) and R's qtukey (1e-5).
    for column, rtol in {"estimate": 1e-5, "std_error": 1e-5, "df": 1e-3}.items():
        np.testing.assert_allclose(ours[column], theirs[column], rtol=rtol, err_msg=column)
    for end in ("conf_low", "conf_high"):
        half, expected = (t[end] - t["estimate"] for t in (ours, theirs))
        np.testing.assert_allclose(half, expected, rtol=1e-4)
    if "p_value" in ours:
        np.testing.assert_allclose(ours["p_value"], theirs["p_value"], rtol=1e-3, atol=1e-12)


GENERALIZED = {
    "glmer/linear": lambda: cbpp().slopes("z", by="period").table,
    "glmer/mean": lambda: cbpp().slopes("z", by="period", which="mean").table,
    "glmer/mean/all": lambda: cbpp().slopes("z", which="mean").table,
    "regrid/cbpp": lambda: cbpp().emmeans("period").regrid().table,
    "regrid/cbpp/pairs": lambda: cbpp().emmeans("period").regrid().contrasts(),
    "glmer/mean/pairs": lambda: cbpp().slopes("z", by="period", which="mean").contrasts(),
}


@pytest.mark.parametrize("case", but_for(GENERALIZED, ["glmer/mean/pairs", "regrid/cbpp/pairs"]))
def test_slopes_of_a_generalised_model_match_emmeans(case):
    ours, theirs = estimates(GENERALIZED[case]()), r_table(case)
    distance = (ours["estimate"] - theirs["estimate"]) / theirs["std_error"]
    np.testing.assert_allclose(distance, 0.0, atol=1e-4)
    np.testing.assert_allclose(ours["std_error"], theirs["std_error"], rtol=1e-4)
