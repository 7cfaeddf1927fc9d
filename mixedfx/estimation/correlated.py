"""Estimates of correlated residuals: what inference reads from the covariances of subjects.

The residuals of the rows have the covariance ``sigma**2 W^-1/2 R W^-1/2``, block-diagonal over
subjects. The design keeps the prior weights W alone, so that everything that depends on R is here
or in the cross-products.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from mixedfx._names import encode
from mixedfx.design.build import Design
from mixedfx.design.rows import ModelRows
from mixedfx.errors import EngineRefusal
from mixedfx.estimation.contracts import (
    LabelledCovariance,
    PositionProducts,
    RowInfluence,
    Subjects,
)
from mixedfx.estimation.joint_estimate import JointEstimate
from mixedfx.estimation.residual import MIN_RESIDUAL_SHARE
from mixedfx.likelihood.basis import ColumnBasis
from mixedfx.likelihood.correlated import CorrelatedSums
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.patterns import Patterns
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.prediction_variance import prediction_rows
from mixedfx.likelihood.row_combinations import RowCombinations, covariances
from mixedfx.residuals.correlated import Correlated
from mixedfx.residuals.correlated_new import KnownResiduals
from mixedfx.residuals.correlated_rows import (
    CorrelatedDistribution,
    products_of_positions,
    whitened,
)
from mixedfx.residuals.model import ResponseAroundPredictor, VarcorrRow, row_sds

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class CorrelatedEstimate(JointEstimate):
    """Estimates of a covariance structure of the residuals of subjects."""

    @property
    def _model(self) -> Correlated:
        return cast(Correlated, self.model)

    @property
    def _R(self) -> Array:
        return self._model.covariances(self.params)

    def prior_weights(self, weights: Vector | None, sigma: float) -> Vector | None:
        """Those of the design."""
        return weights

    def row_sds(self, rows: ModelRows, sigma: float) -> Vector:
        """By the position of each row."""
        return np.asarray(row_sds(rows, sigma) * np.exp(self._model.log_sds(self.params)))

    def pearson_residuals(self, rows: ModelRows, eta: Vector, sigma: float) -> Vector:
        """Over the standard deviation of each row."""
        return np.asarray((rows.y - eta) / self.row_sds(rows, sigma))

    def normalized_residuals(self, rows: ModelRows, eta: Vector, sigma: float) -> Vector:
        """``L_s^-1 W^1/2 e_s / sigma`` of each subject."""
        scaled = (rows.y - eta) / row_sds(rows, sigma)
        return whitened(self._model.patterns, self._R, scaled)

    def row_precision(self, rows: ModelRows) -> Any:
        """``W^1/2 R^-1 W^1/2``, sparse."""
        return self._model.row_precision(self.params, rows.weights)

    def row_influence(self, rows: ModelRows, solution: Solution, eta: Vector) -> RowInfluence:
        """
        By quadratic forms of H, the inverse of Henderson's equations.

        With ``T = [X, Z]``, ``A = T H T'`` and precision Q, the fitted values have the derivatives
        ``A Q``, the residuals e the covariance ``Q^-1 - A``, and without row i the fitted values
        change by ``B_ii (Qe)_i^2 / (Q_ii - B_ii)^2``, ``B = Q A Q``.
        """
        Q = self.row_precision(rows)
        T = RowCombinations.of_rows(solution.crossprod, prediction_rows(rows))
        QT = T.times(Q)
        A, hat, B = (covariances(solution, *pair) for pair in ((T, T), (T, QT), (QT, QT)))
        e, sds = rows.y - eta, self.row_sds(rows, solution.sigma)
        share = 1.0 - A * (solution.sigma / sds) ** 2
        left = Q.diagonal() - B
        known = left > MIN_RESIDUAL_SHARE * Q.diagonal()
        std_resid = e / sds / np.sqrt(np.where(share > MIN_RESIDUAL_SHARE, share, np.nan))
        shift = B * (Q @ e / np.where(known, left, np.nan)) ** 2
        return RowInfluence(hat, std_resid, shift / solution.sigma**2)

    def crossproducts_of(
        self, design: Design, keep: Mask, bases: tuple[ColumnBasis, ...]
    ) -> CrossProducts:
        """Cross-products of some of the rows, at the estimated covariances."""
        model = self._model
        patterns = Patterns.of(
            model.subjects[keep],
            model.pattern_positions[keep],
            model.pattern_strata[keep],
            markov=model.spec.covariance.markov,
        )
        return CorrelatedSums.of(design, patterns, bases=bases).reweight(self._R)

    @property
    def subjects(self) -> Subjects:
        """Those of the structure."""
        spec = self._model.spec
        return Subjects(spec.subject, spec.levels, self._model.subjects)

    def varcorr_rows(self, sigma: float) -> list[VarcorrRow]:
        """Standard deviations and correlations of the positions, a stratum after the other."""
        return self._model.varcorr_rows(self.params, sigma)

    def residual_covariances(self, sigma: float) -> list[LabelledCovariance]:
        """``sigma**2 R`` of each stratum."""
        spec = self._model.spec
        strata = spec.strata or (None,)
        found = self._model.reported_covariances(self.params)
        return [
            LabelledCovariance(stratum, spec.position, spec.labels, sigma**2 * R)
            for stratum, R in zip(strata, found, strict=True)
        ]

    def covariance_curvature(self, by_theta: Callable[[], Matrix]) -> tuple[Matrix, Vector]:
        """That of theta and the parameters together."""
        k = len(self.params)
        return self.hessian, self.log_sigma_by[len(self.log_sigma_by) - k :]

    def reported_jacobian(self) -> Matrix:
        """Derivatives of the reported parameters by log sigma and the parameters."""
        return self._model.reported_jacobian(self.coefficients)

    def distribution(
        self, rows: ModelRows, sigma: float, params: Vector, *, new_effects: bool
    ) -> ResponseAroundPredictor:
        """Residuals of whole subjects."""
        return CorrelatedDistribution(self._model.patterns, self._R, row_sds(rows, sigma))

    def new_distribution(
        self,
        params: Vector,
        *,
        sds: Callable[[], Vector],
        weights: Callable[[], Vector | None],
        data: Any,
    ) -> ResponseAroundPredictor:
        """Residuals of the subjects of new rows."""
        return self._model.new_rows(data, self.params).draws(sds())

    def residual_products(self, standardised: Vector) -> PositionProducts:
        """By the positions of the structure, their lags or distances."""
        model, spec = self._model, self._model.spec
        shape = spec.n_strata, spec.at.k
        sums, numbers = products_of_positions(model.position_patterns, standardised, shape)
        kind = "distance" if spec.covariance.design == "coordinates" else "lag"
        return PositionProducts(sums, numbers, spec.at.distances, f"{kind} in {spec.position}")

    def weighted_residuals(
        self, rows: ModelRows, codes: Codes, residuals: Vector, effects: Vector
    ) -> Vector:
        """
        ``Q e + Q_w Z b``, ``Q_w`` between rows of one level.

        The effects of other levels, whose rows residuals are correlated with, are given.
        """
        Q = self.row_precision(rows)
        within = Q.tocoo()
        same = codes[within.row] == codes[within.col]
        Q_w = sparse.csr_array(
            (within.data[same], (within.row[same], within.col[same])), shape=Q.shape
        )
        return np.asarray(Q @ residuals + Q_w @ effects)

    @property
    def structure_columns(self) -> Mapping[str, pd.Series]:
        """Positions and subjects of the rows, from their codes."""
        model, spec = self._model, self._model.spec
        labels = [
            (values, positions[model.subjects])
            for values, positions in zip(
                spec.levels.factor_values, spec.levels.value_positions, strict=True
            )
        ]
        found = {
            encode(name): pd.Series(values.to_numpy()[codes])
            for name, (values, codes) in zip(spec.factors, labels, strict=True)
        }
        points = spec.points_by_column
        for name, of_column in zip(spec.columns, points, strict=True):
            found[encode(name)] = pd.Series(of_column).take(model.positions).reset_index(drop=True)
        return found

    @property
    def residual_groups(self) -> tuple[str, ...]:
        """What predictions can include beside random effects."""
        return ("Residual",)

    def known_residuals(self, rows: ModelRows, data: Any) -> KnownResiduals | None:
        """Prediction of new rows' residuals from those of their subjects."""
        new = self._model.new_rows(data, self.params)
        model = self._model
        if (new.known >= 0).any() and not len(rows.y):  # a fit without rows raises here
            return None
        roots = model.root_weights(self.params, rows.weights)
        return new.known_residuals(model.subjects, model.positions, model.strata, roots)

    def statsmodels_result(
        self, design: Design, likelihood: GaussianLikelihood, theta: Vector
    ) -> Any:
        """Refuse: MixedLM and OLS have independent residuals."""
        raise EngineRefusal(
            f"statsmodels has no mixed model with {self.model.spec.argument}: its residuals are "
            "independent."
        )
