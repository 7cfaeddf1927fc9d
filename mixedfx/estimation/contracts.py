"""What inference asks of estimates: their derivatives, and estimates without some rows."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Deletion(Protocol):
    """Estimates of a fit without some of its rows."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the estimates: the p coefficients first."""
        ...

    @property
    def estimates(self) -> Vector:
        """Estimates of all rows."""
        ...

    def without(self, keep: Mask, method: str) -> Vector:
        """Estimates of some of the rows, by a step or a search; NaN where there are none."""
        ...


class Derivatives(Protocol):
    """Derivatives by the m free parameters of a fit but sigma."""

    @property
    def gradient(self) -> Vector:
        """Of the deviance, (m,)."""
        ...

    @property
    def hessian(self) -> Matrix:
        """Of the deviance, (m, m)."""
        ...

    @property
    def vcov_jacobian(self) -> CoefficientCovariance:
        """Of cov(beta), (m, p, p)."""
        ...
