"""Independent residuals whose log standard deviation is a function of parameters, by stratum.

Rows of one stratum have one standard deviation, apart from prior weights. With the weights
``w_i = exp(-2 f_s(params))`` of rows in stratum ``s`` the deviance has the gradient

    dd / dlog w_i = h_i - 1 + w_i e_i^2 / sigma^2,

with ``e_i`` a row's conditional residual and ``h_i`` its leverage: of the random effects under ML,
of random and fixed effects under REML (Smyth 2002, J. Comput. Graph. Stat. 11:836).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.design.rows import ModelRows
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.prediction_variance import (
    conditional_residuals,
    prediction_rows,
    unscaled_prediction_variance,
)
from mixedfx.likelihood.residual_directions import ResidualDirections, StratumVariances
from mixedfx.likelihood.stratified import StratifiedSums, sum_by_stratum
from mixedfx.likelihood.stratum_score import stratum_residuals
from mixedfx.residuals.degenerate import (
    check_degenerate_strata,
    raise_degenerate_stratum,
    vanishing,
)
from mixedfx.residuals.model import ResidualModel

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

# A standard deviation, relative to the mean one, below the first bound is taken to be zero; below
# the second it is if the stratum has fewer residual degrees of freedom than the third.
_ZERO_SD, _SMALL_SD, _MIN_RESIDUAL_DF = 1e-4, 1e-2, 1e-2
# Least mean square of a stratum among starting values, over that of all rows.
_LEAST_SHARE = 1e-3
# Log standard deviations further from their mean have an infinite deviance.
MAX_LOG_RATIO = math.log(1e7)


class VarianceFunction(ResidualModel, ABC):
    """
    One standard deviation a stratum.

    A new model has ``codes`` (n,) as a field or property, and writes the abstract methods.
    """

    takes_related_levels = True

    codes: Codes

    @abstractmethod
    def stratum_log_sds(self, params: Vector) -> Vector:
        """Log standard deviation (strata,) of each stratum, relative to sigma."""

    @abstractmethod
    def log_sd_jacobian(self, params: Vector) -> Matrix:
        """Derivatives (strata, k) of :meth:`stratum_log_sds`."""

    @abstractmethod
    def new_codes(self, data: Any) -> Codes:
        """Strata of new rows; -1 where unknown."""

    def stratum_label(self, row: int) -> str:
        """Name of the stratum of a row, in messages."""
        return f"{self.codes[row]} of {self.spec.argument}"

    @property
    def variables(self) -> tuple[str, ...]:
        """Variables that strata are made from, for messages."""
        return ()

    def subset(self, spec: Any, keep: Mask | Codes) -> tuple[Any, Self]:
        """Select rows."""
        return spec, replace(cast(Any, self), codes=self.codes[keep])

    @property
    def counts(self) -> Vector:
        """Number of rows of each stratum, (strata,)."""
        return np.bincount(self.codes).astype(float)

    def centred_log_sds(self, params: Vector) -> Vector:
        """Log standard deviations of the strata, relative to their mean over the rows."""
        log_sds = self.stratum_log_sds(params)
        return np.asarray(log_sds - np.average(log_sds, weights=self.counts))

    def log_sds(self, params: Vector) -> Vector:
        """Log standard deviations of the rows."""
        return np.asarray(self.stratum_log_sds(params)[self.codes])

    def contains(self, params: Vector) -> bool:
        """Whether the ratios of standard deviations are in double precision."""
        return bool(np.abs(self.centred_log_sds(params)).max() <= MAX_LOG_RATIO)

    def expected_hessian(self, params: Vector) -> Matrix:
        """``4 sum_s n_s (J_s - mean J)'(J_s - mean J)``, sigma profiled, no random effects."""
        J, counts = self.log_sd_jacobian(np.zeros(self.n_params)), self.counts
        centred = J - counts @ J / counts.sum()
        return np.asarray(4.0 * centred.T @ (counts[:, None] * centred))

    def params_near(self, residuals: Vector, weights: Vector | None) -> Vector:
        """Least-squares fit of the log root mean squares of the strata, weighted by their rows."""
        squares = residuals**2 if weights is None else weights * residuals**2
        return self.params_of_squares(np.bincount(self.codes, squares).astype(float))

    def params_of_squares(self, squares: Vector) -> Vector:
        """The same, from the sums of squared residuals of the strata."""
        mean_squares = squares / self.counts
        floor = _LEAST_SHARE * float(squares.sum() / self.counts.sum())
        log_sds = 0.5 * np.log(np.maximum(mean_squares, max(floor, 1e-300)))
        J, root = self.log_sd_jacobian(np.zeros(self.n_params)), np.sqrt(self.counts)
        columns = root[:, None] * np.column_stack([np.ones(len(root)), J])
        return np.asarray(np.linalg.lstsq(columns, root * log_sds, rcond=None)[0][1:])

    def reduce(self, design: Design) -> StratifiedSums:
        """Cross-products by stratum."""
        return sum_by_stratum(design, self.codes)

    def reweight(self, sums: StratifiedSums, params: Vector) -> CrossProducts:
        """Weighted sum over the strata."""
        return sums.reweight(np.exp(-2.0 * self.stratum_log_sds(params)))

    def score(
        self, sums: StratifiedSums | None, rows: ModelRows, params: Vector, solution: Solution
    ) -> Vector:
        """Chain rule from the log weights of the rows, summed by stratum where sums have all."""
        if sums is not None and sums.is_plain:
            w = np.exp(-2.0 * self.stratum_log_sds(params))
            found = stratum_residuals(sums, solution, fixed=solution.reml)
            by_stratum = w * (found.leverage + found.squares / solution.sigma**2) - self.counts
        else:
            by_log_weight = score_log_weights(rows, solution, self.log_sds(params))
            by_stratum = np.bincount(self.codes, by_log_weight, len(self.counts)).astype(float)
        return np.asarray(-2.0 * self.log_sd_jacobian(params).T @ by_stratum)

    def variance_directions(self, sums: StratifiedSums, params: Vector) -> ResidualDirections:
        """Of the strata's variances."""
        weights = np.exp(-2.0 * self.stratum_log_sds(params))
        return StratumVariances.of(sums, weights, self.log_sd_jacobian(params))

    def check(self, design: Design, *, reml: bool) -> None:
        """Refuse a stratum with a standard deviation of its own that can be interpolated."""
        if len(self.counts) == self.n_params + 1:
            check_degenerate_strata(
                design, self.codes, self.stratum_label, self.variables, reml=reml
            )

    def check_optimum(
        self, design: Design, params: Vector, solution: Solution, *, converged: bool
    ) -> None:
        """Refuse a stratum whose standard deviation converges to zero."""
        log_sds = self.centred_log_sds(params)
        smallest = int(np.argmin(log_sds))
        if log_sds[smallest] > math.log(_SMALL_SD):
            return
        positive = converged and log_sds[smallest] > math.log(_ZERO_SD)
        if positive and self.residual_df(design, params, solution, smallest) > _MIN_RESIDUAL_DF:
            return
        if len(self.counts) > self.n_params + 1:  # no stratum has a coefficient of its own
            raise vanishing(self.spec.argument, self.spec.coefficient_names, params)
        raise_degenerate_stratum(
            design,
            self.stratum_name(smallest),
            self.variables,
            len(self.counts),
            int(self.counts[smallest]),
            "is fitted ever more closely",
        )

    def stratum_name(self, stratum: int) -> str:
        """Name of a stratum, in messages."""
        return self.stratum_label(int(np.argmax(self.codes == stratum)))

    def residual_df(
        self, design: Design, params: Vector, solution: Solution, stratum: int
    ) -> float:
        """Rows of a stratum less their leverage."""
        w = design.rows.combined_weights(np.exp(-2.0 * self.log_sds(params)))
        variance = unscaled_prediction_variance(
            solution, prediction_rows(design.rows), fixed=solution.reml
        )
        return float((1.0 - w * variance)[self.codes == stratum].sum())

    def new_variances(self, data: Any, sigma: float, params: Vector) -> Any:
        """Variances by stratum; NaN where the stratum is unknown."""
        codes = self.new_codes(data)
        variances = (sigma * np.exp(self.stratum_log_sds(params))) ** 2
        return np.where(codes < 0, np.nan, variances[np.maximum(codes, 0)])


def score_log_weights(rows: ModelRows, solution: Solution, log_sds: Vector) -> Vector:
    """``dd / dlog w_i`` (n,), with ``w_i = exp(-2 log_sd_i)`` times the row's own weight."""
    w = rows.combined_weights(np.exp(-2.0 * log_sds))
    residuals = conditional_residuals(rows, solution)
    leverage = w * unscaled_prediction_variance(
        solution, prediction_rows(rows), fixed=solution.reml
    )
    return np.asarray(leverage - 1.0 + w * residuals**2 / solution.sigma**2)
