"""Residual structures that cannot be fitted: each error says what, where, seen, and what to do.

Source of truth: the definition of the structures, and Rothenberg (1971) for what is identified.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from residuals.trials import trial

import mixedfx as mfx
from mixedfx.errors import (
    ArgumentError,
    EngineRefusal,
    FormulaError,
    GroupingError,
    MissingColumnError,
    MixedfxWarning,
)

DATA = trial().assign(
    half=lambda d: d["visit"] / 2.0,
    v10=lambda d: "v" + (3 * d["visit"]).astype(str),
    f=lambda d: "v" + d["visit"].astype(str),
    row=lambda d: np.arange(len(d)),
    constant=1,
    far=lambda d: d["t"].where(d.index != 3, np.inf),
    clock=lambda d: pd.Timestamp("2020-01-06 08:30") + pd.to_timedelta(7 * d["visit"], "D"),
    when=lambda d: pd.Timestamp("2020-01-06") + pd.to_timedelta(7 * d["visit"], "D"),
)


def fit(residual, data=DATA, formula="y ~ x", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixedfxWarning)
        return mfx.lmer(formula, data, residual=residual, **options)


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("residual", "message"),
    [
        ("us(visit)", "names no subject: .*'us.visit . patient.'"),
        ("us(visit | id) + ar1(visit | id)", "not one structure of one subject"),
        ("us(visit | arm / item / id)", "'us.visit . arm / patient.' for a covariance in each arm"),
        ("ar1(visit || id)", "'||' leaves out correlations, .*single bar".replace("|", r"\|")),
        ("us(1 | id)", "has an intercept"),
        ("ou(1 + t | id)", "has an intercept"),
        ("us(np.log(visit) | id)", "'np.log.visit.' is no column"),
        ("us(visit | np.floor(w))", "'np.floor.w.' is no column. The subject is a column"),
        ("us(visit | id / arm)", "covariance for each 'id', .* stands first, as in 'arm / id'"),
        ("ar1(clock | id)", "'clock' has times of day, .*dt.normalize.*'ou.clock"),
        ("us(visit | 1)", "subject 'all rows' has [0-9]+ rows at one position"),
        ("homcs(visit | id)", "Did you mean 'cs'"),
        ("hetar1(visit | id)", "Did you mean 'ar1h'"),
        ("ar1(visit + t | id)", "'ar1' takes one variable of positions, and here are 2: visit, t"),
        ("ou(lon + lat | id)", "'ou' takes one variable .*'exp.lon . lat . site.'"),
        ("exp(lon + lat + x + t | id)", "at most 3 coordinates, and here are 4: lon, lat, x, t"),
        ("ar1(half | id)", "whole positions, and 'half' has 0.5; for real times write 'ou.half"),
        ("ar1(v10 | id)", "sorted 'v12', 'v3': make whole numbers of it, or an ordered"),
        ("ou(f | id)", "'f' is no number .the first is 'v1'.: make numbers of 'f', or write 'ar1"),
        ("ou(far | id)", "'far' is not finite in row 3"),
        ("us(constant | id)", "subject 's00' has [234] rows at one position, constant 1;"),
        ("ou(constant | id)", "constant 1.0, a distance of zero; .*average the rows"),
        ("ar1(visit | row)", "each of the [0-9]+ subjects has a single row"),
        ("us(t | id)", "has [0-9]+ parameters, and subjects have rows at [0-9]+ positions"),
        ("toep(row | id)", "do not identify corr lag 4, .* and [0-9]+ more"),
        ("unstructured(visit | id)", "no covariance structure .*'us', 'diag', .*Did you mean 'us'"),
        ("corCAR1(t | id)", "Did you mean 'ou'"),
        ("toepp(visit | id)", "Did you mean 'toep'"),
    ],
)
def test_what_is_no_residual_structure_is_refused(residual, message):
    with pytest.raises(ArgumentError, match=message):
        fit(residual)


@pytest.mark.parametrize(
    ("residual", "message", "advice"),
    [
        ("ar1", "is not of the form", "ar1(visit | patient)"),
        ("visit | id", "have no structure", "us(visit | id)"),
        ("~ us(visit | id)", "is no formula", "us(visit | id)"),
        ("us(visit | id", "is never closed", "us(visit | patient)"),
        ("corAR1(form = ~ visit | id)", "are nlme's", "ar1(visit | id)"),
        ("corSymm(form = ~ 1 | id)", "are nlme's", "us(visit | id)"),
        ("un@ar(1)", "products of two structures", ""),
        ("", "is empty", "us(visit | patient)"),
        ("us()", "nothing stands in the parentheses", "us(visit | patient)"),
    ],
)
def test_what_is_no_call_of_a_structure_is_refused_with_one(residual, message, advice):
    with pytest.raises(FormulaError, match=message) as caught:
        fit(residual)
    assert advice in str(caught.value)
    if advice:
        assert np.isfinite(fit(advice.replace("patient", "id")).llf)


def test_an_error_within_the_parentheses_is_shown_at_its_place():
    with pytest.raises(FormulaError) as caught:
        fit("us(visit |)")
    assert "us(visit |)\n" in str(caught.value)


def test_a_misspelt_column_is_one_of_the_residual():
    with pytest.raises(MissingColumnError, match=r"residual column 'vist' .*Did you mean 'visit'"):
        fit("us(vist | id)")
    with pytest.raises(MissingColumnError, match="residual grouping column 'ide' is"):
        fit("us(visit | ide)")
    with pytest.raises(MissingColumnError, match="dispersion column 'arn'"):
        fit("ar1(visit | id)", dispersion="~ arn")


@pytest.mark.parametrize(("name", "ours"), [("AR1", "ar1"), ("corCAR1", "ou"), ("un", "us")])
def test_a_term_of_another_programs_structure_names_ours(name, ours):
    with pytest.raises(MissingColumnError, match=f"no random term: .*Did you mean '{ours}'"):
        fit(None, formula=f"y ~ x + {name}(visit | id)")


@pytest.mark.parametrize("residual", ["us(visit | id)", "ou(visit | id)"])
def test_two_rows_of_a_subject_at_a_position_are_refused_by_name(residual):
    data = pd.concat([DATA, DATA[DATA["id"] == "s07"].head(1)], ignore_index=True)
    visit = data["visit"].iloc[-1]
    with pytest.raises(ArgumentError, match=f"subject 's07' has 2 rows at one position, .*{visit}"):
        fit(residual, data)


def test_the_advice_on_two_rows_at_a_point_works():
    data = pd.concat([DATA, DATA.head(5)], ignore_index=True)
    data["y"] += 0.1 * np.random.default_rng(1).normal(size=len(data))
    assert fit(None, data, "y ~ x + ou(visit | id)").converged


def test_visits_that_no_subject_has_both_are_named():
    first = DATA["id"] < "s20"
    data = DATA[~((DATA["visit"] == 4) & first) & ~((DATA["visit"] == 1) & ~first)]
    with pytest.raises(ArgumentError, match=r"10 parameters, .* at 9 positions and pairs"):
        fit("us(visit | id)", data)
    with pytest.raises(ArgumentError, match="do not identify corr lag 3"):
        fit("toep(visit | id)", data)
    assert fit("ar1(visit | id)", data).converged


def test_free_covariances_of_more_visits_than_subjects_are_refused():
    few = DATA[DATA["id"] < "s03"]
    with pytest.raises(ArgumentError, match="has 4 rows, and there are 3 subjects"):
        fit("us(visit | id)", few, "y ~ 1")
    assert fit("ar1(visit | id)", few, "y ~ 1").converged


@pytest.mark.cases(1)
@pytest.mark.parametrize("term", ["(1 | id)", "(visit | id)", "diag(0 + x | id)"])
def test_a_random_term_is_refused_where_the_residuals_have_its_covariances(term):
    # Of diag(0 + x | id) they have not: its variance is of x, which differs between rows.
    if "x" in term:
        assert fit("us(visit | id)", formula=f"y ~ x + {term}").converged
        return
    with pytest.raises(GroupingError, match=r"would add: .*Leave the random term out"):
        fit("us(visit | id)", formula=f"y ~ x + {term}")


@pytest.mark.cases(1)
@pytest.mark.parametrize("structure", ["us", "cs", "toep", "csh"])
def test_a_random_intercept_is_in_a_structure_or_it_is_not(structure):
    # cs and toep are closed under adding a constant; csh is not, as its sds differ.
    residual, formula = f"{structure}(visit | id)", "y ~ x + (1 | id)"
    if structure == "csh":
        assert np.isfinite(fit(residual, formula=formula).llf)
        return
    with pytest.raises(GroupingError, match="cannot tell them apart"):
        fit(residual, formula=formula)


@pytest.mark.kept("ar1")
@pytest.mark.parametrize("structure", ["ar1", "ad", "us"])
def test_a_crossed_random_term_is_not_in_a_structure(structure):
    assert np.isfinite(fit(f"{structure}(visit | id)", formula="y ~ x + (1 | item)").llf)


def test_priors_are_refused_beside_correlated_residuals():
    with pytest.raises(ArgumentError, match=r"priors= beside residual='ar1.visit . id.' are not"):
        fit("ar1(visit | id)", priors={"x": mfx.priors.Normal(0.0, 1.0)})


def test_a_known_residual_sd_is_refused_beside_them():
    with pytest.raises(ArgumentError, match="both say what the residual variances are"):
        fit("ar1(visit | id)", residual_sd=1.0)


@pytest.mark.parametrize("engine", ["em", "statsmodels"])
def test_engines_without_residual_structures_refuse_them(engine):
    with pytest.raises(EngineRefusal, match="residual"):
        fit("ar1(visit | id)", engine=engine)


@pytest.mark.full
def test_ordered_categories_numbers_and_text_of_visits_are_the_same_fit():
    plain = fit("ar1(visit | id)").deviance
    labels = ["v1", "v2", "v3", "v4"]
    codings = {
        "float": DATA["visit"].astype(float),
        "text": DATA["f"],
        "ordered": pd.Categorical(DATA["f"], labels, ordered=True),
        "reversed": -DATA["visit"],
        "shifted": DATA["visit"] + 1000,
    }
    for name, values in codings.items():
        found = fit("ar1(v | id)", DATA.assign(v=values)).deviance
        assert found == pytest.approx(plain, abs=1e-7), name


def test_a_gap_of_two_visits_is_two_steps():
    doubled = fit("ar1(v | id)", DATA.assign(v=2 * DATA["visit"]))
    plain = fit("ar1(visit | id)")
    assert doubled.deviance == pytest.approx(plain.deviance, abs=1e-7)
    rho, root = (f.model.residual.components[-1].value for f in (plain, doubled))
    assert root**2 == pytest.approx(rho, rel=1e-4)
