"""Intervals for every parameter: Wald's, the profile's or the bootstrap's.

Wald intervals of the fixed effects take their standard errors and a t or normal quantile.
Those of standard deviations are symmetric for their logarithm, those of correlations for
Fisher's z, which keeps both inside what is possible; the information is the deviance's
Hessian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from mixedfx.errors import check_share
from mixedfx.estimation.fitted_model import FittedModel, expect_no_priors, expect_one_variance
from mixedfx.inference.denominator_df import DenominatorDf
from mixedfx.inference.parameters import Parameter, choose, parameters
from mixedfx.inference.wald import t_quantile
from mixedfx.likelihood.pls import solve_pls_at_factors

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# The delta method's step, in unit-free parameters.
_STEP = 1e-5


def wald_intervals(
    fit: FittedModel, how: DenominatorDf, alpha: float, parm: Sequence[str] | str | None = None
) -> pd.DataFrame:
    """
    Intervals from the curvature at the estimate.

    References
    ----------
    .. [1] Pinheiro and Bates (2000), Mixed-Effects Models in S and S-PLUS, section 2.4.3.
    """
    check_share("alpha", alpha)
    chosen = choose(fit, parm)
    if parm is None:
        chosen = tuple(p for p in chosen if p.kind == "fixed")
    f_scale_and_df = ("fixed", "scale")
    covariances = [p for p in chosen if p.kind not in f_scale_and_df]
    if covariances:
        expect_no_priors(fit, f"a Wald interval of {covariances[0].name}")
        expect_one_variance(
            fit, f"a Wald interval of {covariances[0].name}", "take conf_int(method='bootstrap')"
        )
    limits = _of_covariances(fit, alpha) if covariances else {}
    for p in chosen:
        if p.kind == "fixed":
            limits[p.name] = _of_coefficient(fit, how, alpha, p)
        elif p.kind == "scale":
            limits[p.name] = _of_scale(fit, alpha, p)
    rows = [limits[p.name] for p in chosen]
    index = pd.Index([p.name for p in chosen], name="parameter")
    return pd.DataFrame(rows, index=index, columns=[0, 1], dtype=float)


def _of_coefficient(
    fit: FittedModel, how: DenominatorDf, alpha: float, p: Parameter
) -> tuple[float, float]:
    at = np.flatnonzero(fit.design.kept == p.first)
    if not len(at):
        return np.nan, np.nan
    row = np.zeros(fit.crossprod.p)
    row[at[0]] = 1.0
    error = float(np.sqrt(how.cov[at[0], at[0]]))
    half = error * float(t_quantile(1 - alpha / 2, np.array(how.t_df(row))))
    return p.value - half, p.value + half


def _of_scale(fit: FittedModel, alpha: float, p: Parameter) -> tuple[float, float]:
    """Limits of a coefficient of the log residual standard deviation, or of its effects' sd."""
    assert fit.dispersion is not None
    assert p.first is not None
    z, found = float(special.ndtri(1 - alpha / 2)), fit.dispersion
    if p.first < len(found.gamma):
        half = z * float(np.sqrt(found.cov[p.first, p.first]))
        return p.value - half, p.value + half
    assert found.random is not None
    if not p.value > 0.0:
        return np.nan, np.nan
    width = np.exp(z * found.random.sd_error / p.value)
    return p.value / width, p.value * width


def _of_covariances(fit: FittedModel, alpha: float) -> dict[str, tuple[float, float]]:
    """Limits of all standard deviations and correlations."""
    names = [p for p in parameters(fit) if p.kind not in ("fixed", "scale")]
    here = _transformed(names)
    # Given theta, log sigma has the variance 1 / (2 nu); every sd shares it.
    shared = np.array([0.0 if p.kind == "corr" else 1.0 for p in names])
    variance = shared / (2.0 * fit.nu)
    slopes = _slopes(fit, names)
    if slopes.shape[1]:
        inverse = 2.0 * np.linalg.pinv(fit.curvature.hessian, rcond=1e-8, hermitian=True)
        variance = variance + np.einsum("im,mn,in->i", slopes, inverse, slopes)
    half = special.ndtri(1 - alpha / 2) * np.sqrt(variance)
    limits = {}
    for p, centre, width in zip(names, here, half, strict=True):
        back = np.tanh if p.kind == "corr" else np.exp
        inside = np.isfinite(centre)
        ends = (float(back(centre - width)), float(back(centre + width)))
        limits[p.name] = ends if inside else (np.nan, np.nan)
    return limits


def _transformed(names: Sequence[Parameter]) -> Vector:
    """Logarithms of standard deviations, Fisher's z of correlations; infinite on the boundary."""
    values = np.array([p.value for p in names])
    corr = np.array([p.kind == "corr" for p in names])
    with np.errstate(divide="ignore", invalid="ignore"):
        zeta = np.arctanh(np.where(np.abs(values) > 1 - 1e-12, np.sign(values), values))
        logs = np.where(values > 0, np.log(np.abs(values)), -np.inf)
    return np.where(corr, zeta, logs)


def _slopes(fit: FittedModel, names: Sequence[Parameter]) -> Matrix:
    """Derivatives of the transformed parameters by the coordinates of theta, sigma profiled."""
    at, term_scaling = fit.curvature, fit.crossprod.term_scaling

    def moved(x: Vector) -> Vector:
        natural = [f @ m for f, m in zip(term_scaling, at.coordinates.lambdas(x), strict=True)]
        solution = solve_pls_at_factors(fit.crossprod, natural, reml=fit.reml)
        there = parameters(replace(fit, solution=solution))
        return _transformed([p for p in there if p.kind not in ("fixed", "scale")])

    slopes = np.zeros((len(names), len(at.x)))
    for j in range(len(at.x)):
        step = np.zeros(len(at.x))
        step[j] = _STEP * max(1.0, abs(at.x[j]))
        with np.errstate(invalid="ignore"):
            slopes[:, j] = (moved(at.x + step) - moved(at.x - step)) / (2 * step[j])
    return np.where(np.isfinite(slopes), slopes, 0.0)
