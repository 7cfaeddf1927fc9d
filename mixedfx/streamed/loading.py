"""Models that need all rows at once: the columns used are read into memory, if they fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype
from patsy import EvalEnvironment

from mixedfx._names import encode
from mixedfx.design.columns import factor_codes
from mixedfx.design.stream.sampling import concatenated
from mixedfx.design.stream.strata import has_strata
from mixedfx.formula.expansion import of_columns
from mixedfx.formula.membership import is_membership
from mixedfx.formula.positions import has_positions
from mixedfx.formula.response import response_code
from mixedfx.formula.terms import Formula
from mixedfx.linalg.available_memory import check_memory, size_text
from mixedfx.sources.reading import read_chunks
from mixedfx.sources.source import DataSource, PartitionedSource

# Copies of the columns at the peak of a fit in memory: the table, the variables, the matrices; of a
# generalised model the derivatives of each row too.
_COPIES, GENERALIZED_COPIES = 4, 12
# Name of the column with the numbers of equal rows.
TRIALS = "rows_of_equal_values"
# Rows after which it is seen whether many are equal, and the share that is left of them then.
_ENOUGH_ROWS, _WORTH_MERGING = 2**17, 0.5


def reason_for_all_rows(
    formula: Formula,
    dispersion: Formula | None,
    options: Mapping[str, Any],
    columns: Sequence[str],
    env: EvalEnvironment,
) -> str | None:
    """What of a model needs all rows at once; None where cross-products are enough."""
    for name in ("residual", "relmat", "priors", "residual_sd"):
        if options.get(name) is not None:
            return f"{name}="
    if dispersion is not None and not has_strata(dispersion, columns, env):
        return f"dispersion='{dispersion}'"
    if options["engine"] in ("statsmodels", "em"):
        return f"engine={options['engine']!r}"
    return term_of_all_rows(formula)


def reason_for_memory(formula: Formula, nagq: int, given: Mapping[str, Any]) -> str | None:
    """What of a generalised model needs all rows at once; None where blocks of them are enough."""
    if nagq != 1:
        return f"nagq={nagq}"
    for name, value in given.items():
        if value is not None:
            return f"{name}="
    return term_of_all_rows(formula)


def term_of_all_rows(formula: Formula) -> str | None:
    """A random term that needs all rows at once."""
    for term in formula.random:
        if is_membership(term.group[0]) or has_positions(term.structure):
            return str(term)
    return None


_DISTINCT = "a generalised model needs all distinct rows at once, and these"


def load_columns(
    formulas: Sequence[Formula],
    source: DataSource,
    arguments: Sequence[Any],
    reason: str,
    copies: int = _COPIES,
) -> pd.DataFrame:
    """Read the columns that formulas and arguments name; SizeError before memory is short."""
    names = _names(formulas, source, arguments)
    parts: list[pd.DataFrame] = []
    n_bytes = 0
    for frame in read_chunks(source, names, "reading"):
        parts.append(frame)
        n_bytes += _bytes(frame)
        what = f"{reason} needs all rows at once, and the {len(names)} columns used"
        _check(n_bytes, what, copies)
    return pd.concat(parts, ignore_index=True)


def load_merged(
    formulas: Sequence[Formula], source: DataSource, arguments: Sequence[Any]
) -> pd.DataFrame | None:
    """Distinct rows of the columns used with their numbers in ``TRIALS``; None of many of them."""
    names = list(_names(formulas, source, arguments))
    if isinstance(source, PartitionedSource):
        reduced: pd.DataFrame = source.reduce(names, _counted, _joined)
        return reduced
    merged: list[pd.DataFrame] = []
    n_waiting = n = 0
    for frame in read_chunks(source, names, "reading"):
        merged.append(_counted(frame))
        n_waiting += len(merged[-1])
        if len(merged) > 1 and n_waiting > 2 * len(merged[0]):
            merged = [_joined(*merged)]
            n_waiting = len(merged[0])
        n += len(frame)
        if n >= _ENOUGH_ROWS and n_waiting > _WORTH_MERGING * n:
            return None
        _check(sum(map(_bytes, merged)), _DISTINCT, GENERALIZED_COPIES)
    return _joined(*merged)


def _counted(frame: pd.DataFrame) -> pd.DataFrame:
    """Distinct rows with their numbers."""
    return _joined(frame.assign(**{TRIALS: 1}))


def _joined(*tables: pd.DataFrame) -> pd.DataFrame:
    """Distinct rows of some tables of distinct rows."""
    frame = concatenated(tables)
    names = [name for name in frame if name != TRIALS]
    grouped = frame.groupby(names, sort=False, dropna=False, observed=True)
    return grouped[TRIALS].sum().reset_index()


def has_binary_response(formula: Formula, source: DataSource) -> bool:
    """Whether the response is a column whose first rows are 0, 1 or missing, or of two levels."""
    codes = response_code(formula.response).parts
    columns = {encode(c): c for c in source.columns}
    if len(codes) != 1 or codes[0] not in columns:
        return False
    first = next(iter(source.chunks([columns[codes[0]]])), None)
    values = None if first is None else first.iloc[:, 0].dropna()
    if values is None or not is_numeric_dtype(values.dtype):
        return values is not None  # of other levels than two there is no fit
    return bool(values.isin([0, 1]).all())


def _names(
    formulas: Sequence[Formula], source: DataSource, arguments: Sequence[Any]
) -> tuple[str, ...]:
    """Columns that formulas and arguments read."""
    columns = list(source.columns)
    read: set[str] = {a for a in arguments if isinstance(a, str)}
    for formula in formulas:
        expanded = of_columns(formula, columns)
        read |= {name for _, names in factor_codes(expanded) for name in names}
    return tuple(c for c in columns if c in read or encode(c) in read)


def _bytes(frame: pd.DataFrame) -> int:
    return int(frame.memory_usage(deep=True).sum())


def _check(n_bytes: int, what: str, copies: int) -> None:
    """Raise a SizeError where so many bytes leave too little memory for a fit."""
    check_memory(
        f"{what} have been read up to {size_text(n_bytes)}",
        n_bytes,
        copies=copies,
        advice="Fit a part of the rows, or use a machine with more memory.",
    )
