"""Compound symmetry, and equal variances without correlation.

``cs``: all correlations are equal, between -1 / (k - 1), where the matrix is singular, and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy import special

from mixedfx.covariance.components import Component, Positions
from mixedfx.covariance.correlation import CorrelationStructure, Heterogeneous
from mixedfx.covariance.entries import EntryFormula, zero_off_diagonal

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]


class CompoundSymmetry(CorrelationStructure):
    """``cs(f | g)``: one standard deviation and one correlation."""

    name: ClassVar[str] = "cs"
    goes_on: ClassVar[bool] = True
    covariances_are_parameters: ClassVar[bool] = True
    correlation_entry: ClassVar[EntryFormula | None] = EntryFormula(
        "{corr} for s ≠ t", r"{corr} \text{{ for }} s \ne t"
    )

    def n_correlations(self, at: Positions) -> int:
        """One, of two effects or more."""
        return int(at.k > 1)

    def correlation(self, c: Vector, at: Positions) -> Matrix:
        """Ones on the diagonal, c elsewhere."""
        return np.asarray(np.eye(at.k) + c.sum() * (1.0 - np.eye(at.k)))

    def correlation_jacobian(self, c: Vector, at: Positions) -> Array:
        """Zeros on the diagonal, ones elsewhere."""
        return np.tile(1.0 - np.eye(at.k), (len(c), 1, 1))

    def correlation_hessian(self, c: Vector, at: Positions) -> Array:
        """Zero."""
        return np.zeros((len(c), len(c), at.k, at.k))

    def bounded(self, x: Vector, at: Positions) -> Vector:
        """``low + (1 - low) / (1 + exp(-x))``, low = -1 / (k - 1)."""
        low = _lowest(at)
        return np.asarray(low + (1.0 - low) * special.expit(x))

    def bounded_jacobian(self, x: Vector, at: Positions) -> Matrix:
        """Derivative of the logistic function."""
        return np.diag((1.0 - _lowest(at)) * special.expit(x) * special.expit(-x))

    def unbounded(self, c: Vector, at: Positions) -> Vector:
        """The logit of the share of the interval that is below c."""
        low = _lowest(at)
        share = np.clip((c - low) / (1.0 - low), 1e-16, np.nextafter(1.0, 0.0))
        return np.asarray(special.logit(share))

    def estimate(self, R: Matrix, at: Positions) -> Vector:
        """Mean of the entries off the diagonal."""
        pairs = R[np.triu_indices(at.k, 1)]
        known = pairs[~np.isnan(pairs)]
        return np.full(int(at.k > 1), known.mean() if len(known) else 0.0)

    def typical(self, at: Positions) -> Sequence[Vector]:
        """From near the lower limit to near one."""
        if at.k == 1:
            return ()
        return [np.array([c]) for c in (0.8 * _lowest(at), 0.05, 0.4, 0.7, 0.95)]

    def correlation_components(self, c: Vector, at: Positions) -> tuple[Component, ...]:
        """The correlation."""
        limits = (_lowest(at), 1.0)
        return tuple(Component("corr", (), float(r), i, limits) for i, r in enumerate(c))


class HeterogeneousCompoundSymmetry(Heterogeneous, CompoundSymmetry):
    """``csh(f | g)``: a standard deviation for each effect, one correlation."""

    name: ClassVar[str] = "csh"


class HomogeneousDiagonal(CompoundSymmetry):
    """``homdiag(f | g)``: one standard deviation, no correlation."""

    name: ClassVar[str] = "homdiag"
    correlated: ClassVar[bool] = False

    def entry(self) -> EntryFormula:
        """A variance alone."""
        return zero_off_diagonal(self.sds_entry)

    def n_correlations(self, at: Positions) -> int:
        """None."""
        return 0

    def estimate(self, R: Matrix, at: Positions) -> Vector:
        """Nothing to estimate."""
        return np.zeros(0)

    def typical(self, at: Positions) -> Sequence[Vector]:
        """One matrix."""
        return ()


def _lowest(at: Positions) -> float:
    """The correlation at which the matrix is singular; that of two effects for one."""
    return -1.0 / max(at.k - 1, 1)
