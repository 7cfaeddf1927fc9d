"""Distribution of the largest of several correlated t statistics, in absolute value.

With correlations ``R = C C'``, C of r columns and rows c_j of length one, the statistics are
``C z / s``, z of r standard normal values and ``df s^2`` chi-squared. In polar coordinates ``z =
rho v``, v uniform on the sphere and independent of ``rho^2 ~ chi^2_r``, so that with
``M(v) = max_j |c_j' v|`` (Deak 1980, Numer. Math. 35:35)

    P(max_j |T_j| > t) = E_v P(F_{r, df} > t^2 / (r M(v)^2))

One distribution of M serves all t, tails keep their relative precision, and R may be singular, as
that of all pairs is. With the angle a between v and the c_j that is nearest, ``M = cos a``, and the
density of a is that of the angle to one direction times the number of the c_j that are nearest
there,

    sin(a)^(r-2) / B((r-1)/2, 1/2) * 2 * sum_j P_w(tan a <= s_j(w))
    s_j(w) = min over i of (1 - sign(c_i'w) c_i'c_j) / |c_i'w|

of w uniform and orthogonal to c_j. The probabilities are exact for r = 2, sums at equal angles for
r = 3, and else over Sobol's points: deterministic. In the tails every s_j is far
from ``tan a``, and what remains is Bonferroni's bound, which is exact there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from mixedfx._arrays import set_readonly

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Eigenvalues of a correlation matrix below this share of the largest are zero.
_RANK_TOLERANCE = 1e-9
# Angles of the quadrature; directions orthogonal to each row, and numbers that these may cost.
_ANGLES = 2_000
_CELL = 0.5 * math.pi / _ANGLES
_FEWEST, _MOST, _BUDGET = 2**10, 2**15, 2**25


@dataclass(frozen=True)
class LargestT:
    """Largest of correlated t statistics: values of M and their probabilities."""

    largest: Vector  # (k,)
    weights: Vector  # (k,)
    rank: int

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.largest, self.weights)

    @staticmethod
    def of(correlation: Matrix) -> LargestT:
        """Of statistics with these correlations, (m, m)."""
        values, vectors = np.linalg.eigh(correlation)
        kept = values > _RANK_TOLERANCE * values[-1]
        C = _distinct(vectors[:, kept] * np.sqrt(values[kept]))
        rank = C.shape[1]
        if rank == 1:
            return LargestT(np.ones(1), np.ones(1), rank)
        angles = _CELL * (np.arange(_ANGLES) + 0.5)
        density = np.sin(angles) ** (rank - 2) * 2.0 / special.beta((rank - 1) / 2.0, 0.5)
        return LargestT(np.cos(angles), density * _CELL * _count_nearest(C), rank)

    def tail(self, t: float, df: float) -> float:
        """Probability that the largest exceeds ``t``, at ``df`` degrees of freedom."""
        if np.isnan(t) or np.isnan(df):
            return math.nan
        x = (t / self.largest) ** 2
        if np.isinf(df):
            return float(self.weights @ special.chdtrc(self.rank, x))
        return float(self.weights @ special.fdtrc(self.rank, df, x / self.rank))


def _distinct(C: Matrix) -> Matrix:
    """Rows at length one, without those that repeat others or have the opposite sign."""
    C = C / np.linalg.norm(C, axis=1, keepdims=True)
    kept: list[int] = []
    for j in range(len(C)):
        if not kept or np.abs(C[kept] @ C[j]).max() < 1.0 - 1e-12:
            kept.append(j)
    return np.asarray(C[kept])


def _count_nearest(C: Matrix) -> Vector:
    """Expected number of rows that no other is nearer than, by cells of angles from each."""
    m, rank = C.shape
    if m == 1:
        return np.ones(_ANGLES)
    w = _directions(rank - 1, int(np.clip(_BUDGET // m**2, _FEWEST, _MOST)))
    count = np.zeros(_ANGLES)
    for j in range(m):
        others = np.delete(C, j, axis=0)
        complement = np.linalg.svd(C[j : j + 1])[2][1:]
        along = others @ complement.T @ w.T  # c_i'w, (m - 1, directions)
        signed = np.sign(along) * (others @ C[j])[:, None]
        with np.errstate(divide="ignore"):
            for reach in ((1.0 - signed) / np.abs(along), (1.0 + signed) / np.abs(along)):  # w, -w
                count += 0.5 * _shares_below(np.arctan(reach.min(axis=0)))
    return count


def _shares_below(angles: Vector) -> Vector:
    """Share of each cell that is below the angles, averaged over these."""
    position = angles / _CELL
    cell = np.minimum(position.astype(np.intp), _ANGLES - 1)
    part = np.bincount(cell, position - cell, minlength=_ANGLES)
    inside = np.bincount(cell, minlength=_ANGLES)
    return np.asarray((len(angles) - np.cumsum(inside) + part) / len(angles))


def _directions(dim: int, n: int) -> Matrix:
    """Directions in some dimensions, up to their sign: equal angles, or Sobol's points."""
    if dim == 1:
        return np.ones((1, 1))
    if dim == 2:
        angle = math.pi * (np.arange(n) + 0.5) / n
        return np.column_stack([np.cos(angle), np.sin(angle)])
    from scipy.stats import qmc  # takes half a second to import

    size = 2 ** int(math.log2(n))
    points = qmc.Sobol(dim, scramble=False).random(size) + 0.5 / size
    z = special.ndtri(points)
    return np.asarray(z / np.linalg.norm(z, axis=1, keepdims=True))
