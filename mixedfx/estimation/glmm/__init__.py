"""Estimation of generalised linear mixed models: search over covariances, coefficients, family."""

from mixedfx._late import late

__getattr__ = late(__name__)
