"""What inference reads of correlated residuals, against the dense definition."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from correlated_fits import CALLS, data_of, effects_matrix, fit_of, residual_matrix

import mixedfx as mfx
from mixedfx.errors import ArgumentError, ConvergenceWarning, EngineRefusal, SingularFitWarning

FITS = list(CALLS)


@cache
def dense(name):
    """Fit, data, X, R and V of the rows."""
    fit, data = fit_of(name), data_of(name)
    R = residual_matrix(fit, name, data, data)
    return fit, data, fit.model.rows.X, R, R + effects_matrix(fit, data, data)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("name", FITS)
def test_the_criterion_is_that_of_the_reported_covariances(name):
    fit, data, X, _, V = dense(name)
    Q = np.linalg.inv(V)
    beta = np.linalg.solve(X.T @ Q @ X, X.T @ Q @ data["y"])
    e, n_p = data["y"] - X @ beta, len(X) - X.shape[1]
    logs = np.linalg.slogdet(V)[1] + np.linalg.slogdet(X.T @ Q @ X)[1]
    assert fit.deviance == pytest.approx(logs + e @ Q @ e + n_p * np.log(2 * np.pi), abs=1e-6)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("name", FITS)
def test_residual_sd_is_that_of_the_row(name):
    fit, _, _, R, _ = dense(name)
    np.testing.assert_allclose(fit.residual_sd, np.sqrt(np.diag(R)), rtol=1e-12)
    np.testing.assert_allclose(
        fit.residuals("pearson"), fit.resid / np.sqrt(np.diag(R)), rtol=1e-10
    )


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("name", FITS)
def test_normalized_residuals_are_those_of_a_cholesky_factor_of_each_subject(name):
    fit, data, _, R, _ = dense(name)
    subject, position = ("patient", "visit") if "patient" in data else ("subject", "trial")
    expected = np.zeros(len(data))
    for _, rows in data.groupby(subject):
        at = rows.sort_values(position).index.to_numpy()
        expected[at] = np.linalg.solve(np.linalg.cholesky(R[np.ix_(at, at)]), fit.resid[at])
    np.testing.assert_allclose(fit.residuals("normalized"), expected, rtol=1e-9)


def test_normalized_residuals_of_independent_ones_are_those_of_pearson():
    fit = mfx.lmer("y ~ x + (1 | item)", data_of("crossed"))
    np.testing.assert_array_equal(fit.residuals("normalized"), fit.residuals("pearson"))


@pytest.mark.parametrize("name", FITS)
def test_leverage_and_deletion_are_those_of_the_dense_model(name):
    fit, _, X, R, V = dense(name)
    Q = np.linalg.inv(V)
    P = Q - Q @ X @ np.linalg.solve(X.T @ Q @ X, X.T @ Q)
    found = fit.influence()
    # y - fitted = R P y, of covariance R P R
    np.testing.assert_allclose(found["hat"], 1.0 - np.diag(R @ P), rtol=1e-8)
    np.testing.assert_allclose(
        found["std_resid"], fit.resid / np.sqrt(np.diag(R @ P @ R)), rtol=1e-7
    )
    # Without row i the fitted values T c change by T H T' R^-1 d (Py)_i / P_ii, d the i-th unit
    # vector, T H T' = R - R P R, and their change is measured by R^-1.
    y, p = fit.model.rows.y, X.shape[1]
    B = np.linalg.inv(R) - P
    np.testing.assert_allclose(
        found["cooks_distance"], np.diag(B) * (P @ y / np.diag(P)) ** 2 / p, rtol=1e-7
    )


@pytest.mark.kept("visits")
@pytest.mark.parametrize("name", ["visits", "crossed"])
def test_influence_of_a_subject_is_the_estimate_without_it_at_the_same_covariances(name):
    fit, data, X, _, V = dense(name)
    subject = "patient" if "patient" in data else "subject"
    level = data[subject].iloc[0]
    keep = (data[subject] != level).to_numpy()
    found = fit.influence(subject).loc[level]
    if not fit.formula.groups:
        Q = np.linalg.inv(V[np.ix_(keep, keep)])
        X, y = X[keep], data["y"][keep]
        beta = np.linalg.solve(X.T @ Q @ X, X.T @ Q @ y)
        np.testing.assert_allclose(found[fit.params.index], beta - fit.params, atol=1e-9)
    refitted = fit.influence(subject, method="refit").loc[level]
    assert found["x" if "x" in data else "Intercept"] == pytest.approx(
        refitted["x" if "x" in data else "Intercept"], abs=0.02
    )


@pytest.mark.parametrize("name", FITS)
def test_the_table_of_variances_has_the_residual_covariance(name):
    fit = fit_of(name)
    found, cov = fit.varcorr, fit.residual_cov()
    rows = found[found["group"] == "Residual"]
    first = next(iter(cov.values())) if isinstance(cov, dict) else cov
    assert rows["vcov"].iloc[0] == pytest.approx(first.iloc[0, 0], rel=1e-12)
    assert set(fit.vcomp.index.get_level_values(0)) == set(fit.formula.groups)


def test_parameters_have_errors_and_intervals_inside_their_range():
    fit = fit_of("visits")
    names = ["sd(v1 | patient)", "corr(v1, v2 | patient)"]
    limits = fit.conf_int(parm=names)
    assert 0.0 < limits.loc[names[0], 0] < fit.residual_sd.min() + 1.0
    errors = np.sqrt(np.diag(fit.cov_params_random.loc[names, names]))
    r = fit.varcorr.query("effect == 'v1' and effect2 == 'v2'")["sdcor"].iloc[0]
    width = 1.959964 * errors[1] / (1.0 - r**2)
    np.testing.assert_allclose(
        limits.loc[names[1]], np.tanh(np.arctanh(r) + np.array([-width, width])), rtol=1e-6
    )


def test_covariance_of_the_parameters_is_the_inverse_of_the_observed_information():
    # With one residual variance the variances of balanced one-way data have a closed form:
    # var(sigma**2) = 2 sigma**4 / (n - levels), by the delta method that of sigma.
    data = mfx.datasets.load("Dyestuff")
    fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", data)
    found = fit.cov_params_random
    assert found.loc["sigma", "sigma"] == pytest.approx(fit.sigma**2 / (2 * 24), rel=1e-5)


def test_what_takes_independent_residuals_is_refused_with_the_reason():
    fit = fit_of("visits")
    with pytest.raises(ArgumentError, match=r"residual='us\(visit \| patient\)'"):
        fit.dispersion  # noqa: B018
    for call in (lambda: fit.statsmodels, lambda: fit.sample()):
        with pytest.raises(EngineRefusal, match=r"residual='us\(visit \| patient\)'"):
            call()
    with pytest.raises(ArgumentError, match="independent"):
        mfx.lmer("y ~ x + (1 | item)", data_of("crossed")).residual_cov()


@pytest.mark.full
def test_structures_are_compared_with_the_fits_that_they_are():
    fit, data = fit_of("visits"), data_of("visits")
    names = ["us", "toeph", "ar1h", "csh", "cs"]
    found = mfx.compare_structures(fit, names)
    for name in names:
        own = mfx.lmer("y ~ arm * visit", data, residual=f"{name}(visit | patient)")
        assert found.loc[name, "aic"] == pytest.approx(own.aic, abs=1e-5)
    assert found.loc["us", "nested"]
    assert not found.loc["csh", "nested"]  # ar1h is above it
    with pytest.raises(ArgumentError, match="correlated residuals"):
        mfx.compare_structures(mfx.lmer("y ~ arm", data), ["us", "cs"])


@pytest.mark.full
def test_one_covariance_is_nested_in_one_for_each_stratum():
    found = mfx.compare(fit_of("visits"), fit_of("by arm"), names=["one", "by arm"])
    assert found["nested"].tolist() == [None, True]
    assert found["df"].iloc[1] == 10


def test_pooling_weighs_the_estimate_of_a_level_given_all_else():
    fit, data, _, R, _ = dense("crossed")
    table, Q = fit.pooling("item"), np.linalg.inv(R)
    np.testing.assert_allclose(
        table["weight"] * table["unpooled"] + (1 - table["weight"]) * table["pooled"],
        table["partial"],
        rtol=1e-10,
    )
    z = (data["item"] == "i0").to_numpy(dtype=float)
    left = fit.resid.to_numpy() + z * fit.ranef("item").loc["i0", "Intercept"]
    expected = fit.params["Intercept"] + z @ Q @ left / (z @ Q @ z)
    assert table.loc["i0", "unpooled"] == pytest.approx(expected, rel=1e-9)


def test_correlations_of_the_residuals_stand_beside_the_fitted_ones():
    fit, data = fit_of("visits"), data_of("visits")
    found = fit.residual_correlation().set_index(["first", "second"]).loc[("v1", "v3")]
    data = data.assign(z=fit.residuals("pearson"))
    z = data.pivot_table(index="patient", columns="visit", values="z")
    products = (z["v1"] * z["v3"]).dropna()
    assert found["n"] == len(products)
    assert found["empirical"] == pytest.approx(products.mean(), rel=1e-9)
    cov = fit.residual_cov()
    expected = cov.loc["v1", "v3"] / np.sqrt(cov.loc["v1", "v1"] * cov.loc["v3", "v3"])
    assert found["fitted"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["by arm", "crossed"])
def test_the_picture_of_correlations_has_a_panel_for_each_stratum(name):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    axes = np.atleast_1d(fit_of(name).plot.correlation())
    assert len(axes) == (2 if name == "by arm" else 1)
    assert axes[0].get_xlabel() in ("lag in visit", "lag in trial")
    pyplot.close("all")


def test_a_scale_of_the_residuals_is_in_their_standard_deviations():
    # residual= with dispersion=: the covariance is that where the formula's columns are zero
    data = data_of("visits")
    fit = mfx.lmer("y ~ arm * visit", data, residual="cs(visit | patient)", dispersion="~ arm")
    ratio = np.exp(fit.dispersion["estimate"].iloc[0])
    sd = np.sqrt(np.diag(fit.residual_cov()))[0]
    expected = np.where(data["arm"] == "b", sd * ratio, sd)
    np.testing.assert_allclose(fit.residual_sd, expected, rtol=1e-9)
    np.testing.assert_allclose(fit.predict(data), fit.fittedvalues, rtol=1e-10)


def test_a_prediction_uses_the_scales_of_both_rows():
    # the scale follows the visit: that of the new row over those of the observed ones
    data = data_of("visits").assign(late=lambda d: (d["time"] > 2).astype(float))
    fit = mfx.lmer("y ~ arm * time", data, residual="cs(visit | patient)", dispersion="~ late")
    patient = next(
        p for p, rows in data.groupby("patient") if set(rows["visit"]) == {"v1", "v2", "v3"}
    )
    own = data[data["patient"] == patient]
    sd = np.sqrt(fit.residual_cov().iloc[0, 0])
    rho = fit.residual_cov().iloc[0, 1] / sd**2
    ratio = np.exp(fit.dispersion["estimate"].iloc[0])
    z = fit.resid[own.index] / np.where(own["late"] > 0, sd * ratio, sd)
    R = np.eye(3) + rho * (1.0 - np.eye(3))
    new = own.head(1).assign(visit="v4", time=4, late=1.0)
    expected = fit.predict(new, random="none") + sd * ratio * rho * np.linalg.inv(R).sum(0) @ z
    np.testing.assert_allclose(fit.predict(new), expected, rtol=1e-9)


def test_equations_and_graph_say_that_residuals_are_correlated():
    visits, crossed = fit_of("visits"), fit_of("crossed")
    text = " ".join(str(visits.equation()).split())
    assert "that at its visit; the residuals of one patient are correlated over visit" in text
    assert "one of all; the residuals of one subject" in " ".join(str(crossed.equation()).split())
    assert (
        str(visits.graph())
        .strip()
        .endswith("Residuals of one patient are correlated over visit: us(visit | patient).")
    )
    assert "crossed. Residuals of one subject are correlated" in str(crossed.graph())


@pytest.mark.full
def test_a_start_whose_covariance_is_singular_to_rounding_is_left_out():
    data = data_of("visits").assign(day=lambda d: 1.5 * d["time"])
    # Towards cs, the limit of an infinite range, whose deviance is lower: there is no maximum.
    with (
        pytest.warns(SingularFitWarning, match=r"smoothness\(day . patient\) of the residuals is"),
        pytest.warns(ConvergenceWarning, match=r"residual='cs\(day . patient\)'"),
    ):
        matern = mfx.lmer("y ~ arm * time", data, residual="mat(day | patient)")
    assert not matern.converged
    limit = mfx.lmer("y ~ arm * time", data, residual="cs(day | patient)")
    assert limit.deviance < matern.deviance
    exponential = mfx.lmer("y ~ arm * time", data, residual="exp(day | patient)")
    assert matern.deviance < exponential.deviance + 1e-6  # which is a special case of it


def test_degrees_of_freedom_of_complete_visits_are_those_of_student():
    """Every subject at every visit: a difference of arms at a visit is a t test of that visit."""
    rng = np.random.default_rng(0)
    n, v = 12, 4
    root = 0.5 * rng.standard_normal((v, v)) + np.eye(v)
    data = pd.DataFrame(
        {
            "id": np.repeat(np.arange(n), v),
            "visit": np.tile([f"v{i}" for i in range(v)], n),
            "y": (rng.standard_normal((n, v)) @ root.T).ravel(),
        }
    )
    data["arm"] = np.where(data["id"] % 2, "b", "a")
    fit = mfx.lmer("y ~ 0 + visit + visit:arm", data, residual="us(visit | id)")
    last = data[data["visit"] == "v3"]
    pooled = last.groupby("arm")["y"].var().mean()
    for method in ("satterthwaite", "kenward-roger"):
        found = fit.tidy(df_method=method).iloc[-1]
        assert found["df"] == pytest.approx(n - 2, rel=1e-6)
        assert found["std_error"] == pytest.approx(np.sqrt(pooled * 4 / n), rel=1e-6)
