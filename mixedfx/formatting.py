"""Summaries and tables as text, HTML, Markdown and LaTeX.

Numbers have the decimals that their column needs, as in lme4's printed summaries.
"""

from __future__ import annotations

import html
import os
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixedfx._escaping import html_block, latex_text, markdown_text
from mixedfx.documents import (
    DocumentPart,
    DocumentsMixin,
    TableDocumentsMixin,
    aligned_right,
)
from mixedfx.errors import ArgumentError, brief


@dataclass(frozen=True)
class Summary(DocumentsMixin):
    """
    Tables of a fit, to print or to show in a notebook.

    Parameters
    ----------
    header : sequence of (str, str)
        Label and value of each leading line.
    residuals : pandas.Series
        Quantiles of the residuals.
    components : pandas.DataFrame
        Columns ``group effect effect2 vcov sdcor``.
    counts : str
        Observations and groups.
    coefficients : pandas.DataFrame
        Fixed effects; a row each, numeric columns.
    notes : sequence of str
        Remarks on the fit.
    dispersion : pandas.DataFrame, optional
        Parameters of the residual model or of the family; a row each, numeric columns.
    residuals_title : str
        Heading of the quantiles.
    dispersion_title : str
        Heading of the parameters.
    """

    header: Sequence[tuple[str, str]]
    residuals: pd.Series
    components: pd.DataFrame
    counts: str
    coefficients: pd.DataFrame
    notes: Sequence[str]
    dispersion: pd.DataFrame | None = None
    residuals_title: str = "Scaled residuals"
    dispersion_title: str = "Log residual standard deviation"

    def __str__(self) -> str:
        """Lay the tables out in 80 columns."""
        width = max(len(label) for label, _ in self.header) + 1
        parts = [
            "\n".join(_wrapped(f"{label + ':':<{width}} ", text) for label, text in self.header),
            f"{self.residuals_title}:\n" + _quantiles(self.residuals).to_string(index=False),
        ]
        if len(self.components):
            rows = component_rows(self.components)
            parts.append(f"{self._title}:\n" + _text(rows, left=("Group", "Effect")))
        parts.append(_wrapped("Number of observations: ", self.counts))
        if len(self.coefficients):
            parts.append("Fixed effects:\n" + _beside_names(_rounded(self.coefficients)))
        if self.dispersion is not None:
            parts.append(f"{self.dispersion_title}:\n" + _beside_names(_rounded(self.dispersion)))
        if self.notes:
            parts.append("Notes:\n" + "\n".join(_wrapped("- ", note) for note in self.notes))
        return "\n\n".join(parts)

    __repr__ = __str__

    @property
    def _title(self) -> str:
        return "Residual" if set(self.components["group"]) == {"Residual"} else "Random effects"

    def tables(self) -> tuple[Table, ...]:
        """
        Split the summary into tables.

        Returns
        -------
        tuple of Table
            Model, residuals, random effects, and fixed effects and dispersion if any.
        """
        header = pd.DataFrame(self.header, columns=["", " "])
        header.loc[len(header)] = ["Observations", self.counts]
        residuals = Table(self.residuals_title, _quantiles(self.residuals))
        tables = [Table("Model", header), residuals]
        if len(self.components):
            tables.append(Table(self._title, component_rows(self.components)))
        if len(self.coefficients):
            rows = _rounded(self.coefficients).rename_axis("Term").reset_index()
            tables.append(Table("Fixed effects", rows))
        if self.dispersion is not None:
            rows = _rounded(self.dispersion).rename_axis("Term").reset_index()
            tables.append(Table(self.dispersion_title, rows))
        return tuple(tables)

    def to_html(self) -> str:
        """
        Write the summary as HTML.

        Returns
        -------
        str
            A heading and a table for each part, then the notes.
        """
        parts = [f"<h4>{html.escape(t.title)}</h4>{t.to_html()}" for t in self.tables()]
        items = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return html_block("".join(parts) + (f"<ul>{items}</ul>" if items else ""))

    def to_markdown(self) -> str:
        """
        Write the summary as Markdown.

        Returns
        -------
        str
            A heading and a table for each part, then the notes.
        """
        parts = [f"**{t.title}**\n\n{t.to_markdown()}" for t in self.tables()]
        if self.notes:
            parts.append("\n".join(f"- {markdown_text(note)}" for note in self.notes))
        return "\n\n".join(parts)

    def to_latex(self) -> str:
        """
        Write the summary as LaTeX, with booktabs.

        Returns
        -------
        str
            A ``tabular`` for each part, then the notes.
        """
        parts = [f"\\textbf{{{latex_text(t.title)}}}\n\n{t.to_latex()}" for t in self.tables()]
        parts += [latex_text(note) for note in self.notes]
        return "\n\n".join(parts)

    def _document(self) -> tuple[Sequence[DocumentPart], Sequence[str]]:
        return [DocumentPart(t.title, t.frame) for t in self.tables()], self.notes

    def _repr_html_(self) -> str:
        """Show the same tables in a notebook."""
        return self.to_html()


@dataclass(frozen=True)
class Table(TableDocumentsMixin):
    """
    A table of strings with a title, for text, Markdown, HTML, LaTeX, Word, Excel, Great Tables.

    Parameters
    ----------
    title : str
        Heading.
    frame : pandas.DataFrame
        Strings; the index is not shown.
    notes : tuple of str
        Remarks below the table.

    Examples
    --------
    >>> t = Table("Two", pd.DataFrame({"Term": ["x"], "Estimate": ["1.0"]}))
    >>> print(t.to_markdown())
    | Term   |   Estimate |
    |:-------|-----------:|
    | x      |        1.0 |
    """

    title: str
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Lay it out as plain text."""
        notes = "".join("\n" + _wrapped("Note: ", note) for note in self.notes)
        return f"{self.title}:\n{self._format('plain')}{notes}"

    __repr__ = __str__

    def to_markdown(self) -> str:
        """
        Write it as a Markdown table.

        Returns
        -------
        str
            In the dialect of pandas and GitHub.
        """
        return self._format("pipe") + "".join(f"\n\n{markdown_text(n)}" for n in self.notes)

    def to_csv(self, path: Any = None, **options: Any) -> str | None:
        """
        Write it as comma-separated values.

        Parameters
        ----------
        path : str or path-like, optional
            File to write; without it the text is returned.
        **options
            Arguments of :meth:`pandas.DataFrame.to_csv`.

        Returns
        -------
        str or None
            The text, or None where a file was written.
        """
        if not (path is None or isinstance(path, str | os.PathLike) or hasattr(path, "write")):
            raise ArgumentError(f"path={brief(path)} must be the path of a file, or an open file.")
        text: str | None = self.frame.to_csv(path, **({"index": False} | options))
        return text

    def to_html(self) -> str:
        """
        Write it as an HTML table.

        Returns
        -------
        str
            With the contents of the cells escaped.
        """
        return self._format("html") + "".join(f"<p>{html.escape(n)}</p>" for n in self.notes)

    def to_latex(self) -> str:
        """
        Write it as a LaTeX ``tabular``.

        Returns
        -------
        str
            With the rules of the package booktabs, and the contents of the cells escaped.
        """
        # In LaTeX's OT1 encoding a bar in text prints as a dash.
        text = self._format("latex_booktabs").replace("|", r"\textbar{}")
        return text + "".join(f"\n\n{latex_text(note)}" for note in self.notes)

    def _document(self) -> tuple[Sequence[DocumentPart], Sequence[str]]:
        return [DocumentPart(self.title, self.frame)], self.notes

    def _repr_html_(self) -> str:
        return html_block(f"<h4>{html.escape(self.title)}</h4>{self.to_html()}")

    def _format(self, style: str) -> str:
        from tabulate import tabulate

        # Numbers are formatted already.
        alignment = ["right" if right else "left" for right in aligned_right(self.frame)]
        frame = self.frame
        if style == "pipe":
            frame = frame.map(markdown_text).rename(columns=markdown_text)
        return str(
            tabulate(
                frame.to_numpy().tolist(),
                headers=list(frame.columns),
                tablefmt=style,
                colalign=alignment if len(frame) else None,
                disable_numparse=True,
            )
        )


def component_rows(components: pd.DataFrame) -> pd.DataFrame:
    """Arrange variance components as lme4 prints them."""
    is_pair = components["effect2"].notna()
    single = components[~is_pair].reset_index(drop=True)
    effects = set(single["effect"])
    # Per group and effect: correlations with other effects, and those of the term as a whole,
    # which have the structure's name in place of an effect.
    between: dict[tuple[Any, Any], dict[Any, float]] = {}
    whole: dict[tuple[Any, Any], list[str]] = {}
    pairs = components.loc[is_pair, ["group", "effect", "effect2", "sdcor"]]
    for group, effect, other, corr in pairs.itertuples(index=False, name=None):
        between.setdefault((group, other), {})[effect] = corr
        if other not in effects:
            whole.setdefault((group, effect), []).append(f"{corr:.2f} ({other})")
    correlations: list[list[str]] = []
    earlier: list[str] = []  # effects of the same term in the rows above
    last_group = None
    for group, effect in zip(single["group"], single["effect"], strict=True):
        new_term = group != last_group or effect in earlier
        last_group = group
        earlier = [] if new_term else earlier
        by_effect = between.get((group, effect), {})
        shown = [f"{by_effect[e]:.2f}" for e in earlier if e in by_effect]
        correlations.append(shown + whole.get((group, effect), []))
        earlier.append(effect)
    repeated = single["group"].eq(single["group"].shift())
    rows = pd.DataFrame(
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
        rows[name] = [c[j] if j < len(c) else "" for c in correlations]
    return rows


def format_column(values: pd.Series, digits: int = 5) -> list[str]:
    """Format the numbers of a column with the same decimals."""
    array = values.to_numpy(dtype=float)
    magnitudes = np.abs(array[np.isfinite(array) & (array != 0.0)])
    if not len(magnitudes):
        return [f"{v:g}" for v in array]
    largest = int(np.floor(np.log10(magnitudes.max())))
    smallest = int(np.floor(np.log10(magnitudes.min())))
    if largest > 7 or smallest < -5:
        return [f"{v:.{digits - 1}g}" for v in array]
    decimals = min(max(digits - 1 - largest, 0, min(2 - smallest, 6)), 6)
    texts = [f"{v:.{decimals}f}" for v in array]
    width = max(map(len, texts))
    return [t.rjust(width) for t in texts]


def _rounded(coefficients: pd.DataFrame) -> pd.DataFrame:
    """Format a table of coefficients, column by column."""
    formatted = pd.DataFrame(index=coefficients.index)
    for name in coefficients.columns:
        column = coefficients[name]
        if name in ("t value", "z value"):
            formatted[name] = [f"{v:.2f}" for v in column]
        elif name == "df":
            formatted[name] = [f"{v:.1f}" for v in column]
        elif name.startswith("Pr("):
            formatted[name] = [format_p_value(v) for v in column]
        elif name == "exp(Estimate)":  # of a correlation there is none
            texts = zip(format_column(column), column.isna(), strict=True)
            formatted[name] = ["" if is_missing else text for text, is_missing in texts]
        else:
            formatted[name] = format_column(column)
    return formatted


def _beside_names(table: pd.DataFrame) -> str:
    """Lay out numbers beside their row names; a name too long for 80 columns has its own line."""
    head, *rows = table.to_string(index=False).splitlines()
    names = [str(name) for name in table.index]
    width = min(max(map(len, names)), 79 - max(map(len, (head, *rows))))
    lines = [" " * width + " " + head]
    for name, row in zip(names, rows, strict=True):
        fits = len(name) <= width
        lines += [f"{name:<{width}} {row}"] if fits else [name, " " * width + " " + row]
    return "\n".join(lines)


def format_p_value(value: float) -> str:
    """Format a p-value as R does: three significant digits, bounded below by rounding."""
    return "<2e-16" if value < 2e-16 else f"{value:.3g}"


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
    """Wrap to 80 columns, without breaking inside a random term."""
    unbroken = re.sub(r"\([^()]{,60}\|[^()]*\)", lambda m: m[0].replace(" ", "\0"), text)
    filled = textwrap.fill(
        unbroken,
        width=80,
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_on_hyphens=False,
        break_long_words=False,
    )
    return filled.replace("\0", " ")
