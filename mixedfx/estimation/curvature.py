"""The deviance around an optimum: which way is free, how steep it is, what is on the boundary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.covariance.parametrization import ZERO, Coordinates, rank_reduced
from mixedfx.design.build import Design
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import solve_pls_at_factors
from mixedfx.likelihood.score import score_factors

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HessianAtOptimum:
    """
    The deviance around an optimum.

    Parameters
    ----------
    chart : Chart
        Coordinates of the terms' Lambdas in their frames, as many as are free.
    x : ndarray of shape (m,)
        The optimum in them.
    gradient : ndarray of shape (m,)
        Zero but for rounding.
    hessian : ndarray of shape (m, m)
        Symmetric.
    """

    coordinates: Coordinates
    x: Vector
    gradient: Vector
    hessian: Matrix

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())


def boundary_parameters(design: Design, crossprod: CrossProducts, theta: Vector) -> tuple[str, ...]:
    """
    Name what is on the boundary of the parameter space.

    Notes
    -----
    Zero means below 1e-4 residual standard deviations, the term's columns taken at unit root
    mean square, so that units do not matter.
    """
    found = []
    lambdas = crossprod.parametrization.lambdas(theta)
    for block, lam, scale in zip(design.blocks, lambdas, crossprod.column_rms, strict=True):
        scaled = lam * scale[:, None]
        sds = np.sqrt((scaled**2).sum(axis=1))
        zero = sds < ZERO
        found += [
            f"sd({name} | {block.group})"
            for name, is_zero in zip(block.effects, zero, strict=True)
            if is_zero
        ]
        live = scaled[~zero]
        if len(live) > 1 and block.term.structure == "us":
            # Relative to the sds, so that a small but healthy effect is not called singular.
            smallest = np.linalg.svd(live / sds[~zero, None], compute_uv=False)[-1]
            if smallest < ZERO:
                names = ", ".join(n for n, z in zip(block.effects, zero, strict=True) if not z)
                found.append(f"corr({names} | {block.group})")
    return tuple(found)


def hessian_at_optimum(crossprod: CrossProducts, theta: Vector, *, reml: bool) -> HessianAtOptimum:
    """Differentiate the deviance twice at an optimum, along everything that is free there."""
    coordinates, x = rank_reduced_coordinates(crossprod, theta)

    def slope(at: Vector) -> Vector:
        return score_scaled(
            crossprod, coordinates, at, term_scaling=crossprod.term_scaling, reml=reml
        )

    H = np.empty((len(x), len(x)))
    for j in range(len(x)):
        step = np.zeros(len(x))
        step[j] = h = 1e-3 * max(1.0, abs(x[j]))
        near, far = slope(x + step) - slope(x - step), slope(x + 2 * step) - slope(x - 2 * step)
        H[j] = (8.0 * near - far) / (12.0 * h)  # exact for cubics: near zero the slope is one
    g = slope(x) if len(x) else x
    return HessianAtOptimum(coordinates, x, g, 0.5 * (H + H.T))


def rank_reduced_coordinates(crossprod: CrossProducts, theta: Vector) -> tuple[Coordinates, Vector]:
    """Take coordinates of the covariances of the rank that they have."""
    return rank_reduced(crossprod.parametrization, _live_roots(crossprod, theta))


def score_scaled(
    crossprod: CrossProducts,
    coordinates: Coordinates,
    x: Vector,
    *,
    term_scaling: Sequence[Matrix],
    reml: bool,
) -> Vector:
    """Differentiate the deviance by coordinates of the Lambdas in some frames."""
    natural = [f @ m for f, m in zip(term_scaling, coordinates.lambdas(x), strict=True)]
    by_lambda = score_factors(solve_pls_at_factors(crossprod, natural, reml=reml), reml=reml)
    return coordinates.to_params([f.T @ m for f, m in zip(term_scaling, by_lambda, strict=True)])


def _live_roots(crossprod: CrossProducts, theta: Vector) -> list[Matrix]:
    """Roots of the terms' unit-free covariances, without the columns that are zero."""
    roots = []
    lambdas = crossprod.parametrization.lambdas(theta)
    for lam, frame, structure in zip(
        lambdas, crossprod.term_scaling, crossprod.parametrization.structures, strict=True
    ):
        framed = np.asarray(np.linalg.solve(frame, lam))
        if structure == "diag":
            roots.append(framed[:, np.abs(np.diag(framed)) >= ZERO])
            continue
        values, vectors = np.linalg.eigh(framed @ framed.T)
        live = values >= ZERO**2
        roots.append(np.asarray(vectors[:, live] * np.sqrt(values[live])))
    return roots
