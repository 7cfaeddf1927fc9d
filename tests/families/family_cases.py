"""Every family with every link, and responses, predictors and parameters within its support."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from oracle import LATENT, log_interval, log_poisson_gamma
from scipy import stats

from mixedfx.families import FAMILIES, Family

PARAMS = {
    "gaussian": [[0.2], [3.0]],
    "gamma": [[0.05], [1.7]],
    "inverse_gaussian": [[0.05], [1.7]],
    "nbinom1": [[1e-8], [0.02], [0.8], [1e4]],
    "nbinom2": [[1e-8], [0.02], [0.8], [1e4]],
    "beta": [[0.4], [6.0], [900.0]],
    "betabinomial": [[0.4], [6.0], [900.0]],
    "truncated_nbinom2": [[0.02], [0.8], [1e4]],
    "tweedie": [[0.9, 1.3], [2.0, 1.85], [0.4, 1.5]],
    "cumulative": [[-1.3, 0.2, 0.9, 3.1], [-0.4, 0.1, 0.11, 4.0]],
    "student": [[0.7, 5.2], [2.0, 8.0], [0.5, 90.0]],
}


@dataclass(frozen=True)
class Case:
    """A family at parameters, with n rows."""

    family: Family
    params: np.ndarray
    weighted: bool

    @property
    def eta(self):
        eta = np.linspace(0.15, 2.9, 24)
        if self.family.takes_trials and self.family.link.name == "log":
            return -eta
        if self.family.name == "student":
            return eta
        positive = self.family.link.name in ("sqrt", "identity", "inverse")
        return eta if positive else eta - 1.4

    @property
    def mu(self):
        return self.family.mean(self.eta)

    @property
    def w(self):
        """Trials, or prior weights."""
        return np.tile([1.0, 2.0, 5.0, 8.0], 6) if self.weighted else None

    @property
    def y(self):
        if self.family.ordered:
            return np.tile([1.0, 2.0, 3.0, 4.0, 5.0, 3.0], 4)
        if self.family.takes_trials:
            w = np.ones(24) if self.w is None else self.w
            return np.rint(w * np.tile([0.0, 0.4, 1.0], 8)) / w
        if self.family.truncated:
            return np.tile([1.0, 2.0, 3.0, 6.0, 19.0, 340.0], 4)
        if self.family.discrete:
            return np.tile([0.0, 1.0, 2.0, 6.0, 19.0, 340.0], 4)
        if self.family.name == "tweedie":
            return np.tile([0.0, 0.03, 0.2, 1.0, 7.0, 40.0], 4)
        if self.family.name == "beta":
            return np.tile([0.02, 0.3, 0.7, 0.999], 6)
        return np.tile([0.2, 1.0, 2.5, 9.0], 6)

    @property
    def has_all_derivatives(self):
        return self.family.all_derivatives(self.y, self.w, self.eta, self.params) is not None

    @property
    def is_log_concave(self):
        return self.family.link.name in self.family.log_concave_links

    def __str__(self):
        weighted = ", weighted" if self.weighted else ""
        return f"{self.family} {[float(p) for p in self.params]}{weighted}"


CATEGORIES = ("1", "2", "3", "4", "5")


def family_with(family, link):
    """A family with a link, of five categories where they are ordered."""
    return family.with_link(link).of_categories(CATEGORIES)


CASES = [
    Case(family_with(family, link), np.array(params), weighted)
    for family in FAMILIES.values()
    for link in family.links
    for params in PARAMS.get(family.name, [[]])
    for weighted in (False, True)
]


@dataclass(frozen=True)
class PoissonGamma:
    """A Poisson number of gamma amounts."""

    mu: np.ndarray
    phi: np.ndarray
    power: float

    def logpdf(self, y):
        return log_poisson_gamma(y, self.mu, self.phi, self.power)

    def cdf(self, y):
        p, phi, mu = self.power, self.phi, self.mu
        rate, j = mu ** (2.0 - p) / (phi * (2.0 - p)), np.arange(1, 400)[:, None]
        of_sums = stats.gamma(j * (2.0 - p) / (p - 1.0), scale=phi * (p - 1.0) * mu ** (p - 1.0))
        return np.exp(-rate) + (stats.poisson.pmf(j, rate) * of_sums.cdf(y)).sum(axis=0)


@dataclass(frozen=True)
class OrderedCategories:
    """Categories by the thresholds of a latent variable."""

    link: str
    eta: np.ndarray
    alpha: np.ndarray

    def logpmf(self, y):
        return log_interval(self.link, y, self.eta, self.alpha)

    def cdf(self, y):
        ends = np.concatenate([[-np.inf], self.alpha, [np.inf]])
        return LATENT[self.link].cdf(ends[y.astype(int)] - self.eta)


def distribution(case):
    """The rows' distributions by SciPy; prior weights of counts are not part of them."""
    mu, name = case.mu, case.family.name
    if name == "cumulative":
        return OrderedCategories(case.family.link.name, case.eta, case.params)
    w = np.ones_like(mu) if case.w is None else case.w
    if name == "binomial":
        return stats.binom(w.astype(int), mu)
    if name == "poisson":
        return stats.poisson(mu)
    if name == "truncated_poisson":
        return ZeroTruncated(stats.poisson(mu))
    param = case.params[0]
    if name == "tweedie":
        return PoissonGamma(mu, param / w, case.params[1])
    if name == "beta":
        return stats.beta(mu * param, (1.0 - mu) * param)
    if name == "betabinomial":
        return stats.betabinom(w.astype(int), mu * param, (1.0 - mu) * param)
    if name == "student":
        return stats.t(case.params[1], mu, param / np.sqrt(w))
    if name == "gaussian":
        return stats.norm(mu, param / np.sqrt(w))
    if name == "gamma":
        return stats.gamma(w / param, scale=mu * param / w)
    if name == "inverse_gaussian":
        return stats.invgauss(mu * param / w, scale=w / param)
    k = mu / param if name == "nbinom1" else np.full_like(mu, 1.0 / param)
    counts = stats.nbinom(k, 1.0 / (1.0 + mu / k))
    return ZeroTruncated(counts) if name == "truncated_nbinom2" else counts


@dataclass(frozen=True)
class ZeroTruncated:
    """A distribution of counts, given that they are positive."""

    counts: object

    def logpmf(self, y):
        return self.counts.logpmf(y) - np.log(self.counts.sf(0.0))

    def cdf(self, y):
        return np.maximum(self.counts.cdf(y) - self.counts.pmf(0.0), 0.0) / self.counts.sf(0.0)
