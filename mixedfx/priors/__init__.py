"""Prior distributions of a model's parameters.

``lmer(..., priors={"Days": Normal(0, 20), "sd": HalfNormal(50)})`` names a parameter as
``fit.conf_int`` does (``"Days"``, ``"sd(Days | Subject)"``, ``"sigma"``; the correlations of a term
together are ``"corr(Subject)"``), or all of a kind: ``"fixed"``, ``"sd"``, ``"corr"``,
``"dispersion"``. Fixed effects take normal priors; standard deviations, any of the positive ones; a
term's correlations together, the LKJ prior; ``Constant`` fixes a parameter at a value. Parameters
that are not named have flat priors; if all have, the mode of the posterior is the REML estimate.
"""

from typing import TYPE_CHECKING

from mixedfx._late import late

if TYPE_CHECKING:
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

__getattr__ = late(__name__, **dict.fromkeys(__all__, "distributions"))


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
