"""Marginal likelihood of a generalised model as a function of all its parameters.

The point of the search is (F, beta, c): each term's factor of the covariance in its basis,
coefficients of the columns of X in theirs, and the coordinates of the family's parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.covariance.coordinates import Coordinates
from mixedfx.likelihood.generalized.laplace import (
    MarginalGradient,
    laplace_deviance,
    laplace_gradient,
)
from mixedfx.likelihood.generalized.pirls import Modes, find_modes, in_memory
from mixedfx.likelihood.generalized.quadrature import Quadrature
from mixedfx.likelihood.generalized.rows import GeneralizedRows
from mixedfx.likelihood.generalized.rows_model import RowsModel

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """Values of all parameters."""

    factors: tuple[Matrix, ...]  # (k, k) of each term, in its basis
    beta: Vector  # (p,) of the columns of ``rows.X``
    family_coordinates: Vector  # (r,) of the family's parameters


@dataclass(frozen=True)
class MarginalEvaluation:
    """Deviance at one point, and the modes there."""

    point: Point
    modes: Modes = field(repr=False)
    nagq: int

    @cached_property
    def _quadrature(self) -> Quadrature:
        return Quadrature(self.modes, self.nagq, with_gradient=True)

    @cached_property
    def deviance(self) -> float:
        """-2 log-likelihood, constants included."""
        if self.nagq == 1:
            return laplace_deviance(self.modes)
        with np.errstate(all="ignore"):
            return self._quadrature.deviance

    @cached_property
    def gradient(self) -> MarginalGradient:
        """Gradient of the deviance."""
        with np.errstate(all="ignore"):
            if self.nagq == 1:
                return laplace_gradient(self.modes)
            return self._quadrature.gradient()


@dataclass(frozen=True)
class GeneralizedLikelihood:
    """Laplace's approximation (``nagq`` 1), or adaptive quadrature with ``nagq`` nodes."""

    model: RowsModel  # the rows, in memory or not
    nagq: int = 1

    @property
    def rows(self) -> GeneralizedRows:
        """The rows, in memory."""
        return in_memory(self.model)

    @property
    def p(self) -> int:
        """Number of coefficients that are searched."""
        return self.model.p

    def at(self, point: Point, start: Sequence[Matrix] | None = None) -> MarginalEvaluation:
        """Evaluate at a point, the modes from those of a point near."""
        rows = self.model
        lambdas = rows.by_group(point.factors)
        fixed = rows.fixed_predictor(point.beta)
        params = rows.family.natural(point.family_coordinates)
        modes = find_modes(rows, lambdas, fixed, params, start)
        # Without random effects there is no integral.
        return MarginalEvaluation(point, modes, self.nagq if rows.groups else 1)

    def with_nodes(self, nagq: int) -> GeneralizedLikelihood:
        """The same rows with another number of nodes."""
        return replace(self, nagq=nagq)


@dataclass(frozen=True)
class MarginalCoordinates:
    """One vector of all parameters: coordinates of covariances, beta, of the family."""

    covariance: Coordinates
    p: int
    r: int

    @property
    def size(self) -> int:
        """Length of the vector."""
        return self.covariance.size + self.p + self.r

    @property
    def beta(self) -> slice:
        """Part of the coefficients."""
        m = self.covariance.size
        return slice(m, m + self.p)

    def point(self, x: Vector) -> Point:
        """Values of the parameters."""
        m = self.covariance.size
        end = m + self.p
        return Point(tuple(self.covariance.lambdas(x[:m])), x[m:end], x[end:])

    def vector(self, theta: Vector, point: Point) -> Vector:
        """Vector of a point whose covariance coordinates are theta."""
        return np.concatenate([theta, point.beta[: self.p], point.family_coordinates])

    def gradient(self, x: Vector, rows: RowsModel, by: MarginalGradient) -> Vector:
        """Gradient by the vector."""
        m = self.covariance.size
        by_theta = self.covariance.pullback(x[:m], rows.term_blocks(by.by_lambda))
        return np.concatenate([by_theta, by.by_beta, by.by_family])
