"""Response distributions: log densities by the linear predictor, and what belongs to them.

A row has the log density ``l(y; eta, w, params)``. Laplace's approximation needs ``l``,
``dl/deta``, ``-d2l/deta2`` and its slope, and the first three by the coordinates in which the
family's parameters are searched: unbounded reals, the parameters' logarithms unless a family has
others. They are evaluated some hundred times in a fit, so nothing is checked in them.

``y`` is on the scale of the mean: a proportion k / n where ``w`` holds trials n. Other weights are
prior weights: a normal, gamma or inverse normal response has the dispersion over ``w``; of counts,
``w`` multiplies the log density.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.errors import check_choice
from mixedfx.families import link_registry
from mixedfx.families import observation_variance as variances
from mixedfx.families.category_hooks import CategoryHooks
from mixedfx.families.derivatives import Array, ParamDerivatives, RowDerivatives, RowEnds
from mixedfx.families.links import Link
from mixedfx.families.parameters import FamilyParameters
from mixedfx.families.support import check_support, check_varies

if TYPE_CHECKING:
    from mixedfx.families.partials import Partials

Vector = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

__all__ = ["Family", "ParamDerivatives", "RowDerivatives"]


@dataclass(frozen=True)
class Family(FamilyParameters, CategoryHooks, ABC):
    """
    Distribution of a response around its mean, with the link of that mean.

    Parameters
    ----------
    link : Link
        One of the family's ``links``; :meth:`with_link` makes a family from a link's name.

    Attributes
    ----------
    name : str
        Name of the family in ``family=``.
    links : tuple of str
        Links that it takes; the first is the default.
    param_names : tuple of str
        Its parameters. They are positive unless ``param_scales`` says otherwise.
    discrete : bool
        Whether the response is a count or a proportion of counts.
    mergeable : bool
        Whether rows of equal eta merge: ``y`` to the weighted mean, ``w`` to the sum.
    ordered : bool
        Whether the response is an ordered category, as 1, ..., K.
    has_intercept : bool
        Whether the linear predictor has an intercept.
    positive_mean : bool
        Whether the mean must be positive.
    takes_trials : bool
        Whether the response is successes of trials, which the weights are.
    support : str
        Values that a response can have, in words.
    mean_name : str
        The mean in words.
    log_link_methods : tuple of str
        With a log link, ways to the variance of an observation, the default first.

    See Also
    --------
    resolve_family : A family by its name, or from a family of statsmodels.

    Examples
    --------
    >>> import numpy as np
    >>> from mixedfx.families import Poisson
    >>> family = Poisson.with_link("log")
    >>> family.derivatives(np.array([2.0]), None, np.array([0.0]), np.empty(0)).first
    array([1.])
    """

    name: ClassVar[str]
    links: ClassVar[tuple[str, ...]]
    discrete: ClassVar[bool] = False
    mergeable: ClassVar[bool] = False
    positive_mean: ClassVar[bool] = False
    takes_trials: ClassVar[bool] = False
    # Parameter that dispersion= models; whether a response can be zero with positive probability;
    # and whether zeros are left out, for a probability of their own.
    dispersion_param: ClassVar[str | None] = None
    # What the other parameters are, beside one that has a predictor: by their logarithms
    beside_dispersion: ClassVar[FamilyParameters] = FamilyParameters()
    has_zeros: ClassVar[bool] = False
    truncated: ClassVar[bool] = False
    # What fit.predict() predicts
    predictions: ClassVar[tuple[str, ...]] = ("mean", "linear")
    support: ClassVar[str]
    mean_name: ClassVar[str] = "mean"
    log_link_methods: ClassVar[tuple[str, ...]] = ("lognormal", "delta")
    # By which log densities are concave in eta, so that random effects have one mode
    log_concave_links: ClassVar[tuple[str, ...]] = ()
    # A linear predictor in the domain of every link, at which rows outside it are evaluated.
    _inner_eta: ClassVar[float] = 1.0

    link: Link

    @classmethod
    def with_link(cls, link: str | None = None) -> Self:
        """Family with the link of that name, or with its default link."""
        name = cls.links[0] if link is None else link
        check_choice(f"family '{cls.name}': link", name, cls.links)
        return cls(link_registry.LINKS[name])

    def __str__(self) -> str:
        """Names of the family and its link."""
        return f"{self.name} ({self.link.name})"

    # ------------------------------------------------------------ log density

    @np.errstate(all="ignore")
    def derivatives(
        self, y: Array, w: Array | None, eta: Array, params: Vector, *, third: bool = False
    ) -> RowDerivatives:
        """
        Log density of each row, with its derivatives by the linear predictor.

        Parameters
        ----------
        y : ndarray of shape (n,)
            Response on the scale of the mean.
        w : ndarray of shape (n,) or None
            Trials, or prior weights; None for ones.
        eta : ndarray of shape (..., n)
            Linear predictor, offset included.
        params : ndarray of shape (r,)
            Values of ``param_names``.
        third : bool
            Whether the slope of the weight is computed.

        Returns
        -------
        RowDerivatives
            Of the log density without ``constants(y, w)``.
        """
        inner, valid = self._inner(eta)
        rows = self._rows(y, w, inner, params, third=third)
        return rows if valid is None else rows._replace(value=np.where(valid, rows.value, -np.inf))

    def _inner(self, eta: Array) -> tuple[Array, Mask | None]:
        """Linear predictors in the domain, and which ones are the given ones; None: all."""
        valid = self.valid(eta)
        if valid is None or valid.all():
            return eta, None
        return np.where(valid, eta, self._inner_eta), valid

    @abstractmethod
    def _rows(
        self, y: Array, w: Array | None, eta: Array, params: Vector, *, third: bool
    ) -> RowDerivatives:
        """``derivatives`` where eta is in the domain."""

    @np.errstate(all="ignore")
    def by_params(self, y: Array, w: Array | None, eta: Array, params: Vector) -> ParamDerivatives:
        """
        Derivatives of each row's derivatives by the coordinates of the parameters.

        Parameters
        ----------
        y, w, eta, params
            As of ``derivatives``.

        Returns
        -------
        ParamDerivatives
            Each of the shape of eta, after an axis of the r parameters.
        """
        return self._by_params(y, w, self._inner(eta)[0], params)

    def _by_params(self, y: Array, w: Array | None, eta: Array, params: Vector) -> ParamDerivatives:
        return ParamDerivatives(*(np.empty((0, *np.shape(eta))) for _ in range(3)))

    def several(
        self, y: Array, w: Array | None, eta: Partials, log_params: list[Partials]
    ) -> Partials:
        """Log density by eta and the parameters' coordinates; that of the dispersion has rows."""
        raise NotImplementedError

    @abstractmethod
    def constants(self, y: Vector, w: Vector | None) -> Vector:
        """Part of each row's log density that depends on neither eta nor the parameters."""

    def valid(self, eta: Array) -> Mask | None:
        """Where a linear predictor is in the family's domain; None: everywhere."""
        return self.link.valid(eta, positive=self.positive_mean)

    @property
    def other_links(self) -> tuple[str, ...]:
        """Links by which any linear predictor has a mean, where this link is not one; or none."""
        if self.valid(np.ones(1)) is None:
            return ()
        return tuple(n for n in self.links if self.with_link(n).valid(np.ones(1)) is None)

    def beside_zeros(self) -> Family:
        """The family beside a zero part."""
        return self

    # ------------------------------------------------------------ response

    def check_response(
        self, name: str, y: Vector, w: Vector | None = None, index: pd.Index | None = None
    ) -> None:
        """
        Raise if the response is outside the family's support, or constant.

        Parameters
        ----------
        name : str
            How the message calls the response: its column or expression.
        y : ndarray of shape (n,)
            Response on the scale of the mean.
        w : ndarray of shape (n,), optional
            Trials, or prior weights.
        index : pandas.Index, optional
            Labels of the rows in the message; their positions by default.

        Raises
        ------
        ResponseError
            Says the first rows, what was seen, and which family takes such values.
        """
        check_support(self, name, y, w, index)
        check_varies(name, y, trials=None)

    @abstractmethod
    def outside(self, y: Vector, w: Vector | None) -> Mask:
        """Rows whose response is outside the support."""

    def advice(self, y: Vector) -> str:
        """What to do about responses outside the support, where that is the family's own."""
        return ""

    def seen(self, y: float, w: float | None) -> str:
        """A row's response in a message."""
        return f"{y:g}"

    def unbounded(self, y: Vector) -> Vector:
        """Sign of the direction of eta in which a row's log density rises without end, or zero."""
        return np.zeros(len(y))

    def ends_of_rows(self, X: Vector, y: Vector) -> RowEnds:
        """In which direction each row's density rises without end, as a linear function."""
        return RowEnds(X, self.unbounded(y), np.arange(len(y)))

    # ------------------------------------------------------------ starting values

    def starting_mean(self, y: Vector, w: Vector | None) -> Vector:
        """Means inside the support near the response, as R's ``mustart``."""
        return y

    def starting_params(self, y: Vector, w: Vector | None, mu: Vector) -> Vector:
        """Parameters by moments, given the means."""
        return np.empty(0)

    # ------------------------------------------------------------ distribution

    def mean(self, eta: Array) -> Array:
        """The ``mu`` of ``variance``, ``simulate`` and ``cdf``: the mean, or another location."""
        with np.errstate(all="ignore"):
            return self.link.mean(eta)

    def response_mean(self, eta: Array, params: Vector) -> Array:
        """Mean of the response: ``mu`` unless a family has it as another location."""
        return self.mean(eta)

    @np.errstate(all="ignore")
    def response_mean_derivatives(self, eta: Array, params: Vector) -> tuple[Array, Array, Array]:
        """First three derivatives of the mean of the response by eta."""
        return self.link.mean_derivatives(eta, self.mean(eta))

    def response_mean_by_params(self, eta: Array, params: Vector) -> Array | None:
        """Its derivatives by the parameters' coordinates, (r, ..., n); None: all are zero."""
        return None

    @np.errstate(all="ignore")
    def predictor_of_mean(self, mean: Vector, params: Vector) -> Vector:
        """Linear predictor at which the response has a mean."""
        return self.link.link(mean)

    def mean_within(self, eta: Array, center: Array) -> Array:
        """
        ``mu`` at a linear predictor, at the end of the domain where that is beyond it.

        The domain is the side of zero that ``center`` is on, for the links that have one.
        """
        return self.mean(self._within(eta, center))

    def _within(self, eta: Array, center: Array) -> Array:
        """Linear predictor, at the end of the domain where it is beyond that."""
        valid = self.valid(eta)
        if valid is None:
            return eta
        inside = valid if self.link.domain != "nonzero" else valid & (eta * center > 0.0)
        return np.where(inside, eta, np.copysign(0.0, center))

    def response_mean_within(self, eta: Array, center: Array, params: Vector) -> Array:
        """Mean of the response, as ``mean_within``."""
        return self.response_mean(self._within(eta, center), params)

    @abstractmethod
    def variance(self, mu: Array, w: Array | None, params: Vector) -> Array:
        """Variance of the response on the scale of the mean, weights included."""

    def scale(self, params: Vector) -> float | None:
        """Factor of the variance function for unit weight, where it is a parameter; else None."""
        return None

    def residual_sd(self, params: Vector) -> float | None:
        """Standard deviation about the mean, where it is a parameter of all rows; else None."""
        return None

    def is_special_case_of(self, other: Family) -> bool:
        """Whether another family has this distribution, or its limit, with the same link."""
        return self.link == other.link and self.name in (other.name, *other.limits)

    @property
    def response_mean_name(self) -> str:
        """``response_mean`` in words."""
        return self.mean_name

    @property
    def predictor_name(self) -> str:
        """The linear predictor in words; empty where it is the mean."""
        return self.link.predictor_name(self.mean_name)

    @property
    def ratio(self) -> str | None:
        """What exponentials of coefficients are, in words; None: nothing of the mean."""
        return self.link.ratio

    @property
    def observation_methods(self) -> tuple[str, ...]:
        """Ways to the variance of an observation on the scale of eta, the default first."""
        if self.link.latent_variance is not None:
            return ("theoretical", "delta")
        return self.log_link_methods if self.link.name == "log" else ("delta",)

    def observation_variance(self, method: str, mean: Callable[[], float], params: Vector) -> float:
        """
        Variance of an observation about its mean, on the scale of the linear predictor.

        Parameters
        ----------
        method : str
            One of ``observation_methods``; :mod:`mixedfx.families.observation_variance` has them.
        mean : callable
            Gives a typical mean, where the method needs one.
        params : ndarray of shape (r,)
            Values of ``param_names``.

        Returns
        -------
        float
            NaN where there is none.
        """
        return variances.observation_variance(self, method, mean, params)

    @abstractmethod
    def simulate(
        self, mu: Vector, w: Vector | None, params: Vector, rng: np.random.Generator
    ) -> Vector:
        """Draw responses on the scale of the mean; weights of counts are not used."""

    @abstractmethod
    def cdf(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> tuple[Vector, Vector]:
        """``P(Y < y)`` and ``P(Y <= y)``; weights of counts are not used."""

    @abstractmethod
    def unit_deviance(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> Vector:
        """Squared deviance residuals, as R's ``dev.resids``, weights included."""

    def statsmodels_family(self, params: Vector) -> Any:
        """
        Family of statsmodels with the same mean, variance and link, for ``sm.GLM``.

        Of ``nbinom1``, whose variance is proportional to the mean, it is Poisson's.
        """
        from mixedfx.families.statsmodels import to_statsmodels

        return to_statsmodels(self.name, self.link.name, params)
