"""Tables and findings of a design, and how they are shown."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixedfx._escaping import html_block
from mixedfx.design.inspection.finding import DesignFinding


@dataclass(frozen=True, repr=False, eq=False)
class DesignCheck:
    """
    What a formula asks of some rows, as returned by :func:`mixedfx.check_design`.

    Parameters
    ----------
    formula : str
        The formula.
    nobs, n_dropped : int
        Complete rows, and those with a missing value.
    factors : pandas.DataFrame
        A row for each grouping factor, part of one, and categorical variable: ``factor role levels
        rows_min rows_median rows_max singletons``.
    pairs : pandas.DataFrame
        A row for every two of them: ``relation`` is ``nested`` (``inner`` in the other one),
        ``fully crossed``, ``partially crossed`` or ``same``; ``cells`` with rows of those
        ``possible``, the ``empty`` ones, ``components`` that no row joins, rows in a cell, and
        whether ``labels`` are used again.
    covariates : pandas.DataFrame
        A row for each variable: the ``level`` at which it varies with its number of ``units``, and
        the share of its sum of squares between the levels of each grouping factor.
    slopes : pandas.DataFrame
        A row for each effect and grouping factor: in how many ``levels`` it is ``varying``, in how
        many of those it can be told from the residual, whether it ``can_be_estimated``, and why.
    coefficients : pandas.DataFrame
        A row for each fixed column: its level and units, ``design_effect`` and ``n_effective``.
    size : pandas.DataFrame
        Rows, effects, nonzeros, memory and the engine; empty where the design was not built.
    findings : tuple of DesignFinding
        What to change or know: errors, warnings, notes.
    assumption : str
        Variances that the effective sample sizes assume.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> sleep = mfx.datasets.load("sleepstudy")
    >>> check = mfx.check_design("Reaction ~ Days + (Days | Subject)", sleep, icc=0.2)
    >>> check.ok, check.coefficients["n_effective"].round(1).tolist()
    (True, [69.2, 69.2])
    """

    formula: str
    nobs: int
    n_dropped: int
    factors: pd.DataFrame
    pairs: pd.DataFrame
    covariates: pd.DataFrame
    slopes: pd.DataFrame
    coefficients: pd.DataFrame
    size: pd.DataFrame
    findings: tuple[DesignFinding, ...]
    assumption: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is neither an error nor a warning."""
        return all(f.severity == "note" for f in self.findings)

    @property
    def table(self) -> pd.DataFrame:
        """The findings, a row each."""
        columns = ["severity", "kind", "where", "what", "to_do", "formula"]
        return pd.DataFrame([vars(f) for f in self.findings], columns=columns)

    @property
    def to_try(self) -> tuple[str, ...]:
        """Formulas of the findings, each once."""
        return tuple(dict.fromkeys(f.formula for f in self.findings if f.formula))

    def _sections(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Titles and tables that have rows."""
        of_slopes = self.slopes.drop(columns=["varying"])
        sections = {
            "Factors": self.factors,
            "Pairs of factors": self.pairs.drop(columns=["rows_min", "rows_max"]),
            "Covariates": self.covariates,
            "Effects that can vary between levels": of_slopes,
            "Coefficients": self.coefficients,
            "Size": self.size,
        }
        return ((title, table) for title, table in sections.items() if len(table))

    def __str__(self) -> str:
        """Findings, then the tables."""
        dropped = f", {self.n_dropped:,} left out for missing values" if self.n_dropped else ""
        parts = [f"Design of {self.formula}: {self.nobs:,} rows{dropped}", _findings(self.findings)]
        for title, table in self._sections():
            parts.append(f"{title}\n{_rounded(table).to_string(index=False)}")
            if title == "Coefficients" and self.assumption:
                parts[-1] += "\n" + textwrap.fill(self.assumption, 96)
        return "\n\n".join(parts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = [f"<p>Design of <code>{html.escape(self.formula)}</code>: {self.nobs:,} rows</p>"]
        for finding in self.findings:
            text = html.escape(f"{finding.what} {finding.to_do}")
            code = f"<br><code>{html.escape(finding.formula)}</code>" if finding.formula else ""
            parts.append(f"<p><b>{finding.severity}</b>: {text}{code}</p>")
        for title, table in self._sections():
            parts.append(f"<h4>{title}</h4>{_rounded(table).to_html(index=False, border=0)}")
        parts.append(f"<p>{html.escape(self.assumption)}</p>")
        return html_block("".join(parts))


def _findings(findings: tuple[DesignFinding, ...]) -> str:
    if not findings:
        return "Nothing to change."
    texts = []
    for finding in findings:
        lines = str(finding).split("\n")
        lines[0] = textwrap.fill(lines[0], 96, subsequent_indent="  ", break_on_hyphens=False)
        texts.append("\n".join(lines))
    return "\n".join(texts)


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Table with rounded numbers; empty text where there is none."""
    shown = table.copy()
    for name in shown.columns:
        if shown[name].dtype.kind == "f":
            shown[name] = [f"{v:.3g}" if abs(v) < 1000 else f"{v:,.0f}" for v in shown[name]]
        elif shown[name].dtype.kind == "b":
            shown[name] = np.where(shown[name], "yes", "no")
    return shown
