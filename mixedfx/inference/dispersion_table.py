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
    if not log_sds:
        return table
    ratios = [np.exp(c.value) if c.scale != "atanh" else np.nan for c in components]
    return table.assign(sd=ratios)


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
    terms = estimate.model.spec.random_terms
    found = {term.group: _effects_of_group(estimate, term.group) for term in terms}
    return found if len(found) > 1 else next(iter(found.values()))


def _effects_of_group(estimate: LocationScaleEstimate, group: str) -> pd.DataFrame:
    """Effects of the levels of one factor, with their conditional standard deviations."""
    random, columns, sds, labels = estimate.random, {}, {}, None
    own = [(t, term) for t, term in enumerate(estimate.model.spec.random_terms)]
    own = [(t, term) for t, term in own if term.group == group]
    for t, term in own:
        labels = term.levels.labels.rename(group)
        effects, cond_sds = random.terms[t].effects, random.cond_sds(t)
        if len(own) == 1 and term.effect_names == ("Intercept",):
            alone = {"log_sd": effects[0], "cond_sd": cond_sds[0], "ratio": np.exp(effects[0])}
            return pd.DataFrame(alone, index=labels)
        for j, name in enumerate(term.effect_names):
            key = name if name not in columns else f"{name} {term.formula_term}"
            columns[key], sds[f"{key}_sd"] = effects[j], cond_sds[j]
    return pd.DataFrame({**columns, **sds}, index=labels)
