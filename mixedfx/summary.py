"""Tables to text and HTML: what a fit prints.

Knows tables and strings only. Numbers are shown to the digits that their column needs, as
lme4 shows them.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Summary:
    """
    A fit's tables, to print or to show in a notebook.

    Parameters
    ----------
    header : sequence of (str, str)
        Label and value of each leading line.
    residuals : pandas.Series
        Quantiles of the scaled residuals.
    components : pandas.DataFrame
        Columns ``group effect effect2 vcov sdcor``.
    counts : str
        Observations and groups.
    coefficients : pandas.DataFrame
        Fixed effects; a row each, numeric columns.
    notes : sequence of str
        What the user should know.
    """

    header: Sequence[tuple[str, str]]
    residuals: pd.Series
    components: pd.DataFrame
    counts: str
    coefficients: pd.DataFrame
    notes: Sequence[str]

    def __str__(self) -> str:
        """Lay the tables out in 80 columns."""
        width = max(len(label) for label, _ in self.header) + 1
        parts = [
            "\n".join(_wrapped(f"{label + ':':<{width}} ", text) for label, text in self.header),
            "Scaled residuals:\n" + _quantiles(self.residuals).to_string(index=False),
        ]
        title = "Random effects" if len(self.components) > 1 else "Residual"
        shown = component_rows(self.components)
        parts.append(f"{title}:\n" + _text(shown, left=("Group", "Effect")))
        parts.append(_wrapped("Number of observations: ", self.counts))
        if len(self.coefficients):
            shown = _rounded(self.coefficients)
            parts.append("Fixed effects:\n" + shown.to_string())
        if self.notes:
            parts.append("Notes:\n" + "\n".join(_wrapped("- ", note) for note in self.notes))
        return "\n\n".join(parts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Show the same tables in a notebook."""
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(a)}</th>"
            f"<td style='text-align:left'>{html.escape(b)}</td></tr>"
            for a, b in self.header
        )
        parts = [f"<table>{rows}</table>", "<h4>Scaled residuals</h4>"]
        parts.append(_quantiles(self.residuals).to_html(index=False, border=0))
        title = "Random effects" if len(self.components) > 1 else "Residual"
        parts.append(f"<h4>{title}</h4>")
        parts.append(component_rows(self.components).to_html(index=False, border=0))
        parts.append(f"<p>Number of observations: {html.escape(self.counts)}</p>")
        if len(self.coefficients):
            parts.append("<h4>Fixed effects</h4>")
            parts.append(_rounded(self.coefficients).to_html(border=0))
        if self.notes:
            items = "".join(f"<li>{html.escape(n)}</li>" for n in self.notes)
            parts.append(f"<ul>{items}</ul>")
        return "<div>" + "".join(parts) + "</div>"


def component_rows(components: pd.DataFrame) -> pd.DataFrame:
    """
    Arrange variance components as lme4 prints them.

    Parameters
    ----------
    components : pandas.DataFrame
        Columns ``group effect effect2 vcov sdcor``, the residual last.

    Returns
    -------
    pandas.DataFrame
        Of strings: a row per effect, its correlations with those above it at the right.

    Examples
    --------
    >>> t = pd.DataFrame({"group": ["g", "Residual"], "effect": ["x", None],
    ...                   "effect2": [None, None], "vcov": [4.0, 1.0], "sdcor": [2.0, 1.0]})
    >>> list(component_rows(t).columns)
    ['Group', 'Effect', 'Variance', 'Std.Dev.']
    """
    single = components[components["effect2"].isna()].reset_index(drop=True)
    pairs = components[components["effect2"].notna()]
    correlations: list[list[str]] = []
    above: list[str] = []
    before = None
    for row in single.to_dict("records"):
        new_term = row["group"] != before or row["effect"] in above
        before = row["group"]
        above = [] if new_term else above
        mine = pairs[(pairs["group"] == row["group"]) & (pairs["effect2"] == row["effect"])]
        found = dict(zip(mine["effect"], mine["sdcor"], strict=True))
        correlations.append([f"{found[e]:.2f}" for e in above if e in found])
        above.append(row["effect"])
    repeated = single["group"].eq(single["group"].shift())
    shown = pd.DataFrame(
        {
            "Group": single["group"].where(~repeated, ""),
            "Effect": single["effect"].fillna(""),
            "Variance": format_column(single["vcov"]),
            "Std.Dev.": format_column(single["sdcor"]),
        }
    )
    widest = max((len(c) for c in correlations), default=0)
    for j in range(widest):
        name = "Corr" if j == 0 else " " * j
        shown[name] = [c[j] if j < len(c) else "" for c in correlations]
    return shown


def format_column(values: pd.Series, digits: int = 5) -> list[str]:
    """
    Give numbers of one column the same decimals.

    Parameters
    ----------
    values : pandas.Series
        Numbers.
    digits : int
        Significant digits of the largest.

    Returns
    -------
    list of str
        With exponents where the column spans too many orders.

    Examples
    --------
    >>> format_column(pd.Series([612.09, 35.0717]))
    ['612.09', ' 35.07']
    """
    array = values.to_numpy(dtype=float)
    size = np.abs(array[np.isfinite(array) & (array != 0.0)])
    if not len(size):
        return [f"{v:g}" for v in array]
    top = int(np.floor(np.log10(size.max())))
    low = int(np.floor(np.log10(size.min())))
    if top > 7 or low < -5:
        return [f"{v:.{digits - 1}g}" for v in array]
    decimals = min(max(digits - 1 - top, 0, min(2 - low, 6)), 6)
    texts = [f"{v:.{decimals}f}" for v in array]
    width = max(map(len, texts))
    return [t.rjust(width) for t in texts]


def _rounded(coefficients: pd.DataFrame) -> pd.DataFrame:
    out = pd.DataFrame(index=coefficients.index)
    for name in coefficients.columns:
        column = coefficients[name]
        if name in ("t value", "z value"):
            out[name] = [f"{v:.2f}" for v in column]
        else:
            out[name] = format_column(column)
    return out


def _quantiles(residuals: pd.Series) -> pd.DataFrame:
    return pd.DataFrame([[f"{v:.4f}" for v in residuals]], columns=list(residuals.index))


def _text(table: pd.DataFrame, left: Sequence[str]) -> str:
    """Lay out a table of strings, some columns flush left."""
    widths = {c: max([len(c), *map(len, table[c])]) for c in table.columns}
    lines = []
    head: dict[Any, Any] = dict(zip(table.columns, table.columns, strict=True))
    for row in [head, *table.to_dict("records")]:
        cells = [
            str(row[c]).ljust(widths[c]) if c in left else str(row[c]).rjust(widths[c])
            for c in table.columns
        ]
        lines.append(" " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def _wrapped(lead: str, text: str) -> str:
    """Fill to 80 columns, never breaking inside a random term."""
    glued = re.sub(r"\([^()]{,60}\|[^()]*\)", lambda m: m[0].replace(" ", "\0"), text)
    filled = textwrap.fill(
        glued,
        width=80,
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_on_hyphens=False,
        break_long_words=False,
    )
    return filled.replace("\0", " ")
