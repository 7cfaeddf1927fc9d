"""Heritability: share of a term with a relationship matrix in the variance of a record.

    h2 = v_a / (v_1 + v_2 + ... + v_e)        se = sqrt(g' (2 H^-1) g)

with v the variances of the random effects, averaged over the rows where they differ, and of the
residuals; g the derivative by theta, and H the Hessian of the deviance with sigma profiled out,
which the shares do not depend on (delta method; Falconer and Mackay 1996, chapter 10). Of a
generalised model v_e is the variance of an observation on the scale of the linear predictor, as of
the intraclass correlations, and taken as known (Nakagawa and Schielzeth 2010, Biol. Rev. 85:935).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel, check_no_priors
from mixedfx.inference.random_variance import relative_group_variances
from mixedfx.inference.variance_explained import variance_shares
from mixedfx.linalg.differences import jacobian, relative_steps

Vector = npt.NDArray[np.float64]

_STEP = 1e-4


def heritability(fit: FittedModel) -> pd.DataFrame:
    """Estimate and standard error of each grouping factor with a relationship matrix."""
    groups = [t.group for t in fit.spec.random_terms if t.relationship is not None]
    if not groups:
        raise ArgumentError(
            "heritability is the share of a term with a relationship matrix, and this fit has "
            "none: give relmat={'animal': A}. The shares of other groups are fit.icc."
        )
    check_no_priors(fit, "heritability")
    fit.spec.residual.check_one_predictor("heritability", "fit.varcorr has the variances")
    at, crossprod = fit.hessian_at_optimum, fit.crossprod
    residual = variance_shares(fit).residual / fit.solution.sigma**2

    def shares(x: Vector) -> Vector:
        lambdas = crossprod.lambdas(at.scaled.coordinates.lambdas(x))
        variances = relative_group_variances(fit, lambdas)
        total = float(variances.sum()) + residual
        return np.array([variances[group] / total for group in groups])

    estimate, std_error = shares(at.x), np.full(len(groups), np.nan)
    if len(at.x):
        gradient = jacobian(shares, at.x, relative_steps(at.x, _STEP))
        variance = gradient.T @ np.linalg.pinv(0.5 * at.hessian, hermitian=True) @ gradient
        std_error = np.sqrt(np.maximum(np.diag(variance), 0.0))
        std_error[estimate <= 0.0] = np.nan
    index = pd.Index(groups, name="group")
    return pd.DataFrame({"estimate": estimate, "std_error": std_error}, index=index)
