"""Joint tests of the terms of the fixed part by contrasts of marginal means.

For each combination of variables that a term contains, the products of consecutive differences of
their levels (interaction contrasts) are tested together, averaged over the other variables: as R's
``emmeans::joint_tests``. In models of factors that cover their cells these are the tests of type
III; with ``by`` they are made within each of its levels. Covariates are at their mean less and plus
one, so that an interaction is tested at the mean of the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from mixedfx.design.checks import independent_columns
from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.expansion import columns_in, terms_of
from mixedfx.inference import wald
from mixedfx.inference.constraints import Constraints
from mixedfx.inference.denominator_df import DenominatorDf
from mixedfx.inference.emmeans.comparison_method import InteractionComparison
from mixedfx.inference.emmeans.linear_functions import (
    LinearFunctions,
    column_rms,
    linear_functions,
)
from mixedfx.inference.emmeans.means_grid import GridOptions, MeansGrid, grid_variables, means_grid
from mixedfx.inference.emmeans.reference_grid import grid_levels, group_slices, parse_names

_TESTED = ("F", "num_df", "den_df", "p_value")


def joint_test(fit: FittedModel, ddf: DenominatorDf, functions: LinearFunctions) -> pd.Series:
    """F test that functions are zero together, of those that are estimable; NaN without any."""
    rows = functions.estimable_rows()
    rows = rows[independent_columns((rows * column_rms(fit)).T)]
    if not len(rows):
        return pd.Series(np.nan, index=_TESTED)
    return wald.f_test(fit, ddf, Constraints(rows, np.zeros(len(rows)), ("equal",) * len(rows)))


def joint_tests(
    fit: FittedModel, ddf: DenominatorDf, by: Any, at: Mapping[str, Any] | None
) -> pd.DataFrame:
    """Joint test of each term, within each level of ``by``."""
    variables = grid_variables(fit)
    by_names = parse_names("by", by, variables)
    grid_levels(variables, at)  # checked before it is added to
    values = dict(at or {})
    for name, variable in variables.items():
        if variable.at_mean and name not in values and name not in by_names:
            mean = float(variable.levels.iloc[0])
            values[name] = [mean - 1.0, mean + 1.0]
    options = GridOptions(at=values)
    grid = means_grid(fit, [], by_names, options)
    tested = [n for n, levels in grid.levels.items() if len(levels) > 1 and n not in grid.by]
    if not tested:
        raise ArgumentError("there is no variable of several values to test besides those of by=.")
    tables = [
        _test_of(
            fit, ddf, means_grid(fit, *_compared_and_within(term, grid), options), term, grid.by
        )
        for term in _terms(fit, tested)
        if all(set(grid.nests.get(n, ())) - set(grid.by) <= set(term) for n in term)
    ]
    table = pd.concat(tables, ignore_index=True)
    return table[table["num_df"] > 0.0].reset_index(drop=True)


def _terms(fit: FittedModel, names: list[str]) -> Iterable[tuple[str, ...]]:
    """Combinations of variables that some term contains, main effects first."""
    used = [
        {n for factor in term.factors for n in columns_in(factor.name(), fit.spec.variables)}
        for term in terms_of(fit.spec.formula.fixed)
    ]
    for order in range(1, len(names) + 1):
        for term in itertools.combinations(names, order):
            if any(set(term) <= of_term for of_term in used):
                yield term


def _compared_and_within(term: tuple[str, ...], grid: MeansGrid) -> tuple[list[str], list[str]]:
    """Variables that are compared, and those within whose levels they are: nested ones' around."""
    around = {n for name in term for n in grid.nests.get(name, ())}
    within = [*grid.by, *(n for n in term if n in around)]
    return [n for n in term if n not in around], list(dict.fromkeys(within))


def _test_of(
    fit: FittedModel,
    ddf: DenominatorDf,
    grid: MeansGrid,
    term: tuple[str, ...],
    by: tuple[str, ...],
) -> pd.DataFrame:
    """Test of one term within each level of ``by``."""
    means = linear_functions(fit, grid.cells).average_cells(grid.weights).select(grid.shown)
    levels = grid.targets.loc[grid.shown].reset_index(drop=True)
    comparison = InteractionComparison(tuple((name, "consec") for name in grid.specs))
    tests = []
    for family in group_slices(levels[list(by)]):
        parts = []
        for group in group_slices(levels.iloc[family][[*grid.by]]):
            own = levels.iloc[family].iloc[group]
            if all(len(own[name].unique()) > 1 for name in grid.specs):
                _, C = comparison.coefficients(own[[*grid.specs]], [""] * len(own))
                padded = np.zeros((len(C), family.stop - family.start))
                padded[:, group] = C
                parts.append(padded)
        if parts:
            contrasts = means.select(family).combine(np.concatenate(parts))
            test = joint_test(fit, ddf, contrasts).to_frame().T
            test.insert(0, "term", ":".join(term))
            for position, name in enumerate(by):
                test.insert(1 + position, name, [levels[name].iloc[family.start]])
            tests.append(test)
    columns = ["term", *by, "num_df", "den_df", "F", "p_value"]
    return pd.concat(tests, ignore_index=True)[columns] if tests else pd.DataFrame(columns=columns)
