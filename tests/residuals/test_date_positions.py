"""Dates, times, durations and periods as positions, and all rows as one subject.

Source of truth: the same fit with days, or places in order, as numbers.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from residuals.trials import trial

import mixedfx as mfx

START = pd.Timestamp("2020-03-23")  # a change of the clock follows
DATA = trial().assign(day=lambda d: 7 * d["visit"] ** 2)
DATES = START + pd.to_timedelta(DATA["day"], "D")
KINDS = {
    "dates": DATES,
    "with a zone": DATES.dt.tz_localize("Europe/Berlin"),
    "durations": DATES - START,
    "objects": pd.Series([t.date() for t in DATES], dtype=object),
    "periods": DATES.dt.to_period("D"),
}


def fit(residual, formula="y ~ x", **columns):
    return mfx.lmer(formula, DATA.assign(**columns), residual=residual)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("structure", ["ar1", "ou"])
def test_dates_are_days(structure, kind):
    found, plain = fit(f"{structure}(when | id)", when=KINDS[kind]), fit(f"{structure}(day | id)")
    assert found.deviance == pytest.approx(plain.deviance, abs=1e-8)


@pytest.mark.parametrize("structure", ["us", "csh"])
def test_structures_of_labels_take_dates(structure):
    found, plain = fit(f"{structure}(when | id)", when=DATES), fit(f"{structure}(day | id)")
    assert found.deviance == pytest.approx(plain.deviance, abs=1e-8)
    assert list(found.residual_cov().index) == sorted(set(DATES))


@pytest.mark.cases(1)
@pytest.mark.parametrize("structure", ["ar1", "ou"])
def test_a_random_term_takes_dates_as_days(structure):
    term = "y ~ x + {}({} | id)"
    found = fit(None, term.format(structure, "when"), when=DATES)
    plain = fit(None, term.format(structure, "day"))
    assert found.deviance == pytest.approx(plain.deviance, abs=1e-8)


def test_months_as_periods_are_one_step_apart():
    months = pd.to_datetime([f"2020-{v:02d}-01" for v in DATA["visit"]])
    found = fit("ar1(when | id)", when=months.to_period("M"))
    assert found.deviance == pytest.approx(fit("ar1(visit | id)").deviance, abs=1e-8)


@pytest.mark.full
def test_times_within_a_day_are_distances_of_a_process():
    hours = START + pd.to_timedelta(6 * DATA["day"], "h")
    found, plain = fit("ou(when | id)", when=hours), fit("ou(day | id)")
    assert found.deviance == pytest.approx(plain.deviance, abs=1e-8)


@pytest.mark.cases(1)
@pytest.mark.parametrize("structure", ["ar1", "ou"])
def test_a_new_date_is_forecast_from_those_that_were_seen(structure):
    by_date, by_day = fit(f"{structure}(when | id)", when=DATES), fit(f"{structure}(day | id)")
    days = np.array([70, 119, 200])
    new = pd.DataFrame(
        {"id": "s00", "x": 0.3, "day": days, "when": START + pd.to_timedelta(days, "D")}
    )
    expected = by_day.predict(new)
    np.testing.assert_allclose(by_date.predict(new), expected, rtol=1e-6)
    as_text = new.assign(when=new["when"].astype(str))
    np.testing.assert_allclose(by_date.predict(as_text), expected, rtol=1e-6)


@pytest.mark.full
def test_a_factor_of_visits_is_their_order():
    # As glmmTMB writes it: ar1(factor(day) + 0 | id).
    places = fit("ar1(visit | id)").deviance
    for written in ("factor(day) + 0", "C(day)", "0 + C(day)"):
        assert fit(f"ar1({written} | id)").deviance == pytest.approx(places, abs=1e-8)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("structure", ["ar1(row | {})", "exp(lon + lat | {})"])
def test_all_rows_are_one_subject(structure):
    table = DATA.assign(row=np.arange(len(DATA)), lon=DATA["w"], lat=DATA["x"], all_=1)
    one, same = (mfx.lmer("y ~ x", table, residual=structure.format(g)) for g in ("1", "all_"))
    assert one.deviance == pytest.approx(same.deviance, abs=1e-8)
    new = table.head(3).assign(row=[-4, -2, -1], lon=[0.1, 0.2, 0.3])
    np.testing.assert_allclose(one.predict(new), same.predict(new), rtol=1e-8)
