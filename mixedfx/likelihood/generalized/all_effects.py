"""Random effects of all linear predictors: ``Lambda'Z'WZ Lambda + I`` at the modes; its parts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx._cached import cached_property
from mixedfx.linalg.cholesky.assembled import assemble
from mixedfx.linalg.cholesky.block_matrix import BlockMatrix
from mixedfx.linalg.cholesky.numeric import NumericFactor, factorize
from mixedfx.linalg.cholesky.restricted import RestrictedFactor

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class AllEffects:
    """Effects of all predictors given the data, which are factorised when that is asked for."""

    products: BlockMatrix = field(repr=False)  # Z'WZ
    lambdas: tuple[Matrix, ...]  # of each grouping factor

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*self.lambdas)

    @cached_property
    def numeric(self) -> NumericFactor:
        """The factorisation."""
        return factorize(assemble(self.products), self.lambdas)


@dataclass(frozen=True)
class EffectsOfOne:
    """Effects of one predictor among those of all."""

    index: Codes = field(repr=False)  # (q,) place of each, both in orders of elimination
    groups: tuple[tuple[int, Codes], ...]  # factor of all, and columns there, of each own factor

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.index, *(columns for _, columns in self.groups))

    def beside(self, own: NumericFactor, effects: AllEffects) -> RestrictedFactor:
        """Own factorisation with the conditional covariance beside all effects."""
        return RestrictedFactor(own, effects.numeric, self.index, self.groups)
