"""Part of the conditional covariance of jointly factorised effects.

Effects of several linear predictors are factorised together; ``G = Lambda M^-1 Lambda'`` of those
of one predictor is a submatrix of G, not the inverse of a submatrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx.linalg.cholesky.block_matrix import Array
from mixedfx.linalg.cholesky.inverse_blocks import log_det_derivatives
from mixedfx.linalg.cholesky.numeric import NumericFactor, SchurComplement
from mixedfx.linalg.cholesky.symbolic import SymbolicFactor

Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class RestrictedFactor:
    """Factorisation of some effects, whose conditional covariance is that beside all others."""

    own: NumericFactor = field(repr=False)  # of these effects alone
    whole: NumericFactor = field(repr=False)  # of all effects
    index: Codes = field(repr=False)  # (q,) place of each effect among all
    groups: tuple[tuple[int, Codes], ...]  # joint factor and columns in it of each own factor

    @property
    def symbolic(self) -> SymbolicFactor:
        """Elimination order of the effects alone."""
        return self.own.symbolic

    @property
    def most_columns(self) -> float:
        """Right-hand sides may be as many as they are."""
        return np.inf

    @property
    def log_det(self) -> float:
        """Of the effects alone."""
        return self.own.log_det

    def schur_complement(self, rhs: Sequence[Array], matrix: Array) -> SchurComplement:
        """Of the effects alone."""
        return self.own.schur_complement(rhs, matrix)

    def solve(self, rhs: Array) -> Array:
        """The effects' part of ``Lambda M^-1 Lambda' rhs``, (q, m)."""
        full = np.zeros((self.whole.symbolic.size, rhs.shape[1]))
        full[self.index] = rhs
        return np.ascontiguousarray(self.whole.solve(full)[self.index])


@dataclass(frozen=True)
class RestrictedColumns:
    """Columns after elimination of the effects alone, with their joint conditional covariance."""

    numeric: RestrictedFactor = field(repr=False)
    own: SchurComplement = field(repr=False)

    @property
    def matrix(self) -> Array:
        """The Schur complement, (m, m)."""
        return self.own.matrix

    def back_substitute(self, weights: Array) -> tuple[list[Array], list[Array]]:
        """Effects ``b`` and ``u``."""
        return self.own.back_substitute(weights)

    def derivative(self, dC: Array) -> list[Array]:
        """Derivative of ``log_det + f(matrix)`` of the effects alone."""
        return self.own.derivative(dC)

    def level_covariances(self) -> list[Array]:
        """Blocks of G of each level, (K, K, L) per factor."""
        diagonal = log_det_derivatives(self.numeric.whole).diagonal
        return [
            np.ascontiguousarray(diagonal[f][np.ix_(columns, columns)])
            for f, columns in self.numeric.groups
        ]
