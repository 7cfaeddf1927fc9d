"""Fits that are kept: pickles, files without pickle, and fits without rows."""
