"""A parsed formula: its response, its fixed part and its random terms."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from mixedfx._cached import cached_property
from mixedfx._names import decode, written
from mixedfx.formula.membership import membership_name

# Structures that have a bar of their own; others are written as functions.
_BARS = {"us": "|", "diag": "||"}


@dataclass(frozen=True)
class RandomTerm:
    """
    One random term: effects that vary between the levels of a grouping factor.

    Parameters
    ----------
    effects : str
        The columns that vary, as patsy text with the intercept implied: ``"1"``, ``"x"``,
        ``"0 + x"``.
    group : tuple of str
        The grouping factors; more than one for an interaction such as ``a:b``.
    structure : str
        Covariance of the effects: ``"us"`` (unstructured), ``"diag"``, or the name of another
        structure.

    Examples
    --------
    >>> str(RandomTerm("Days", ("Subject",)))
    '(Days | Subject)'
    """

    effects: str
    group: tuple[str, ...]
    structure: str = "us"

    @property
    def effects_name(self) -> str:
        """The effects together: their text without the mark of a missing intercept."""
        return decode(self.effects.removeprefix("0 + "))

    @cached_property
    def group_name(self) -> str:
        """Name of the grouping factor: the factors joined with colons."""
        return decode(":".join(map(membership_name, self.group)))

    def __str__(self) -> str:
        """Write the term as lme4 does."""
        effects, group = written(self.effects), written(":".join(self.group))
        bar = _BARS.get(self.structure)
        if bar is None:
            return f"{self.structure}({effects} | {group})"
        return f"({effects} {bar} {group})"


@dataclass(frozen=True)
class Formula:
    """
    A parsed mixed-model formula.

    Parameters
    ----------
    response : str
        Python text of the response; empty in a dispersion formula.
    fixed : str
        patsy text of the fixed part, expanded, without the response.
    random : tuple of RandomTerm
        The random terms, in the order written.
    source : str
        The text that was parsed; not part of equality.
    offset : str
        Python text of the sum of the ``offset()`` terms; empty without any.

    Notes
    -----
    ``parse(str(formula)) == formula`` for every formula.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> Formula("y", "x", (RandomTerm("1", ("g",)),)) == mfx.parse("y ~ x + (1 | g)")
    True
    """

    response: str
    fixed: str
    random: tuple[RandomTerm, ...]
    source: str = field(default="", compare=False)
    offset: str = ""

    def __str__(self) -> str:
        """Write the formula so that it parses back to an equal one."""
        left = f"{written(self.response)} ~" if self.response else "~"
        offset = [f"offset({written(self.offset)})"] if self.offset else []
        fixed = f"{left} {written(self.fixed)}"
        return " + ".join([fixed, *offset, *map(str, self.random)])

    def __hash__(self) -> int:
        """Hash the texts, once: a fit looks a formula up several times."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.response, self.fixed, self.random, self.offset))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the hash out of copies and pickles: another process has another one."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def response_name(self) -> str:
        """The response as it is shown: its column's name, or its expression."""
        return decode(self.response)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the grouping factors, each once, in order of appearance."""
        return tuple(dict.fromkeys(t.group_name for t in self.random))
