"""Optimality conditions of a fit: gradient, Hessian, boundary slope, and a second engine's result.

The Newton decrement ``g' H^-1 g / 2`` is what one more Newton step would lower the deviance by
(Boyd and Vandenberghe 2004, Convex Optimization, section 9.5.1).
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._arrays import all_finite
from mixedfx._deprecation import renamed_attribute
from mixedfx._escaping import html_block
from mixedfx.estimation import monte_carlo as monte_carlo_errors
from mixedfx.estimation.optimizer_result import OptimizerResult
from mixedfx.linalg.newton import newton_decrement

if TYPE_CHECKING:
    from mixedfx.estimation.monte_carlo import MonteCarloError


Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# A fit from which more than this is to be gained is not at the optimum.
_MOST_TO_GAIN = 1e-6
# An optimum cannot be told where rounding changes the deviance by more than this, and than this
# share of it.
_LOST = 1e-6
_LOST_SHARE = 1e-11
# Rounding error of a deviance, relative to its size.
_ROUNDING = 1e-13
# Curvature of a direction in which the deviance is constant to rounding.
_ZERO_CURVATURE = 1e-6
# The deviance may fall on leaving the boundary by rounding, per unit of relative variance.
_LEAST_SLOPE = -1e-3
_FLAT = "the deviance is flat: the data do not identify all parameters"


@dataclass(frozen=True)
class ConvergenceDiagnostics:
    """
    The conditions of a minimum of the deviance, evaluated at a fit's estimates.

    Parameters
    ----------
    gradient : float
        Largest absolute derivative of the deviance by a free, unit-free parameter.
    newton_decrement : float
        Reduction of the deviance that a further Newton step would bring, ``g' H^-1 g / 2``; along
        null directions of the Hessian, the absolute values of the gradient are added in its place.
    curvature : float
        Smallest eigenvalue of the Hessian over the free, unit-free parameters; positive at
        a strict minimum, infinite if no parameter is free.
    boundary : tuple of str
        Parameters on the boundary: standard deviations of zero, correlations of one.
    boundary_slope : float
        Smallest rate at which the deviance rises on leaving the boundary, per unit of variance
        relative to ``sigma**2`` of a column of unit root mean square; infinite if no parameter
        is on the boundary, or an interior optimum has the same deviance; minus infinity if a factor
        of reduced rank was reached and the limit on evaluations left the boundary unprobed. If it
        is negative, the fit is no optimum.
    confirmed_by : str or None
        A second engine that reached the same optimum.
    unidentified : tuple of str
        What the rows identify of variances and covariances that cannot be told apart, whatever
        the response: the derivatives of V by them are linearly dependent.
    tolerance : float
        Least Newton decrement of a fit that is not at the optimum: 1e-6, or ten times
        ``Control.tolerance``, plus the rounding error.
    rounding : float
        Estimate of the rounding error of the deviance, which grows with the variances of the
        random effects relative to the residual one.
    rounding_limit : float
        Rounding error from which an optimum cannot be told: 1e-6, or 1e-11 of the deviance.
    no_maximum : tuple of str
        Statements of limits of the parameters at which the likelihood is higher than anywhere, or
        has no bound.
    monte_carlo : MonteCarloError or None
        Errors of the deviance and of the parameters by ``engine="iterative"``, whose
        log-determinant is an average over random signs; None where nothing is random.
    approximation : str
        How good the approximation of a generalised model's likelihood is; empty where it is exact.

    Notes
    -----
    ``ok`` requires a Newton decrement below the tolerance, a curvature above 1e-6 and a boundary
    slope above -1e-3: the first and second order conditions of a strict minimum, and the
    Karush-Kuhn-Tucker
    condition on the boundary, up to rounding. Where the curvature is zero the data do not
    identify all parameters: other values fit equally well. ``ok`` is False too where anything is
    ``unidentified``.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
    >>> fit.convergence.ok, fit.convergence.boundary
    (True, ())
    """

    gradient: float
    newton_decrement: float
    curvature: float
    boundary: tuple[str, ...]
    boundary_slope: float
    confirmed_by: str | None
    unidentified: tuple[str, ...] = ()
    tolerance: float = 1e-6
    rounding: float = 0.0
    rounding_limit: float = _LOST
    approximation: str = ""
    no_maximum: tuple[str, ...] = ()
    monte_carlo: MonteCarloError | None = None

    decrease = renamed_attribute("ConvergenceDiagnostics", "decrease", "newton_decrement")
    slack = renamed_attribute("ConvergenceDiagnostics", "slack", "boundary_slope")
    seconded = renamed_attribute("ConvergenceDiagnostics", "seconded", "confirmed_by")

    @property
    def ok(self) -> bool:
        """Whether first and second order conditions hold to rounding."""
        return not self.failures

    @property
    def failures(self) -> tuple[str, ...]:
        """The conditions that do not hold, in words."""
        found = [*self.unidentified, *self.no_maximum]
        if self.monte_carlo is not None:
            found += self.monte_carlo.failures
        # Negated, so that NaN fails.
        if not self.newton_decrement < self.tolerance:
            found.append(f"another step would lower the deviance by {self.newton_decrement:.1e}")
        if self.curvature < -_ZERO_CURVATURE:
            found.append(f"it is a saddle of the deviance, of curvature {self.curvature:.1e}")
        elif not self.unidentified and not self.curvature > _ZERO_CURVATURE:
            found.append(_FLAT)
        if self.boundary_slope == -np.inf:
            found.append("the boundary was reached, and not probed for a direction of descent")
        elif not self.boundary_slope > _LEAST_SLOPE:
            found.append(
                f"the deviance falls on leaving the boundary, by {-self.boundary_slope:.1e} per "
                "unit of relative variance"
            )
        if not self.rounding < self.rounding_limit:
            found.append(
                f"rounding changes the deviance by {self.rounding:.1e}, as the random effects vary "
                "so much more than the residuals, a column of a term without correlations, such as "
                "(x || g), is so far from zero, or weights are so uneven"
            )
        return tuple(found)

    @property
    def only_flat(self) -> bool:
        """Whether all that fails is that other parameters fit as well."""
        return self.failures == (_FLAT,)

    @property
    def table(self) -> pd.DataFrame:
        """Each condition with its value, what is required, and whether it holds; all: ``ok``."""
        conditions = [
            ("newton_decrement", self.newton_decrement, "<", self.tolerance),
            ("curvature", self.curvature, ">", _ZERO_CURVATURE),
            ("boundary_slope", self.boundary_slope, ">", _LEAST_SLOPE),
            ("rounding", self.rounding, "<", self.rounding_limit),
            ("number of unidentified", float(len(self.unidentified)), "<", 1.0),
            ("number of limits without maximum", float(len(self.no_maximum)), "<", 1.0),
        ]
        if (random := self.monte_carlo) is not None:
            conditions.append(
                ("error of parameters", random.largest, "<", monte_carlo_errors.LARGEST_ERROR)
            )
        rows = [
            (name, value, f"{sign} {limit:.3g}", value < limit if sign == "<" else value > limit)
            for name, value, sign, limit in conditions
        ]
        columns = ["condition", "value", "required", "holds"]
        return pd.DataFrame(rows, columns=columns).set_index("condition")

    def _repr_html_(self) -> str:
        shown = self.table.assign(
            value=[f"{value:.3g}" for value in self.table["value"]],
            holds=["yes" if holds else "NO" for holds in self.table["holds"]],
        )
        items = "".join(f"<li>{html.escape(text)}</li>" for text in self.failures)
        remarks = [*self._remarks(), f"largest derivative: {self.gradient:.1e}"]
        return html_block(
            f"<p><b>{self._verdict}</b></p>"
            + (f"<ul>{items}</ul>" if items else "")
            + str(shown.to_html(border=0))
            + "".join(f"<p>{html.escape(text)}</p>" for text in remarks)
        )

    @property
    def _verdict(self) -> str:
        return "optimum certified" if self.ok else "NOT certified as an optimum"

    def _remarks(self) -> list[str]:
        """Parameters on the boundary, and the engine that agrees."""
        names = ", ".join(self.boundary)
        slope = f"(boundary slope {self.boundary_slope:.3g})"
        on_boundary = [f"on the boundary: {names} {slope}"] if names else []
        confirmed = [f"{self.confirmed_by} agrees"] if self.confirmed_by else []
        confirmed += [] if self.monte_carlo is None else [str(self.monte_carlo)]
        return on_boundary + confirmed + ([self.approximation] if self.approximation else [])

    def __str__(self) -> str:
        """Summarise in one line."""
        parts = [f"gradient {self.gradient:.1e}", f"curvature {self.curvature:.3g}"]
        return f"{self._verdict}: {'; '.join([*self.failures, *parts, *self._remarks()])}"


class FoundElsewhere(TypedDict, total=False):
    """Conditions that the derivatives do not tell."""

    unidentified: tuple[str, ...]
    no_maximum: tuple[str, ...]


def diagnose_convergence(
    gradient: Vector,
    hessian: Matrix,
    *,
    boundary: tuple[str, ...],
    optimizer_result: OptimizerResult,
    rounding: float = 0.0,
    newton: tuple[float, float] | None = None,
    **found: Unpack[FoundElsewhere],
) -> ConvergenceDiagnostics:
    """
    Evaluate the conditions of a minimum from the derivatives by the free parameters.

    ``newton`` is what :func:`newton_decrement` has of them, where it is known.
    """
    tolerance = max(_MOST_TO_GAIN, 10.0 * optimizer_result.tolerance)
    tolerance += rounding + _ROUNDING * abs(optimizer_result.deviance)
    largest, decrement, curvature = 0.0, 0.0, np.inf
    if len(gradient):
        largest = decrement = curvature = np.nan
        if all_finite(gradient, hessian):
            largest = max(map(abs, gradient.tolist()))
            decrement, curvature = newton or newton_decrement(gradient, hessian)
    return ConvergenceDiagnostics(
        largest,
        decrement,
        curvature,
        boundary,
        optimizer_result.boundary_slope,
        optimizer_result.confirmed_by,
        tolerance=tolerance,
        rounding=rounding,
        rounding_limit=max(_LOST, _LOST_SHARE * abs(optimizer_result.deviance)),
        monte_carlo=optimizer_result.monte_carlo,
        **found,
    )
