"""Estimates of the model of the log residual standard deviation, by name."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixedfx.errors import ArgumentError
from mixedfx.estimation.dispersion.estimate import DispersionEstimate
from mixedfx.estimation.fitted_model import FittedModel


def dispersion_coefficients(fit: FittedModel) -> pd.DataFrame:
    """Coefficients of the log residual standard deviation, and the sd of its random effects."""
    dispersion = _dispersion(fit)
    estimates, std_errors = dispersion.gamma, np.sqrt(np.diag(dispersion.cov))
    names = list(dispersion.spec.D_names)
    if dispersion.random is not None and dispersion.spec.random_term is not None:
        names.append(f"sd({dispersion.spec.random_term.group})")
        estimates = np.append(estimates, dispersion.random.sd)
        std_errors = np.append(std_errors, dispersion.random.sd_error)
    columns = {"estimate": estimates, "std_error": std_errors, "sd": np.exp(estimates)}
    return pd.DataFrame(columns, index=pd.Index(names, name="term"))


def dispersion_effects(fit: FittedModel) -> pd.DataFrame:
    """Conditional modes of the random effects of the log residual standard deviation."""
    dispersion = _dispersion(fit)
    if dispersion.random is None or dispersion.spec.random_term is None:
        raise ArgumentError(
            f"dispersion='{dispersion.spec.formula}' has no random term; add one, such as "
            "(1 | group)."
        )
    random_term, random = dispersion.spec.random_term, dispersion.random
    columns = {"log_sd": random.effects, "cond_sd": random.cond_sd, "ratio": np.exp(random.effects)}
    return pd.DataFrame(columns, index=random_term.levels.labels.rename(random_term.group))


def _dispersion(fit: FittedModel) -> DispersionEstimate:
    if fit.dispersion is None:
        raise ArgumentError(
            "this fit has one residual standard deviation; fit with dispersion= to let it differ."
        )
    return fit.dispersion
