"""Terms whose value in a row depends on other rows, such as ``x.rank()`` or ``x.shift(1)``.

Of new rows they cannot be computed. They are found at the fit: a term is evaluated on a few of the
rows, in blocks and one by one, and compared with its values there. The rows are those where it and
its variables are smallest and largest, first and last, so that a maximum, a quantile or a rank
changes in some of them. An expression of columns, constants, operators, ufuncs and a formula's own
functions needs no evaluation: it is computed row by row.
"""

from __future__ import annotations

import ast
import contextlib
import numbers
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import EvalEnvironment, EvalFactor, Term

from mixedfx.design.functions import FORMULA_FUNCTIONS, PATSY_FUNCTIONS
from mixedfx.design.known_values import is_box, known_values, with_known_values
from mixedfx.design.reductions import REMEMBER, with_remembered_reductions
from mixedfx.errors import DataError
from mixedfx.formula.expansion import names_in

Codes = npt.NDArray[np.intp]
Variables = Mapping[str, Any]

# Rows of a block; variables and columns of a term whose extremes are among the rows.
_BLOCK, _MAX_EXTREMES, _MAX_SCANNED = 200, 4, 10_000
# Differences below this part of a column's range, or of its size in units of rounding, are none.
_OF_RANGE, _OF_ROUNDING = 1e-6, 64.0
# Functions of whole columns that remember what they learned, or that act on each value.
_ROWWISE = {id(f) for f in (*PATSY_FUNCTIONS.values(), *FORMULA_FUNCTIONS.values())}
_ROWWISE_NODES = (
    *(ast.Expression, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Compare, ast.keyword),
    *(ast.operator, ast.unaryop, ast.cmpop, ast.expr_context, ast.List, ast.Tuple),
)


class NewVariables(dict[str, Any]):
    """Columns of new rows, in which a factor need not have all of its levels."""

    def __init__(
        self, columns: Mapping[str, Any], evaluated: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(columns)
        self.evaluated = evaluated or {}  # values of expressions by code, in the same rows


class RowFactor(EvalFactor):  # type: ignore[misc]
    """Factor whose values are in the order of the rows, and whose reductions are remembered."""

    def memorize_passes_needed(self, state: dict[str, Any], eval_env: EvalEnvironment) -> int:
        """Count the passes over the rows of the fit, and set up the state."""
        code = with_remembered_reductions(self.code)
        env = eval_env.with_outer_namespace({REMEMBER: FORMULA_FUNCTIONS[REMEMBER]})
        passes: int = EvalFactor(code, self.origin).memorize_passes_needed(state, env)
        return passes

    def memorize_finish(self, state: dict[str, Any], which_pass: int) -> None:
        """Finish a pass; in new rows a reduction is not computed again, of one row say."""
        super().memorize_finish(state, which_pass)
        for name in state["pass_bins"][which_pass]:
            if getattr(state["transforms"][name], "value", None) is not None:
                arguments = state["memorize_code"][name].removeprefix(f"{name}.memorize_chunk")
                call = f"{name}.transform{arguments}"
                state["eval_code"] = state["eval_code"].replace(call, f"{name}.value")

    def eval(self, memorize_state: dict[str, Any], data: Variables) -> Any:
        """Evaluate on some rows; on the rows of the fit, once."""
        known = known_values(data)
        if self.code in known:
            return known[self.code]
        evaluated = memorize_state.get("evaluated")
        if evaluated is not None and evaluated[0] is data:
            return evaluated[1]
        value = align_rows(self.code, super().eval(memorize_state, data), data)
        dtype = getattr(value, "dtype", None)
        if isinstance(data, NewVariables) and isinstance(dtype, pd.CategoricalDtype):
            return np.asarray(value)  # patsy matches values with the levels of the fit
        return value

    def _eval(self, code: str, memorize_state: dict[str, Any], data: Variables) -> Any:
        """Evaluate patsy's code, the arguments of its transforms taken as evaluated before."""
        code, taken = with_known_values(code, known_values(data))
        inner = {**data, **taken} if taken else data
        return super()._eval(code, memorize_state, inner)

    def eval_once(self, memorize_state: dict[str, Any], data: Variables) -> Any:
        """Evaluate, and keep the values until :func:`forget_values`."""
        value = self.eval(memorize_state, data)
        memorize_state["evaluated"] = data, value
        return value


def with_row_factors(terms: Iterable[Term]) -> list[Term]:
    """Terms of the same factors, evaluated in the order of the rows."""
    return [Term([RowFactor(f.code, f.origin) for f in term.factors]) for term in terms]


def forget_values(infos: Iterable[Any]) -> None:
    """Drop the values kept for the rows of the fit."""
    for info in infos:
        for learned in info.factor_infos.values():
            learned.state.pop("evaluated", None)


def align_rows(code: str, value: Any, variables: Variables) -> Any:
    """Put a column in the order of the rows, by its index, which must have each row once."""
    if is_box(value):
        value.data = align_rows(code, value.data, variables)
        return value
    if not isinstance(value, pd.Series | pd.DataFrame):
        return value
    column = next((v for v in variables.values() if isinstance(v, pd.Series)), None)
    if column is None or len(value) != len(column) or value.index.equals(column.index):
        return value
    positions = column.index.get_indexer(value.index) if value.index.is_unique else None
    if positions is None or (positions < 0).any():
        raise DataError(
            f"term '{code}' gives a column whose index is not that of the rows ({value.index[0]!r} "
            "is its first label): give the values in the order of the rows, with .to_numpy()."
        )
    return value.iloc[np.argsort(positions)]


def row_dependent_factors(
    infos: Iterable[Any], variables: Variables, env: EvalEnvironment, n: int
) -> tuple[str, ...]:
    """Code of the factors whose values depend on other rows."""
    found = []
    states = {f: i.state for info in infos for f, i in info.factor_infos.items()}
    for factor, state in states.items():
        if is_rowwise(factor.code, variables, env):
            continue
        with np.errstate(all="ignore"):
            whole = factor.eval_once(state, variables)
            term = EvaluatedTerm(factor.code, whole, partial(factor.eval, state))
            if depends_on_rows(term, variables, n):
                found.append(factor.code)
    return tuple(found)


def check_rows_independent(codes: Iterable[str], row_dependent: Iterable[str]) -> None:
    """Refuse new rows where a term was computed from all rows of the fit."""
    for code in codes:
        if code in row_dependent:
            raise DataError(
                f"term '{code}' is computed from other rows than its own, so it has no value in "
                "new rows, a grid or a plot. Fit with a function that remembers what it learned "
                "from the rows: center(x), scale(x), poly(x, 2), bs(x, 4), group_mean(x, g), or "
                "within(x, g) for x minus its group's mean; or add the values to the data as a "
                "column."
            )


def is_rowwise(code: str, variables: Variables, env: EvalEnvironment) -> bool:
    """Whether the text alone shows that a term is computed row by row."""
    if code in variables:
        return True
    return _is_rowwise(ast.parse(code.strip(), mode="eval").body, variables, env)


def _is_rowwise(node: ast.AST, variables: Variables, env: EvalEnvironment) -> bool:
    if isinstance(node, ast.Name) and node.id in variables:
        return True
    if isinstance(node, ast.Name | ast.Attribute):
        value = _constant(node, env)
        scalar = isinstance(value, numbers.Number | str | type)
        return scalar or isinstance(value, np.ufunc) or id(value) in _ROWWISE
    if isinstance(node, ast.Call):
        parts: list[ast.AST] = [node.func, *node.args, *node.keywords]
        if isinstance(node.func, ast.Name) and node.func.id in variables:
            return False
    elif isinstance(node, _ROWWISE_NODES):
        parts = list(ast.iter_child_nodes(node))
    else:
        return False
    return all(_is_rowwise(part, variables, env) for part in parts)


def _constant(node: ast.AST, env: EvalEnvironment) -> Any:
    """Value of a name, or of an attribute of a module, beside the data; None if there is none."""
    if isinstance(node, ast.Name):
        known = env.namespace.get(node.id)
        return PATSY_FUNCTIONS.get(node.id) if known is None else known
    if isinstance(node, ast.Attribute):
        owner = _constant(node.value, env)
        if type(owner).__name__ == "module":
            return getattr(owner, node.attr, None)
    return None


class EvaluatedTerm(NamedTuple):
    """A term: its values in all rows, and its evaluation on some."""

    code: str
    whole: Any
    evaluate: Callable[[Variables], Any]


def depends_on_rows(term: EvaluatedTerm, variables: Variables, n: int) -> bool:
    """Whether a term evaluated on some of n rows has other values there."""
    used = {name: variables[name] for name in names_in(term.code) if name in variables}
    whole = _columns(term.whole)
    if len(whole) != n or not used:
        return False
    tolerance = _tolerance(whole)
    compared = False
    for rows in _some_rows(whole, used, n):
        same = _agrees(term, whole, used, rows, tolerance)
        if same is False:
            return True
        compared = compared or same is not None
    # A vector of the caller's, added to a column, fails on any part of the rows.
    return not compared and _agrees(term, whole, used, np.arange(n)[::-1], tolerance) is False


def _agrees(
    term: EvaluatedTerm, whole: Any, used: Variables, rows: Codes, tolerance: Any
) -> bool | None:
    """Whether a term has the same values on these rows alone; None if it has none."""
    part = NewVariables(
        {name: column.iloc[rows].reset_index(drop=True) for name, column in used.items()}
    )
    values = None
    with contextlib.suppress(Exception):  # a part may be too small for a function, or for patsy
        values = _columns(term.evaluate(part))
    if values is None:
        return None
    expected = whole[rows]
    if values.shape != expected.shape:
        return False
    if values.dtype == object or expected.dtype == object:
        pairs = zip(values.ravel(), expected.ravel(), strict=True)
        return all(_is_same(a, b) for a, b in pairs)
    with np.errstate(all="ignore"):
        near = np.abs(values - expected) <= tolerance
    near |= (values == expected) | (np.isnan(values) & np.isnan(expected))
    return bool(near.all())


def _is_same(a: Any, b: Any) -> bool:
    if pd.api.types.is_scalar(a) and pd.isna(a):
        return bool(pd.api.types.is_scalar(b) and pd.isna(b))
    return bool(a == b)


def _columns(value: Any) -> Any:
    """Values of a term as an array of rows and columns, of floats or of objects."""
    if is_box(value):
        value = value.data
    array = np.atleast_1d(np.asarray(value))
    if array.dtype.kind not in "biuf":
        array = array.astype(object)
        with contextlib.suppress(TypeError, ValueError):
            if not any(isinstance(v, str) for v in array.ravel()[:_BLOCK]):
                array = array.astype(float)
    kind = array.dtype if array.dtype.kind in "fO" else np.dtype(float)
    return array.astype(kind, copy=False).reshape(len(array), -1)


def _tolerance(whole: Any) -> Any:
    """Differences of each column that count as rounding."""
    if whole.dtype == object:
        return None
    finite = np.where(np.isfinite(whole), whole, 0.0)
    rounding = _OF_ROUNDING * np.finfo(whole.dtype).eps * np.abs(finite).max(axis=0)
    return _OF_RANGE * np.ptp(finite, axis=0) + rounding


def _some_rows(whole: Any, used: Variables, n: int) -> list[Codes]:
    """Two blocks of rows, each without most of the others', and single rows."""
    step = max(2, -(-n // _BLOCK))
    chosen = {0, n // 2, n - 1}
    columns = [*whole.T[:_MAX_EXTREMES], *list(used.values())[:_MAX_EXTREMES]]
    for column in columns:
        chosen |= _extremes(column, max(1, n // _MAX_SCANNED))
    singles = [np.array([row]) for row in sorted(chosen)]
    blocks = [np.arange(1, n, step)[::-1], np.arange(0, n, step)]
    return [block for block in blocks if len(block)] + singles


def _extremes(column: Any, step: int) -> set[int]:
    """Rows of the smallest and the largest value; of values without numbers, in every step-th."""
    if isinstance(getattr(column, "dtype", None), pd.CategoricalDtype):
        column = column.cat.codes
    array = np.asarray(column)
    if array.dtype.kind not in "biuf":
        codes = pd.factorize(array[::step].astype(str))[0]
        return {int(codes.argmin()) * step, int(codes.argmax()) * step}
    if array.dtype.kind == "f" and np.isnan(array).any():
        is_nan = np.isnan(array)
        rows = {int(is_nan.argmax())}
        if is_nan.all():
            return rows
        return rows | {int(np.nanargmin(array)), int(np.nanargmax(array))}
    return {int(array.argmin()), int(array.argmax())}
