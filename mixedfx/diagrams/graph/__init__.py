"""Directed acyclic graph of a multilevel model, with plates (Buntine 1994).

The formula alone determines the graph: a node for the random effects of each term, for the
response, the covariates and the parameters; a plate, "for each", for each grouping factor and for
the rows. Counts, and nesting that the formula does not write, come from the caller.
:func:`hierarchical_model` reads a formula in the hierarchically centred form that the graph and the
equations share.

Buntine (1994), Operations for learning with graphical models, J. Artif. Intell. Res. 2, 159-225.
"""

from mixedfx.diagrams.graph.build import Graph, graph, with_dependence
from mixedfx.diagrams.graph.elements import Edge, Kind, Node, Plate
from mixedfx.diagrams.graph.model_terms import HierarchicalModel, TermEffects, hierarchical_model
from mixedfx.diagrams.graph.names import INTERCEPT, display_name, split_interaction
from mixedfx.diagrams.graph.nesting import GroupingFactor
from mixedfx.diagrams.graph.symbols import Math, sd_symbol

__all__ = [
    "INTERCEPT",
    "Edge",
    "Graph",
    "GroupingFactor",
    "HierarchicalModel",
    "Kind",
    "Math",
    "Node",
    "Plate",
    "TermEffects",
    "display_name",
    "graph",
    "hierarchical_model",
    "sd_symbol",
    "split_interaction",
    "with_dependence",
]
