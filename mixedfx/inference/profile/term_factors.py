"""Scaled relative covariance factors, some of whose entries are fixed.

Each term's scaled factor (:mod:`mixedfx.likelihood.scaled`) is written ``B_t F_t``, with ``B_t``
the identity or a change of basis, and ``F_t`` lower triangular. Fixing entries of one ``F_t`` and
freeing the others parametrises the covariances at a given standard deviation or correlation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.coordinates import Coordinates, EntryCoordinates
from mixedfx.covariance.parametrization import canonical_signs
from mixedfx.likelihood.pls import Solution

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# theta = 0 is stationary for any data, so minimisations start with standard deviations of at
# least this size.
MIN_SD = 0.01


@dataclass(frozen=True)
class TermFactors:
    """Factors ``F_t`` of all terms at the optimum, and which of their entries are free."""

    changes: tuple[Matrix, ...]  # B_t, (k, k)
    optimum: tuple[Matrix, ...]  # F_t at the optimum, (k, k)
    coordinates: Coordinates  # the free entries

    @staticmethod
    def at_optimum(optimum: Solution, changed: Mapping[int, Matrix] | None = None) -> TermFactors:
        """Factors at an optimum, with ``B_t`` of some terms other than the identity."""
        parametrization = optimum.crossprod.parametrization
        changes = [np.eye(len(F)) for F in optimum.factors]
        for t, B in (changed or {}).items():
            changes[t] = B
        scaled = [
            np.asarray(np.linalg.solve(B, F)) for B, F in zip(changes, optimum.factors, strict=True)
        ]
        params = canonical_signs(parametrization, parametrization.to_params(scaled))
        factors = parametrization.lambdas(params)
        return TermFactors(tuple(changes), tuple(factors), parametrization.coordinates)

    def fix_entries(self, term: int, entries: list[tuple[int, int]]) -> TermFactors:
        """Remove entries of one term's factor from the free ones."""
        terms = list(self.coordinates.terms)
        fixed = terms[term]
        assert isinstance(fixed, EntryCoordinates)
        terms[term] = fixed.without(entries)
        return replace(self, coordinates=Coordinates(tuple(terms)))

    @property
    def params(self) -> Vector:
        """The free entries at the optimum."""
        return self.coordinates.params(self.optimum)

    @property
    def min_start(self) -> Vector:
        """Smallest absolute starting value of each coordinate: positive for standard deviations."""
        return np.where(self.coordinates.is_sd, MIN_SD, 0.0)


def rotation_of(T: Matrix, effects: list[int]) -> tuple[Matrix, Vector]:
    """
    Change of basis B such that the rows of ``m`` effects in ``T B`` are multiples of unit vectors.

    Then ``T B F`` has, in those rows, the first ``m`` rows of ``F`` times the rows' lengths in
    ``T``, which are the second value. B is a rotation but for its first ``m`` columns.
    """
    m = len(effects)
    Q, R = np.linalg.qr(T[effects].T, mode="complete")
    lengths = np.linalg.norm(T[effects], axis=1)
    B = Q.copy()
    B[:, :m] = Q[:, :m] @ np.linalg.solve(R[:m].T, np.diag(lengths))
    return B, lengths
