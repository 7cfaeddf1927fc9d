"""The proof of an optimum: first and second order conditions, the boundary, a second engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.fit.search import Search

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Certificate:
    """
    The proof that a fit is at an optimum.

    Parameters
    ----------
    gradient : float
        Largest derivative of the deviance by a free, unit-free parameter.
    decrease : float
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
    decrease: float
    curvature: float
    boundary: tuple[str, ...]
    slack: float
    seconded: str | None

    @property
    def ok(self) -> bool:
        """Whether first and second order conditions hold to rounding."""
        return self.decrease < 1e-6 and self.curvature > -1e-3 and self.slack > -1e-3

    def __str__(self) -> str:
        """Say it in one line."""
        verdict = "optimum certified" if self.ok else "NOT certified as an optimum"
        parts = [f"gradient {self.gradient:.1e}", f"curvature {self.curvature:.3g}"]
        if self.boundary:
            parts.append(f"on the boundary: {', '.join(self.boundary)} (slack {self.slack:.3g})")
        if self.seconded:
            parts.append(f"{self.seconded} agrees")
        return f"{verdict}: {'; '.join(parts)}"


def certify(
    gradient: Vector, hessian: Matrix, *, boundary: tuple[str, ...], search: Search
) -> Certificate:
    """
    Check the conditions of a minimum.

    Parameters
    ----------
    gradient : ndarray of shape (m,)
        Of the deviance by all that is not on the boundary, without units.
    hessian : ndarray of shape (m, m)
        Second derivatives.
    boundary : tuple of str
        Parameters on the boundary.
    search : Search
        For what it found of leaving the boundary, and who agrees.

    Returns
    -------
    Certificate
        Of first and second order.
    """
    if not len(gradient):
        return Certificate(0.0, 0.0, np.inf, boundary, search.slack, search.seconded)
    values, vectors = np.linalg.eigh(hessian)
    along = vectors.T @ gradient
    steep = values > 1e-6 * max(values[-1], 1e-300)
    decrease = float(0.5 * (along[steep] ** 2 / values[steep]).sum())
    return Certificate(
        gradient=float(np.abs(gradient).max()),
        decrease=decrease + float(np.abs(along[~steep]).sum()),
        curvature=float(values[0]),
        boundary=boundary,
        slack=search.slack,
        seconded=search.seconded,
    )
