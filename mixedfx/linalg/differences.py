"""Derivatives by central differences, of second or fourth order in the step h.

    f'(x) ~ (f(x + h) - f(x - h)) / 2 h
    f'(x) ~ (8 [f(x + h) - f(x - h)] - [f(x + 2 h) - f(x - 2 h)]) / 12 h

The second is exact for polynomials up to the fourth degree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]


def relative_steps(x: Vector, step: float) -> Vector:
    """Step of each coordinate, relative to coordinates above one."""
    return np.asarray(step * np.maximum(1.0, np.abs(x)))


def jacobian(
    f: Callable[[Vector], Any], x: Vector, steps: Vector, *, order: Literal[2, 4] = 4
) -> Array:
    """Derivatives of an array ``f`` by each coordinate, (len(x), *f.shape); without any (0, 0)."""
    derivatives = []
    for j, h in enumerate(steps):
        step = np.zeros(len(x))
        step[j] = h
        near = np.subtract(f(x + step), f(x - step))
        if order == 2:
            derivatives.append(near / (2.0 * h))
        else:
            far = np.subtract(f(x + 2.0 * step), f(x - 2.0 * step))
            derivatives.append((8.0 * near - far) / (12.0 * h))
    return np.stack(derivatives) if derivatives else np.zeros((0, 0))
