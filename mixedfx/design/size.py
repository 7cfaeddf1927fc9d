"""Size of the columns that a formula asks for, before they are built.

The fixed part is a dense matrix of n rows and p columns; making it and solving for its coefficients
take about ``n p^2`` multiplications. A random term with k effects a level has ``k (k + 1) / 2``
covariances.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from patsy import DesignInfo, Term

from mixedfx._names import decode, written
from mixedfx.design.variables import variable_of
from mixedfx.errors import DataError, SizeError
from mixedfx.linalg.available_memory import check_memory, is_always_available, size_text

# A factor of more levels than this is refused where the fit would take more multiplications, about
# ten seconds of one processor; in random terms it is refused whatever the rows.
_MANY_LEVELS, _MANY_MULTIPLICATIONS = 1_000, 5e10
# Copies of the fixed part at the peak of a fit, as measured.
_COPIES = 3
# Interactions of more columns are refused: their names alone fill memory.
_MANY_COLUMNS = 2_000_000

_CATEGORICAL = re.compile(r"C\(\s*(\w+)\s*[,)]")


def check_factors(
    termlists: Sequence[Sequence[Term]], variables: Mapping[str, Any], n: int
) -> None:
    """
    Refuse factors of so many levels that their columns, or the names of these, are too many.

    The first list of terms is the fixed part; the others are those of random terms.
    """
    for position, terms in enumerate(termlists):
        levels = {f.name(): _n_levels(f.name(), variables) for t in terms for f in t.factors}
        if max(levels.values(), default=1) == 1:  # of numbers alone
            continue
        columns = {term: math.prod(levels[f.name()] for f in term.factors) for term in terms}
        for term, count in columns.items():
            if count > _MANY_COLUMNS:
                raise SizeError(
                    f"term '{decode(term.name())}' has {count:,} columns, in {n:,} rows "
                    f"{size_text(8.0 * n * count)}: {_advice([f.name() for f in term.factors])}"
                )
        largest = max(levels, key=levels.__getitem__)
        if position:
            _check_random(largest, levels[largest])
        else:
            _check_fixed(largest, levels[largest], n, sum(columns.values()))


def _check_fixed(factor: str, levels: int, n: int, p: int) -> None:
    """Refuse the factor with most levels of the fixed part, given its number of columns."""
    name = decode(factor)
    if levels >= n > 1:
        raise DataError(
            f"factor '{name}' has a different value in each of the {n:,} rows: as a fixed "
            "effect it explains the response exactly. Leave it out, as in "
            f"'. - {written(factor)}' after '.'; if it is numbers held as text, make it "
            "numbers with pandas.to_numeric."
        )
    if levels > _MANY_LEVELS and n * float(p) ** 2 > _MANY_MULTIPLICATIONS:
        raise SizeError(
            f"factor '{name}' has {levels:,} levels, so the fixed part has about {p:,} columns "
            f"in {n:,} rows, {size_text(8.0 * n * p)} as a dense matrix: {_advice([factor])}"
        )


def _check_random(factor: str, levels: int) -> None:
    """Refuse a factor in the effects of a random term, each level's with its own variance."""
    if levels > _MANY_LEVELS:
        raise SizeError(
            f"factor '{decode(factor)}' has {levels:,} levels, each an effect with its own "
            f"variance, and {levels * (levels - 1) // 2:,} correlations. {_advice([factor])}"
        )


def _n_levels(code: str, variables: Mapping[str, Any]) -> int:
    """Levels of a categorical column, by itself or in ``C()``; one for other factors."""
    if (column := variable_of(variables, code)) is not None:
        return column.n_levels
    name = _CATEGORICAL.match(code)
    values = None if name is None else variables.get(name[1])
    return int(values.nunique()) if isinstance(values, pd.Series) else 1


def check_columns(infos: Sequence[DesignInfo], n: int) -> None:
    """Refuse columns beyond memory: first those of the fixed part, then those of random terms."""
    for position, info in enumerate(infos):
        p = len(info.column_names)
        if is_always_available(_COPIES * 8.0 * n * p):
            continue
        check_memory(
            f"the {'random' if position else 'fixed'} part has {p:,} columns in {n:,} rows",
            8.0 * n * p,
            copies=_COPIES,
            advice="Leave terms out, or fit a part of the rows.",
        )


def _advice(factors: Sequence[str]) -> str:
    """What to write instead, given the names of the factors, the largest first."""
    name = _CATEGORICAL.match(factors[0])
    group = factors[0] if name is None else name[1]
    return (
        f"Write '(1 | {written(group)})' for effects that vary between its levels, or leave it out."
    )
