"""Wald intervals of every parameter.

For the fixed effects: ``estimate +- t_{df} std_error``. Standard deviations, ranges and rates are
transformed by the logarithm and correlations by Fisher's ``z = atanh(r)``, which keeps their
limits inside the parameter space (Pinheiro and Bates 2000, section 2.4.3); the variance of a
transformed parameter ``h(theta, sigma)`` is, by the delta method with sigma profiled out,

    [h has sigma] / (2 nu) + (dh/dx)' 2 H^-1 (dh/dx)

with ``H`` the Hessian of the profiled deviance in the coordinates ``x`` of theta. Of a generalised
model it is of the marginal deviance, whose coefficients and family parameters are profiled out,
and a family's parameter is transformed by the logarithm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from mixedfx.errors import check_share
from mixedfx.estimation.fitted_model import FittedModel, check_no_priors
from mixedfx.inference.denominator_df import DenominatorDf
from mixedfx.inference.parameters import Parameter, parameters, select_parameters
from mixedfx.inference.wald import t_quantile
from mixedfx.linalg.differences import jacobian, relative_steps

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Step of the differences of the delta method, in unit-free parameters.
_STEP = 1e-5


_Limits = tuple[float, float]


def wald_intervals(
    fit: FittedModel,
    ddf: DenominatorDf,
    conf_level: float,
    parm: Sequence[str] | str | None = None,
) -> pd.DataFrame:
    """
    Intervals from the information at the estimate, in columns 0 and 1.

    References
    ----------
    .. [1] Pinheiro and Bates (2000), Mixed-Effects Models in S and S-PLUS, section 2.4.3.
    """
    check_share("conf_level", conf_level)
    selected = select_parameters(fit, parm)
    if parm is None:
        selected = tuple(p for p in selected if p.kind == "fixed")
    limits: dict[str, _Limits] = {}
    varcorr = [p for p in selected if _is_varcorr(p)]
    if varcorr:
        interval = f"a Wald interval of {varcorr[0].name}"
        check_no_priors(fit, interval)
        fit.spec.residual.check_covariance_intervals(interval, "take conf_int(method='bootstrap')")
        limits = _varcorr_limits(fit, conf_level)
    for p in selected:
        if p.kind == "fixed":
            limits[p.name] = _coefficient_limits(fit, ddf, conf_level, p)
        elif p.kind == "dispersion":
            limits[p.name] = _residual_limits(fit, conf_level, p)
    rows = [limits[p.name] for p in selected]
    index = pd.Index([p.name for p in selected], name="parameter")
    return pd.DataFrame(rows, index=index, columns=[0, 1], dtype=float)


def _is_varcorr(p: Parameter) -> bool:
    return p.kind not in ("fixed", "dispersion")


def _coefficient_limits(
    fit: FittedModel, ddf: DenominatorDf, conf_level: float, p: Parameter
) -> _Limits:
    """Limits of one fixed effect; NaN for a dropped column."""
    column = np.flatnonzero(fit.spec.kept_columns == p.first)
    if not len(column):
        return np.nan, np.nan
    row = np.zeros(fit.crossprod.p)
    row[column[0]] = 1.0
    std_error = float(np.sqrt(ddf.covariance.variances(row[None])[0]))
    half = std_error * float(t_quantile(0.5 + conf_level / 2, np.array(ddf.t_df(row))))
    return p.value - half, p.value + half


def _residual_limits(fit: FittedModel, conf_level: float, p: Parameter) -> _Limits:
    """Limits of a coefficient of the log residual standard deviation, or of its effects' sd."""
    assert p.first is not None
    component = fit.residual.components[p.first]
    half = float(special.ndtri(0.5 + conf_level / 2)) * component.std_error
    if component.scale == "identity":
        return p.value - half, p.value + half
    if component.scale == "atanh":
        inside = 1.0 - p.value**2
        width = half / inside if inside > 0.0 else np.nan
        return np.tanh(np.arctanh(p.value) - width), np.tanh(np.arctanh(p.value) + width)
    if component.scale == "power":
        share = p.value - 1.0
        width = half / (share * (1.0 - share))
        low, high = special.expit(special.logit(share) + width * np.array([-1.0, 1.0]))
        return 1.0 + float(low), 1.0 + float(high)
    if not p.value > 0.0:
        return np.nan, np.nan
    ratio = np.exp(half / p.value)
    return p.value / ratio, p.value * ratio


def _varcorr_limits(fit: FittedModel, conf_level: float) -> dict[str, _Limits]:
    """Limits of all standard deviations and correlations; NaN on the boundary."""
    params = [p for p in parameters(fit) if _is_varcorr(p)]
    estimates = _transformed(params)
    root, given = _information_roots(fit)
    J, has_sigma = _jacobian_with_residual(fit, params), _has_sigma(params)
    variance = given**2 * has_sigma + ((J @ root) ** 2).sum(axis=1)
    half = special.ndtri(0.5 + conf_level / 2) * np.sqrt(variance)
    limits = {}
    for p, estimate, width in zip(params, estimates, half, strict=True):
        inverse = np.tanh if p.kind == "corr" else np.exp
        interior = np.isfinite(estimate)
        low, high = float(inverse(estimate - width)), float(inverse(estimate + width))
        limits[p.name] = (low, high) if interior else (np.nan, np.nan)
    return limits


def _has_sigma(params: Sequence[Parameter]) -> Vector:
    """One for what is proportional to sigma."""
    return np.array([1.0 if p.kind in ("sd", "sigma") else 0.0 for p in params])


def _information_roots(fit: FittedModel) -> tuple[Matrix, float]:
    """Root of the covariance of theta and of a residual covariance's parameters; sd of log sigma.

    The second is that given all of these, ``1 / (2 nu)``, which every sd inherits.
    """
    H, _ = fit.residual.covariance_curvature(lambda: fit.hessian_at_optimum.hessian)
    if not len(H):
        return np.zeros((0, 0)), float(np.sqrt(0.5 / fit.nu))
    acov = 2.0 * np.linalg.pinv(H, rcond=1e-8, hermitian=True)
    values, vectors = np.linalg.eigh(acov)
    return vectors * np.sqrt(np.maximum(values, 0.0)), float(np.sqrt(0.5 / fit.nu))


def _jacobian_with_residual(fit: FittedModel, params: Sequence[Parameter]) -> Matrix:
    """Derivatives of the transformed parameters by theta and a residual covariance's, (r, m)."""
    # Given theta, sigma is profiled out over the covariance of the residuals, too.
    _, by_residual = fit.residual.covariance_curvature(lambda: np.zeros((0, 0)))
    of_theta = _transformed_jacobian(fit, params)
    return np.hstack([of_theta, np.outer(_has_sigma(params), by_residual)])


def covariance_of_random_parameters(fit: FittedModel) -> pd.DataFrame:
    """Covariance of the reported parameters of random effects and residuals, by the delta method.

    Those of a dispersion formula are refused.
    """
    what = "cov_params_random"
    check_no_priors(fit, what)
    fit.spec.residual.check_covariance_intervals(what, "take the draws of fit.bootstrap()")
    params = [p for p in parameters(fit) if _is_varcorr(p)]
    values = np.array([p.value for p in params])
    is_corr = np.array([p.kind == "corr" for p in params])
    slopes = np.where(is_corr, 1.0 - values**2, values)  # of the inverse transforms
    slopes = np.where(np.isfinite(_transformed(params)), slopes, np.nan)
    root, given = _information_roots(fit)
    J = slopes[:, None] * _jacobian_with_residual(fit, params)
    by_sigma = slopes * _has_sigma(params)
    names = [p.name for p in params]
    R = fit.residual.reported_jacobian()
    if len(R):
        k, m = R.shape[1] - 1, len(root)
        log_sigma = fit.residual.log_sigma_gradient(lambda: np.zeros(m))
        of_residual = np.outer(R[:, 0], log_sigma)
        of_residual[:, m - k :] += R[:, 1:]
        J = np.concatenate([J, of_residual])
        by_sigma = np.concatenate([by_sigma, R[:, 0]])
        names += [c.full_name for c in fit.residual.components]
    half = J @ root
    cov = half @ half.T + given**2 * np.outer(by_sigma, by_sigma)
    return pd.DataFrame(cov, index=names, columns=names)


def _transformed(params: Sequence[Parameter]) -> Vector:
    """Logarithms of standard deviations, Fisher's z of correlations; infinite on the boundary."""
    values = np.array([p.value for p in params])
    is_corr = np.array([p.kind == "corr" for p in params])
    with np.errstate(divide="ignore", invalid="ignore"):
        fisher_z = np.arctanh(np.where(np.abs(values) > 1 - 1e-12, np.sign(values), values))
        logs = np.where(values > 0, np.log(np.abs(values)), -np.inf)
    return np.where(is_corr, fisher_z, logs)


def _transformed_jacobian(fit: FittedModel, params: Sequence[Parameter]) -> Matrix:
    """Derivatives of the transformed parameters by the coordinates of theta, sigma profiled out."""
    at = fit.hessian_at_optimum

    def transformed_at(x: Vector) -> Vector:
        moved = parameters(replace(fit, solution=at.scaled.at(x)))
        return _transformed([p for p in moved if _is_varcorr(p)])

    with np.errstate(invalid="ignore"):
        by_x = jacobian(transformed_at, at.x, relative_steps(at.x, _STEP), order=2)
    by_x = by_x.reshape(len(at.x), len(params))  # all variances may be zero
    return np.ascontiguousarray(np.where(np.isfinite(by_x), by_x, 0.0).T)
