"""Diagrams of a model: graph, drawing and equations."""
