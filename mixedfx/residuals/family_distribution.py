"""Responses of a family's distribution, given the linear predictors of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from mixedfx._arrays import set_readonly
from mixedfx.families.family import Family

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Counts of larger means are not drawn: they would not be whole numbers.
_LARGEST_COUNT = 1e15


@dataclass(frozen=True)
class FamilyDistribution:
    """Independent responses of a family around the mean, on the scale of the mean."""

    family: Family
    weights: Vector | None  # (n,) trials or prior weights
    params: Vector  # (r,) of the family

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.weights, self.params)

    def draw(self, predictor: Vector, rng: np.random.Generator) -> Vector:
        """Draw one response for each row; NaN where the mean is missing or out of range."""
        possible = self._possible(predictor)
        if possible.all():
            mu = self.family.mean(predictor)
            return self.family.simulate(mu, self.weights, self.params, rng)
        y = np.full(len(predictor), np.nan)
        w = None if self.weights is None else self.weights[possible]
        mu = self.family.mean(predictor[possible])
        y[possible] = self.family.simulate(mu, w, self.params, rng)
        return y

    def predictors(self, predictor: Vector, rng: np.random.Generator) -> Matrix:
        """Linear predictors that a response depends on: that of the mean, (1, n)."""
        return predictor[None]

    def draw_singly(self, etas: Matrix, rng: np.random.Generator) -> Vector:
        """Draw one response for each column of linear predictors, of rows without weights."""
        return FamilyDistribution(self.family, None, self.params).draw(etas[0], rng)

    def _possible(self, predictor: Vector) -> npt.NDArray[np.bool_]:
        """Rows whose mean is a mean of the family."""
        mu = self.family.mean(predictor)
        possible = np.isfinite(mu)
        if self.family.discrete:
            possible &= np.abs(mu) < _LARGEST_COUNT
        valid = self.family.valid(predictor)
        if valid is not None:
            possible &= valid
        if self.weights is not None:
            possible &= np.isfinite(self.weights)
        return np.asarray(possible)


def normal_quantiles(below: Vector, up_to: Vector, uniform: Vector) -> Vector:
    """Of probabilities between ``P(Y < y)`` and ``P(Y <= y)``, at uniform shares of the way."""
    share = below + uniform * (up_to - below)
    # The last number below one is the largest probability.
    return np.asarray(special.ndtri(np.clip(share, 1e-300, 1.0 - 2.0**-53)))
