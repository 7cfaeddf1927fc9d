"""A fit to its reference grid, and the grid to combinations of the fixed columns.

A mean in a balanced population is made of rows that need not be in the data: all combinations
of the factors' levels, with the covariates at one value. Here a fit gives the variables that
its fixed part reads and what each takes, these give the grid, and the grid gives a row over the
columns of ``X`` for each of its own. Columns that were left out of the fit are built, too: a
combination is estimable where they depend on the kept ones as they do in the data.

Nothing here knows what is averaged or compared, nor standard errors.
"""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import linalg

from mixedfx._arrays import set_readonly
from mixedfx.design.build import fixed_matrix
from mixedfx.design.new_data import evaluate_new_data
from mixedfx.errors import ArgumentError, did_you_mean
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.expansion import names_in, terms_of

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Numbers of so few different values are codes for levels, as emmeans takes them (`cov.keep`).
_FEW_VALUES = 2
# A grid beyond this is a mistake, or an average that at= should narrow.
_MOST_ROWS = 100_000
# What is left of a sum whose parts cancel, relative to the parts: rounding of a coefficient,
# and of a solution of least squares.
_ROUNDING, _DEPENDENT = 1e-13, 1e-8


# ------------------------------------------------------------------ what the grid takes


@dataclass(frozen=True)
class Variable:
    """
    A column of the data that the fixed part reads.

    Parameters
    ----------
    levels : pandas.Series
        What the grid takes by itself: all levels, or the mean.
    numeric : bool
        Whether it may take other numbers, too.
    """

    levels: pd.Series
    numeric: bool


def variables(fit: FittedModel) -> dict[str, Variable]:
    """List the variables that the fixed part reads."""
    read, learned = fit.design.variables, fit.design.spec.fixed.factor_infos
    levels_inside: dict[str, int] = {}  # of factors made of one variable, such as C(year)
    names: dict[str, None] = {}
    for term in terms_of(fit.design.formula.fixed):
        for factor in term.factors:
            inside = sorted(names_in(factor.name()) & set(read))
            names.update(dict.fromkeys(inside))
            if len(inside) == 1 and learned[factor].type == "categorical":
                most = levels_inside.get(inside[0], 0)
                levels_inside[inside[0]] = max(most, len(learned[factor].categories))
    return {name: _variable(read[name], levels_inside.get(name)) for name in names}


def _variable(column: pd.Series, levels_inside: int | None) -> Variable:
    categorical = isinstance(column.dtype, pd.CategoricalDtype)
    values = np.asarray(column.cat.codes if categorical else column)
    different, first = np.unique(values, return_index=True)
    # C(year) has a level for each year, (x > 3) does not for each x, which is then a covariate.
    if categorical or values.dtype.kind == "b" or levels_inside == len(different):
        return Variable(column.iloc[first].reset_index(drop=True), numeric=False)
    few = len(different) <= _FEW_VALUES
    return Variable(pd.Series(different if few else [values.mean()], dtype=float), numeric=True)


def read_names(argument: str, asked: Any, known: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the names of variables that a user wrote."""
    if asked is None or (isinstance(asked, str | int) and str(asked) == "1"):
        return ()
    names = [asked] if isinstance(asked, str) or not isinstance(asked, Iterable) else list(asked)
    for name in names:
        _check_known(argument, name, known)
    return tuple(dict.fromkeys(names))


def _check_known(argument: str, name: Any, known: Mapping[str, Any]) -> None:
    if isinstance(name, str) and name in known:
        return
    listed = f"its variables are: {', '.join(known)}" if known else "it has no variables"
    hint = did_you_mean(name, known) if isinstance(name, str) else ""
    raise ArgumentError(f"{argument}: {name!r} is in no term of the fixed part; {listed}.{hint}")


def read_levels(known: Mapping[str, Variable], at: Any) -> dict[str, pd.Series]:
    """Find what each variable takes on the grid."""
    if not isinstance(at, Mapping | None):
        raise ArgumentError(f"at={at!r} must map variables to values, as {{'x': [0, 1]}}.")
    for name in at or {}:
        _check_known("at", name, known)
    return {
        name: variable.levels if not at or name not in at else _asked(name, variable, at[name])
        for name, variable in known.items()
    }


def _asked(name: str, variable: Variable, value: Any) -> pd.Series:
    """Read the values of one variable in ``at``."""
    single = isinstance(value, str) or not isinstance(value, Iterable)
    values = [value] if single else list(value)
    if not values:
        raise ArgumentError(f"at: '{name}' has no values; give at least one.")
    if variable.numeric:
        for v in values:
            if not _is_real(v) or not math.isfinite(v):
                raise ArgumentError(f"at: '{name}' is a number in the fit, not {v!r}.")
        found = pd.Series(values, dtype=float)
    else:
        levels = variable.levels.tolist()
        for v in values:
            if v not in levels:
                listed = ", ".join(map(repr, levels[:12])) + (", ..." if len(levels) > 12 else "")
                hint = did_you_mean(v, map(str, levels)) if isinstance(v, str) else ""
                raise ArgumentError(f"at: '{name}' has no level {v!r}; it has {listed}.{hint}")
        found = variable.levels.iloc[[levels.index(v) for v in values]].reset_index(drop=True)
    if found.duplicated().any():
        raise ArgumentError(f"at: '{name}' repeats a value; give each once.")
    return found


def reference_grid(levels: Mapping[str, pd.Series], order: Sequence[str]) -> pd.DataFrame:
    """Make all combinations of the variables' values."""
    sizes = [len(levels[name]) for name in order]
    count = math.prod(sizes)
    if count > _MOST_ROWS:
        shown = ", ".join(f"{name} ({size})" for name, size in zip(order, sizes, strict=True))
        raise ArgumentError(
            f"the grid has {count:,} combinations of {shown}, more than {_MOST_ROWS:,}: narrow it "
            "with at=."
        )
    picked = np.array(list(itertools.product(*map(range, sizes)))).reshape(count, len(order))
    columns = {
        name: levels[name].iloc[picked[:, j]].reset_index(drop=True) for j, name in enumerate(order)
    }
    return pd.DataFrame(columns, index=range(count))


def level_text(value: Any) -> str:
    """Write a level, or a number without digits that do not matter."""
    return f"{float(value):.7g}" if _is_real(value) else str(value)


def _is_real(value: Any) -> bool:
    """Tell numbers from truth values and from everything else."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)


# ------------------------------------------------------------------ combinations of the columns


@dataclass(frozen=True)
class Combinations:
    """
    Combinations of the fixed effects.

    Parameters
    ----------
    rows : ndarray of shape (r, p)
        Over the columns of ``X``.
    outside : ndarray of shape (r, d)
        Of each column left out, what the row has beyond what the kept ones imply: zero where
        the combination is estimable.
    shift : ndarray of shape (r,)
        What the offset adds.
    """

    rows: Matrix
    outside: Matrix
    shift: Vector

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())

    @property
    def estimable(self) -> npt.NDArray[np.bool_]:
        """Whether the data determine each."""
        return np.asarray(~self.outside.any(axis=1))

    def part(self, chosen: slice) -> Combinations:
        """Take some of them."""
        return Combinations(self.rows[chosen], self.outside[chosen], self.shift[chosen])

    def weighted(self, weights: Matrix) -> Combinations:
        """Combine them further."""
        size = np.abs(weights)
        return Combinations(
            _cleaned(weights @ self.rows, size @ np.abs(self.rows), _ROUNDING),
            _cleaned(weights @ self.outside, size @ np.abs(self.outside), _DEPENDENT),
            _cleaned(weights @ self.shift, size @ np.abs(self.shift), _ROUNDING),
        )

    def averaged(self, count: int) -> Combinations:
        """Average neighbours, each with the same weight."""

        def mean(values: Matrix, share: float) -> Matrix:
            cells = values.reshape(len(values) // count, count, values.shape[1])
            return _cleaned(cells.mean(axis=1), np.abs(cells).mean(axis=1), share)

        return Combinations(
            mean(self.rows, _ROUNDING), mean(self.outside, _DEPENDENT), self.shift[::count].copy()
        )

    def estimable_part(self) -> Matrix:
        """Find what the data determine of these together."""
        if self.estimable.all():
            return self.rows
        return np.asarray(self.weighted(linalg.null_space(self.outside.T).T).rows)


def _cleaned(values: Matrix, size: Matrix, share: float) -> Matrix:
    """Put zeros where parts of some size cancel but for rounding."""
    return np.where(np.abs(values) <= share * size, 0.0, values)


def combinations_on(fit: FittedModel, grid: pd.DataFrame) -> Combinations:
    """Build the fixed columns on a grid, and what they have beyond what the data tell."""
    design = fit.design
    # Of new rows a design builds the columns that it kept; here those left out are needed, too.
    everything = replace(design, kept_columns=np.arange(len(design.column_names)))
    X = np.asarray(evaluate_new_data(everything, grid, groups=())[1])
    if not np.isfinite(X).all():
        row, column = np.argwhere(~np.isfinite(X))[0]
        where = ", ".join(f"{name} = {level_text(grid[name].iloc[row])}" for name in grid.columns)
        raise ArgumentError(
            f"fixed column '{design.column_names[column]}' is not finite at {where}: choose other "
            "values with at=."
        )
    kept = X[:, design.kept_columns]
    left_out = np.setdiff1d(np.arange(X.shape[1]), design.kept_columns)
    outside = np.zeros((len(X), 0))
    if len(left_out):
        size = np.sqrt(np.square(design.X).mean(axis=0))
        wanted = fixed_matrix(design)[:, left_out]
        unit = np.sqrt(np.square(wanted).mean(axis=0))
        unit[unit == 0.0] = 1.0  # a column of a cell without rows
        aliases = np.linalg.lstsq(design.X / size, wanted / unit, rcond=None)[0]
        aliases[np.abs(aliases) < _DEPENDENT] = 0.0  # rounding, of what has no part in it
        aliases *= unit / size[:, None]
        parts = np.abs(X[:, left_out]) + np.abs(kept) @ np.abs(aliases)
        outside = _cleaned(X[:, left_out] - kept @ aliases, parts, _DEPENDENT)
    offset = 0.0 if design.offset is None else float(design.offset.mean())
    return Combinations(kept, outside, np.full(len(X), offset))
