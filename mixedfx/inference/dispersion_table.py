"""Estimated residual standard deviations, by name."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixedfx.errors import ArgumentError
from mixedfx.estimation.dispersion.estimate import DispersionEstimate
from mixedfx.estimation.fitted_model import FittedModel


def table(fit: FittedModel) -> pd.DataFrame:
    """Coefficients of the log residual standard deviation."""
    found = _dispersion(fit)
    estimates, errors = found.gamma, np.sqrt(np.diag(found.cov))
    names = list(found.design.D_names)
    if found.random is not None and found.design.random_term is not None:
        names.append(f"sd({found.design.random_term.group})")
        estimates = np.append(estimates, found.random.sd)
        errors = np.append(errors, found.random.sd_error)
    columns = {"estimate": estimates, "std_error": errors, "sd": np.exp(estimates)}
    return pd.DataFrame(columns, index=pd.Index(names, name="term"))


def effects(fit: FittedModel) -> pd.DataFrame:
    """Random effects of the log residual standard deviation."""
    found = _dispersion(fit)
    if found.random is None or found.design.random_term is None:
        raise ArgumentError(
            f"dispersion='{found.design.formula}' has no random term; add one, such as (1 | group)."
        )
    random_term, v = found.design.random_term, found.random
    columns = {"log_sd": v.effects, "cond_sd": v.cond_sd, "ratio": np.exp(v.effects)}
    return pd.DataFrame(columns, index=random_term.levels.labels.rename(random_term.group))


def _dispersion(fit: FittedModel) -> DispersionEstimate:
    if fit.dispersion is None:
        raise ArgumentError(
            "this fit has one residual standard deviation; fit with dispersion= to let it differ."
        )
    return fit.dispersion
