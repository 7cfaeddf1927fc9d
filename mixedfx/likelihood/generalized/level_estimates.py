"""Effects of each level by maximum likelihood from its rows alone: no pooling.

With the fixed part and the effects of all other terms as an offset, level i has a generalised
linear model of its own, whose Newton steps are ``A_i^-1 Z_i'g``, ``A_i = Z_i'WZ_i``, shortened
until the level's likelihood rises; all levels step together. Where the rows of a level are
separated (all 0 or all 1, all counts 0) the likelihood rises without end, and the estimate is
infinite: the steps do not become small (Albert and Anderson 1984, Biometrika 71:1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixedfx.families.family import Family, RowDerivatives
from mixedfx.likelihood.level_estimates import MIN_EIGENVALUE

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

# Steps: enough for quadratic convergence; at the end of a logit's in a separated level, whose steps
# are one, weights of exp(-25) are far above rounding.
_STEPS = 25
_MAX_HALVINGS = 20
# Change of the linear predictor in the last step above which a level has no finite estimate.
_STILL_MOVING = 1e-3


@dataclass(frozen=True)
class LevelRows:
    """Rows of one random term, with the rest of the linear predictor."""

    family: Family
    y: Vector  # (n,)
    weights: Vector | None
    params: Vector  # (r,) of the family
    rest: Vector  # (n,) linear predictor without the term
    columns: Matrix  # (n, k)
    codes: Codes
    n_levels: int

    def sums(self, values: Vector) -> Vector:
        """Sum of each level's rows, (L,)."""
        return np.asarray(np.bincount(self.codes, values, self.n_levels), dtype=np.float64)

    def predictor(self, effects: Matrix) -> Vector:
        """``Z b`` of effects (k, L), (n,)."""
        return np.asarray(np.einsum("nk,kn->n", self.columns, effects[:, self.codes]))

    def at(self, effects: Matrix) -> RowDerivatives:
        """Derivatives of the rows."""
        eta = self.rest + self.predictor(effects)
        return self.family.derivatives(self.y, self.weights, eta, self.params)

    def sums_at(self, effects: Matrix) -> _LevelSums:
        """Sums by level that a step needs."""
        at = self.at(effects)
        score = np.array([self.sums(at.first * z) for z in self.columns.T]).T
        information = self._products(np.maximum(at.weight, 0.0))
        return _LevelSums(self.sums(at.value), score, information)

    def identified(self, effects: Matrix) -> Matrix:
        """``Z_i'Z_i`` of the rows that tell anything, (L, k, k)."""
        return self._products(np.where(self.at(effects).weight > 0.0, 1.0, 0.0))

    def moves(self, step: Matrix) -> Vector:
        """Largest change of the linear predictor in each level, (L,)."""
        moving = np.zeros(self.n_levels)
        np.maximum.at(moving, self.codes, np.abs(self.predictor(step)))
        return moving

    def _products(self, w: Vector) -> Matrix:
        """``Z_i'WZ_i``, (L, k, k)."""
        Z, k = self.columns, self.columns.shape[1]
        A = np.empty((self.n_levels, k, k))
        for a in range(k):
            for b in range(a + 1):
                A[:, a, b] = A[:, b, a] = self.sums(w * Z[:, a] * Z[:, b])
        return A


class _LevelSums(NamedTuple):
    """Sums over the rows of each level."""

    value: Vector  # (L,) log densities
    score: Matrix  # ``Z_i'g``, (L, k)
    information: Matrix  # ``A_i``, (L, k, k)


# Rows of a term, in one piece or in blocks that are read anew at each call.
Parts = Callable[[], Iterable[LevelRows]]


def level_maxima(parts: Parts, start: Matrix) -> tuple[Matrix, Matrix]:
    """Effects (k, L), NaN where not identified, and their last steps where there is no maximum."""
    effects, step = start.copy(), np.zeros_like(start)
    with np.errstate(all="ignore"):
        regular = _regular(reduce(np.add, (part.identified(effects) for part in parts())))
        at = _sums_at(parts, effects)
        for _ in range(_STEPS):
            newton = _newton_step(at)
            # Where all weights have underflowed, the direction is that of the step before.
            step = np.where(np.isfinite(newton), newton, step)
            effects, step, at = _damped(parts, effects, step, at)
        moving = reduce(np.maximum, (part.moves(step) for part in parts()))
    effects = np.where(regular, effects, np.nan)
    return effects, np.where(moving > _STILL_MOVING, step, 0.0)


def _sums_at(parts: Parts, effects: Matrix) -> _LevelSums:
    """Sums over all parts."""
    found = (part.sums_at(effects) for part in parts())
    return reduce(lambda a, b: _LevelSums(*(x + y for x, y in zip(a, b, strict=True))), found)


def _unit_diagonal(A: Matrix) -> tuple[Matrix, Matrix]:
    size = np.sqrt(np.einsum("lkk->lk", A))
    scaled = A / (size[:, :, None] * size[:, None, :])
    return np.nan_to_num(scaled), size


def _regular(A: Matrix) -> Mask:
    """Levels whose rows identify all effects, (L,)."""
    scaled, _ = _unit_diagonal(A)
    return np.asarray(np.linalg.eigvalsh(scaled)[:, 0] > MIN_EIGENVALUE)


def _newton_step(at: _LevelSums) -> Matrix:
    """``A_i^-1 Z_i'g``, (k, L)."""
    scaled, size = _unit_diagonal(at.information)
    inverse = np.linalg.pinv(scaled, rcond=1e-14, hermitian=True)
    return np.asarray((np.einsum("lab,lb->la", inverse, at.score / size) / size).T)


def _damped(
    parts: Parts, effects: Matrix, step: Matrix, at: _LevelSums
) -> tuple[Matrix, Matrix, _LevelSums]:
    """The longest of the steps 1, 1/2, ... at which each level's likelihood does not fall."""
    share = np.ones(effects.shape[1])
    for _ in range(_MAX_HALVINGS):
        after = _sums_at(parts, effects + share * step)
        # Negated, so that NaN is a failure.
        failed = ~(after.value >= at.value - 1e-12 * (1.0 + np.abs(at.value)))
        if not failed.any():
            break
        share = np.where(failed, 0.5 * share, share)
    else:
        share = np.where(failed, 0.0, share)
        after = _sums_at(parts, effects + share * step)
    return effects + share * step, share * step, after


def with_infinite(effects: Matrix, steps: Matrix, scales: Sequence[float]) -> Matrix:
    """Effects in the units of the formula, infinite where their steps go on."""
    moving = np.abs(steps) * np.asarray(scales)[:, None] > _STILL_MOVING
    return np.where(moving & ~np.isnan(effects), np.copysign(np.inf, steps), effects)
