"""Prediction of rows that were left out: folds, fits without them, and scores."""
