"""Fixed effects and their standard errors, from the curvature at the estimate."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixedfx.fit import Fit


def coefficients(fit: Fit) -> pd.Series:
    """
    Fixed effects.

    Parameters
    ----------
    fit : Fit
        Any fit.

    Returns
    -------
    pandas.Series
        By column, in the units of the response per unit of the column; NaN for columns that
        were left out.
    """
    values = np.full(len(fit.design.columns), np.nan)
    values[fit.design.kept] = fit.solution.beta
    return pd.Series(values, index=list(fit.design.columns), name="estimate")


def covariance(fit: Fit) -> pd.DataFrame:
    """
    Covariance of the fixed effects, the covariance parameters taken as known.

    Parameters
    ----------
    fit : Fit
        Any fit.

    Returns
    -------
    pandas.DataFrame
        ``sigma**2 (X'V^-1 X)^-1`` as lme4's ``vcov``; NaN for columns that were left out.
    """
    names = list(fit.design.columns)
    full = np.full((len(names), len(names)), np.nan)
    kept = fit.design.kept
    full[np.ix_(kept, kept)] = fit.solution.sigma**2 * fit.solution.unscaled_cov
    return pd.DataFrame(full, index=names, columns=names)


def standard_errors(fit: Fit) -> pd.Series:
    """
    Standard errors of the fixed effects.

    Parameters
    ----------
    fit : Fit
        Any fit.

    Returns
    -------
    pandas.Series
        By column.
    """
    cov = covariance(fit)
    return pd.Series(np.sqrt(np.diag(cov.to_numpy())), index=cov.index, name="std_error")
