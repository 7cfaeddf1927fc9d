"""Formulas of mixed models, parsed to fixed and random terms without looking at data."""

from mixedfx._late import late

__getattr__ = late(__name__)
