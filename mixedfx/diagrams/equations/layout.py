"""Lines of equations, aligned at their relation signs, as text and as LaTeX."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mixedfx.diagrams.graph.symbols import Math


@dataclass(frozen=True)
class Line:
    """
    One equation.

    Parameters
    ----------
    left : Math
        Its left side.
    sign : {"~", "=", "∈"}
        Distribution or definition.
    right : tuple of str
        Its right side in Unicode, line by line.
    latex : str
        The same in LaTeX; ``&`` where further lines are aligned.
    """

    left: Math
    sign: Literal["~", "=", "∈"]
    right: tuple[str, ...]
    latex: str


@dataclass(frozen=True, repr=False)
class Equation:
    """
    A model's equations; ``str()`` gives them in Unicode, and a notebook sets them.

    Parameters
    ----------
    lines : tuple of Line
        The response first, then the levels from the inner to the outer ones.
    where : tuple of (str, str)
        Each index, and what it numbers.
    notes : tuple of str
        What the equations do not show, such as means that are not identifiable, or columns whose
        number depends on data.

    Examples
    --------
    >>> from mixedfx.diagrams.equations import equation
    >>> print(equation("rating ~ 1 + (1 | friend)"))
    ratingᵢⱼ | Rᵢ ~ N(Rᵢ, σ²)
               Rᵢ ~ N(R, σ_friend²)
    <BLANKLINE>
    where i numbers the levels of friend and j the rows.
    """

    lines: tuple[Line, ...]
    where: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()

    @property
    def unicode(self) -> str:
        """The equations for a terminal, aligned at the signs."""
        width = max(len(line.left.unicode) for line in self.lines)
        text = []
        for line in self.lines:
            head = f"{line.left.unicode:>{width}} {line.sign} "
            text += [head + line.right[0]]
            text += [" " * len(head) + continuation for continuation in line.right[1:]]
        return "\n".join(text)

    @property
    def latex(self) -> str:
        """The equations in LaTeX: an ``aligned`` environment, for math mode."""
        signs = {"~": r"\sim", "=": "=", "∈": r"\in"}
        rows = [f"{line.left.latex} &{signs[line.sign]} {line.latex}" for line in self.lines]
        body = " \\\\\n".join(rows)
        return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"

    def __str__(self) -> str:
        """Return the equations, the meaning of their indices, and the notes."""
        sentences = [
            textwrap.fill(text, 80)
            for text in (self._describe_indices("{}", self.where), *self.notes)
        ]
        return "\n\n".join([self.unicode, *sentences])

    __repr__ = __str__

    def _repr_latex_(self) -> str:
        notes = [note.replace("$", r"\$") for note in self.notes]
        where = [(letter, _latex_name(name)) for letter, name in self.where[:-1]]
        indices = self._describe_indices("${}$", (*where, self.where[-1]))
        return "\n\n".join([f"$$\n{self.latex}\n$$", indices, *notes])

    def _describe_indices(self, form: str, where: Sequence[tuple[str, str]]) -> str:
        """Sentence that says what the indices number."""
        groups, (row, rows) = where[:-1], where[-1]
        clauses = [f"{form.format(letter)} those of {label}" for letter, label in groups]
        clauses.append(f"{form.format(row)} the {rows}")
        letter, _, numbered = clauses[0].partition(" ")
        numbered = numbered.replace("those", "the levels", 1) if groups else numbered
        return f"where {and_list([f'{letter} numbers {numbered}', *clauses[1:]])}."


def _latex_name(name: str) -> str:
    """Name in a sentence; as mathematics, escaped for LaTeX and MathJax alike, if need be."""
    plain = re.fullmatch(r"[^\W_]+(?:[ ():,.-]+[^\W_]+)*[)]?", name)
    return name if plain else f"${Math.upright(name).latex}$"


def single_line(left: Math, sign: Literal["~", "=", "∈"], right: Math) -> Line:
    """Make an equation of one line."""
    return Line(left, sign, (right.unicode,), right.latex)


def and_list(words: Sequence[str]) -> str:
    """Enumerate words with commas and "and"."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
