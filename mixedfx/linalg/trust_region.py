"""Trust-region quasi-Newton minimisation of a smooth function of few parameters.

Each iteration minimises the quadratic model ``g'p + p'Bp / 2`` over ``|p| <= radius``, by the
eigenvalues of ``B``, and compares the reduction of the function with that of the model. ``B``
starts from a given Hessian and is updated by BFGS where the curvature along the step is positive,
else by SR1; it may be indefinite, and directions of negative curvature are followed, so that
saddle points are left. One evaluation of value and gradient per iteration; no line search.

Nocedal and Wright (2006), Numerical Optimization, 2nd edition: algorithm 4.1, theorem 4.1 and
section 4.3 (the subproblem), equations 6.19 (BFGS) and 6.24 (SR1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf, dpotrs

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Function = Callable[[Vector], tuple[float, Vector]]

# From so many parameters on a Newton step inside the region is computed without eigenvalues.
_CHOLESKY_SIZE = 40
# Along null directions of an exact Hessian a derivative below this is rounding.
_FLAT_GRADIENT = 1e-8
# Lower bound of a radius in a denominator: the square of its inverse is finite.
_SMALLEST_RADIUS = 1e-100


@dataclass(frozen=True)
class TrustRegionResult:
    """Last iterate of a minimisation."""

    x: Vector  # (m,)
    value: float
    gradient: Vector  # (m,)
    hessian: Matrix  # (m, m), the quasi-Newton approximation
    newton_decrement: float  # expected reduction by one more Newton step, g'B^-1 g / 2
    evaluations: int  # of value and gradient
    converged: bool  # whether newton_decrement is below the tolerance
    trace: tuple[float, ...]  # the value at each evaluation


@dataclass(frozen=True)
class ExactHessian:
    """Second derivatives at the last point evaluated, where they cost little."""

    function: Callable[[], Matrix | None]

    def __call__(self) -> Matrix | None:
        """The Hessian."""
        return self.function()


def minimize(
    function: Function,
    x: Vector,
    *,
    initial_hessian: Callable[[], Matrix],
    hessian: Callable[[], Matrix | None] = lambda: None,
    tolerance: float,
    max_evaluations: int,
    radius: float = 1.0,
) -> TrustRegionResult:
    """
    Minimise a function that returns its value and gradient.

    ``hessian`` is called after each accepted step, and replaces ``B`` unless it returns None; an
    :class:`ExactHessian` is not updated by the step.
    """
    value, gradient = function(x)
    trace, is_exact = [value], isinstance(hessian, ExactHessian)
    if not len(x):
        return TrustRegionResult(x, value, gradient, np.zeros((0, 0)), 0.0, 1, True, (value,))
    B = initial_hessian()
    while True:
        step, reduction, decrement = _solve_subproblem(B, gradient, radius, is_exact=is_exact)
        if decrement < tolerance or len(trace) >= max_evaluations or radius < 1e-10:
            # The value's rounding error bounds the reduction that can be observed.
            converged = decrement < max(tolerance, 1e-13 * abs(value))
            return TrustRegionResult(
                x, value, gradient, B, decrement, len(trace), converged, tuple(trace)
            )
        trial_value, trial_gradient = function(trial := x + step)
        trace.append(trial_value)
        length = _norm(step)
        if not np.isfinite(trial_value):
            radius = 0.25 * length
            continue
        gradient_change = trial_gradient - gradient
        ratio = (value - trial_value) / reduction
        # Within rounding error of the value, a smaller gradient stands for a reduction.
        indistinguishable = abs(trial_value - value) <= 10 * (1e-14 * abs(value) + 1e-12)
        if indistinguishable and _norm(trial_gradient) < _norm(gradient):
            ratio = max(ratio, 0.5)
        radius = _next_radius(radius, length, ratio)
        if trial_value < value or (indistinguishable and ratio > 0):
            x, value, gradient = trial, trial_value, trial_gradient
            exact = hessian()
            B = B if exact is None else exact
        if not is_exact:
            B = _quasi_newton_update(B, step, gradient_change)


def _norm(v: Vector) -> float:
    return math.sqrt(np.vdot(v, v))


def _next_radius(radius: float, length: float, ratio: float) -> float:
    """Radius for the next step, by the ratio of actual to predicted reduction."""
    if ratio < 0.25:
        return 0.25 * length if ratio < 0 else 0.5 * length
    if ratio > 0.75 and length > 0.8 * radius:
        return radius * 2.5
    return radius


def _solve_subproblem(
    B: Matrix, gradient: Vector, radius: float, *, is_exact: bool
) -> tuple[Vector, float, float]:
    """Minimiser of the quadratic model within the radius, its reduction, and Newton's decrement.

    The minimiser is ``p = -(B + shift I)^-1 g``, with ``shift >= 0`` and ``B + shift I`` positive
    semidefinite.
    """
    if is_exact or len(gradient) > _CHOLESKY_SIZE:
        newton = _newton_step(B, gradient, radius)
        if newton is not None:
            return newton
    w, Q = np.linalg.eigh(B)
    g = Q.T @ gradient
    least = 1e-8 * max(1.0, float(w[-1]))
    flat = np.abs(w) <= least
    if is_exact and flat.any() and w[0] >= -least and np.abs(g[flat]).sum() < _FLAT_GRADIENT:
        # Along these the function is constant: it is minimised along the others.
        w, g = np.where(flat, 1.0, w), np.where(flat, 0.0, g)
    positive_definite = w.min() > least
    decrement = float(0.5 * (g**2 / w).sum()) if positive_definite else np.inf
    if positive_definite and _norm(g / w) <= radius:
        return -Q @ (g / w), decrement, decrement
    p = -g / (w + _shift(w, g, radius))
    remainder = radius**2 - p @ p
    if not positive_definite and remainder > 0.01 * radius**2:
        # The hard case: g is orthogonal to the first eigenvector, which is added to p.
        p[0] += np.sqrt(remainder) * (1.0 if p[0] >= 0 else -1.0)
    reduction = float(-(g @ p + 0.5 * (w * p) @ p))
    steepest = float(np.abs(g).max())
    bound = decrement if positive_definite else max(reduction, steepest)
    return Q @ p, max(reduction, 1e-300), bound


def _newton_step(B: Matrix, gradient: Vector, radius: float) -> tuple[Vector, float, float] | None:
    """Newton's step by a Cholesky factor, where that is regular and the step is in the region."""
    root, info = dpotrf(B, lower=1)
    if info or not (len(gradient) > _CHOLESKY_SIZE or _is_regular(root, B)):
        return None
    step, _ = dpotrs(root, gradient, lower=1)
    decrement = 0.5 * float(np.vdot(gradient, step))
    return (-step, decrement, decrement) if _norm(step) <= radius else None


def _is_regular(root: Matrix, B: Matrix) -> bool:
    """Whether the smallest eigenvalue of B is surely no rounding, by its Cholesky factor."""
    trace, m = float(B.trace()), len(B)
    det = float(math.prod(root.diagonal().tolist())) ** 2
    # The geometric mean of the other eigenvalues is at most their arithmetic mean.
    return det > 1e-8 * max(1.0, trace) * math.pow(trace / max(m - 1, 1), m - 1)


def _shift(w: Vector, g: Vector, radius: float) -> float:
    """Shift for which ``|(diag(w) + shift I)^-1 g|`` equals the radius, by bisection in its log."""
    low = max(0.0, -w[0]) + 1e-10 * max(1.0, float(np.abs(w).max()))
    if _norm(g / (w + low)) <= radius:
        return float(low)
    high = low + _norm(g) / max(radius, _SMALLEST_RADIUS)
    for _ in range(60):
        middle = np.sqrt(low * high)
        if _norm(g / (w + middle)) > radius:
            low = middle
        else:
            high = middle
        if high < 1.001 * low:
            break
    return float(high)


def _quasi_newton_update(B: Matrix, s: Vector, y: Vector) -> Matrix:
    """Update for step ``s`` and gradient change ``y``: BFGS if ``s'y > 0``, else SR1."""
    Bs, sy = B @ s, float(s @ y)
    sBs = float(s @ Bs)
    if sBs > 0 and sy > 1e-10 * _norm(s) * _norm(y):
        return np.asarray(B - np.outer(Bs, Bs) / sBs + np.outer(y, y) / sy)
    r = y - Bs
    rs = float(r @ s)
    if abs(rs) > 1e-8 * _norm(r) * _norm(s):
        return np.asarray(B + np.outer(r, r) / rs)
    return B
