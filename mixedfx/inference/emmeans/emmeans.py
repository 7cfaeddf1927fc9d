"""Estimated marginal means of the fixed part.

A marginal mean is the fixed part of the linear predictor on a reference grid of all combinations
of the factors' levels, with covariates at one value, averaged with equal weights over the
variables other than ``specs`` and ``by``: ``m'beta`` with ``m`` the mean of rows of ``X`` (Searle,
Speed and Milliken 1980). It does not depend on the sizes of the cells in the data.
Definitions and defaults are those of R's emmeans.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mixedfx.errors import check_choice, check_share
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.denominator_df import DenominatorDf
from mixedfx.inference.emmeans.linear_functions import LinearFunctions, linear_functions
from mixedfx.inference.emmeans.marginal_means import EMMeans, estimate_table
from mixedfx.inference.emmeans.means_grid import GridOptions, MeansGrid, means_grid
from mixedfx.inference.emmeans.notes import mean_notes
from mixedfx.inference.emmeans.ordered_means import (
    of_categories,
    ordered_functions,
    ordered_scale,
)
from mixedfx.inference.emmeans.reference_grid import group_slices
from mixedfx.inference.emmeans.scale import LinkScale, scale_of
from mixedfx.inference.emmeans.several_means import several_functions, several_scale

__all__ = ["EMMeans", "emmeans"]


def emmeans(
    fit: FittedModel,
    ddf: DenominatorDf,
    specs: str | Sequence[str],
    *,
    by: str | Sequence[str] | None = None,
    which: str = "linear",
    conf_level: float = 0.95,
    **options: Any,
) -> EMMeans:
    """
    Estimate the marginal means of the levels of some variables; options are of the grid.

    Covariates are at the mean of the rows used, unweighted, before any transformation:
    ``np.log(x)`` is at the logarithm of the mean. As with emmeans' ``cov.keep = 2``, a covariate of
    two values takes both. The mean of an offset is part of the means.

    References
    ----------
    .. [1] Searle, Speed and Milliken (1980), Population marginal means in the linear model,
       Am. Stat. 34:216.
    .. [2] Lenth, emmeans: estimated marginal means, aka least-squares means (R package),
       version 1.8.4.
    """
    check_share("conf_level", conf_level)
    check_choice("which", which, ("linear", "mean", "probabilities"))
    several = which == "mean" and fit.spec.residual.has_several_means
    grid = means_grid(fit, specs, by, GridOptions(**options, all_predictors=several))
    cells = linear_functions(fit, grid.cells)
    if several:
        scale, functions = several_scale(fit), several_functions(fit, cells, grid.cells)
        return average_of_cells(fit, ddf, grid, functions, conf_level=conf_level, scale=scale)
    if not fit.spec.family.ordered:
        linear = scale_of(fit, "linear")
        return average_of_cells(fit, ddf, grid, cells, conf_level=conf_level, scale=linear)
    ordered = ordered_scale(fit, which)
    parts = [
        average_of_cells(fit, ddf, grid, functions, conf_level=conf_level, scale=ordered)
        for functions in ordered_functions(fit, cells, which)
    ]
    return of_categories(fit, parts)


def average_of_cells(
    fit: FittedModel,
    ddf: DenominatorDf,
    grid: MeansGrid,
    cells: LinearFunctions,
    *,
    conf_level: float,
    scale: LinkScale,
) -> EMMeans:
    """Weighted averages of functions on the cells of a grid."""
    averages = cells.average_cells(grid.weights)
    functions = averages.select(grid.shown)
    levels = grid.targets.loc[grid.shown]
    lacking = grid.needed_cells(averages.estimable, cells.estimable)
    return EMMeans(
        table=estimate_table(fit, ddf, functions, levels, conf_level, scale),
        specs=grid.specs,
        by=grid.by,
        averaged_over=grid.averaged_over,
        fixed_at=grid.fixed_at,
        conf_level=float(conf_level),
        method=grid.method,
        notes=mean_notes(fit, ddf, (*grid.by, *grid.specs), grid.nests, lacking, scale.slope_of),
        _fit=fit,
        _ddf=ddf,
        _functions=functions,
        _groups=group_slices(levels[[*grid.by]]),
        _scale=scale,
    )
