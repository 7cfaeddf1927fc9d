"""Boundary of the parameter space: singular covariances of the random effects.

The deviance is a function of each term's relative covariance ``Delta = Lambda Lambda'``. With
``S = dd / dDelta``, the score by Lambda is ``2 S Lambda``, so directions in the null space N of a
singular Delta do not contribute to it: theta = 0 is stationary for any data. A minimum over
positive semidefinite Delta requires in addition that ``N' S N`` be positive semidefinite
(Karush-Kuhn-Tucker); its smallest eigenvalue, the rate at which the deviance rises on leaving the
boundary, is called the boundary slope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.components import ZERO, Component
from mixedfx.covariance.coordinates import Coordinates
from mixedfx.covariance.parametrization import Parametrization, rank_reduced
from mixedfx.design.spec import ModelSpec
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.score import score_covariance

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# The boundary is left where the deviance falls by more than this per unit of scaled variance.
SLOPE_TOLERANCE = 1e-4
# Scaled standard deviation given to a direction in which the boundary is left; less, to this
# limit, where the deviance is higher there.
_STEP_OFF, _LEAST_STEP_OFF = 0.1, 1e-3


@dataclass(frozen=True)
class BoundaryProbe:
    """Directional derivatives of the deviance off the boundary."""

    slope: float  # smallest eigenvalue of N' S N over all terms; infinite in the interior
    descent: list[Matrix] | None  # scaled factors off the boundary, where the deviance falls


def boundary_parameters(
    spec: ModelSpec, crossprod: CrossProducts, theta: Vector
) -> tuple[str, ...]:
    """
    Names of the standard deviations of zero and the correlations of one at theta.

    A standard deviation below ``ZERO`` residual ones, of columns of unit root mean square, is
    zero; effects whose scaled rows of Lambda have a singular value below ``ZERO`` are collinear.
    """
    names = []
    lambdas = crossprod.parametrization.lambdas(theta)
    for t, (term, lam) in enumerate(zip(spec.random_terms, lambdas, strict=True)):
        components = _boundary_components(crossprod, t, lam)
        names += [term.component_name(c.kind, c.effects) for c in components]
    return tuple(names)


def _boundary_components(crossprod: CrossProducts, t: int, lam: Matrix) -> tuple[Component, ...]:
    """
    Sds of zero and correlations of one of a term.

    By columns far from zero any regular covariance has a correlation of nearly one: it is singular
    only if it is so in the basis too.
    """
    structure, _ = crossprod.parametrization.terms[t]
    basis = crossprod.bases[t]
    if not basis.is_diagonal and not structure.boundary(basis.own_factor(lam)):
        return ()
    own_units = lam if basis.is_identity else lam * crossprod.column_rms[t][:, None]
    own = structure.boundary(own_units)
    if basis.is_diagonal:
        return own
    return own or (Component("corr", tuple(range(len(lam))), 1.0),)


def rank_reduced_coordinates(
    parametrization: Parametrization, scaled: Sequence[Matrix]
) -> tuple[Coordinates, Vector]:
    """Coordinates, and their values, of the scaled covariances with their rank fixed."""
    return rank_reduced(parametrization, full_rank_factors(parametrization, scaled, ZERO))


def full_rank_factors(
    parametrization: Parametrization, scaled: Sequence[Matrix], tolerance: float
) -> list[Matrix]:
    """
    Roots of full column rank of the scaled covariances ``F_t F_t'``, up to the tolerance.

    Directions are kept whose standard deviation is positive and at least ``tolerance``.
    """
    terms = zip(parametrization.terms, scaled, strict=True)
    return [structure.full_rank_factor(F, tolerance) for (structure, _), F in terms]


def probe_boundary(likelihood: GaussianLikelihood, scaled: Sequence[Matrix]) -> BoundaryProbe:
    """Eigenvalues of ``N' S N`` at scaled factors, and a step along the negative ones."""
    crossprod = likelihood.crossprod
    scores = score_covariance(crossprod, scaled, reml=likelihood.reml)
    slope, total, parts = np.inf, 0.0, []
    for F, S, (structure, at) in zip(scaled, scores, crossprod.parametrization.terms, strict=True):
        root, slopes, directions = structure.off_boundary(F, S, at)
        slope = min(slope, float(slopes.min(initial=np.inf)))
        falling = slopes < -SLOPE_TOLERANCE
        total += float(slopes[falling].sum())
        parts.append((root, directions[:, falling]))
    if not slope < -SLOPE_TOLERANCE:
        return BoundaryProbe(slope, None)

    def off_by(step: float) -> list[Matrix]:
        return [np.column_stack([root, step * directions]) for root, directions in parts]

    def deviance(factors: Sequence[Matrix]) -> float:
        return likelihood.at_factors([square_factor(F) for F in factors]).deviance

    rise = deviance(off_by(_STEP_OFF)) - deviance(scaled)
    if not rise > 0.0:
        return BoundaryProbe(slope, off_by(_STEP_OFF))
    # Beyond the minimum of the parabola of this slope and rise in the variance t = step**2:
    # its minimum is at -t slope / 2 (rise / t - slope).
    variance = _STEP_OFF**2
    nearer = -0.5 * variance * total / (rise / variance - total)
    return BoundaryProbe(slope, off_by(max(np.sqrt(nearer), _LEAST_STEP_OFF)))


def square_factor(F: Matrix) -> Matrix:
    """A factor of the same ``F F'``, (k, k): with columns of zeros, or the triangular one."""
    if F.shape[1] > len(F):
        R: Matrix = np.asarray(np.linalg.qr(F.T, mode="r"))
        return R.T
    return np.pad(F, ((0, 0), (0, max(len(F) - F.shape[1], 0))))
