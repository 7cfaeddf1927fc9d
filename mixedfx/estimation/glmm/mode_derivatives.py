"""Derivatives of the conditional modes of a generalised model by its parameters.

The modes are ``b = Sigma Z'g(eta)`` with ``Sigma = Lambda Lambda'``. With ``A = Z'WZ``,
``G = Lambda M^-1 Lambda'`` and ``B = Z'WX``, differentiation gives

    db = (I - G A) dSigma Z'g - G B dbeta + G Z'(dg/dphi) dphi,

which holds on the boundary too, as nothing is divided by Sigma. With V the covariance of the
parameters, ``J V J' + G`` is the covariance of ``b`` that accounts for their uncertainty: the one
that glmmTMB reports (Kass and Steffey 1989, J. Am. Stat. Assoc. 84:717, equation 4.1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.coordinates import Coordinates
from mixedfx.likelihood.generalized.pirls import Modes
from mixedfx.likelihood.pls import Solution
from mixedfx.linalg.cholesky.batched import flatten

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def covariance_jacobians(coordinates: Coordinates, x: Vector) -> tuple[Matrix, ...]:
    """Derivatives of each term's ``F F'`` by its coordinates, (m_t, k, k)."""
    by_factor = zip(coordinates.lambdas(x), coordinates.jacobians(x), strict=True)
    halves = [dF @ F.T for F, dF in by_factor]
    return tuple(half + half.transpose(0, 2, 1) for half in halves)


def scores_by_params(modes: Modes) -> Matrix:
    """``Z'(dg/dphi)`` by the family's coordinates, in the order of elimination, (q, r)."""
    symbolic = modes.numeric.symbolic
    sums = np.zeros((symbolic.size, len(modes.params)))
    if not sums.size:
        return sums
    for j, of_factors in enumerate(modes.at.scores_by_params()):
        for f, values in enumerate(of_factors):
            sums[symbolic.columns(f), j] = flatten(values[:, None])[:, 0]
    return sums


def modes_jacobian(
    solution: Solution, by_covariance: Sequence[Matrix], by_params: Matrix
) -> Matrix:
    """Derivatives of the modes by covariance coordinates, coefficients and log parameters."""
    crossprod = solution.crossprod
    if not crossprod.term_positions:
        m = sum(len(jacobian) for jacobian in by_covariance)
        return np.zeros((0, m + crossprod.p + by_params.shape[1]))
    symbolic, solve = crossprod.symbolic, solution.schur.numeric.solve
    score = [projected[:, -1] for projected in solution.projected_crossproducts()]
    columns = []
    for position, jacobian in zip(crossprod.term_positions, by_covariance, strict=True):
        width, levels = score[position.group].shape
        effects = np.zeros((width, len(jacobian), levels))
        v = score[position.group][position.columns]
        effects[position.columns] = np.einsum("mab,bl->aml", jacobian, v)
        column = np.zeros((symbolic.size, len(jacobian)))
        column[symbolic.columns(position.group)] = flatten(effects)
        columns.append(column)
    direct = np.concatenate(columns, axis=1)
    by_cov = direct - solve(crossprod.assembled.sparse_matrix @ direct)
    return np.concatenate([by_cov, -solve(crossprod.ZtX), solve(by_params)], axis=1)
