"""Summaries of a generalised model's rows in blocks, which are read once more for them.

As of rows in memory, the variance of an observation is taken at a typical mean: that of the model
without predictors, which is fitted where the family's method asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mixedfx.design.rows import ModelRows
from mixedfx.design.stream.streamed_rows import StreamedRows, known
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.glmm.fit import search_from
from mixedfx.estimation.glmm.starting_values import start_at
from mixedfx.estimation.glmm.working import basis_coefficients
from mixedfx.estimation.optimizer_result import Control
from mixedfx.inference.sampled_rows import with_rows
from mixedfx.inference.variance_explained import VarianceShares, with_intercept_alone
from mixedfx.likelihood.generalized.blocked_rows import BlockedAt, BlockedRows, RowBlock, RowBlocks
from mixedfx.likelihood.generalized.evaluated_rows import EvaluatedRows
from mixedfx.likelihood.generalized.likelihood import GeneralizedLikelihood
from mixedfx.likelihood.stream.moments import RowMoments
from mixedfx.streamed.summaries import with_summaries

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Intercepts(RowBlocks):
    """Blocks with an intercept in the place of their fixed columns."""

    blocks: RowBlocks

    def __iter__(self) -> Iterator[RowBlock]:
        """Read the blocks."""
        for block in self.blocks:
            yield replace(block, X=np.ones((len(block.y), 1)), qr_R=np.eye(1))


def with_family_summaries(fit: FittedModel, rows: BlockedRows, moments: RowMoments) -> FittedModel:
    """The fit with the summaries that the family's density and mean are in."""
    known = cast(StreamedRows, fit.rows)
    shares: VarianceShares = known.summaries["variance shares"]
    variance = fit.residual.observation_variance(
        shares.method, lambda: np.nan, lambda: _typical_mean(fit, rows, moments)
    )
    summaries = {
        **known.summaries,
        "variance shares": replace(shares, residual=variance),
        "family deviance": _family_deviance(fit, rows),
    }
    own = replace(known, summaries=summaries)
    return with_rows(fit, cast(ModelRows, own))


def _family_deviance(fit: FittedModel, rows: BlockedRows) -> float:
    """Sum of the unit deviances at the conditional modes."""
    family, params = fit.spec.family, fit.residual.distribution_params
    effects = rows.zero_effects
    modes = fit.solution.conditional_modes_in_basis()
    for position, b in zip(rows.term_positions, modes, strict=True):
        effects[position.group][position.columns] = b
    beta = basis_coefficients(rows, fit.solution.beta)

    def unit_deviances(at: EvaluatedRows) -> float:
        own = cast(RowBlock, at.rows)
        mu = family.mean(at.eta)
        return float(family.unit_deviance(own.y, mu, own.weights, params).sum())

    return BlockedAt(rows, beta, tuple(effects), params).total(unit_deviances)


def _typical_mean(fit: FittedModel, rows: BlockedRows, moments: RowMoments) -> float:
    """Mean of the response in the model without predictors, at the mean offset."""
    intercept, lambdas = float(fit.solution.beta[0]), list(fit.solution.lambdas)
    if fit.spec.X_names != ("Intercept",):
        intercept, lambdas = _without_predictors(fit, rows)
    n, terms = moments.n, zip(moments.squares, lambdas, strict=True)
    variance = sum(float(np.trace(lam.T @ squares @ lam)) for squares, lam in terms) / n
    eta = intercept + moments.offset_sum / n
    return fit.spec.family.link.marginal_mean(eta, variance)


def _without_predictors(fit: FittedModel, rows: BlockedRows) -> tuple[float, list[Matrix]]:
    """Intercept and covariance factors of the model with no other fixed column."""
    drawn = cast(StreamedRows, fit.rows).random_sample
    null = replace(rows, qr_R=np.eye(1), blocks=_Intercepts(rows.blocks))
    beta = np.array([float((drawn.X @ fit.solution.beta).mean())])
    spec, params = with_intercept_alone(fit.spec), fit.residual.distribution_params
    start = start_at(spec, null, beta, params, None)
    found = search_from(GeneralizedLikelihood(null), start, Control()).evaluation.point
    factors = zip(rows.bases, found.factors, strict=True)
    return float(found.beta[0]), [np.asarray(basis.T @ F) for basis, F in factors]


def completed(fit: FittedModel) -> FittedModel:
    """A fit of a smaller model than the rows were read for, with the summaries of its rows."""
    rows: Any = fit.rows
    if rows.in_memory or rows.combined is None:
        return fit
    reduced = known(rows)
    moments: RowMoments = reduced.moments.of_columns(rows.combined)
    fit = with_summaries(fit, moments)
    if fit.spec.residual.linear:
        return fit
    return with_family_summaries(fit, reduced.model_rows(fit.design), moments)
