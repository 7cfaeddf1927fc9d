"""Elimination of one random term of many effects, each row having one of them, by covariances.

Z'WZ is diagonal, ``D_l`` at the effects that level l has rows of. With C the covariance of these
effects over ``sigma**2`` and ``s = D_l^1/2``,

    N_l = (I + s C s)^-1,    K_l = Z_l'V^-1 Z_l = s N_l s,    E_l = Z_l'V^-1 [X, y] = s N_l s^-1 F_l

with ``F_l = Z_l'W[X, y]``, V over ``sigma**2``. One Cholesky factorisation and its inverse give
these, and the Schur complement of [X, y] without the cancellation of ``[X, y]'W[X, y] - F'GF``
where the residual variance is nearly nothing,

    [X, y]'V^-1[X, y] = [X, y]'W[X, y] - F_l'D_l^-1 F_l + F_l's^-1 N_l s^-1 F_l.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf, dpotri, dtrtrs

from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.linalg.cholesky.batched import WIDE

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


class Level(NamedTuple):
    """Effects that a level has rows of, and cross-products with them."""

    effects: Ints  # (v,)
    root: Vector  # (v,) s
    f: Matrix  # (v, p + 1) s^-1 F


class SolvedLevel(NamedTuple):
    """A level at one covariance."""

    effects: Ints  # (v,)
    K_lower: Matrix  # (v, v) lower triangle
    E: Matrix  # (v, p + 1)

    @property
    def K(self) -> Matrix:
        """All of it."""
        return np.asarray(self.K_lower + np.tril(self.K_lower, -1).T)


@dataclass(frozen=True)
class WideTerm:
    """Cross-products with the effects of such a term."""

    k: int
    levels: tuple[Level, ...]
    within: Matrix  # (p + 1, p + 1) ``[X, y]'W[X, y] - sum_l F_l'D_l^-1 F_l``

    @staticmethod
    def of(crossprod: CrossProducts) -> WideTerm | None:
        """Of a model of one such term; None of any other."""
        if not _is_wide_and_diagonal(crossprod):
            return None
        ZtZ, ZtXy = crossprod.ZtZ.diagonal[0], crossprod.ZtXy[0]
        levels = []
        for d, F in zip(np.einsum("aal->la", ZtZ), ZtXy.transpose(2, 0, 1), strict=True):
            effects = np.flatnonzero(d > 0.0)
            root = np.sqrt(d[effects])
            levels.append(Level(effects, root, F[effects] / root[:, None]))
        within = crossprod.XytXy - sum(level.f.T @ level.f for level in levels)
        return WideTerm(len(ZtZ), tuple(levels), np.asarray(within))

    def schur(self, C: Matrix) -> tuple[float, Matrix]:
        """``sum_l log|I + s C s|``, and the Schur complement of [X, y]."""
        log_det, schur = 0.0, self.within.copy()
        for level in self.levels:
            root, own = _factorise(level, C)
            log_det += own
            half, _ = dtrtrs(root, level.f, lower=1)
            schur += half.T @ half
        return log_det, schur

    def solve(self, C: Matrix) -> tuple[float, Matrix, tuple[SolvedLevel, ...]]:
        """The same, with K and E of each level."""
        log_det, schur, solved = 0.0, self.within.copy(), []
        for level in self.levels:
            root, own = _factorise(level, C)
            log_det += own
            half, _ = dtrtrs(root, level.f, lower=1)
            schur += half.T @ half
            Nf, _ = dtrtrs(root, half, lower=1, trans=1)
            N, _ = dpotri(root, lower=1, overwrite_c=1)
            K_lower = np.tril(N)
            K_lower *= np.outer(level.root, level.root)
            solved.append(SolvedLevel(level.effects, K_lower, level.root[:, None] * Nf))
        return log_det, schur, tuple(solved)


def part(matrices: Array, effects: Ints) -> Array:
    """Rows and columns of some effects; without a copy where they are all."""
    if len(effects) == matrices.shape[-1]:
        return matrices
    return matrices[..., effects[:, None], effects]


def _factorise(level: Level, C: Matrix) -> tuple[Matrix, float]:
    """Lower Cholesky factor of ``I + s C s``, and its log determinant; LinAlgError without."""
    M = part(C, level.effects) * np.outer(level.root, level.root)
    M[np.diag_indices(len(M))] += 1.0
    # The transpose of a symmetric matrix is in Fortran's order, and not copied.
    root, info = dpotrf(M.T, lower=1, clean=0, overwrite_a=1)
    if info != 0:
        raise np.linalg.LinAlgError("a covariance is not positive definite")
    return root, 2.0 * float(np.log(np.diagonal(root)).sum())


def _is_wide_and_diagonal(crossprod: CrossProducts) -> bool:
    """Whether there is one term of many effects, and each row has one, of one level."""
    ZtZ, terms = crossprod.ZtZ, crossprod.term_positions
    if len(terms) != 1 or terms[0].width < WIDE:
        return False
    if ZtZ.pattern.within or crossprod.level_basis(0) is not None:
        return False
    blocks = ZtZ.diagonal[0]
    return int(np.count_nonzero(blocks)) == int(np.count_nonzero(np.einsum("aal->al", blocks)))
