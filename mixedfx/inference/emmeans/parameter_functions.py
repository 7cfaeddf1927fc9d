"""Functions of the coefficients and of a family's parameters, and their estimates by delta method.

With gradients ``g`` by the coefficients and ``h`` by the coordinates of the parameters, and the
joint covariance V of the two, a function has the variance ``(g, h)'V(g, h)``. Combinations and
averages are of functions that are linear about the estimates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.glmm.estimate import FamilyEstimate
from mixedfx.inference.emmeans.linear_functions import LinearFunctions
from mixedfx.likelihood.coefficient_covariance import combinations_in_basis

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ParameterFunctions(LinearFunctions):
    """Functions ``rows @ beta + offset`` about the estimates, with gradients by parameters too."""

    by_params: Matrix  # (r, m) by the coordinates of the family's parameters
    fit: FittedModel = field(repr=False)

    @staticmethod
    def of(
        linear: LinearFunctions, fit: FittedModel, value: Vector, slope: Vector, by_params: Matrix
    ) -> ParameterFunctions:
        """Functions of linear ones, whose derivatives by these are ``slope``."""
        at = linear.linearised(value, slope[:, None] * linear.rows, fit.solution.beta)
        return ParameterFunctions(at.rows, at.non_estimable, at.offset, by_params, fit)

    def _with(self, linear: LinearFunctions, by_params: Matrix) -> ParameterFunctions:
        return ParameterFunctions(
            linear.rows, linear.non_estimable, linear.offset, by_params, self.fit
        )

    def select(self, rows: slice | npt.NDArray[np.bool_]) -> ParameterFunctions:
        """Select some of the functions."""
        return self._with(super().select(rows), self.by_params[rows])

    def combine(self, weights: Matrix) -> ParameterFunctions:
        """Linear combinations of the functions."""
        return self._with(super().combine(weights), weights @ self.by_params)

    def average_cells(self, weights: Matrix) -> ParameterFunctions:
        """Weighted means of consecutive functions."""
        cells = self.by_params.reshape(*weights.shape, -1)
        by_params = np.einsum("mc,mcr->mr", weights, cells)
        return self._with(super().average_cells(weights), by_params)

    @staticmethod
    def stacked(parts: Sequence[ParameterFunctions]) -> ParameterFunctions:
        """All functions of several parts."""
        return ParameterFunctions(
            np.vstack([part.rows for part in parts]),
            np.vstack([part.non_estimable for part in parts]),
            np.concatenate([part.offset for part in parts]),
            np.vstack([part.by_params for part in parts]),
            parts[0].fit,
        )

    def covariance(self, ddf: object) -> Matrix:
        """Joint covariance of the functions, (r, r)."""
        estimate = self.fit.residual
        assert isinstance(estimate, FamilyEstimate)
        m = estimate.n_covariance
        in_basis = combinations_in_basis(self.rows, self.fit.crossprod.qr_R)
        G = np.hstack([in_basis, self.by_params])
        return np.asarray(G @ estimate.acov[m:, m:] @ G.T)

    def estimate(self, fit: FittedModel, ddf: object, conf_level: float) -> pd.DataFrame:
        """Estimate, z test and interval of each function; NaN for those not estimable."""
        value = self.values(fit.solution.beta)
        sd = np.sqrt(np.maximum(np.diag(self.covariance(ddf)), 0.0))
        half = special.ndtri(0.5 + conf_level / 2) * sd
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(sd > 0.0, value / sd, np.nan)
        columns = {
            "estimate": value,
            "std_error": sd,
            "df": np.full(len(value), np.inf),
            "statistic": z,
            "p_value": 2.0 * special.ndtr(-np.abs(z)),
            "conf_low": value - half,
            "conf_high": value + half,
        }
        table = pd.DataFrame(columns)
        table.loc[~self.estimable] = np.nan
        return table

    def estimable_rows(self) -> Matrix:
        """Refused: the functions are not linear in the coefficients alone."""
        if not np.abs(self.by_params).max(initial=0.0) > 1e-12 * np.abs(self.rows).max(initial=0.0):
            return super().estimable_rows()
        raise ArgumentError(
            "joint() tests linear predictors: take fit.emmeans(..., which='linear').joint(), or "
            "contrasts() of these means."
        )
