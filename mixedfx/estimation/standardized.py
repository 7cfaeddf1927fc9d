"""Minimisation in coordinates in which the Hessian is about the identity.

For constrained minima near an optimum whose Hessian is known: profiles.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mixedfx.linalg.trust_region import TrustRegionResult, minimize

Vector = npt.NDArray[np.float64]

_DECREMENT_TOLERANCE = 1e-10
_MAX_EVALUATIONS = 300


def minimize_standardized(
    function: Callable[[Vector], tuple[float, Vector]], z: Vector, *, radius: float
) -> TrustRegionResult:
    """Minimise a function that returns its value and gradient, from z within a trust region."""
    return minimize(
        function,
        z,
        initial_hessian=lambda: np.eye(len(z)),
        tolerance=_DECREMENT_TOLERANCE,
        max_evaluations=_MAX_EVALUATIONS,
        radius=radius,
    )
