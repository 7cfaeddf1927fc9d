"""Diagonal covariance: uncorrelated effects, each with a standard deviation of its own."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.components import ZERO, Component, Positions
from mixedfx.covariance.coordinates import EntryCoordinates, TermCoordinates
from mixedfx.covariance.entries import EntryFormula, zero_off_diagonal
from mixedfx.covariance.structure import CovarianceStructure, correlation_components

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]


class Diagonal(CovarianceStructure):
    """``diag(x | g)``, ``(x || g)``; parameters are the standard deviations over sigma."""

    name: ClassVar[str] = "diag"
    invariance: ClassVar[Literal["linear", "diagonal", "scalar"]] = "diagonal"
    correlated: ClassVar[bool] = False
    linear: ClassVar[bool] = True

    def entry(self) -> EntryFormula:
        """Variances alone."""
        return zero_off_diagonal(EntryFormula("{sd:s}²", "{sd:s}^2"))

    def n_params(self, k: int) -> int:
        """One for each effect."""
        return k

    def coordinates(self, at: Positions) -> EntryCoordinates:
        """Diagonal entries."""
        return EntryCoordinates(at.k, np.arange(at.k), np.arange(at.k))

    def factor(self, params: Vector, at: Positions) -> Matrix:
        """``diag(params)``."""
        return np.diag(params)

    def factor_jacobian(self, params: Vector, at: Positions) -> Array:
        """Unit matrices."""
        return self.coordinates(at).jacobian(params)

    def nearest(self, cov: Matrix, at: Positions) -> Vector:
        """Roots of the diagonal."""
        return np.sqrt(np.clip(np.diag(cov), 0.0, None))

    def params_of_factor(self, factor: Matrix, at: Positions) -> Vector:
        """Diagonal of a diagonal factor."""
        return self.coordinates(at).params(factor)

    def canonical(self, params: Vector, at: Positions) -> Vector:
        """Absolute values."""
        return np.abs(params)

    def absorbs_residual(self, k: int) -> bool:
        """A diagonal matrix plus a multiple of the identity is diagonal."""
        return True

    def components(self, factor: Matrix, at: Positions) -> tuple[Component, ...]:
        """A standard deviation for each effect."""
        return correlation_components(factor, pairs=False)

    def full_rank_factor(self, factor: Matrix, tolerance: float) -> Matrix:
        """Nonzero columns of a diagonal factor."""
        sds = np.abs(np.diag(factor))
        return np.asarray(factor[:, (sds > 0.0) & (sds >= tolerance)])

    def rank_reduced(self, root: Matrix, at: Positions) -> tuple[TermCoordinates, Vector]:
        """Standard deviations of the effects that vary."""
        sds = np.sqrt((root**2).sum(axis=1))
        nonzero = np.flatnonzero(sds)
        return EntryCoordinates(at.k, nonzero, nonzero), sds[nonzero]

    def off_boundary(
        self, factor: Matrix, score: Matrix, at: Positions
    ) -> tuple[Matrix, Vector, Matrix]:
        """The effects that do not vary, one by one."""
        zero = np.diag(factor) == 0.0
        null = np.eye(len(factor))[:, zero]
        return factor[:, ~zero], np.diag(null.T @ score @ null), null

    def boundary(self, factor: Matrix) -> tuple[Component, ...]:
        """Sds below ``ZERO``."""
        sds = np.sqrt((factor**2).sum(axis=1))
        return tuple(Component("sd", (i,), 0.0) for i in np.flatnonzero(sds < ZERO).tolist())
