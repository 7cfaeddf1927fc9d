"""Families of statsmodels from ours, and ours from theirs.

Theirs are recognised by the names of their classes, so that statsmodels is not imported to see
that a value is none of them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx.errors import ArgumentError, brief

Vector = npt.NDArray[np.float64]

# Their class of our family, and that of our link.
FAMILIES = MappingProxyType(
    {
        "binomial": "Binomial",
        "poisson": "Poisson",
        "gaussian": "Gaussian",
        "gamma": "Gamma",
        "inverse_gaussian": "InverseGaussian",
        "nbinom2": "NegativeBinomial",
    }
)
LINKS = MappingProxyType(
    {
        "logit": "Logit",
        "probit": "Probit",
        "cloglog": "CLogLog",
        "cauchit": "Cauchy",
        "log": "Log",
        "sqrt": "Sqrt",
        "identity": "Identity",
        "inverse": "InversePower",
    }
)
_POWER_LINKS = {1.0: "identity", 0.5: "sqrt", -1.0: "inverse"}


def is_of_statsmodels(value: object) -> bool:
    """Whether a value is an object or a class of ``statsmodels.genmod.families``."""
    cls = value if isinstance(value, type) else type(value)
    return cls.__module__.startswith("statsmodels.genmod.families")


def family_name(value: Any) -> str:
    """Our name of a family of statsmodels, given as an object or a class."""
    return _ours(value, FAMILIES, "family")


def link_name(value: Any) -> str:
    """Our name of a link of statsmodels, given as an object or a class."""
    power = getattr(value, "power", None)
    if isinstance(power, int | float) and float(power) in _POWER_LINKS:
        return _POWER_LINKS[float(power)]
    return _ours(value, LINKS, "link")


def _ours(value: Any, classes: MappingProxyType[str, str], what: str) -> str:
    cls = value if isinstance(value, type) else type(value)
    # The class itself, not its bases: their LogLog is a CLogLog, and a user's may compute anything.
    # Former names of links are theirs in lower case.
    folded = cls.__name__.replace("_", "").casefold()
    for ours, theirs in classes.items():
        if folded == theirs.casefold() and is_of_statsmodels(cls):
            return ours
    listed = ", ".join(f"{theirs} ('{ours}')" for ours, theirs in classes.items())
    raise ArgumentError(
        f"{what}={brief(value)}: the {what} {cls.__name__} is not supported. Those of "
        f"statsmodels that are: {listed}."
    )


def to_statsmodels(family: str, link: str, params: Vector) -> Any:
    """Family of statsmodels with a link; ``nbinom1`` as Poisson, of proportional variance."""
    from statsmodels.genmod import families

    theirs = getattr(families, FAMILIES.get(family, "Poisson"))
    named = getattr(families.links, LINKS[link], None)
    options = {"alpha": float(params[0])} if family == "nbinom2" else {}
    link_of_theirs = families.links.Power(power=0.5) if named is None else named()
    made = theirs(link=link_of_theirs, **options)
    # GLM warns of links whose means can be outside the family's range; ours are inside.
    made.safe_links = [*made.safe_links, type(link_of_theirs)]
    return made
