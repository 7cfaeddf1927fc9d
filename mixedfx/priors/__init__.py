"""Prior distributions of a model's parameters.

Fixed effects take normal priors; standard deviations, any of the positive ones; a term's
correlations together, the LKJ prior; ``Constant`` fixes a parameter at a value.
"""

from mixedfx.priors.distributions import (
    LKJ,
    Constant,
    Exponential,
    Flat,
    Gamma,
    HalfNormal,
    HalfStudentT,
    Normal,
)

__all__ = [
    "LKJ",
    "Constant",
    "Exponential",
    "Flat",
    "Gamma",
    "HalfNormal",
    "HalfStudentT",
    "Normal",
]
