"""Scaled relative covariance factors, some of whose entries are fixed.

Each term's relative covariance factor is written ``Lambda_t = T_t F_t``, with ``T_t`` a scaling
that makes the term's columns unit-free and ``F_t`` lower triangular. Fixing entries of one
``F_t`` and freeing the others parametrises the covariances at a given standard deviation or
correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.coordinates import Coordinates, EntryCoordinates
from mixedfx.covariance.parametrization import canonical_signs
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.scaled import scaled_factors

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# theta = 0 is stationary for any data, so minimisations start with standard deviations of at
# least this size.
MIN_SD = 0.01


@dataclass(frozen=True)
class TermFactors:
    """Factors ``F_t`` of all terms at the optimum, and which of their entries are free."""

    term_scaling: tuple[Matrix, ...]  # T_t, (k, k)
    optimum: tuple[Matrix, ...]  # F_t at the optimum, (k, k)
    coordinates: Coordinates  # the free entries

    @staticmethod
    def from_lambdas(
        likelihood: GaussianLikelihood, lambdas: Sequence[Matrix], term_scaling: Sequence[Matrix]
    ) -> TermFactors:
        """Factor each ``Lambda_t`` as ``T_t F_t``: ``F_t F_t' = T_t^-1 Lambda Lambda' T_t^-T``."""
        parametrization = likelihood.parametrization
        scaled = scaled_factors(term_scaling, lambdas)
        params = canonical_signs(parametrization, parametrization.to_params(scaled))
        factors = parametrization.lambdas(params)
        return TermFactors(tuple(term_scaling), tuple(factors), parametrization.coordinates)

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


def rotate_scaling(scaling: Matrix, effects: list[int]) -> Matrix:
    """
    Rotate the columns of ``T`` so that the rows of ``m`` effects span the first ``m`` columns only.

    Then ``T F`` has, in those rows, the first ``m`` rows of ``F`` times the rows' lengths in
    ``T``, which the rotation keeps.
    """
    m = len(effects)
    Q, R = np.linalg.qr(scaling[effects].T, mode="complete")
    rotated = scaling @ Q
    lengths = np.diag(np.linalg.norm(scaling[effects], axis=1))
    rotated[:, :m] = rotated[:, :m] @ np.linalg.solve(R[:m].T, lengths)
    rotated[effects] = np.eye(m, len(scaling)) * np.diag(lengths)[:, None]  # exact zeros
    return np.asarray(rotated)
