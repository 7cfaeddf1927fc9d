"""Fits that are kept: pickles, files without pickle, and fits without rows."""

from mixedfx._late import late

__getattr__ = late(__name__)
