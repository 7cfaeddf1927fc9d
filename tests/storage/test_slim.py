"""Fits without rows.

Source of truth: the full fit, to the last bit.
"""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref

import numpy as np
import pandas as pd
import pytest
from storage.kept_fits import (
    DATA,
    MODELS,
    OF_ROWS,
    OWN,
    WITHOUT_ROWS,
    asked,
    assert_same,
    assert_same_fit,
    double,
    kept_fit,
)
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import RowsNotInMemory


@pytest.mark.full
@pytest.mark.parametrize("name", but_for(MODELS, ["dropped"]))
def test_a_slim_fit_gives_what_needs_no_rows(name, tmp_path):
    fit = kept_fit(name)
    slim = fit.slim()
    functions = {"double": double} if name in OWN else None
    slim.save(tmp_path / "slim.mfx")
    read = mfx.read(tmp_path / "slim.mfx", functions=functions)
    for again in (slim, pickle.loads(pickle.dumps(slim)), read, copy.copy(slim), slim.slim()):
        assert_same_fit(fit, again, WITHOUT_ROWS)


@pytest.mark.full
def test_tests_of_factors_need_no_rows():
    fit = kept_fit("factors")
    slim = fit.slim()
    means = [f.emmeans("dose") for f in (fit, slim)]
    assert_same(means[0].joint(), means[1].joint())
    assert_same(means[0].contrasts(), means[1].contrasts())
    assert_same(
        fit.anova(type=2, df_method="kenward-roger"), slim.anova(type=2, df_method="kenward-roger")
    )
    assert_same(fit.conf_int(method="profile"), slim.conf_int(method="profile"))
    assert_same(fit.equation().latex, slim.equation().latex)


@pytest.mark.full
def test_further_linear_predictors_need_no_rows():
    fit = kept_fit("zeros")
    slim, new = fit.slim(), DATA.head(5)
    assert len(pickle.dumps(slim)) < 0.6 * len(pickle.dumps(fit))
    assert slim.slim().model is slim.model
    for which in ("mean", "conditional", "zero", "dispersion", "linear"):
        options = {"which": which, "se": True, "interval": "confidence"}
        assert_same(fit.predict(new, **options), slim.predict(new, **options))
    parts = [f.zero_inflation for f in (fit, slim)]
    assert_same(parts[0].tidy(), parts[1].tidy())
    assert_same(parts[0].ranef(cond_sd="joint"), parts[1].ranef(cond_sd="joint"))
    assert_same(*(f.emmeans("1", which="mean").table for f in (fit, slim)))
    assert_same(*(part.emmeans("kind", which="mean").table for part in parts))
    assert_same(*(f.equation(estimates=True).latex for f in (fit, slim)))
    assert_same(*(f.dispersion for f in (fit, slim)))
    with pytest.raises(RowsNotInMemory):
        slim.predict(which="zero")


NEEDS_ROWS = {
    **OF_ROWS,
    "fit.fittedvalues": lambda f: f.fittedvalues,
    "fit.resid": lambda f: f.resid,
    "fit.predict": lambda f: f.predict(),
    "fit.refit": lambda f: f.refit(np.arange(180.0)),
    "fit.bootstrap": lambda f: f.bootstrap(3, rng=1, progress=False),
    "fit.influence": lambda f: f.influence(),
    "fit.pooling": lambda f: f.pooling(),
    "fit.statsmodels": lambda f: f.statsmodels,
    "fit.augment": lambda f: f.augment(),
    "fit.simulate": lambda f: f.simulate(1, rng=1),
    "fit.plot.residuals": lambda f: f.plot.residuals(),
    "fit.plot.fitted": lambda f: f.plot.fitted(),
    "compare": lambda f: mfx.compare(f, kept_fit("ml, profiled")),
}


@pytest.mark.parametrize("name", NEEDS_ROWS)
def test_what_needs_rows_says_so(name):
    with pytest.raises(RowsNotInMemory) as caught:
        NEEDS_ROWS[name](kept_fit("slopes").slim())
    assert str(caught.value).startswith(name if "." in name or name == "compare" else "fit.")
    assert "Keep the full fit" in str(caught.value)


@pytest.mark.full
@pytest.mark.parametrize("name", ["weights", "dispersion", "location-scale"])
def test_what_needs_rows_of_unequal_variances_says_so(name):
    for ask in OF_ROWS.values():
        assert "Keep the full fit" in asked(ask, kept_fit(name).slim())


@pytest.mark.full
def test_a_slim_fit_has_the_size_of_the_model():
    rng = np.random.default_rng(1)
    n = 50_000
    frame = pd.DataFrame({"x": rng.normal(size=n), "g": np.arange(n) % 20})
    frame["y"] = frame["x"] + rng.normal(size=20)[frame["g"]] + rng.normal(size=n)
    fit = mfx.lmer("y ~ x + (1 | g)", frame, dispersion="~ x")
    slim = fit.slim()
    assert len(pickle.dumps(slim)) < 20_000 < n < len(pickle.dumps(fit))
    assert_same(fit.predict(frame.head(4)), slim.predict(frame.head(4)))
    rows = weakref.ref(fit.model.rows)
    del fit
    gc.collect()
    assert rows() is None


def test_new_rows_with_missing_values_and_new_levels_are_as_those_of_the_fit():
    fit = kept_fit("slopes")
    new = DATA.head(3).assign(Days=[1.0, np.nan, 2.0], Subject=["308", "308", "new"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_same(
            fit.predict(new, new_levels="population"),
            fit.slim().predict(new, new_levels="population"),
        )
