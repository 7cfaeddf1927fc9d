"""Checks of a fit, ``fit.check()``: one file each, and their registry."""
