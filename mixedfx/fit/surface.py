"""The deviance around an optimum: which way is free, how steep it is, what is on the boundary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.covariance import ZERO, Chart, pivoted
from mixedfx.criterion import slopes, solve_at
from mixedfx.crossprod import CrossProducts
from mixedfx.design import Design
from mixedfx.frozen import freeze

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curvature:
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

    chart: Chart
    x: Vector
    gradient: Vector
    hessian: Matrix

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        freeze(*vars(self).values())


def boundary(design: Design, cross: CrossProducts, theta: Vector) -> tuple[str, ...]:
    """
    Name what is on the boundary of the parameter space.

    Parameters
    ----------
    design : Design
        For the names.
    cross : CrossProducts
        For the scales.
    theta : ndarray of shape (m,)
        Covariance parameters.

    Returns
    -------
    tuple of str
        ``sd(Days | Subject)`` for a zero standard deviation, ``corr(... | Subject)`` for a
        covariance matrix that is singular without one. Empty for an interior theta.

    Notes
    -----
    Zero means below 1e-4 residual standard deviations, the term's columns taken at unit root
    mean square, so that units do not matter.
    """
    found = []
    lambdas = cross.layout.lambdas(theta)
    for block, lam, scale in zip(design.blocks, lambdas, cross.scales, strict=True):
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


def curvature(cross: CrossProducts, theta: Vector, *, reml: bool) -> Curvature:
    """
    Differentiate the deviance twice at an optimum, along everything that is free there.

    Parameters
    ----------
    cross : CrossProducts
        The data, reduced.
    theta : ndarray of shape (m,)
        Covariance parameters.
    reml : bool
        Which criterion.

    Returns
    -------
    Curvature
        The Hessian by central differences of fourth order of the analytic gradient, in
        coordinates of the covariances' rank: what is on the boundary stays there.
    """
    chart, x = coordinates(cross, theta)

    def slope(at: Vector) -> Vector:
        return framed_gradient(cross, chart, at, frames=cross.frames, reml=reml)

    H = np.empty((len(x), len(x)))
    for j in range(len(x)):
        step = np.zeros(len(x))
        step[j] = h = 1e-3 * max(1.0, abs(x[j]))
        near, far = slope(x + step) - slope(x - step), slope(x + 2 * step) - slope(x - 2 * step)
        H[j] = (8.0 * near - far) / (12.0 * h)  # exact for cubics: near zero the slope is one
    g = slope(x) if len(x) else x
    return Curvature(chart, x, g, 0.5 * (H + H.T))


def coordinates(cross: CrossProducts, theta: Vector) -> tuple[Chart, Vector]:
    """
    Take coordinates of the covariances of the rank that they have.

    Parameters
    ----------
    cross : CrossProducts
        The data, reduced.
    theta : ndarray of shape (m,)
        Covariance parameters.

    Returns
    -------
    chart : Chart
        Coordinates of the terms' Lambdas in their frames; what is on the boundary has none.
    x : ndarray
        Theta in them.
    """
    return pivoted(cross.layout, _live_roots(cross, theta))


def framed_gradient(
    cross: CrossProducts, chart: Chart, x: Vector, *, frames: Sequence[Matrix], reml: bool
) -> Vector:
    """
    Differentiate the deviance by coordinates of the Lambdas in some frames.

    Parameters
    ----------
    cross : CrossProducts
        The data, reduced.
    chart : Chart
        The coordinates.
    x : ndarray of shape (m,)
        Where.
    frames : sequence of ndarray of shape (k, k)
        One per term: the Lambdas are these times those of the chart.
    reml : bool
        Which criterion.

    Returns
    -------
    ndarray of shape (m,)
        Exact.
    """
    natural = [f @ m for f, m in zip(frames, chart.lambdas(x), strict=True)]
    by_lambda = slopes(solve_at(cross, natural, reml=reml), reml=reml)
    return chart.pack([f.T @ m for f, m in zip(frames, by_lambda, strict=True)])


def _live_roots(cross: CrossProducts, theta: Vector) -> list[Matrix]:
    """Roots of the terms' unit-free covariances, without the columns that are zero."""
    roots = []
    lambdas = cross.layout.lambdas(theta)
    for lam, frame, structure in zip(lambdas, cross.frames, cross.layout.structures, strict=True):
        framed = np.asarray(np.linalg.solve(frame, lam))
        if structure == "diag":
            roots.append(framed[:, np.abs(np.diag(framed)) >= ZERO])
            continue
        values, vectors = np.linalg.eigh(framed @ framed.T)
        live = values >= ZERO**2
        roots.append(np.asarray(vectors[:, live] * np.sqrt(values[live])))
    return roots
