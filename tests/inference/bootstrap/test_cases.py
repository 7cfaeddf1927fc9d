"""Resampled cases: levels of a grouping factor with their rows, drawn with replacement.

Source of truth: fits of the copied rows under new labels, the variance of a mean of resampled
means, which is known exactly, and the formulas of Davison and Hinkley (1997), chapter 5.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixedfx as mfx
from mixedfx.errors import ArgumentError

pytestmark = [
    pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning"),
    pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning"),
]
# In Monte Carlo standard errors; the seeds are fixed.
FAR = 5.0


def drawn(fit: mfx.Results, n: int, **options):
    return fit.bootstrap(n, **{"rng": 1, "progress": False, "kind": "cases", **options})


@cache
def sleep() -> mfx.Results:
    data = mfx.datasets.load("sleepstudy")
    return mfx.lmer("Reaction ~ Days + (1 | Subject)", data, engine="profiled")


@cache
def pastes() -> pd.DataFrame:
    """Casks within batches, casks with labels of their own."""
    rng = np.random.default_rng(3)
    batch, cask = np.repeat(np.arange(8), 6), np.repeat(np.arange(24), 2)
    effects = rng.normal(size=8)[batch] + 0.7 * rng.normal(size=24)[cask]
    return pd.DataFrame({"y": effects + rng.normal(size=48), "batch": batch, "cask": cask})


def copied(data: pd.DataFrame, group: str, counts: np.ndarray, nested: str = "") -> pd.DataFrame:
    """Rows of each level as often as it was drawn, under new labels."""
    parts = []
    for level, count in zip(sorted(data[group].unique()), counts, strict=True):
        for _ in range(int(count)):
            part, copy = data[data[group] == level].copy(), len(parts)
            if nested:
                part[nested] = [f"{copy} {label}" for label in part[nested]]
            part[group] = copy
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("draw", [0, 1])
def test_a_draw_is_the_fit_of_the_copied_rows(draw):
    found, data = drawn(sleep(), 2), mfx.datasets.load("sleepstudy")
    again = copied(data, "Subject", found.frequencies.loc[draw].to_numpy())
    fit = mfx.lmer("Reaction ~ Days + (1 | Subject)", again, engine="profiled")
    expected = {**fit.params, "sigma": fit.sigma, "theta[0]": fit.theta[0]}
    for name, value in expected.items():
        assert found.draws[name][draw] == pytest.approx(value, rel=1e-6)


@pytest.mark.full
def test_nested_levels_are_copied_with_the_outermost_factor():
    fit = mfx.lmer("y ~ 1 + (1 | batch) + (1 | cask)", pastes())
    found = drawn(fit, 1)
    counts = found.frequencies.loc[0].to_numpy()
    assert len(counts) == 8
    assert counts.max() > 1
    again = mfx.lmer(str(fit.formula), copied(pastes(), "batch", counts, nested="cask"))
    assert found.draws["Intercept"][0] == pytest.approx(again.params["Intercept"], rel=1e-6)
    np.testing.assert_allclose(found.draws.filter(like="theta").iloc[0], again.theta, atol=1e-5)


def test_of_a_written_nesting_too():
    formula = "y ~ 1 + (1 | batch) + (1 | batch:cask)"
    one, two = (mfx.lmer(f, pastes()) for f in (formula, "y ~ 1 + (1 | batch) + (1 | cask)"))
    np.testing.assert_allclose(drawn(one, 3).draws, drawn(two, 3).draws, rtol=1e-9)


@pytest.mark.full
def test_of_a_named_inner_factor_the_outer_one_stays():
    fit = mfx.lmer("y ~ 1 + (1 | batch) + (1 | cask)", pastes())
    found = drawn(fit, 1, groups="cask")
    counts = found.frequencies.loc[0].to_numpy()
    again = mfx.lmer(str(fit.formula), copied(pastes(), "cask", counts))
    assert found.draws["Intercept"][0] == pytest.approx(again.params["Intercept"], rel=1e-6)


@pytest.mark.full
def test_a_generalised_model_is_fitted_to_the_copied_rows():
    data = mfx.datasets.load("cbpp").assign(herd=lambda d: d["herd"].astype(str).astype(int))
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    found = drawn(mfx.glmer(formula, data, "binomial"), 1)
    counts = found.frequencies.loc[0].to_numpy()
    again = mfx.glmer(formula, copied(data, "herd", counts), "binomial")
    np.testing.assert_allclose(found.draws.iloc[0, :4], again.params, rtol=1e-5)


# ---------------------------------------------------------------- known distributions


@cache
def balanced() -> tuple[pd.DataFrame, mfx.Results]:
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(10), 4)
    data = pd.DataFrame({"y": rng.exponential(size=10)[g] * 3 + rng.normal(size=40), "g": g})
    return data, mfx.lmer("y ~ 1 + (1 | g)", data)


@pytest.mark.full
@pytest.mark.parametrize("resample_rows", [False, True])
def test_the_variance_of_a_mean_is_exact_in_a_balanced_design(resample_rows):
    # The estimate is the mean of the J means drawn, each of them one of those of the levels, and
    # with rows drawn too, of n of its rows: var = (var_J(means) + mean_J(var_n(rows)) / n) / J.
    data, fit = balanced()
    by_level = data.groupby("g")["y"]
    variance = by_level.mean().var(ddof=0)
    if resample_rows:
        variance += by_level.var(ddof=0).mean() / 4
    n = 300
    found = drawn(fit, n, resample_rows=resample_rows).draws["Intercept"].std()
    assert abs(found / np.sqrt(variance / 10) - 1) < FAR / np.sqrt(2 * n)


@pytest.mark.full
def test_bca_limits_are_the_formula_for_a_mean():
    # The mean is linear in the frequencies: the influences are the deviations of the levels' means.
    data, fit = balanced()
    found = drawn(fit, 150, statistic=lambda f: f.params["Intercept"])
    values, estimate = found.draws["statistic"].to_numpy(), found.estimates["statistic"]
    L = data.groupby("g")["y"].mean().to_numpy() - data["y"].mean()
    a = (L**3).sum() / (6 * (L**2).sum() ** 1.5)
    w = stats.norm.ppf((values < estimate).mean())
    z = w + stats.norm.ppf([0.025, 0.975])
    expected = np.quantile(values, stats.norm.cdf(w + z / (1 - a * z)))
    np.testing.assert_allclose(found.conf_int(method="bca").iloc[0], expected, rtol=1e-8)
    assert (expected > np.quantile(values, [0.025, 0.975])).all()  # skewed to the right


# ---------------------------------------------------------------- symmetry


def test_draws_follow_the_units_of_the_response():
    data, fit = balanced()
    other = mfx.lmer("y ~ 1 + (1 | g)", data.assign(y=3.0 - 2.0 * data["y"]))
    one, two = drawn(fit, 5).draws, drawn(other, 5).draws
    np.testing.assert_allclose(two["Intercept"], 3.0 - 2.0 * one["Intercept"], rtol=1e-7)
    np.testing.assert_allclose(two["sigma"], 2.0 * one["sigma"], rtol=1e-6)


def test_workers_give_the_same_draws():
    with ThreadPoolExecutor(2) as client:
        one, two = drawn(sleep(), 6), drawn(sleep(), 6, client=client)
    pd.testing.assert_frame_equal(one.draws, two.draws)
    pd.testing.assert_frame_equal(one.frequencies, two.frequencies)


def test_a_statistic_is_of_the_same_refits():
    statistic = drawn(sleep(), 3, statistic=lambda f: f.params)
    np.testing.assert_allclose(statistic.draws["Days"], drawn(sleep(), 3).draws["Days"], rtol=1e-9)


def test_the_copies_are_levels_in_the_tables_of_a_refit():
    def levels(f):
        return {"levels": f.ngroups["Subject"], "rows": f.augment()["Subject"].nunique()}

    found = drawn(sleep(), 2, statistic=levels)
    assert (found.draws == 18).all(axis=None)


def test_intervals_of_conf_int_can_be_of_cases():
    found = sleep().conf_int(method="bootstrap", n=6, rng=1, kind="cases", parm="Days")
    np.testing.assert_allclose(found.iloc[0], drawn(sleep(), 6).conf_int(parm="Days").iloc[0])


# ---------------------------------------------------------------- what does not apply


def test_crossed_factors_are_named():
    rng = np.random.default_rng(1)
    g, h = np.repeat(np.arange(6), 8), np.tile(np.arange(8), 6)
    y = rng.normal(size=6)[g] + rng.normal(size=8)[h] + rng.normal(size=48)
    fit = mfx.lmer("y ~ 1 + (1 | g) + (1 | h)", pd.DataFrame({"y": y, "g": g, "h": h}))
    with pytest.raises(ArgumentError, match=r"crossed.*groups='g'"):
        drawn(fit, 2)
    assert drawn(fit, 2, groups="h").frequencies.shape == (2, 8)


@pytest.mark.full
def test_lost_fixed_effects_are_failures():
    data = pd.DataFrame({"g": np.repeat(np.arange(6), 3), "x": [1.0] * 3 + [0.0] * 15})
    data["y"] = np.random.default_rng(0).normal(size=18)
    found = drawn(mfx.lmer("y ~ x + (1 | g)", data), 20)
    lost = {f.draw for f in found.failures if f.kind == "dependent columns"}
    assert lost
    assert (found.frequencies[0] > 0).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "case"}, "kind='case'"),
        ({"random": "fitted"}, "random='fitted'"),
        ({"groups": "nobody"}, "groups='nobody'"),
        ({"kind": "residual", "groups": "Subject"}, "are of kind='cases'"),
        ({"kind": "parametric", "resample_rows": True}, "are of kind='cases'"),
        ({"resample_rows": "yes"}, "resample_rows"),
    ],
)
def test_arguments_of_another_kind_are_refused(options, words):
    with pytest.raises(ArgumentError, match=words):
        drawn(sleep(), 2, **options)


def test_models_whose_rows_cannot_be_copied_are_refused():
    data = mfx.datasets.load("sleepstudy")
    with pytest.raises(ArgumentError, match="grouping factor"):
        drawn(mfx.lmer("Reaction ~ Days", data), 2)
    correlated = mfx.lmer("Reaction ~ Days", data, residual="ar1(Days | Subject)")
    with pytest.raises(ArgumentError, match="kind='cases'"):
        drawn(correlated, 2)


def test_bca_needs_cases_and_more_draws_than_levels():
    with pytest.raises(ArgumentError, match="kind='cases'"):
        sleep().bootstrap(3, rng=1, progress=False).conf_int(method="bca")
    with pytest.raises(ArgumentError, match="more draws"):
        drawn(sleep(), 3).conf_int(method="bca")
