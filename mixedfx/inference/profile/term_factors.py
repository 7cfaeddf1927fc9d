"""Scaled relative covariance factors, some of whose entries are fixed.

Each term's relative covariance factor is written ``Lambda_t = S_t T_t``, with ``S_t`` a scaling
that makes the term's columns unit-free and ``T_t`` lower triangular. Fixing entries of one
``T_t`` and freeing the others parametrises the covariances at a given standard deviation or
correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.parametrization import Coordinates
from mixedfx.likelihood.crossproducts import CrossProducts

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# theta = 0 is stationary for any data, so minimisations start with diagonal entries of at least
# this size.
MIN_DIAGONAL = 0.01


@dataclass(frozen=True)
class TermFactors:
    """Factors ``T_t`` of all terms at the optimum, and which of their entries are free."""

    term_scaling: tuple[Matrix, ...]  # S_t, (k, k)
    optimum: tuple[Matrix, ...]  # T_t at the optimum, (k, k)
    coordinates: Coordinates  # the free entries

    @staticmethod
    def from_lambdas(
        crossprod: CrossProducts, lambdas: Sequence[Matrix], term_scaling: Sequence[Matrix]
    ) -> TermFactors:
        """Factor each ``Lambda_t`` as ``S_t T_t``: ``T_t T_t' = S_t^-1 Lambda Lambda' S_t^-T``."""
        factors: list[Matrix] = []
        for lam, scaling, structure in zip(
            lambdas, term_scaling, crossprod.parametrization.structures, strict=True
        ):
            factor = np.linalg.solve(scaling, lam)
            if structure == "us":
                factor = np.asarray(np.linalg.qr(factor.T, mode="r")).T
                factor = factor * np.where(np.diag(factor) < 0.0, -1.0, 1.0)
            factors.append(np.asarray(factor))
        coordinates = crossprod.parametrization.coordinates
        return TermFactors(tuple(term_scaling), tuple(factors), coordinates)

    def fix_entries(self, term: int, entries: Sequence[tuple[int, int]]) -> TermFactors:
        """Remove entries of one term's factor from the free ones."""
        rows, cols = self.coordinates.positions[term]
        free = [(r, c) not in entries for r, c in zip(rows.tolist(), cols.tolist(), strict=True)]
        positions = list(self.coordinates.positions)
        positions[term] = rows[free], cols[free]
        return replace(self, coordinates=Coordinates(self.coordinates.widths, tuple(positions)))

    @property
    def params(self) -> Vector:
        """The free entries at the optimum."""
        return self.coordinates.to_params(self.optimum)

    @property
    def min_start(self) -> Vector:
        """Smallest absolute starting value of each free entry: positive on the diagonal."""
        parts = [
            np.where(rows == cols, MIN_DIAGONAL, 0.0) for rows, cols in self.coordinates.positions
        ]
        return np.concatenate([np.zeros(0), *parts])


def rotate_scaling(scaling: Matrix, effects: list[int]) -> Matrix:
    """
    Rotate the columns of ``S`` so that the rows of ``m`` effects span the first ``m`` columns only.

    Then ``S T`` has, in those rows, the first ``m`` rows of ``T`` times the rows' lengths in
    ``S``, which the rotation keeps.
    """
    m = len(effects)
    Q, R = np.linalg.qr(scaling[effects].T, mode="complete")
    rotated = scaling @ Q
    lengths = np.diag(np.linalg.norm(scaling[effects], axis=1))
    rotated[:, :m] = rotated[:, :m] @ np.linalg.solve(R[:m].T, lengths)
    rotated[effects] = np.eye(m, len(scaling)) * np.diag(lengths)[:, None]  # exact zeros
    return np.asarray(rotated)
