"""Formula to graph: what the model's variables depend on, and whether that is a tree.

A multilevel model is one in which modelled variables depend on each other as a directed
acyclic graph. The formula alone tells the graph: a node for the random effects of each term,
for the response, the covariates and the parameters; a plate (a box that says "for each") for
each grouping factor and for the rows.

It is told in steps: names and symbols, the levels, the centred reading (:func:`read`), which the
equations share, the graph (:func:`graph`), and the graph as text. Nothing here knows data:
counts, and nesting that the formula does not write, are passed in.
"""

from mixedfx.diagrams.graph.build import Graph, graph
from mixedfx.diagrams.graph.elements import Edge, Kind, Node, Plate
from mixedfx.diagrams.graph.model_terms import Effects, Reading, read
from mixedfx.diagrams.graph.names import INTERCEPT, plain, split
from mixedfx.diagrams.graph.nesting import Factor
from mixedfx.diagrams.graph.symbols import Math, sd_symbol

__all__ = [
    "INTERCEPT",
    "Edge",
    "Effects",
    "Factor",
    "Graph",
    "Kind",
    "Math",
    "Node",
    "Plate",
    "Reading",
    "graph",
    "plain",
    "read",
    "sd_symbol",
    "split",
]
