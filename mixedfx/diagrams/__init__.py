"""Diagrams of a model: graph, drawing and equations."""

from mixedfx._late import late

__getattr__ = late(__name__)
