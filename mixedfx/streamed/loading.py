"""Models that need all rows at once: the columns used are read into memory, if they fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mixedfx._names import encode
from mixedfx.design.columns import factor_codes
from mixedfx.formula.expansion import expand_dot, resolve_dotted
from mixedfx.formula.membership import is_membership
from mixedfx.formula.positions import has_positions
from mixedfx.formula.terms import Formula
from mixedfx.linalg.available_memory import available_memory, check_memory, size_text
from mixedfx.sources.reading import read_chunks
from mixedfx.sources.source import DataSource

# Copies of the columns at the peak of a fit in memory: the table, the variables, the matrices.
_COPIES = 4
_LEAST_AVAILABLE = 0.25  # share of the memory that is looked at before it is used


def reason_for_all_rows(formula: Formula, options: Mapping[str, Any]) -> str | None:
    """What of a model needs all rows at once; None where cross-products are enough."""
    for name in ("dispersion", "residual", "relmat", "priors", "residual_sd"):
        if options.get(name) is not None:
            return f"{name}="
    if options.get("engine") in ("statsmodels", "em"):
        return f"engine={options['engine']!r}"
    for term in formula.random:
        if is_membership(term.group[0]) or has_positions(term.structure):
            return str(term)
    return None


def load_columns(
    formulas: Sequence[Formula], source: DataSource, arguments: Sequence[Any], reason: str
) -> pd.DataFrame:
    """Read the columns that formulas and arguments name; SizeError before memory is short."""
    columns = list(source.columns)
    read: set[str] = {a for a in arguments if isinstance(a, str)}
    for formula in formulas:
        expanded = expand_dot(resolve_dotted(formula, columns), columns)
        read |= {name for _, names in factor_codes(expanded) for name in names}
    names = tuple(c for c in columns if c in read or encode(c) in read)
    parts: list[pd.DataFrame] = []
    n_bytes, limit = 0, _LEAST_AVAILABLE * available_memory()
    for frame in read_chunks(source, names, "reading"):
        parts.append(frame)
        n_bytes += int(frame.memory_usage(deep=True).sum())
        if n_bytes > limit:
            check_memory(
                f"{reason} needs all rows at once, and the {len(names)} columns used have been "
                f"read up to {size_text(n_bytes)}",
                n_bytes,
                copies=_COPIES,
                advice="Leave it out, fit a part of the rows, or use a machine with more memory.",
            )
    return pd.concat(parts, ignore_index=True)
