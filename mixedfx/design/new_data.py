"""Columns and levels of new data, built as those of the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.build import Design
from mixedfx.design.columns import used_columns
from mixedfx.design.completeness import select_complete_cases
from mixedfx.design.evaluation import build_matrices, group_values
from mixedfx.design.source import as_frame

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


class NewRows(NamedTuple):
    """Matrices of m new rows; NaN in the rows with a missing value in a variable used."""

    frame: pd.DataFrame
    X: Matrix  # (m, p)
    model_matrices: list[Matrix]  # (m, k) of each random term
    codes: list[Codes]  # (m,) level in each random term: -1 unseen or not asked for, -2 missing


def evaluate_new_data(
    design: Design, data: Any, *, groups: Sequence[str], effects: bool = False
) -> NewRows:
    """
    Build the columns of new data, and look up the levels of the grouping factors asked for.

    Of other random terms the model matrices are zero, or built too with ``effects=True``.
    """
    frame = as_frame(data)
    env, formula, m = design.spec.env, design.formula, len(frame)
    fixed_part = replace(formula, response="1", random=())
    variables, rows = select_complete_cases(used_columns(fixed_part, frame, env), m)
    complete = build_matrices([design.spec.fixed], variables, len(rows))[0]
    X = _fill_incomplete(complete, rows, m)[:, design.kept_columns]
    model_matrices, codes = [], []
    for term, info in zip(design.random_terms, design.spec.random, strict=True):
        term_codes = np.full(m, -1, dtype=np.intp)
        codes.append(term_codes)
        use_levels = term.group in groups
        if not (use_levels or effects):
            model_matrices.append(np.zeros((m, len(term.effect_names))))
            continue
        effects_part = replace(fixed_part, fixed=term.formula_term.effects)
        term_part = replace(fixed_part, fixed="1", random=(term.formula_term,))
        part = term_part if use_levels else effects_part
        variables, rows = select_complete_cases(used_columns(part, frame, env), m)
        complete = np.ones((len(rows), 1))
        if info is not None:
            complete = build_matrices([info], variables, len(rows))[0]
        model_matrices.append(_fill_incomplete(complete, rows, m))
        if use_levels:
            term_codes[:] = -2
            if len(rows):
                factors = term.formula_term.group
                values = [group_values(f, variables, env, len(rows)) for f in factors]
                term_codes[rows] = term.levels.encode(values)
    return NewRows(frame, X, model_matrices, codes)


def _fill_incomplete(matrix: Matrix, rows: Codes, m: int) -> Matrix:
    """Insert rows of NaN between the complete ones, up to m rows."""
    if len(rows) == m:
        return matrix
    filled = np.full((m, matrix.shape[1]), np.nan)
    filled[rows] = matrix
    return filled
