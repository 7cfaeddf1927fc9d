"""Residual models: variances of the residuals, and what estimates them.

Public are the names below, by which a model is added to those of ``lmer(..., residual=)``.
"""

from typing import TYPE_CHECKING

from mixedfx._late import late

if TYPE_CHECKING:
    from mixedfx.residuals.model import ResidualModel
    from mixedfx.residuals.registry import register_residual
    from mixedfx.residuals.variance_function import VarianceFunction

__all__ = ["ResidualModel", "VarianceFunction", "register_residual"]

__getattr__ = late(
    __name__,
    ResidualModel="model",
    VarianceFunction="variance_function",
    register_residual="registry",
)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
