"""Dispersion models: log-linear residual standard deviations, with fixed and random effects."""
