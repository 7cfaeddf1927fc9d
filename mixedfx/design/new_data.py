"""Columns and levels of new data, built as those of the fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import EvalEnvironment

from mixedfx.design import positions as effect_positions
from mixedfx.design.completeness import select_complete_cases
from mixedfx.design.dispersion import DispersionSpec
from mixedfx.design.estimability import alias_residuals
from mixedfx.design.evaluation import build_matrices, count_values, group_values, offset_values
from mixedfx.design.known_levels import LevelCombinations, encode_known_levels
from mixedfx.design.levels import combine, factorize
from mixedfx.design.row_dependence import NewVariables, check_rows_independent
from mixedfx.design.source import as_frame, column_named, float_vector
from mixedfx.design.spec import ModelSpec, RandomTermSpec
from mixedfx.errors import DataError, MissingColumnError
from mixedfx.formula.response import response_code
from mixedfx.formula.terms import Formula

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


class NewRows(NamedTuple):
    """Matrices of m new rows; NaN where a variable used is missing, X where not estimable, too."""

    frame: pd.DataFrame
    X: Matrix  # (m, p)
    model_matrices: list[Matrix]  # (m, k) of each random term
    codes: list[Codes]  # (m,) level in each random term: -1 unseen or not asked for, -2 missing


class UnseenPositions(NamedTuple):
    """Rows at positions of a random term's effects that the fit has not."""

    rows: Codes  # (r,) among the new rows
    levels: Codes  # (r,) -1 unseen or not asked for
    points: Matrix  # (r, d) coordinates; NaN where the position is none

    @staticmethod
    def of(
        term: RandomTermSpec, variables: Mapping[str, Any], env: Any, rows: Codes, levels: Codes
    ) -> UnseenPositions:
        """All complete rows with their coordinates."""
        assert term.positions is not None
        points = effect_positions.new_points(
            term.formula_term, term.positions, variables, env, len(rows)
        )
        return UnseenPositions(rows, levels, points)

    def at(self, keep: Mask) -> UnseenPositions:
        """Some of the rows."""
        return UnseenPositions(self.rows[keep], self.levels[keep], self.points[keep])


def evaluate_new_data(
    spec: ModelSpec, data: Any, *, groups: Sequence[str], effects: bool = False
) -> NewRows:
    """
    Build the columns of new data, and look up the levels of the grouping factors asked for.

    Of other random terms the model matrices are zero, or built too with ``effects=True``.
    """
    return evaluate_combinations(spec, data, groups=groups, effects=effects)[0]


def evaluate_combinations(
    spec: ModelSpec, data: Any, *, groups: Sequence[str], effects: bool = False
) -> tuple[NewRows, list[LevelCombinations | None], list[UnseenPositions | None]]:
    """
    New rows, what the codes of each random term stand for, and its rows at unseen positions.

    Codes of a term without combinations stand for its levels.
    """
    frame = as_frame(data)
    env, m = spec.env, len(frame)
    unseen: list[UnseenPositions | None] = [None] * len(spec.random_terms)
    fixed_part = replace(spec.formula, response="1", random=(), offset="")
    X = _fixed_columns(spec, frame, fixed_part)
    model_matrices, codes = [], []
    combinations: list[LevelCombinations | None] = [None] * len(spec.random_terms)
    for t, term in enumerate(spec.random_terms):
        term_codes = np.full(m, -1, dtype=np.intp)
        codes.append(term_codes)
        use_levels = term.group in groups
        if not (use_levels or effects):
            model_matrices.append(np.zeros((m, len(term.effect_names))))
            continue
        _check_rows_independent(term.info, spec.row_dependent)
        check_rows_independent(term.formula_term.group if use_levels else (), term.row_dependent)
        effects_part = replace(fixed_part, fixed=term.formula_term.effects)
        of_term = replace(fixed_part, fixed="1", random=(term.formula_term,))
        part = of_term if use_levels else effects_part
        variables, rows = _complete_rows(spec, part, frame)
        complete = _effect_columns(term, variables, env, len(rows))
        model_matrices.append(_fill_incomplete(complete, rows, m))
        encoded = np.full(len(rows), -1, dtype=np.intp)
        if use_levels:
            term_codes[:] = -2
            if len(rows):
                values = _group_values(term, variables, env, len(rows))
                encoded, combinations[t] = encode_known_levels(term, values)
                term_codes[rows] = encoded
        if term.positions is not None and len(rows):
            here = UnseenPositions.of(term, variables, env, rows, encoded)
            unseen[t] = elsewhere = here.at(np.asarray(~complete.any(axis=1)))
            term_codes[elsewhere.rows] = -1  # an effect that the fit does not have
    return NewRows(frame, X, model_matrices, codes), combinations, unseen


def _fixed_columns(spec: ModelSpec, frame: pd.DataFrame, fixed_part: Formula) -> Matrix:
    """X of new rows; NaN where a variable is missing, or the row is not estimable."""
    _check_rows_independent(spec.fixed_info, spec.row_dependent)
    variables, rows = _complete_rows(spec, fixed_part, frame)
    complete = build_matrices([spec.fixed_info], variables, len(rows))[0]
    X = _fill_incomplete(complete[:, spec.kept_columns], rows, len(frame))
    not_estimable = alias_residuals(complete, spec.kept_columns, spec.aliases).any(axis=1)
    X[rows[not_estimable]] = np.nan
    return X


def _effect_columns(
    term: RandomTermSpec, variables: Mapping[str, Any], env: EvalEnvironment, n: int
) -> Matrix:
    """Columns of a term's effects in n complete rows; zeros at positions that the fit has not."""
    if term.positions is not None:
        codes = effect_positions.encode_positions(
            term.formula_term, term.positions, variables, env, n
        )
        return term.positions.indicators(codes)
    if term.info is not None:
        return build_matrices([term.info], variables, n)[0]
    return np.ones((n, 1))


def evaluate_new_dispersion(
    spec: DispersionSpec, data: Any
) -> tuple[Matrix, list[tuple[Matrix, Codes]]]:
    """Build D of new rows, NaN where a value is missing.

    With the columns (m, k) of each random term, and its levels, -1 where unseen.
    """
    frame = as_frame(data)
    m = len(frame)
    _check_rows_independent(spec.info, spec.row_dependent)
    variables, rows = _complete_rows(spec, spec.formula, frame)
    D = _fill_incomplete(build_matrices([spec.info], variables, len(rows))[0], rows, m)
    of_terms = []
    for term in spec.random_terms:
        check_rows_independent(term.formula_term.group, term.row_dependent)
        _check_rows_independent(term.info, spec.row_dependent)
        codes = np.full(m, -1, dtype=np.intp)
        if len(rows):
            codes[rows] = term.levels.encode(_group_values(term, variables, spec.env, len(rows)))
        columns = _effect_columns(term, variables, spec.env, len(rows))
        of_terms.append((_fill_incomplete(columns, rows, m), codes))
    return D, of_terms


def all_levels(spec: ModelSpec, frame: pd.DataFrame, t: int, codes: Codes) -> tuple[Codes, int]:
    """Levels of new rows in a random term, unseen ones numbered behind those of the fit."""
    term = spec.random_terms[t]
    unseen = codes == -1
    if not unseen.any():
        return codes, len(term.levels)
    part = replace(spec.formula, response="1", fixed="1", random=(term.formula_term,), offset="")
    variables, rows = _complete_rows(spec, part, frame.loc[unseen])
    values = _group_values(term, variables, spec.env, len(rows))
    new, numbers = combine([factorize(v) for v in values])
    result = codes.copy()
    result[np.flatnonzero(unseen)[rows]] = len(term.levels) + numbers
    return result, len(term.levels) + len(new)


def _group_values(
    term: RandomTermSpec, variables: Mapping[str, Any], env: EvalEnvironment, n: int
) -> list[pd.Series]:
    """Values of the factors whose combinations are a term's levels."""
    return [group_values(factor, variables, env, n) for factor in term.formula_term.group]


def formula_offset(spec: ModelSpec, frame: pd.DataFrame) -> Vector:
    """The formula's offset in new rows, NaN where a value is missing; zeros without one."""
    code, m = spec.formula.offset, len(frame)
    if not code:
        return np.zeros(m)
    part = replace(spec.formula, response="1", fixed="1", random=())
    variables, rows = _complete_rows(spec, part, frame)
    values = offset_values(code, variables, spec.env, len(rows))
    return _fill_incomplete(values[:, None], rows, m)[:, 0]


def offset_beside_formula(spec: ModelSpec, offset: Vector, frame: pd.DataFrame) -> Vector:
    """What rows have as offset beside that of the formula: that of an argument."""
    return offset - formula_offset(spec, frame)


def new_trials(spec: ModelSpec, frame: pd.DataFrame) -> Vector:
    """Numbers of trials of new rows, from the columns that the response has them of."""
    codes = spec.response.trial_codes(response_code(spec.formula.response).parts)
    m, trials = len(frame), np.zeros(len(frame))
    for code in codes:
        part = replace(spec.formula, response=code, fixed="1", random=(), offset="")
        try:
            variables, rows = _complete_rows(spec, part, frame)
        except MissingColumnError as error:
            raise MissingColumnError(
                f"the trials of new rows are those of the response '{spec.formula.response}': "
                f"{error}"
            ) from None
        counts = pd.Series(count_values(code, variables, spec.env, len(rows)))
        values = float_vector(f"the response '{spec.formula.response}'", counts)
        trials += _fill_incomplete(values[:, None], rows, m)[:, 0]
    return trials


def new_argument(argument: str, column: str | None, frame: pd.DataFrame, *, advice: str) -> Vector:
    """Values in new rows of an argument of the fit, from the column of its name."""
    if column is None:
        raise DataError(f"the fit's {argument} was an array, so new rows have none: give {advice}")
    name = column_named(column, frame)
    if name not in frame.columns:
        raise MissingColumnError(f"{argument} column '{column}' is not in the new data.")
    return float_vector(argument, frame[name])


def _complete_rows(
    spec: ModelSpec | DispersionSpec, part: Formula, frame: pd.DataFrame
) -> tuple[NewVariables, Codes]:
    """Variables of a part of the formula in the complete rows, and the rows' positions."""
    return select_complete_cases(part, frame, spec.env, spec.categories)


def _check_rows_independent(info: Any, row_dependent: Sequence[str]) -> None:
    if info is not None:
        check_rows_independent([factor.code for factor in info.factor_infos], row_dependent)


def _fill_incomplete(matrix: Matrix, rows: Codes, m: int) -> Matrix:
    """Insert rows of NaN between the complete ones, up to m rows."""
    if len(rows) == m:
        return matrix
    filled = np.full((m, matrix.shape[1]), np.nan)
    filled[rows] = matrix
    return filled
