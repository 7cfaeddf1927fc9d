r"""Equations of a multilevel model, level by level, as textbooks write it.

.. math:: \mathrm{rating}_{ij} \mid R_i \sim N(R_i, \sigma^2), \qquad
          R_i \sim N(R, \sigma_{\mathrm{friend}}^2)

The hierarchically centred form of a formula (:func:`mixedfx.diagrams.graph.hierarchical_model`)
is written in Unicode and in LaTeX. Names of columns and estimates come from the caller, as plain
mappings.
"""

from mixedfx.diagrams.equations.distributions import FamilyResponse, family_symbols
from mixedfx.diagrams.equations.layout import Equation, Line
from mixedfx.diagrams.equations.levels import equation
from mixedfx.diagrams.equations.ordered import family_response, formula_shown
from mixedfx.diagrams.equations.values import Columns, Estimates, FurtherPredictor, RowTerms

__all__ = [
    "Columns",
    "Equation",
    "Estimates",
    "FamilyResponse",
    "FurtherPredictor",
    "Line",
    "RowTerms",
    "equation",
    "family_response",
    "family_symbols",
    "formula_shown",
]
