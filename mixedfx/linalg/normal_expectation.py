"""Expectations of smooth functions of one normal variable by the trapezoidal rule.

For a function that is analytic in a strip of half-width d about the real line the error is of order
``exp(-2 pi d / h)`` (Trefethen and Weideman 2014, SIAM Rev. 56:385, section 5): unlike that of
Gauss-Hermite nodes, it does not grow with the scale until the function is a step between two nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Numbers in a chunk of rows.
_CHUNK = 2_000_000


@lru_cache(maxsize=8)
def _rule(step: float, end: float) -> tuple[Vector, Vector]:
    """Nodes, and weights that sum to one."""
    nodes = np.asarray(
        np.arange(-round(end / step), round(end / step) + 1) * step, dtype=np.float64
    )
    density = np.asarray(np.exp(-0.5 * nodes**2), dtype=np.float64)
    weights = density / density.sum()
    set_readonly(nodes, weights)
    return nodes, weights


def expectation(
    function: Callable[[Matrix], Matrix],
    mean: Vector,
    sd: Vector,
    *,
    step: float = 1 / 16,
    end: float = 12.0,
) -> Vector:
    """
    ``E f(mean + sd x)`` of each row; f maps (nodes, n) to the same, row by row.

    The range has room for ``f = exp``, whose mass is about ``x = sd``.
    """
    nodes, weights = _rule(step, end) if sd.any() else (np.zeros(1), np.ones(1))
    if len(mean) * len(nodes) <= _CHUNK:
        return np.asarray(weights @ function(mean + np.multiply.outer(nodes, sd)))
    total = np.zeros(len(mean))
    for node, weight in zip(nodes, weights, strict=True):
        total += weight * function((mean + node * sd)[None])[0]
    return total
