"""Inference from a fitted model: tests, intervals, comparisons, predictions, simulation."""
