"""Row functions that second derivatives of Laplace's approximation have beside those of its first.

Of a row's ``g = dl/deta`` and ``w = -d2l/deta2`` they are w'', ``w'_j`` and what is by two of the
family's parameters, always in sums with ``h`` and ``As``: in closed form where a family writes
that, else differences of exact derivatives.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixedfx.families.derivatives import AllDerivatives, ParamDerivatives
from mixedfx.likelihood.generalized.evaluated_rows import EvaluatedRows

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Steps of the differences, central by eta and forward by the family's coordinates.
_ETA_STEP, _PARAM_STEP = 1e-4, 1e-6


class RowCurvature(NamedTuple):
    """Of r predictors and q coordinates of the family's parameters."""

    by_eta: Array  # h w'', (r, r, n)
    by_family: Array  # h w'_j, (q, r, n)
    of_family: Matrix  # sum -2 v_jk + As g_jk + h w_jk, (q, q)


def row_curvature(at: EvaluatedRows, coordinates: Vector, h: Array, As: Array) -> RowCurvature:
    """At ``h`` (r, r, n) and ``As`` (r, n)."""
    if at.all_derivatives is not None:
        return _closed(at.all_derivatives, h[0, 0], As[0])
    by_eta, by_family = _by_eta(at, h)
    return RowCurvature(by_eta, by_family, _of_family(at, coordinates, h, As))


def _closed(of_rows: AllDerivatives, h: Vector, As: Vector) -> RowCurvature:
    """In closed form, of one predictor."""
    by_eta, by_family = h * of_rows.weight_curvature, h * of_rows.weight_slope
    return RowCurvature(by_eta[None, None], by_family[:, None], of_rows.by_two(-2.0, As, h))


def _by_eta(at: EvaluatedRows, h: Array) -> tuple[Array, Array]:
    """Central differences by each predictor."""
    r, n, q = *h.shape[1:], len(at.params)
    by_eta, by_family = np.empty((r, r, n)), np.empty((q, r, n))
    for k in range(r):
        slope, weight = _of_one(at) if r == 1 else _of_several(at, k)
        by_eta[k] = contracted(slope.reshape(r, r, r, n), h)
        by_family[:, k] = np.einsum("qabn,abn->qn", weight.reshape(q, r, r, n), h)
    return by_eta, by_family


def _of_one(at: EvaluatedRows) -> tuple[Array, Array]:
    """Differences of w' and w_j by the only predictor, both sides in one evaluation."""
    eta = at.eta + np.array([[_ETA_STEP], [-_ETA_STEP]])
    slope, weight = _slope_at(at, eta), at.rows.by_params(eta, at.params).weight
    width = 2.0 * _ETA_STEP
    return (slope[0] - slope[1]) / width, (weight[:, 0] - weight[:, 1]) / width


def _of_several(at: EvaluatedRows, k: int) -> tuple[Array, Array]:
    """Differences of W' and W_j by predictor k."""
    slope: Array | float = 0.0
    weight: Array | float = 0.0
    for step in (_ETA_STEP, -_ETA_STEP):
        eta = np.array(at.eta)
        eta[k] += step
        slope = slope + _slope_at(at, eta) / (2.0 * step)
        weight = weight + at.rows.by_params(eta, at.params).weight / (2.0 * step)
    return np.asarray(slope), np.asarray(weight)


def _slope_at(at: EvaluatedRows, eta: Array) -> Array:
    """``w'``, not a number beyond the domain of the link."""
    moved = at.rows.derivatives(eta, at.params, third=True)
    assert moved.weight_slope is not None
    finite = np.isfinite(moved.value).all()
    return moved.weight_slope if finite else np.full_like(moved.weight_slope, np.nan)


def _of_family(at: EvaluatedRows, coordinates: Vector, h: Array, As: Array) -> Matrix:
    """Forward differences by the family's coordinates."""
    found = np.empty((len(coordinates), len(coordinates)))
    here = _weighted_sums(at, at.by_params, h, As)
    for k in range(len(coordinates)):
        moved = coordinates.copy()
        moved[k] += _PARAM_STEP
        by = at.rows.by_params(at.eta, at.rows.family.natural(moved))
        found[:, k] = (_weighted_sums(at, by, h, As) - here) / _PARAM_STEP
    return found


def _weighted_sums(at: EvaluatedRows, by: ParamDerivatives, h: Array, As: Array) -> Vector:
    """``sum -2 v_j + As g_j + h w_j``, (q,)."""
    return np.asarray(at.rows.by_params_sums(by, h, As) - 2.0 * by.value.sum(axis=-1))


def contracted(slopes: Array, h: Array) -> Array:
    """``sum_ab h_ab dW_ab/deta`` of ``dW/deta`` (r, r, r, n), (r, n)."""
    if len(h) == 1:
        return np.asarray(slopes[0, 0] * h[0])
    return np.asarray(np.einsum("abcn,abn->cn", slopes, h))
