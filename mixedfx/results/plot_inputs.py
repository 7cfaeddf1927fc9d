"""Quantities that several plots of a fit draw: scaled residuals, standardised effects, levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixedfx._names import decode
from mixedfx.errors import ArgumentError, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.response import response_code
from mixedfx.inference import prediction, varcorr
from mixedfx.inference.residual_kinds import residuals_of_kind
from mixedfx.inference.sampled_rows import with_sampled_rows
from mixedfx.results.tables import fitted_values, influence, residuals


def rows_drawn(fit: FittedModel) -> tuple[FittedModel, str]:
    """The fit with the rows that plots show, and a title: a sample of rows not in memory."""
    drawn = with_sampled_rows(fit)
    n, of = drawn.rows.n, fit.rows.n
    return drawn, f"a random sample of {n:,} of {of:,} rows" if n < of else ""


def titled(axes: Any, title: str) -> Any:
    """Axes with a title above them, if there is one."""
    if title:
        first = np.ravel(axes)[0]
        # A legend of a plot of rows is above its axes, where the title would be.
        first.set_title(title, fontsize="medium", pad=None if first.get_legend() is None else 22)
    return axes


def grouping_factor(fit: FittedModel, group: str | None, *, advice: str = "") -> str:
    """Check a grouping factor; by default the first."""
    groups = fit.formula.groups
    if not groups:
        raise ArgumentError(
            f"'{fit.formula}' has no random terms, so there are no levels to draw: add one, such "
            f"as (1 | group){advice or '; coefficients() and residuals() do without'}."
        )
    if group is None:
        return groups[0]
    check_choice("group", group, groups)
    return group


def scaled_residuals(fit: FittedModel) -> pd.Series:
    """Residuals scaled to a common variance, named by the scale."""
    weights, raw = fit.rows.weights, residuals(fit)
    if weights is None:
        return raw.rename("residual")
    if fit.spec.residual.equal_variances:
        return (raw * np.sqrt(weights)).rename("residual × √weight")
    return (raw / fit.residual_sds).rename("residual / its standard deviation")


def response_name(fit: FittedModel) -> tuple[str, str]:
    """Name of the response, and what its mean is where that has a scale of its own."""
    name, family = decode(response_code(fit.formula.response).parts[0]), fit.spec.family
    return name, family.response_mean_name if family.predictor_name else ""


def quantile_residuals(fit: FittedModel, rng: Any) -> pd.Series:
    """Normal quantiles of the distribution function at the response, given the random effects."""
    values = residuals_of_kind(fit, "quantile", random="fitted", rng=rng)
    return values.rename("quantile residual")


def plotted_residuals(fit: FittedModel, rng: Any) -> pd.Series:
    """Residuals of a common variance: scaled ones of a linear model, else quantile residuals."""
    return scaled_residuals(fit) if fit.spec.residual.linear else quantile_residuals(fit, rng)


def standardised_residuals(fit: FittedModel, rng: Any) -> pd.Series:
    """Residuals of variance one, named."""
    if fit.spec.residual.linear:
        return influence(fit)["std_resid"].rename("standardised residual")
    return quantile_residuals(fit, rng)


def fitted_means(fit: FittedModel) -> pd.Series:
    """Fitted values, named by what they are."""
    family = fit.spec.family
    name = f"fitted {family.response_mean_name}" if family.predictor_name else "fitted"
    return fitted_values(fit).rename(name)


def standardised_effects(fit: FittedModel, group: str) -> dict[str, pd.Series]:
    """Conditional modes over their marginal standard deviation, empty where that is zero."""
    table = prediction.ranef_table(fit, group, cond_sd=True)
    names = [name for name in table if f"{name}_sd" in table]
    variances = np.diag(varcorr.covariance_matrices(fit)[group])
    standardised = {}
    for name, variance in zip(names, variances, strict=True):
        of_modes = variance - table[f"{name}_sd"] ** 2
        # A difference within rounding of zero is no variance.
        of_modes = of_modes.where(of_modes > 1e-10 * variance)
        standardised[str(name)] = (table[name] / np.sqrt(of_modes)).dropna()
    return standardised


def level_of_each_row(fit: FittedModel, group: str) -> Any:
    """Labels of the levels of a group, row by row, (n,)."""
    labels = fit.spec.levels_of(group).labels
    return labels.to_numpy(dtype=object)[fit.rows.codes_of(group)]
