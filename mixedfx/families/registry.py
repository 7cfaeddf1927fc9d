"""Registry of the families, and families from what users give."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from mixedfx._late import LateMapping
from mixedfx.errors import ArgumentError, brief, did_you_mean
from mixedfx.families import statsmodels as bridge
from mixedfx.families.family import Family
from mixedfx.families.link_registry import LINKS
from mixedfx.families.links import Link

# A fit imports its own family.
_ALL: LateMapping[type[Family]] = LateMapping(
    "mixedfx.families",
    {
        "binomial": "binomial.Binomial",
        "poisson": "poisson.Poisson",
        "gaussian": "gaussian.Gaussian",
        "gamma": "gamma.Gamma",
        "inverse_gaussian": "inverse_gaussian.InverseGaussian",
        "nbinom2": "nbinom2.NegativeBinomial2",
        "nbinom1": "nbinom1.NegativeBinomial1",
        "beta": "beta.Beta",
        "betabinomial": "betabinomial.BetaBinomial",
        "student": "student.Student",
        "truncated_poisson": "truncated.TruncatedPoisson",
        "truncated_nbinom2": "truncated.TruncatedNegativeBinomial2",
        "cumulative": "cumulative.Cumulative",
        "tweedie": "tweedie.Tweedie",
    },
)
FAMILIES = MappingProxyType(_ALL)

# Spellings of other programs, without case, points, underscores and blanks.
_OTHER_NAMES = {
    "inversegaussian": "inverse_gaussian",
    "invgauss": "inverse_gaussian",
    "normal": "gaussian",
    "bernoulli": "binomial",
    "negativebinomial": "nbinom2",
    "negbinomial": "nbinom2",
    "negbin": "nbinom2",
    "nbinom": "nbinom2",
    "nb": "nbinom2",
    "nb2": "nbinom2",
    "nb1": "nbinom1",
    "betafamily": "beta",
    "betareg": "beta",
    "betabinom": "betabinomial",
    "t": "student",
    "tfamily": "student",
    "studentt": "student",
    "ztpoisson": "truncated_poisson",
    "ztnbinom": "truncated_nbinom2",
    "ordinal": "cumulative",
    "clm": "cumulative",
    "clmm": "cumulative",
    "polr": "cumulative",
    "cumul": "cumulative",
}
_OTHER_LINKS = {"cauchy": "cauchit", "inversepower": "inverse", "1/mu": "inverse"}
# Estimating equations without a likelihood, and what has one.
_QUASI = {
    "quasibinomial": "'binomial' with a random intercept of each row, (1 | row),",
    "quasipoisson": "'nbinom1', whose variance is mu (1 + alpha),",
}

_ZEROS = "is '{0}' with zero_inflation='~ 1', or another formula of the probability of a zero"
# Models that are families elsewhere, by their folded names: what they are here.
_ELSEWHERE = {
    **dict.fromkeys(("zip", "zeroinflatedpoisson", "zipoisson"), _ZEROS.format("poisson")),
    **dict.fromkeys(("zinb", "zeroinflatednegbinomial", "zinbinom"), _ZEROS.format("nbinom2")),
    **dict.fromkeys(("hurdle", "hurdlepoisson"), _ZEROS.format("truncated_poisson")),
    **dict.fromkeys(("hurdlenegbinomial", "hurdlenb"), _ZEROS.format("truncated_nbinom2")),
    "truncatednbinom1": "is not available; 'truncated_nbinom2' has a variance that is quadratic in "
    "the mean",
    **dict.fromkeys(
        ("lognormal", "lognorm"), "is normal in its logarithm: mfx.lmer('log(y) ~ ...', data)"
    ),
    **dict.fromkeys(
        ("ordbeta", "orderedbeta", "zerooneinflatedbeta"),
        "is not available; 'beta' takes shares with zeros and ones that are moved inside by "
        "squeeze(share) ~ ...",
    ),
    **dict.fromkeys(
        ("compois", "genpois", "conwaymaxwellpoisson"),
        "is not available; 'nbinom1' and 'nbinom2' have a variance above the mean",
    ),
    **dict.fromkeys(
        ("multinomial", "categorical"),
        "is not available; 'cumulative' is of ordered categories, and 'binomial' of one category "
        "against another",
    ),
    **dict.fromkeys(
        ("exponential", "exgaussian", "weibull", "skewnormal"),
        "is not available; 'gamma' and 'inverse_gaussian' are of positive numbers, 'student' of "
        "heavy tails",
    ),
}


def resolve_family(family: Any = "binomial", link: Any = None) -> Family:
    """
    Family with its link, from what a user gives.

    Parameters
    ----------
    family : str, Family, or a family of statsmodels
        A name of ``FAMILIES`` or its spelling in R; one of our families; or an object or a class
        of ``sm.families``, whose link is taken. ``sm.families.NegativeBinomial`` is ``nbinom2``,
        whose alpha is estimated.
    link : str or a link of statsmodels, optional
        One of the family's links; by default that of the object given, else the family's first.

    Returns
    -------
    Family
        A family with its link.

    Raises
    ------
    ArgumentError
        If there is no such family or link, with the nearest names; or if the object given has
        another link than ``link``.

    Examples
    --------
    >>> from mixedfx.families import resolve_family
    >>> str(resolve_family("binomial", "probit"))
    'binomial (probit)'
    >>> resolve_family("Gamma").name
    'gamma'
    """
    wanted = None if link is None else _link_name(link)
    if isinstance(family, type) and issubclass(family, Family) and family in FAMILIES.values():
        return family.with_link(wanted)
    if isinstance(family, Family):
        given = family.link.name
        _check_one_link(family, given, wanted)
        return family
    if bridge.is_of_statsmodels(family):
        return _from_statsmodels(family, wanted)
    if not isinstance(family, str):
        raise ArgumentError(
            f"family={brief(family)} must be one of the names {_listed(FAMILIES)}, or a family of "
            "statsmodels, such as sm.families.Poisson()."
        )
    return FAMILIES[_family_name(family)].with_link(wanted)


def _from_statsmodels(family: Any, wanted: str | None) -> Family:
    ours = FAMILIES[bridge.family_name(family)]
    if isinstance(family, type):
        # A class has its default link, which an explicit one replaces.
        return ours.with_link(wanted or bridge.link_name(family().link))
    given = bridge.link_name(family.link)
    _check_one_link(family, given, wanted)
    return ours.with_link(given)


def _check_one_link(family: Any, given: str, wanted: str | None) -> None:
    if wanted is not None and wanted != given:
        name = getattr(family, "name", type(family).__name__)
        raise ArgumentError(
            f"link='{wanted}', but the {name} family given has the link '{given}'. Give the "
            "family's name with link=, or the link in the family object alone."
        )


def _family_name(name: str) -> str:
    if name in FAMILIES:
        return name
    folded = _folded(name)
    by_folded = {_folded(known): known for known in FAMILIES} | _OTHER_NAMES
    if folded in by_folded:
        return by_folded[folded]
    if folded in _QUASI:
        raise ArgumentError(
            f"family={brief(name)} has no likelihood; {_QUASI[folded]} allows for overdispersion."
        )
    if folded in _ELSEWHERE:
        raise ArgumentError(
            f"family={brief(name)} {_ELSEWHERE[folded]}. Families are {_listed(FAMILIES)}."
        )
    hint = did_you_mean(folded, [*FAMILIES, *_OTHER_NAMES]) or did_you_mean(name, FAMILIES)
    for other, ours in _OTHER_NAMES.items():
        hint = hint.replace(repr(other), repr(ours))
    raise ArgumentError(
        f"family={brief(name)} is not one of the families {_listed(FAMILIES)}.{hint}"
    )


def _link_name(link: Any) -> str:
    if isinstance(link, Link):
        return link.name
    if bridge.is_of_statsmodels(link):
        return bridge.link_name(link)
    if not isinstance(link, str):
        raise ArgumentError(f"link={brief(link)} must be a name, such as 'log' or 'logit'.")
    folded = _folded(link)
    name = _OTHER_LINKS.get(folded, folded)
    return name if name in LINKS else link


def _folded(name: str) -> str:
    return "".join(c for c in name.casefold() if c not in "._- ")


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
