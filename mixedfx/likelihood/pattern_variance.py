"""``z'Gz`` of rows whose pairs of levels have occurred together, ``G = Lambda M^-1 Lambda'``.

The entries of G that such rows need are the derivatives of ``log|M|`` by the entries of ``A`` at
its own pattern (:mod:`mixedfx.linalg.cholesky.inverse_blocks`): one reverse pass, where solving
takes a right-hand side for each level (Takahashi, Fagan and Chin 1973; Erisman and Tinney 1975,
Comm. ACM 18:177).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx.linalg.cholesky.block_matrix import LevelPairs
from mixedfx.linalg.cholesky.inverse_blocks import log_det_derivatives
from mixedfx.linalg.cholesky.numeric import NumericFactor
from mixedfx.linalg.solver import Factor

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class EffectColumn:
    """One effect of one term: an entry of Z in each row."""

    factor: int
    effect: int  # among the effects of the factor
    level: Codes  # (n,) level of each row
    column: Codes  # (n,) column of Z, in the order of elimination
    value: Vector = field(repr=False)  # (n,) entry of Z


def variance_at_pattern(numeric: Factor, z_columns: Sequence[EffectColumn]) -> Vector | None:
    """``z'Gz`` of each row, (n,); None where G is not known at the levels of some row."""
    if not isinstance(numeric, NumericFactor) or numeric.symbolic.within:
        return None
    of_factor: dict[int, list[EffectColumn]] = {}
    for z in z_columns:
        of_factor.setdefault(z.factor, []).append(z)
    pairs = {}
    for f, g in itertools.combinations(sorted(of_factor), 2):
        found = _positions(numeric.symbolic.pairs.get((f, g)), of_factor[f], of_factor[g])
        if found is None:
            return None
        pairs[f, g] = found
    G = log_det_derivatives(numeric)
    zGz = np.zeros(len(z_columns[0].level))
    for f, columns in of_factor.items():
        level = columns[0].level
        for y, z in itertools.product(columns, repeat=2):
            zGz += y.value * G.diagonal[f][y.effect, z.effect].take(level) * z.value
    for (f, g), at in pairs.items():
        for y, z in itertools.product(of_factor[f], of_factor[g]):
            zGz += 2.0 * y.value * G.off_diagonal[f, g][y.effect, z.effect].take(at) * z.value
    return zGz


def _positions(
    pairs: LevelPairs | None, first: Sequence[EffectColumn], second: Sequence[EffectColumn]
) -> Codes | None:
    """Position of each row's pair of levels; None where a pair with effects has not occurred."""
    if pairs is None:
        return None
    row, col = first[0].level, second[0].level
    width = int(pairs.cols.max(initial=0)) + 1
    at = np.minimum(pairs.positions(row, col, width), len(pairs) - 1)
    has_both = _has_effect(first) & _has_effect(second)
    missing = (pairs.rows[at] != row) | (pairs.cols[at] != col)
    return None if (missing & has_both).any() else at


def _has_effect(columns: Sequence[EffectColumn]) -> npt.NDArray[np.bool_]:
    """Rows with an entry other than zero; NaN is one."""
    return np.asarray(np.any([z.value != 0.0 for z in columns], axis=0))
