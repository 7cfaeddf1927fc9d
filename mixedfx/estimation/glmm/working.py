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

from mixedfx.design.spec import ModelSpec
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.generalized.rows_model import RowsModel, WorkingSums
from mixedfx.linalg.triangular import solve_upper

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Of the largest sum of squares; coefficients and their covariance do not depend on it.
_RIDGE = 1e-11


def working_crossproducts(
    spec: ModelSpec, rows: RowsModel, beta: Vector, sums: WorkingSums
) -> CrossProducts:
    """Cross-products of X in its basis, and of ``z - offset - X beta``."""
    p = rows.p
    XytXy = np.zeros((p + 1, p + 1))
    XytXy[:p, :p] = sums.XtWX
    XytXy[:p, p] = XytXy[p, :p] = sums.Xtr
    XytXy[p, p] = sums.squares
    of_factors = zip(sums.ZtWX, sums.Ztr, strict=True)
    return CrossProducts(
        n=rows.n,
        response=spec.formula.response_name,
        names=spec.X_names,
        groups=rows.groups,
        levels=tuple(spec.levels_of(group) for group in rows.groups),
        ZtZ=sums.ZtWZ,
        ZtXy=tuple(np.concatenate([ZtX, Ztr[:, None]], axis=1) for ZtX, Ztr in of_factors),
        XytXy=XytXy,
        term_positions=rows.term_positions,
        parametrization=rows.parametrization,
        bases=rows.bases,
        ols_coef=own_coefficients(rows, beta),
        qr_R=rows.qr_R,
        log_weights=0.0,
        sigma=1.0,
        level_bases=rows.level_bases,
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


def own_coefficients(rows: RowsModel, beta: Vector) -> Vector:
    """Coefficients of the columns of the formula from those of the basis, (p,)."""
    return solve_upper(rows.qr_R, beta)


def basis_coefficients(rows: RowsModel, beta: Vector) -> Vector:
    """Coefficients of the basis from those of the columns of the formula, (p,)."""
    return np.asarray(rows.qr_R @ beta)
