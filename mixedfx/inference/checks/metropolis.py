"""Draws of random effects that follow a density that is not quite normal.

Given all else, the levels of a factor are independent. A level's effects move by a normal step,

    b' = b + 2.4 k^-1/2 Lambda L^-T e,    H_l = Lambda' Z_l' W Z_l Lambda + I = L L',

and the move is accepted with the ratio of the densities of its rows and of its effects (Metropolis
and others 1953; Roberts and Rosenthal 2001, Stat. Sci. 16:351, for the size of steps). Begun at a
draw from the normal approximation, ten moves of each level leave little of that approximation's
error, which tests of many levels with few counts each would find.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.design.rows import RandomTermRows
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.likelihood.generalized.factor_rows import FactorRows
from mixedfx.linalg.cholesky.batched import matmul_left, matmul_right

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MOVES = 10
_STEP = 2.4


@dataclass(frozen=True)
class Steps:
    """Steps of the effects of one random term, by its relative covariance factor Lambda."""

    roots: Array  # (levels, k, k) of the covariance of a step
    precision: Matrix  # (k, k) of a level's effects

    @staticmethod
    def of(lam: Matrix, A: Array) -> Steps:
        """At the blocks ``Z_l'WZ_l`` of the levels, (k, k, levels)."""
        k, H = len(lam), matmul_left(lam.T, matmul_right(A, lam)).transpose(2, 0, 1)
        L = np.linalg.cholesky(H + np.eye(k))
        roots = np.asarray(lam @ np.linalg.inv(L).transpose(0, 2, 1) * (_STEP / np.sqrt(k)), float)
        return Steps(roots, np.asarray(np.linalg.pinv(lam @ lam.T, hermitian=True), float))

    def draw(self, rng: np.random.Generator) -> Matrix:
        """A step of each level, (k, levels)."""
        e = rng.standard_normal((len(self.roots), self.roots.shape[1]))
        return np.asarray(np.einsum("lij,lj->il", self.roots, e))

    def accepted(self, b: Matrix, step: Matrix, change: Vector, rng: np.random.Generator) -> Mask:
        """Levels that move from b, given the change of the log density of their rows."""
        own = ((b + 0.5 * step) * (self.precision @ step)).sum(axis=0)
        return np.asarray(np.log(rng.random(len(change))) < change - own)


@dataclass(frozen=True)
class LevelMoves:
    """Steps of the effects of one random term of one linear predictor."""

    predictor: int
    t: int
    rows: RandomTermRows
    steps: Steps

    @staticmethod
    def of(fit: FittedModel, predictor: int, t: int, weights: Vector) -> LevelMoves:
        """At the working weights of the fit of a predictor."""
        rows = fit.rows.random_terms[t]
        A = FactorRows.of([rows]).blocks(weights)
        return LevelMoves(predictor, t, rows, Steps.of(fit.solution.lambdas[t], A))


def level_moves(fit: FittedModel) -> list[LevelMoves]:
    """Of the terms whose levels are independent; none where draws are normal."""
    if fit.residual.log_densities is None:
        return []
    found = []
    for p, model in enumerate(fit.predictors):
        w = model.residual.working_rows(model.rows).weights
        weights = np.maximum(np.ones(model.rows.n) if w is None else w, 0.0)
        terms = [t for t, term in enumerate(model.spec.random_terms) if term.is_plain]
        found += [LevelMoves.of(model, p, t, weights) for t in terms]
    return found


def move(
    moves: Sequence[LevelMoves],
    log_densities: Callable[[Matrix], Vector],
    etas: Matrix,
    effects: Sequence[Sequence[Matrix]],
    rng: np.random.Generator,
) -> Matrix:
    """Move the effects of each predictor's terms, in place; returns the predictors (m, n) there."""
    at = log_densities(etas)
    for _ in range(MOVES):
        for term in moves:
            b, step, rows = effects[term.predictor][term.t], term.steps.draw(rng), term.rows
            proposed = etas.copy()
            rows.add_to_linear_predictor(proposed[term.predictor], step)
            there = log_densities(proposed)
            change = np.asarray(np.bincount(rows.codes, there - at, rows.n_levels), float)
            accepted = term.steps.accepted(b, step, change, rng)
            b[:, accepted] += step[:, accepted]
            moved = accepted[rows.codes]
            etas, at = np.where(moved, proposed, etas), np.where(moved, there, at)
    return etas
