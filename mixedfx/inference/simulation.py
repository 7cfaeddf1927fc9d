"""Responses simulated from a fit.

``y = X beta + offset + Z b + e`` with ``b ~ N(0, sigma^2 Lambda Lambda')`` drawn anew or at the
conditional modes, and ``e`` with the residual standard deviations of the fit. Each response has
a generator of its own, spawned from the caller's: the k-th response depends neither on their
number nor on the process that draws it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._arrays import set_readonly
from mixedfx.design.rows import RandomTermRows
from mixedfx.errors import check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.linalg.random_streams import spawn_generators
from mixedfx.residuals.model import ResidualDistribution

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

RandomName = Literal["new", "fitted"]
RANDOM: tuple[RandomName, ...] = ("new", "fitted")


@dataclass(frozen=True)
class ResponseDistribution:
    """Mean and variance components from which responses are drawn."""

    mean: Vector  # (n,) the part that is not drawn, offset included
    random_terms: tuple[RandomTermRows, ...]  # terms whose effects are drawn
    effect_factors: tuple[Matrix, ...]  # (k, k) sigma Lambda of each of them
    residuals: ResidualDistribution

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.mean, *self.effect_factors)

    def draw(self, rng: np.random.Generator) -> Vector:
        """Draw one response, of shape (n,)."""
        y = self.mean.copy()
        for random_term, factor in zip(self.random_terms, self.effect_factors, strict=True):
            z = rng.standard_normal((len(factor), random_term.n_levels))
            random_term.add_to_linear_predictor(y, factor @ z)
        return y + self.residuals.draw(rng)


def response_distribution(fit: FittedModel, *, random: RandomName = "new") -> ResponseDistribution:
    """Distribution of the response under the fit, with new effects or the conditional modes."""
    check_choice("random", random, RANDOM)
    rows, solution = fit.rows, fit.solution
    residuals = fit.residual.distribution(fit.residual_sds, new_effects=random == "new")
    if random == "fitted":
        mean = rows.linear_predictor(solution.beta, solution.conditional_modes())
        return ResponseDistribution(mean, (), (), residuals)
    mean = rows.fixed_predictor(solution.beta)
    factors = tuple(solution.sigma * lam for lam in solution.lambdas)
    return ResponseDistribution(mean, rows.random_terms, factors, residuals)


def simulate(
    fit: FittedModel, n: int = 1, *, rng: Any = None, random: RandomName = "new"
) -> pd.DataFrame:
    """Draw ``n`` responses from a fit, a column each."""
    distribution = response_distribution(fit, random=random)
    generators = spawn_generators(rng, n)
    responses = np.empty((len(distribution.mean), n), order="F")
    for column, generator in enumerate(generators):
        responses[:, column] = distribution.draw(generator)
    return pd.DataFrame(responses, index=fit.rows.index)
