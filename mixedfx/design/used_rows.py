"""Rows that are complete for all formulas and arguments of a model, and what is read in them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import EvalEnvironment

from mixedfx._cached import cached_property
from mixedfx.design.columns import check_dates, plain_columns, read_used, used_columns
from mixedfx.design.completeness import complete_cases, evaluated_values, missing_values
from mixedfx.design.evaluation import offset_values
from mixedfx.design.rows import ModelRows
from mixedfx.design.source import own_labels
from mixedfx.design.table import Table, UsedColumns
from mixedfx.design.term_values import evaluate_terms
from mixedfx.design.text_numbers import check_text_numbers
from mixedfx.design.variables import Variable, Variables
from mixedfx.families.family import Family
from mixedfx.formula.terms import Formula

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class UsedRows:
    """The complete rows: variables of both formulas, and the arguments with one value a row."""

    variables: dict[str, Variable]
    residual_variables: dict[str, Variable]
    term_values: dict[str, Any]  # of expressions, by their code
    weights: Vector | None
    offset: Vector | None
    residual_sd: Vector | None
    index: pd.Index
    n_dropped: int
    missing: dict[str, int]  # rows with a missing value, by column, argument or term

    @property
    def prior_weights(self) -> Vector | None:
        """Weights, or inverse squares of the known residual standard deviations."""
        if self.residual_sd is None:
            return self.weights
        with np.errstate(all="ignore"):
            return np.asarray(self.residual_sd**-2.0)

    @cached_property
    def evaluated(self) -> Variables:
        """Variables of the formula with the values of its expressions."""
        return Variables(self.variables, self.term_values)

    def of_part(self, names: Iterable[str]) -> UsedRows:
        """With the variables of another formula, and without the offset."""
        known = self.residual_variables | self.variables
        return replace(self, variables={name: known[name] for name in names}, offset=None)

    def with_offset_of(self, formula: Formula, env: EvalEnvironment) -> UsedRows:
        """Add the formula's offset to that of the argument."""
        if not formula.offset:
            return self
        offset = offset_values(formula.offset, self.evaluated, env, len(self.index))
        return replace(self, offset=offset if self.offset is None else self.offset + offset)

    def model_rows(self, **arrays: Any) -> ModelRows:
        """Rows of the model, with the arrays computed from these."""
        return ModelRows(
            offset=self.offset,
            index=self.index,
            n_dropped=self.n_dropped,
            missing=self.missing,
            variables=Variables(self.variables),
            **arrays,
        )


def used_rows(
    formula: Formula,
    residual: Mapping[str, Formula | None],
    table: Table,
    row_vectors: dict[str, Vector | None],
    env: EvalEnvironment,
    family: Family,
) -> UsedRows:
    """Rows that are complete for a formula, for those of its arguments, and for row vectors."""
    frame, variables = table.frame, used_columns(formula, table, env)
    parts = {name: part for name, part in residual.items() if part is not None}
    read = {name: used_columns(part, table, env, part=name) for name, part in parts.items()}
    of_residual = UsedColumns(table, itertools.chain.from_iterable(read.values()))
    columns = of_residual | variables
    by_name = {name: read_used(name, columns) for name in columns}
    for name, part in {"": formula, **parts}.items():
        found = read.get(name, variables)
        if name != "residual":  # whose columns are positions and subjects
            check_dates(part, found, by_name)
        check_text_numbers(part, found, by_name, frame.index, two_levels=family.takes_trials)
    formulas = [formula, *parts.values()]
    terms = evaluate_terms(formulas, columns, env, len(frame))
    plain = set().union(*(plain_columns(f, columns) for f in formulas))
    masks = {name: column.missing() for name, column in by_name.items() if name in plain}
    missing = missing_values(masks, terms, row_vectors)
    keep = complete_cases(missing)
    index, n_dropped = own_labels(frame.index), 0
    if keep is not None:
        row_vectors = {k: None if v is None else v[keep] for k, v in row_vectors.items()}
        index, n_dropped = index[keep], int(len(frame) - keep.sum())
    used = {name: column.used(keep) for name, column in by_name.items()}
    values = evaluated_values(terms, keep, len(frame))
    return UsedRows(
        {name: used[name] for name in variables},
        {name: used[name] for name in of_residual},
        values,
        **row_vectors,
        index=index,
        n_dropped=n_dropped,
        missing={name: int(mask.sum()) for name, mask in missing.items()},
    )
