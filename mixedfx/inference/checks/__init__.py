"""Checks of a fit, ``fit.check()``: one file each, and their registry."""

from mixedfx._late import late

__getattr__ = late(__name__)
