"""Profiles of generalised fits.

Source of truth: R's profile limits, exact, by constrained refits (tests/reference/generalized); the
profiles of a linear mixed model, which a normal response with identity link is; a constrained
minimisation of the deviance by another program.
"""

from __future__ import annotations

import numpy as np
import pytest
from generalized_models import GENERALIZED, generalized_fit
from scipy import optimize
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import ArgumentError
from mixedfx.inference.profile.marginal_optimum import MarginalOptimum
from mixedfx.likelihood.generalized.likelihood import GeneralizedLikelihood, MarginalCoordinates
from mixedfx.likelihood.generalized.rows import GeneralizedRows

WITH_LIMITS = [name for name, r in GENERALIZED.items() if r.record.get("confint_profile")]
WIDTH = 1e-5  # of the interval, which R's limits are exact to


@pytest.mark.full
@pytest.mark.kept("cbpp_prop__laplace")
@pytest.mark.parametrize("name", but_for(WITH_LIMITS, ["cbpp_prop__laplace", "gamma_log__laplace"]))
def test_limits_match_r(name):
    reference, fit = GENERALIZED[name], generalized_fit(name)
    limits = fit.conf_int(method="profile")
    for row in reference["confint_profile"]:
        low, high = row["lo"], row["hi"]
        if row["parm"].startswith("disp_"):  # its logarithm; of Gamma's, of the shape
            ours, ends = "phi", [-high, -low] if reference.family == "gamma" else [low, high]
            low, high = np.exp(ends)
        elif row["parm"].startswith("sd_"):
            ours = next(n for n in limits.index if n.startswith("sd("))
        else:
            names = [column["name"] for column in reference["fixef"]]
            ours = reference.fixed_names[names.index(row["parm"])]
        found = limits.loc[ours].to_numpy()
        assert np.abs(found - [low, high]).max() < WIDTH * (high - low), (row["parm"], found)


LINEAR = {
    "slopes": "Reaction ~ Days + (Days | Subject)",
    "uncorrelated": "Reaction ~ Days + (Days || Subject)",
}
SOME = ["corr(Intercept, Days | Subject)", "Days"]


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "parm"),
    but_for([*((name, None) for name in LINEAR), ("slopes", SOME)], [("slopes", SOME)]),
)
def test_limits_of_a_normal_response_are_those_of_the_linear_model(name, parm):
    sleep = mfx.datasets.load("sleepstudy")
    linear = mfx.lmer(LINEAR[name], sleep, reml=False)
    fit = mfx.glmer(LINEAR[name], sleep, family="gaussian", link="identity")
    expected = linear.conf_int(method="profile", parm=parm)
    limits = fit.conf_int(method="profile", parm=parm).loc[expected.index]
    width = (expected[1] - expected[0]).to_numpy()[:, None]
    assert (np.abs(limits - expected) / width).max(axis=None) < 1e-4


@pytest.mark.full
def test_a_correlation_of_several_parameters_has_no_profile_as_in_the_linear_model():
    sleep = mfx.datasets.load("sleepstudy")
    sleep["third"] = np.tile(np.repeat(["a", "b", "c"], [2, 3, 5]), 18)
    formula = "Reaction ~ 1 + toep(0 + third | Subject)"
    linear = mfx.lmer(formula, sleep, reml=False)
    fit = mfx.glmer(formula, sleep, family="gaussian", link="identity")
    for model in (linear, fit):
        limits = model.conf_int(method="profile", parm="corr(third, lag 2 | Subject)")
        assert limits.isna().all(axis=None)


@pytest.mark.full
@pytest.mark.parametrize("upper", [False, True])
def test_the_limit_of_a_correlation_is_a_constrained_minimum(upper):
    fit = generalized_fit("epil2_slope__laplace")
    corr = "corr(Intercept, Visit | subject)"
    limit = fit.conf_int(method="profile", parm=corr).loc[corr, int(upper)]
    rows = GeneralizedRows.of(fit.model.design)
    likelihood = GeneralizedLikelihood(rows)
    coordinates = MarginalCoordinates(rows.parametrization.coordinates, rows.p, 0)

    def deviance(x):
        at = likelihood.at(coordinates.point(x))
        return at.deviance, coordinates.gradient(x, rows, at.gradient)

    def correlation(x):
        lam = rows.bases[0].factor(coordinates.point(x).factors[0])
        cov = lam @ lam.T
        return cov[1, 0] / np.sqrt(cov[0, 0] * cov[1, 1]) - limit

    start = np.concatenate([[0.5, 0.0, 0.3], fit.model.residual.x[3:]])
    found = optimize.minimize(
        deviance,
        start,
        jac=True,
        method="SLSQP",
        constraints={"type": "eq", "fun": correlation},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert found.fun - fit.deviance == pytest.approx(1.959964**2, abs=1e-4)


@pytest.mark.full
def test_zeta_is_the_root_of_the_increase_of_the_deviance_with_an_offset():
    # A coefficient that is fixed is an offset.
    data = GENERALIZED["epil_pois__laplace"].data
    formula = "y ~ lbase * trt + lage + V4 + (1 | subject)"
    fit = mfx.glmer(formula, data, family="poisson", nagq=5)
    profile = fit.profile("lage", zetas=[-2.0, 1.0]).set_index("zeta")["value"]
    without = formula.replace(" + lage", "")
    for zeta in (-2.0, 1.0):
        offset = (profile[zeta] * data["lage"]).to_numpy()
        constrained = mfx.glmer(without, data, family="poisson", nagq=5, offset=offset)
        assert constrained.deviance - fit.deviance == pytest.approx(zeta**2, abs=1e-5)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
def test_a_standard_deviation_of_zero_is_a_limit():
    fit = generalized_fit("grouse_nested__laplace")
    low, high = fit.conf_int(method="profile", parm="sd(Intercept | LOCATION)").to_numpy()[0]
    assert low == 0.0
    without = mfx.glmer(
        GENERALIZED["grouse_nested__laplace"]["formula_py"].replace(
            "LOCATION/BROOD", "LOCATION:BROOD"
        ),
        GENERALIZED["grouse_nested__laplace"].data,
        family="poisson",
    )
    rise = without.deviance - fit.deviance
    zeta = fit.profile("sd(Intercept | LOCATION)")["zeta"].min()
    assert zeta == pytest.approx(-np.sqrt(rise), abs=1e-4)
    assert high > fit.model.solution.lambdas[0][0, 0]


def test_no_random_terms():
    sleep = mfx.datasets.load("sleepstudy")
    fit = mfx.glmer("I(Reaction > 300) ~ Days", sleep, family="binomial")
    limits = fit.conf_int(method="profile").loc["Days"]
    offsets = {
        value: mfx.glmer("I(Reaction > 300) ~ 1", sleep, offset=value * sleep["Days"]).deviance
        for value in limits
    }
    for deviance in offsets.values():
        assert deviance - fit.deviance == pytest.approx(1.959964**2, abs=1e-5)


def test_the_joint_mode_is_not_profiled():
    cbpp = GENERALIZED["cbpp_prop__laplace"].data
    fit = mfx.glmer("prop(incidence, size) ~ period + (1 | herd)", cbpp, nagq=0)
    with pytest.raises(ArgumentError, match="nagq=0 does not maximise it: fit with nagq=1"):
        fit.conf_int(method="profile")


def test_the_deviance_at_the_optimum_is_the_fits():
    for name in ("cbpp_prop__laplace", "epil2_nb2__laplace"):
        fit = generalized_fit(name)
        assert MarginalOptimum(fit.model).deviance == pytest.approx(fit.deviance, abs=1e-8)
