"""Estimated residual standard deviations, by name."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixedfx.dispersion import Dispersion
from mixedfx.errors import ArgumentError
from mixedfx.fit import Fit


def table(fit: Fit) -> pd.DataFrame:
    """
    Coefficients of the log residual standard deviation.

    Parameters
    ----------
    fit : Fit
        With a dispersion formula.

    Returns
    -------
    pandas.DataFrame
        Indexed by term: ``estimate std_error sd``; last, with a random term, the standard
        deviation of its effects, whose ``sd`` is the ratio of one of them.

    Raises
    ------
    ArgumentError
        If it has none.
    """
    found = _dispersion(fit)
    estimates, errors = found.gamma, np.sqrt(np.diag(found.cov))
    names = list(found.scale.names)
    if found.spread is not None and found.scale.block is not None:
        names.append(f"sd({found.scale.block.group})")
        estimates = np.append(estimates, found.spread.sd)
        errors = np.append(errors, found.spread.sd_error)
    columns = {"estimate": estimates, "std_error": errors, "sd": np.exp(estimates)}
    return pd.DataFrame(columns, index=pd.Index(names, name="term"))


def effects(fit: Fit) -> pd.DataFrame:
    """
    Random effects of the log residual standard deviation.

    Parameters
    ----------
    fit : Fit
        With a random term in its dispersion formula.

    Returns
    -------
    pandas.DataFrame
        Indexed by level: ``log_sd cond_sd ratio``.

    Raises
    ------
    ArgumentError
        If it has none.
    """
    found = _dispersion(fit)
    if found.spread is None or found.scale.block is None:
        raise ArgumentError(
            f"dispersion='{found.scale.formula}' has no random term; add one, such as (1 | group)."
        )
    block, v = found.scale.block, found.spread
    columns = {"log_sd": v.effects, "cond_sd": v.cond_sd, "ratio": np.exp(v.effects)}
    return pd.DataFrame(columns, index=block.levels.labels.rename(block.group))


def _dispersion(fit: Fit) -> Dispersion:
    if fit.dispersion is None:
        raise ArgumentError(
            "this fit has one residual standard deviation; fit with dispersion= to let it differ."
        )
    return fit.dispersion
