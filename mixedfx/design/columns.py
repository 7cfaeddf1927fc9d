"""Variables that a formula uses, and their conversion to the types that patsy evaluates.

The variables are pandas Series with a plain index, of numbers, truth values or categories; the
user's table is never changed.
"""

from __future__ import annotations

import builtins
import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd
import patsy.builtins
from patsy import EvalEnvironment

from mixedfx._names import decode, written
from mixedfx.covariance.elsewhere import nearest_structure
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.design.functions import FORMULA_FUNCTIONS, PATSY_FUNCTIONS
from mixedfx.design.r_functions import R_CONSTANTS
from mixedfx.design.table import Table, UsedColumns
from mixedfx.design.variables import (
    WIDEST,
    Factor,
    Numbers,
    TableColumn,
    Variable,
    missing_in,
    variable,
)
from mixedfx.errors import ColumnTypeError, MissingColumnError, did_you_mean
from mixedfx.formula.expansion import names_in, terms_of
from mixedfx.formula.response import response_code
from mixedfx.formula.terms import Formula

Mask = npt.NDArray[np.bool_]

# Rows up to which text is hashed in less time than the calls of pandas and Arrow take.
_FEW_ROWS = 500

_FUNCTIONS = {**PATSY_FUNCTIONS, **FORMULA_FUNCTIONS}
# Those that go before the caller's names: a logger called log does not hide log(). Before a
# constant goes a variable of the caller, which is meant.
_OWN_NAMES = _FUNCTIONS.keys() - R_CONSTANTS.keys()
# pandas' names for object columns of numbers, such as a database's NUMERIC.
_NUMBERS_AS_OBJECTS = ("decimal", "floating", "mixed-integer-float")


def used_columns(
    formula: Formula, table: Table, env: EvalEnvironment, *, part: str = ""
) -> UsedColumns:
    """
    Collect the columns that a formula uses; a name that is defined nowhere is an error.

    ``part`` is the argument whose formula it is, for messages: ``"dispersion"``, ``"residual"``.
    """
    used: dict[str, int] = {}
    for code, names in factor_codes(formula):
        for name in names:
            if name in used:
                continue
            if name in table.identifiers:
                used[name] = table.position(name)
            elif code == name or not _is_defined(name, env):
                _fail_missing(name, code, formula, table.frame, part)
    return UsedColumns(table, used)


def plain_columns(formula: Formula, columns: Mapping[str, pd.Series]) -> set[str]:
    """Columns that stand in a formula by themselves, not in expressions alone."""
    return {code for code, _ in factor_codes(formula) if code in columns}


def formula_environment(
    env: EvalEnvironment | None, formulas: Sequence[Formula | None], columns: Iterable[str]
) -> EvalEnvironment:
    """
    Environment of the names in some formulas that are not columns, given as identifiers.

    The caller's own environment is its frame: kept, it would keep all variables there alive.
    """
    outer = env or EvalEnvironment([{}])
    names = frozenset().union(*(_names_read(f) for f in formulas if f is not None))
    names = names.difference(columns)
    if not names:
        return EvalEnvironment([{}], outer.flags)
    namespace = outer.namespace
    of_formula = {name: _FUNCTIONS[name] for name in sorted(names & _FUNCTIONS.keys())}
    read = {name: namespace[name] for name in sorted(names - _OWN_NAMES) if name in namespace}
    return EvalEnvironment([of_formula | read], outer.flags)


@lru_cache(maxsize=256)
def factor_codes(formula: Formula) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Python code of each distinct factor of the formula, with the names in it."""
    codes = _covariate_codes(formula)
    for term in formula.random:
        codes += term.group
    return tuple((code, tuple(sorted(names_in(code)))) for code in dict.fromkeys(codes))


@lru_cache(maxsize=256)
def factor_columns(*formulas: Formula) -> frozenset[str]:
    """Names that stand by themselves in terms and grouping factors alone, of some formulas."""
    codes = {code for formula in formulas for code, names in factor_codes(formula)}
    values = [c for f in formulas for c in (*response_code(f.response).parts, f.offset) if c]
    expressions = {code for code in codes if names_in(code) != {code}}
    return frozenset(codes - expressions - set().union(*map(names_in, [*values, *expressions])))


@lru_cache(maxsize=256)
def _names_read(formula: Formula) -> frozenset[str]:
    """Names of columns, variables and functions that a formula reads."""
    return frozenset(name for _, names in factor_codes(formula) for name in names)


def _covariate_codes(formula: Formula) -> list[str]:
    """Code of the response, of each factor of the fixed part and of the effects, and the offset."""
    texts = (formula.fixed, *(t.effects for t in formula.random))
    factors = [f.name() for text in texts for term in terms_of(text) for f in term.factors]
    codes = (*response_code(formula.response).parts, *factors, formula.offset)
    return [code for code in codes if code]


def _is_defined(name: str, env: EvalEnvironment) -> bool:
    return name in env.namespace or hasattr(patsy.builtins, name) or hasattr(builtins, name)


def _fail_missing(
    identifier: str, code: str, formula: Formula, frame: pd.DataFrame, part: str
) -> NoReturn:
    name, code, columns = decode(identifier), decode(code), [str(c) for c in frame.columns]
    if re.search(rf"(?<![\w.]){re.escape(name)}\s*\(", code):
        _fail_function(name, code)
    role = "grouping column" if any(identifier in t.group for t in formula.random) else "column"
    role = f"{part} {role}".lstrip()
    if name in map(str, frame.index.names):
        hint = " It is in the index: reset_index() makes a column of it."
    elif code.replace(" ", "") in columns and code != name:
        hint = f" Write `{code.replace(' ', '')}`, in backticks, for that column."
    else:
        hint = did_you_mean(name, columns)
    names = ", ".join(columns[:12]) + (", ..." if len(columns) > 12 else "")
    raise MissingColumnError(f"{role} '{name}' is not in the data; columns are: {names}.{hint}")


# Functions of R, and their equivalents in a formula here.
_R_EQUIVALENTS = {
    "relevel": 'C(f, Treatment("level"))',
    "cut": "a column made by pandas.cut",
    "interaction": "a:b",
    "c": "[a, b]",
    "mean": "x.mean()",
    "sd": "x.std()",
    "ave": "group_mean(x, g)",
    "lag": "a column made by shift() within groups",
    "logit": "qlogis(p)",
    "s": "bs(x, 4) or ns(x, 4)",
    "Error": "(1 | g)",
}


def _fail_function(name: str, code: str) -> NoReturn:
    near = nearest_structure(name, "term") if "|" in code else ""
    if near:
        raise MissingColumnError(
            f"'{code}' is no random term: there is no covariance structure '{name}'.{near}"
        )
    hint = did_you_mean(name, [*patsy.builtins.__all__, *FORMULA_FUNCTIONS])
    if name in _R_EQUIVALENTS:
        hint = f" Instead of R's {name}() write {_R_EQUIVALENTS[name]}."
    raise MissingColumnError(
        f"'{code}' calls {name}(), which is no function here: define it where you call lmer(), "
        f"write np. before numpy's, or add the column to the data.{hint}"
    )


def is_date(column: Any) -> bool:
    """Whether a column, or its array, holds dates or durations: levels, but no numbers."""
    return getattr(column.dtype, "kind", "O") in "mM"


@lru_cache(maxsize=256)
def _codes_without_dates(formula: Formula) -> tuple[str, ...]:
    """Code of the response and of the covariates other than positions."""
    columns_of = tuple(t for t in formula.random if STRUCTURES[t.structure].design == "effects")
    return tuple(_covariate_codes(replace(formula, random=columns_of)))


def check_dates(formula: Formula, columns: UsedColumns, read: Mapping[str, TableColumn]) -> None:
    """Refuse dates and durations as covariates, but positions, or as the response."""
    for code in _codes_without_dates(formula):
        if isinstance(read.get(code), _OtherColumn) and is_date(columns.array(code)):
            name = decode(code)
            days = f"data[{name!r}]"
            if getattr(columns[code].dtype, "kind", "") == "M":
                days = f"({days} - {days}.min())"
            raise ColumnTypeError(
                f"column '{name}' holds {columns[code].dtype}, which is no number: make one before "
                f"the formula, for example data['days'] = {days}.dt.days, or write "
                f"C({written(code)}) for a factor with a level for each."
            )


@dataclass(frozen=True, eq=False)
class _OtherColumn(TableColumn):
    """A column whose type is found in the rows used."""

    name: str
    values: pd.Series

    def missing(self) -> Mask | None:
        """Rows without a value; None if there are none."""
        return missing_in(self.values)

    def used(self, keep: Mask | None) -> Variable:
        """Copy of some rows, None for all, in the type that patsy evaluates."""
        values = self.values if keep is None else self.values[keep]
        found = variable(as_patsy_column(self.name, values))
        assert found is not None
        return found


def read_column(name: str, column: pd.Series) -> TableColumn:
    """Read a column of a table: numbers and categories as they are, levels of text once."""
    values: Any = column.to_numpy() if isinstance(column.dtype, np.dtype) else column.array
    return _read_array(values) or _OtherColumn(name, column)


def read_used(name: str, columns: UsedColumns) -> TableColumn:
    """Read one of the columns used, without a Series where its array says all."""
    return _read_array(columns.array(name)) or _OtherColumn(name, columns[name])


def _read_array(values: Any) -> TableColumn | None:
    """Numbers, categories or text; None where the type is found in the rows used."""
    dtype = values.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in WIDEST:
        return Numbers(np.asarray(values))
    if isinstance(dtype, pd.CategoricalDtype):
        return Factor.of_categories(values)
    return _text(values) if is_text(dtype, values) else None


def is_text(dtype: Any, values: Any) -> bool:
    """Whether all values of a column that are there are texts, given its array and dtype."""
    if isinstance(dtype, pd.StringDtype):
        return True
    is_object = getattr(dtype, "kind", "O") == "O"
    return is_object and bool(pd.api.types.infer_dtype(values, skipna=True) == "string")


def _text(values: Any) -> Factor:
    """Text as a factor of sorted levels, as patsy would find them; from the array of a column."""
    if len(values) <= _FEW_ROWS:
        with contextlib.suppress(TypeError):  # where a value is missing
            return Factor.of_few(_listed(values))
    if isinstance(values.dtype, np.dtype):
        return Factor.of_texts(*pd.factorize(np.asarray(values)))
    codes, texts = values.factorize()
    return Factor.of_texts(codes, texts.to_numpy(dtype=object))


def _listed(values: Any) -> list[Any]:
    """Texts of a column; from Arrow's own array, which takes a fifth of the time of NumPy's."""
    is_arrow = getattr(values.dtype, "storage", "") == "pyarrow"
    listed: list[Any] = (
        values.__arrow_array__().to_pylist()
        if is_arrow
        else np.asarray(values, dtype=object).tolist()
    )
    return listed


def as_expression_column(column: pd.Series) -> pd.Series:
    """
    Convert a column to the type that expressions see, missing values included.

    Numbers are widened, so that ``x**2`` does not overflow. Text stays text, and dates stay dates:
    an expression gives what it would give before the formula.
    """
    dtype: Any = column.dtype
    kind = getattr(dtype, "kind", "O")
    if isinstance(dtype, np.dtype) and kind in WIDEST:
        return Numbers(column.to_numpy()).used(None).series
    if isinstance(dtype, pd.CategoricalDtype) or kind in "mMc":
        return column.reset_index(drop=True)
    if kind == "O" and pd.api.types.infer_dtype(column, skipna=True) == "boolean":
        # Of objects ~True would be -2.
        column = column.astype("boolean")
    if not column.hasnans and not column.isna().any():
        is_number = pd.api.types.is_numeric_dtype(column.dtype)
        if is_number or pd.api.types.infer_dtype(column) in (*_NUMBERS_AS_OBJECTS, "integer"):
            return as_patsy_column("", column)
    return column.reset_index(drop=True)


def as_patsy_column(name: str, column: pd.Series, *, new_data: bool = False) -> pd.Series:
    """
    Convert a column without missing values to the type that patsy evaluates fastest.

    Text becomes categorical with sorted levels, as patsy would find them; unused levels are
    dropped, as in R; narrow integers are widened, so that ``x**2`` does not overflow. In new data
    categories become plain values, which patsy matches with the levels of the fit.
    """
    dtype: Any = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in WIDEST:
        return Numbers(column.to_numpy()).used(None).series
    kind = getattr(dtype, "kind", "O")
    if kind == "c":
        raise ColumnTypeError(f"column '{name}' holds complex numbers; take a part of them.")
    if kind in "mM":
        if new_data or isinstance(dtype, pd.ArrowDtype):
            column = pd.Series(column.to_numpy(dtype=object), dtype=object)
        return column if new_data else pd.Series(pd.Categorical(column))
    if isinstance(dtype, pd.CategoricalDtype):
        if new_data:
            return pd.Series(column.to_numpy(dtype=object), dtype=object)
        return Factor.of_categories(column.array).used(None).series
    if kind in "iub" and column.hasnans:  # a term treats the missing values
        return pd.Series(column.to_numpy(dtype=float, na_value=np.nan))
    if pd.api.types.is_bool_dtype(dtype):
        return pd.Series(column.to_numpy(dtype=bool), copy=True)
    if kind == "u" or pd.api.types.is_unsigned_integer_dtype(dtype):
        return _widen_integers(column)
    if kind == "i" or pd.api.types.is_integer_dtype(dtype):
        return pd.Series(column.to_numpy(dtype=np.int64), copy=True)
    if kind == "f" or pd.api.types.is_numeric_dtype(dtype):
        return pd.Series(column.to_numpy(dtype=float), copy=True)
    return _object_column(name, column, new_data=new_data)


def _object_column(name: str, column: pd.Series, *, new_data: bool) -> pd.Series:
    inferred = pd.api.types.infer_dtype(column, skipna=True)
    if inferred == "integer":
        return _widen_integers(column)
    if inferred == "boolean" and not column.hasnans:
        return pd.Series(column.to_numpy(dtype=bool))
    if inferred in _NUMBERS_AS_OBJECTS:
        return pd.Series(column.to_numpy(dtype=float))
    if new_data:
        return pd.Series(column.to_numpy(dtype=object), dtype=object)
    if inferred == "string":
        return _text(column.array).series
    try:
        return pd.Series(pd.Categorical(column.to_numpy(dtype=object)))
    except (TypeError, ValueError, NotImplementedError):
        raise ColumnTypeError(
            f"column '{name}' holds {type(column.iloc[0]).__name__} objects, which cannot be "
            "sorted into levels; make it text or numbers."
        ) from None


def _widen_integers(column: pd.Series) -> pd.Series:
    """Widen to 64 bits; to floats where a value exceeds those."""
    try:
        wide = column.to_numpy(dtype=np.int64)
        if (wide == column.to_numpy()).all():
            return pd.Series(wide)
    except (OverflowError, TypeError, ValueError):
        pass
    return pd.Series(column.to_numpy(dtype=float))
