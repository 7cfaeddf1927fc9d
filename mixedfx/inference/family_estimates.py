"""What the distribution of the response adds to the estimates: parameters, scale, deviance."""

from __future__ import annotations

import math

import pandas as pd

from mixedfx.design.slim import summary_of_rows
from mixedfx.estimation.fitted_model import FittedModel


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
    rows, family = fit.rows, fit.spec.family
    eta = rows.linear_predictor(fit.solution.beta, fit.solution.conditional_modes())
    params = family_params(fit).to_numpy()
    return float(family.unit_deviance(rows.y, family.mean(eta), rows.weights, params).sum())
