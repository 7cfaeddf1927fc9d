"""Vuong's test of two models of which neither is a special case of the other.

With the log-likelihoods of N independent units under both models, ``m_j = l_1j - l_2j``,

    z = (sum m_j - c) / sqrt(sum (m_j - mean m)^2)

is standard normal if the models are equally far from the truth (Vuong 1989, Econometrica 57:307,
equation 5.6). The correction c is zero, the difference of the numbers of parameters (AIC's), or
that times ``log(n) / 2`` (BIC's). Units are the levels of the grouping factor, whose random effects
are integrated out, or the rows where neither model has any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from mixedfx.design.known_levels import check_plain_levels
from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel, check_no_priors
from mixedfx.estimation.glmm.estimate import FamilyEstimate
from mixedfx.estimation.glmm.several_predictors import several_rows
from mixedfx.estimation.glmm.working import basis_coefficients
from mixedfx.inference.comparison import check_comparable
from mixedfx.likelihood.generalized.likelihood import (
    GeneralizedLikelihood,
    MarginalEvaluation,
    Point,
)
from mixedfx.likelihood.generalized.quadrature import Quadrature
from mixedfx.likelihood.generalized.rows import GeneralizedRows

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

_BY_AIC = " Compare by AIC, mfx.compare(fit, other)."


def vuong(fit: FittedModel, other: FittedModel) -> pd.DataFrame:
    """
    Compare two fits of the same rows.

    References
    ----------
    .. [1] Vuong (1989), Econometrica 57:307.
    """
    for one in (fit, other):
        check_no_priors(one, "vuong()")
        if not isinstance(one.residual, FamilyEstimate):
            raise ArgumentError(
                "vuong() compares fits of glmer(), such as a zero-inflated and a plain one: linear "
                "models are compared by mfx.compare()."
            )
        check_plain_levels(one.spec, "vuong(), which adds up independent levels,", _BY_AIC)
    check_comparable(fit, "the fit", other, "the other one")
    first, second = _Units.of(fit), _Units.of(other)
    codes = _common_codes(first, second)
    m = first.by(codes) - second.by(codes)
    size = math.sqrt(len(m)) * float(m.std())
    if not size > 1e-12 * np.abs(first.loglik).sum():
        raise ArgumentError("the two fits have the same likelihood in all rows: nothing differs.")
    npar = fit.n_params - other.n_params
    corrections = {"none": 0.0, "aic": float(npar), "bic": 0.5 * npar * math.log(fit.nobs)}
    z = np.array([(m.sum() - c) / size for c in corrections.values()])
    better = np.where(z > 0.0, "this", "other")
    columns = {"z": z, "p_value": special.ndtr(-np.abs(z)), "better": better}
    return pd.DataFrame(columns, index=pd.Index(corrections, name="correction"))


@dataclass(frozen=True)
class _Units:
    """Log-likelihood of each independent unit."""

    loglik: Vector
    codes: Codes | None  # (n,) unit of each row; None: each row is one

    @staticmethod
    def of(fit: FittedModel) -> _Units:
        """Levels of a fit's grouping factor, or its rows."""
        estimate = fit.residual
        assert isinstance(estimate, FamilyEstimate)
        evaluation = _at_estimates(fit)
        rows, modes = evaluation.modes.rows, evaluation.modes
        value = modes.at_rows.value + fit.spec.family.constants(fit.rows.y, fit.rows.weights)
        if rows.base is not None:
            value = value + rows.base
        if not rows.factors:
            return _Units(np.asarray(value), None)
        if len(rows.factors) > 1:
            raise ArgumentError(
                f"vuong() takes independent units, and '{fit.formula}' has several grouping "
                f"factors ({', '.join(rows.groups)}): compare by AIC, mfx.compare(fit, other)."
            )
        factor = rows.factors[0]
        quadrature = Quadrature(modes, evaluation.nagq, with_gradient=False)
        loglik = np.bincount(factor.codes, value, factor.n_levels) - 0.5 * (modes.u[0] ** 2).sum(0)
        loglik -= np.log(np.einsum("aal->al", quadrature.cholesky)).sum(axis=0)
        if evaluation.nagq > 1:
            loglik += np.log(quadrature.sums.total)
        return _Units(loglik, factor.codes)

    def by(self, codes: Codes | None) -> Vector:
        """The same of larger units."""
        if codes is None or self.codes is not None:
            return self.loglik
        return np.bincount(codes, self.loglik).astype(float)


def _common_codes(first: _Units, second: _Units) -> Codes | None:
    """Units of both: the levels of the one grouping factor, or rows."""
    if first.codes is None or second.codes is None:
        return second.codes if first.codes is None else first.codes
    if not np.array_equal(first.codes, second.codes):
        raise ArgumentError(
            "vuong() takes the same independent units of both fits, and their grouping factors "
            "differ: compare by AIC, mfx.compare(fit, other)."
        )
    return first.codes


def _at_estimates(fit: FittedModel) -> MarginalEvaluation:
    """The likelihood at the estimates, on the rows as they are."""
    estimate, fits = fit.residual, fit.predictors
    assert isinstance(estimate, FamilyEstimate)
    several = len(fits) > 1
    rows = several_rows(fit.design) if several else GeneralizedRows.of(fit.design, merge=False)
    beta = basis_coefficients(rows, np.concatenate([one.solution.beta for one in fits]))
    factors = tuple(F for one in fits for F in one.solution.factors)
    point = Point(factors, beta, rows.family.coordinates(estimate.params))
    return GeneralizedLikelihood(rows, max(estimate.nagq, 1)).at(point)
