"""A fit to responses that it could have given: its mean, new effects, new residuals.

A response needs little of a fit: a mean, each term's covariance root, the residuals' standard
deviation. Each response is drawn by a generator of its own, spawned from the caller's, so the
fifth is the same whether five are asked for or a thousand, and whoever draws them in whatever
order.

Nothing here knows what the responses are for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._arrays import set_readonly
from mixedfx.design.random import RandomTermDesign
from mixedfx.errors import ArgumentError, expect_choice
from mixedfx.estimation.fitted_model import FittedModel

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

RandomName = Literal["new", "fitted"]
RANDOM: tuple[RandomName, ...] = ("new", "fitted")


@dataclass(frozen=True)
class ResponseDistribution:
    """
    What responses are drawn from.

    Parameters
    ----------
    mean : ndarray of shape (n,)
        What does not vary between responses, offset included.
    random_terms : tuple of RandomTermDesign
        The random terms whose effects are drawn.
    roots : tuple of ndarray of shape (k, k)
        A root of the covariance of each one's effects, ``sigma Lambda``.
    noise : ndarray of shape (n,)
        Standard deviation of each residual.
    scale : RandomTermDesign or None
        The random term of the log residual standard deviation, if its effects are drawn.
    scale_sd : float
        Their standard deviation.
    """

    mean: Vector
    random_terms: tuple[RandomTermDesign, ...]
    roots: tuple[Matrix, ...]
    noise: Vector
    scale: RandomTermDesign | None = None
    scale_sd: float = 0.0

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.mean, self.noise, *self.roots)

    def draw(self, rng: np.random.Generator) -> Vector:
        """Draw one response, of shape (n,)."""
        y = self.mean.copy()
        for random_term, root in zip(self.random_terms, self.roots, strict=True):
            random_term.add_to_linear_predictor(
                y, root @ rng.standard_normal((len(root), len(random_term.levels)))
            )
        noise = self.noise
        if self.scale is not None:
            drawn = self.scale_sd * rng.standard_normal(len(self.scale.levels))
            noise = noise * np.exp(drawn[self.scale.codes])
        return y + noise * rng.standard_normal(len(y))


def response_distribution(fit: FittedModel, *, random: RandomName = "new") -> ResponseDistribution:
    """Take from a fit what its responses are drawn from."""
    expect_choice("random", random, RANDOM)
    design, solution = fit.design, fit.solution
    mean = design.X @ solution.beta
    if design.offset is not None:
        mean += design.offset
    noise = fit.residual_sds
    if random == "fitted":
        for random_term, b in zip(design.random_terms, solution.conditional_modes(), strict=True):
            random_term.add_to_linear_predictor(mean, b)
        return ResponseDistribution(mean, (), (), noise)
    roots = tuple(solution.sigma * lam for lam in solution.lambdas)
    spread = None if fit.dispersion is None else fit.dispersion.random
    if spread is None or design.dispersion is None or design.dispersion.random_term is None:
        return ResponseDistribution(mean, design.random_terms, roots, noise)
    random_term = design.dispersion.random_term
    without = noise / np.exp(spread.effects[random_term.codes])
    return ResponseDistribution(mean, design.random_terms, roots, without, random_term, spread.sd)


def simulate(
    fit: FittedModel, n: int = 1, *, rng: Any = None, random: RandomName = "new"
) -> pd.DataFrame:
    """Draw responses from a fit."""
    drawn_from = response_distribution(fit, random=random)
    own = generators(rng, n)
    responses = np.empty((len(drawn_from.mean), n), order="F")
    for column, generator in enumerate(own):
        responses[:, column] = drawn_from.draw(generator)
    return pd.DataFrame(responses, index=fit.design.index)


def generators(rng: Any, n: int) -> list[np.random.Generator]:
    """Give each of ``n`` responses a generator of its own."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ArgumentError(f"n={n!r} must be a positive integer: how many to draw.")
    try:
        return np.random.default_rng(rng).spawn(int(n))
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"rng={rng!r} must be a seed (an integer that is not negative), a "
            f"numpy.random.Generator that can be spawned from, or None: {error}"
        ) from None
