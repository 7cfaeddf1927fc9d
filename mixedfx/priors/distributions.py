"""Prior distributions: their parameters, log densities and derivatives of these."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from mixedfx.errors import PriorError

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


@dataclass(frozen=True)
class Normal:
    """
    Normal prior, for fixed effects and coefficients of the dispersion.

    Parameters
    ----------
    mean : float
        In units of the coefficient.
    sd : float
        Standard deviation; zero turns the coefficient into a constant.

    Examples
    --------
    >>> round(Normal(0, 1).log_density(0.0), 4)
    -0.9189
    """

    mean: float
    sd: float

    def __post_init__(self) -> None:
        """Validate the parameters."""
        _check_number(self, "mean", -math.inf)
        _check_number(self, "sd", 0.0, or_equal=True)

    def log_density(self, value: Any) -> Any:
        """Logarithm of the density at ``value``."""
        scaled = (value - self.mean) / self.sd
        return -0.5 * scaled**2 - math.log(self.sd) - 0.5 * math.log(2.0 * math.pi)

    def slope(self, value: float) -> float:
        """Derivative of :meth:`log_density`."""
        return (self.mean - value) / self.sd**2


@dataclass(frozen=True)
class HalfNormal:
    """
    Half-normal prior, a normal distribution truncated at zero, for standard deviations.

    Parameters
    ----------
    sd : float
        Standard deviation of the normal distribution, in units of the response.

    Examples
    --------
    >>> round(HalfNormal(1).log_density(0.0), 4)
    -0.2258
    """

    sd: float

    def __post_init__(self) -> None:
        """Validate the parameters."""
        _check_number(self, "sd", 0.0)

    def log_density(self, value: Any) -> Any:
        """Logarithm of the density at ``value``, not negative."""
        return -0.5 * (value / self.sd) ** 2 - math.log(self.sd) + 0.5 * math.log(2.0 / math.pi)

    def slope(self, value: float) -> float:
        """Derivative of :meth:`log_density`."""
        return -value / self.sd**2


@dataclass(frozen=True)
class HalfStudentT:
    """
    Half-t prior for standard deviations; with one degree of freedom it is half-Cauchy.

    Parameters
    ----------
    df : float
        Degrees of freedom.
    scale : float
        In units of the response.

    References
    ----------
    .. [1] Gelman (2006), Bayesian Analysis 1:515.

    Examples
    --------
    >>> round(float(HalfStudentT(1, 1).log_density(0.0)), 4)
    -0.4516
    """

    df: float
    scale: float

    def __post_init__(self) -> None:
        """Validate the parameters."""
        _check_number(self, "df", 0.0)
        _check_number(self, "scale", 0.0)

    def log_density(self, value: Any) -> Any:
        """Logarithm of the density at ``value``, not negative."""
        half = 0.5 * (self.df + 1.0)
        constant = special.gammaln(half) - special.gammaln(0.5 * self.df)
        constant -= 0.5 * math.log(self.df * math.pi) + math.log(self.scale) - math.log(2.0)
        return constant - half * np.log1p((value / self.scale) ** 2 / self.df)

    def slope(self, value: float) -> float:
        """Derivative of :meth:`log_density`."""
        return -(self.df + 1.0) * value / (self.df * self.scale**2 + value**2)


@dataclass(frozen=True)
class Exponential:
    """
    Exponential prior, for standard deviations.

    Parameters
    ----------
    rate : float
        One over the mean, per unit of the response.

    Examples
    --------
    >>> round(Exponential(2).log_density(0.0), 4)
    0.6931
    """

    rate: float

    def __post_init__(self) -> None:
        """Validate the parameters."""
        _check_number(self, "rate", 0.0)

    def log_density(self, value: Any) -> Any:
        """Logarithm of the density at ``value``, not negative."""
        return math.log(self.rate) - self.rate * value

    def slope(self, value: float) -> float:
        """Derivative of :meth:`log_density`."""
        return -self.rate


@dataclass(frozen=True)
class Gamma:
    """
    Gamma prior, for standard deviations; with a shape above one its density at zero is zero.

    Parameters
    ----------
    shape : float
        One or more; with 2 the mode of the posterior is never at zero.
    rate : float
        Per unit of the response; the mean is ``shape / rate``.

    References
    ----------
    .. [1] Chung, Rabe-Hesketh, Dorie, Gelman and Liu (2013), Psychometrika 78:685.

    Examples
    --------
    >>> bool(Gamma(2, 1).log_density(1.0) == -1.0)
    True
    """

    shape: float
    rate: float

    def __post_init__(self) -> None:
        """Validate the parameters."""
        _check_number(self, "shape", 1.0, or_equal=True)
        _check_number(self, "rate", 0.0)

    def log_density(self, value: Any) -> Any:
        """Logarithm of the density at ``value``, positive."""
        constant = self.shape * math.log(self.rate) - math.lgamma(self.shape)
        return constant + (self.shape - 1.0) * np.log(value) - self.rate * value

    def slope(self, value: float) -> float:
        """Derivative of :meth:`log_density`."""
        return (self.shape - 1.0) / value - self.rate


@dataclass(frozen=True)
class LKJ:
    """
    Prior of a correlation matrix, with a density proportional to a power of its determinant.

    Parameters
    ----------
    eta : float
        One is uniform over correlation matrices; larger values prefer small correlations. The
        power is ``eta - 1``; below one it would have no mode but at correlations of one.

    References
    ----------
    .. [1] Lewandowski, Kurowicka and Joe (2009), J. Multivar. Anal. 100:1989.

    Examples
    --------
    >>> LKJ(2)
    LKJ(eta=2)
    """

    eta: float

    def __post_init__(self) -> None:
        """Validate the parameters."""
        _check_number(self, "eta", 0.0)
        if self.eta < 1.0:
            raise PriorError(
                f"LKJ(eta={self.eta!r}): eta must be 1 or more; below, the density is highest, "
                "without bound, at correlations of one."
            )


@dataclass(frozen=True)
class Constant:
    """
    A point mass: the parameter is fixed at a value.

    Parameters
    ----------
    value : float or sequence of float
        Its value; for ``"theta"``, all of them.

    Examples
    --------
    >>> Constant(25.6).value
    25.6
    """

    value: Any

    def __post_init__(self) -> None:
        """Validate the parameters."""
        try:
            good = bool(np.isfinite(np.asarray(self.value, dtype=float)).all())
        except (TypeError, ValueError):
            good = False
        if not good:
            raise PriorError(f"Constant(value={self.value!r}): value must be finite numbers.")


@dataclass(frozen=True)
class Flat:
    """
    Improper prior with a constant density.

    Examples
    --------
    >>> Flat().log_density(3.0)
    0.0
    """

    def log_density(self, value: Any) -> Any:
        """Zero, whatever the value."""
        return 0.0 * value

    def slope(self, value: float) -> float:
        """Zero."""
        return 0.0


def _check_number(prior: Any, name: str, least: float, *, or_equal: bool = False) -> None:
    """Raise where a parameter is no finite number above a bound."""
    value = getattr(prior, name)
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if number and math.isfinite(value) and (value > least or (or_equal and value == least)):
        return
    bound = "a finite number" if math.isinf(least) else f"a number of {least:g} or more"
    if least == 0.0:
        bound = "a number that is not negative" if or_equal else "a positive number"
    raise PriorError(f"{type(prior).__name__}({name}={value!r}): {name} must be {bound}.")


SdPrior = HalfNormal | HalfStudentT | Exponential | Gamma | Flat | Constant
_SD_PRIORS = (HalfNormal, HalfStudentT, Exponential, Gamma, Flat, Constant)
# Distributions that parameters of a kind can have.
ALLOWED: dict[str, tuple[type, ...]] = {
    "fixed": (Normal, Flat),
    "sd": _SD_PRIORS,
    "sigma": _SD_PRIORS,
    "corr": (LKJ, Flat),
    "dispersion": (Normal, Flat),
    "family": _SD_PRIORS,
    "threshold": (Flat,),
    "theta": (Constant,),
}
