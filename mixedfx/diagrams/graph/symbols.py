"""Mathematical symbols in Unicode and in LaTeX.

Both forms are composed together, piece by piece, so that they state the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from mixedfx.diagrams.graph.names import INTERCEPT, display_name, split_interaction

# The letters with a Unicode subscript come first; few models need more.
_INDICES = "ijklmnprstuvhxabcdfgqwyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SUBSCRIPTS = dict(zip("0123456789aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True))
# In \mathrm these characters would be set as operators, with space around them, or end the group.
_LATEX = {c: rf"\{c}" for c in "_%#&${} "} | {c: rf"\text{{{c}}}" for c in "-:,=+*;!?/'`"}
_LATEX |= {"\\": r"\backslash{}"}
_LATEX |= {"~": r"{\sim}", "^": r"{\wedge}", "|": r"{\vert}", "<": r"{\lt}", ">": r"{\gt}"}


@dataclass(frozen=True)
class Math:
    r"""
    A mathematical expression in Unicode and LaTeX; expressions are joined with ``+``.

    Parameters
    ----------
    unicode : str
        For terminals.
    latex : str
        In the macros that LaTeX, MathJax and KaTeX share.
    """

    unicode: str
    latex: str

    def __add__(self, other: Math | str) -> Math:
        """Concatenate; a string is the same in both forms."""
        other = other if isinstance(other, Math) else Math(other, other)
        return Math(self.unicode + other.unicode, self.latex + other.latex)

    def __str__(self) -> str:
        """Return the Unicode form."""
        return self.unicode

    @classmethod
    def upright(cls, text: str) -> Math:
        """Set a name from the data in roman type, its special characters escaped."""
        text = text.replace("\n", " ")
        return cls(text, r"\mathrm{" + "".join(_LATEX.get(c, c) for c in text) + "}")

    def subscript(self, indices: str, *, number: int | None = None) -> Math:
        """Add a subscript of indices, after the number of a vector's element."""
        text = ("" if number is None else str(number)) + indices
        if not text:
            return self
        return self + Math("".join(_SUBSCRIPTS.get(c, c) for c in text), f"_{{{text}}}")

    def name_subscript(self, *names: str) -> Math:
        """Add a subscript of names; in Unicode after an underscore, as few letters have one."""
        upright = [Math.upright(name) for name in names]
        latex = ",".join(name.latex for name in upright)
        return self + Math("_" + ",".join(n.unicode for n in upright), f"_{{{latex}}}")


def index_letter(position: int) -> str:
    """Letter that indexes the levels of a factor, or the rows."""
    return _INDICES[position % len(_INDICES)]


def sd_symbol(effect: str, label: str, *, scalar: bool, single_factor: bool) -> Math:
    """Symbol of the standard deviation of one effect."""
    sigma = Math("σ", r"\sigma")
    if scalar and effect == INTERCEPT:
        return sigma.name_subscript(label)
    name = ":".join(map(display_name, split_interaction(effect)))
    return sigma.name_subscript(name) if single_factor else sigma.name_subscript(label, name)


def covariance_symbol(label: str) -> Math:
    """Symbol of the covariance matrix of several effects."""
    return Math("Σ", r"\Sigma").name_subscript(label)
