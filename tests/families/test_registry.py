"""Families by name, by R's spelling and from statsmodels, and what is answered to others."""

from __future__ import annotations

import pickle

import pytest
import statsmodels.api as sm

from mixedfx.errors import ArgumentError
from mixedfx.families import FAMILIES, Binomial, Poisson, resolve_family
from mixedfx.families import statsmodels as bridge

LINKS = sm.families.links


@pytest.mark.parametrize("name", FAMILIES)
def test_a_name_with_each_of_its_links(name):
    for link in FAMILIES[name].links:
        assert str(resolve_family(name, link)) == f"{name} ({link})"
    assert resolve_family(name).link.name == FAMILIES[name].links[0]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Gamma", "gamma"),
        ("inverse.gaussian", "inverse_gaussian"),
        ("Binomial", "binomial"),
        ("InverseGaussian", "inverse_gaussian"),
        ("NegativeBinomial", "nbinom2"),
        ("negative_binomial", "nbinom2"),
        ("bernoulli", "binomial"),
        ("normal", "gaussian"),
    ],
)
def test_other_spellings(spelling, name):
    assert resolve_family(spelling).name == name


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (sm.families.Poisson(), "poisson (log)"),
        (sm.families.Poisson, "poisson (log)"),
        (sm.families.Poisson(link=LINKS.Identity()), "poisson (identity)"),
        (sm.families.Binomial(), "binomial (logit)"),
        (sm.families.Binomial(link=LINKS.Probit()), "binomial (probit)"),
        (sm.families.Binomial(link=LINKS.CLogLog()), "binomial (cloglog)"),
        (sm.families.Binomial(link=LINKS.Cauchy()), "binomial (cauchit)"),
        (sm.families.Gamma(link=LINKS.Log()), "gamma (log)"),
        (sm.families.Gamma(), "gamma (inverse)"),
        (sm.families.Gaussian(), "gaussian (identity)"),
        (sm.families.InverseGaussian(link=LINKS.Log()), "inverse_gaussian (log)"),
        (sm.families.NegativeBinomial(alpha=1.0), "nbinom2 (log)"),
        (Poisson, "poisson (log)"),
        (Binomial.with_link("cauchit"), "binomial (cauchit)"),
    ],
)
def test_objects_and_classes(given, expected):
    assert str(resolve_family(given)) == expected


def test_a_square_root_in_statsmodels_is_a_power():
    power = LINKS.Power(power=0.5)
    assert str(resolve_family("poisson", power)) == "poisson (sqrt)"


def test_links_of_statsmodels_and_of_a_class_given():
    assert str(resolve_family("binomial", LINKS.Probit())) == "binomial (probit)"
    assert str(resolve_family("binomial", LINKS.CLogLog)) == "binomial (cloglog)"
    assert str(resolve_family(sm.families.Binomial, "cauchit")) == "binomial (cauchit)"


@pytest.mark.parametrize(
    ("family", "link", "message"),
    [
        ("poison", None, "Did you mean 'poisson'"),
        ("binomail", None, "Did you mean 'binomial'"),
        ("negativ_binomial", None, "Did you mean 'nbinom2'"),
        ("quasipoisson", None, "nbinom1"),
        ("zip", None, "is 'poisson' with zero_inflation='~ 1'"),
        ("hurdle_negbinomial", None, "is 'truncated_nbinom2' with zero_inflation="),
        ("lognormal", None, r"mfx\.lmer\('log\(y\) ~ \.\.\.', data\)"),
        ("ordbeta", None, r"squeeze\(share\) ~"),
        ("compois", None, "is not available; 'nbinom1'"),
        ("categorical", None, "'cumulative' is of ordered categories"),
        ("quasibinomial", None, r"\(1 \| row\)"),
        ("xyz", None, "'nbinom2', 'nbinom1'"),
        ("binomial", "probitt", "Did you mean 'probit'"),
        ("poisson", "logit", "'log', 'sqrt', 'identity'"),
        ("nbinom2", "sqrt", "'log'"),
        ("binomial", 3, "must be a name"),
        (3, None, "family of statsmodels"),
        (None, None, "family of statsmodels"),
        (sm.families.Tweedie(), None, "Tweedie is not supported. .*Poisson"),
        (sm.families.InverseGaussian(), None, "InverseSquared is not.*Log"),
        (sm.families.Binomial(link=LINKS.LogLog()), None, "LogLog is not supported.*Logit"),
        (
            sm.families.Poisson(link=LINKS.Logit(), check_link=False),
            None,
            "is not one of the choices",
        ),
        (sm.families.Binomial(), "probit", "has the link 'logit'"),
    ],
)
def test_what_is_not_supported_is_answered(family, link, message):
    with pytest.raises(ArgumentError, match=message):
        resolve_family(family, link)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_a_value(name):
    family = resolve_family(name)
    assert pickle.loads(pickle.dumps(family)) == family
    assert hash(family) == hash(resolve_family(name))
    if len(FAMILIES[name].links) > 1:
        assert family != resolve_family(name, FAMILIES[name].links[1])


def test_a_family_of_ours_goes_to_statsmodels_and_back():
    for name, cls in FAMILIES.items():
        for link in cls.links:
            family = resolve_family(name, link)
            if name in bridge.FAMILIES:
                assert resolve_family(family.statsmodels_family([0.5])) == family
