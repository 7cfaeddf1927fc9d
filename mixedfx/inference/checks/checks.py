"""Checks of a fit in one table, and sentences on those that fail."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mixedfx._escaping import html_block
from mixedfx.errors import check_count
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.checks.drawn import DrawnFit
from mixedfx.inference.checks.finding import Finding
from mixedfx.inference.checks.registry import CHECKS
from mixedfx.inference.checks.unchecked import notes_on_rows
from mixedfx.inference.false_discovery import false_discovery_rates
from mixedfx.linalg.blas_threads import single_threaded_blas

# Largest p-value, adjusted for the number of checks, of a check that fails.
ALPHA = 0.05
_LEAST_SIMULATIONS = 20


@dataclass(frozen=True, repr=False, eq=False)
class Checks:
    """
    Checks of a fit, as returned by ``fit.check()``.

    Parameters
    ----------
    table : pandas.DataFrame
        A row for each check: ``check what statistic p_value p_adjusted advice``. Where the p-value
        is below 0.05, ``advice`` says what is wrong, and what to try in a second line.
    formula : str
        Formula of the fit.
    notes : tuple of str
        Of a fit whose rows were read in chunks: which rows residuals are of, and what was not
        checked.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> data = mfx.datasets.load("cbpp")
    >>> fit = mfx.glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", data)
    >>> fit.check().failed[["check", "what"]].to_numpy().tolist()
    [['dispersion', 'response']]
    """

    table: pd.DataFrame
    formula: str = field(default="")
    notes: tuple[str, ...] = field(default=())

    @property
    def failed(self) -> pd.DataFrame:
        """Checks whose p-value, adjusted for the number of checks, is below 0.05."""
        return self.table[self.table["p_adjusted"] < ALPHA]

    @property
    def sentences(self) -> tuple[str, ...]:
        """How many checks fail, what is wrong, and what was not checked."""
        failed, table = self.failed, self.table
        if not len(failed):
            least = p_text(table["p_adjusted"].min())
            sentences = [f"None of {len(table)} checks fails: the least adjusted p is {least}."]
        else:
            fail = "fails" if len(failed) == 1 else "fail"
            sentences = [f"{len(failed)} of {len(table)} checks {fail}:"]
            sentences += [_sentence(row) for row in failed.to_dict("records")]
        low = table[(table["p_value"] < ALPHA) & ~(table["p_adjusted"] < ALPHA)]
        if len(low):
            listed = ", ".join(f"{r['check']} of {r['what']}" for r in low.to_dict("records"))
            sentences.append(
                f"Below 0.05 before adjustment alone, as chance does once in twenty: {listed}."
            )
        return (*sentences, *self.notes)

    @property
    def to_try(self) -> tuple[str, ...]:
        """Code of the advice on the checks that fail, each once."""
        advice = self.failed["advice"]
        return tuple(dict.fromkeys(code for text in advice for code in text.split("\n")[1:]))

    def __str__(self) -> str:
        """Table, then the sentences, then code."""
        filled = [
            textwrap.fill(text, 80, subsequent_indent="  ", break_on_hyphens=False)
            for text in self.sentences
        ]
        code = ["", "To try:", *(f"  {line}" for line in self.to_try)] if self.to_try else []
        table = _formatted(self.table).to_string(index=False)
        return "\n".join([f"Checks of {self.formula}", "", table, "", *filled, *code])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        table = _formatted(self.table).to_html(index=False, border=0)
        first, *rest = map(html.escape, self.sentences)
        listed = "".join(f"<li>{text}</li>" for text in rest)
        code = html.escape("\n".join(self.to_try))
        parts = [f"<p>Checks of <code>{html.escape(self.formula)}</code></p>{table}<p>{first}</p>"]
        parts += [f"<ul>{listed}</ul>"] if rest else []
        parts += [f"<p>To try:</p><pre>{code}</pre>"] if code else []
        return html_block("".join(parts))


def p_text(p: float) -> str:
    """A p-value with two digits, bounded below."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def p_relation(p: float) -> str:
    """``p = 0.031`` or ``p < 0.0001``."""
    text = p_text(p)
    return f"p {text}" if text[0] == "<" else f"p = {text}"


def _sentence(row: dict[Any, Any]) -> str:
    text = row["advice"].split("\n")[0]
    return f"{row['check']}, {row['what']} ({p_relation(row['p_adjusted'])}): {text}"


def _formatted(table: pd.DataFrame) -> pd.DataFrame:
    """Table with formatted numbers, and a mark where a check fails."""
    return pd.DataFrame(
        {
            "check": table["check"],
            "what": table["what"],
            "statistic": [f"{value:.3g}" for value in table["statistic"]],
            "p value": [p_text(p) for p in table["p_value"]],
            "adjusted": [p_text(p) for p in table["p_adjusted"]],
            "": np.where(table["p_adjusted"] < ALPHA, "fails", ""),
        }
    )


def check(fit: FittedModel, *, rng: Any = 0, n_sim: int = 250) -> Checks:
    """Run every check of a fit."""
    return checks_of(drawn_fit(fit, rng, n_sim))


def drawn_fit(fit: FittedModel, rng: Any, n_sim: int) -> DrawnFit:
    """Draws of a fit that checks read."""
    n_sim = check_count("n_sim", n_sim, _LEAST_SIMULATIONS)
    with single_threaded_blas(fit.crossprod.symbolic.dense_size):
        return DrawnFit.of(fit, n_sim, rng)


def checks_of(drawn: DrawnFit) -> Checks:
    """The table of all findings."""
    return checks_with(drawn, [])


def checks_with(drawn: DrawnFit, more: Sequence[Finding]) -> Checks:
    """The table of all findings and of further ones, adjusted together."""
    own = {(finding.check, finding.what) for finding in more}
    findings = [finding for one in CHECKS for finding in one(drawn)]
    findings = [f for f in findings if (f.check, f.what) not in own] + list(more)
    p_values = np.array([finding.p_value for finding in findings])
    columns = {
        "check": [finding.check for finding in findings],
        "what": [finding.what for finding in findings],
        "statistic": [finding.statistic for finding in findings],
        "p_value": p_values,
        "p_adjusted": false_discovery_rates(p_values),
        "advice": [_advice(finding) for finding in findings],
    }
    return Checks(pd.DataFrame(columns), drawn.fit.formula_text, notes_on_rows(drawn))


def _advice(finding: Finding) -> str:
    return finding.advice() if finding.p_value < ALPHA else ""
