"""Parametrised covariance matrices of random effects.

Public are the names below, by which a structure is added to those of formulas.
"""

from typing import TYPE_CHECKING

from mixedfx._late import late

if TYPE_CHECKING:
    from mixedfx.covariance.components import Component, Positions
    from mixedfx.covariance.registry import register_structure
    from mixedfx.covariance.structure import CovarianceStructure, cholesky_derivative

__all__ = [
    "Component",
    "CovarianceStructure",
    "Positions",
    "cholesky_derivative",
    "register_structure",
]

__getattr__ = late(
    __name__,
    Component="components",
    CovarianceStructure="structure",
    Positions="components",
    cholesky_derivative="structure",
    register_structure="registry",
)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
