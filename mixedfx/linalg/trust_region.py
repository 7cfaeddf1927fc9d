"""A function and its gradient to a minimum: quasi-Newton steps within a trust region.

For smooth functions of few parameters (up to about a hundred) whose gradient costs little
more than their value: one evaluation a step, a good first Hessian used from the start, and
negative curvature followed rather than avoided, so that a saddle does not hold it.

Nocedal and Wright (2006), Numerical Optimization, chapters 4 and 6. It knows no statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf, dpotrs

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Function = Callable[[Vector], tuple[float, Vector]]

# Beyond so many parameters a Newton step that will do is taken without the eigenvalues.
_MANY = 40
# No radius is taken as less: its inverse squared is still a number.
_SHORTEST = 1e-100


@dataclass(frozen=True)
class TrustRegionResult:
    """
    Where a minimisation ended.

    Parameters
    ----------
    x, gradient : ndarray of shape (m,)
        The point and the gradient there.
    value : float
        The function there.
    hessian : ndarray of shape (m, m)
        Its approximation at the end.
    newton_decrement : float
        What one more step is expected to gain.
    evaluations : int
        Values with gradient.
    converged : bool
        Whether ``newton_decrement`` fell below the tolerance.
    trace : tuple of float
        The value after each evaluation.
    """

    x: Vector
    value: float
    gradient: Vector
    hessian: Matrix
    newton_decrement: float
    evaluations: int
    converged: bool
    trace: tuple[float, ...]


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
    """Minimise a smooth function."""
    value, gradient = function(x)
    trace = [value]
    if not len(x):
        return TrustRegionResult(x, value, gradient, np.zeros((0, 0)), 0.0, 1, True, (value,))
    model = initial_hessian()
    while True:
        step, gain, newton = _step(model, gradient, radius)
        # Near the end rounding hides gains in the value that the gradient still shows.
        if newton < tolerance or len(trace) >= max_evaluations or radius < 1e-10:
            done = newton < max(tolerance, 1e-13 * abs(value))
            return TrustRegionResult(
                x, value, gradient, model, newton, len(trace), done, tuple(trace)
            )
        new_value, new_gradient = function(x + step)
        trace.append(new_value)
        length = float(np.linalg.norm(step))
        if not np.isfinite(new_value):
            radius = 0.25 * length
            continue
        change = new_gradient - gradient
        ratio = (value - new_value) / gain
        noise = 1e-14 * abs(value) + 1e-12
        level = abs(new_value - value) <= 10 * noise
        if level and np.linalg.norm(new_gradient) < np.linalg.norm(gradient):
            ratio = max(ratio, 0.5)
        if ratio < 0.25:
            radius = 0.25 * length if ratio < 0 else 0.5 * length
        elif ratio > 0.75 and length > 0.8 * radius:
            radius *= 2.5
        if new_value < value or (level and ratio > 0):
            x, value, gradient = x + step, new_value, new_gradient
            fresh = hessian()
            model = model if fresh is None else fresh
        model = _update(model, step, change)


def _step(hessian: Matrix, gradient: Vector, radius: float) -> tuple[Vector, float, float]:
    """Minimise the quadratic model within the radius; its gain, and that of a Newton step."""
    if len(gradient) > _MANY:
        root, info = dpotrf(hessian, lower=1)
        if info == 0:
            solved, _ = dpotrs(root, gradient, lower=1)
            newton = float(0.5 * gradient @ solved)
            if np.linalg.norm(solved) <= radius:
                return -solved, newton, newton
    w, Q = np.linalg.eigh(hessian)
    g = Q.T @ gradient
    positive = w[0] > 1e-8 * max(1.0, w[-1])
    newton = float(0.5 * (g**2 / w).sum()) if positive else np.inf
    if positive and np.linalg.norm(g / w) <= radius:
        return -Q @ (g / w), newton, newton
    shift = _shift(w, g, radius)
    p = -g / (w + shift)
    rest = radius**2 - p @ p
    if not positive and rest > 0.01 * radius**2:  # the hard case: add the flattest direction
        p[0] += np.sqrt(rest) * (1.0 if p[0] >= 0 else -1.0)
    gain = float(-(g @ p + 0.5 * (w * p) @ p))
    flat = float(np.abs(g).max())
    return Q @ p, max(gain, 1e-300), newton if positive else max(gain, flat)


def _shift(w: Vector, g: Vector, radius: float) -> float:
    """Multiplier that shortens the step to the radius, by bisection."""
    low = max(0.0, -w[0]) + 1e-10 * max(1.0, abs(w[-1]))
    if np.linalg.norm(g / (w + low)) <= radius:
        return float(low)
    # Halved often enough a radius is zero, and the shift for it would be infinite.
    high = low + float(np.linalg.norm(g)) / max(radius, _SHORTEST)
    for _ in range(60):
        middle = np.sqrt(low * high)
        if np.linalg.norm(g / (w + middle)) > radius:
            low = middle
        else:
            high = middle
        if high < 1.001 * low:
            break
    return float(high)


def _update(hessian: Matrix, s: Vector, y: Vector) -> Matrix:
    """Update by BFGS where the curvature along the step is positive, else by symmetric rank one."""
    Bs, sy = hessian @ s, float(s @ y)
    sBs = float(s @ Bs)
    if sBs > 0 and sy > 1e-10 * np.linalg.norm(s) * np.linalg.norm(y):
        return np.asarray(hessian - np.outer(Bs, Bs) / sBs + np.outer(y, y) / sy)
    r = y - Bs
    rs = float(r @ s)
    if abs(rs) > 1e-8 * np.linalg.norm(r) * np.linalg.norm(s):
        return np.asarray(hessian + np.outer(r, r) / rs)
    return hessian
