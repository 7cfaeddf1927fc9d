"""Terms to matrices, by patsy, which remembers how for new rows."""

from __future__ import annotations

import warnings
from typing import Any, NoReturn

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

from mixedfx.design.checks import check_length, odd_one
from mixedfx.design.columns import prepared
from mixedfx.design.functions import PATSY
from mixedfx.errors import DataError, GroupingError
from mixedfx.formula.expansion import terms_of
from mixedfx.formula.terms import Formula

Matrix = npt.NDArray[np.float64]

# Missing values are dropped before patsy sees the data, so it need not look for them.
_NO_NA = NAAction(on_NA="raise", NA_types=[])


def evaluate(
    formula: Formula, columns: dict[str, Any], env: EvalEnvironment, n: int
) -> tuple[Any, Matrix, list[Matrix | None], DesignInfo, tuple[DesignInfo | None, ...]]:
    """Let patsy learn the columns and build them, each factor evaluated once."""
    texts = [formula.fixed, *(t.effects for t in formula.random)]
    plain_response = formula.response in columns
    wanted = [t for t in texts[1:] if t != "1"]
    termlists = [terms_of(t) for t in [texts[0], *wanted]]
    if not plain_response:
        termlists.append(terms_of("0 + " + formula.response))
    infos = learn(termlists, columns, env)
    built = matrices(infos, columns, n)
    y = columns[formula.response] if plain_response else _built_response(infos[-1], built.pop())
    _check_several_levels(infos)
    infos = iter(infos)
    fixed_info, made = next(infos), iter(built)
    fixed = next(made)
    random_infos = tuple(None if t == "1" else next(infos) for t in texts[1:])
    random = [None if info is None else next(made) for info in random_infos]
    return y, fixed, random, fixed_info, random_infos


def learn(termlists: list[Any], columns: dict[str, Any], env: EvalEnvironment) -> Any:
    """Let patsy learn what it needs to build columns again."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return design_matrix_builders(termlists, lambda: iter([columns]), env, _NO_NA)
    except Exception as error:
        _fail_evaluation(error, termlists, columns, env)


def _built_response(info: DesignInfo, matrix: Matrix) -> Matrix:
    """Take a comparison, which patsy builds as two indicators, as zeros and ones."""
    learned = next(iter(info.factor_infos.values()))
    if learned.type == "categorical" and learned.categories == (False, True):
        return matrix[:, 1:]
    return matrix


def _check_several_levels(infos: list[DesignInfo]) -> None:
    for info in infos:
        for factor, learned in info.factor_infos.items():
            if learned.type == "categorical" and len(learned.categories) == 1:
                raise DataError(
                    f"factor '{factor.name()}' has only one level, {learned.categories[0]!r}, in "
                    "the rows used; leave it out."
                )


def matrices(infos: list[DesignInfo], columns: dict[str, Any], n: int) -> list[Matrix]:
    """Build matrices by patsy's recipes."""
    # Without a factor patsy cannot tell how many rows there are: such columns are all ones.
    if n == 0:
        return [np.empty((0, len(i.column_names))) for i in infos]
    wanted = [info for info in infos if info.factor_infos]
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            built = build_design_matrices(wanted, columns, NA_action=_NO_NA) if wanted else []
    except Exception as error:
        _fail_building(error, wanted, columns)
    for info, matrix in zip(wanted, built, strict=True):
        if len(matrix) != n:
            for factor in info.factor_infos:
                check_length(factor.name(), _length_of(info, factor, columns), n)
    made = iter(built)
    return [
        np.asarray(next(made)) if i.factor_infos else np.ones((n, len(i.column_names)))
        for i in infos
    ]


def _length_of(info: DesignInfo, factor: Any, columns: dict[str, Any]) -> int:
    value = factor.eval(info.factor_infos[factor].state, columns)
    return len(value) if np.ndim(value) else 1


def _fail_evaluation(
    error: Exception, termlists: list[Any], columns: dict[str, Any], env: EvalEnvironment
) -> NoReturn:
    """Find the factor that cannot be evaluated, by trying each alone."""
    for factor in dict.fromkeys(f for terms in termlists for t in terms for f in t.factors):
        alone = [[Term([factor])]]
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                infos = design_matrix_builders(alone, lambda: iter([columns]), env, _NO_NA)
                build_design_matrices(infos, columns, NA_action=_NO_NA)
        except Exception as reason:
            raise DataError(
                f"term '{factor.name()}' could not be evaluated: {_reason(reason)}"
            ) from error
    raise DataError(f"the formula could not be evaluated: {_reason(error)}") from error


def _fail_building(error: Exception, infos: list[DesignInfo], columns: dict[str, Any]) -> NoReturn:
    """Find the factor whose new values do not fit those of the fit."""
    for info in infos:
        for factor, learned in info.factor_infos.items():
            try:
                value = factor.eval(learned.state, columns)
            except Exception:
                continue
            if learned.type == "numerical" and np.asarray(value).dtype.kind not in "biuf":
                raise DataError(
                    f"term '{factor.name()}' was numeric in the fit; it now holds {odd_one(value)}."
                ) from error
            if learned.type == "categorical":
                seen = pd.unique(pd.Series(np.asarray(getattr(value, "data", value)).ravel()))
                new = [v for v in seen.tolist() if v not in learned.categories]
                if new:
                    known = ", ".join(map(repr, learned.categories[:12]))
                    raise DataError(
                        f"term '{factor.name()}' has the new value {new[0]!r}; the fit knows "
                        f"{known}."
                    ) from error
    term = ""
    if isinstance(error, PatsyError) and error.origin is not None:
        term = f"term '{error.origin.relevant_code()}'"
    raise DataError(f"{term or 'a term'} could not be evaluated: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, PatsyError) else f"{error}"


def group_values(factor: str, columns: dict[str, Any], env: EvalEnvironment, n: int) -> Any:
    """Evaluate one grouping factor: a column, or an expression of columns."""
    if factor in columns:
        return columns[factor]
    quoted = {"Q": lambda name: columns[name]}
    try:
        with np.errstate(all="ignore"):
            value = env.eval(factor, inner_namespace={**PATSY, **columns, **quoted})
    except Exception as error:
        raise DataError(f"grouping factor '{factor}' could not be evaluated: {error}") from error
    value = getattr(value, "data", value) if type(value).__name__ == "_CategoricalBox" else value
    if getattr(value, "ndim", 1) != 1 or not hasattr(value, "__len__") or len(value) != n:
        raise GroupingError(
            f"grouping factor '{factor}' does not give one value per row; name a column."
        )
    return prepared(factor, pd.Series(value).reset_index(drop=True))
