"""Tables to pictures: each function draws one table on matplotlib axes.

Drawing computes nothing but where things stand, so every plotted number can also be printed:
what a picture shows beyond the table given to it is in a table of :mod:`mixedfx.plots.plot_data`.
No global style is changed and no figure shown. matplotlib is an extra:
``pip install "mixedfx[plot]"``.
"""

from mixedfx.plots.coefficients import coefficients, density, profile, variance
from mixedfx.plots.diagnostics import against, by_level, influence, qq
from mixedfx.plots.fitted import MOST_LINES, MOST_PANELS, Lines, fitted
from mixedfx.plots.plot_data import boxes, grid, is_number, quantiles, some_levels, trend
from mixedfx.plots.ranef import caterpillar, shrinkage

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
