"""Estimates of the model of the log residual standard deviation, by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.location_scale import LocationScaleEstimate
from mixedfx.residuals.model import ResidualParameter


def dispersion_coefficients(fit: FittedModel) -> pd.DataFrame:
    """Coefficients of the log residual standard deviation, and the sd of its random effects."""
    spec = fit.spec.residual
    spec.check_modelled()
    return _table([c for c in fit.residual.components if spec.is_log_sd(c.full_name)], log_sds=True)


def residual_parameters(fit: FittedModel) -> pd.DataFrame:
    """Parameters of the residual model, or of the family, with standard errors."""
    spec, components = fit.spec.residual, fit.residual.components
    log_sds = spec.linear and all(spec.is_log_sd(c.full_name) for c in components)
    return _table(components, log_sds=log_sds)


def _table(components: Sequence[ResidualParameter], *, log_sds: bool) -> pd.DataFrame:
    columns = {
        "estimate": [c.value for c in components],
        "std_error": [c.std_error for c in components],
    }
    table = pd.DataFrame(columns, index=pd.Index([c.name for c in components], name="term"))
    return table.assign(sd=np.exp(table["estimate"])) if log_sds else table


def dispersion_effects(fit: FittedModel) -> pd.DataFrame:
    """Conditional modes of the random effects of the log residual standard deviation."""
    fit.spec.residual.check_modelled()
    estimate = fit.residual
    if not isinstance(estimate, LocationScaleEstimate):
        raise ArgumentError(
            f"{fit.spec.residual.argument} has no random term; add one, such as (1 | group)."
        )
    random, levels = estimate.random, estimate.model.spec.levels
    assert levels is not None
    columns = {"log_sd": random.effects, "cond_sd": random.cond_sd, "ratio": np.exp(random.effects)}
    return pd.DataFrame(columns, index=levels.labels.rename(estimate.random_term.group))
