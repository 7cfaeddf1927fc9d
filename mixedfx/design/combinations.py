"""Columns of a smaller model as combinations of those that rows in chunks were reduced for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import column_of_ones, set_readonly

Matrix = npt.NDArray[np.float64]

# Difference of a column from a combination that is rounding, relative to its largest value.
_ROUNDING = 1e-9
# An entry of a combination so near to a whole number is that number, if the columns stay the same.
_WHOLE = 1e-9


@dataclass(frozen=True)
class Combinations:
    """``X = X_0 L`` and ``Z_t = Z_0 S`` of the columns of another model."""

    fixed: Matrix  # L, (p_0, p)
    terms: tuple[tuple[int, Matrix], ...]  # of each random term the other's number, S (k_0, k)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.fixed, *(S for _, S in self.terms))

    @staticmethod
    def identity(p: int, widths: Sequence[int]) -> Combinations:
        """The columns themselves."""
        return Combinations(np.eye(p), tuple((t, np.eye(k)) for t, k in enumerate(widths)))

    def of_fixed(self, L: Matrix) -> Combinations:
        """Combinations of the fixed columns that these are."""
        return Combinations(self.fixed @ L, self.terms)

    def of_terms(self, left: Sequence[tuple[int, Matrix]]) -> Combinations:
        """Some of the random terms, by their numbers here, and combinations of their effects."""
        own = [(self.terms[t], S) for t, S in left]
        return Combinations(self.fixed, tuple((t, before @ S) for (t, before), S in own))


def combination(X: Matrix, columns: Matrix) -> Matrix | None:
    """L with ``columns = X L``, of independent columns of X; None where there is none."""
    size = np.sqrt(np.einsum("ij,ij->j", X, X))
    size[size == 0.0] = 1.0
    L = np.linalg.lstsq(X / size, columns, rcond=None)[0] / size[:, None]
    rounded = np.where(np.abs(L - np.rint(L)) < _WHOLE, np.rint(L), L)
    largest = np.abs(columns).max(axis=0, initial=0.0)
    for found in (rounded, L):
        if (np.abs(X @ found - columns).max(axis=0, initial=0.0) <= _ROUNDING * largest).all():
            return np.asarray(found)
    return None


def combined(M: Matrix, S: Matrix) -> Matrix:
    """``M S`` of effects' columns: some of them, or the sum of all indicators, which is one."""
    if np.array_equal(S, np.eye(len(S))):
        return M
    if S.shape[1] == 1 and (S == 1.0).all():
        return column_of_ones(len(M))
    if np.isin(S, (0.0, 1.0)).all() and (S.sum(axis=0) == 1.0).all():
        return M[:, S.argmax(axis=0)]
    return np.asarray(M @ S)
