"""Estimates of the model of the log residual standard deviation, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.location_scale import LocationScaleEstimate
from mixedfx.inference.prediction import ranef_table
from mixedfx.residuals.model import ResidualParameter


def dispersion_coefficients(fit: FittedModel) -> pd.DataFrame:
    """Coefficients of the log residual standard deviation, and the sd of its random effects."""
    spec = fit.spec.residual
    spec.check_modelled()
    part = fit.residual.predictors.get("dispersion")
    components = [c for c in fit.residual.components if spec.is_log_sd(c.full_name)]
    if part is None:
        return _table(components, log_sds=True)
    table = _table(components, log_sds=False)
    return table.assign(**{str(fit.spec.family.dispersion_param): np.exp(table["estimate"])})


def residual_parameters(fit: FittedModel) -> pd.DataFrame:
    """Parameters of the residual model, or of the family, with standard errors."""
    spec = fit.spec.residual
    components = [c for c in fit.residual.components if spec.is_own(c.full_name)]
    log_sds = spec.linear and all(spec.is_log_sd(c.full_name) for c in components)
    return _table(components, log_sds=log_sds)


def _table(components: Sequence[ResidualParameter], *, log_sds: bool) -> pd.DataFrame:
    columns = {
        "estimate": [c.value for c in components],
        "std_error": [c.std_error for c in components],
    }
    table = pd.DataFrame(columns, index=pd.Index([c.name for c in components], name="term"))
    return table.assign(sd=np.exp(table["estimate"])) if log_sds else table


def dispersion_effects(fit: FittedModel) -> Any:
    """Conditional modes of the random effects of the log residual standard deviation."""
    fit.spec.residual.check_modelled()
    part, estimate = fit.residual.predictors.get("dispersion"), fit.residual
    if part is not None and part.formula.groups:
        found = {g: ranef_table(part, g, cond_sd=True) for g in part.formula.groups}
        return found if len(found) > 1 else next(iter(found.values()))
    if part is not None:
        raise ArgumentError(
            "the dispersion formula has no random term: write dispersion='~ ... + (1 | group)'."
        )
    if not isinstance(estimate, LocationScaleEstimate):
        raise ArgumentError(
            f"{fit.spec.residual.argument} has no random term; add one, such as (1 | group)."
        )
    random, levels = estimate.random, estimate.model.spec.levels
    assert levels is not None
    columns = {"log_sd": random.effects, "cond_sd": random.cond_sd, "ratio": np.exp(random.effects)}
    return pd.DataFrame(columns, index=levels.labels.rename(estimate.random_term.group))
