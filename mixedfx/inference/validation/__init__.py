"""Prediction of rows that were left out: folds, fits without them, and scores."""

from mixedfx._late import late

__getattr__ = late(__name__)
