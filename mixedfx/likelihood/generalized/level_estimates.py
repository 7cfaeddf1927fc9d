"""Effects of each level by maximum likelihood from its rows alone: no pooling.

With the fixed part and the effects of all other terms as an offset, level i has a generalised
linear model of its own, whose Newton steps are ``A_i^-1 Z_i'g``, ``A_i = Z_i'WZ_i``, shortened
until the level's likelihood rises; all levels step together. Where the rows of a level are
separated (all 0 or all 1, all counts 0) the likelihood rises without end, and the estimate is
infinite: the steps do not become small (Albert and Anderson 1984, Biometrika 71:1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def level_maxima(rows: LevelRows, start: Matrix) -> tuple[Matrix, Matrix]:
    """Effects (k, L), NaN where not identified, and their last steps where there is no maximum."""
    effects, step = start.copy(), np.zeros_like(start)
    with np.errstate(all="ignore"):
        at = rows.at(effects)
        regular = _regular(rows, at.weight)
        for _ in range(_STEPS):
            newton = _newton_step(rows, at)
            # Where all weights have underflowed, the direction is that of the step before.
            step = np.where(np.isfinite(newton), newton, step)
            effects, step, at = _damped(rows, effects, step, at)
        moving = np.zeros(rows.n_levels)
        np.maximum.at(moving, rows.codes, np.abs(rows.predictor(step)))
    effects = np.where(regular, effects, np.nan)
    return effects, np.where(moving > _STILL_MOVING, step, 0.0)


def _information(rows: LevelRows, weight: Vector) -> Matrix:
    """``A_i``, (L, k, k)."""
    Z, w = rows.columns, np.maximum(weight, 0.0)
    k = Z.shape[1]
    A = np.empty((rows.n_levels, k, k))
    for a in range(k):
        for b in range(a + 1):
            A[:, a, b] = A[:, b, a] = rows.sums(w * Z[:, a] * Z[:, b])
    return A


def _unit_diagonal(A: Matrix) -> tuple[Matrix, Matrix]:
    size = np.sqrt(np.einsum("lkk->lk", A))
    scaled = A / (size[:, :, None] * size[:, None, :])
    return np.nan_to_num(scaled), size


def _regular(rows: LevelRows, weight: Vector) -> Mask:
    """Levels whose rows identify all effects, (L,)."""
    scaled, _ = _unit_diagonal(_information(rows, np.where(weight > 0.0, 1.0, 0.0)))
    return np.asarray(np.linalg.eigvalsh(scaled)[:, 0] > MIN_EIGENVALUE)


def _newton_step(rows: LevelRows, at: RowDerivatives) -> Matrix:
    """``A_i^-1 Z_i'g``, (k, L)."""
    scaled, size = _unit_diagonal(_information(rows, at.weight))
    score = np.array([rows.sums(at.first * z) for z in rows.columns.T]).T
    inverse = np.linalg.pinv(scaled, rcond=1e-14, hermitian=True)
    return np.asarray((np.einsum("lab,lb->la", inverse, score / size) / size).T)


def _damped(
    rows: LevelRows, effects: Matrix, step: Matrix, at: RowDerivatives
) -> tuple[Matrix, Matrix, RowDerivatives]:
    """The longest of the steps 1, 1/2, ... at which each level's likelihood does not fall."""
    before = rows.sums(at.value)
    share = np.ones(rows.n_levels)
    for _ in range(_MAX_HALVINGS):
        after = rows.at(effects + share * step)
        # Negated, so that NaN is a failure.
        failed = ~(rows.sums(after.value) >= before - 1e-12 * (1.0 + np.abs(before)))
        if not failed.any():
            break
        share = np.where(failed, 0.5 * share, share)
    else:
        share = np.where(failed, 0.0, share)
        after = rows.at(effects + share * step)
    return effects + share * step, share * step, after


def with_infinite(effects: Matrix, steps: Matrix, scales: Sequence[float]) -> Matrix:
    """Effects in the units of the formula, infinite where their steps go on."""
    moving = np.abs(steps) * np.asarray(scales)[:, None] > _STILL_MOVING
    return np.where(moving & ~np.isnan(effects), np.copysign(np.inf, steps), effects)
