"""Grid of the cells whose averages are marginal means, and the weights of the cells in them.

The grid has all combinations of the variables' values. A mean is over the cells of the variables
that are neither shown nor grouped by: with equal weights, or with weights from the counts ``n`` of
the rows in the cells, as emmeans has them,

    proportional    w(c) = n(., c), the same in every mean
    outer           w(c) = the product of the margins of n(., c)
    cells           w(m, c) = n(m, c), the average of the rows' own cells
    flat            w(m, c) = 1 where n(m, c) > 0
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._arrays import set_readonly
from mixedfx.design.slim import summary_of_rows
from mixedfx.errors import ArgumentError, brief, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.emmeans.means_formula import means_request
from mixedfx.inference.emmeans.nesting import (
    Nesting,
    cell_weights,
    factor_nesting,
    has_levels,
    observed_levels,
    occurring,
    shown_names,
)
from mixedfx.inference.emmeans.reference_grid import (
    Variable,
    fixed_variables,
    grid_levels,
    reference_grid,
    with_offset_variables,
)

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

Weights = Literal["equal", "proportional", "outer", "cells", "flat"]
WEIGHTS: tuple[Weights, ...] = get_args(Weights)


@dataclass(frozen=True)
class GridOptions:
    """What a grid has beside the variables shown."""

    at: Mapping[str, Any] | None = None
    nesting: str | Mapping[str, Any] | None = "auto"
    weights: Weights = "equal"
    cov_reduce: Any = "mean"
    argument: str = "specs"  # that names the variables shown
    all_predictors: bool = False  # whether variables are of all linear predictors


@dataclass(frozen=True)
class MeansGrid:
    """Cells of all means, those of a mean consecutive, and their weights."""

    specs: tuple[str, ...]
    by: tuple[str, ...]
    others: tuple[str, ...]
    levels: Mapping[str, pd.Series]
    nests: Nesting
    method: Any  # how a formula says that the means are compared, or None
    cells: pd.DataFrame
    weights: Matrix  # (means, cells of each)
    shown: Mask  # (means,) whether their levels occur together

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.weights, self.shown)

    @property
    def targets(self) -> pd.DataFrame:
        """Levels of each mean."""
        return self.cells.iloc[:: self.weights.shape[1]][[*self.by, *self.specs]]

    @property
    def averaged_over(self) -> tuple[str, ...]:
        """Variables of several values that are averaged over."""
        return tuple(n for n in self.others if len(self.levels[n]) > 1)

    @property
    def fixed_at(self) -> dict[str, Any]:
        """The one value of each other variable."""
        return {n: self.levels[n].iloc[0] for n in self.others if len(self.levels[n]) == 1}

    def needed_cells(self, estimable_means: Mask, estimable_cells: Mask) -> pd.DataFrame:
        """Cells for want of which means shown are not estimable."""
        wanting = (self.shown & ~estimable_means)[:, None] & (self.weights > 0.0)
        return self.cells.loc[wanting.ravel() & ~estimable_cells]


def grid_variables(fit: FittedModel) -> dict[str, Variable]:
    """Variables of the fixed part; raise if there is none."""
    if not fit.crossprod.p:
        raise ArgumentError(f"'{fit.formula}' has no fixed effects, and so no means.")
    return fixed_variables(fit)


def _variables_of_all(fit: FittedModel) -> dict[str, Variable]:
    """Variables of the fixed parts of all linear predictors."""
    variables = dict(grid_variables(fit))
    for part in fit.residual.predictors.values():
        variables = {**fixed_variables(part), **variables}
    return variables


def means_grid(fit: FittedModel, specs: Any, by: Any, options: GridOptions) -> MeansGrid:
    """Grid of the means of the levels of ``specs`` within those of ``by``."""
    check_choice("weights", options.weights, WEIGHTS)
    variables = _variables_of_all(fit) if options.all_predictors else grid_variables(fit)
    variables = with_offset_variables(fit, variables, options.at)
    request = means_request(specs, by, variables, argument=options.argument)
    levels = grid_levels(variables, options.at)
    levels |= reduced_levels(fit, variables, options)
    nests = factor_nesting(fit, options.nesting, levels)
    spec_names, by_names = shown_names(request.specs, request.by, nests)
    others = tuple(n for n in variables if n not in spec_names + by_names)
    # The last variable varies fastest: cells to be averaged are consecutive.
    cells = reference_grid(levels, [*reversed(by_names), *reversed(spec_names), *others])
    n_cells = math.prod(len(levels[name]) for name in others)
    weights = cell_weights(fit, cells, others, nests, n_cells)
    if options.weights != "equal" and n_cells > 1:
        counts = _cell_counts(fit, cells, levels)
        sizes = [len(levels[name]) for name in others]
        possible = counts.reshape(-1, n_cells), weights > 0.0
        weights = _counted_weights(options.weights, *possible, sizes)
    targets = cells.iloc[::n_cells]
    shown = [occurring(fit, targets, [n, *nests[n]]) for n in spec_names + by_names if n in nests]
    return MeansGrid(
        specs=spec_names,
        by=by_names,
        others=others,
        levels=levels,
        nests=nests,
        method=request.method,
        cells=cells,
        weights=weights,
        shown=np.logical_and.reduce([np.ones(len(targets), dtype=bool), *shown]),
    )


# ---------------------------------------------------------------- values of covariates

_REDUCTIONS = {
    "mean": None,  # the default levels
    "median": np.median,
    "range": lambda x: [np.min(x), np.max(x)],
}


def reduced_levels(
    fit: FittedModel, variables: Mapping[str, Variable], options: GridOptions
) -> dict[str, pd.Series]:
    """Values of covariates by functions of their values in the rows, those of ``at`` left out."""
    given = options.cov_reduce
    if isinstance(given, str) and given == "mean":
        return {}
    covariates = [n for n, v in variables.items() if v.numeric and n not in (options.at or {})]
    if isinstance(given, Mapping):
        for name in given:
            check_choice("cov_reduce", name, covariates)
        named = dict(given)
    else:
        named = {n: given for n in covariates if variables[n].at_mean}
    levels = {}
    for name, how in named.items():
        function = _reduction(how)
        if function is not None:
            reduced = _reduced(function, _values(fit, name))
            levels[name] = pd.Series(np.unique(reduced))
            if reduced.ndim != 1 or not len(reduced) or not np.isfinite(reduced).all():
                raise ArgumentError(f"cov_reduce gives no finite values of '{name}': {reduced}.")
    return levels


def _reduced(function: Any, values: Vector) -> Vector:
    """Values of the grid by a function, which may be the caller's."""
    try:
        return np.atleast_1d(np.asarray(function(values), dtype=float))
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"cov_reduce={brief(function)} gives no numbers of the covariate's values: {error}"
        ) from error


def _reduction(how: Any) -> Any:
    """Function from a covariate's values to those of the grid; None for their mean."""
    if how is False:
        return np.unique
    if callable(how):
        return how
    if not isinstance(how, str) or how not in _REDUCTIONS:
        raise ArgumentError(
            f"cov_reduce={how!r} must be 'mean', 'median', 'range', a function of the values, "
            "False for all distinct ones, or a mapping from covariates to these."
        )
    return _REDUCTIONS[how]


def _values(fit: FittedModel, name: str) -> Vector:
    values = np.asarray(fit.rows.columns[name], dtype=float)
    counts = fit.rows.counts
    return values if counts is None else np.repeat(values, counts.astype(int))


# ---------------------------------------------------------------- weights of cells


@summary_of_rows("cell counts")
def observed_counts(fit: FittedModel) -> pd.Series:
    """Rows of each combination of levels in :func:`~.nesting.observed_levels`."""
    observed = observed_levels(fit)
    names = list(map(str, observed))
    n = fit.rows.counts
    if not names:
        return pd.Series([float(fit.rows.n if n is None else n.sum())])
    columns = pd.DataFrame({name: np.asarray(fit.rows.columns[name]) for name in names})
    columns["n"] = 1.0 if n is None else n
    total = columns.groupby(names, observed=True)["n"].sum()
    keys = list(pd.DataFrame({n: np.asarray(observed[n]) for n in names}).itertuples(index=False))
    found = [total.loc[tuple(key) if len(names) > 1 else key[0]] for key in keys]
    return pd.Series(found, dtype=float)


def _cell_counts(fit: FittedModel, cells: pd.DataFrame, levels: Mapping[str, pd.Series]) -> Vector:
    """
    Rows of the fit in each cell, (cells,).

    As in emmeans, of the factors and covariates of two values alone; other covariates do not
    tell cells apart.
    """
    observed, counts = observed_levels(fit), observed_counts(fit).to_numpy()
    several = [n for n, v in levels.items() if n in observed and len(v) > 1]
    names = [n for n in several if has_levels(observed[n], levels[n])]
    if not names:
        return np.ones(len(cells))
    table = pd.DataFrame({n: np.asarray(observed[n]) for n in names}).assign(n=counts)
    total = table.groupby(names, observed=True, sort=False)["n"].sum().to_dict()
    keys = pd.DataFrame({n: np.asarray(cells[n]) for n in names}).itertuples(index=False, name=None)
    one = len(names) == 1
    return np.array([total.get(key[0] if one else key, 0.0) for key in keys])


def _counted_weights(
    weights: Weights, counts: Matrix, occurs: Mask, sizes: Sequence[int]
) -> Matrix:
    """Weights of the cells in each mean from counts, (means, cells); NaN for means of none."""
    if weights == "flat":
        counts = (counts > 0.0).astype(float)
    elif weights != "cells":
        margin = counts.sum(axis=0)
        if weights == "outer":
            table = margin.reshape(sizes)
            axes = range(table.ndim)
            factors = [table.sum(axis=tuple(a for a in axes if a != d)) for d in axes]
            margin = np.asarray(_outer(factors)).ravel()
        counts = np.tile(margin, (len(counts), 1))
    counts = counts * occurs
    total = counts.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.asarray(counts / total)


def _outer(factors: Sequence[Vector]) -> Any:
    product: Any = factors[0]
    for factor in factors[1:]:
        product = np.multiply.outer(product, factor)
    return product
