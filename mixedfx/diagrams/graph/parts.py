"""Symbols of the further linear predictors of a model: of its zero part, of its dispersion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mixedfx.diagrams.graph.symbols import Math


@dataclass(frozen=True)
class PartSymbols:
    """Symbols of one linear predictor."""

    prefix: str  # of grouping factors in subscripts; empty of the mean
    coefficient: Math

    def label(self, factor: str) -> str:
        """A grouping factor in the subscript of a variance."""
        return f"{self.prefix},{factor}" if self.prefix else factor

    def name(self, name: str) -> str:
        """A node of the graph."""
        return f"{self.prefix} {name}" if self.prefix else name


MEAN = PartSymbols("", Math("β", r"\beta"))

# Further predictors by the argument of their formula.
FURTHER: Mapping[str, PartSymbols] = {
    "zero_inflation": PartSymbols("zero", Math("γ", r"\gamma")),
    "dispersion": PartSymbols("dispersion", Math("ψ", r"\psi")),
}
