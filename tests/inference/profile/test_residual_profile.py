"""Profiles of fits whose residuals have parameters.

Sources of truth: nlme 3.1-162, whose gls holds a correlation or range fixed; the covariance of the
response written out from the definition, its deviance minimised by scipy with the parameter fixed;
and models that have two ways of being written.
"""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pytest
from correlated_fits import crossed, trial
from scipy import optimize
from scipy.stats import norm

import mixedfx as mfx

Z = float(norm.ppf(0.975))
# zeta of a limit, against one found by another program's minimisation.
EXACT = 1e-5

TRIAL = "y ~ arm * visit"
CROSSED = "y ~ x + (1 | item)"


@cache
def fit_of(formula, data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mfx.lmer(formula, data(), reml=False, **options)


# Roots of gls(y ~ arm * visit, correlation = corAR1(rho, ~ visit | patient, fixed = TRUE),
# method = "ML") at deviances qchisq(.95, 1) above the lowest, by uniroot(tol = 1e-10); that of the
# coefficient with y - b x for y; corExp(range, ~ time | patient) likewise. That of the standard
# deviation from the formula of the likelihood, in R.
NLME = {
    ("ar1(visit | patient)", "corr(visit | patient)"): (0.08941842, 0.56695048),
    ("ar1(visit | patient)", "arm[T.b]:visit[T.v4]"): (-0.12833340, 2.47443944),
    ("ar1(visit | patient)", "sd(visit | patient)"): (0.94476967, 1.31659892),
    ("exp(time | patient)", "range(time | patient)"): (0.41417668, 1.76216632),
}


@pytest.mark.parametrize(("residual", "parm"), NLME)
def test_limits_are_those_of_gls_with_the_parameter_fixed(residual, parm):
    limits = fit_of(TRIAL, trial, residual=residual).conf_int(method="profile", parm=parm)
    np.testing.assert_allclose(limits.to_numpy()[0], NLME[residual, parm], rtol=2e-6)


# ---------------------------------------------------------------- the definition


def _structures(parameters, n):
    """Covariance of n whole positions, by the names of a fit's parameters."""
    sds = np.array([v for k, v in parameters.items() if k.startswith("sd(")])
    corr = [v for k, v in parameters.items() if k.startswith("corr(")]
    lag = np.abs(np.subtract.outer(range(n), range(n)))
    if len(corr) == 1:
        R = corr[0] ** lag
    elif len(corr) == n - 1:
        R = np.append(1.0, corr)[lag]
    else:
        R = np.eye(n)
        R[np.triu_indices(n, 1)] = corr
        R = R + R.T - np.eye(n)
    return R * np.outer(sds, sds) if len(sds) > 1 else R * sds[0] ** 2


def _dense_deviance(fit, data, parameters):
    """-2 log-likelihood of a response of one covariance, the coefficients profiled out."""
    residual = {k: v for k, v in parameters.items() if "| item" not in k}
    group, position = ("patient", "time") if "patient" in data else ("subject", "trial")
    C = _structures(residual, int(data[position].max()))
    t = data[position].to_numpy() - 1
    own = data[group].to_numpy()
    s = np.ones(len(data))
    for name, value in parameters.items():
        if name == "dispersion(arm[T.b])":
            s = np.exp(value * (data["arm"] == "b").to_numpy())
    V = np.where(own[:, None] == own, C[t[:, None], t], 0.0) * np.outer(s, s)
    for name, value in parameters.items():
        if name == "sd(Intercept | item)":
            item = data["item"].to_numpy()
            V = V + value**2 * (item[:, None] == item)
    sign, log_det = np.linalg.slogdet(V)
    if sign <= 0 or np.linalg.eigvalsh(C)[0] <= 0:
        return 1e6
    y, X = fit.model.rows.y, fit.model.rows.X
    ViX = np.linalg.solve(V, X)
    e = y - X @ np.linalg.solve(X.T @ ViX, ViX.T @ y)
    return len(y) * np.log(2 * np.pi) + log_det + e @ np.linalg.solve(V, e)


DENSE = [
    pytest.param(
        *(TRIAL, trial, "us(visit | patient)", None, "sd(v3 | patient)"), marks=pytest.mark.full
    ),
    (TRIAL, trial, "us(visit | patient)", None, "corr(v1, v2 | patient)"),
    pytest.param(
        *(TRIAL, trial, "us(visit | patient)", None, "corr(v2, v4 | patient)"),
        marks=pytest.mark.full,
    ),
    pytest.param(
        *(TRIAL, trial, "toeph(visit | patient)", None, "corr(visit, lag 1 | patient)"),
        marks=pytest.mark.full,
    ),
    pytest.param(
        *(TRIAL, trial, "toeph(visit | patient)", None, "corr(visit, lag 3 | patient)"),
        marks=pytest.mark.full,
    ),
    (TRIAL, trial, "ar1h(visit | patient)", None, "sd(v2 | patient)"),
    (TRIAL, trial, "ar1(visit | patient)", "~ arm", "dispersion(arm[T.b])"),
    pytest.param(
        *(TRIAL, trial, "us(visit | patient)", "~ arm", "corr(v1, v3 | patient)"),
        marks=pytest.mark.full,
    ),
    (CROSSED, crossed, "ar1(trial | subject)", None, "sd(Intercept | item)"),
    pytest.param(
        *(CROSSED, crossed, "ar1(trial | subject)", None, "corr(trial | subject)"),
        marks=pytest.mark.full,
    ),
]


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize(("formula", "data", "residual", "dispersion", "parm"), DENSE)
def test_zeta_at_the_limits_is_that_of_the_definition(formula, data, residual, dispersion, parm):
    options = {"residual": residual} | ({"dispersion": dispersion} if dispersion else {})
    fit, table = fit_of(formula, data, **options), data()
    limits = fit.conf_int(method="profile", parm=parm).to_numpy()[0]
    values = {
        p.name: p.value for p in mfx.inference.parameters.parameters(fit.model) if p.kind != "fixed"
    }
    others = [name for name in values if name != parm]

    def deviance(x, value):
        given = values | dict(zip(others, x, strict=True)) | {parm: value}  # in their order
        return _dense_deviance(fit, table, given)

    start = np.array([values[name] for name in others])
    lowest = deviance(start, values[parm])
    assert lowest == pytest.approx(fit.deviance, abs=1e-7)
    for limit in limits:
        end = optimize.minimize(
            deviance, start, args=(limit,), method="BFGS", options={"gtol": 1e-4}
        )
        assert np.sqrt(end.fun - lowest) == pytest.approx(Z, abs=EXACT)


# ---------------------------------------------------------------- identities


@pytest.mark.full
def test_compound_symmetry_has_the_limits_of_a_random_intercept():
    by_residual = fit_of(TRIAL, trial, residual="cs(visit | patient)")
    by_effect = fit_of("y ~ arm * visit + (1 | patient)", trial)
    fixed = ["Intercept", "arm[T.b]", "visit[T.v3]", "arm[T.b]:visit[T.v4]"]
    limits = [f.conf_int(method="profile", parm=fixed) for f in (by_residual, by_effect)]
    np.testing.assert_allclose(*limits, rtol=1e-6)


@pytest.mark.full
def test_a_reml_fit_has_the_profile_of_maximum_likelihood():
    parm = ["sd(visit | patient)", "corr(visit | patient)"]
    reml = mfx.lmer(TRIAL, trial(), residual="ar1(visit | patient)")
    ml = fit_of(TRIAL, trial, residual="ar1(visit | patient)")
    limits = [f.conf_int(method="profile", parm=parm) for f in (reml, ml)]
    np.testing.assert_allclose(*limits, rtol=1e-6)


@pytest.mark.full
def test_one_standard_deviation_an_arm_is_a_structure_or_a_dispersion_formula():
    by_formula = fit_of(TRIAL, trial, dispersion="~ 0 + arm")
    by_structure = fit_of(TRIAL, trial, residual="homdiag(visit | arm / patient)")
    limits = by_structure.conf_int(method="profile")[:2].to_numpy()
    logs = by_formula.conf_int(
        method="profile", parm=["dispersion(arm[a])", "dispersion(arm[b])"]
    ).to_numpy()
    np.testing.assert_allclose(np.exp(logs), limits, rtol=1e-6)


@pytest.mark.full
def test_limits_do_not_depend_on_the_order_of_positions():
    fit = fit_of(TRIAL, trial, residual="us(visit | patient)")
    turned = trial()
    turned["visit"] = (
        turned["visit"]
        .astype("category")
        .cat.reorder_categories(["v3", "v1", "v4", "v2"], ordered=True)
    )
    other = mfx.lmer(TRIAL, turned, residual="us(visit | patient)", reml=False)
    a = fit.conf_int(method="profile", parm=["sd(v3 | patient)", "corr(v1, v3 | patient)"])
    b = other.conf_int(method="profile", parm=["sd(v3 | patient)", "corr(v3, v1 | patient)"])
    np.testing.assert_allclose(a, b, rtol=1e-6)


# ---------------------------------------------------------------- profiles


@pytest.mark.full
def test_the_profile_has_every_parameter_and_rises_with_zeta():
    fit = fit_of(CROSSED, crossed, residual="ar1(trial | subject)")
    table = fit.profile(zetas=[-1.0, 0.0, 1.0])
    names = ["sd(Intercept | item)", "sd(trial | subject)", "corr(trial | subject)"]
    assert table["parameter"].unique().tolist() == [*names, "Intercept", "x"]
    assert (table.groupby("parameter")["value"].diff().dropna() > 0).all()
    at_zero = table[table["zeta"] == 0.0].set_index("parameter")["value"]
    assert at_zero["corr(trial | subject)"] == pytest.approx(
        fit.varcorr["sdcor"].iloc[-1], rel=1e-6
    )


@pytest.mark.full
def test_a_correlation_may_have_no_upper_limit_but_one():
    # With one random intercept a patient beside, short ranges and independence are alike.
    fit = mfx.lmer(
        "y ~ arm + time + (1 | patient)", trial(), residual="ou(time | patient)", reml=False
    )
    limits = fit.conf_int(method="profile", parm="rate(time | patient)")
    assert limits[1].item() == np.inf
    assert 0.0 < limits[0].item() < 3.0
