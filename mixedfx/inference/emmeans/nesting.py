"""Factors nested in others: averages over, and comparisons of, the combinations that occur.

A level of a nested factor belongs to one combination of the factors around it, so the full grid has
cells that cannot occur. A mean over a nested factor is over its levels within each combination of
those around it, with equal weights, and these are then averaged as other factors are. Detected, as
in R's emmeans, where each level of a factor occurs with a single level of another, and where a
factor has no main effect: ``b`` in ``a + a:b``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.cells import factor_label, nested_pairs
from mixedfx.design.slim import summary_of_rows
from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.expansion import terms_of
from mixedfx.inference.emmeans.reference_grid import fixed_variables, parse_names

Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Nesting = dict[str, tuple[str, ...]]  # from a factor to those around it


def factor_nesting(fit: FittedModel, given: Any, levels: Mapping[str, pd.Series]) -> Nesting:
    """Factors nested in others: those detected, or those that the user names."""
    if given is None:
        return {}
    if isinstance(given, str) and given == "auto":
        return _closed(_detected(fit, levels))
    if isinstance(given, str):
        given = dict(_parsed(part) for part in given.split(","))
    if not isinstance(given, Mapping):
        raise ArgumentError(f"nesting={given!r} must be as 'var %in% fam' or {{'var': 'fam'}}.")
    names = {inner: parse_names("nesting", [inner], levels) for inner in given}
    return _closed(
        {names[inner][0]: parse_names("nesting", around, levels) for inner, around in given.items()}
    )


def _parsed(text: str) -> tuple[str, list[str]]:
    """Read ``var %in% fam``; several factors around it are written ``a*b``."""
    parts = [part.strip() for part in text.split("%in%")]
    if len(parts) != 2 or not all(parts):
        raise ArgumentError(f"nesting: {text.strip()!r} cannot be read; write 'var %in% fam'.")
    return parts[0], [name.strip() for name in re.split(r"[*:+]", parts[1])]


def _closed(nesting: Nesting) -> Nesting:
    """Add what the factors around are nested in; drop factors that would be within themselves."""
    closed = {
        inner: tuple(dict.fromkeys([*(n for a in around for n in nesting.get(a, ())), *around]))
        for inner, around in nesting.items()
    }
    return {inner: around for inner, around in closed.items() if inner not in around}


def _detected(fit: FittedModel, levels: Mapping[str, pd.Series]) -> Nesting:
    """Nesting in the rows of the fit, and of factors without a main effect."""
    observed = observed_levels(fit)
    candidates = [n for n in levels if len(levels[n]) > 1 and n in observed]
    names = [n for n in candidates if has_levels(observed[n], levels[n])]
    on_grid = np.ones(len(observed), dtype=bool)
    for n in names:
        on_grid &= np.isin(np.asarray(observed[n]), np.asarray(levels[n]))
    nesting = nested_pairs({n: observed[n][on_grid] for n in names})
    for inner, around in _without_main_effect(fit).items():
        if inner in names and set(around) <= set(names):
            nesting[inner] = tuple(dict.fromkeys([*nesting.get(inner, ()), *around]))
    return nesting


@summary_of_rows("observed levels")
def observed_levels(fit: FittedModel) -> pd.DataFrame:
    """Combinations that occur of the fixed part's factors, and of variables with few values."""
    names = [name for name, v in fixed_variables(fit).items() if len(v.levels) > 1]
    columns = {name: fit.rows.columns[name] for name in names}
    return pd.DataFrame(columns).drop_duplicates(ignore_index=True)


def has_levels(column: pd.Series, levels: pd.Series) -> bool:
    """Whether the values on the grid are among those of the data."""
    return bool(np.isin(np.asarray(levels), np.asarray(column)).all())


def _without_main_effect(fit: FittedModel) -> dict[str, tuple[str, ...]]:
    """
    Factors without a main effect, and those that their interactions have no margin without.

    In ``a + a:b`` the margin ``b`` of ``a:b`` is absent: ``b`` is nested in ``a``.
    """
    label = {
        f.name(): factor_label(f.name(), fit.spec.variables)
        for f in fit.spec.fixed_info.factor_infos
    }
    terms = [
        frozenset(label[f.name()] for f in t.factors) for t in terms_of(fit.spec.formula.fixed)
    ]
    found: dict[str, tuple[str, ...]] = {}
    for name in dict.fromkeys(label.values()):
        if frozenset([name]) in terms:
            continue
        around = [
            {other for other in term - {name} if term - {other} not in terms}
            for term in terms
            if name in term and term - {name} in terms
        ]
        smallest = [s for s in around if s and not any(other < s for other in around if other)]
        if smallest:
            found[name] = tuple(sorted(set().union(*smallest)))
    return found


def shown_names(
    specs: Sequence[str], by: Sequence[str], nesting: Nesting
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the means and of their groups, with the factors around nested ones."""
    by = tuple(dict.fromkeys([*(n for name in by for n in nesting.get(name, ())), *by]))
    nested = [name for name in specs if name in nesting]
    around = [n for name in nested for n in nesting[name]]
    specs = tuple(n for n in dict.fromkeys([*nested, *around, *specs]) if n not in by)
    return specs, by


def occurring(fit: FittedModel, grid: pd.DataFrame, names: Iterable[str]) -> Mask:
    """Whether the rows of the fit have a combination of variables, for each row of a grid."""
    names = list(names)
    observed = observed_levels(fit)
    source = observed if set(names) <= set(observed) else fit.rows.columns
    data = pd.DataFrame({n: np.asarray(source[n]) for n in names}).drop_duplicates()
    seen = set(data.itertuples(index=False, name=None))
    cells = pd.DataFrame({n: np.asarray(grid[n]) for n in names})
    return np.array([cell in seen for cell in cells.itertuples(index=False, name=None)], dtype=bool)


def cell_weights(
    fit: FittedModel, grid: pd.DataFrame, others: Sequence[str], nesting: Nesting, n_cells: int
) -> Matrix:
    """Weights of each ``n_cells`` consecutive cells of a grid in their mean, (means, n_cells)."""
    weights = np.ones(len(grid))
    for name in others:
        if name not in nesting:
            continue
        around = list(nesting[name])
        occurs = occurring(fit, grid, [name, *around])
        levels = grid[[name, *around]].astype(object)[occurs].drop_duplicates()
        counts = levels.groupby(around, sort=False)[name].size().to_dict()
        keys = [key if len(around) > 1 else key[0] for key in _rows(grid, around)]
        weights *= occurs / np.array([max(counts.get(key, 1), 1) for key in keys])
    by_mean = weights.reshape(-1, n_cells)
    total = by_mean.sum(axis=1, keepdims=True)
    return np.asarray(by_mean / np.where(total > 0.0, total, 1.0))


def _rows(grid: pd.DataFrame, names: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    return grid[list(names)].astype(object).itertuples(index=False, name=None)
