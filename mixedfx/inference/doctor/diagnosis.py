"""What is weak in a fit, in tables and sentences."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from mixedfx._escaping import html_block
from mixedfx.inference.checks.checks import Checks
from mixedfx.inference.checks.drawn import DrawnFit

_WIDTH = 96


@dataclass(frozen=True)
class Weakness:
    """
    Something weak in a fit, and what to do about it.

    Parameters
    ----------
    severity : {"problem", "advice", "note"}
        The model is wrong by a test or an optimum was missed; a simpler model describes the data
        as well; or something to know.
    kind : str
        ``"search"``, ``"random effects"``, the name of a check, ``"influence"``,
        ``"collinearity"``, ``"conclusions"``, ``"time"`` or ``"rows"``.
    where : str
        Term, covariate or group.
    what : str
        What was seen.
    to_do : str
        What to do.
    code : str
        Call to copy; empty where there is none.
    tried : str
        What came of it.
    """

    severity: Literal["problem", "advice", "note"]
    kind: str
    where: str
    what: str
    to_do: str = ""
    code: str = ""
    tried: str = ""

    @property
    def sentence(self) -> str:
        """What was seen, what to do, and what came of it."""
        return " ".join(part for part in (self.what, self.to_do, self.tried) if part)

    def __str__(self) -> str:
        """Sentence, and the code in a line of its own."""
        text = f"{self.severity}: {self.sentence}"
        return f"{text}\n    {self.code}" if self.code else text


@dataclass(frozen=True, repr=False, eq=False)
class Diagnosis:
    """
    What is weak in a fit and what to do, as returned by ``fit.doctor()``.

    Parameters
    ----------
    formula : str
        Formula of the fit.
    recommended : str
        Formula with the random effects that the data support.
    table : pandas.DataFrame
        A row for each refit and coefficient: ``refit kind term estimate std_error p_value shift``
        (in standard errors of the fit) and ``conclusion``, ``same`` or ``changes``.
    refits : pandas.DataFrame
        A row for each refit: ``refit kind formula log_likelihood change n_params d_aic singular
        largest_shift conclusions note``. ``change`` is that of the log-likelihood.
    random : pandas.DataFrame
        A row for each simpler random structure: ``refit formula d_deviance df d_aic p_value test
        supported``.
    checks : Checks
        ``fit.check()`` with the tests of effects within and between groups.
    influence : pandas.DataFrame
        A row for each level of each grouping factor: ``group level number cooks_distance
        displacement`` (of the likelihood by theta) ``largest_shift`` (of a coefficient, in standard
        errors) ``of influential``.
    weaknesses : tuple of Weakness
        Problems, then advice, then notes.
    conf_level : float
        Level of the conclusions.
    seconds : float
        Time that it took.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> sleep = mfx.datasets.load("sleepstudy")
    >>> found = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep).doctor()
    >>> found.recommended
    'Reaction ~ Days + (Days || Subject)'
    >>> found.influence.nlargest(2, "largest_shift")["level"].tolist()
    ['335', '308']
    """

    formula: str
    recommended: str
    table: pd.DataFrame
    refits: pd.DataFrame
    random: pd.DataFrame
    checks: Checks
    influence: pd.DataFrame
    weaknesses: tuple[Weakness, ...]
    conf_level: float = 0.95
    seconds: float = 0.0
    drawn: DrawnFit | None = field(default=None)

    @property
    def findings(self) -> tuple[Weakness, ...]:
        """Another name of ``weaknesses``."""
        return self.weaknesses

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return all(w.severity != "problem" for w in self.weaknesses)

    @property
    def to_try(self) -> tuple[str, ...]:
        """Calls of problems and advice, each once."""
        codes = [w.code for w in self.weaknesses if w.code]
        return tuple(dict.fromkeys(codes))

    @property
    def sentences(self) -> tuple[str, ...]:
        """One for each weakness; one of none."""
        if not self.weaknesses:
            return ("Nothing weak was found.",)
        return tuple(w.sentence for w in self.weaknesses)

    def _parts(self) -> Iterator[tuple[str, pd.DataFrame]]:
        columns = ["refit", "change", "d_aic", "singular", "largest_shift", "conclusions", "note"]
        yield "Fitted again", self.refits[columns]
        if len(self.random):
            yield "Random effects", self.random.drop(columns=["formula", "test"])

    def __str__(self) -> str:
        """Sentences, then the tables."""
        lines = [f"Doctor's report on {self.formula} ({self.seconds:.1f} s)", ""]
        for weakness in self.weaknesses:
            text, *code = str(weakness).split("\n")
            lines.append(
                textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
            )
            lines += code
        if not self.weaknesses:
            lines.append(self.sentences[0])
        lines += ["", f"Recommended random effects: {self.recommended}"]
        lines += ["", self.checks.sentences[0]] if self.ok else []
        for title, table in self._parts():
            lines += ["", title, _rounded(table).to_string(index=False)]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = [f"<p>Doctor's report on <code>{html.escape(self.formula)}</code></p>"]
        for weakness in self.weaknesses:
            code = f"<br><code>{html.escape(weakness.code)}</code>" if weakness.code else ""
            text = html.escape(weakness.sentence)
            parts.append(f"<p><b>{weakness.severity}</b>: {text}{code}</p>")
        parts += [] if self.weaknesses else [f"<p>{self.sentences[0]}</p>"]
        parts.append(f"<p>Recommended: <code>{html.escape(self.recommended)}</code></p>")
        for title, table in self._parts():
            parts.append(f"<h4>{title}</h4>{_rounded(table).to_html(index=False, border=0)}")
        return html_block("".join(parts))


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    rounded = table.copy()
    for name in rounded.columns:
        if rounded[name].dtype.kind == "f":
            values = np.where(rounded[name].abs() < 5e-5, 0.0, rounded[name])
            rounded[name] = ["" if np.isnan(v) else f"{v:.3g}" for v in values]
        elif rounded[name].dtype.kind == "b":
            rounded[name] = np.where(rounded[name], "yes", "no")
    return rounded
