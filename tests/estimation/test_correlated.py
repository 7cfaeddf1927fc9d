"""What inference reads of correlated residuals, against the dense definition."""

import numpy as np
import pytest
from correlated_fits import CALLS, data_of, effects_matrix, fit_of, residual_matrix

import mixedfx as mfx
from mixedfx.errors import ArgumentError, EngineRefusal

FITS = list(CALLS)


def dense(name):
    """Fit, data, X, R and V of the rows."""
    fit, data = fit_of(name), data_of(name)
    R = residual_matrix(fit, name, data, data)
    return fit, data, fit.model.rows.X, R, R + effects_matrix(fit, data, data)


@pytest.mark.parametrize("name", FITS)
def test_the_criterion_is_that_of_the_reported_covariances(name):
    fit, data, X, _, V = dense(name)
    Q = np.linalg.inv(V)
    beta = np.linalg.solve(X.T @ Q @ X, X.T @ Q @ data["y"])
    e, n_p = data["y"] - X @ beta, len(X) - X.shape[1]
    logs = np.linalg.slogdet(V)[1] + np.linalg.slogdet(X.T @ Q @ X)[1]
    assert fit.deviance == pytest.approx(logs + e @ Q @ e + n_p * np.log(2 * np.pi), abs=1e-6)


@pytest.mark.parametrize("name", FITS)
def test_residual_sd_is_that_of_the_row(name):
    fit, _, _, R, _ = dense(name)
    np.testing.assert_allclose(fit.residual_sd, np.sqrt(np.diag(R)), rtol=1e-12)
    np.testing.assert_allclose(
        fit.residuals("pearson"), fit.resid / np.sqrt(np.diag(R)), rtol=1e-10
    )


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
    for call in (lambda: fit.conf_int(method="profile"), lambda: fit.dispersion):
        with pytest.raises(ArgumentError, match=r"residual='us\(visit \| patient\)'"):
            call()
    for call in (lambda: fit.statsmodels, lambda: fit.sample()):
        with pytest.raises(EngineRefusal, match=r"residual='us\(visit \| patient\)'"):
            call()
    with pytest.raises(ArgumentError, match="independent"):
        mfx.lmer("y ~ x + (1 | item)", data_of("crossed")).residual_cov()
