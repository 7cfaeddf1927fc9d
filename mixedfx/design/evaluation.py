"""Evaluation of a formula's terms on data, by patsy.

patsy works in two steps: :func:`learn_design_infos` learns levels, knots and means from the rows of
the fit, :func:`build_matrices` evaluates the columns on these or other rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import (
    DesignInfo,
    EvalEnvironment,
    NAAction,
    PatsyError,
    Term,
    build_design_matrices,
    design_matrix_builders,
)
from patsy.categorical import categorical_to_int

from mixedfx._names import decode
from mixedfx.design.checks import check_length, first_non_numeric
from mixedfx.design.column_terms import learned_before, product_columns
from mixedfx.design.columns import as_patsy_column
from mixedfx.design.contrast_advice import contrast_advice
from mixedfx.design.known_values import is_box, known_values
from mixedfx.design.row_dependence import (
    EvaluatedTerm,
    align_rows,
    depends_on_rows,
    forget_values,
    is_rowwise,
    row_dependent_factors,
    with_row_factors,
)
from mixedfx.design.size import check_columns, check_factors
from mixedfx.design.source import float_vector
from mixedfx.design.term_values import normalized
from mixedfx.design.text_numbers import text_in_expression
from mixedfx.design.variables import Factor, Numbers, variable_of
from mixedfx.errors import DataError, GroupingError, NewLevelError
from mixedfx.formula.expansion import terms_of
from mixedfx.formula.positions import ALL_ROWS, has_positions
from mixedfx.formula.response import response_code
from mixedfx.formula.terms import Formula

Matrix = npt.NDArray[np.float64]

# Rows with missing values are dropped before, so patsy need not search for them.
_NO_MISSING = NAAction(on_NA="raise", NA_types=[])


@dataclass(frozen=True)
class EvaluatedFormula:
    """A formula's response and model matrices on the rows of the fit."""

    response: tuple[Any, ...]  # one column; two of successes and failures or trials
    fixed: Matrix  # (n, all fixed columns)
    random: tuple[Matrix | None, ...]  # (n, k) of each random term; None for an intercept alone
    fixed_info: DesignInfo
    random_infos: tuple[DesignInfo | None, ...]
    row_dependent: tuple[str, ...]  # factors computed from other rows, which new rows cannot have


def evaluate(
    formula: Formula, variables: Mapping[str, Any], env: EvalEnvironment, n: int
) -> EvaluatedFormula:
    """Learn and build all columns of a formula, each distinct factor evaluated once."""
    codes = response_code(formula.response).parts
    is_learned = len(codes) == 1 and codes[0] not in variables
    # Columns of patsy; of effects at positions, design/positions.py has them.
    slopes = [t.effects != "1" and not has_positions(t.structure) for t in formula.random]
    texts = [formula.fixed]
    texts += [t.effects for t, has_slopes in zip(formula.random, slopes, strict=True) if has_slopes]
    termlists = [terms_of(text) for text in texts]
    if is_learned:
        termlists.append(terms_of("0 + " + formula.response))
    check_factors(termlists[: len(texts)], variables, n)
    infos = learn_design_infos(termlists, variables, env)
    check_columns(infos[: len(texts)], n)
    row_dependent = row_dependent_factors(infos[: len(texts)], variables, env, n)
    matrices = build_matrices(infos, variables, n)
    if is_learned:
        response: tuple[Any, ...] = (built_response(infos[-1], matrices.pop(), variables),)
    else:
        response = tuple(_response_part(code, variables, env, n) for code in codes)
    _check_several_levels(infos[: len(texts)])
    info_of_next, matrix_of_next = iter(infos), iter(matrices)
    fixed_info, fixed = next(info_of_next), next(matrix_of_next)
    random_infos = tuple(next(info_of_next) if s else None for s in slopes)
    random = tuple(next(matrix_of_next) if s else None for s in slopes)
    return EvaluatedFormula(response, fixed, random, fixed_info, random_infos, row_dependent)


def learn_design_infos(
    termlists: list[Any], variables: Mapping[str, Any], env: EvalEnvironment
) -> list[DesignInfo]:
    """Learn the levels and the state of the transforms of each list of terms."""
    if (known := learned_before(termlists, variables)) is not None:
        return known
    termlists = [with_row_factors(terms) for terms in termlists]
    try:
        with np.errstate(all="ignore"):
            infos: list[DesignInfo] = design_matrix_builders(
                termlists, lambda: iter([variables]), env, _NO_MISSING
            )
    except Exception as error:
        _fail_learning(error, termlists, variables, env)
    return infos


def built_response(info: DesignInfo, matrix: Matrix, variables: Mapping[str, Any]) -> Any:
    """Values of an expression; levels as a categorical column, a comparison as zeros and ones."""
    factor, learned = next(iter(info.factor_infos.items()))
    if learned.type != "categorical":
        return matrix
    value = factor.eval(learned.state, variables)
    codes = np.asarray(categorical_to_int(value, learned.categories, _NO_MISSING), dtype=np.intp)
    if learned.categories == (False, True):
        return codes.astype(float)
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index(learned.categories)))


def _response_part(code: str, variables: Mapping[str, Any], env: EvalEnvironment, n: int) -> Any:
    """Values of a column or of an expression in a response; of a column of levels the factor."""
    found = variable_of(variables, code)
    return found if isinstance(found, Factor) else count_values(code, variables, env, n)


def count_values(code: str, variables: Mapping[str, Any], env: EvalEnvironment, n: int) -> Any:
    """Values of a column or of an expression in a response; a number is that of every row."""
    if isinstance(column := variable_of(variables, code), Numbers):
        return column.values
    value = _row_values(code, f"'{decode(code)}' in the response", variables, env)
    if np.ndim(value) == 0:
        return np.full(n, value)
    check_length(code, len(value), n)
    return value


def _check_several_levels(infos: Sequence[DesignInfo]) -> None:
    for info in infos:
        for factor, learned in info.factor_infos.items():
            if learned.type == "categorical" and len(learned.categories) == 1:
                raise DataError(
                    f"factor '{factor.name()}' has only one level, {learned.categories[0]!r}, in "
                    "the rows used; leave it out."
                )


def build_matrices(
    infos: Sequence[DesignInfo],
    variables: Mapping[str, Any],
    n: int,
    order: Literal["C", "F"] = "C",
) -> list[Matrix]:
    """Evaluate the columns of each design on n rows; in this order where they are products."""
    if n == 0:
        return [np.empty((0, len(i.column_names))) for i in infos]
    # Without a factor patsy cannot infer the number of rows: such columns are all ones.
    distinct = {id(info): info for info in infos}  # of equal terms there is one
    of_info = {key: product_columns(info, variables, n, order) for key, info in distinct.items()}
    columns = [of_info[id(info)] for info in infos]
    if all(matrix is not None for matrix in columns):
        return cast(list[Matrix], columns)
    with_factors = [info for info in infos if info.factor_infos]
    built: Sequence[Any] = []
    try:
        with np.errstate(all="ignore"):
            if with_factors:
                built = build_design_matrices(with_factors, variables, NA_action=_NO_MISSING)
    except Exception as error:
        _fail_building(error, with_factors, variables)
    forget_values(with_factors)
    for info, matrix in zip(with_factors, built, strict=True):
        if len(matrix) != n:
            for factor in info.factor_infos:
                check_length(factor.name(), _length_of(info, factor, variables), n)
    matrix_of_next = iter(built)
    return [
        np.asarray(next(matrix_of_next)) if i.factor_infos else np.ones((n, len(i.column_names)))
        for i in infos
    ]


def _length_of(info: DesignInfo, factor: Any, variables: Mapping[str, Any]) -> int:
    value = factor.eval(info.factor_infos[factor].state, variables)
    return len(value) if np.ndim(value) else 1


def _fail_learning(
    error: Exception, termlists: list[Any], variables: Mapping[str, Any], env: EvalEnvironment
) -> NoReturn:
    """Name the first factor that cannot be evaluated by itself."""
    for factor in dict.fromkeys(f for terms in termlists for t in terms for f in t.factors):
        single = [[Term([factor])]]
        try:
            with np.errstate(all="ignore"):
                infos = design_matrix_builders(single, lambda: iter([variables]), env, _NO_MISSING)
                build_design_matrices(infos, variables, NA_action=_NO_MISSING)
        except Exception as reason:
            check_contrast(factor.name(), variables, error)
            advice = text_in_expression(factor.name(), variables)
            raise DataError(
                f"term '{factor.name()}' could not be evaluated: {_reason(reason)}{advice}"
            ) from error
    for factor in dict.fromkeys(f for terms in termlists for t in terms for f in t.factors):
        check_contrast(factor.name(), variables, error)  # which depends on the terms beside it
    raise DataError(f"the formula could not be evaluated: {_reason(error)}") from error


def check_contrast(code: str, variables: Mapping[str, Any], error: Exception) -> None:
    """Raise where the contrast of a factor is what could not be evaluated."""
    if advice := contrast_advice(code, variables):
        raise DataError(f"term '{decode(code)}' could not be evaluated: {advice}") from error


def _fail_building(
    error: Exception, infos: Sequence[DesignInfo], variables: Mapping[str, Any]
) -> NoReturn:
    """Name the factor whose new values differ in type or levels from those of the fit."""
    for info in infos:
        for factor, learned in info.factor_infos.items():
            check_contrast(factor.name(), variables, error)
            try:
                value = factor.eval(learned.state, variables)
            except Exception:
                continue
            if learned.type == "numerical" and np.asarray(value).dtype.kind not in "biuf":
                raise DataError(
                    f"term '{factor.name()}' was numeric in the fit; it now holds "
                    f"{first_non_numeric(value)}."
                ) from error
            if learned.type == "categorical":
                values = pd.unique(pd.Series(np.asarray(getattr(value, "data", value)).ravel()))
                unseen = [v for v in values.tolist() if v not in learned.categories]
                if unseen:
                    levels = ", ".join(map(repr, learned.categories[:12]))
                    raise NewLevelError(
                        f"term '{factor.name()}' has the new value {unseen[0]!r}; the fit knows "
                        f"{levels}."
                    ) from error
    term = ""
    if isinstance(error, PatsyError) and error.origin is not None:
        term = f"term '{error.origin.relevant_code()}'"
    raise DataError(f"{term or 'a term'} could not be evaluated: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, PatsyError) else f"{error}"


def group_values(
    factor: str, variables: Mapping[str, Any], env: EvalEnvironment, n: int
) -> pd.Series:
    """Evaluate one grouping factor: a column, or an expression of columns."""
    if factor == ALL_ROWS:
        return pd.Series(np.ones(n, dtype=np.int64))
    what = f"grouping factor '{factor}'"
    return _column_values(factor, what, variables, env, n, GroupingError)


def position_values(
    code: str, variables: Mapping[str, Any], env: EvalEnvironment, n: int
) -> pd.Series:
    """Evaluate one variable of a term whose effects are at positions."""
    what = f"'{decode(code)}', the position of effects,"
    return _column_values(code, what, variables, env, n, DataError)


def _column_values(
    code: str,
    what: str,
    variables: Mapping[str, Any],
    env: EvalEnvironment,
    n: int,
    error: type[DataError],
) -> pd.Series:
    """Evaluate a column, or an expression of columns, that has a value for each row."""
    value = _row_values(code, what, variables, env)
    if getattr(value, "ndim", 1) != 1 or not hasattr(value, "__len__") or len(value) != n:
        raise error(f"{what} does not give one value per row; name a column.")
    if isinstance(value, pd.Series) and code in variables:
        return value
    return as_patsy_column(code, pd.Series(value).reset_index(drop=True))


def offset_values(
    code: str, variables: Mapping[str, Any], env: EvalEnvironment, n: int
) -> npt.NDArray[np.float64]:
    """Evaluate the sum of a formula's offsets, (n,)."""
    what = f"offset({decode(code)})"
    value = np.asarray(_row_values(code, what, variables, env))
    if value.shape != (n,):
        raise DataError(f"{what} does not give one value per row.")
    return float_vector(what, pd.Series(value))


def _row_values(code: str, what: str, variables: Mapping[str, Any], env: EvalEnvironment) -> Any:
    """Value of a column or an expression that patsy does not evaluate."""
    if code in variables:
        return variables[code]
    known = known_values(variables)
    if normalized(code) in known:
        value = known[normalized(code)]
        return pd.Series(value.data if is_box(value) else value)
    try:
        with np.errstate(all="ignore"):
            value = env.eval(code, inner_namespace=dict(variables))
    except Exception as error:
        raise DataError(f"{what} could not be evaluated: {error}") from error
    value = align_rows(code, value, variables)
    return value.data if is_box(value) else value


def group_depends_on_rows(
    factor: str, values: pd.Series, variables: Mapping[str, Any], env: EvalEnvironment
) -> bool:
    """Whether a grouping factor, or a position, is computed from other rows than its own."""
    if factor == ALL_ROWS or is_rowwise(factor, variables, env):
        return False

    def on(part: Mapping[str, Any]) -> pd.Series:
        return position_values(factor, part, env, len(next(iter(part.values()))))

    with np.errstate(all="ignore"):
        return depends_on_rows(EvaluatedTerm(factor, values, on), variables, len(values))
