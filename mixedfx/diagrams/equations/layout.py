"""Lines to text: equations as a terminal shows them, and as LaTeX sets them.

What goes in is lines, each spelled twice, what comes out is one text in either spelling. The one
idea is that a line is a left side, a sign and a right side, so that the signs stand below each
other in both.
"""

from __future__ import annotations

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
        What stands before the sign.
    sign : {"~", "="}
        Distribution or definition.
    right : tuple of str
        What stands after it in Unicode, line by line.
    latex : str
        The same in LaTeX; ``&`` where further lines are aligned.
    """

    left: Math
    sign: Literal["~", "="]
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
        What each index numbers.
    notes : tuple of str
        What the equations do not show: means that were folded into others, columns that only
        data tell.

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
        """The equations for a terminal, the signs below each other."""
        width = max(len(line.left.unicode) for line in self.lines)
        shown = []
        for line in self.lines:
            head = f"{line.left.unicode:>{width}} {line.sign} "
            shown += [head + line.right[0]]
            shown += [" " * len(head) + more for more in line.right[1:]]
        return "\n".join(shown)

    @property
    def latex(self) -> str:
        """The equations in LaTeX: an ``aligned`` environment, to stand in mathematics."""
        signs = {"~": r"\sim", "=": "="}
        shown = [f"{line.left.latex} &{signs[line.sign]} {line.latex}" for line in self.lines]
        body = " \\\\\n".join(shown)
        return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"

    def __str__(self) -> str:
        """Print the equations, what their indices mean, and the notes."""
        words = [textwrap.fill(text, 80) for text in (self._words("{}"), *self.notes)]
        return "\n\n".join([self.unicode, *words])

    __repr__ = __str__

    def _repr_latex_(self) -> str:
        words = [self._words("${}$"), *(note.replace("$", r"\$") for note in self.notes)]
        return "\n\n".join([f"$$\n{self.latex}\n$$", *words])

    def _words(self, form: str) -> str:
        """Say what the indices number."""
        groups, (row, rows) = self.where[:-1], self.where[-1]
        told = [f"{form.format(letter)} those of {label}" for letter, label in groups]
        told.append(f"{form.format(row)} the {rows}")
        first, _, rest = told[0].partition(" ")
        rest = rest.replace("those", "the levels", 1) if groups else rest
        return f"where {and_list([f'{first} numbers {rest}', *told[1:]])}."


def line_of(left: Math, sign: Literal["~", "="], right: Math) -> Line:
    """Make an equation of one line."""
    return Line(left, sign, (right.unicode,), right.latex)


def and_list(words: Sequence[str]) -> str:
    """List words as a sentence does."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
