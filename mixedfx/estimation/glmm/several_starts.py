"""Starting values of a model with several linear predictors.

First the mean as if it were alone, the zero part from the zeros beyond those that it expects, and
the dispersion as one number; then a search over all of them without random effects; then moment
estimates of the covariances from the working model of each predictor.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import special

from mixedfx.design.build import Design
from mixedfx.design.predictors import predictor_designs
from mixedfx.estimation.glmm.search import search
from mixedfx.estimation.glmm.starting_values import (
    LEAST_WEIGHT,
    MAX_SD,
    Start,
    fit_without_effects,
    starting_theta,
)
from mixedfx.estimation.glmm.working import working_crossproducts
from mixedfx.estimation.optimizer_result import Control
from mixedfx.families.derivatives import RowDerivatives
from mixedfx.likelihood.generalized.evaluated_rows import working_sums
from mixedfx.likelihood.generalized.likelihood import GeneralizedLikelihood, Point
from mixedfx.likelihood.generalized.rows import GeneralizedRows
from mixedfx.likelihood.generalized.several_predictors import SeveralRows

Vector = npt.NDArray[np.float64]

# Largest size of a starting linear predictor of the zero part and its smallest excess of zeros.
_LEAST_EXCESS = 0.05
# Gain of a step at which the search without random effects ends.
_TOLERANCE = 1e-4


def several_start(design: Design, rows: SeveralRows, theta: Vector | None) -> Start:
    """Starting point; theta of the first predictor, of the columns of its formula, may be given."""
    first = _first_point(rows)
    alone = GeneralizedLikelihood(rows.without_effects())
    found = search(alone, np.zeros(0), first, Control(tolerance=_TOLERANCE))
    if np.isfinite(found.end.value):
        first = found.evaluation.point
    at = rows.derivatives(
        rows.fixed_predictor(first.beta), rows.family.natural(first.family_coordinates)
    )
    thetas = []
    for k, (part, own) in enumerate(zip(predictor_designs(design), rows.slices, strict=True)):
        weight = np.maximum(at.weight[k, k], LEAST_WEIGHT)
        of_part = RowDerivatives(at.value, at.first[k], weight, None)
        with np.errstate(all="ignore"):
            sums = working_sums(rows.parts[k], 0.0, of_part)
            working = working_crossproducts(part.spec, rows.parts[k], first.beta[own], sums)
            thetas.append(starting_theta(working, None if k else theta, MAX_SD))
    joined = np.concatenate(thetas)
    factors = tuple(rows.parametrization.coordinates.lambdas(joined))
    return Start(replace(first, factors=factors), joined)


def _first_point(rows: SeveralRows) -> Point:
    """Coefficients of each predictor, and parameters, without random effects."""
    density, mean = rows.density, rows.parts[0]
    zero = mean.y == 0.0
    counted = mean.of_mask(~zero) if density.family.truncated else mean
    beta, params = fit_without_effects(counted)
    betas = [beta]
    if density.zeros:
        of_zero = replace(rows.parts[1], y=zero.astype(float), weights=None)
        if density.family.truncated:
            betas.append(fit_without_effects(of_zero)[0])
        else:
            excess = _excess_zeros(mean, beta, params, zero)
            betas.append(_constant(of_zero, float(special.logit(excess))))
    names = density.family.param_names
    if density.dispersion:
        at = names.index(str(density.family.dispersion_param))
        betas.append(_constant(rows.parts[-1], float(np.log(params[at]))))
        params = np.delete(params, at)
    return Point((), np.concatenate(betas), density.coordinates(params))


def _excess_zeros(
    mean: GeneralizedRows, beta: Vector, params: Vector, zero: npt.NDArray[np.bool_]
) -> float:
    """Probability of a zero beside those that the family expects."""
    eta = mean.fixed_predictor(beta)
    with np.errstate(all="ignore"):
        log_zero = mean.family.derivatives(np.zeros_like(mean.y), mean.weights, eta, params).value
        if mean.weights is not None and not mean.family.takes_trials:
            log_zero = log_zero / mean.weights
        expected = float(np.exp(log_zero).mean())
    share = float(zero.mean())
    excess = (share - expected) / max(1.0 - expected, _LEAST_EXCESS)
    return float(np.clip(excess, _LEAST_EXCESS, 1.0 - _LEAST_EXCESS))


def _constant(part: GeneralizedRows, value: float) -> Vector:
    """Coefficients whose predictor is nearest to a constant."""
    target = np.full(len(part.y), value)
    if part.offset is not None:
        target = target - part.offset
    return np.asarray(np.linalg.lstsq(part.X, target, rcond=None)[0])
