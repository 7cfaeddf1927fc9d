"""Residual models: variances of the residuals, and what estimates them.

Public are the names below, by which a model is added to those of ``lmer(..., residual=)``.
"""

from mixedfx.residuals.model import ResidualModel
from mixedfx.residuals.registry import register_residual
from mixedfx.residuals.variance_function import VarianceFunction

__all__ = ["ResidualModel", "VarianceFunction", "register_residual"]
