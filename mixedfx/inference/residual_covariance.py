"""Covariances of correlated residuals, as tables, and beside them those of the residuals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.residual_kinds import pearson_residuals


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


def correlation_table(fit: FittedModel) -> pd.DataFrame:
    """Fitted and empirical correlation of each two positions, a row each."""
    covariance_tables(fit)  # refuses independent residuals
    products = fit.residual.residual_products(pearson_residuals(fit))
    assert products is not None
    tables = []
    for s, found in enumerate(fit.residual.residual_covariances(fit.solution.sigma)):
        sds = np.sqrt(np.diag(found.cov))
        i, j = np.triu_indices(len(sds), 1)
        n = products.numbers[s][i, j]
        with np.errstate(invalid="ignore", divide="ignore"):
            empirical = np.where(n > 0.0, products.sums[s][i, j] / n, np.nan)
        labels = pd.Index(found.labels, tupleize_cols=False)
        columns = {
            "stratum": found.stratum,
            "first": labels[i],
            "second": labels[j],
            "distance": products.distances[i, j],
            "fitted": found.cov[i, j] / (sds[i] * sds[j]),
            "empirical": empirical,
            "n": n.astype(int),
        }
        tables.append(pd.DataFrame(columns, index=range(len(i))))
    table = pd.concat(tables, ignore_index=True)
    table.attrs["distance"] = products.name
    return table
