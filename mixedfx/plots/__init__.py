"""Tables to pictures: each function draws one table on matplotlib axes.

Drawing computes nothing but where things stand, so every plotted number can also be printed:
what a picture shows beyond the table given to it is in a table of :mod:`mixedfx.plots.tables`.
No global style is changed and no figure shown. matplotlib is an extra:
``pip install "mixedfx[plot]"``.
"""

from mixedfx.plots.checks import against, by_level, influence, qq
from mixedfx.plots.effects import caterpillar, shrinkage
from mixedfx.plots.estimates import coefficients, density, profile, variance
from mixedfx.plots.fits import MOST_LINES, MOST_PANELS, Lines, fitted
from mixedfx.plots.tables import boxes, grid, is_number, quantiles, some_levels, trend

__all__ = [
    "MOST_LINES",
    "MOST_PANELS",
    "Lines",
    "against",
    "boxes",
    "by_level",
    "caterpillar",
    "coefficients",
    "density",
    "fitted",
    "grid",
    "influence",
    "is_number",
    "profile",
    "qq",
    "quantiles",
    "shrinkage",
    "some_levels",
    "trend",
    "variance",
]
