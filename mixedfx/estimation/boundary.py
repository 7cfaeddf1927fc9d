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

from mixedfx.covariance.parametrization import ZERO, Coordinates, Parametrization, rank_reduced
from mixedfx.design.build import Design
from mixedfx.estimation.scaling import scaled_factors, unscaled_factors
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.score import score_covariance

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# The boundary is left where the deviance falls by more than this per unit of scaled variance.
SLOPE_TOLERANCE = 1e-4
# Scaled standard deviation given to a direction in which the boundary is left.
_STEP_OFF = 0.1
# Eigenvalues of a scaled covariance below this span its null space.
_NULL = 1e-16


@dataclass(frozen=True)
class BoundaryProbe:
    """Directional derivatives of the deviance off the boundary."""

    slope: float  # smallest eigenvalue of N' S N over all terms; infinite in the interior
    descent: list[Matrix] | None  # scaled factors off the boundary, where the deviance falls


def boundary_parameters(design: Design, crossprod: CrossProducts, theta: Vector) -> tuple[str, ...]:
    """
    Names of the standard deviations of zero and the correlations of one at theta.

    A standard deviation below ``ZERO`` residual ones, of columns of unit root mean square, is
    zero; effects whose scaled rows of Lambda have a singular value below ``ZERO`` are collinear.
    """
    names = []
    lambdas = crossprod.parametrization.lambdas(theta)
    for random_term, lam, rms in zip(
        design.random_terms, lambdas, crossprod.column_rms, strict=True
    ):
        scaled = lam * rms[:, None]
        sds = np.sqrt((scaled**2).sum(axis=1))
        is_zero = sds < ZERO
        effects = list(zip(random_term.effect_names, is_zero, strict=True))
        names += [f"sd({effect} | {random_term.group})" for effect, zero in effects if zero]
        positive = scaled[~is_zero]
        if len(positive) > 1 and random_term.formula_term.structure == "us":
            # Rows of unit length: an effect of small variance is not collinear for that.
            unit_rows = positive / sds[~is_zero, None]
            if np.linalg.svd(unit_rows, compute_uv=False)[-1] < ZERO:
                collinear = ", ".join(effect for effect, zero in effects if not zero)
                names.append(f"corr({collinear} | {random_term.group})")
    return tuple(names)


def rank_reduced_coordinates(crossprod: CrossProducts, theta: Vector) -> tuple[Coordinates, Vector]:
    """Coordinates, and their values, of the scaled covariances at theta with their rank fixed."""
    parametrization = crossprod.parametrization
    scaled = scaled_factors(crossprod, parametrization.lambdas(theta))
    return rank_reduced(parametrization, full_rank_factors(parametrization, scaled, ZERO))


def full_rank_factors(
    parametrization: Parametrization, scaled: Sequence[Matrix], tolerance: float
) -> list[Matrix]:
    """
    Factors F of full column rank, ``F F' = L L'`` up to directions below the tolerance.

    The columns of F are those of ``V diag(s)``, with ``L L' = V diag(s^2) V'``, whose standard
    deviation s is positive and at least ``tolerance``; of a diagonal term, columns of L.
    """
    factors = []
    for L, structure in zip(scaled, parametrization.structures, strict=True):
        if structure == "diag":
            sds = np.abs(np.diag(L))
            factors.append(L[:, (sds > 0.0) & (sds >= tolerance)])
            continue
        values, vectors = np.linalg.eigh(L @ L.T)
        root = vectors * np.sqrt(np.clip(values, 0.0, None))
        factors.append(root[:, (values > 0.0) & (values >= tolerance**2)])
    return factors


def probe_boundary(
    crossprod: CrossProducts, scaled: Sequence[Matrix], *, reml: bool
) -> BoundaryProbe:
    """Eigenvalues of ``N' S N`` at scaled factors, and a step along the negative ones."""
    scores = score_covariance(
        crossprod,
        unscaled_factors(crossprod.term_scaling, scaled),
        term_scaling=crossprod.term_scaling,
        reml=reml,
    )
    slope, factors = np.inf, []
    for L, S, structure in zip(scaled, scores, crossprod.parametrization.structures, strict=True):
        if structure == "diag":
            zero = np.diag(L) == 0.0
            root, null = L[:, ~zero], np.eye(len(L))[:, zero]
            slopes, directions = np.diag(null.T @ S @ null), np.eye(null.shape[1])
        else:
            values, vectors = np.linalg.eigh(L @ L.T)
            null = vectors[:, values < _NULL]
            root = (vectors * np.sqrt(np.clip(values, 0.0, None)))[:, values >= _NULL]
            slopes, directions = np.linalg.eigh(null.T @ S @ null)
        slope = min(slope, float(slopes.min(initial=np.inf)))
        falling = slopes < -SLOPE_TOLERANCE
        factors.append(np.column_stack([root, _STEP_OFF * (null @ directions)[:, falling]]))
    return BoundaryProbe(slope, factors if slope < -SLOPE_TOLERANCE else None)
