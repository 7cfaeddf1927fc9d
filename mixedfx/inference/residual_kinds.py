"""Residuals of the rows of a fit: of the response, scaled, and quantile residuals.

With mu the mean at the conditional modes:

==========  ==============================================================================
response    ``y - mu``
pearson     ``(y - mu) / sd(y)``, the standard deviation with weights and dispersion
normalized  of correlated residuals those that are independent, ``L^-1 (y - mu) / sigma`` with
            ``R = L L'`` of each subject; else those of Pearson
deviance    ``sign(y - mu) sqrt(d)``, d the unit deviance times the weight
working     ``(y - mu) / mean'(eta)``
quantile    ``Phi^-1(u)``, u uniform between ``P(Y < y)`` and ``P(Y <= y)``
==========  ==============================================================================

Quantile residuals (Dunn and Smyth 1996, J. Comput. Graph. Stat. 5:236) are standard normal under
the model. Of the marginal distribution the probabilities are shares of responses that are simulated
with new random effects (Hartig 2022, DHARMa): of n simulated responses and the observed one, which
are exchangeable, u is the rank over n + 1, ties broken at random. Given the conditional modes they
are the family's distribution function.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from mixedfx.errors import check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference import simulation
from mixedfx.inference.family_estimates import linear_predictor, unit_deviances
from mixedfx.linalg.random_streams import spawn_generators

Vector = npt.NDArray[np.float64]

KINDS = ("response", "pearson", "normalized", "deviance", "working", "quantile")

# Two responses this near are equal: proportions are of whole numbers.
_TIE = 1e-6


def residuals_of_kind(
    fit: FittedModel, kind: str, *, n: int = 250, random: str = "new", rng: Any = None
) -> pd.Series:
    """Residuals of one kind, named by it."""
    check_choice("kind", kind, KINDS)
    check_choice("random", random, simulation.RANDOM)
    values = _quantile(fit, n, random, rng) if kind == "quantile" else _of_mean(fit, kind)
    return pd.Series(values, index=fit.rows.index, name="resid" if kind == "response" else kind)


def pearson_residuals(fit: FittedModel) -> Vector:
    """Residuals over their standard deviations, (n,)."""
    return fit.residual.pearson_residuals(fit.rows, linear_predictor(fit), fit.solution.sigma)


def _of_mean(fit: FittedModel, kind: str) -> Vector:
    """Residuals about the mean at the conditional modes."""
    if kind == "pearson":
        return pearson_residuals(fit)
    rows, family, eta = fit.rows, fit.spec.family, linear_predictor(fit)
    if kind == "normalized":
        return fit.residual.normalized_residuals(rows, eta, fit.solution.sigma)
    raw = rows.y - fit.residual.fitted_mean(eta)
    if kind in ("working", "deviance"):
        fit.spec.residual.check_one_predictor(
            f"kind='{kind}'", "take kind='pearson' or kind='quantile'"
        )
    with np.errstate(all="ignore"):
        if kind == "working":
            params = fit.residual.distribution_params
            slope = family.response_mean_derivatives(eta, params)[0]
            return np.asarray(raw / slope)
        if kind == "deviance":
            squares = unit_deviances(fit, family.mean(eta))
            return np.asarray(np.sign(raw) * np.sqrt(np.maximum(squares, 0.0)))
    return np.asarray(raw)


def _quantile(fit: FittedModel, n: int, random: str, rng: Any) -> Vector:
    """Randomised quantile residuals."""
    if random == "fitted":
        uniform = spawn_generators(rng, 1)[0].random(fit.rows.n)
        return fit.residual.quantile_residuals(
            fit.rows, linear_predictor(fit), fit.solution.sigma, uniform
        )
    *generators, last = spawn_generators(rng, n + 1)
    distribution = simulation.response_distribution(fit, random="new")
    y = fit.rows.y
    tie = _TIE * np.ones(len(y))
    if fit.spec.family.takes_trials and fit.rows.weights is not None:
        tie = tie / np.maximum(fit.rows.weights, 1.0)
    if not fit.spec.family.discrete:
        tie = np.zeros(len(y))
    below, equal = np.zeros(len(y)), np.zeros(len(y))
    for generator in generators:
        difference = distribution.draw(generator) - y
        below += difference < -tie
        equal += np.abs(difference) <= tie
    rank = below + last.random(len(y)) * (equal + 1.0)
    return np.asarray(special.ndtri(rank / (n + 1.0)))
