"""Names to symbols: mathematics spelled twice, in Unicode and in LaTeX.

What goes in is names and indices, what comes out is :class:`Math`. The one idea is that both
spellings are made together, piece by piece, so that they cannot say different things.
"""

from __future__ import annotations

from dataclasses import dataclass

from mixedfx.diagrams.graph.names import INTERCEPT, plain, split

# First the letters that have a subscript in Unicode; no model in sight needs the rest.
_INDICES = "ijklmnprstuvhxabcdfgqwyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LOW = dict(zip("0123456789aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True))
# In \mathrm, signs would be set as operators with space around them, or end the group.
_LATEX = {c: rf"\{c}" for c in "_%#&${} "} | {c: rf"\text{{{c}}}" for c in "-:,=+*;!?/'`"}
_LATEX |= {"\\": r"\backslash{}"}
_LATEX |= {"~": r"{\sim}", "^": r"{\wedge}", "|": r"{\vert}", "<": r"{\lt}", ">": r"{\gt}"}


@dataclass(frozen=True)
class Math:
    r"""
    A piece of mathematics, spelled twice; pieces are joined with ``+``.

    Parameters
    ----------
    unicode : str
        For terminals.
    latex : str
        For what sets mathematics; in the macros that MathJax and KaTeX know too.
    """

    unicode: str
    latex: str

    def __add__(self, other: Math | str) -> Math:
        """Join two pieces; a string is the same in both spellings."""
        other = other if isinstance(other, Math) else Math(other, other)
        return Math(self.unicode + other.unicode, self.latex + other.latex)

    def __str__(self) -> str:
        """Give the Unicode spelling."""
        return self.unicode

    @classmethod
    def name(cls, text: str) -> Math:
        """Set a name from the data upright, whatever characters it has."""
        return cls(text, r"\mathrm{" + "".join(_LATEX.get(c, c) for c in text) + "}")

    def at(self, indices: str, *, number: int | None = None) -> Math:
        """Put indices below, after the number of a vector's element."""
        below = ("" if number is None else str(number)) + indices
        if not below:
            return self
        return self + Math("".join(_LOW.get(c, c) for c in below), f"_{{{below}}}")

    def of(self, *names: str) -> Math:
        """Put names below; with an underscore in Unicode, which has few such letters."""
        latex = ",".join(Math.name(n).latex for n in names)
        return self + Math("_" + ",".join(names), f"_{{{latex}}}")


def index_letter(position: int) -> str:
    """Give the letter that numbers the levels of a factor, or the rows."""
    return _INDICES[position % len(_INDICES)]


def sd_symbol(effect: str, label: str, *, scalar: bool, alone: bool) -> Math:
    """Symbol of the standard deviation of one effect."""
    sigma = Math("σ", r"\sigma")
    if scalar and effect == INTERCEPT:
        return sigma.of(label)
    shown = ":".join(map(plain, split(effect)))
    return sigma.of(shown) if alone else sigma.of(label, shown)


def spread_symbol(columns: tuple[str, ...], label: str, *, alone: bool) -> Math:
    """Give the symbol of how widely the effects of one term scatter."""
    if len(columns) > 1:
        return Math("Σ", r"\Sigma").of(label)
    return sd_symbol(columns[0], label, scalar=True, alone=alone)
