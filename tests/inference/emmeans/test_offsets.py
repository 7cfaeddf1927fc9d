"""Marginal means at the mean of an offset, as emmeans has them of lme4, and at values of it."""

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError

FORMULA = "crashes ~ version + offset(log(exposure)) + (1 | device)"


@pytest.fixture(scope="module")
def crashes():
    return mfx.datasets.load("appcrash").iloc[:800].reset_index(drop=True)


@pytest.fixture(scope="module")
def rates(crashes):
    return mfx.glmer(FORMULA, crashes, family="poisson")


def _means(fit, **options):
    return fit.emmeans("version", **options).table["emmean"].to_numpy()


def test_means_are_at_the_mean_of_the_offset(rates, crashes):
    named = mfx.glmer(
        "crashes ~ version + (1 | device)",
        crashes.assign(log_exposure=np.log(crashes["exposure"])),
        family="poisson",
        offset="log_exposure",
    )
    assert _means(rates) == pytest.approx(_means(named), abs=1e-7)


def test_rates_are_means_at_an_exposure_of_one(rates):
    intercept = rates.params["Intercept"]
    at_one = _means(rates, at={"exposure": 1})
    assert at_one[0] == pytest.approx(intercept, abs=1e-12)
    assert _means(rates, at={"exposure": 10}) == pytest.approx(at_one + np.log(10.0))
    table = rates.emmeans("version", by="exposure", at={"exposure": [1, 2]}).table
    assert table["emmean"].to_numpy()[3:] == pytest.approx(at_one + np.log(2.0))


@pytest.mark.parametrize("of", ["slim", "chunks"])
def test_fits_without_rows_have_the_same(of, rates, crashes):
    if of == "slim":
        fit = rates.slim()
    else:
        fit = mfx.glmer(FORMULA, lambda: iter([crashes[:300], crashes[300:]]), family="poisson")
    for at in (None, {"exposure": 1}):
        assert _means(fit, at=at) == pytest.approx(_means(rates, at=at), abs=1e-6)


def test_an_argument_beside_the_formula_stays_at_its_mean(crashes):
    extra = np.linspace(0.0, 1.0, len(crashes))
    fit = mfx.glmer(FORMULA, crashes, family="poisson", offset=extra)
    at_one = _means(fit, at={"exposure": 1})
    assert at_one[0] == pytest.approx(fit.params["Intercept"] + 0.5, abs=1e-10)
    assert _means(fit.slim(), at={"exposure": 1}) == pytest.approx(at_one, abs=1e-12)


@pytest.mark.parametrize("exposure", [None, 1.0])
def test_averages_over_rows_are_those_of_predictions(exposure, rates, crashes):
    at = None if exposure is None else {"exposure": exposure}
    found = rates.predictions(by="version", at=at)
    rows = crashes if exposure is None else crashes.assign(exposure=exposure)
    expected = rates.predict(rows, random="none").groupby(crashes["version"]).mean()
    np.testing.assert_allclose(found["estimate"], expected, rtol=1e-10)
    new = rates.predictions(by="version", at=at, data=crashes)
    np.testing.assert_allclose(new["estimate"], expected, rtol=1e-10)


def test_other_rows_may_lack_the_offset(rates, crashes):
    found = rates.predictions(data=crashes[["version"]])
    at_mean = rates.predict(
        crashes.assign(exposure=np.exp(np.log(crashes["exposure"]).mean())), random="none"
    )
    assert found["estimate"].iloc[0] == pytest.approx(at_mean.mean(), rel=1e-10)


def test_an_offset_of_two_columns_needs_both():
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "f": np.tile(["a", "b"], 40),
            "g": np.repeat(np.arange(8), 10),
            "t": rng.uniform(1, 2, 80),
            "m": rng.uniform(1, 2, 80),
        }
    )
    level = rng.normal(size=8)[frame["g"]]
    frame["y"] = rng.poisson(2.0 * frame["t"] * frame["m"] * np.exp(level))
    fit = mfx.glmer("y ~ f + offset(log(t * m)) + (1 | g)", frame, family="poisson")
    with pytest.raises(ArgumentError, match=r"reads 'm' beside 't': give a value of each"):
        fit.emmeans("f", at={"t": 1})
    both = fit.emmeans("f", at={"t": 1, "m": 2}).table["emmean"]
    assert both.iloc[0] == pytest.approx(fit.params["Intercept"] + np.log(2.0), abs=1e-10)


@pytest.mark.parametrize("of", ["rows", "slim", "chunks"])
def test_a_variable_of_the_fixed_part_leaves_the_offset_at_its_mean(of, crashes):
    data = crashes.assign(extra=np.linspace(0.0, 1.0, len(crashes)))
    formula = "crashes ~ version + exposure + offset(log(exposure)) + (1 | device)"
    fit = mfx.glmer(formula, data, family="poisson", offset="extra")
    mean = float((np.log(data["exposure"]) + data["extra"]).mean())
    expected = fit.params["Intercept"] + fit.params["exposure"] * data["exposure"].mean() + mean
    if of == "slim":
        fit = fit.slim()
    elif of == "chunks":
        source = lambda: iter([data[:300], data[300:]])  # noqa: E731
        fit = mfx.glmer(formula, source, family="poisson", offset="extra")
    assert _means(fit)[0] == pytest.approx(expected, abs=1e-5)
