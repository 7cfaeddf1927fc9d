"""Links: logarithms of probabilities with three derivatives, and means with theirs."""

from __future__ import annotations

import numpy as np
import pytest

from mixedfx.families import LINKS
from mixedfx.families.cumulative_links import CumulativeLink

# Value and three derivatives of log F and log(1 - F), by mpmath 1.4.1 with 60 digits from
# F = 1 / (1 + exp(-x)), erfc(-x / sqrt 2) / 2, -expm1(-exp(x)), atan2(1, -x) / pi and exp(x).
LOGARITHMS = {
    ("logit", "log_cdf", -40): (-40.0, 1.0, -4.24835425529159e-18, -4.24835425529159e-18),
    ("logit", "log_sf", -40): (
        -4.24835425529159e-18,
        -4.24835425529159e-18,
        -4.24835425529159e-18,
        -4.24835425529159e-18,
    ),
    ("logit", "log_cdf", -6): (
        -6.00247568513773,
        0.997527376843365,
        -0.00246650929136005,
        -0.0024543117953803,
    ),
    ("logit", "log_sf", -6): (
        -0.00247568513773045,
        -0.00247262315663477,
        -0.00246650929136005,
        -0.0024543117953803,
    ),
    ("logit", "log_cdf", -0.5): (
        -0.974076984180107,
        0.622459331201855,
        -0.235003712201594,
        -0.0575567948523207,
    ),
    ("logit", "log_sf", -0.5): (
        -0.474076984180107,
        -0.377540668798145,
        -0.235003712201594,
        -0.0575567948523207,
    ),
    ("logit", "log_cdf", 0.5): (
        -0.474076984180107,
        0.377540668798145,
        -0.235003712201594,
        0.0575567948523207,
    ),
    ("logit", "log_sf", 0.5): (
        -0.974076984180107,
        -0.622459331201855,
        -0.235003712201594,
        0.0575567948523207,
    ),
    ("logit", "log_cdf", 3): (
        -0.0485873515737421,
        0.0474258731775668,
        -0.0451766597309121,
        0.0408915746609435,
    ),
    ("logit", "log_sf", 3): (
        -3.04858735157374,
        -0.952574126822433,
        -0.0451766597309121,
        0.0408915746609435,
    ),
    ("probit", "log_cdf", -40): (
        -804.608442013754,
        40.0249688472073,
        -0.999377331621409,
        3.10174403964862e-5,
    ),
    ("probit", "log_sf", -40): (0.0, 0.0, 0.0, 0.0),
    ("probit", "log_cdf", -6): (
        -20.7367689499747,
        6.1584826045446,
        -0.976012363210833,
        0.00695353749916431,
    ),
    ("probit", "log_sf", -6): (
        -9.86587645524376e-10,
        -6.07588285581768e-9,
        -3.64552971718224e-8,
        -2.12655900618113e-7,
    ),
    ("probit", "log_cdf", -0.5): (
        -1.17591176159362,
        1.14107777036806,
        -0.731519592844121,
        0.162603925176123,
    ),
    ("probit", "log_sf", -0.5): (
        -0.368946415288656,
        -0.509160433837033,
        -0.513824564303633,
        -0.270990124468708,
    ),
    ("probit", "log_cdf", 0.5): (
        -0.368946415288656,
        0.509160433837033,
        -0.513824564303633,
        0.270990124468708,
    ),
    ("probit", "log_sf", 0.5): (
        -1.17591176159362,
        -1.14107777036806,
        -0.731519592844121,
        -0.162603925176123,
    ),
    ("probit", "log_cdf", 3): (
        -0.00135080996474819,
        0.00443783904212566,
        -0.0133332115417408,
        0.0356801368765705,
    ),
    ("probit", "log_sf", 3): (
        -6.60772622151035,
        -3.28309865493044,
        -0.929440813214732,
        -0.0314706728308425,
    ),
    ("cloglog", "log_cdf", -40): (-40.0, 1.0, -2.12417712764579e-18, -2.12417712764579e-18),
    ("cloglog", "log_sf", -40): (
        -4.24835425529159e-18,
        -4.24835425529159e-18,
        -4.24835425529159e-18,
        -4.24835425529159e-18,
    ),
    ("cloglog", "log_cdf", -6): (
        -6.0012391200795,
        0.99876113592931,
        -0.00123835205315069,
        -0.00123732801838765,
    ),
    ("cloglog", "log_sf", -6): (
        -0.00247875217666636,
        -0.00247875217666636,
        -0.00247875217666636,
        -0.00247875217666636,
    ),
    ("cloglog", "log_cdf", -0.5): (
        -0.787983738704449,
        0.727204955965377,
        -0.242694193703205,
        -0.183587985085967,
    ),
    ("cloglog", "log_sf", -0.5): (
        -0.606530659712633,
        -0.606530659712633,
        -0.606530659712633,
        -0.606530659712633,
    ),
    ("cloglog", "log_cdf", 0.5): (
        -0.213559185373434,
        0.392522238279909,
        -0.408711232739271,
        -0.0611635974529552,
    ),
    ("cloglog", "log_sf", 0.5): (
        -1.64872127070013,
        -1.64872127070013,
        -1.64872127070013,
        -1.64872127070013,
    ),
    ("cloglog", "log_cdf", 3): (
        -1.89217869662846e-9,
        3.80054251123566e-8,
        -7.25353945707739e-7,
        1.3080410198944e-5,
    ),
    ("cloglog", "log_sf", 3): (
        -20.0855369231877,
        -20.0855369231877,
        -20.0855369231877,
        -20.0855369231877,
    ),
    ("cauchit", "log_cdf", -40): (
        -4.83381761689466,
        0.0249895889724541,
        0.000624219454728168,
        3.11719806808981e-5,
    ),
    ("cauchit", "log_sf", -40): (
        -0.00798790847530824,
        -0.000200413927959884,
        -1.00546031171554e-5,
        -7.56494489446468e-7,
    ),
    ("cauchit", "log_cdf", -6): (
        -2.94563902141538,
        0.163652700403844,
        0.0262943451328575,
        0.00828953932932887,
    ),
    ("cauchit", "log_sf", -6): (
        -0.0540005944628805,
        -0.00908030765684281,
        -0.00302741663260545,
        -0.00150114083056522,
    ),
    ("cauchit", "log_cdf", -0.5): (
        -1.04294189806203,
        0.72257682020708,
        0.055944195065089,
        -0.729766348505079,
    ),
    ("cauchit", "log_sf", -0.5): (
        -0.434507354517728,
        -0.3932278427162,
        -0.469210410460197,
        -0.366882794331097,
    ),
    ("cauchit", "log_cdf", 0.5): (
        -0.434507354517728,
        0.3932278427162,
        -0.469210410460197,
        0.366882794331097,
    ),
    ("cauchit", "log_sf", 0.5): (
        -1.04294189806203,
        -0.72257682020708,
        0.055944195065089,
        0.729766348505079,
    ),
    ("cauchit", "log_cdf", 3): (
        -0.108048995660973,
        0.0354629785932387,
        -0.0225354100066477,
        0.020793668104218,
    ),
    ("cauchit", "log_sf", 3): (
        -2.2787085952903,
        -0.310799775271634,
        0.0898833648540822,
        -0.0477865237612967,
    ),
    ("log", "log_cdf", -40): (-40.0, 1.0, 0.0, 0.0),
    ("log", "log_sf", -40): (
        -4.24835425529159e-18,
        -4.24835425529159e-18,
        -4.24835425529159e-18,
        -4.24835425529159e-18,
    ),
    ("log", "log_cdf", -6): (-6.0, 1.0, 0.0, 0.0),
    ("log", "log_sf", -6): (
        -0.00248182936895953,
        -0.00248491165684459,
        -0.00249108644278691,
        -0.00250346670226669,
    ),
    ("log", "log_cdf", -0.5): (-0.5, 1.0, 0.0, 0.0),
    ("log", "log_sf", -0.5): (
        -0.932752129567189,
        -1.5414940825368,
        -3.91769808903276,
        -15.9959149318522,
    ),
}
ETAS = {
    "real": np.array([-2.6, -0.7, 0.1, 1.9]),
    "nonzero": np.array([-2.6, -0.7, 0.5, 1.9]),
    "positive": np.array([0.1, 0.4, 1.3, 2.2]),
}
# Of the normal distribution's third derivative at -40, 3e-5, rounding leaves an error of 1e-11.
RTOL = {("probit", "log_cdf", -40): 1e-6}


@pytest.mark.parametrize(("link", "tail", "eta"), LOGARITHMS)
def test_logarithms_of_probabilities_and_their_derivatives(link, tail, eta):
    computed = getattr(LINKS[link], tail)(np.array([float(eta)]), third=True)
    rtol = RTOL.get((link, tail, eta), 2e-9)
    np.testing.assert_allclose(
        np.ravel(computed),
        LOGARITHMS[link, tail, eta],
        rtol=rtol,
        atol=3e-17 if eta < -9 else 1e-13,
    )


@pytest.mark.parametrize("link", LINKS)
def test_a_link_inverts_its_mean(link):
    eta = ETAS[LINKS[link].domain]
    np.testing.assert_allclose(LINKS[link].link(LINKS[link].mean(eta)), eta, rtol=1e-13)


@pytest.mark.parametrize("link", LINKS)
def test_derivatives_of_the_mean_are_those_of_differences(link):
    link, h = LINKS[link], 1e-3
    eta = ETAS[link.domain]

    def derivatives(x):
        mu = link.mean(x)
        return np.array([mu, *link.mean_derivatives(x, mu)])

    slopes = (
        8.0 * (derivatives(eta + h) - derivatives(eta - h))
        - derivatives(eta + 2 * h)
        + derivatives(eta - 2 * h)
    ) / (12.0 * h)
    np.testing.assert_allclose(derivatives(eta)[1:], slopes[:3], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("link", [n for n, v in LINKS.items() if isinstance(v, CumulativeLink)])
def test_far_in_the_tails_all_is_finite(link):
    eta = np.array([-700.0, -300.0, -40.0, -1e-12])
    if link != "log":
        eta = np.concatenate([eta, -eta])
    for tail in ("log_cdf", "log_sf"):
        with np.errstate(over="ignore"):  # as families do
            assert np.isfinite(getattr(LINKS[link], tail)(eta, third=True)).all()


def test_of_a_negative_zero_the_logistic_distribution_function_is_one_half():
    first = [LINKS["logit"].log_bernoulli(np.ones(1), np.array([x])).first for x in (0.0, -0.0)]
    np.testing.assert_array_equal(first, 0.5)
