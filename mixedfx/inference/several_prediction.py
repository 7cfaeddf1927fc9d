"""Predictions of models with several linear predictors.

The mean of the response ``f(eta_1, ..., eta_m)`` has by the delta method the variance

    sum_kl f_k f_l (G_k V G_l' + z_k'C_kl z_l),

with ``f_k = df/deta_k``, G_k the derivatives of ``eta_k`` by all free parameters with covariance V,
modes included, and C the conditional covariance of the random effects of all predictors. Its
limits are those on the scale of the link, transformed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse, special

from mixedfx._cached import cached_property
from mixedfx.design.source import as_frame
from mixedfx.errors import ArgumentError, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.glmm.several_estimate import PredictorEstimate, SeveralEstimate
from mixedfx.estimation.glmm.several_predictors import several_rows
from mixedfx.families.family import Family
from mixedfx.inference import prediction
from mixedfx.inference.new_rows import new_weights
from mixedfx.inference.prediction import Wanted, rows_of_predictor, unknown_effects_variance
from mixedfx.inference.response_scale import Predicted
from mixedfx.likelihood.prediction_variance import (
    PredictionErrors,
    PredictionRows,
    of_sparse_rows,
    prediction_errors,
    sparse_rows,
)
from mixedfx.linalg.cholesky.inverse_blocks import log_det_derivatives
from mixedfx.linalg.normal_expectation import expectation
from mixedfx.residuals.predictive import FamilyPredictive
from mixedfx.residuals.several_distribution import WithZeros

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Argument whose predictor which= asks for.
_PARTS = {"zero": "zero_inflation", "dispersion": "dispersion"}


def predict(fit: FittedModel, data: Any = None, **wanted: Any) -> pd.Series | pd.DataFrame:
    """Prediction of a fit with one linear predictor or several."""
    parts, asked = fit.residual.predictors, Wanted(**wanted)
    if not parts:
        return prediction.predict(fit, data, **wanted)
    asked.check(fit)
    fits = fit.predictors
    random = _checked_groups(fits, asked)
    if asked.which in _PARTS:
        part = parts[_PARTS[asked.which]]
        return prediction.predict(part, data, **_own(part, random, {**wanted, "which": "mean"}))
    if asked.which == "linear":
        return prediction.predict(fit, data, **_own(fit, random, wanted))
    return _of_mean(fits, data, asked, random)


def _checked_groups(fits: Sequence[FittedModel], asked: Wanted) -> str | Sequence[str]:
    """Grouping factors of all predictors that are included."""
    groups = tuple(dict.fromkeys(g for fit in fits for g in fit.formula.groups))
    random = asked.random
    if random is None:
        random = "all" if asked.average is None else "none"
    if isinstance(random, str):
        check_choice("random", random, ("all", "none", *groups))
        return random if random in ("all", "none") else [random]
    prediction.check_names_of_groups(random)
    for name in random:
        check_choice("random", name, groups)
    return list(random)


def _own_groups(fit: FittedModel, random: str | Sequence[str]) -> str | Sequence[str]:
    """Groups that are included of one predictor, which may not have all of them."""
    return random if isinstance(random, str) else [g for g in random if g in fit.formula.groups]


def _own(fit: FittedModel, random: str | Sequence[str], wanted: dict[str, Any]) -> dict[str, Any]:
    """What is asked of one predictor."""
    return {**wanted, "random": _own_groups(fit, random)}


@dataclass(frozen=True)
class _Predictor:
    """One linear predictor in the rows that are predicted."""

    fit: FittedModel
    eta: Vector
    rows: PredictionRows

    @property
    def estimate(self) -> PredictorEstimate:
        """Its estimates."""
        assert isinstance(self.fit.residual, PredictorEstimate)
        return self.fit.residual

    @cached_property
    def errors(self) -> PredictionErrors:
        """Errors of the linear predictor."""
        uncertainty = self.estimate.parameter_uncertainty(self.fit.solution)
        return prediction_errors(self.fit.solution, self.rows, uncertainty)

    @property
    def gradient(self) -> Matrix:
        """Derivatives by the free parameters in the order of the search, (n, m)."""
        gradient = np.empty_like(self.errors.gradient)
        gradient[:, self.estimate.order] = self.errors.gradient
        return gradient

    @property
    def response_variance(self) -> Vector:
        """Variance of the error of the predictor of a new response: effects left out are new."""
        return self.errors.variance + unknown_effects_variance(self.fit, self.rows)

    def rows_among_all(self, size: int) -> sparse.csr_array:
        """Entries of Z among the effects of all predictors, (n, q)."""
        own = sparse_rows(self.fit.crossprod, self.rows).tocoo()
        columns = self.estimate.effects_of_one.index[own.coords[1]]
        return sparse.csr_array((own.data, (own.coords[0], columns)), (len(self.eta), size))


def _of_mean(
    fits: Sequence[FittedModel], data: Any, asked: Wanted, random: str | Sequence[str]
) -> pd.Series | pd.DataFrame:
    """Mean of the response, or with ``which="conditional"`` that of the conditional part."""
    first = fits[0].residual
    assert isinstance(first, SeveralEstimate)
    if asked.average is not None:
        return _averaged(fits, data, asked, random)
    index, found = None, []
    effects = asked.interval == "prediction"
    for fit in fits:
        groups = _own_groups(fit, random)
        index, eta, rows = rows_of_predictor(fit, data, groups, asked.new_levels, effects=effects)
        found.append(_Predictor(fit, eta, rows))
    etas = np.array([of.eta for of in found])
    zeros = asked.which == "mean"
    if zeros:
        mean = first.density.mean(etas, first.params)
    else:
        of_rows = first.density.params_of_rows(etas, first.params)
        mean = first.density.family.response_mean(etas[0], of_rows)
    predicted = pd.Series(mean, index=index, name="predicted")
    if asked.interval is None and not asked.se:
        return predicted
    slopes = first.density.mean_slopes(etas, first.params, zeros=zeros)
    by_params = first.density.mean_by_params(etas, first.params, zeros=zeros)
    of_effects = _of_effects(found, slopes, first, used=data is None and random == "all")
    sd = np.sqrt(_of_parameters(found, slopes, by_params, first) + of_effects)
    table = pd.DataFrame({"predicted": predicted})
    if asked.se:
        table["std_error"] = np.where(np.isnan(mean), np.nan, sd)
    if asked.interval == "prediction":
        table["conf_low"], table["conf_high"] = _of_responses(found, data, asked.conf_level)
    if asked.interval == "confidence":
        table["conf_low"], table["conf_high"] = _limits(first, mean, sd, asked.conf_level)
    return table


def _of_parameters(
    found: Sequence[_Predictor], slopes: Matrix, by_params: Matrix | None, first: SeveralEstimate
) -> Vector:
    """Part of the variance of the mean's error that is of the parameters, (n,)."""
    gradient = np.zeros((slopes.shape[1], len(first.x)))
    for s, of in zip(slopes, found, strict=True):
        gradient += s[:, None] * of.gradient
    if by_params is not None:  # the last of the free parameters
        gradient[:, gradient.shape[1] - len(by_params) :] += by_params.T
    cov = np.empty_like(first.acov)
    cov[np.ix_(first.order, first.order)] = first.acov
    variance = np.einsum("nm,mk,nk->n", gradient, cov, gradient)
    return np.asarray(np.maximum(variance, 0.0))


def _of_effects(
    found: Sequence[_Predictor], slopes: Matrix, first: SeveralEstimate, *, used: bool
) -> Vector:
    """Part that is of the random effects given the parameters; ``used``: in the rows of the fit."""
    pairs = zip(slopes, found, strict=True)
    with_effects = [(s, of) for s, of in pairs if of.fit.crossprod.term_positions]
    if len(with_effects) < 2:
        alone = (s**2 * of.errors.conditional for s, of in with_effects)
        return np.asarray(sum(alone, np.zeros(slopes.shape[1])))
    numeric = first.effects.numeric
    if used:
        G = log_det_derivatives(numeric)
        h = several_rows(found[0].fit.design).quadratic(G.diagonal, G.off_diagonal)
        return np.asarray(np.einsum("an,abn,bn->n", slopes, h, slopes))
    Z = sum(
        sparse.diags_array(s) @ of.rows_among_all(numeric.symbolic.size) for s, of in with_effects
    )
    return of_sparse_rows(sparse.csr_array(Z), numeric.solve)


def _limits(
    first: SeveralEstimate, mean: Vector, sd: Vector, conf_level: float
) -> tuple[Vector, Vector]:
    """Limits on the scale of the link, transformed."""
    family = first.density.family
    with np.errstate(all="ignore"):
        center = family.link.link(mean)
        slope = family.link.mean_derivatives(center, mean)[0]
        about = Predicted(center, sd / np.abs(slope), slope, family.mean)
        return about.limits(special.ndtri(0.5 + conf_level / 2))


def _of_responses(
    found: Sequence[_Predictor], data: Any, conf_level: float
) -> tuple[Vector, Vector]:
    """
    Quantiles of new responses, the errors of the predictors taken as independent.

    The probability of a zero is averaged over those of its own predictor.
    """
    of_mean, first = found[0], found[0].fit.residual
    assert isinstance(first, SeveralEstimate)
    etas = np.array([of.eta for of in found])
    p = np.zeros(len(of_mean.eta))
    if first.density.zeros:
        with np.errstate(all="ignore"):
            p = expectation(special.expit, etas[1], np.sqrt(found[1].response_variance))
    variances = of_mean.response_variance
    known = np.asarray(np.isfinite([*etas, variances, p]).all(axis=0))
    params = first.density.params_of_rows(etas[:, known], first.params)
    weights = of_mean.fit.rows.weights if data is None else None
    if data is not None and of_mean.fit.spec.family.takes_trials:
        weights = new_weights(of_mean.fit, as_frame(data))
    weights = None if weights is None else weights[known]
    family = cast(Family, WithZeros(first.density.family, p[known]))
    shares = [0.5 - conf_level / 2, 0.5 + conf_level / 2]
    limits = np.full((2, len(known)), np.nan)
    limits[:, known] = FamilyPredictive(family, params, weights).quantiles(
        of_mean.eta[known], variances[known], shares
    )
    return limits[0], limits[1]


def _averaged(
    fits: Sequence[FittedModel], data: Any, asked: Wanted, random: str | Sequence[str]
) -> pd.Series:
    """Product of the averages: random effects of different predictors are independent."""
    if asked.interval is not None or asked.se:
        raise ArgumentError(
            "average='population' of a model with zero_inflation= has no standard error here: "
            "leave se= and interval= out, or take random='none'."
        )
    fit, family = fits[0], fits[0].spec.family
    if "dispersion" in fit.residual.predictors and family.truncated:
        raise ArgumentError(
            f"average='population' of the family '{family.name}' with dispersion= is an integral "
            "over two linear predictors, which is not computed: take random='none'."
        )
    zero = fit.residual.predictors.get("zero_inflation")
    plain = replace(asked, which="mean" if zero is None else "conditional")
    mean = prediction.predict(fit, data, **_own(fit, random, vars(plain)))
    if zero is None or asked.which == "conditional":
        return pd.Series(mean)
    absent = prediction.predict(zero, data, **_own(zero, random, {**vars(asked), "which": "mean"}))
    return pd.Series((1.0 - absent) * mean).rename("predicted")
