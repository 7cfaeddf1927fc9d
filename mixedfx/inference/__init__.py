"""Inference from a fitted model: tests, intervals, comparisons, predictions, simulation."""

from mixedfx._late import late

__getattr__ = late(__name__)
