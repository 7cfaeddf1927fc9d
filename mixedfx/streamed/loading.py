"""Models that need all rows at once: the columns used are read into memory, if they fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
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
from mixedfx.linalg.available_memory import available_memory, check_memory, size_text
from mixedfx.sources.reading import read_chunks
from mixedfx.sources.source import DataSource, PartitionedSource

# Copies of the columns at the peak of a fit in memory: the table, the variables, the matrices.
_COPIES = 4
# Name of the column with the numbers of equal rows.
TRIALS = "rows_of_equal_values"
_LEAST_AVAILABLE = 0.25  # share of the memory that is looked at before it is used


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
    for term in formula.random:
        if is_membership(term.group[0]) or has_positions(term.structure):
            return str(term)
    return None


def load_columns(
    formulas: Sequence[Formula], source: DataSource, arguments: Sequence[Any], reason: str
) -> pd.DataFrame:
    """Read the columns that formulas and arguments name; SizeError before memory is short."""
    names = _names(formulas, source, arguments)
    parts: list[pd.DataFrame] = []
    n_bytes = 0
    for frame in read_chunks(source, names, "reading"):
        parts.append(frame)
        n_bytes += _bytes(frame)
        what = f"{reason} needs all rows at once, and the {len(names)} columns used"
        _check(n_bytes, what)
    return pd.concat(parts, ignore_index=True)


def load_merged(
    formulas: Sequence[Formula], source: DataSource, arguments: Sequence[Any]
) -> tuple[pd.DataFrame, int]:
    """Distinct rows of the columns used with their numbers in ``TRIALS``, and the rows in all."""
    names = list(_names(formulas, source, arguments))
    if isinstance(source, PartitionedSource):
        reduced: pd.DataFrame = source.reduce(names, _counted, _joined)
        return reduced, int(reduced[TRIALS].sum())
    merged: list[pd.DataFrame] = []
    n_waiting = 0
    for frame in read_chunks(source, names, "reading"):
        merged.append(_counted(frame))
        n_waiting += len(merged[-1])
        if len(merged) > 1 and n_waiting > 2 * len(merged[0]):
            merged = [_joined(*merged)]
            n_waiting = len(merged[0])
        _check(sum(map(_bytes, merged)))
    found = _joined(*merged)
    return found, int(found[TRIALS].sum())


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
    """Whether the response is a column whose first rows are 0, 1 or missing."""
    codes = response_code(formula.response).parts
    columns = {encode(c): c for c in source.columns}
    if len(codes) != 1 or codes[0] not in columns:
        return False
    first = next(iter(source.chunks([columns[codes[0]]])), None)
    values = None if first is None else first.iloc[:, 0].dropna()
    return values is not None and values.dtype.kind in "biuf" and bool(values.isin([0, 1]).all())


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


def _check(
    n_bytes: int, what: str = "a generalised model needs all distinct rows at once, and these"
) -> None:
    """Raise a SizeError where so many bytes leave too little memory for a fit."""
    if n_bytes > _LEAST_AVAILABLE * available_memory():
        check_memory(
            f"{what} have been read up to {size_text(n_bytes)}",
            n_bytes,
            copies=_COPIES,
            advice="Fit a part of the rows, or use a machine with more memory.",
        )
