"""Minimum norm quadratic estimates of small models at Lambda = I, of all terms together.

With ``V = W^-1 + Z Z'``, ``h = Z'Py``, ``K = Z'PZ``, the directions E_i of the covariances and
``V_i = Z E_i Z'``, V_0 = W^-1 that of the residual variance,

    sum_j tr(P V_i P V_j) theta_j = y'P V_i P y,    tr(P V_i P V_j) = tr(E_i K E_j K)

(Rao 1972, J. Am. Stat. Assoc. 67:112), for ML with ``V^-1`` in place of P in the traces: a step of
scoring from there, which in balanced designs ends at the optimum (Anderson 1973, Ann. Statist.
1:135). What is of V_0 follows from ``P V P = P``, with I = sum_i a_i E_i.

Where one term's levels all have the same products, estimates at Lambda = 0 are as good: there
``V = W^-1``, the a_i are zero, and Z'PZ takes no factorisation of the random effects.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dposv

from mixedfx._arrays import set_readonly
from mixedfx.covariance.components import Positions
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.dense import DenseCrossProducts
from mixedfx.likelihood.dense_point import DensePoint
from mixedfx.linalg.symmetric import solve_semidefinite

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Least share of the residual variance of least squares that is left to the residuals.
_LEAST_SHARE = 1e-3
# Difference of products that is rounding.
_EQUAL = 1e-12


def dense_moments(dense: DenseCrossProducts, *, reml: bool) -> tuple[list[Matrix], float] | None:
    """Covariance of each term's effects, and the residual variance; None without a solution."""
    crossprod, terms = dense.crossprod, dense.terms
    positions = crossprod.parametrization.terms
    unit = [_identity(at.k) for _, at in positions]
    halves = [
        _half_directions(structure.invariance == "diagonal", at.k) for structure, at in positions
    ]
    found = _at_zero(dense) if reml and _has_equal_levels(crossprod) else None
    if found is None:
        found = _at_identity(dense, unit, reml=reml)
    if found is None:
        return None
    K, h, of_residual, at_identity = found
    E = terms.tangents(unit, halves)
    products, explained = terms.traces(E, K), terms.directions(E, h) @ h
    with_residual = terms.along(E, terms.blocks(K))
    df, m = float(crossprod.nu(reml=reml)), len(explained)
    if at_identity:
        a = 0.5 * np.concatenate([half.trace(axis1=1, axis2=2) for half in halves])
        of_log_det, with_residual = with_residual, with_residual - products @ a
        df -= float(a @ (of_log_det + with_residual))
        of_residual -= float(a @ explained)
    if crossprod.sigma is not None:
        variance = crossprod.sigma**2
        solved = solve_semidefinite(products, explained - variance * with_residual)
    else:
        system, right = np.empty((m + 1, m + 1)), np.empty(m + 1)
        system[:m, :m], system[:m, m], system[m, :m] = products, with_residual, with_residual
        system[m, m], right[:m], right[m] = df, explained, of_residual
        solved = solve_semidefinite(system, right)
        variance = bounded_residual_variance(crossprod, float(solved[m]), reml=reml)
    covariances, i = [], 0
    for half in halves:
        size, k = half.shape[:2]
        cov = (solved[i : i + size] @ half.reshape(size, k * k)).reshape(k, k)
        covariances.append(cov + cov.T)
        i += size
    return covariances, variance


class _Products(NamedTuple):
    """Products at ``Lambda Lambda'`` = 0 or I."""

    K: Matrix  # (q, q) Z'PZ, for ML Z'V^-1 Z
    h: Vector  # (q,) Z'Py
    pwrss: float  # y'Py
    at_identity: bool


def _at_identity(dense: DenseCrossProducts, unit: list[Matrix], *, reml: bool) -> _Products | None:
    try:
        point = DensePoint.at_identity(dense, unit, reml=reml)
    except np.linalg.LinAlgError:
        return None
    return _Products(point.projected[0], point.h, point.pwrss, True)


def _at_zero(dense: DenseCrossProducts) -> _Products | None:
    """Without a factor of the random effects."""
    S, q = dense.matrix, dense.q
    N = projected_products(dense)
    return None if N is None else _Products(N, S[:q, -1], float(S[-1, -1]), False)


def _has_equal_levels(crossprod: CrossProducts) -> bool:
    """
    Whether there is one term, of any covariance, whose levels all have the same ``Z_l'WZ_l``.

    Estimates at any Lambda are then near each other: the same, where in each level the columns of X
    are combinations of those of Z. Without correlations they are not.
    """
    terms = crossprod.parametrization.terms
    if len(terms) != 1 or terms[0][0].invariance != "linear" or crossprod.ZtZ.within:
        return False
    products = crossprod.ZtZ.diagonal[0]
    largest = np.maximum.reduce(np.abs(products - products[:, :, :1]), axis=None)
    # The columns of a basis have unit mean square over all rows.
    return bool(largest <= _EQUAL * crossprod.n / products.shape[2])


def projected_products(dense: DenseCrossProducts) -> Matrix | None:
    """``Z'PZ``, (q, q), P of least squares; None where X'WX is not positive definite."""
    S, q = dense.matrix, dense.q
    if q == len(S) - 1:
        return S[:q, :q]
    XtZ = S[q:-1, :q]
    _, solved, info = dposv(S[q:-1, q:-1], XtZ)
    return None if info else np.asarray(S[:q, :q] - XtZ.T @ solved)


def bounded_residual_variance(crossprod: CrossProducts, estimate: float, *, reml: bool) -> float:
    """An estimate of the residual variance, at most that of least squares, and a share of it."""
    of_least_squares = float(crossprod.XytXy[-1, -1]) / crossprod.nu(reml=reml)
    return min(max(estimate, _LEAST_SHARE * of_least_squares), of_least_squares)


@lru_cache(maxsize=64)
def _half_directions(is_diagonal: bool, k: int) -> Array:
    """``J_i``, (m, k, k), of the directions ``E_i = J_i + J_i'``: of a variance or a covariance."""
    coordinates = STRUCTURES["diag" if is_diagonal else "us"].coordinates(Positions(k))
    return coordinates.jacobian(np.zeros(coordinates.size))


@lru_cache(maxsize=64)
def _identity(k: int) -> Matrix:
    """The identity, (k, k)."""
    identity = np.eye(k)
    set_readonly(identity)
    return identity
