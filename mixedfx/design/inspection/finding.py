"""What is found in a design, and formulas with a part changed, as text to copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mixedfx._names import written
from mixedfx.formula.expansion import terms_of, terms_text
from mixedfx.formula.terms import Formula, RandomTerm

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class DesignFinding:
    """
    Something in a design that should be changed or known before a fit.

    Parameters
    ----------
    severity : {"error", "warning", "note"}
        A fit refuses the design; it would answer another question than the one meant, or hardly
        any; or it is as designed, and limits what can be learned.
    kind : str
        What it is about, such as ``"labels"``, ``"slope"`` or ``"connected"``.
    where : str
        Factor, pair of factors, term or covariate.
    what : str
        What was seen.
    to_do : str
        What to do about it.
    formula : str
        The formula with this changed, to copy; empty where the formula is not what to change.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> rows = mfx.datasets.load("Pastes")
    >>> check = mfx.check_design("strength ~ 1 + (1 | batch) + (1 | cask)", rows)
    >>> check.findings[0].kind, check.findings[0].formula
    ('labels', 'strength ~ 1 + (1 | batch/cask)')
    """

    severity: Severity
    kind: str
    where: str
    what: str
    to_do: str
    formula: str = ""

    def __str__(self) -> str:
        """Sentence, advice, and the formula in a line of its own."""
        text = f"{self.severity}: {self.what} {self.to_do}".rstrip()
        return f"{text}\n    {self.formula}" if self.formula else text


def formula_text(formula: Formula, random: Sequence[str]) -> str:
    """Formula with other random terms, given as text; without a response if it had none."""
    fixed = str(replace(formula, random=()))
    return " + ".join([fixed, *random])


def with_random(formula: Formula, change: Callable[[RandomTerm], RandomTerm | None]) -> str:
    """Formula with each random term changed, or left out where that gives None."""
    changed = (change(term) for term in formula.random)
    return formula_text(formula, list(dict.fromkeys(str(t) for t in changed if t is not None)))


def without_effect(term: RandomTerm, name: str) -> RandomTerm | None:
    """Random term without one of its effects; None if no effect is left."""
    terms = [t for t in terms_of(term.effects) if t.name() != name]
    return replace(term, effects=terms_text(terms)) if terms else None


def without_group(formula: Formula, group: str) -> str:
    """Formula without the random terms of a grouping factor."""
    return with_random(formula, lambda t: None if t.group_name == group else t)


def without_fixed(formula: Formula, names: Sequence[str]) -> str:
    """Formula without some fixed terms."""
    terms = [t for t in terms_of(formula.fixed) if t.name() not in names]
    return str(replace(formula, fixed=terms_text(terms)))


def as_fixed(formula: Formula, group: str) -> str:
    """Formula with a grouping factor as a fixed one instead of its random terms."""
    random = tuple(t for t in formula.random if t.group_name != group)
    factor = f"C({written(next(t.group[0] for t in formula.random if t.group_name == group))})"
    fixed = factor if formula.fixed in ("", "1") else f"{formula.fixed} + {factor}"
    return str(replace(formula, fixed=fixed, random=random))


def nested_in(formula: Formula, inner: str, outer: str) -> str:
    """Formula in which a factor, as an identifier, stands for its combinations with another."""
    texts, joined = [], False
    of_outer = next((t for t in formula.random if t.group == (outer,)), None)
    for term in formula.random:
        if term.group != (inner,):
            texts.append(str(term))
        elif of_outer is not None and replace(of_outer, group=(inner,)) == term and not joined:
            slashed = str(replace(term, group=(f"{outer}/{inner}",)))
            texts, joined = [slashed if t == str(of_outer) else t for t in texts], True
            if slashed not in texts:  # the outer factor's term comes later
                texts.append(slashed)
        else:
            texts.append(str(replace(term, group=(outer, inner))))
    if joined:
        texts = [t for t in texts if t != str(of_outer)]
    return formula_text(formula, texts)
