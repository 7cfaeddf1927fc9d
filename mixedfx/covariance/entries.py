"""Formulas of the entries of covariances, for equations.

An entry stands at the positions s and t. In the templates ``{sd:s}`` is the standard deviation at
s, ``{corr:st}`` the correlation of both, and ``{sd}``, ``{corr}``, ``{range}``, ``{rate}``,
``{smoothness}`` are those of all positions.
"""

from __future__ import annotations

from typing import NamedTuple


class EntryFormula(NamedTuple):
    """The same formula as text and in LaTeX, with fields for its parameters."""

    unicode: str
    latex: str


def zero_off_diagonal(variance: EntryFormula) -> EntryFormula:
    """A variance where s is t, zero elsewhere."""
    return EntryFormula(
        f"{variance.unicode} if s = t, else 0",
        rf"{variance.latex} \text{{{{ if }}}} s = t \text{{{{, else }}}} 0",
    )


# Products of the standard deviations at s and t.
ONE_SD = EntryFormula("{sd}²", "{sd}^2")
TWO_SDS = EntryFormula("{sd:s} {sd:t}", r"{sd:s} {sd:t}")
