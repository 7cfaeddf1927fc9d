"""Links: the mean as a function of the linear predictor eta, with three derivatives.

By the chain rule a log density l(mu) has the derivatives by eta (mu', mu'', mu''' those of the
mean)

    l' mu',    l'' mu'^2 + l' mu'',    l''' mu'^3 + 3 l'' mu' mu'' + l' mu'''.

The links of probabilities are in :mod:`mixedfx.families.cumulative_links`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from mixedfx.families.derivatives import Array, MeanDerivatives, RowDerivatives
from mixedfx.linalg.gauss_hermite import normal_quadrature

Mask = npt.NDArray[np.bool_]

# exp() of a larger linear predictor is close to overflow, with room for a product of three.
MAX_EXPONENT = 230.0
# Nodes of a mean over a normal linear predictor.
_NODES = 31


def bounded_exp(x: Array) -> Array:
    """Exponential, constant where its cube would leave double precision."""
    return np.exp(np.clip(x, -MAX_EXPONENT, MAX_EXPONENT))


@dataclass(frozen=True)
class Link(ABC):
    """
    The mean as a function of the linear predictor.

    Attributes
    ----------
    name : str
        R's name of the link.
    domain : {"real", "positive", "nonzero"}
        Linear predictors that have a mean.
    keeps_sign : bool
        Whether a mean is positive only where eta is, so that a positive mean needs ``eta > 0``.
    ratio : str or None
        What the exponential of a difference of linear predictors is, such as ``"odds ratio"``;
        None: nothing of the mean.
    latent_variance : float or None
        Variance of the distribution that the inverse link is the distribution function of; NaN
        where it has none.

    See Also
    --------
    mixedfx.families.cumulative_links.CumulativeLink : Links that are distribution functions.
    """

    name: ClassVar[str]
    domain: ClassVar[Literal["real", "positive", "nonzero"]] = "real"
    keeps_sign: ClassVar[bool] = False
    ratio: ClassVar[str | None] = None
    latent_variance: ClassVar[float | None] = None

    @abstractmethod
    def link(self, mu: Array) -> Array:
        """Linear predictor of a mean."""

    @abstractmethod
    def mean(self, eta: Array) -> Array:
        """Mean at a linear predictor."""

    @abstractmethod
    def mean_derivatives(self, eta: Array, mu: Array) -> tuple[Array, Array, Array]:
        """First three derivatives of the mean by eta; ``mu`` is the mean at eta."""

    def valid(self, eta: Array, *, positive: bool = False) -> Mask | None:
        """Where eta has a mean, or a positive one; None: everywhere."""
        if self.domain == "positive" or (positive and self.keeps_sign):
            return np.asarray(eta > 0)
        return np.asarray(eta != 0) if self.domain == "nonzero" else None

    def predictor_name(self, mean: str) -> str:
        """The linear predictor in words, of the mean in words; empty where they are the same."""
        return f"{self.name} of the {mean}"

    def within_domain(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Ends of the part of an interval of eta that has means; NaN where it is not one part."""
        return low, high

    def marginal_mean(self, eta: float, variance: float) -> float:
        """Mean of the response where the linear predictor is normal, by quadrature or a formula."""
        nodes, weights = normal_quadrature(_NODES, 1)
        with np.errstate(all="ignore"):
            return float(weights @ self.mean(eta + math.sqrt(variance) * nodes[:, 0]))

    def chain(self, eta: Array, mu: Array, by_mean: MeanDerivatives) -> RowDerivatives:
        """Derivatives of a log density by eta from those by the mean."""
        m1, m2, m3 = self.mean_derivatives(eta, mu)
        value, d1, d2, d3 = by_mean
        squared = m1 * m1
        second = d2 * squared + d1 * m2
        slope = None if d3 is None else -(m1 * (d3 * squared + 3.0 * d2 * m2) + d1 * m3)
        return RowDerivatives(value, d1 * m1, -second, slope)


@dataclass(frozen=True)
class Identity(Link):
    """``mu = eta``."""

    name = "identity"
    keeps_sign = True

    def predictor_name(self, mean: str) -> str:
        """Empty: it is the mean."""
        return ""

    def link(self, mu: Array) -> Array:
        """``mu``."""
        return mu

    def mean(self, eta: Array) -> Array:
        """``eta``."""
        return eta

    def mean_derivatives(self, eta: Array, mu: Array) -> tuple[Array, Array, Array]:
        """``1, 0, 0``."""
        zero = np.zeros_like(eta)
        return np.ones_like(eta), zero, zero

    def chain(self, eta: Array, mu: Array, by_mean: MeanDerivatives) -> RowDerivatives:
        """The derivatives themselves."""
        value, d1, d2, d3 = by_mean
        return RowDerivatives(value, d1, -d2, None if d3 is None else -d3)


@dataclass(frozen=True)
class Inverse(Link):
    """``mu = 1 / eta``."""

    name = "inverse"
    domain = "nonzero"
    keeps_sign = True

    def link(self, mu: Array) -> Array:
        """``1 / mu``."""
        return 1.0 / mu

    def mean(self, eta: Array) -> Array:
        """``1 / eta``."""
        return 1.0 / eta

    def mean_derivatives(self, eta: Array, mu: Array) -> tuple[Array, Array, Array]:
        """``-mu^2, 2 mu^3, -6 mu^4``."""
        squared = mu * mu
        return -squared, 2.0 * mu * squared, -6.0 * squared * squared

    def predictor_name(self, mean: str) -> str:
        """``1 / mean``."""
        return f"1 / {mean}"

    def within_domain(self, low: Array, high: Array) -> tuple[Array, Array]:
        """An interval on one side of zero."""
        outside = (low <= 0.0) & (high >= 0.0)
        return np.where(outside, np.nan, low), np.where(outside, np.nan, high)


@dataclass(frozen=True)
class Sqrt(Link):
    """``mu = eta^2`` for ``eta > 0``."""

    name = "sqrt"
    domain = "positive"

    def link(self, mu: Array) -> Array:
        """``sqrt(mu)``."""
        return np.asarray(np.sqrt(mu))

    def mean(self, eta: Array) -> Array:
        """``eta^2``."""
        return eta**2

    def mean_derivatives(self, eta: Array, mu: Array) -> tuple[Array, Array, Array]:
        """``2 eta, 2, 0``."""
        return 2.0 * eta, np.full_like(eta, 2.0), np.zeros_like(eta)

    def predictor_name(self, mean: str) -> str:
        """The root."""
        return f"square root of the {mean}"

    def within_domain(self, low: Array, high: Array) -> tuple[Array, Array]:
        """What is not negative."""
        return np.maximum(low, 0.0), high
