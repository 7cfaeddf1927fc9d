"""Dispersion models: log-linear residual standard deviations, with fixed and random effects."""

from mixedfx._late import late

__getattr__ = late(__name__)
