"""Response distributions and links of generalised mixed models."""

from typing import TYPE_CHECKING

from mixedfx._late import late

if TYPE_CHECKING:
    from mixedfx.families.beta import Beta
    from mixedfx.families.betabinomial import BetaBinomial
    from mixedfx.families.binomial import Binomial
    from mixedfx.families.cumulative import Cumulative
    from mixedfx.families.derivatives import ParamDerivatives, RowDerivatives
    from mixedfx.families.family import Family
    from mixedfx.families.gamma import Gamma
    from mixedfx.families.gaussian import NORMAL, Gaussian
    from mixedfx.families.inverse_gaussian import InverseGaussian
    from mixedfx.families.link_registry import LINKS
    from mixedfx.families.links import Link
    from mixedfx.families.nbinom1 import NegativeBinomial1
    from mixedfx.families.nbinom2 import NegativeBinomial2
    from mixedfx.families.poisson import Poisson
    from mixedfx.families.registry import FAMILIES, resolve_family
    from mixedfx.families.student import Student
    from mixedfx.families.truncated import TruncatedNegativeBinomial2, TruncatedPoisson
    from mixedfx.families.tweedie import Tweedie

__all__ = [
    "FAMILIES",
    "LINKS",
    "NORMAL",
    "Beta",
    "BetaBinomial",
    "Binomial",
    "Cumulative",
    "Family",
    "Gamma",
    "Gaussian",
    "InverseGaussian",
    "Link",
    "NegativeBinomial1",
    "NegativeBinomial2",
    "ParamDerivatives",
    "Poisson",
    "RowDerivatives",
    "Student",
    "TruncatedNegativeBinomial2",
    "TruncatedPoisson",
    "Tweedie",
    "resolve_family",
]

__getattr__ = late(
    __name__,
    FAMILIES="registry",
    LINKS="link_registry",
    NORMAL="gaussian",
    Beta="beta",
    BetaBinomial="betabinomial",
    Binomial="binomial",
    Cumulative="cumulative",
    Family="family",
    Gamma="gamma",
    Gaussian="gaussian",
    InverseGaussian="inverse_gaussian",
    Link="links",
    NegativeBinomial1="nbinom1",
    NegativeBinomial2="nbinom2",
    ParamDerivatives="derivatives",
    Poisson="poisson",
    RowDerivatives="derivatives",
    Student="student",
    TruncatedNegativeBinomial2="truncated",
    TruncatedPoisson="truncated",
    Tweedie="tweedie",
    resolve_family="registry",
)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
