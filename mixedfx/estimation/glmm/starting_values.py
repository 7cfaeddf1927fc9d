"""Starting values of a generalised model: without random effects, then by the working model.

Iteratively reweighted least squares without random effects (McCullagh and Nelder 1989, section
2.5) give beta and the family's parameters; moment estimates of the working linear model there give
the covariances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.design.checks import independent_columns
from mixedfx.design.evaluation import build_matrices
from mixedfx.design.rows import ModelRows
from mixedfx.design.spec import ModelSpec
from mixedfx.errors import SearchError
from mixedfx.estimation.glmm.working import (
    basis_coefficients,
    own_coefficients,
    working_crossproducts,
)
from mixedfx.estimation.starting_values import floor_eigenvalues, moment_estimates
from mixedfx.families.family import RowDerivatives
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.generalized.blocked_rows import BlockedRows
from mixedfx.likelihood.generalized.likelihood import Point
from mixedfx.likelihood.generalized.rows import GeneralizedRows
from mixedfx.likelihood.generalized.rows_model import RowsModel
from mixedfx.linalg.symmetric import solve_positive

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

_MAX_ITERATIONS = 50
_MAX_HALVINGS = 30
# Newton decrement of a start that is good enough.
_TOLERANCE = 1e-6
# The same of coefficients with parameters of the predictor: random effects move both by more.
_ENOUGH = 2.0
# Largest starting sd of an effect of a column of unit root mean square, on the link's scale; in
# units of the predictor where its sign must not change.
MAX_SD, _MAX_SIGNED_SD = 2.0, 0.3
# Weight that rows have at least in the working model of a start.
LEAST_WEIGHT = 1e-10


@dataclass(frozen=True)
class Start:
    """A point, and the coordinates of its covariances."""

    point: Point
    theta: Vector  # coordinates of the scaled factors


def fit_without_effects(rows: GeneralizedRows) -> tuple[Vector, Vector]:
    """Coefficients in the basis and family parameters without random effects."""
    family = rows.family
    params = family.first_params(rows.y, rows.weights)
    with np.errstate(all="ignore"):
        together = _newton_of_all(rows, family.coordinates(params))
        if together is not None:
            return together
        beta = first_coefficients(rows, family.starting_mean(rows.y, rows.weights), params)
        beta = _newton(rows, beta, params)
        for _ in range(2 if len(params) else 0):
            mean = family.mean(rows.fixed_predictor(beta))
            params = family.starting_params(rows.y, rows.weights, mean)
            beta = _newton(rows, beta, params)
    return beta, params


def first_coefficients(rows: GeneralizedRows, mu: Vector, params: Vector) -> Vector:
    """Least squares of the link of the starting mean, shrunk to the mean where that is invalid."""
    eta = np.asarray(rows.family.link.link(mu))
    target = eta if rows.offset is None else eta - rows.offset
    if not rows.p:
        return np.zeros(0)
    w = _working_weights(rows, eta, params)
    beta = np.linalg.lstsq(rows.fixed_products(w), rows.fixed_sums(w * target), rcond=None)[0]
    total = float((w * target).sum() / w.sum())
    constant = np.linalg.lstsq(rows.X, np.full(len(eta), total), rcond=None)[0]
    for share in (1.0, 0.5, 0.25, 0.0):
        tried = share * beta + (1.0 - share) * constant
        at = _at(rows, tried, params)
        if np.isfinite(at.value.sum()):
            return np.asarray(tried)
    return np.asarray(constant)


def _working_weights(rows: GeneralizedRows, eta: Vector, params: Vector) -> Vector:
    """Weights of the first step of iteratively reweighted least squares, at the starting means."""
    prior = np.ones(len(eta)) if rows.weights is None else rows.weights
    # Observed weights are the expected ones where the response is its own mean.
    w = rows.family.derivatives(rows.y, rows.weights, eta, params).weight
    return w if np.isfinite(w).all() and (w > 0.0).any() and (w >= 0.0).all() else prior


def _at(rows: GeneralizedRows, beta: Vector, params: Vector) -> RowDerivatives:
    eta = rows.fixed_predictor(beta)
    return rows.family.derivatives(rows.y, rows.weights, eta, params, third=False)


def _newton(rows: GeneralizedRows, beta: Vector, params: Vector) -> Vector:
    """Damped Newton steps in beta."""
    at = _at(rows, beta, params)
    value = float(at.value.sum())
    if not np.isfinite(value):
        raise SearchError(
            f"no starting value: without random effects the mean of '{rows.family.name}' with "
            f"link '{rows.family.link.name}' is outside its range in some rows. Use a link that "
            f"keeps it inside ({', '.join(rows.family.other_links)}), or give start=."
        )
    for _ in range(_MAX_ITERATIONS if rows.p else 0):
        weight = at.weight if (at.weight > 0.0).all() else np.maximum(np.abs(at.weight), 1e-8)
        score = rows.fixed_sums(at.first)
        information = rows.fixed_products(weight)
        step = np.linalg.lstsq(information, score, rcond=1e-14)[0]
        decrement = float(score @ step)
        share = 1.0
        for _ in range(_MAX_HALVINGS):
            tried = _at(rows, beta + share * step, params)
            if float(tried.value.sum()) >= value - 1e-12 * abs(value):
                break
            share *= 0.5
        else:
            break
        beta, at, value = beta + share * step, tried, float(tried.value.sum())
        if decrement < _TOLERANCE:
            break
    return beta


class _WithoutEffects(NamedTuple):
    """Log likelihood by coefficients and coordinates of the family's parameters."""

    value: float
    score: Vector
    information: Matrix


def _without_effects(rows: GeneralizedRows, x: Vector) -> _WithoutEffects | None:
    """Where the family has second derivatives by its parameters in closed form."""
    p = rows.p
    eta, params = rows.fixed_predictor(x[:p]), rows.family.natural(x[p:])
    known = rows.all_derivatives(eta, params)
    if known is None:
        return None
    (value, first, weight, _), by = known.rows, known.by_params
    information = np.empty((len(x), len(x)))
    information[:p, :p] = rows.fixed_products(weight)
    information[:p, p:] = -rows.X.T @ by.first.T
    information[p:, :p] = information[:p, p:].T
    information[p:, p:] = -known.by_two(1.0, 0.0, 0.0)
    score = np.concatenate([rows.fixed_sums(first), by.value.sum(axis=1)])
    return _WithoutEffects(float(value.sum()), score, information)


def _newton_of_all(rows: GeneralizedRows, coordinates: Vector) -> tuple[Vector, Vector] | None:
    """
    Damped Newton steps of coefficients, from zero, and parameters together, to one of little gain.

    None where the family does not have the derivatives.
    """
    x = np.concatenate([np.zeros(rows.p), coordinates])
    at = _without_effects(rows, x)
    if at is None or not np.isfinite(at.value):
        return None
    for _ in range(_MAX_ITERATIONS):
        step = solve_positive(floor_eigenvalues(at.information), at.score)
        if step is None:
            return None
        if float(at.score @ step) < _ENOUGH:
            x = x + step
            break
        for _ in range(_MAX_HALVINGS):
            tried = _without_effects(rows, x + step)
            if tried is not None and tried.value > at.value:
                break
            step = 0.5 * step
        else:
            break
        x, at = x + step, tried
    return x[: rows.p], rows.family.natural(x[rows.p :])


def starting_point(design: Design, rows: RowsModel, theta: Vector | None = None) -> Start:
    """
    Coefficients and parameters without random effects, covariances of the working model.

    Theta, of the columns of the formula, takes the place of these. Rows in blocks may know where
    to start, or else a part of them in memory, with the extremes of each column, has coefficients.
    """
    if isinstance(rows, BlockedRows):
        beta, params = rows.start or _of_part(design, rows)
    else:
        beta, params = fit_without_effects(cast(GeneralizedRows, rows))
    return start_at(design.spec, rows, beta, params, theta)


def _of_part(design: Design, rows: BlockedRows) -> tuple[Vector, Vector]:
    """Coefficients in the basis of all rows, and parameters, of the rows in memory."""
    spec, part = design.spec, design.rows.sample
    columns = independent_part(spec, part)
    alone = Design(
        replace(spec, random_terms=(), kept_columns=columns), replace(part, random_terms=())
    )
    few = GeneralizedRows.of(alone)
    beta, params = fit_without_effects(few)
    own = np.zeros(len(spec.column_names))
    own[columns] = own_coefficients(few, beta)
    return basis_coefficients(rows, own[spec.kept_columns]), params


def independent_part(spec: ModelSpec, part: ModelRows) -> Codes:
    """Fixed columns that a part of the rows has: those of all rows but for dependent ones."""
    if part.X.shape[1] == len(spec.kept_columns):
        return spec.kept_columns
    (fixed,) = build_matrices([spec.fixed_info], part.variables, part.n)
    return independent_columns(fixed)


def start_at(
    spec: ModelSpec, rows: RowsModel, beta: Vector, params: Vector, theta: Vector | None
) -> Start:
    """Given coefficients and parameters, with covariances of the working model, or theta."""
    parametrization = rows.parametrization
    with np.errstate(all="ignore"):
        at = rows.at(rows.fixed_predictor(beta), rows.zero_effects, params)
        crossprod = working_crossproducts(spec, rows, beta, at.working(LEAST_WEIGHT))
        most = _MAX_SIGNED_SD if rows.family.link.keeps_sign else MAX_SD
        theta = starting_theta(crossprod, theta, most)
    factors = tuple(parametrization.coordinates.lambdas(theta))
    larger = _unattenuated(rows, factors)
    params = rows.family.rescaled(params, larger)
    return Start(Point(factors, larger * beta, rows.family.coordinates(params)), theta)


def _unattenuated(rows: RowsModel, factors: Sequence[Matrix]) -> float:
    """
    Ratio of coefficients given the random effects to those of the mean, where it is known.

    A latent variable of variance v has, averaged over effects of variance s, the variance
    ``v + s`` (exactly so of a normal one): Zeger, Liang and Albert (1988, Biometrics 44:1049).
    """
    latent = rows.family.link.latent_variance
    if latent is None or not np.isfinite(latent):
        return 1.0
    of_effects = sum(float((F**2).sum()) for F in factors)
    return float(np.sqrt(1.0 + of_effects / latent))


def starting_theta(working: CrossProducts, theta: Vector | None, most: float) -> Vector:
    """
    Moment estimates of the working model, or theta of the columns of the formula, in the bases.

    Estimated standard deviations are at most so much on the link's scale.
    """
    parametrization = working.parametrization
    if theta is not None:
        return parametrization.to_params(working.factors_at(theta))
    if not parametrization.size:
        return np.zeros(0)
    factors = []
    for F in parametrization.coordinates.lambdas(moment_estimates(working)):
        largest = float(np.sqrt((F**2).sum(axis=1)).max(initial=0.0))
        factors.append(F * min(1.0, most / largest) if largest > 0.0 else F)
    return parametrization.to_params(factors)
