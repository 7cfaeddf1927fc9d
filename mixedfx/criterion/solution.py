"""Theta to what it implies: coefficients, effects, sigma and the deviance.

One elimination of the random effects, and one small Cholesky factorisation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import linalg
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs

from mixedfx.crossprod import CrossProducts
from mixedfx.factor import Reduced, factorise
from mixedfx.factor.blocks import flatten, unflatten
from mixedfx.frozen import freeze

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Solution:
    """
    What one theta implies.

    Parameters
    ----------
    lambdas : tuple of ndarray of shape (k, k)
        Each term's Lambda.
    deviance : float
        -2 log-likelihood (REML: the REML criterion), all constants included.
    beta : ndarray of shape (p,)
        Fixed effects.
    sigma : float
        Residual standard deviation, in units of the response.
    unscaled_cov : ndarray of shape (p, p)
        Covariance of ``beta`` over ``sigma**2``.
    r2 : float
        Penalised residual sum of squares.
    reduced : mixedfx.factor.Reduced
        The elimination, for effects and derivatives.
    """

    lambdas: tuple[Matrix, ...] = field(repr=False)
    deviance: float
    beta: Vector
    sigma: float
    unscaled_cov: Matrix = field(repr=False)
    r2: float
    reduced: Reduced = field(repr=False)
    _weights: Vector = field(repr=False)
    _inner: Matrix = field(repr=False)
    _cross: CrossProducts = field(repr=False)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        freeze(*vars(self).values())

    @property
    def theta(self) -> Vector:
        """The covariance parameters."""
        return self._cross.layout.pack(self.lambdas)

    def effects(self) -> list[Matrix]:
        """Conditional means ``b`` of the random effects (BLUPs), (k, levels) per term."""
        return self._cross.term_rows(self.reduced.effects(self._weights)[0])

    def spherical(self) -> list[Matrix]:
        """Spherical effects ``u``, ``b = Lambda u``, (k, levels) per term."""
        return self._cross.term_rows(self.reduced.effects(self._weights)[1])

    def projected(self) -> list[Matrix]:
        """
        ``sigma**2 Z'V^-1 [X B^-1, y - X beta]``, (K, p + 1, levels) per grouping factor.

        ``B`` is the basis of the cross-products. What the random effects see of the fixed
        columns and of the response once both are weighed by the inverse covariance.
        """
        cross, plan = self._cross, self._cross.plan
        sides = np.empty((plan.size, cross.p + 1))
        for f in plan.gram.factors:
            border = cross.border[f]
            rest = np.tensordot(border, self._weights, axes=(1, 0))
            sides[plan.columns(f)] = flatten(
                np.concatenate([border[:, : cross.p], rest[:, None]], axis=1)
            )
        left = sides - plan.matrix @ self.reduced.factor.solve(sides)
        return [unflatten(left[plan.columns(f)], plan.gram.width(f)) for f in plan.gram.factors]

    @property
    def inner_cov(self) -> Matrix:
        """Covariance over ``sigma**2`` of the coefficients of ``X B^-1``."""
        return self._inner

    def conditional_covariances(self) -> list[Matrix]:
        """Covariance of each level's effects given the data and the parameters, (k, k, levels)."""
        m = self._cross.p + 1
        _, blocks = self.reduced.backward(np.zeros((m, m)))
        return [self.sigma**2 * b for b in self._cross.term_blocks(blocks)]


def solve(cross: CrossProducts, theta: Vector, *, reml: bool) -> Solution:
    """
    Solve the penalised least-squares problem at one covariance parameter.

    Parameters
    ----------
    cross : CrossProducts
        The data, reduced: ``n`` rows, ``p`` coefficients.
    theta : ndarray of shape (m,)
        Relative covariance parameters, without unit (standard deviations over sigma);
        each term's lower triangle, column by column, terms in formula order.
    reml : bool
        Whether beta is integrated out (REML) or maximised out (ML).

    Returns
    -------
    Solution
        ``deviance`` is -2 log-likelihood with all constants, so it compares across engines
        and with lme4.

    References
    ----------
    .. [1] Bates, Maechler, Bolker and Walker (2015), J. Stat. Softw. 67(1), equations 34
       and 41.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> from mixedfx.design import build
    >>> from mixedfx.crossprod import cross
    >>> d = build(mfx.parse("Yield ~ 1 + (1 | Batch)"), mfx.datasets.load("Dyestuff"))
    >>> round(solve(cross(d), np.array([0.848330]), reml=True).deviance, 4)
    319.6543
    """
    return solve_at(cross, cross.layout.lambdas(np.asarray(theta, dtype=float)), reml=reml)


def solve_at(cross: CrossProducts, lambdas: Sequence[Matrix], *, reml: bool) -> Solution:
    """
    Solve at Lambdas that need not be triangular.

    Parameters
    ----------
    cross : CrossProducts
        The data, reduced.
    lambdas : sequence of ndarray of shape (k, k)
        One per term; only ``Lambda Lambda'`` matters.
    reml : bool
        Which criterion.

    Returns
    -------
    Solution
        As :func:`solve`.
    """
    factor = factorise(cross.plan, cross.factor_lambdas(list(lambdas)))
    reduced = factor.reduce(cross.border, cross.corner)
    p = cross.p
    C = reduced.corner
    root, shift, unscaled = _small_solve(C[:p, :p], C[:p, p])
    r2 = float(C[p, p] - C[:p, p] @ shift)
    nu = cross.n - p if reml else cross.n
    log_det = factor.log_det
    if reml:
        log_det += 2.0 * float(np.log(root).sum()) + cross.log_det_basis
    sigma = math.sqrt(r2 / nu) if cross.sigma is None else cross.sigma
    spread = nu * math.log(2.0 * math.pi * sigma**2) + r2 / sigma**2
    natural = shift
    if cross.basis is not None:
        natural = linalg.solve_triangular(cross.basis, shift, check_finite=False)
    return Solution(
        lambdas=tuple(lambdas),
        deviance=log_det - cross.log_weights + spread,
        beta=cross.centre + natural,
        sigma=sigma,
        unscaled_cov=cross.to_natural(unscaled),
        r2=r2,
        reduced=reduced,
        _weights=np.append(-shift, 1.0),
        _inner=unscaled,
        _cross=cross,
    )


def _small_solve(A: Matrix, right: Vector) -> tuple[Vector, Vector, Matrix]:
    """Diagonal of the Cholesky factor of a small matrix, a solution, and the inverse."""
    p = len(A)
    if p == 0:
        return np.zeros(0), np.zeros(0), np.zeros((0, 0))
    root, info = dpotrf(A, lower=1)
    if info != 0:
        raise np.linalg.LinAlgError("fixed columns are dependent")
    solved, _ = dpotrs(root, right, lower=1)
    inverse, _ = dpotri(root, lower=1)
    low = np.tril(inverse)
    return np.diagonal(root), solved, low + np.tril(low, -1).T
