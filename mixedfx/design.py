"""Formula and data to arrays: the response, the fixed columns, a block per random term.

The one idea is the recipe: what patsy and the level tables learned from the data is kept in
the :class:`Design`, so that new rows get the same columns, and every complaint about the
data is made here, by name, before any number is computed from it.

Nothing here knows likelihoods, engines or results.
"""

from __future__ import annotations

import builtins
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd
import patsy.builtins
from patsy import (
    DesignInfo,
    EvalEnvironment,
    NAAction,
    PatsyError,
    Term,
    build_design_matrices,
    design_matrix_builders,
    stateful_transform,
)

from mixedfx.errors import (
    ColumnTypeError,
    DataError,
    EmptyDataError,
    GroupingError,
    InfiniteValueError,
    MissingColumnError,
    ResponseError,
    WeightsError,
    did_you_mean,
)
from mixedfx.formula import Formula, RandomTerm, expand_dot, names_in, terms_of
from mixedfx.frozen import freeze

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# A fixed column whose part outside the span of those before it is smaller than this share of
# its length is dependent: the tolerance of R's lm and lme4.
RANK_TOLERANCE = 1e-7

# How pandas calls columns of objects that are numbers, such as a database's NUMERIC.
_NUMBERS_AS_OBJECTS = ("decimal", "floating", "mixed-integer-float")

# Squares of numbers beyond these do not fit in double precision.
_SMALLEST, _LARGEST = 1e-145, 1e145

# Missing values are dropped before patsy sees the data, so it need not look for them.
_NO_NA = NAAction(on_NA="raise", NA_types=[])


class _Poly:
    """Orthogonal polynomials of a column, as R's ``poly``; remembers its recurrence."""

    def __init__(self) -> None:
        self._seen: list[Vector] = []

    def memorize_chunk(self, x: Any, degree: int = 1) -> None:
        self._seen.append(np.asarray(x, dtype=float).ravel())

    def memorize_finish(self) -> None:
        self._x = np.concatenate(self._seen)
        self._seen = []
        self._fits: dict[int, tuple[Vector, Vector]] = {}

    def transform(self, x: Any, degree: int = 1) -> Matrix:
        if degree not in self._fits:
            if degree < 1 or degree >= len(np.unique(self._x)):
                raise ValueError(f"poly() needs more than degree = {degree} different values")
            self._fits[degree] = _recurrence(self._x, degree)
        shifts, norms = self._fits[degree]
        columns = _polynomials(np.asarray(x, dtype=float).ravel(), shifts, norms)
        return columns[:, 1:] / np.sqrt(norms[1:])


def _recurrence(x: Vector, degree: int) -> tuple[Vector, Vector]:
    """Centres and squared norms of the three-term recurrence (Forsythe 1957)."""
    shifts, norms = np.zeros(degree), np.ones(degree + 1)
    before, now = np.zeros_like(x), np.ones_like(x)
    norms[0] = now @ now
    for d in range(degree):
        shifts[d] = (x * now) @ now / norms[d]
        after = (x - shifts[d]) * now - (norms[d] / norms[d - 1] if d else 0.0) * before
        before, now = now, after
        norms[d + 1] = now @ now
    return shifts, norms


def _polynomials(x: Vector, shifts: Vector, norms: Vector) -> Matrix:
    columns = [np.ones_like(x)]
    before = np.zeros_like(x)
    for d, shift in enumerate(shifts):
        back = norms[d] / norms[d - 1] if d else 0.0
        columns.append((x - shift) * columns[-1] - back * before)
        before = columns[-2]
    return np.column_stack(columns)


_PATSY = {name: getattr(patsy.builtins, name) for name in patsy.builtins.__all__}

# Known in every formula without a prefix; patsy itself knows scale, bs, cr, C, I, Q.
KNOWN_FUNCTIONS = {
    "log": np.log,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "poly": stateful_transform(_Poly),
    "np": np,
}


@dataclass(frozen=True)
class Levels:
    """
    The observed levels of a grouping factor, and how to recognise them again.

    Parameters
    ----------
    keys : tuple of pandas.Index
        The values of each of the factors that are combined.
    cells : ndarray of shape (levels,)
        For each level the mixed-radix code of its combination, increasing.
    """

    keys: tuple[pd.Index, ...]
    cells: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Count the levels."""
        return len(self.cells)

    @cached_property
    def labels(self) -> pd.Index:
        """Each level's label: the value itself, or ``a:b`` for combinations."""
        if len(self.keys) == 1:
            return self.keys[0]
        named = [
            key.astype(str).to_numpy(dtype=object)[part]
            for key, part in zip(self.keys, self.parts(), strict=True)
        ]
        labels = pd.Index([":".join(p) for p in zip(*named, strict=True)])
        if labels.is_unique:
            return labels
        # Values that hold colons themselves: quote them, so that the levels stay apart.
        return pd.Index([":".join(map(repr, p)) for p in zip(*named, strict=True)])

    def parts(self) -> list[npt.NDArray[np.int64]]:
        """Position of each level's value in each of the keys."""
        found, rest = [], self.cells
        for key in reversed(self.keys):
            rest, part = np.divmod(rest, len(key))
            found.append(part)
        return found[::-1]

    def union(self, other: Levels) -> tuple[Levels, Codes, Codes]:
        """
        Join two sets of levels of one factor.

        Parameters
        ----------
        other : Levels
            Of the same factors.

        Returns
        -------
        levels : Levels
            All of them, sorted.
        mine, theirs : ndarray of int
            Position in ``levels`` of each level of the two.
        """
        keys = tuple(a.union(b) for a, b in zip(self.keys, other.keys, strict=True))
        recoded = []
        for levels in (self, other):
            cells = np.zeros(len(levels), dtype=np.int64)
            for new, old, part in zip(keys, levels.keys, levels.parts(), strict=True):
                cells = cells * len(new) + new.get_indexer(old)[part]
            recoded.append(cells)
        cells = np.union1d(*recoded)
        mine, theirs = (np.searchsorted(cells, c) for c in recoded)
        return Levels(keys, cells), mine, theirs

    def encode(self, values: list[Any]) -> Codes:
        """Give the level of each row, -1 where it was never seen."""
        cells = np.zeros(len(values[0]), dtype=np.int64)
        known = np.ones(len(cells), dtype=bool)
        for key, value in zip(self.keys, values, strict=True):
            part = key.get_indexer(_index(value))
            known &= part >= 0
            cells = cells * len(key) + part
        at = np.searchsorted(self.cells, cells).clip(max=len(self.cells) - 1)
        return np.where(known & (self.cells[at] == cells), at, -1)


@dataclass(frozen=True)
class Block:
    """
    The columns of one random term, before they are spread over its levels.

    Parameters
    ----------
    term : RandomTerm
        What the formula says.
    levels : Levels
        ``l`` levels.
    codes : ndarray of shape (n,)
        Level of each row.
    values : ndarray of shape (n, k)
        Value of each effect's column in each row.
    effects : tuple of str
        Names of the ``k`` columns.
    """

    term: RandomTerm
    levels: Levels
    codes: Codes
    values: Matrix
    effects: tuple[str, ...]

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        freeze(*vars(self).values())

    @property
    def group(self) -> str:
        """Name of the grouping factor."""
        return self.term.group_name


@dataclass(frozen=True)
class Recipe:
    """
    What turns new rows into the same columns.

    Parameters
    ----------
    fixed : patsy.DesignInfo
        The fixed columns, also those that were dropped.
    random : tuple of patsy.DesignInfo or None
        Each random term's columns; None for an intercept alone.
    env : patsy.EvalEnvironment
        The caller's functions, for grouping expressions.
    offset : str or None
        The offset's column, if it was given by name.
    """

    fixed: DesignInfo
    random: tuple[DesignInfo | None, ...]
    env: EvalEnvironment
    offset: str | None


@dataclass(frozen=True)
class Design:
    """
    A model's data as arrays.

    Parameters
    ----------
    formula : Formula
        Without a dot.
    y : ndarray of shape (n,)
        The response, less the offset.
    X : ndarray of shape (n, p)
        Fixed columns, those that depend on others left out.
    columns : tuple of str
        Names of all fixed columns, also of those left out.
    kept : ndarray of shape (p,)
        Which of ``columns`` are in ``X``.
    blocks : tuple of Block
        One per random term.
    weights, offset : ndarray of shape (n,) or None
        Prior weights (variance ``sigma**2 / w``) and the known part of the mean.
    index : pandas.Index
        Labels of the rows used.
    dropped_rows : int
        Rows left out for missing values.
    recipe : Recipe
        Rebuilds the columns on new data.
    """

    formula: Formula
    y: Vector
    X: Matrix
    columns: tuple[str, ...]
    kept: Codes
    blocks: tuple[Block, ...]
    weights: Vector | None
    offset: Vector | None
    index: pd.Index
    dropped_rows: int
    recipe: Recipe = field(repr=False)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        freeze(*vars(self).values())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of ``X``."""
        return tuple(self.columns[j] for j in self.kept)

    @property
    def dropped_columns(self) -> tuple[str, ...]:
        """Names of the fixed columns left out because they depend on others."""
        return tuple(c for j, c in enumerate(self.columns) if j not in set(self.kept.tolist()))

    @property
    def ngroups(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""
        return {b.group: len(b.levels) for b in self.blocks}


def build(
    formula: Formula,
    data: Any,
    *,
    weights: Any = None,
    offset: Any = None,
    env: EvalEnvironment | None = None,
) -> Design:
    """
    Evaluate a formula on data.

    Parameters
    ----------
    formula : Formula
        From :func:`mixedfx.parse`.
    data : DataFrame
        pandas, or anything with ``to_pandas()``, the Arrow interface, or a mapping of columns.
    weights, offset : str or array of shape (rows,), optional
        A column's name, or values. Weights are relative precisions: the residual variance of
        a row is ``sigma**2 / weight``.
    env : patsy.EvalEnvironment, optional
        Where functions of the caller are looked up.

    Returns
    -------
    Design
        Rows with a missing value in a used column are left out; the data is not changed.

    Raises
    ------
    DataError
        Each bad input has its own kind; see :mod:`mixedfx.errors`.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> d = build(mfx.parse("Yield ~ 1 + (1 | Batch)"), mfx.datasets.load("Dyestuff"))
    >>> d.X.shape, d.ngroups
    ((30, 1), {'Batch': 6})
    """
    frame = as_frame(data)
    formula = expand_dot(formula, [str(c) for c in frame.columns])
    env = (env or EvalEnvironment([{}])).with_outer_namespace(KNOWN_FUNCTIONS)
    extra = {
        "weights": _per_row(weights, "weights", frame),
        "offset": _per_row(offset, "offset", frame),
    }
    used = _used_columns(formula, frame, env)
    keep = _complete_rows(used, extra)
    dropped = 0 if keep is None else int(len(frame) - keep.sum())
    index = frame.index
    if keep is not None:
        used = {name: column[keep] for name, column in used.items()}
        extra = {k: None if v is None else v[keep] for k, v in extra.items()}
        index = index[keep]
    columns = {name: _prepared(name, column) for name, column in used.items()}

    y, fixed, random, recipe = _evaluate(formula, columns, env, len(index))
    recipe = replace(recipe, offset=offset if isinstance(offset, str) else None)
    y = _checked_response(y, formula, index)
    _check_weights(extra["weights"], index)
    if extra["offset"] is not None:
        _check_finite("offset", extra["offset"], index)
        y = y - extra["offset"]
    names = tuple(recipe.fixed.column_names)
    if not names and not formula.random:
        raise DataError(f"'{formula}' has no terms: add a fixed or a random one.")
    for j, name in enumerate(names):
        _check_finite(f"fixed column '{name}'", fixed[:, j], index)
    kept = independent_columns(fixed)
    if len(index) <= len(kept):
        raise DataError(
            f"{len(kept)} fixed columns need more than {len(index)} rows; leave terms out."
        )
    X = fixed if len(kept) == len(names) else np.ascontiguousarray(fixed[:, kept])
    blocks = _blocks(formula, columns, env, random, recipe, index)
    return Design(
        formula=formula,
        y=y,
        X=X,
        columns=names,
        kept=kept,
        blocks=blocks,
        weights=extra["weights"],
        offset=extra["offset"],
        index=index,
        dropped_rows=dropped,
        recipe=recipe,
    )


def as_frame(data: Any) -> pd.DataFrame:
    """
    Take a table of any of the common kinds.

    Parameters
    ----------
    data : object
        A pandas DataFrame, a mapping of columns, or an object with ``to_pandas()`` or the
        Arrow interface.

    Returns
    -------
    pandas.DataFrame
        The same object where it is one already.

    Raises
    ------
    ColumnTypeError
        If it is no table.
    EmptyDataError
        If it has no rows.

    Examples
    --------
    >>> as_frame({"x": [1, 2]}).shape
    (2, 1)
    """
    if isinstance(data, pd.DataFrame):
        frame = data
    elif isinstance(data, Mapping):
        frame = _from_mapping(data)
    elif isinstance(data, type | pd.Series):
        _fail_table(data)
    elif hasattr(data, "to_pandas"):
        frame = data.to_pandas()
    elif hasattr(data, "__arrow_c_stream__"):
        import pyarrow

        try:
            frame = pyarrow.table(data).to_pandas()
        except (pyarrow.ArrowException, TypeError, ValueError):
            _fail_table(data)
    else:
        _fail_table(data)
    if not isinstance(frame, pd.DataFrame) or frame.columns.nlevels > 1:
        raise ColumnTypeError("data must be a table with plain (single-level) column names.")
    if len(frame) == 0:
        raise EmptyDataError("the data has no rows.")
    return frame


def _fail_table(data: Any) -> NoReturn:
    kind = f"the type {data.__name__}" if isinstance(data, type) else f"a {type(data).__name__}"
    raise ColumnTypeError(
        f"data is {kind}; expected a pandas DataFrame, or an object with to_pandas()."
    )


def _from_mapping(data: Mapping[Any, Any]) -> pd.DataFrame:
    """Make a table of a mapping of columns, naming the one that is none."""
    lengths = {}
    for name, column in data.items():
        dimensions = column.ndim if hasattr(column, "ndim") else min(np.iterable(column), 1)
        if isinstance(column, str):
            dimensions = 0
        if dimensions == 0:
            raise ColumnTypeError(f"'{name}' is a single value; give a column, such as a list.")
        if dimensions > 1:
            raise ColumnTypeError(f"column '{name}' has {dimensions} dimensions; give one.")
        lengths[name] = len(column)
    longest = max(lengths.values(), default=0)
    for name, length in lengths.items():
        if length != longest:
            raise ColumnTypeError(f"column '{name}' has length {length}, others {longest}.")
    return pd.DataFrame(dict(data))


def rebuild(
    design: Design, data: Any, *, groups: Sequence[str]
) -> tuple[pd.DataFrame, Matrix, list[Matrix], list[Codes]]:
    """
    Make the same columns for new rows.

    Parameters
    ----------
    design : Design
        Whose recipe is followed.
    data : DataFrame
        With the columns of the formula's right side.
    groups : sequence of str
        Grouping factors whose columns are needed; the others' need not be in the data.

    Returns
    -------
    frame : pandas.DataFrame
        The data.
    X : ndarray of shape (rows, p)
        NaN in rows with missing values.
    values : list of ndarray of shape (rows, k)
        Each random term's columns; without rows for groups that are not needed.
    codes : list of ndarray of shape (rows,)
        Each random term's levels; -1 for a level never seen, -2 for a missing one.

    Raises
    ------
    DataError
        As :func:`build`.
    """
    frame = as_frame(data)
    env, formula, n = design.recipe.env, design.formula, len(frame)
    fixed_only = replace(formula, response="1", random=())
    columns, rows = _complete(_used_columns(fixed_only, frame, env), n)
    built = _matrices([design.recipe.fixed], columns, len(rows))[0]
    X = _spread(built, rows, n)[:, design.kept]
    values, codes = [], []
    for block, info in zip(design.blocks, design.recipe.random, strict=True):
        if block.group not in groups:
            values.append(np.empty((0, len(block.effects))))
            codes.append(np.empty(0, dtype=np.intp))
            continue
        one_term = replace(formula, response="1", fixed="1", random=(block.term,))
        columns, rows = _complete(_used_columns(one_term, frame, env), n)
        made = np.ones((len(rows), 1))
        if info is not None:
            made = _matrices([info], columns, len(rows))[0]
        values.append(_spread(made, rows, n))
        level = np.full(n, -2, dtype=np.intp)
        if len(rows):
            keys = [_group_values(f, columns, env, len(rows)) for f in block.term.group]
            level[rows] = block.levels.encode(keys)
        codes.append(level)
    return frame, X, values, codes


def _complete(used: dict[str, pd.Series], n: int) -> tuple[dict[str, Any], Codes]:
    """Columns of the rows without missing values, and which rows those are."""
    if not used:
        return {}, np.arange(n)
    complete = ~np.logical_or.reduce([_is_missing(c) for c in used.values()])
    rows = np.flatnonzero(complete)
    return {name: _prepared(name, c[complete], fresh=False) for name, c in used.items()}, rows


# ------------------------------------------------------------------ columns that are used


def _used_columns(
    formula: Formula, frame: pd.DataFrame, env: EvalEnvironment
) -> dict[str, pd.Series]:
    """Collect the columns that the formula reads; complain of names that are nowhere."""
    used: dict[str, pd.Series] = {}
    known = {str(c): c for c in frame.columns}
    for code in _factor_codes(formula):
        for name in sorted(names_in(code)):
            if name in known:
                column = frame[known[name]]
                if isinstance(column, pd.DataFrame):
                    raise ColumnTypeError(f"the data has several columns named '{name}'.")
                used[name] = column
            elif code == name or not _is_known(name, env):
                _fail_missing(name, code, formula, list(known))
    return used


def _factor_codes(formula: Formula) -> list[str]:
    """Python text of every factor in the formula, each once."""
    codes = [formula.response]
    for text in (formula.fixed, *(t.effects for t in formula.random)):
        codes += [f.name() for term in terms_of(text) for f in term.factors]
    for term in formula.random:
        codes += term.group
    return list(dict.fromkeys(codes))


def _is_known(name: str, env: EvalEnvironment) -> bool:
    return name in env.namespace or hasattr(patsy.builtins, name) or hasattr(builtins, name)


def _fail_missing(name: str, code: str, formula: Formula, columns: list[str]) -> NoReturn:
    role = "grouping column" if any(code in t.group for t in formula.random) else "column"
    if code.replace(" ", "") in columns and code != name:
        hint = f" Write Q({code.replace(' ', '')!r}) for a name with odd characters."
    else:
        hint = did_you_mean(name, columns)
    shown = ", ".join(columns[:12]) + (", ..." if len(columns) > 12 else "")
    raise MissingColumnError(f"{role} '{name}' is not in the data; columns are: {shown}.{hint}")


def _per_row(value: Any, what: str, frame: pd.DataFrame) -> Vector | None:
    """Read weights or an offset, by name or by value."""
    if value is None:
        return None
    if isinstance(value, str):
        if value not in frame.columns:
            shown = ", ".join(map(str, frame.columns))
            hint = did_you_mean(value, map(str, frame.columns))
            raise MissingColumnError(
                f"{what} column '{value}' is not in the data; columns are: {shown}.{hint}"
            )
        value = frame[value]
        if isinstance(value, pd.DataFrame):
            raise ColumnTypeError(f"the data has several columns named '{value.columns[0]}'.")
    elif isinstance(value, pd.Series) and not value.index.equals(frame.index):
        raise ColumnTypeError(f"{what} is a Series whose index differs from the data's index.")
    shape = np.shape(value)
    if len(shape) == 1 and shape != (len(frame),):
        raise ColumnTypeError(f"{what} has {shape[0]} values, but the data has {len(frame)} rows.")
    if len(shape) != 1:
        raise ColumnTypeError(f"{what} must be numbers, one for each of the {len(frame)} rows.")
    return numbers(what, value)


def numbers(what: str, value: Any) -> Vector:
    """
    Read real numbers.

    Parameters
    ----------
    what : str
        What they are, for the error.
    value : array or Series
        One dimension.

    Returns
    -------
    ndarray
        A copy, missing values as NaN.

    Raises
    ------
    ColumnTypeError
        If they are no real numbers.
    """
    if isinstance(value, pd.DataFrame):
        raise ColumnTypeError(f"the data has several columns named '{value.columns[0]}' ({what}).")
    column = value if isinstance(value, pd.Series) else pd.Series(value)
    kind = getattr(column.dtype, "kind", "O")
    if kind in "mMc":
        raise ColumnTypeError(f"{what} must be numbers, not {column.dtype} (complex or dates).")
    try:
        return np.array(column.to_numpy(dtype=float, na_value=np.nan, copy=True))
    except (TypeError, ValueError):
        raise ColumnTypeError(f"{what} must be numbers; it holds {column.iloc[0]!r}.") from None


def _is_missing(column: pd.Series) -> npt.NDArray[np.bool_]:
    return np.asarray(column.isna(), dtype=bool)


def _complete_rows(
    used: dict[str, pd.Series], extra: dict[str, Vector | None]
) -> npt.NDArray[np.bool_] | None:
    """Mask of the rows without missing values; None where that is all of them."""
    missing = {name: _is_missing(column) for name, column in used.items()}
    missing |= {name: np.isnan(v) for name, v in extra.items() if v is not None}
    if not any(m.any() for m in missing.values()):
        return None
    keep = ~np.logical_or.reduce(list(missing.values()))
    if not keep.any():
        counts = ", ".join(f"{name} ({m.sum()})" for name, m in missing.items() if m.any())
        raise EmptyDataError(
            f"no row is complete: of {len(keep)} rows, missing values are in {counts}."
        )
    return np.asarray(keep)


def _prepared(name: str, column: pd.Series, *, fresh: bool = True) -> pd.Series:
    """
    Hand a complete column to patsy in the form that it reads fast, with a plain index.

    Text becomes categorical with sorted levels (what patsy would find, found by hashing),
    levels that no row has are dropped, as R does, and narrow numbers are widened, so that
    ``x**2`` does not overflow. In new rows categories stay values: patsy matches them with
    those of the fit.
    """
    dtype: Any = column.dtype
    kind = getattr(dtype, "kind", "O")
    if kind in "mMc":
        raise ColumnTypeError(
            f"column '{name}' holds {dtype}; turn it into numbers first, for example days "
            "since a start."
        )
    if isinstance(dtype, pd.CategoricalDtype):
        if not fresh:
            return pd.Series(column.to_numpy(dtype=object), dtype=object)
        return pd.Series(column.array).cat.remove_unused_categories()
    if pd.api.types.is_bool_dtype(dtype):
        return pd.Series(column.to_numpy(dtype=bool))
    if kind == "u" or pd.api.types.is_unsigned_integer_dtype(dtype):
        return _whole(column)
    if kind == "i" or pd.api.types.is_integer_dtype(dtype):
        return pd.Series(column.to_numpy(dtype=np.int64))
    if kind == "f" or pd.api.types.is_numeric_dtype(dtype):
        return pd.Series(column.to_numpy(dtype=float))
    inferred = pd.api.types.infer_dtype(column, skipna=True)
    if inferred == "integer":
        return _whole(column)
    if inferred in _NUMBERS_AS_OBJECTS:
        return pd.Series(column.to_numpy(dtype=float))
    if not fresh:
        return pd.Series(column.to_numpy(dtype=object), dtype=object)
    try:
        return pd.Series(pd.Categorical(column.to_numpy(dtype=object)))
    except (TypeError, ValueError, NotImplementedError):
        raise ColumnTypeError(
            f"column '{name}' holds {type(column.iloc[0]).__name__} objects, which cannot be "
            "sorted into levels; make it text or numbers."
        ) from None


def _whole(column: pd.Series) -> pd.Series:
    """Widen whole numbers; those beyond 64 signed bits become floats, so that none wraps."""
    try:
        wide = column.to_numpy(dtype=np.int64)
        if (wide == column.to_numpy()).all():
            return pd.Series(wide)
    except (OverflowError, TypeError, ValueError):
        pass
    return pd.Series(column.to_numpy(dtype=float))


# ------------------------------------------------------------------ patsy


def _evaluate(
    formula: Formula, columns: dict[str, Any], env: EvalEnvironment, n: int
) -> tuple[Any, Matrix, list[Matrix | None], Recipe]:
    """Let patsy learn the columns and build them, each factor evaluated once."""
    texts = [formula.fixed, *(t.effects for t in formula.random)]
    plain_response = formula.response in columns
    wanted = [t for t in texts[1:] if t != "1"]
    termlists = [terms_of(t) for t in [texts[0], *wanted]]
    if not plain_response:
        termlists.append(terms_of("0 + " + formula.response))
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            infos = design_matrix_builders(termlists, lambda: iter([columns]), env, _NO_NA)
    except Exception as error:
        _fail_evaluation(error, termlists, columns, env)
    built = _matrices(infos, columns, n)
    y = columns[formula.response] if plain_response else _built_response(infos[-1], built.pop())
    _check_several_levels(infos)
    infos = iter(infos)
    fixed_info, matrices = next(infos), iter(built)
    fixed = next(matrices)
    random_infos = tuple(None if t == "1" else next(infos) for t in texts[1:])
    random = [None if info is None else next(matrices) for info in random_infos]
    return y, fixed, random, Recipe(fixed_info, random_infos, env, None)


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


def _matrices(infos: list[DesignInfo], columns: dict[str, Any], n: int) -> list[Matrix]:
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
                _check_length(factor.name(), _length_of(info, factor, columns), n)
    made = iter(built)
    return [
        np.asarray(next(made)) if i.factor_infos else np.ones((n, len(i.column_names)))
        for i in infos
    ]


def _length_of(info: DesignInfo, factor: Any, columns: dict[str, Any]) -> int:
    value = factor.eval(info.factor_infos[factor].state, columns)
    return len(value) if np.ndim(value) else 1


def _check_length(name: str, length: int, n: int) -> None:
    if length != n:
        raise DataError(f"term '{name}' gives {length} values, but there are {n} rows.")


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
                    f"term '{factor.name()}' was numeric in the fit; it now holds "
                    f"{_odd_one(value)}."
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


def _spread(matrix: Matrix, rows: Codes, n: int) -> Matrix:
    if len(rows) == n:
        return matrix
    full = np.full((n, matrix.shape[1]), np.nan)
    full[rows] = matrix
    return full


# ------------------------------------------------------------------ what may be fitted


def _checked_response(value: Any, formula: Formula, index: pd.Index) -> Vector:
    name = formula.response
    array = np.asarray(value)
    if array.dtype.kind in "OUS" or isinstance(getattr(value, "dtype", None), pd.CategoricalDtype):
        raise ResponseError(
            f"the response '{name}' is not numeric: it holds {_odd_one(array)}. Make it numbers, "
            "for example with pandas.to_numeric."
        )
    if array.ndim == 2 and array.shape[1] != 1:
        raise ResponseError(f"the response '{name}' has {array.shape[1]} columns; it must be one.")
    y = array.reshape(-1).astype(float)
    _check_length(name, len(y), len(index))
    _check_finite(f"the response '{name}'", y, index)
    if y.min() == y.max():
        raise ResponseError(f"the response '{name}' is {y[0]:g} in every row: nothing to explain.")
    return y


def _odd_one(array: Any) -> str:
    """Show the first value that is no number."""
    values = np.asarray(array, dtype=object).ravel()
    odd = pd.to_numeric(pd.Series(values).astype(str), errors="coerce").isna().to_numpy()
    return f"{values[int(np.argmax(odd))]!s:.40}"


def _check_finite(what: str, values: Vector, index: pd.Index) -> None:
    # Of a finite sum of squares every part is finite; only odd columns need the closer look.
    with np.errstate(all="ignore"):
        squares = float(values @ values)
        if _SMALLEST**2 * len(values) < squares < _LARGEST**2:
            return
        bad = np.flatnonzero(~np.isfinite(values))
        size = float(np.abs(values).max(initial=0.0))
    if not len(bad) and (size >= _LARGEST or 0.0 < size <= _SMALLEST):
        raise DataError(
            f"{what} has values of about {size:.0e}, whose squares leave double precision: "
            "change its unit."
        )
    if len(bad):
        raise InfiniteValueError(
            f"{what} is {values[bad[0]]} in {len(bad)} rows, first in row {index[bad[0]]}; "
            "correct these values, or make them missing to leave the rows out."
        )


def _check_weights(weights: Vector | None, index: pd.Index) -> None:
    if weights is None:
        return
    _check_finite("weights", weights, index)
    if (weights <= 0).any():
        at = int(np.argmax(weights <= 0))
        raise WeightsError(
            f"weights must be positive; {(weights <= 0).sum()} are not, the first is "
            f"{weights[at]:g} in row {index[at]}. Leave such rows out."
        )


def independent_columns(X: Matrix) -> Codes:
    """
    Find the columns that do not depend on those before them.

    Parameters
    ----------
    X : ndarray of shape (n, p)
        Fixed columns.

    Returns
    -------
    ndarray of int
        Positions kept, in order.

    Notes
    -----
    A column is dependent if its part outside the span of the kept ones before it is below
    ``RANK_TOLERANCE`` of its length: the limited pivoting of R's ``lm``. The cross-products
    alone decide the clear cases; only close ones cost a QR factorisation of the rows.

    Examples
    --------
    >>> independent_columns(np.array([[1.0, 2.0, 0.0], [1.0, 2.0, 1.0], [1.0, 2.0, 5.0]]))
    array([0, 2])
    """
    p = X.shape[1]
    gram = X.T @ X
    lengths = np.sqrt(np.diag(gram))
    if p and (lengths > 0).all():
        scaled = gram / np.outer(lengths, lengths)
        if np.linalg.eigvalsh(scaled)[0] > 1e-6:
            return np.arange(p)
    lengths = np.linalg.norm(X, axis=0)
    basis = np.zeros((X.shape[0], 0))
    kept = []
    for j in range(p):
        if lengths[j] == 0.0:
            continue
        rest = X[:, j] / lengths[j]
        for _ in range(2):  # twice is enough (Kahan, in Parlett 1980)
            rest = rest - basis @ (basis.T @ rest)
        size = np.linalg.norm(rest)
        if size > RANK_TOLERANCE:
            kept.append(j)
            basis = np.column_stack([basis, rest / size])
    return np.array(kept, dtype=np.intp)


# ------------------------------------------------------------------ grouping factors


def _blocks(
    formula: Formula,
    columns: dict[str, Any],
    env: EvalEnvironment,
    random: list[Matrix | None],
    recipe: Recipe,
    index: pd.Index,
) -> tuple[Block, ...]:
    n = len(index)
    coded: dict[tuple[str, ...], tuple[Levels, Codes]] = {}
    single: dict[str, tuple[pd.Index, Codes]] = {}
    blocks = []
    for term, values, info in zip(formula.random, random, recipe.random, strict=True):
        if term.group not in coded:
            for factor in term.group:
                if factor not in single:
                    values_of = _group_values(factor, columns, env, n)
                    if values_of.dtype.kind == "f":
                        _check_finite(f"grouping factor '{factor}'", values_of.to_numpy(), index)
                    single[factor] = _factorize(values_of)
            coded[term.group] = _combine([single[f] for f in term.group])
        levels, codes = coded[term.group]
        if values is None:
            values, names = np.broadcast_to(1.0, (n, 1)).view(), ("Intercept",)
        else:
            assert info is not None  # an intercept alone has neither
            names = tuple(info.column_names)
        _check_group(term, len(levels), values, n)
        for j, name in enumerate(names):
            _check_finite(f"column '{name}' of {term}", values[:, j], index)
            if not values[:, j].any():
                raise DataError(f"column '{name}' of {term} is zero in every row; leave it out.")
        blocks.append(Block(term, levels, codes, values, names))
    return tuple(blocks)


def _group_values(factor: str, columns: dict[str, Any], env: EvalEnvironment, n: int) -> Any:
    """Values of one grouping factor: a column, or an expression of columns."""
    if factor in columns:
        return columns[factor]
    quoted = {"Q": lambda name: columns[name]}
    try:
        with np.errstate(all="ignore"):
            value = env.eval(factor, inner_namespace={**_PATSY, **columns, **quoted})
    except Exception as error:
        raise DataError(f"grouping factor '{factor}' could not be evaluated: {error}") from error
    value = getattr(value, "data", value) if type(value).__name__ == "_CategoricalBox" else value
    if getattr(value, "ndim", 1) != 1 or not hasattr(value, "__len__") or len(value) != n:
        raise GroupingError(
            f"grouping factor '{factor}' does not give one value per row; name a column."
        )
    return _prepared(factor, pd.Series(value).reset_index(drop=True))


def _factorize(values: pd.Series) -> tuple[pd.Index, Codes]:
    """Sorted levels that occur, and each row's code; category order is kept."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        used = values.cat.remove_unused_categories().cat
        return used.categories, used.codes.to_numpy().astype(np.intp)
    array = values.to_numpy()
    if array.dtype.kind in "iu":
        low, high = int(array.min()), int(array.max())
        if high - low < 4 * len(array) + 1024:  # dense numbers need no hashing
            shifted = (array - array.dtype.type(low)).astype(np.intp)
            present = np.bincount(shifted, minlength=high - low + 1) > 0
            rank = np.cumsum(present) - 1
            return pd.Index(np.flatnonzero(present).astype(array.dtype) + low), rank[shifted]
    codes, uniques = pd.factorize(array, sort=True)
    return pd.Index(uniques), codes.astype(np.intp)


def _index(values: Any) -> pd.Index:
    """Values of new rows, to look up among known levels."""
    if isinstance(getattr(values, "dtype", None), pd.CategoricalDtype):
        values = np.asarray(values.astype(object))
    found: pd.Index = pd.Index(np.asarray(values))
    return found


def _combine(parts: list[tuple[pd.Index, Codes]]) -> tuple[Levels, Codes]:
    """Observed combinations of several factors, by arithmetic on their codes."""
    keys = tuple(key for key, _ in parts)
    if len(parts) == 1:
        return Levels(keys, np.arange(len(keys[0]))), parts[0][1]
    cells = np.zeros(len(parts[0][1]), dtype=np.int64)
    for key, codes in parts:
        cells = cells * len(key) + codes
    observed, codes = _factorize(pd.Series(cells))
    return Levels(keys, observed.to_numpy(dtype=np.int64)), codes


def _check_group(term: RandomTerm, levels: int, values: Matrix, n: int) -> None:
    name = term.group_name
    if levels < 2:
        raise GroupingError(
            f"grouping factor '{name}' has only one level; a variance between levels needs two."
        )
    if levels >= n:
        raise GroupingError(
            f"grouping factor '{name}' has {levels} levels for {n} rows: with one row per level "
            "its variance cannot be told from the residual's."
        )
    if levels * values.shape[1] >= n:
        raise GroupingError(
            f"random term {term} has {levels * values.shape[1]} effects ({values.shape[1]} for "
            f"each of {levels} levels of '{name}') for {n} rows: its variances cannot be told "
            "from the residual's. Use fewer effects."
        )
