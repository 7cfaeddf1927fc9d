"""Products of rows with the covariances of subjects, and draws of correlated residuals.

With ``R_s = L_s L_s'`` of a subject at its positions in order, ``L_s^-1 e_s`` are independent with
variance one: each is the residual less its prediction from the subject's earlier positions, over
the standard deviation of that difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.likelihood.patterns import Patterns, PatternsOfSize

Vector = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


def _by_subject(
    patterns: Patterns, values: Vector, product: Callable[[PatternsOfSize, Codes, Array], Array]
) -> Vector:
    """Apply a function of each subject's Cholesky factor and values, (subjects, v, v) and v."""
    out = np.empty(len(values))
    for size in patterns.sizes:
        of_subject = np.repeat(np.arange(size.n_patterns), np.diff(size.starts))
        out[size.rows] = product(size, of_subject, values[size.rows])
    return out


def products_of_positions(patterns: Patterns, values: Vector, shape: tuple[int, int]) -> Array:
    """Sums of products of values at each two positions, and numbers, (2, strata, k, k)."""
    S, k = shape
    found = np.zeros((2, S, k, k))
    for size in patterns.sizes:
        e = values[size.rows]
        at = np.repeat(np.arange(size.n_patterns), np.diff(size.starts))
        rows, columns = size.positions[at][:, :, None], size.positions[at][:, None, :]
        where = size.strata[at][:, None, None], rows, columns
        np.add.at(found[0], where, e[:, :, None] * e[:, None, :])
        np.add.at(found[1], where, 1.0)
    return found


def colored(patterns: Patterns, R: Array, values: Vector) -> Vector:
    """``L_s v_s`` of each subject, (n,); R is (strata, k, k)."""

    def product(size: PatternsOfSize, pattern: Codes, v: Array) -> Array:
        roots = np.linalg.cholesky(size.covariances(R))
        return np.asarray(np.einsum("sij,sj->si", roots[pattern], v))

    return _by_subject(patterns, values, product)


def whitened(patterns: Patterns, R: Array, values: Vector) -> Vector:
    """``L_s^-1 v_s`` of each subject, (n,)."""

    def product(size: PatternsOfSize, pattern: Codes, v: Array) -> Array:
        inverses = np.linalg.inv(np.linalg.cholesky(size.covariances(R)))
        return np.asarray(np.einsum("sij,sj->si", inverses[pattern], v))

    return _by_subject(patterns, values, product)


@dataclass(frozen=True)
class CorrelatedDistribution:
    """Normal residuals that are correlated within subjects."""

    patterns: Patterns = field(repr=False)
    R: Array = field(repr=False)  # (strata, k, k)
    scale: Vector = field(repr=False)  # (n,) sigma over the root of the prior weight

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.R, self.scale)

    def draw(self, predictor: Vector, rng: np.random.Generator) -> Vector:
        """Add residuals of all rows."""
        z = rng.standard_normal(len(self.scale))
        return predictor + self.scale * colored(self.patterns, self.R, z)


@dataclass(frozen=True)
class DrawsOfSubjects:
    """Normal residuals of new rows, given their sds and the correlations of each subject."""

    sds: Vector = field(repr=False)  # (m,)
    subjects: tuple[Codes, ...] = field(repr=False)  # rows of each
    roots: tuple[Array, ...] = field(repr=False)  # of the correlations of these rows

    def draw(self, predictor: Vector, rng: np.random.Generator) -> Vector:
        """Add residuals of all rows."""
        z = rng.standard_normal(len(self.sds))
        for rows, root in zip(self.subjects, self.roots, strict=True):
            z[rows] = root @ z[rows]
        return predictor + self.sds * z
