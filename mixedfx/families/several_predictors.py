"""Log densities of several linear predictors: zero-inflated and hurdle models, modelled dispersion.

The predictors are ``eta`` of the family's mean, ``z`` of the zero part and ``d``, the logarithm of
a parameter of the family, where they are modelled. With the family's log density ``f`` and the
probability ``p = 1 / (1 + exp(-z))`` of a zero beside it (Lambert 1992, Technometrics 34:1),

    y = 0:  log(p + (1 - p) exp f)  = softplus(z - f) + f - softplus(z)
    y > 0:  log(1 - p) + f          = f - softplus(z),

with ``softplus(x) = log(1 + exp x)``. Of a truncated family (Mullahy 1986, J. Econometrics 33:341)
a zero has the log density ``z - softplus(z)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from mixedfx._cached import cached_property
from mixedfx.families.derivatives import Array, ParamDerivatives, RowDerivatives, weighted
from mixedfx.families.family import Family, Mask, Vector
from mixedfx.families.links import Link
from mixedfx.families.parameters import FamilyParameters, Matrix, ParamScale
from mixedfx.families.partials import Partials, Variables, of_rows, softplus
from mixedfx.families.zero_part import ZeroPart, inflated, inflated_by_params


@dataclass(frozen=True)
class SeveralPredictors:
    """
    A family with a predictor of its zeros, of its dispersion parameter, or of both.

    The predictors are numbered: the mean's is 0, then the zero part's, then the dispersion's.
    ``RowDerivatives`` of m predictors have first derivatives of shape (m, n), weights (m, m, n) and
    slopes of weights (m, m, m, n).
    """

    family: Family
    zeros: bool
    dispersion: bool

    @property
    def m(self) -> int:
        """Number of predictors."""
        return 1 + self.zeros + self.dispersion

    @cached_property
    def _modelled(self) -> int | None:
        """Which of the family's parameters has a predictor."""
        if not self.dispersion:
            return None
        return self.family.param_names.index(str(self.family.dispersion_param))

    @property
    def param_names(self) -> tuple[str, ...]:
        """Parameters of the family that are one number."""
        return tuple(n for i, n in enumerate(self.family.param_names) if i != self._modelled)

    @property
    def name(self) -> str:
        """The family's."""
        return self.family.name

    @property
    def link(self) -> Link:
        """Of the mean."""
        return self.family.link

    @property
    def infinite(self) -> tuple[str, ...]:
        """Parameters that are infinite in a limit of the family."""
        return self.family.infinite

    @property
    def other_links(self) -> tuple[str, ...]:
        """Links without a limit of the linear predictor."""
        return self.family.other_links

    def at_limit(self, params: Vector) -> Mask:
        """Parameters at which the family is one of its limits."""
        if self._modelled is None:
            return self.family.at_limit(params)
        of_all = self.family.at_limit(np.insert(params, self._modelled, 1.0))
        return np.delete(of_all, self._modelled)

    @property
    def _searched(self) -> FamilyParameters:
        """What the coordinates are of."""
        return self.family.beside_dispersion if self.dispersion else self.family

    def coordinates(self, params: Vector) -> Vector:
        """Coordinates in which the parameters are searched."""
        return self._searched.coordinates(params)

    @property
    def rises_at_end(self) -> str:
        """Why the likelihood rises where a search is stopped."""
        return self._searched.rises_at_end

    def distance_to_end(self, coordinates: Vector) -> float:
        """How far coordinates are from there."""
        return self._searched.distance_to_end(coordinates)

    def natural(self, coordinates: Vector) -> Vector:
        """Parameters at coordinates."""
        return self._searched.natural(coordinates)

    def natural_jacobian(self, coordinates: Vector) -> Matrix:
        """Derivatives of the parameters by the coordinates."""
        return self._searched.natural_jacobian(coordinates)

    @property
    def param_scales(self) -> tuple[ParamScale, ...]:
        """Scale on which each parameter's interval is symmetric."""
        named = zip(self.family.param_names, self.family.param_scales, strict=True)
        return tuple(scale for name, scale in named if name in self.param_names)

    @property
    def observation_methods(self) -> tuple[str, ...]:
        """Those of the family; a response with a zero part is no latent one, nor a gamma's."""
        methods = self.family.observation_methods
        kept = tuple(m for m in methods if m in ("lognormal", "delta"))
        return kept if self.zeros else methods

    def about(self, number: int) -> SeveralPredictors:
        """The same: each coordinate is of one parameter."""
        return self

    # ------------------------------------------------------------ distribution, at etas (m, n)

    def params_of_rows(self, etas: Array, params: Vector) -> npt.NDArray[np.float64]:
        """All parameters of the family: (r,), or (r, n) where one has a predictor."""
        if self._modelled is None:
            return params
        rows = [np.full_like(etas[-1], param) for param in params]
        rows.insert(self._modelled, np.exp(etas[-1]))
        return np.array(rows)

    def zero_probability(self, etas: Array) -> Array:
        """Probability of a zero beside the family's own, (n,)."""
        return np.asarray(special.expit(etas[1])) if self.zeros else np.zeros(etas.shape[1:])

    def mean(self, etas: Array, params: Vector) -> Array:
        """Mean of the response, (n,)."""
        mean = self.family.response_mean(etas[0], self.params_of_rows(etas, params))
        return (1.0 - self.zero_probability(etas)) * mean

    def mean_slopes(self, etas: Array, params: Vector, *, zeros: bool = True) -> Array:
        """Derivatives of the mean, or of that of the family alone, by each predictor, (m, n)."""
        of_rows, slopes = self.params_of_rows(etas, params), np.zeros_like(etas)
        positive = 1.0 - self.zero_probability(etas) if zeros else 1.0
        slopes[0] = positive * self.family.response_mean_derivatives(etas[0], of_rows)[0]
        if self.zeros and zeros:
            mean = self.family.response_mean(etas[0], of_rows)
            slopes[1] = -positive * (1.0 - positive) * mean
        if self.dispersion:
            by_params = self.family.response_mean_by_params(etas[0], of_rows)
            if by_params is not None:
                slopes[-1] = positive * by_params[self._modelled]
        return slopes

    def mean_by_params(self, etas: Array, params: Vector, *, zeros: bool = True) -> Array | None:
        """The same by the coordinates of the parameters that are one number, (r, n); None: zero."""
        if self.dispersion or not len(params):
            return None
        by_params = self.family.response_mean_by_params(etas[0], params)
        if by_params is None or not zeros:
            return by_params
        return (1.0 - self.zero_probability(etas)) * by_params

    def variance(self, etas: Array, w: Array | None, params: Vector) -> Array:
        """``(1 - p) (V + p m^2)`` with the family's mean m and variance V, (n,)."""
        of_rows, p = self.params_of_rows(etas, params), self.zero_probability(etas)
        variance = self.family.variance(self.family.mean(etas[0]), w, of_rows)
        return (1.0 - p) * (variance + p * self.family.response_mean(etas[0], of_rows) ** 2)

    def cdf(self, y: Vector, etas: Array, w: Vector | None, params: Vector) -> tuple[Array, Array]:
        """``P(Y < y)`` and ``P(Y <= y)``."""
        of_rows, p = self.params_of_rows(etas, params), self.zero_probability(etas)
        below, up_to = self.family.cdf(y, self.family.mean(etas[0]), w, of_rows)
        return np.where(y > 0.0, p + (1.0 - p) * below, 0.0) if self.zeros else below, p + (
            1.0 - p
        ) * up_to

    def simulate(
        self, etas: Array, w: Vector | None, params: Vector, rng: np.random.Generator
    ) -> Vector:
        """Draws of the family, and zeros in their place."""
        mu = self.family.mean(etas[0])
        y = self.family.simulate(mu, w, self.params_of_rows(etas, params), rng)
        if not self.zeros:
            return y
        return np.where(rng.random(y.shape) < self.zero_probability(etas), 0.0, y)

    # ------------------------------------------------------------ log density

    @np.errstate(all="ignore")
    def derivatives(
        self, y: Array, w: Array | None, eta: Array, params: Vector, *, third: bool = False
    ) -> RowDerivatives:
        """Log densities (n,) at predictors (m, n), with derivatives by these."""
        if not self.dispersion:
            return self._of_zero_part(y, w, eta, params, third=third)
        variables = Variables(self.m, 3 if third else 2)
        found = self._density(variables, y, w, eta, params)
        n = y.shape
        value = np.broadcast_to(found.value, n)
        slope = -found.tensor(3, n) if third else None
        return RowDerivatives(value, found.tensor(1, n), -found.tensor(2, n), slope)

    @np.errstate(all="ignore")
    def log_density(self, y: Array, w: Array | None, eta: Array, params: Vector) -> Array:
        """Log densities (n,) alone, but for constants."""
        if not self.dispersion:
            return self._of_zero_part(y, w, eta, params, third=False).value
        value = self._density(Variables(self.m, 0), y, w, eta, params).value
        return np.broadcast_to(value, y.shape)

    @np.errstate(all="ignore")
    def by_params(self, y: Array, w: Array | None, eta: Array, params: Vector) -> ParamDerivatives:
        """The same by the logarithms of the parameters: (r, n), (r, m, n) and (r, m, m, n)."""
        if not self.dispersion:
            return self._by_params_of_zero_part(y, w, eta, params)
        r, n, m = len(params), y.shape, self.m
        variables = Variables(m, 2, r)
        found = self._density(variables, y, w, eta, params)
        value, first, weight = np.empty((r, *n)), np.empty((r, m, *n)), np.empty((r, m, m, *n))
        for j in range(r):
            value[j], first[j] = found.by_param(j, 0, n), found.by_param(j, 1, n)
            weight[j] = -found.by_param(j, 2, n)
        return ParamDerivatives(value, first, weight)

    def _weights(self, w: Array | None) -> tuple[Array | None, Array | None]:
        """Trials, and prior weights, which multiply the log density with its zero part."""
        return (w, None) if self.family.takes_trials else (None, w)

    def _counts(self, y: Array) -> Array:
        """Response of the family: a truncated one has the zeros apart."""
        return np.maximum(y, 1.0) if self.family.truncated else y

    def _rows_of_family(
        self, y: Array, w: Array | None, eta: Array, params: Vector, *, third: bool
    ) -> tuple[RowDerivatives, ZeroPart]:
        """Rows of the family, prior weights apart, and their zero part."""
        trials, _ = self._weights(w)
        rows = self.family.derivatives(self._counts(y), trials, eta[0], params, third=third)
        return rows, ZeroPart.of(y, eta[1], rows.value, truncated=self.family.truncated)

    def _of_zero_part(
        self, y: Array, w: Array | None, eta: Array, params: Vector, *, third: bool
    ) -> RowDerivatives:
        """Derivatives by the predictors of the mean and of the zeros alone, in closed form."""
        rows, part = self._rows_of_family(y, w, eta, params, third=third)
        found = inflated(y, rows, part, truncated=self.family.truncated)
        return weighted(found, self._weights(w)[1])

    def _by_params_of_zero_part(
        self, y: Array, w: Array | None, eta: Array, params: Vector
    ) -> ParamDerivatives:
        rows, part = self._rows_of_family(y, w, eta, params, third=False)
        trials, prior = self._weights(w)
        by = self.family.by_params(self._counts(y), trials, eta[0], params)
        found = inflated_by_params(y, rows, by, part, truncated=self.family.truncated)
        return found if prior is None else ParamDerivatives(*(prior * one for one in found))

    def _density(
        self, variables: Variables, y: Array, w: Array | None, eta: Array, params: Vector
    ) -> Partials:
        """Log density of the rows."""
        trials, prior = self._weights(w)
        f = self._of_family(variables, y, trials if self.zeros else w, eta, params)
        if not self.zeros:
            return f
        found = self._with_zeros(f, variables.variable(1, eta[1]), y)
        return found if prior is None else found * prior

    def _of_family(
        self, variables: Variables, y: Array, w: Array | None, eta: Array, params: Vector
    ) -> Partials:
        """Log density of the family at a dispersion that has a predictor."""
        at = self.m - 1
        logs = variables.coordinates(self.coordinates(params))
        logs.insert(self._modelled or 0, variables.variable(at, eta[at]))
        return self.family.several(self._counts(y), w, variables.variable(0, eta[0]), logs)

    def _with_zeros(self, f: Partials, z: Partials, y: Array) -> Partials:
        """Density with the zero part; only of rows that are zero it mixes the two."""
        zero = np.flatnonzero(y == 0.0)
        below = softplus(z)
        if self.family.truncated:
            positive = np.where(y == 0.0, 0.0, 1.0)
            # Products of infinite derivatives with zero are none.
            kept = {i: np.where(positive == 0.0, 0.0, part) for i, part in f.parts.items()}
            is_zero = 1.0 - positive
            return Partials(f.variables, kept) + z * is_zero - below
        found = f - below
        if not len(zero):
            return found
        mixed = softplus(of_rows(z - f, zero))
        parts = {}
        for index, part in found.parts.items():
            parts[index] = np.array(np.broadcast_to(part, y.shape))
        for index, part in mixed.parts.items():
            whole = parts.setdefault(index, np.zeros(y.shape))
            whole[zero] += part
        return Partials(f.variables, parts)
