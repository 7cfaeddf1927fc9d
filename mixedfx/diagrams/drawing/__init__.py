"""Graph to picture: a model's variables as circles, its levels as plates, on matplotlib axes.

The response stands at the origin and every plate reaches around it, so that a plate is told
by how far it reaches to the left, to the right, up and down. Then one plate lies inside another
if it reaches less far on all sides, crossed ones overlap at the response, and what is left to
do is to find an order for each side (:func:`arrange`) and to turn orders into lengths
(:func:`place`). Positions are computed in inches, from the graph and the widths of its texts
alone; only :func:`draw` and its letters know matplotlib, an extra:
``pip install "mixedfx[plot]"``.
"""

from mixedfx.diagrams.drawing.draw import draw
from mixedfx.diagrams.drawing.layout import Layout, place
from mixedfx.diagrams.drawing.ordering import Arrangement, arrange
from mixedfx.diagrams.drawing.shapes import Box, Spot

__all__ = ["Arrangement", "Box", "Layout", "Spot", "arrange", "draw", "place"]
