"""Conjugate gradients on many right-hand sides, and quadratic forms of functions of the matrix.

The coefficients of the iteration are those of the Lanczos process started from the right-hand
side: with its tridiagonal T, ``b'f(P) b = |b|**2 e_1'f(T) e_1`` up to the error of a Gauss
quadrature with as many nodes as iterations (Golub and Meurant 2010, Matrices, Moments and
Quadrature, section 6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Solves:
    """Solutions of ``P X = B`` and the coefficients of the iteration."""

    X: Array  # (r, m)
    squares: Array  # (m,) squared lengths of the right-hand sides
    alphas: Array  # (iterations, m)
    betas: Array  # (iterations, m)

    @property
    def iterations(self) -> int:
        """Number of products with the matrix."""
        return len(self.alphas)

    def quadratic_forms(self, function: Callable[[Array], Array]) -> Array:
        """``b'f(P) b`` of each right-hand side, (m,)."""
        return np.array([self._quadratic_form(j, function) for j in range(len(self.squares))])

    def _quadratic_form(self, j: int, function: Callable[[Array], Array]) -> float:
        alphas, betas = self.alphas[:, j], self.betas[:, j]
        steps = int(np.argmin(alphas)) if not alphas.all() else len(alphas)
        if not steps:
            return 0.0
        alphas, betas = alphas[:steps], betas[: steps - 1]
        diagonal = 1.0 / alphas
        diagonal[1:] += betas / alphas[:-1]
        values, vectors = linalg.eigh_tridiagonal(diagonal, np.sqrt(betas) / alphas[:-1])
        return float(self.squares[j] * (vectors[0] ** 2 @ function(np.maximum(values, 1e-300))))


def conjugate_gradients(
    multiply: Callable[[Array], Array], B: Array, *, tolerance: float, max_iterations: int
) -> Solves:
    """Solve until every residual is below ``tolerance`` times its right-hand side."""
    X, R = np.zeros_like(B), B.copy()
    search, squares = R.copy(), np.einsum("rm,rm->m", B, B)
    current, least = squares, tolerance**2 * squares
    alphas: list[Array] = []
    betas: list[Array] = []
    while (current > least).any():
        if len(alphas) == max_iterations:
            raise np.linalg.LinAlgError(
                f"conjugate gradients left {np.sqrt((current / squares).max()):.1e} of a "
                f"right-hand side after {max_iterations} iterations"
            )
        product = multiply(search)
        curvature = np.einsum("rm,rm->m", search, product)
        alpha = _ratio(current, curvature)
        X += alpha * search
        R -= alpha * product
        following = np.einsum("rm,rm->m", R, R)
        beta = _ratio(following, current)
        alphas.append(alpha)
        betas.append(beta)
        search *= beta
        search += R
        current = following
    shape = (len(alphas), B.shape[1])
    return Solves(X, squares, np.reshape(alphas, shape), np.reshape(betas, shape))


def _ratio(a: Array, b: Array) -> Array:
    """``a / b``, zero where b is: of a right-hand side that is solved exactly."""
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0.0)
