"""What the distribution of the response adds to the estimates: parameters, scale, deviance."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.slim import summary_of_rows
from mixedfx.estimation.fitted_model import FittedModel

Vector = npt.NDArray[np.float64]


def family_params(fit: FittedModel) -> pd.Series:
    """Parameters of the distribution beside its mean."""
    params = fit.residual.family_params(fit.solution.sigma)
    return pd.Series(params, name="estimate", dtype=float)


def sigma(fit: FittedModel) -> float:
    """Root of the scale; 1 of a family without."""
    scale = fit.residual.scale(fit.solution.sigma)
    return 1.0 if scale is None else math.sqrt(scale)


@summary_of_rows("family deviance")
def family_deviance(fit: FittedModel) -> float:
    """Sum of the unit deviances of the rows, at the conditional modes."""
    fit.spec.residual.check_one_predictor(
        "family_deviance", "fit.deviance is -2 log-likelihood, and fit.compare() compares models"
    )
    return float(unit_deviances(fit, fit.spec.family.mean(linear_predictor(fit))).sum())


def linear_predictor(fit: FittedModel) -> Vector:
    """Linear predictor of the rows at the conditional modes, (n,)."""
    return fit.rows.linear_predictor(fit.solution.beta, fit.solution.conditional_modes())


def unit_deviances(fit: FittedModel, mu: Vector) -> Vector:
    """Unit deviances of the rows times their weights, at ``mu`` (n,)."""
    params = family_params(fit).to_numpy()
    return fit.spec.family.unit_deviance(fit.rows.y, mu, fit.rows.weights, params)
