"""Likelihood of one random term of many correlated effects as a function of their covariance.

Of a process at many positions (``exp(lon + lat | 1)``, ``ar1(day | patient)``). In the notation of
:mod:`mixedfx.likelihood.wide`, with B the derivative of the deviance by the Schur complement,

    dd / dC = sum_l (K_l - E_l B E_l')

so that the derivative by each parameter is one inner product with that of C: no factor of C is
differentiated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.covariance.components import Positions
from mixedfx.covariance.coordinates import Coordinates
from mixedfx.covariance.structure import CovarianceStructure, StructureCoordinates
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Criterion, criterion_of_schur
from mixedfx.likelihood.wide import SolvedLevel, WideTerm, part

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FieldLikelihood:
    """The likelihood as a function of the parameters of the structure of such a term."""

    crossprod: CrossProducts
    wide: WideTerm
    structure: CovarianceStructure
    at: Positions
    reml: bool

    @staticmethod
    def of(
        crossprod: CrossProducts, coordinates: Coordinates, *, reml: bool
    ) -> FieldLikelihood | None:
        """Of a model of one such term, at coordinates of full rank; None of any other."""
        own = coordinates.terms[0] if len(coordinates.terms) == 1 else None
        if not isinstance(own, StructureCoordinates):
            return None
        wide = WideTerm.of(crossprod)
        if wide is None:
            return None
        return FieldLikelihood(crossprod, wide, own.structure, own.at, reml)

    def at_params(self, x: Vector) -> FieldPoint:
        """Solve at parameters of the structure; LinAlgError where C is not positive definite."""
        log_det, schur, levels = self.wide.solve(self._covariance(x))
        criterion = criterion_of_schur(self.crossprod, schur, log_det, reml=self.reml)
        return FieldPoint(self, criterion, levels, self._jacobian(x))

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
    levels: tuple[SolvedLevel, ...]
    by_x: Array  # (m, k, k) derivatives of C

    @cached_property
    def score(self) -> Vector:
        """Derivative of the deviance by the parameters, (m,)."""
        B, score = self.criterion.by_schur(reml=self.field.reml), np.zeros(len(self.by_x))
        for at in self.levels:
            # Of a symmetric K the lower triangle is enough.
            S = at.K_lower * 2.0
            S[np.diag_indices(len(S))] *= 0.5
            S -= at.E @ B @ at.E.T
            score += np.tensordot(part(self.by_x, at.effects), S, axes=2)
        return score

    @property
    def expected_hessian(self) -> Matrix:
        """``sum_l tr(D_i K_l D_j K_l) - t_i t_j / n``, the D derivatives of C."""
        m, crossprod = len(self.by_x), self.field.crossprod
        H, traces = np.zeros((m, m)), np.zeros(m)
        for at in self.levels:
            K = at.K
            DK = [D @ K for D in part(self.by_x, at.effects)]
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
        for at in self.levels:
            h = at.E @ criterion.coef_vector
            w = part(self.by_x, at.effects) @ h
            H += w @ at.K @ w.T
            along += w @ h
            on_X += w @ at.E[:, :p]
        H = (H - on_X @ criterion.vcov_in_basis @ on_X.T) / s2
        if crossprod.profiles_sigma:
            H -= np.outer(along, along) / (crossprod.nu(reml=self.field.reml) * s2 * s2)
        return H
