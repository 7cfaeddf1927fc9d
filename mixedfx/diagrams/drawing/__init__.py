"""Drawing of a model's graph in plate notation, on matplotlib axes.

The response is at the origin and every plate contains it, so a plate is given by its extent to the
left, right, top and bottom. A plate nested in another has smaller extents on all sides; crossed
plates overlap at the response. Following the layered framework of Sugiyama, Tagawa and Toda (1981,
IEEE Trans. SMC 11, 109-125), :func:`order_plates` assigns layers and orders, and
:func:`compute_layout` coordinates in inches, both from the graph and the widths of its texts alone;
:func:`draw` needs matplotlib, an extra: ``pip install "mixedfx[plot]"``.
"""

from mixedfx.diagrams.drawing.draw import draw
from mixedfx.diagrams.drawing.layout import Layout, compute_layout
from mixedfx.diagrams.drawing.ordering import PlateOrder, order_plates
from mixedfx.diagrams.drawing.shapes import Box, Ellipse

__all__ = ["Box", "Ellipse", "Layout", "PlateOrder", "compute_layout", "draw", "order_plates"]
