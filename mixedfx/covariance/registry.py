"""Covariance structures that formulas know by name: one line each."""

from __future__ import annotations

from mixedfx.covariance.diagonal import Diagonal
from mixedfx.covariance.structure import CovarianceStructure
from mixedfx.covariance.unstructured import Unstructured

STRUCTURES: dict[str, CovarianceStructure] = {}


def register_structure(structure: CovarianceStructure) -> None:
    """Make ``structure.name(x | g)`` a random term of formulas."""
    STRUCTURES[structure.name] = structure


register_structure(Unstructured())
register_structure(Diagonal())
