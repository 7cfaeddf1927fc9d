"""The proof of an optimum: first and second order conditions, the boundary, a second engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.estimation.optimizer_result import OptimizerResult

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ConvergenceDiagnostics:
    """
    The proof that a fit is at an optimum.

    Parameters
    ----------
    gradient : float
        Largest derivative of the deviance by a free, unit-free parameter.
    newton_decrement : float
        What a Newton step from here would still gain in deviance.
    curvature : float
        Smallest eigenvalue of the Hessian over the free, unit-free parameters; positive at
        a strict optimum, infinite if no parameter is free.
    boundary : tuple of str
        Parameters on the boundary: standard deviations of zero, correlations of one.
    slack : float
        Smallest rate at which the deviance rises on leaving the boundary.
    seconded : str or None
        A second engine that ended at the same optimum.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
    >>> fit.certificate.ok, fit.certificate.boundary
    (True, ())
    """

    gradient: float
    newton_decrement: float
    curvature: float
    boundary: tuple[str, ...]
    boundary_slope: float
    confirmed_by: str | None

    @property
    def ok(self) -> bool:
        """Whether first and second order conditions hold to rounding."""
        return (
            self.newton_decrement < 1e-6 and self.curvature > -1e-3 and self.boundary_slope > -1e-3
        )

    def __str__(self) -> str:
        """Say it in one line."""
        verdict = "optimum certified" if self.ok else "NOT certified as an optimum"
        parts = [f"gradient {self.gradient:.1e}", f"curvature {self.curvature:.3g}"]
        if self.boundary:
            parts.append(
                f"on the boundary: {', '.join(self.boundary)} (slack {self.boundary_slope:.3g})"
            )
        if self.confirmed_by:
            parts.append(f"{self.confirmed_by} agrees")
        return f"{verdict}: {'; '.join(parts)}"


def diagnose_convergence(
    gradient: Vector,
    hessian: Matrix,
    *,
    boundary: tuple[str, ...],
    optimizer_result: OptimizerResult,
) -> ConvergenceDiagnostics:
    """Check the conditions of a minimum."""
    if not len(gradient):
        return ConvergenceDiagnostics(
            0.0,
            0.0,
            np.inf,
            boundary,
            optimizer_result.boundary_slope,
            optimizer_result.confirmed_by,
        )
    values, vectors = np.linalg.eigh(hessian)
    along = vectors.T @ gradient
    steep = values > 1e-6 * max(values[-1], 1e-300)
    newton_decrement = float(0.5 * (along[steep] ** 2 / values[steep]).sum())
    return ConvergenceDiagnostics(
        gradient=float(np.abs(gradient).max()),
        newton_decrement=newton_decrement + float(np.abs(along[~steep]).sum()),
        curvature=float(values[0]),
        boundary=boundary,
        boundary_slope=optimizer_result.boundary_slope,
        confirmed_by=optimizer_result.confirmed_by,
    )
