"""Entries of structured covariances, by the formulas that the structures give."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass

from mixedfx.covariance.registry import STRUCTURES
from mixedfx.diagrams.graph.symbols import Math

_PARAMETERS = {
    "sd": Math("σ", r"\sigma"),
    "corr": Math("ρ", r"\rho"),
    "range": Math("φ", r"\varphi"),
    "rate": Math("λ", r"\lambda"),
    "smoothness": Math("ν", r"\nu"),
}
# What a reader may not know by its symbol.
_NAMES = ("range", "rate", "smoothness")
EPSILON = Math("ε", r"\varepsilon")


@dataclass(frozen=True)
class _Symbol:
    """A parameter whose format specification is its subscript, as in ``{sd:s}``."""

    symbol: Math
    label: str | None  # grouping factor of a random term
    latex: bool

    def __format__(self, indices: str) -> str:
        """Write the symbol with its subscripts."""
        plain = self.symbol.subscript(indices)
        if self.label is not None:
            name = Math.upright(self.label)
            comma = "," if indices else ""
            plain = self.symbol + Math(
                f"_{name.unicode}{comma}{indices}", f"_{{{name.latex}{comma}{indices}}}"
            )
        elif "|" in indices:
            plain = self.symbol + Math(f"_{indices}", f"_{{{indices}}}")
        return plain.latex if self.latex else plain.unicode


def covariance_entry(structure: str, label: str | None = None) -> Math | None:
    """Covariance at positions s and t; None where the structure gives no formula."""
    entry = STRUCTURES[structure].entry()
    if entry is None:
        return None
    forms = (
        template.format(**{k: _Symbol(v, label, latex) for k, v in _PARAMETERS.items()})
        for template, latex in zip(entry, (False, True), strict=True)
    )
    return Math(*forms)


def between(symbol: Math) -> Math:
    """``Cov(ε_s, ε_t)``, or the entry of a matrix."""
    s, t = symbol.subscript("s"), symbol.subscript("t")
    return Math("Cov(", r"\operatorname{Cov}(") + s + ", " + t + ")"


def matrix_entry(matrix: Math) -> Math:
    """``Σ[s, t]``."""
    return matrix + Math("[s, t]", "[s, t]")


def residual_entry_notes(structure: str) -> Iterator[str]:
    """What the symbols of the covariance of two residuals are."""
    if STRUCTURES[structure].entry() is not None:
        s, t = EPSILON.subscript("s"), EPSILON.subscript("t")
        yield f"{s} and {t} are residuals at the positions s and t.{parameter_names(structure)}"


def parameter_names(structure: str, label: str | None = None) -> str:
    """``" φ is the range."``, of the parameters that a formula has; empty where none is."""
    entry = STRUCTURES[structure].entry()
    fields = {name for _, name, _, _ in string.Formatter().parse(entry.unicode)} if entry else set()
    clauses = (
        f" {_Symbol(_PARAMETERS[name], label, latex=False)} is the {name}."
        for name in _NAMES
        if name in fields
    )
    return "".join(clauses)
