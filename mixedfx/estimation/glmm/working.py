"""Working linear model of a generalised one at its conditional modes.

With the observed weights W and the working response ``z = eta + g / w``, the penalised
least-squares equations of the linear mixed model of z, sigma = 1, are a Newton step for beta and
the modes (Breslow and Clayton 1993, J. Am. Stat. Assoc. 88:9, section 2.3): its cross-products give
starting values, expected Hessians, and everything that a results layer asks of a linear model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx.design.spec import ModelSpec
from mixedfx.families.family import RowDerivatives
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.generalized.rows import GeneralizedRows

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Of the largest sum of squares; coefficients and their covariance do not depend on it.
_RIDGE = 1e-11


def working_crossproducts(
    spec: ModelSpec,
    rows: GeneralizedRows,
    beta: Vector,
    Zb: Vector | float,
    at: RowDerivatives,
) -> CrossProducts:
    """
    Cross-products at the observed weights, of X in its basis and ``z - offset - X beta``.

    ``Z'W(z - offset - X beta)`` is ``Z'(W Zb + g)``: nothing is divided by a weight but in the
    sum of squares of the response, on which no estimate depends.
    """
    p, w = rows.p, at.weight
    residual = w * Zb + at.first
    XytXy = np.zeros((p + 1, p + 1))
    XytXy[:p, :p] = rows.fixed_products(w)
    XytXy[:p, p] = XytXy[p, :p] = rows.fixed_sums(residual)
    squares = np.divide(residual**2, w, out=np.zeros_like(residual), where=w > 0.0)
    XytXy[p, p] = float(squares.sum())
    sums = zip(rows.random_by_fixed(w), rows.sums(residual), strict=True)
    return CrossProducts(
        n=rows.n,
        response=spec.formula.response_name,
        names=spec.X_names,
        groups=rows.groups,
        levels=tuple(spec.levels_of(group) for group in rows.groups),
        ZtZ=rows.weighted_products(w),
        ZtXy=tuple(np.concatenate([ZtX, Zty[:, None]], axis=1) for ZtX, Zty in sums),
        XytXy=XytXy,
        term_positions=rows.term_positions,
        parametrization=rows.parametrization,
        bases=rows.bases,
        ols_coef=own_coefficients(rows, beta),
        qr_R=rows.qr_R,
        log_weights=0.0,
        sigma=1.0,
        level_bases=tuple(factor.level_basis for factor in rows.factors),
        solver=rows.solver,
    )


def with_independent_columns(crossprod: CrossProducts, factors: Sequence[Matrix]) -> CrossProducts:
    """
    Cross-products with a ridge, if one is needed, that keeps the columns of X independent.

    Weights may vanish, or be negative where a density is not log-concave. The estimates of the
    working model are fixed at those of the marginal likelihood, and do not depend on the ridge.
    """
    p, XytXy = crossprod.p, crossprod.XytXy.copy()
    numeric = crossprod.factorize(factors)
    values = np.linalg.eigvalsh(numeric.schur_complement(crossprod.ZtXy, XytXy).matrix[:p, :p])
    least = _RIDGE * np.abs(np.diag(XytXy)[:p]).max(initial=0.0)
    ridge = least - values.min(initial=np.inf)
    if not ridge > 0.0:
        return crossprod
    XytXy[range(p), range(p)] += ridge
    return replace(crossprod, XytXy=XytXy)


def own_coefficients(rows: GeneralizedRows, beta: Vector) -> Vector:
    """Coefficients of the columns of the formula from those of the basis, (p,)."""
    return np.asarray(linalg.solve_triangular(rows.qr_R, beta)) if rows.p else beta


def basis_coefficients(rows: GeneralizedRows, beta: Vector) -> Vector:
    """Coefficients of the basis from those of the columns of the formula, (p,)."""
    return np.asarray(rows.qr_R @ beta)
