"""Covariances of correlated residuals, as tables."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel


def covariance_tables(fit: FittedModel) -> pd.DataFrame | dict[Any, pd.DataFrame]:
    """Covariance of the residuals of a subject, by position; a dict by stratum."""
    tables = {}
    for stratum, position, labels, cov in fit.residual.residual_covariances(fit.solution.sigma):
        index = pd.Index(labels, name=position, tupleize_cols=False)
        tables[stratum] = pd.DataFrame(cov, index=index, columns=index)
    if not tables:
        raise ArgumentError(
            "residuals of this fit are independent: fit.residual_sd has their standard "
            "deviations. residual='us(visit | patient)' of lmer() lets them be correlated."
        )
    return tables.get(None, tables)
