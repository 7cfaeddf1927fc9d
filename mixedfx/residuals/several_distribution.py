"""Responses of several linear predictors, given that of the mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.design.rows import RandomTermRows
from mixedfx.families.family import Family
from mixedfx.families.several_predictors import SeveralPredictors

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DrawnPredictor:
    """A linear predictor whose random effects are drawn."""

    fixed: Vector  # (n,) the part that is not drawn
    random_terms: tuple[RandomTermRows, ...]
    factors: tuple[Matrix, ...]  # (k, k) of the covariance of each term's effects

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.fixed, *self.factors)

    def draw(self, rng: np.random.Generator) -> Vector:
        """Draw the linear predictor, (n,)."""
        eta = self.fixed.copy()
        for term, factor in zip(self.random_terms, self.factors, strict=True):
            effects = factor @ rng.standard_normal((len(factor), term.n_levels))
            term.add_to_linear_predictor(eta, effects)
        return eta


@dataclass(frozen=True)
class SeveralDistribution:
    """Independent responses given the linear predictors, of which all but the first are drawn."""

    density: SeveralPredictors
    weights: Vector | None
    params: Vector
    further: tuple[DrawnPredictor, ...]

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.weights, self.params)

    def draw(self, predictor: Vector, rng: np.random.Generator) -> Vector:
        """Draw one response for each row."""
        etas = self.predictors(predictor, rng)
        return self.density.simulate(etas, self.weights, self.params, rng)

    def predictors(self, predictor: Vector, rng: np.random.Generator) -> Matrix:
        """Linear predictors that a response depends on, of which all but the first are drawn."""
        return np.array([predictor, *(further.draw(rng) for further in self.further)])

    def draw_singly(self, etas: Matrix, rng: np.random.Generator) -> Vector:
        """Draw one response for each column of linear predictors, of rows without weights."""
        return self.density.simulate(etas, None, self.params, rng)


@dataclass(frozen=True)
class WithZeros:
    """A family beside zeros of given probabilities: what predictive distributions ask of it."""

    family: Family
    p: Vector  # (n,) of a zero

    @property
    def takes_trials(self) -> bool:
        """That of the family."""
        return self.family.takes_trials

    @property
    def discrete(self) -> bool:
        """That of the family."""
        return self.family.discrete

    def mean(self, eta: Matrix) -> Matrix:
        """That of the family."""
        return self.family.mean(eta)

    def mean_within(self, eta: Matrix, center: Matrix) -> Matrix:
        """That of the family."""
        return self.family.mean_within(eta, center)

    def outside(self, y: Vector, w: Vector | None) -> npt.NDArray[np.bool_]:
        """That of the family."""
        return self.family.outside(y, w)

    def variance(self, mu: Matrix, w: Vector | None, params: Vector) -> Matrix:
        """That of the family."""
        return self.family.variance(mu, w, params)

    def cdf(self, y: Matrix, mu: Matrix, w: Matrix | None, params: Vector) -> tuple[Matrix, Matrix]:
        """``p + (1 - p) F`` from zero on."""
        below, up_to = self.family.cdf(y, mu, w, params)
        rest = 1.0 - self.p
        below = np.where(y > 0.0, self.p + rest * below, rest * below)
        return below, np.where(y >= 0.0, self.p + rest * up_to, rest * up_to)
