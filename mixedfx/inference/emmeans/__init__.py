"""Estimated marginal means and their contrasts."""

from mixedfx._late import late

__getattr__ = late(__name__)
