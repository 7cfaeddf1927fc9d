r"""Formula to equations: the model level by level, as a textbook writes it.

.. math:: \mathrm{rating}_{ij} \mid R_i \sim N(R_i, \sigma^2), \qquad
          R_i \sim N(R, \sigma_{\mathrm{friend}}^2)

The one idea is that a formula is read once (:func:`mixedfx.diagrams.graph.read`) and every symbol
is
spelled twice, in Unicode and in LaTeX, so that the two can not say different things. What the
data would add, names of columns and estimates, is passed in as plain mappings.

Nothing here knows data, fits or results.
"""

from mixedfx.diagrams.equations.layout import Equation, Line
from mixedfx.diagrams.equations.levels import equation
from mixedfx.diagrams.equations.values import Columns, Estimates

__all__ = ["Columns", "Equation", "Estimates", "Line", "equation"]
