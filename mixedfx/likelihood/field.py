"""Deviance of one random term of many correlated effects, each row having one of them.

Of a process at many positions (``exp(lon + lat | 1)``, ``ar1(day | patient)``) Z'WZ is diagonal,
``D_l`` at the effects that level l has rows of. With C the covariance of these effects over
``sigma**2`` and ``s = D_l^1/2``,

    N_l = (I + s C s)^-1,    K_l = Z_l'V^-1 Z_l = s N_l s,    E_l = Z_l'V^-1 [X, y] = s N_l s^-1 F_l

with ``F_l = Z_l'W[X, y]``, V over ``sigma**2``. One Cholesky factorisation and its inverse give the
deviance and, with B the derivative of the deviance by the Schur complement of [X, y],

    [X, y]'V^-1[X, y] = [X, y]'W[X, y] - F_l'D_l^-1 F_l + F_l's^-1 N_l s^-1 F_l
    dd / dC = sum_l (K_l - E_l B E_l')

so that the derivative by each parameter is one inner product with that of C: no factor of C is
differentiated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf, dpotri, dtrtrs

from mixedfx.covariance.components import Positions
from mixedfx.covariance.coordinates import Coordinates
from mixedfx.covariance.structure import CovarianceStructure, StructureCoordinates
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Criterion, criterion_of_schur
from mixedfx.linalg.cholesky.batched import WIDE

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


class _Level(NamedTuple):
    """Effects that a level has rows of, and cross-products with them."""

    effects: Ints  # (v,)
    root: Vector  # (v,) s
    f: Matrix  # (v, p + 1) s^-1 F


class _Solved(NamedTuple):
    """A level at one covariance."""

    level: _Level
    K_lower: Matrix  # (v, v) lower triangle
    E: Matrix  # (v, p + 1)

    @property
    def K(self) -> Matrix:
        """All of it."""
        return np.asarray(self.K_lower + np.tril(self.K_lower, -1).T)


@dataclass(frozen=True)
class FieldLikelihood:
    """The likelihood as a function of the parameters of the structure of such a term."""

    crossprod: CrossProducts
    structure: CovarianceStructure
    at: Positions
    reml: bool

    @staticmethod
    def of(
        crossprod: CrossProducts, coordinates: Coordinates, *, reml: bool
    ) -> FieldLikelihood | None:
        """Of a model of one such term, at coordinates of full rank; None of any other."""
        if len(coordinates.terms) != 1 or crossprod.ZtZ.layout.widths[0] < WIDE:
            return None
        own = coordinates.terms[0]
        if not isinstance(own, StructureCoordinates) or not _is_diagonal(crossprod):
            return None
        return FieldLikelihood(crossprod, own.structure, own.at, reml)

    @cached_property
    def _levels(self) -> list[_Level]:
        """Effects of each level."""
        ZtZ, ZtXy = self.crossprod.ZtZ.diagonal[0], self.crossprod.ZtXy[0]
        found = []
        for d, F in zip(np.einsum("aal->la", ZtZ), ZtXy.transpose(2, 0, 1), strict=True):
            effects = np.flatnonzero(d > 0.0)
            root = np.sqrt(d[effects])
            found.append(_Level(effects, root, F[effects] / root[:, None]))
        return found

    @cached_property
    def _within_effects(self) -> Matrix:
        """``[X, y]'W[X, y] - sum_l F_l'D_l^-1 F_l``, (p + 1, p + 1)."""
        return np.asarray(self.crossprod.XytXy - sum(level.f.T @ level.f for level in self._levels))

    def at_params(self, x: Vector) -> FieldPoint:
        """Solve at parameters of the structure; LinAlgError where C is not positive definite."""
        C, log_det, schur = self._covariance(x), 0.0, self._within_effects.copy()
        solved = []
        for level in self._levels:
            s = level.root
            M = _part(C, level.effects) * np.outer(s, s)
            M[np.diag_indices(len(s))] += 1.0
            # The transpose of a symmetric matrix in Fortran's order is not copied.
            root, info = dpotrf(M.T, lower=1, clean=0, overwrite_a=1)
            if info != 0:
                raise np.linalg.LinAlgError("a covariance is not positive definite")
            log_det += 2.0 * float(np.log(np.diagonal(root)).sum())
            half, _ = dtrtrs(root, level.f, lower=1)
            schur += half.T @ half
            Nf, _ = dtrtrs(root, half, lower=1, trans=1)
            N, _ = dpotri(root, lower=1, overwrite_c=1)
            K_lower = np.tril(N)
            K_lower *= np.outer(s, s)
            solved.append(_Solved(level, K_lower, s[:, None] * Nf))
        criterion = criterion_of_schur(self.crossprod, schur, log_det, reml=self.reml)
        return FieldPoint(self, criterion, tuple(solved), self._jacobian(x))

    def _covariance(self, x: Vector) -> Matrix:
        """C, with what its factor adds to the diagonal."""
        C = np.array(self.structure.covariance(x, self.at))
        C[np.diag_indices(self.at.k)] *= 1.0 + self.structure.jitter(self.at)
        return C

    def _jacobian(self, x: Vector) -> Array:
        """Derivatives of C, (m, k, k)."""
        by_x = np.array(self.structure.covariance_jacobian(x, self.at))
        i = np.arange(self.at.k)
        by_x[:, i, i] *= 1.0 + self.structure.jitter(self.at)
        return by_x


@dataclass(frozen=True)
class FieldPoint:
    """The likelihood at one covariance."""

    field: FieldLikelihood
    criterion: Criterion  # the deviance, with what it is made of
    solved: tuple[_Solved, ...]
    by_x: Array  # (m, k, k) derivatives of C

    @cached_property
    def score(self) -> Vector:
        """Derivative of the deviance by the parameters, (m,)."""
        B, score = self.criterion.by_schur(reml=self.field.reml), np.zeros(len(self.by_x))
        for at in self.solved:
            # Of a symmetric K the lower triangle is enough.
            S = at.K_lower * 2.0
            S[np.diag_indices(len(S))] *= 0.5
            S -= at.E @ B @ at.E.T
            score += np.tensordot(_part(self.by_x, at.level.effects), S, axes=2)
        return score

    @property
    def expected_hessian(self) -> Matrix:
        """``sum_l tr(D_i K_l D_j K_l) - t_i t_j / n``, the D derivatives of C."""
        m, crossprod = len(self.by_x), self.field.crossprod
        H, traces = np.zeros((m, m)), np.zeros(m)
        for at in self.solved:
            K = at.K
            DK = [D @ K for D in _part(self.by_x, at.level.effects)]
            H += [[np.vdot(one.T, two) for two in DK] for one in DK]
            traces += [np.trace(one) for one in DK]
        if crossprod.profiles_sigma:
            H -= np.outer(traces, traces) / crossprod.n
        return H

    @property
    def average_information(self) -> Matrix:
        """``h'D_i Z'PZ D_j h / sigma**2``, ``h = Z'Py``, with sigma profiled out."""
        criterion, crossprod = self.criterion, self.field.crossprod
        m, p, s2 = len(self.by_x), crossprod.p, criterion.sigma**2
        H, along, on_X = np.zeros((m, m)), np.zeros(m), np.zeros((m, p))
        for at in self.solved:
            h = at.E @ criterion.coef_vector
            w = _part(self.by_x, at.level.effects) @ h
            H += w @ at.K @ w.T
            along += w @ h
            on_X += w @ at.E[:, :p]
        H = (H - on_X @ criterion.vcov_in_basis @ on_X.T) / s2
        if crossprod.profiles_sigma:
            H -= np.outer(along, along) / (crossprod.nu(reml=self.field.reml) * s2 * s2)
        return H


def _part(matrices: Array, effects: Ints) -> Array:
    """Rows and columns of some effects; without a copy where they are all."""
    if len(effects) == matrices.shape[-1]:
        return matrices
    return matrices[..., effects[:, None], effects]


def _is_diagonal(crossprod: CrossProducts) -> bool:
    """Whether each row has one effect, of one level."""
    ZtZ = crossprod.ZtZ
    if len(ZtZ.diagonal) != 1 or ZtZ.pattern.within or crossprod.level_basis(0) is not None:
        return False
    blocks = ZtZ.diagonal[0]
    return int(np.count_nonzero(blocks)) == int(np.count_nonzero(np.einsum("aal->al", blocks)))
