"""Laplace's approximation of -2 log-likelihood, and its exact gradient.

At the modes, with A = Z Lambda, ``h_i = a_i'H^-1 a_i``, ``c = w1 h`` (``w1 = dw/deta``) and
``s = H^-1 A'c``,

    dd/dbeta   = X'(-2 g + c - w As)
    dd/dLambda = 2 [Z'WZ Lambda H^-1] - 2 (Z'g) u' + Z'(c - w As) u' + (Z'g) s'
    dd/dphi    = -2 sum dl/dphi + sum h dw/dphi + (As)' dg/dphi,

the products of level vectors summed over levels. As A'(c - w As) = s and A'g = u, only the rows
``w As``, a solve and the entries of ``Lambda H^-1 Lambda'`` at levels that share rows are needed:
derivatives of the determinant (Kristensen and others 2016, J. Stat. Softw. 70(5), section 2, by
the implicit function theorem).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx.likelihood.generalized.pirls import Modes
from mixedfx.linalg.cholesky.batched import flatten, unflatten
from mixedfx.linalg.cholesky.inverse_blocks import log_det_derivatives

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MarginalGradient:
    """Gradient of -2 log-likelihood."""

    by_lambda: tuple[Matrix, ...] = field(repr=False)  # (K, K) of each grouping factor, in bases
    by_beta: Vector  # (p,) of coefficients in the basis of X
    by_family: Vector  # (r,) by the coordinates of the family's parameters
    by_eta: Vector = field(
        default_factory=lambda: np.zeros(0), repr=False
    )  # (n,) by a row's offset


def laplace_deviance(modes: Modes) -> float:
    """``-2 sum l + u'u + log|H|``."""
    return modes.numeric.log_det - 2.0 * modes.penalized_loglik


def laplace_gradient(modes: Modes) -> MarginalGradient:
    """Gradient of Laplace's deviance."""
    of_log_det = log_det_derivatives(modes.numeric)
    of_rows = modes.at.by_log_det(of_log_det)
    through = of_rows.through(solve_effects(modes, of_rows.Ztc))
    by_lambda = []
    terms = zip(modes.lambdas, modes.u, modes.Ztg, through.Zt, of_log_det.by_lambda, strict=True)
    for lam, u, Ztg, Ztt, by in terms:
        s = lam.T @ Ztt
        by_lambda.append(by + (Ztt - 2.0 * Ztg) @ u.T + Ztg @ s.T)
    return MarginalGradient(tuple(by_lambda), through.Xt, through.by_params, through.by_eta)


def mean_shift(modes: Modes) -> list[Matrix]:
    """
    ``s = H^-1 A'c`` of each factor, (K, L).

    The conditional means are ``u - s / 2`` to the order of Laplace's approximation (Tierney and
    Kadane 1986, J. Am. Stat. Assoc. 81:82), by the skewness of the integrand.
    """
    of_rows = modes.at.by_log_det(log_det_derivatives(modes.numeric))
    through = of_rows.through(solve_effects(modes, of_rows.Ztc)).Zt
    return [lam.T @ v for lam, v in zip(modes.lambdas, through, strict=True)]


def solve_effects(modes: Modes, rhs: Sequence[Matrix]) -> list[Matrix]:
    """``Lambda H^-1 Lambda' v`` of each factor, (K, L)."""
    symbolic = modes.numeric.symbolic
    flat = np.empty((symbolic.size, 1))
    for f, v in enumerate(rhs):
        flat[symbolic.columns(f)] = flatten(v[:, None])
    solved = modes.numeric.solve(flat)
    layout = symbolic.layout
    return [unflatten(solved[symbolic.columns(f)], layout.width(f))[:, 0] for f in layout.factors]
