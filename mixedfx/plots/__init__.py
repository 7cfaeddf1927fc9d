"""Plots of the tables that fits return, on matplotlib axes.

Statistics and drawing are separate functions: every plotted number is in the table given to a plot
or in one that :mod:`mixedfx.plots.plot_data` computes from it. No global style is changed and no
figure is shown. matplotlib is an extra: ``pip install "mixedfx[plot]"``.
"""

from mixedfx.plots.axes import format_label
from mixedfx.plots.check import check
from mixedfx.plots.coefficients import coefficients, density, profile, variance
from mixedfx.plots.correlation import correlation
from mixedfx.plots.diagnostics import boxplot_by_level, influence, qq, scatter_with_trend
from mixedfx.plots.fitted import MAX_LINES, MAX_PANELS, FittedLines, fitted
from mixedfx.plots.means import MeansTable, curves, means
from mixedfx.plots.ordered import probabilities, thresholds
from mixedfx.plots.plot_data import (
    binned_means,
    boxplot_stats,
    data_grid,
    is_number,
    quantiles,
    select_levels,
)
from mixedfx.plots.ranef import caterpillar, shrinkage

__all__ = [
    "MAX_LINES",
    "MAX_PANELS",
    "FittedLines",
    "MeansTable",
    "binned_means",
    "boxplot_by_level",
    "boxplot_stats",
    "caterpillar",
    "check",
    "coefficients",
    "correlation",
    "curves",
    "data_grid",
    "density",
    "fitted",
    "format_label",
    "influence",
    "is_number",
    "means",
    "probabilities",
    "profile",
    "qq",
    "quantiles",
    "scatter_with_trend",
    "select_levels",
    "shrinkage",
    "thresholds",
    "variance",
]
