r"""Formula to equations: the model level by level, as a textbook writes it.

.. math:: \mathrm{rating}_{ij} \mid R_i \sim N(R_i, \sigma^2), \qquad
          R_i \sim N(R, \sigma_{\mathrm{friend}}^2)

The one idea is that a formula is read once (:func:`mixedfx.dag.read`) and every symbol is
spelled twice, in Unicode and in LaTeX, so that the two can not say different things. What the
data would add, names of columns and estimates, is passed in as plain mappings.

Nothing here knows data, fits or results.
"""

from mixedfx.equations.given import Columns, Estimates
from mixedfx.equations.levels import equation
from mixedfx.equations.lines import Equation, Line

__all__ = ["Columns", "Equation", "Estimates", "Line", "equation"]
