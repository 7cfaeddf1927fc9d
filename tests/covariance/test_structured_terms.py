"""Random terms of levels and of points: design, estimates, names, new data, errors.

Source of truth: the dense definition (``oracle``) at the fit's own parameters, and identities.
"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from oracle import dense_model_of
from tiers import but_for

import mixedfx as mfx
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.design.build import build
from mixedfx.errors import DataError, GroupingError, NewLevelError
from mixedfx.estimation.data_notes import notes_on_data

LEVELS = ("ar1", "ar1h", "toep", "toeph", "cs", "csh", "homdiag")
POINTS = ("ou", "exp", "gau", "mat")
CASES = [(name, reml) for name in (*LEVELS, *POINTS) for reml in (True, False)]
FEW = [case for case in CASES if case[1] or case[0] in ("ar1", "csh", "gau")]


def visits(seed, groups=14):
    """Two rows a visit at 1, 2, 4 and 7; some groups have one visit, one has one row."""
    rng, rows = np.random.default_rng(seed), []
    times = np.array([1, 2, 4, 7])
    R = 0.7 ** np.abs(np.subtract.outer(times, times)) + 0.2 * np.eye(4)
    for g in range(groups):
        effects = np.linalg.cholesky(R) @ rng.normal(size=4)
        seen = [g % 4] if g < 3 else np.flatnonzero(rng.random(4) < 0.8)
        for v in seen:
            for _ in range(1 if g == 0 else 2):
                rows.append((f"g{g:02}", times[v], rng.normal(), effects[v] + 0.4 * rng.normal()))
    data = pd.DataFrame(rows, columns=["g", "visit", "x", "y"])
    return data.assign(y=data["y"] + 0.5 * data["x"], f="v" + data["visit"].astype(str))


def field(seed, n=40):
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(rng.uniform(0.0, 5.0, size=(n, 3)).round(1), columns=["lon", "lat", "alt"])
    d = np.linalg.norm(data.to_numpy()[:, None] - data.to_numpy(), axis=2)
    values = np.linalg.cholesky(np.exp(-d / 2.0) + 1e-9 * np.eye(n)) @ rng.normal(size=n)
    data["x"], data["site"] = rng.normal(size=n), [f"s{i % 4}" for i in range(n)]
    twice = pd.concat([data.assign(b=values)] * 2, ignore_index=True)
    return twice.assign(y=twice["b"] + 0.3 * rng.normal(size=2 * n))


def formula_of(name):
    if name in POINTS:
        left = "lon" if name == "ou" else "lon + lat"
        return f"y ~ x + {name}({left} | site)"
    return f"y ~ x + {name}({'visit' if STRUCTURES[name].design == 'levels' else '0 + f'} | g)"


@pytest.fixture(scope="module")
def fits():
    made = {}

    def fit(name, *, reml=True):
        seed = 7 if name in POINTS else 1
        if (name, seed, reml) not in made:
            data = field(seed) if name in POINTS else visits(seed)
            made[name, seed, reml] = mfx.lmer(formula_of(name), data, reml=reml)
        return made[name, seed, reml]

    return fit


@pytest.mark.cases(1)
@pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")
@pytest.mark.parametrize(("name", "reml"), but_for(CASES, FEW))
def test_a_fit_is_the_dense_definition_at_its_parameters(fits, name, reml):
    fit = fits(name, reml=reml)
    (structure, at), design = fit.model.crossprod.parametrization.terms[0], fit.model.design
    relative = structure.covariance(fit.theta, at)
    dense = dense_model_of([relative], design, reml=reml)
    assert fit.deviance == pytest.approx(dense.deviance, abs=1e-6)
    assert fit.sigma == pytest.approx(dense.sigma, rel=1e-7)
    np.testing.assert_allclose(fit.params, dense.beta, rtol=1e-6)
    np.testing.assert_allclose(fit.cov_params(), dense.cov_beta, rtol=1e-5)
    np.testing.assert_allclose(
        fit.ranef(design.spec.random_terms[0].group), dense.effects[0], atol=1e-5
    )


@pytest.mark.cases(1)
@pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")
@pytest.mark.parametrize("name", ["ar1", "toep", "ou", "exp"])
def test_no_correlation_of_a_grid_is_better(fits, name):
    fit = fits(name)
    structure, at = fit.model.crossprod.parametrization.terms[0]
    for point in structure.starting_points(fit.theta, at):
        for scale in (0.3, 1.0, 3.0):
            point[0] = scale * fit.theta[0]
            dense = dense_model_of([structure.covariance(point, at)], fit.model.design, reml=True)
            assert dense.deviance > fit.deviance - 1e-8


def test_integers_keep_their_gaps():
    fit = mfx.lmer("y ~ x + ar1(visit | g)", visits(2))
    _, rho, _ = fit.varcorr["sdcor"]
    C = fit.cov_re
    assert C.columns.tolist() == ["visit[1]", "visit[2]", "visit[4]", "visit[7]"]
    assert C.iloc[1, 3] / C.iloc[0, 0] == pytest.approx(rho**5)


@pytest.mark.full
def test_text_and_categories_are_neighbours_in_their_order():
    data = visits(2)
    by_text = mfx.lmer("y ~ x + ar1(f | g)", data)
    ordered = data.assign(f=pd.Categorical(data["f"], ["v1", "v2", "v4", "v7"], ordered=True))
    by_order = mfx.lmer("y ~ x + ar1(f | g)", ordered)
    counted = data.assign(visit=data["visit"].map({1: 0, 2: 1, 4: 2, 7: 3}))
    by_number = mfx.lmer("y ~ x + ar1(visit | g)", counted)
    assert by_text.deviance == pytest.approx(by_number.deviance, abs=1e-9)
    assert by_order.deviance == pytest.approx(by_number.deviance, abs=1e-9)
    backwards = ordered["f"].cat.reorder_categories(["v7", "v1", "v4", "v2"])
    assert mfx.lmer("y ~ x + ar1(f | g)", data.assign(f=backwards)).deviance != pytest.approx(
        by_number.deviance, abs=1e-3
    )


def test_dates_and_whole_floats_are_days_and_numbers():
    data = visits(2)
    by_number = mfx.lmer("y ~ x + ar1(visit | g)", data)
    dates = pd.Timestamp("2024-02-28") + pd.to_timedelta(data["visit"], unit="D")
    by_date = mfx.lmer("y ~ x + ar1(visit | g)", data.assign(visit=dates))
    by_float = mfx.lmer("y ~ x + ar1(visit | g)", data.assign(visit=data["visit"] * 1.0))
    assert by_date.deviance == pytest.approx(by_number.deviance, abs=1e-9)
    assert by_float.deviance == pytest.approx(by_number.deviance, abs=1e-9)
    assert by_date.ranef("g").columns[0] == "visit[2024-02-29]"


def test_ou_at_whole_times_is_ar1():
    data = visits(2)
    ar1, ou = mfx.lmer("y ~ x + ar1(visit | g)", data), mfx.lmer("y ~ x + ou(visit | g)", data)
    assert ou.deviance == pytest.approx(ar1.deviance, abs=1e-7)
    assert np.exp(-ou.varcorr["sdcor"][1]) == pytest.approx(ar1.varcorr["sdcor"][1], rel=1e-4)


@pytest.mark.full
def test_exp_on_a_line_is_ou():
    data = field(1)
    ou, exp = mfx.lmer("y ~ x + ou(lon | 1)", data), mfx.lmer("y ~ x + exp(lon | 1)", data)
    assert exp.deviance == pytest.approx(ou.deviance, abs=1e-7)
    assert exp.varcorr["sdcor"][1] == pytest.approx(1.0 / ou.varcorr["sdcor"][1], rel=1e-4)


def test_homdiag_is_an_intercept_of_each_combination():
    data = visits(2)
    fit = mfx.lmer("y ~ x + homdiag(0 + f | g)", data)
    assert fit.deviance == pytest.approx(mfx.lmer("y ~ x + (1 | g:f)", data).deviance, abs=1e-8)


def test_cs_is_an_intercept_of_the_group_and_of_each_combination():
    data = visits(4)
    fit = mfx.lmer("y ~ x + cs(0 + f | g)", data)
    nested = mfx.lmer("y ~ x + (1 | g) + (1 | g:f)", data)
    assert fit.deviance == pytest.approx(nested.deviance, abs=1e-7)


def test_one_field_has_one_level_and_equal_points_are_one_effect():
    data = field(3)
    fit = mfx.lmer("y ~ x + exp(lon + lat | 1)", data)
    assert fit.ngroups == {"1": 1}
    assert fit.ranef("1").shape == (1, len(data[["lon", "lat"]].drop_duplicates()))
    assert fit.varcorr["effect2"].tolist()[1] == "range"
    assert "(range)" in str(fit.summary())


def test_three_coordinates_whose_third_is_constant_are_two():
    data = field(3)
    plane = mfx.lmer("y ~ x + exp(lon + lat | 1)", data)
    space = mfx.lmer("y ~ x + exp(lon + lat + alt | 1)", data.assign(alt=1.0))
    assert space.deviance == pytest.approx(plane.deviance, abs=1e-8)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")
def test_a_range_without_end_is_on_the_boundary():
    fit = mfx.lmer("y ~ x + exp(lon + lat + alt | 1)", field(3))
    assert fit.converged
    assert fit.certificate.boundary == ("range(lon + lat + alt | 1)",)


def test_the_unit_of_distance_changes_the_range_alone():
    data = field(3)
    km = mfx.lmer("y ~ x + exp(lon + lat | 1)", data)
    m = mfx.lmer("y ~ x + exp(lon + lat | 1)", data.assign(lon=1e3 * data.lon, lat=1e3 * data.lat))
    assert m.deviance == pytest.approx(km.deviance, abs=1e-7)
    assert m.varcorr["sdcor"][1] == pytest.approx(1e3 * km.varcorr["sdcor"][1], rel=1e-4)


@pytest.mark.full
def test_names_of_parameters_and_their_wald_intervals(fits):
    names = ["sd(visit | g)", "corr(visit, lag 1 | g)", "corr(visit, lag 6 | g)"]
    fit = fits("toep")
    limits = fit.conf_int(parm=names)
    assert (limits[0] < limits[1]).all()
    names = ["sd(lon + lat | site)", "range(lon + lat | site)"]
    limits = fits("exp").conf_int(parm=names)
    estimates = fits("exp").varcorr["sdcor"][:2].to_numpy()
    assert ((limits[0] > 0.0) & (limits[0] < estimates) & (estimates < limits[1])).all()


@pytest.mark.full
def test_the_profile_interval_of_a_range_ends_where_the_deviance_has_risen(fits):
    fit = fits("exp", reml=False)
    low, high = fit.conf_int(method="profile", parm="range(lon + lat | site)").iloc[0]
    assert 0.0 <= low < fit.varcorr["sdcor"][1] < high


def test_a_sample_of_the_fit_is_refitted(fits):
    drawn = fits("ar1").bootstrap(3, rng=1)
    assert {"sd(visit | g)", "corr(visit | g)"} <= set(drawn.estimates.index)


@pytest.mark.full
def test_a_position_that_the_fit_has_not_is_named():
    data = visits(2)
    fit = mfx.lmer("y ~ x + toep(visit | g)", data)
    new = data.iloc[[5]].assign(visit=9)
    with pytest.raises(NewLevelError, match=r"positions of 'visit': 9"):
        fit.predict(new)
    found = fit.predict(new, new_levels="population")
    assert found.iloc[0] == pytest.approx(fit.params @ [1.0, new["x"].iloc[0]])
    with pytest.raises(NewLevelError, match="levels of 'g': 'other'"):
        fit.predict(data.iloc[[5]].assign(g="other"))


def test_rows_of_the_fit_are_predicted_as_fitted():
    data = field(3)
    fit = mfx.lmer("y ~ x + exp(lon + lat | 1)", data)
    np.testing.assert_allclose(fit.predict(data), fit.fittedvalues, atol=1e-10)


def test_a_saved_fit_predicts(tmp_path):
    data = visits(2)
    fit = mfx.lmer("y ~ x + ar1(visit | g)", data)
    fit.save(tmp_path / "fit.mfx")
    again = mfx.read(tmp_path / "fit.mfx")
    np.testing.assert_array_equal(again.predict(data), fit.predict(data))
    np.testing.assert_allclose(again.cov_re, fit.cov_re)


ERRORS = [
    ("ar1(time | g)", DataError, "whole numbers.*ou\\(time \\| g\\)"),
    ("toep(time | g)", DataError, "whole numbers"),
    ("exp(f | g)", DataError, "no number"),
    ("ou(f | g)", DataError, "ar1"),
    ("ar1(one | g)", DataError, "single position"),
    ("exp(visit | one)", GroupingError, "only one level"),
]


@pytest.mark.parametrize(("term", "error", "match"), ERRORS)
def test_what_cannot_be_positions_says_what_to_write(term, error, match):
    data = visits(2)
    data = data.assign(time=data["visit"] + 0.5 * (data.index % 2), one=1)
    with pytest.raises(error, match=match):
        mfx.lmer(f"y ~ x + {term}", data)


def test_missing_positions_are_left_out():
    data = visits(2)
    holes = data.assign(visit=data["visit"].where(data.index != 7))
    fit = mfx.lmer("y ~ x + ar1(visit | g)", holes)
    assert fit.nobs == len(data) - 1


def test_many_positions_are_noted_with_their_cost():
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"t": np.arange(520.0), "y": rng.normal(size=520)})
    formula = mfx.parse("y ~ 1 + ou(t | 1)")
    (text,) = [text for text, _ in notes_on_data(build(formula, data)) if "positions" in text]
    assert "520 x 520" in text


@pytest.mark.kept("ar1(visit | g)")
@pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")
@pytest.mark.parametrize("term", ["ar1(visit | g)", "toep(visit | g)", "cs(0 + f | g)"])
def test_correlations_near_one_are_no_worse_than_an_intercept(term):
    data, rng = visits(2), np.random.default_rng(3)
    own = data["g"].str[1:].astype(int).to_numpy()
    data["y"] = rng.normal(size=14)[own] + 0.5 * rng.normal(size=len(data))
    fit = mfx.lmer(f"y ~ x + {term}", data)
    intercept = mfx.lmer("y ~ x + (1 | g)", data)
    assert fit.deviance <= intercept.deviance + 1e-5


def test_positions_beyond_memory_are_refused_before_their_columns_are_made():
    """Their indicators alone would be 20 GB."""
    rng, n = np.random.default_rng(0), 50_000
    data = pd.DataFrame(
        {"g": np.arange(n) % 500, "t": rng.uniform(size=n), "y": rng.normal(size=n)}
    )
    tracemalloc.start()
    with pytest.raises(mfx.errors.SizeError, match="50,000 positions"):
        mfx.lmer("y ~ 1 + ou(t | g)", data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e8
