"""Gauss-Hermite nodes and weights for the standard normal distribution, in several dimensions."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@lru_cache(maxsize=32)
def normal_quadrature(k: int, dimension: int) -> tuple[Matrix, Vector]:
    """
    Nodes (k ** dimension, dimension) and weights of the product rule: ``E f(x), x ~ N(0, I)``.

    Exact for polynomials of degree 2 k - 1 in each coordinate.
    """
    x, w = np.polynomial.hermite_e.hermegauss(k)
    w = w / w.sum()
    nodes = np.array(list(itertools.product(x, repeat=dimension)))
    weights = np.array([np.prod(c) for c in itertools.product(w, repeat=dimension)])
    set_readonly(nodes, weights)
    return nodes, weights
