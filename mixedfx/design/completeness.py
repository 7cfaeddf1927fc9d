"""Complete cases: rows without a missing value in any column or term that a formula uses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import EvalEnvironment

from mixedfx.design.categories import Categories, with_categories
from mixedfx.design.columns import as_patsy_column, plain_columns, used_columns
from mixedfx.design.row_dependence import NewVariables
from mixedfx.design.table import Table
from mixedfx.design.term_values import TermValue, evaluate_terms
from mixedfx.design.variables import missing_in
from mixedfx.errors import EmptyDataError
from mixedfx.formula.terms import Formula

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


def missing_values(
    columns: Mapping[str, Mask | None],
    terms: Mapping[str, TermValue],
    row_vectors: Mapping[str, Vector | None],
) -> dict[str, Mask]:
    """Rows with a missing value in each column, argument and term that has any."""
    missing = {name: mask for name, mask in columns.items() if mask is not None}
    missing |= {name: np.isnan(v) for name, v in row_vectors.items() if v is not None}
    missing |= {code: term.missing for code, term in terms.items()}
    return {name: mask for name, mask in missing.items() if mask.any()}


def complete_cases(missing: Mapping[str, Mask]) -> Mask | None:
    """Mark the complete rows; None if all are, an error if none is."""
    if not missing:
        return None
    complete = ~np.logical_or.reduce(list(missing.values()))
    if not complete.any():
        counts = ", ".join(f"{name} ({m.sum()})" for name, m in missing.items())
        raise EmptyDataError(
            f"no row is complete: of {len(complete)} rows, missing values are in {counts}."
        )
    return np.asarray(complete)


def evaluated_values(
    terms: Mapping[str, TermValue], keep: Mask | None, n: int, *, new_data: bool = False
) -> dict[str, object]:
    """Values of the terms, and of the arguments of their transforms, in the complete rows."""
    if not terms:
        return {}
    at = np.arange(n) if keep is None else np.flatnonzero(keep)
    known = {code: value for term in terms.values() for code, value in term.arguments.items()}
    known |= {code: term for code, term in terms.items() if term.value is not None}
    return {code: term.take(code, at, new_data=new_data) for code, term in known.items()}


def select_complete_cases(
    formula: Formula, frame: pd.DataFrame, env: EvalEnvironment, categories: Categories
) -> tuple[NewVariables, Codes]:
    """Variables of the complete ones of new rows, typed for patsy, and the rows' positions."""
    m, columns = len(frame), used_columns(formula, Table(frame), env)
    if not columns:
        return NewVariables({}), np.arange(m)
    terms = evaluate_terms([formula], with_categories(columns, categories), env, m)
    masks = {name: missing_in(columns[name]) for name in plain_columns(formula, columns)}
    complete = np.ones(m, dtype=bool)
    for is_missing in missing_values(masks, terms, {}).values():
        complete &= ~is_missing
    variables = {
        name: as_patsy_column(name, column[complete], new_data=True)
        for name, column in columns.items()
    }
    values = evaluated_values(terms, complete, m, new_data=True)
    known = NewVariables(with_categories(variables, categories), values)
    return known, np.flatnonzero(complete)
