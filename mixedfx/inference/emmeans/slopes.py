"""Slopes of the mean along a covariate, emmeans' emtrends, on a grid or averaged over the rows.

The derivative of a row of X by the covariate x is a weighted sum of rows at five equidistant values
of x, exact for polynomials up to the fourth degree,

    x'(v) ~ sum_j w_j x(v + n_j h) / h,    n = -2, ..., 2

with h a small share of the range of x. Near the ends of the range, beyond which a basis of splines
need not be defined, the nodes are shifted to the inside. On the scale of the response, ``m`` the
mean at the linear predictor ``eta``, the slope and its derivative by the coefficients are

    m'(eta) x' beta,    m''(eta) (x' beta) x + m'(eta) x'
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.slim import summary_of_rows
from mixedfx.errors import ArgumentError, check_choice, check_share, did_you_mean
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.denominator_df import DenominatorDf
from mixedfx.inference.emmeans.emmeans import average_of_cells
from mixedfx.inference.emmeans.linear_functions import LinearFunctions, linear_functions
from mixedfx.inference.emmeans.marginal_means import EMMeans, estimate_table
from mixedfx.inference.emmeans.means_grid import GridOptions, grid_variables, means_grid
from mixedfx.inference.emmeans.reference_grid import Variable, fixed_variables, group_slices
from mixedfx.inference.emmeans.row_averages import RowGroups
from mixedfx.inference.emmeans.scale import (
    LinkScale,
    MeanFunction,
    check_mean_of_coefficients,
    mean_function,
)

Vector = npt.NDArray[np.float64]

# Step of the differences, of the range of the covariate.
_STEP = 3e-4
_NODES = np.arange(-2.0, 3.0)


def _first_derivative_weights(nodes: Vector) -> Vector:
    """Weights of values at the nodes in the derivative at zero of their interpolant."""
    powers = np.vander(nodes, increasing=True).T
    return np.asarray(np.linalg.solve(powers, np.eye(len(nodes))[1]))


# By the shift of the nodes, from -2 to 2.
_WEIGHTS = {shift: _first_derivative_weights(_NODES + shift) for shift in range(-2, 3)}


@dataclass(frozen=True)
class SlopeScale(LinkScale):
    """Slopes, of the linear predictor or of the mean; contrasts are differences."""

    columns: ClassVar[tuple[str, ...]] = (
        *("slope", "std_error", "df", "statistic", "p_value"),
        *("conf_low", "conf_high"),
    )

    variable: str
    which: str
    average: bool = False

    @property
    def slope_of(self) -> str:
        """The variable."""
        return self.variable

    @property
    def caption(self) -> str:
        """What the slopes are of."""
        predictor, of = self.response.predictor_name, ""
        if predictor:
            of = f" of the {predictor if self.which == 'linear' else self.response.mean_name}"
        over = ", averaged over the rows" if self.average else ""
        return f"Slopes{of} by {self.variable}{over}."

    def contrasted(self, fit: FittedModel, which: str) -> LinkScale:
        """Refuse another scale: a slope is a derivative on its own."""
        check_choice("which", which, ("linear", "mean"))
        if which != self.which:
            raise ArgumentError(
                f"contrasts(which={which!r}): these slopes are {self.which}; write "
                f"fit.slopes({self.variable!r}, which={which!r}) and compare those."
            )
        return self

    def regridded(self, fit: FittedModel) -> None:
        """They are slopes already."""

    def contrast_remark(self, ratio: str | None) -> str:
        """What contrasts are of."""
        return "Contrasts are differences of slopes."


def slopes(
    fit: FittedModel,
    ddf: DenominatorDf,
    variable: str,
    by: Any,
    *,
    options: GridOptions,
    which: str = "linear",
    conf_level: float = 0.95,
) -> EMMeans:
    """Slopes along a covariate at the levels of some variables, averaged over a grid."""
    scale = _scale(fit, variable, which, average=False)
    grid = means_grid(fit, () if by is None else by, None, options)
    cells = slope_functions(fit, grid.cells, variable)
    if which == "mean":
        cells = on_response(fit, scale.response, linear_functions(fit, grid.cells), cells)
    return average_of_cells(fit, ddf, grid, cells, conf_level=conf_level, scale=scale)


def average_slopes(
    fit: FittedModel,
    ddf: DenominatorDf,
    variable: str,
    groups: RowGroups,
    *,
    which: str = "linear",
    conf_level: float = 0.95,
) -> EMMeans:
    """Slopes along a covariate averaged over rows, in groups."""
    check_share("conf_level", conf_level)
    scale = _scale(fit, variable, which, average=True)
    rows = slope_functions(fit, groups.frame, variable)
    if which == "mean":
        rows = on_response(fit, scale.response, groups.functions(fit), rows)
    functions = groups.average(rows)
    return EMMeans(
        table=estimate_table(fit, ddf, functions, groups.levels, conf_level, scale),
        specs=groups.specs,
        by=groups.by,
        averaged_over=(),
        fixed_at=groups.fixed_at,
        conf_level=float(conf_level),
        method=None,
        notes=() if ddf.remark is None else (ddf.remark,),
        _fit=fit,
        _ddf=ddf,
        _functions=functions,
        _groups=group_slices(groups.levels[[*groups.by]]),
        _scale=scale,
    )


def _scale(fit: FittedModel, variable: str, which: str, *, average: bool) -> SlopeScale:
    """Scale of slopes along a variable, checked."""
    check_choice("which", which, ("linear", "mean"))
    if which == "mean":
        fit.spec.residual.check_one_mean()
    check_covariate(fit, variable)
    return SlopeScale(mean_function(fit), variable, which, average)


def check_covariate(fit: FittedModel, variable: Any, argument: str = "variable") -> Variable:
    """A numeric variable of the fixed part; raise for others."""
    variables = grid_variables(fit)
    if not isinstance(variable, str) or variable not in variables:
        numeric = [name for name, v in variables.items() if v.numeric]
        listed = f"its numeric variables are: {', '.join(numeric)}" if numeric else "it has none"
        hint = did_you_mean(variable, variables) if isinstance(variable, str) else ""
        raise ArgumentError(
            f"{argument}: {variable!r} is in no term of the fixed part; {listed}.{hint}"
        )
    if not variables[variable].numeric:
        raise ArgumentError(
            f"{argument}: '{variable}' is categorical and has no slope; compare its levels with "
            f"fit.emmeans({variable!r}).contrasts(), or fit.comparisons({variable!r})."
        )
    return variables[variable]


@summary_of_rows("variable ranges")
def variable_ranges(fit: FittedModel) -> dict[str, tuple[float, float]]:
    """Least and greatest value of each numeric variable of the fixed part."""
    columns = fit.rows.columns
    names = [name for name, v in fixed_variables(fit).items() if v.numeric]
    return {n: (float(np.min(columns[n])), float(np.max(columns[n]))) for n in names}


def slope_functions(fit: FittedModel, frame: pd.DataFrame, variable: str) -> LinearFunctions:
    """Derivative of the linear predictor by a variable in each row of a frame."""
    x = frame[variable].to_numpy(dtype=float)
    low, high = variable_ranges(fit)[variable]
    low, high = min(low, float(x.min())), max(high, float(x.max()))
    h = _STEP * (high - low) or _STEP * max(abs(high), 1.0)
    room = np.floor((x - low) / h + 1e-6), np.floor((high - x) / h + 1e-6)
    shift = (np.clip(2.0 - room[0], 0.0, 2.0) - np.clip(2.0 - room[1], 0.0, 2.0)).astype(int)
    weights = np.array([_WEIGHTS[s] for s in shift]).T / h
    parts = [
        linear_functions(fit, frame.assign(**{variable: x + (node + shift) * h})) for node in _NODES
    ]
    return LinearFunctions.sum_of(parts, weights)


def on_response(
    fit: FittedModel, mean: MeanFunction, at: LinearFunctions, slope: LinearFunctions
) -> LinearFunctions:
    """Slopes of the mean, linearised at the estimates: the offset makes them exact there."""
    check_mean_of_coefficients(fit)
    beta = fit.solution.beta
    eta, by_x = at.values(beta), slope.values(beta)
    first, second, _ = mean.mean_derivatives(eta)
    rows = (second * by_x)[:, None] * at.rows + first[:, None] * slope.rows
    non_estimable = np.abs(at.non_estimable) + np.abs(slope.non_estimable)
    of_both = replace(slope, non_estimable=non_estimable)
    return of_both.linearised(first * by_x, rows, beta)
