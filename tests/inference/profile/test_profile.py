"""Likelihood profiles: R's limits, refits with the parameter fixed, and closed forms.

Sources of truth: lme4's profile limits in tests/reference; the textbook's dense deviance
(oracle.py) minimised by scipy with one parameter fixed; the same model fitted again with a
coefficient moved into the offset; and the formulas of linear regression.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from oracle import dense_model_of
from reference_models import REFERENCES, fit_of, group_key
from scipy import optimize
from scipy.stats import norm
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import ArgumentError, SearchError, SingularFitWarning
from mixedfx.inference.parameters import parameters, select_parameters
from mixedfx.inference.profile import profile as module
from mixedfx.inference.profile.dispatch import optimum_of, profile_parameter
from mixedfx.inference.profile.profile import ZETAS, profile, profile_intervals
from mixedfx.inference.profile.root import ProfileBranch
from mixedfx.inference.profile.unidentified import UnidentifiedDeviance
from mixedfx.inference.varcorr import varcorr_table
from mixedfx.likelihood.constrained import constrain_coefficient, deviance_at_sigma
from mixedfx.likelihood.pls import solve_pls, solve_pls_at_factors
from mixedfx.likelihood.score import score_factors, score_lambdas

Z = float(norm.ppf(0.975))
# lme4 interpolates its limits: their own zeta is up to 1e-3 off, its slope being one a unit of
# the standard deviation.
LME4 = 1e-3
# A zeta found by root-finding, against one found by another program's minimisation.
EXACT = 1e-5

PROFILED = [name for name, reference in REFERENCES.items() if reference["confint_profile"]]


def lmer(formula, data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        return mfx.lmer(formula, data, engine="profiled", **options).model


@cache
def sleep(reml=False):
    return lmer("Reaction ~ Days + (Days | Subject)", mfx.datasets.load("sleepstudy"), reml=reml)


@cache
def sleep_profile(zetas=None):
    return profile(sleep(), zetas=zetas)


# ---------------------------------------------------------------- lme4's limits


def r_key(parm, reference):
    """Identify R's name of a parameter, such as ``cor_x.(Intercept)|b:a``, free of spelling."""
    fixed = {row["name"]: row["name_py"] for row in reference["fixef"]}
    if parm in fixed or parm == "sigma":
        return fixed.get(parm, "sigma")
    kind, rest = parm.split("_", 1)
    effects, label = rest.rsplit("|", 1)
    group = group_key(label)
    names = {r: py for (g, r), py in reference.effect_names.items() if group_key(g) == group}
    if kind == "sd":
        return "sd", group, frozenset([names[effects]])
    pairs = {f"{b}.{a}": frozenset([names[a], names[b]]) for a in names for b in names}
    return "corr", group, pairs[effects]


def own_key(parameter, fit):
    """The same of ours."""
    if parameter.term is None:
        return parameter.name
    random_term = fit.spec.random_terms[parameter.term]
    places = (parameter.first, parameter.second)
    effects = frozenset(random_term.effect_names[i] for i in places if i is not None)
    return parameter.kind, group_key(random_term.group), effects


FEW = ["dyestuff__reml", "pastes_nested__ml", "penicillin__reml", "sleep_rs__ml", "sleep_zc__reml"]


@pytest.mark.slow_beyond(24)
@pytest.mark.full
@pytest.mark.parametrize("name", but_for(PROFILED, FEW))
def test_limits_match_lme4(name):
    reference, fit = REFERENCES[name], fit_of(name, "profiled").model
    found = profile_intervals(fit, 0.95)
    by_key = {own_key(p, fit): found.loc[p.name].to_numpy() for p in parameters(fit)}
    rows = reference["confint_profile"]
    assert by_key.keys() == {r_key(row["parm"], reference) for row in rows}
    for row in rows:
        assert row["checked"]
        sd = (row["hi"] - row["lo"]) / (2 * Z)
        np.testing.assert_allclose(
            by_key[r_key(row["parm"], reference)],
            [row["lo"], row["hi"]],
            rtol=0,
            atol=LME4 * sd,
            err_msg=row["parm"],
        )


@pytest.mark.parametrize(
    "name", but_for(["pastes_nested__ml", "dyestuff2__reml", "fac_f__ml"], ["dyestuff2__reml"])
)
def test_intervals_end_exactly_at_the_boundary_where_those_of_lme4_do(name):
    reference, fit = REFERENCES[name], fit_of(name, "profiled").model
    found = profile_intervals(fit, 0.95)
    by_key = {own_key(p, fit): found.loc[p.name] for p in parameters(fit)}
    ends = [
        by_key[r_key(row["parm"], reference)][column] - row[side]
        for row in reference["confint_profile"]
        for column, side in enumerate(("lo", "hi"))
        if row[side] in (0, 1)
    ]
    assert ends == [0.0] * max(len(ends), 1)


# ---------------------------------------------------------------- zeta, computed otherwise


@pytest.mark.full
@pytest.mark.parametrize("effect", ["Intercept", "Days"])
def test_a_fixed_effect_in_the_offset_gives_the_same_zetas(effect):
    data = mfx.datasets.load("sleepstudy")
    others = {"Intercept": "0 + Days", "Days": "1"}[effect]
    column = data["Days"] if effect == "Days" else 1.0
    table = profile(sleep(), effect, zetas=[-3, -Z, 0.5, Z])
    for _, value, zeta in table.itertuples(index=False):
        again = lmer(
            f"Reaction ~ {others} + (Days | Subject)",
            data.assign(known=value * column),
            reml=False,
            offset="known",
        )
        rise = again.solution.deviance - sleep().solution.deviance
        assert rise == pytest.approx(zeta**2, abs=EXACT)


@cache
def few():
    data = mfx.datasets.load("sleepstudy")
    subjects = data["Subject"].unique()[:6]
    part = data[data["Subject"].isin(subjects) & (data["Days"] < 6)]
    return lmer("Reaction ~ Days + (Days | Subject)", part, reml=False)


def dense_deviance(design, sds, correlation, sigma):
    """Deviance by the definition, at these natural parameters."""
    cov = np.outer(sds, sds) * np.array([[1.0, correlation], [correlation, 1.0]])
    at = dense_model_of([cov / sigma**2], design, reml=False)
    n, best = design.rows.n, at.sigma**2
    return at.deviance + n * (np.log(sigma**2 / best) + best / sigma**2 - 1.0)


def dense_minimum(fit, fixed, value):
    """Minimise it with one of sd 1, sd 2, correlation, sigma fixed."""
    names = [p.name for p in parameters(fit)][:4]
    scale = np.array([p.value for p in parameters(fit)][:4])

    def natural(free):
        a, b, rho, sigma = np.insert(free, names.index(fixed), 0.0)
        point = [scale[0] * np.exp(a), scale[1] * np.exp(b), np.tanh(rho), scale[3] * np.exp(sigma)]
        point[names.index(fixed)] = value
        return point

    def deviance(free):
        a, b, rho, sigma = natural(free)
        return dense_deviance(fit.design, np.array([a, b]), rho, sigma)

    start = np.delete([0.0, 0.0, np.arctanh(scale[2]), 0.0], names.index(fixed))
    options = {"xatol": 1e-6, "fatol": 1e-9, "maxiter": 2000, "maxfev": 2000}
    return optimize.minimize(deviance, start, method="Nelder-Mead", options=options).fun


@pytest.mark.full
@pytest.mark.parametrize(
    "fixed",
    ["sd(Intercept | Subject)", "sd(Days | Subject)", "corr(Intercept, Days | Subject)", "sigma"],
)
def test_zetas_are_those_of_the_dense_likelihood_minimised_by_scipy(fixed):
    fit = few()
    table = profile(fit, fixed, zetas=[-1.0, 1.5])
    assert len(table) == 3
    for _, value, zeta in table.itertuples(index=False):
        rise = dense_minimum(fit, fixed, value) - fit.solution.deviance
        assert np.sign(value - select_parameters(fit, fixed)[0].value) * np.sqrt(
            max(rise, 0.0)
        ) == (pytest.approx(zeta, abs=1e-4))


def two_minima():
    """Data in which an intercept far from its estimate is best explained by the other factor."""
    rng = np.random.default_rng(5)
    table = pd.DataFrame({"g": np.repeat(np.arange(5), 8), "h": np.tile(np.arange(4), 10)})
    noise, by_g, by_h = (rng.normal(size=size) for size in (40, 5, 4))
    return table.assign(y=noise + by_g[table["g"]] + by_h[table["h"]])


@pytest.mark.full
@pytest.mark.kept("-3.0")
@pytest.mark.parametrize("zeta", [-3.0, 3.0])
def test_the_lower_of_two_minima_is_found(zeta):
    data = two_minima()
    fit = lmer("y ~ 1 + (1 | g) + (1 | h)", data, reml=False)
    value = profile(fit, "Intercept", zetas=[zeta]).set_index("zeta")["value"][zeta]
    again = lmer("y ~ 0 + (1 | g) + (1 | h)", data.assign(known=value), reml=False, offset="known")
    assert again.solution.deviance - fit.solution.deviance == pytest.approx(9.0, abs=1e-6)


# ---------------------------------------------------------------- regression: closed forms


@cache
def regression():
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"x": rng.normal(size=25), "z": rng.uniform(size=25)})
    return lmer("y ~ x + z", table.assign(y=2.0 + table["x"] + rng.normal(size=25)))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_without_random_terms_zeta_is_the_formula_in_t(place):
    fit = regression()
    n, p = fit.crossprod.n, fit.crossprod.p
    t = np.array([-4.0, -1.0, 0.3, 2.0])
    se = fit.solution.sigma * np.sqrt(fit.solution.vcov_unscaled[place, place])
    zetas = np.sign(t) * np.sqrt(n * np.log1p(t**2 / (n - p)))
    found = profile(fit, fit.crossprod.names[place], zetas=zetas)
    expected = fit.solution.beta[place] + se * np.insert(t, 2, 0.0)
    np.testing.assert_allclose(found["value"], expected, rtol=1e-8)


def test_without_random_terms_sigma_has_the_formula_of_its_likelihood():
    fit = regression()
    n, p = fit.crossprod.n, fit.crossprod.p
    best = fit.solution.sigma**2 * (n - p) / n
    limits = profile_intervals(fit, 0.95, "sigma").loc["sigma"]
    for value in limits:
        rise = n * (best / value**2 - 1.0 - np.log(best / value**2))
        assert rise == pytest.approx(Z**2, abs=1e-7)
    assert limits[0] < np.sqrt(best) < limits[1]


# ---------------------------------------------------------------- symmetry


@pytest.mark.full
def test_a_reml_fit_has_the_profile_of_maximum_likelihood():
    found = profile_intervals(sleep(reml=True), 0.95)
    np.testing.assert_allclose(found, profile_intervals(sleep(), 0.95), rtol=1e-6)


@pytest.mark.full
def test_limits_scale_with_the_response():
    data = mfx.datasets.load("sleepstudy")
    scaled = data.assign(Reaction=1e4 * data["Reaction"])
    found = profile_intervals(lmer("Reaction ~ Days + (Days | Subject)", scaled), 0.95)
    unit = np.where(found.index.str.startswith("corr"), 1.0, 1e4)[:, None]
    np.testing.assert_allclose(found / unit, profile_intervals(sleep(), 0.95), rtol=1e-6)


@pytest.mark.full
def test_limits_do_not_depend_on_the_order_of_levels_and_rows():
    data = mfx.datasets.load("sleepstudy").sample(frac=1.0, random_state=3)
    data["Subject"] = pd.Categorical(data["Subject"], data["Subject"].unique())
    found = profile_intervals(lmer("Reaction ~ Days + (Days | Subject)", data), 0.95)
    np.testing.assert_allclose(found, profile_intervals(sleep(), 0.95), rtol=1e-6)


@pytest.mark.full
def test_limits_of_a_slope_by_year_are_those_by_its_deviations():
    data = mfx.datasets.load("sleepstudy").assign(year=lambda d: 2000.0 + d["Days"])
    years = lmer("Reaction ~ year + (year | Subject)", data, reml=False)
    names = ["sd(year | Subject)", "sigma", "year"]
    found = profile_intervals(years, 0.95, names).to_numpy()
    expected = profile_intervals(sleep(), 0.95, [n.replace("year", "Days") for n in names])
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.full
def test_effects_in_another_order_have_the_same_limits():
    data = mfx.datasets.load("sleepstudy").assign(one=1.0)
    turned = lmer("Reaction ~ Days + (0 + Days + one | Subject)", data, reml=False)
    found = profile_intervals(turned, 0.95)
    expected = profile_intervals(sleep(), 0.95)
    order = [1, 0, 2, 3, 4, 5]
    np.testing.assert_allclose(found.iloc[order], expected, rtol=1e-6)


# ---------------------------------------------------------------- the table


@pytest.mark.full
def test_every_parameter_has_a_point_at_every_zeta():
    # The correlation alone comes to its end, at one, before it comes to 3.
    for name, rows in sleep_profile().groupby("parameter"):
        # Those of the limits of 95% are points, too.
        asked = sorted([*ZETAS, -Z, Z])
        reached = asked[: -1 if name.startswith("corr") else None]
        found = rows["zeta"].to_list()
        assert found[: len(reached)] == pytest.approx(reached, abs=1e-12)
        assert len(found) == len(asked)


@pytest.mark.full
def test_a_correlation_ends_at_one_with_the_zeta_of_the_singular_model():
    rows = sleep_profile().set_index("parameter").loc["corr(Intercept, Days | Subject)"]
    fit = sleep()

    def singular(theta):
        return solve_pls(fit.crossprod, np.append(theta, 0.0), reml=False).deviance

    end = optimize.minimize(singular, [1.0, 0.2], method="Nelder-Mead", options={"fatol": 1e-9})
    assert rows["value"].iloc[-1] == 1.0
    assert rows["zeta"].iloc[-1] ** 2 == pytest.approx(end.fun - fit.solution.deviance, abs=1e-6)


@pytest.mark.full
def test_values_rise_with_zeta():
    for _, rows in sleep_profile().groupby("parameter"):
        assert (np.diff(rows["value"]) > 0).all()


@pytest.mark.full
def test_parameters_stand_in_their_natural_order():
    assert list(dict.fromkeys(sleep_profile((-1.0, 0.0, 1.0))["parameter"])) == [
        "sd(Intercept | Subject)",
        "sd(Days | Subject)",
        "corr(Intercept, Days | Subject)",
        "sigma",
        "Intercept",
        "Days",
    ]


@pytest.mark.full
def test_zero_is_the_estimate_of_maximum_likelihood():
    table = sleep_profile((-1.0, 0.0, 1.0))
    found = table[table["zeta"] == 0.0].set_index("parameter")["value"]
    expected = {p.name: p.value for p in parameters(sleep())}
    np.testing.assert_allclose(found, list(expected.values()), rtol=1e-5)


@pytest.mark.full
def test_intervals_are_the_rows_of_the_profile():
    table = sleep_profile().set_index(["parameter", "zeta"])["value"]
    limits = profile_intervals(sleep(), 0.95)
    found = [[table[name, -Z], table[name, Z]] for name in limits.index]
    np.testing.assert_allclose(found, limits, rtol=1e-7)


@pytest.mark.full
def test_a_standard_deviation_ends_at_zero_with_the_zeta_of_the_model_without_it():
    data = mfx.datasets.load("Pastes")
    fit = lmer("strength ~ 1 + (1 | batch) + (1 | sample)", data, reml=False)
    table = profile(fit, "sd(Intercept | batch)")
    without = lmer("strength ~ 1 + (1 | sample)", data, reml=False)
    rise = without.solution.deviance - fit.solution.deviance
    assert table["value"].iloc[0] == 0.0
    assert table["zeta"].iloc[0] == pytest.approx(-np.sqrt(rise), abs=EXACT)
    assert table["zeta"].iloc[-1] == 3.0


def test_an_estimate_of_zero_has_no_rows_below_it():
    fit = fit_of("dyestuff2__ml", "profiled").model
    table = profile(fit, "sd(Intercept | Batch)", zetas=[-1.0, 1.0])
    assert table["zeta"].to_list() == [0.0, 1.0]
    assert table["value"].iloc[0] == 0.0


@pytest.mark.full
def test_an_estimate_of_a_correlation_of_one_has_no_rows_beyond_it():
    fit, name = fit_of("psych_sing__ml", "profiled").model, "corr(Intercept, cond[T.B] | item)"
    table = profile(fit, name, zetas=[-1.0, 0.25])
    assert table["zeta"].to_list() == [0.0, 0.25]
    assert table["value"].iloc[0] == pytest.approx(-1.0, abs=1e-9)
    assert profile_intervals(fit, 0.95, name).loc[name, 0] == -1.0


@pytest.mark.full
def test_a_correlation_is_not_excluded_by_more_than_the_absence_of_an_effect_is():
    # With a standard deviation of zero any correlation fits, so no zeta is beyond that one's.
    fit = sleep()
    ends = [
        profile(fit, f"sd({effect} | Subject)", zetas=[-30.0])["zeta"].iloc[0]
        for effect in ("Intercept", "Days")
    ]
    table = profile(fit, "corr(Intercept, Days | Subject)", zetas=[-4.0, -5.0])
    assert table["zeta"].to_list() == pytest.approx([max(ends), -4.0, 0.0], abs=EXACT)
    assert table["value"].iloc[0] == -1.0


def test_the_correlation_of_an_effect_that_does_not_vary_has_neither_limits_nor_rows():
    fit = still()
    name = "corr(Intercept, x | g)"
    assert np.isnan(select_parameters(fit, name)[0].value)
    assert profile(fit, name).empty
    assert profile_intervals(fit, 0.95, name).isna().all(axis=None)


def still():
    """A fit in which nothing varies over the groups: their means are all the same."""
    noise = np.array([-1.5, -0.5, 0.5, 1.5])
    x = np.array([-1.0, 1.0, 1.0, -1.0])
    table = pd.DataFrame({"g": np.repeat(np.arange(6), 4), "x": np.tile(x, 6)})
    return lmer("y ~ x + (x | g)", table.assign(y=np.tile(noise, 6)), reml=False)


def test_a_column_that_was_left_out_has_neither_limits_nor_rows():
    data = mfx.datasets.load("sleepstudy").assign(twice=lambda d: 2.0 * d["Days"])
    with pytest.warns(mfx.errors.DroppedColumnsWarning):
        fit = mfx.lmer("Reaction ~ Days + twice + (1 | Subject)", data).model
    assert profile(fit, ["twice"]).empty
    limits = profile_intervals(fit, 0.95, ["twice", "Days"])
    assert limits.loc["twice"].isna().all()
    assert limits.loc["Days"].notna().all()


# ---------------------------------------------------------------- names


@pytest.mark.filterwarnings("ignore:the data do not identify every variance")
def test_two_terms_with_one_effect_have_two_names():
    data = mfx.datasets.load("sleepstudy")
    fit = lmer("Reaction ~ Days + (Days | Subject) + (0 + Days | Subject)", data)
    assert [p.name for p in parameters(fit)][:4] == [
        "sd(Intercept | Subject)",
        "sd(Days | Subject) in (Days | Subject)",
        "corr(Intercept, Days | Subject)",
        "sd(Days | Subject) in (0 + Days | Subject)",
    ]


def test_a_column_called_sigma_keeps_its_name():
    data = mfx.datasets.load("sleepstudy").rename(columns={"Days": "sigma"})
    fit = lmer("Reaction ~ sigma + (1 | Subject)", data)
    found = {p.name: p.kind for p in parameters(fit)}
    assert found["sigma"] == "fixed"
    assert found["sigma(Residual)"] == "sigma"


def test_values_of_the_parameters_are_those_of_the_fit():
    fit = sleep(reml=True)
    table = varcorr_table(fit)["sdcor"]
    found = [p.value for p in parameters(fit)]
    np.testing.assert_allclose(found, [*table, *fit.solution.beta], rtol=1e-12)


def test_parameters_come_in_the_order_asked_for():
    names = ["Days", "sigma"]
    assert list(profile_intervals(sleep(), 0.9, names).index) == names


def test_an_unknown_parameter_is_refused_with_the_nearest_name():
    with pytest.raises(ArgumentError, match=r"Did you mean 'sd\(Days \| Subject\)'"):
        profile(sleep(), "sd(days | Subject)")


@pytest.mark.parametrize("parm", [3, [3], ["sigma", None]])
def test_a_parameter_that_is_no_name_is_refused(parm):
    with pytest.raises(ArgumentError, match="parm="):
        profile_intervals(sleep(), 0.95, parm)


@pytest.mark.parametrize("zetas", [["one"], [np.nan], [np.inf], [[1.0]]])
def test_zetas_that_are_no_numbers_are_refused(zetas):
    with pytest.raises(ArgumentError, match="zetas="):
        profile(sleep(), zetas=zetas)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, "0.95", np.nan])
def test_a_confidence_level_that_is_no_share_is_refused(level):
    with pytest.raises(ArgumentError, match="conf_level="):
        profile_intervals(sleep(), level)


# ---------------------------------------------------------------- fits that are no optimum


def test_a_fit_that_is_no_optimum_is_not_profiled():
    fit = sleep()
    wrong = replace(
        fit, solution=solve_pls(fit.crossprod, 1.2 * fit.optimizer_result.theta, reml=False)
    )
    with pytest.raises(SearchError, match="not the smallest"):
        profile_intervals(wrong, 0.95)


def test_a_deviance_below_the_optimum_is_reported(monkeypatch):
    fit = sleep()
    wrong = solve_pls(fit.crossprod, 1.2 * fit.optimizer_result.theta, reml=False)
    monkeypatch.setattr(module, "optimum_of", lambda fit, predictor: wrong)
    with pytest.raises(SearchError, match="below that of the estimates"):
        profile(fit, "Days", zetas=[0.1])


# ---------------------------------------------------------------- what it stands on


def test_a_constrained_coefficient_has_the_deviance_and_estimates_of_the_offset():
    data, theta = mfx.datasets.load("sleepstudy"), sleep().optimizer_result.theta
    constrained = constrain_coefficient(sleep().solution, np.array([0.0, 1.0]), 8.0)
    rest = lmer(
        "Reaction ~ 1 + (Days | Subject)",
        data.assign(known=8.0 * data["Days"]),
        reml=False,
        offset="known",
    )
    expected = solve_pls(rest.crossprod, theta, reml=False)
    assert constrained.deviance == pytest.approx(expected.deviance, abs=1e-9)
    assert constrained.sigma == pytest.approx(expected.sigma, rel=1e-10)
    np.testing.assert_allclose(constrained.beta, [expected.beta[0], 8.0], rtol=1e-10)
    np.testing.assert_allclose(
        constrained.vcov_unscaled, [[expected.vcov_unscaled[0, 0], 0.0], [0.0, 0.0]], atol=1e-12
    )


def test_a_constrained_coefficient_is_differentiated_exactly():
    crossprod, theta, row = sleep().crossprod, sleep().optimizer_result.theta, np.array([1.0, 0.0])

    def constrained(at):
        return constrain_coefficient(
            solve_pls_at_factors(crossprod, crossprod.parametrization.lambdas(at), reml=False),
            row,
            240.0,
        )

    coordinates = crossprod.parametrization.coordinates
    found = coordinates.pullback(theta, score_factors(constrained(theta)))
    expected = optimize.approx_fprime(theta, lambda at: constrained(at).deviance, 1e-7)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_deviance_at_the_best_sigma_is_the_deviance():
    solution = sleep().solution
    found = deviance_at_sigma(solution, solution.sigma)
    assert found == pytest.approx(solution.deviance, abs=1e-10)


def test_the_deviance_at_a_fixed_sigma_is_that_of_the_definition():
    fit = sleep()
    a, b, rho = (p.value for p in parameters(fit)[:3])
    sigma = 1.3 * fit.solution.sigma
    relative = solve_pls(fit.crossprod, fit.optimizer_result.theta / 1.3, reml=False)
    expected = dense_deviance(fit.design, np.array([a, b]), rho, sigma)
    assert deviance_at_sigma(relative, sigma) == pytest.approx(expected, abs=1e-8)


def test_slopes_at_a_fixed_sigma_are_exact():
    crossprod, theta, sigma = sleep().crossprod, sleep().optimizer_result.theta, 20.0
    found = score_lambdas(solve_pls(crossprod, theta, reml=False), sigma=sigma)
    expected = optimize.approx_fprime(
        theta, lambda at: deviance_at_sigma(solve_pls(crossprod, at, reml=False), sigma), 1e-7
    )
    np.testing.assert_allclose(
        crossprod.parametrization.coordinates.pullback(theta, found), expected, rtol=1e-4, atol=1e-4
    )


# ---------------------------------------------------------------- a correlation without effect


def correlated(seed: int) -> pd.DataFrame:
    """Eight groups of five rows, the slopes of which vary little."""
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(8), 5), np.tile(np.arange(5.0) - 2.0, 8)
    effects = rng.normal(size=(8, 2)) @ np.array([[1.0, 0.2], [0.0, 0.3]])
    y = effects[g, 0] + effects[g, 1] * x + rng.normal(size=40)
    return pd.DataFrame({"y": y, "x": x, "g": g})


CORR = "corr(Intercept, x | g)"


def without_an_effect(data) -> float:
    """The lower deviance of the two models in which one effect does not vary."""
    terms = ("(1 | g)", "(0 + x | g)")
    return min(lmer(f"y ~ x + {term}", data, reml=False).solution.deviance for term in terms)


@pytest.mark.full
@pytest.mark.parametrize("seed", but_for(range(6), [1]))
def test_a_correlation_is_as_free_as_the_models_in_which_an_effect_does_not_vary(seed):
    # They give the same deviance at every correlation.
    data = correlated(seed)
    fit = lmer("y ~ x + (x | g)", data, reml=False)
    highest = np.sqrt(max(without_an_effect(data) - fit.solution.deviance, 0.0))
    table = profile(fit, CORR)
    assert table["zeta"].abs().max() <= highest + EXACT
    if highest < Z:
        assert profile_intervals(fit, 0.95, CORR).loc[CORR].to_list() == [-1.0, 1.0]


def two_basins() -> pd.DataFrame:
    """Data in which a correlation has a local minimum, and a lower one without the slopes."""
    rng = np.random.default_rng(358)
    L = int(rng.integers(3, 9))
    g = np.repeat(np.arange(L), rng.integers(2, 9, size=L))
    x = rng.normal(size=len(g)) * rng.choice([0.3, 1, 3]) + rng.choice([0, 0, 2, -3])
    x = x + rng.normal(size=L)[g] * rng.choice([0, 1, 2])
    effects, sds = rng.standard_t(2, size=(L, 2)), rng.choice([0.3, 1, 2, 4], 2)
    y = sds[0] * effects[g, 0] + sds[1] * effects[g, 1] * x + rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "g": g})


@pytest.mark.full
def test_a_local_minimum_does_not_hide_that_an_effect_may_not_vary():
    # A search from the estimates gave [-0.393, 1]; zeta is at most 1.8976.
    data = two_basins()
    fit = lmer("y ~ x + (x | g)", data, reml=False)
    highest = np.sqrt(without_an_effect(data) - fit.solution.deviance)
    assert highest == pytest.approx(1.8976, abs=1e-4)
    assert profile_intervals(fit, 0.95, CORR).loc[CORR].to_list() == [-1.0, 1.0]
    rows = profile(fit, CORR)
    assert rows["zeta"].min() == pytest.approx(-highest, abs=EXACT)
    assert rows["value"].iloc[0] == -1.0


def free_correlation(zeta: float):
    """The profile of sleepstudy's correlation, were it free at this zeta."""
    fit, name = sleep(), "corr(Intercept, Days | Subject)"
    optimum = optimum_of(fit)
    found = profile_parameter(fit, optimum, select_parameters(fit, name)[0])
    return replace(found, unidentified_deviance=optimum.deviance + zeta**2)


@pytest.mark.full
@pytest.mark.kept("1.0")
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_zeta_does_not_pass_the_deviance_at_which_the_correlation_is_free(sign):
    branch = ProfileBranch(free_correlation(1.79), sign)
    assert branch.solve(Z) == (branch.bound, pytest.approx(1.79, abs=1e-12))
    # below it the profile is as it was
    name = "corr(Intercept, Days | Subject)"
    expected = profile(sleep(), name, zetas=[sign * 1.5])
    (value,) = expected.loc[expected["zeta"] != 0.0, "value"]
    assert branch.profiled.value(branch.solve(1.5)[0]) == pytest.approx(value, abs=EXACT)


@pytest.mark.full
def test_the_profile_has_a_point_from_which_zeta_is_constant():
    points = module._branch_points(free_correlation(1.79), ZETA_STEPS, corner=True)
    values, zetas = np.transpose(points)
    assert zetas == pytest.approx([0.5, 1.0, 1.5, 1.79, 1.79], abs=2e-4)
    assert values[-1] == 1.0
    assert (np.diff(values) > 0.0).all()
    name = "corr(Intercept, Days | Subject)"
    expected = profile(sleep(), name, zetas=[1.79])["value"].iloc[-1]
    assert values[-2] == pytest.approx(expected, abs=1e-3)


ZETA_STEPS = np.array([0.5, 1.0, 1.5, 2.0, 2.5])


@pytest.mark.full
def test_the_other_effects_of_a_term_stay_where_one_does_not_vary():
    # Of three effects, those without the one whose deviance is lowest are still correlated.
    rng = np.random.default_rng(4)
    data = correlated(4).assign(z=rng.normal(size=40))
    data["y"] += rng.normal(size=8)[data["g"]] * data["z"]
    fit = lmer("y ~ x + (x + z | g)", data, reml=False)
    optimum = optimum_of(fit)
    found = UnidentifiedDeviance(fit, optimum)
    by_name = {p.name: p for p in parameters(fit)}
    assert found.of(by_name["sd(x | g)"]) == found.of(by_name["sigma"]) == np.inf
    without = {
        effect: lmer(f"y ~ x + ({rest} | g)", data, reml=False).solution.deviance
        for effect, rest in {"Intercept": "0 + x + z", "x": "z", "z": "x"}.items()
    }
    for one, other in (("Intercept", "x"), ("Intercept", "z"), ("x", "z")):
        expected = min(without[one], without[other])
        assert found.of(by_name[f"corr({one}, {other} | g)"]) == pytest.approx(expected, abs=1e-6)
