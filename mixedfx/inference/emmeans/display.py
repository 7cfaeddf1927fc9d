"""Labels of estimated marginal means, and their table as text."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from mixedfx.formatting import format_column, is_number
from mixedfx.inference.emmeans.reference_grid import level_text

# Significant digits of the columns that are numbers.
_DIGITS = {"emmean": 5, "estimate": 5, "std_error": 5, "df": 3, "statistic": 3, "p_value": 3}
_DIGITS |= {"conf_low": 5, "conf_high": 5}


def mean_labels(table: pd.DataFrame, specs: Sequence[str]) -> list[str]:
    """Label each mean as emmeans does: numbers with their variable, operators in parentheses."""
    if not specs:
        return ["overall"] * len(table)
    texts = []
    for name in specs:
        levels = [level_text(value) for value in table[name]]
        prefix = name if all(map(is_number, levels)) else ""
        texts.append([prefix + level for level in levels])
    labels = [" ".join(parts) for parts in zip(*texts, strict=True)]
    return [f"({label})" if re.search(r"[-+*/]", label) else label for label in labels]


def formatted_table(table: pd.DataFrame) -> pd.DataFrame:
    """Format every column as text: levels flush left, numbers to the digits needed."""
    formatted: dict[str, list[str]] = {}
    for name in table.columns:
        if name in _DIGITS:
            formatted[name] = format_column(table[name], digits=_DIGITS[name])
        else:
            texts = [level_text(value) for value in table[name]]
            width = max(map(len, [name, *texts]))
            formatted[name.ljust(width)] = [text.ljust(width) for text in texts]
    return pd.DataFrame(formatted)
