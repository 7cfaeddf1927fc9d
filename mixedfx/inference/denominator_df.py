"""Denominator degrees of freedom of tests of the fixed effects.

A :class:`DenominatorDf` gives the covariance of the fixed effects and the degrees of freedom of
any t or F test of their linear combinations. Methods: Satterthwaite's
(:mod:`mixedfx.inference.satterthwaite`), Kenward and Roger's
(:mod:`mixedfx.inference.kenward_roger`), ``n - p``, and infinity, the only one of generalised
models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from mixedfx.errors import ArgumentError, check_choice
from mixedfx.estimation.fitted_model import FittedModel, check_no_priors
from mixedfx.inference import kenward_roger, kenward_roger_rows
from mixedfx.inference.satterthwaite import satterthwaite
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

DfMethod = Literal[
    "auto", "satterthwaite", "kenward-roger", "kenward-roger-linear", "residual", "normal"
]
DF_METHODS: tuple[DfMethod, ...] = (
    "satterthwaite",
    "kenward-roger",
    "kenward-roger-linear",
    "residual",
    "normal",
)
# Kenward and Roger's methods, and whether with second derivatives of V.
_KENWARD_ROGER = {"kenward-roger": True, "kenward-roger-linear": False}
_NO_ESTIMATE = (
    "The search ended, without converging, where the covariance of the residuals is nearly "
    "singular: standard errors, degrees of freedom and p-values are NaN."
)


class DenominatorDf(Protocol):
    """Covariance of the fixed effects and degrees of freedom of tests of them, by one method."""

    @property
    def covariance(self) -> CoefficientCovariance:
        """Covariance of the fixed effects, for their linear combinations."""
        ...

    @property
    def name(self) -> str:
        """The method's name, for ``df_method=``."""
        ...

    @property
    def cov(self) -> Matrix:
        """Covariance of the fixed effects, (p, p)."""
        ...

    @property
    def remark(self) -> str | None:
        """Caveat for the user, if there is one."""
        ...

    def t_df(self, row: Vector) -> float:
        """Degrees of freedom of one combination of the fixed effects, (p,)."""
        ...

    def f_scale_and_df(self, rows: Matrix) -> tuple[float, float]:
        """Scale of the F statistic of independent rows (r, p), and denominator df."""
        ...


@dataclass(frozen=True)
class ConstantDf:
    """The same degrees of freedom for every combination."""

    name: str  # "residual" or "normal"
    covariance: CoefficientCovariance
    df: float
    remark: str | None = None

    @property
    def cov(self) -> Matrix:
        """Covariance of the fixed effects, (p, p)."""
        return self.covariance.matrix

    def t_df(self, row: Vector) -> float:
        """Degrees of freedom of one combination of the fixed effects, (p,)."""
        return self.df

    def f_scale_and_df(self, rows: Matrix) -> tuple[float, float]:
        """Scale of the F statistic of independent rows (r, p), and denominator df."""
        return 1.0, self.df


def resolve_df_method(fit: FittedModel, method: str) -> str:
    """Check a method's name, and that the model has it; ``"auto"`` is the model's default."""
    check_choice("df_method", method, ("auto", *DF_METHODS))
    if method == "auto":
        return fit.spec.residual.df_methods[0]
    fit.spec.residual.check_df_method(method)
    return method


def denominator_df(fit: FittedModel, method: str) -> DenominatorDf:
    """Compute what a method's degrees of freedom need, once for a fit."""
    method = resolve_df_method(fit, method)
    if method in _KENWARD_ROGER:
        check_no_priors(fit, f"df_method='{method}'")
    covariance = fit.solution.coefficient_covariance
    if fit.priors.specified:  # posterior standard deviations given the covariance parameters
        return ConstantDf("normal", covariance, np.inf)
    if method in ("satterthwaite", *_KENWARD_ROGER) and _has_no_estimate(fit):
        return ConstantDf(method, _unknown(covariance), np.nan, _NO_ESTIMATE)
    if method == "satterthwaite":
        return satterthwaite(fit)
    if method in _KENWARD_ROGER and not fit.spec.is_least_squares:  # of least squares: residual df
        if not fit.reml:
            raise ArgumentError(
                f"df_method='{method}' adjusts a REML fit, and this one is by maximum "
                "likelihood: fit with reml=True, or take df_method='satterthwaite'."
            )
        fit.spec.residual.check_kenward_roger()
        linear = fit.spec.residual.equal_variances or not fit.spec.residual.estimates_sigma
        linear = linear and all(s.linear for s, _ in fit.crossprod.parametrization.terms)
        second_order = _KENWARD_ROGER[method]
        if linear and second_order:
            return kenward_roger.kenward_roger(fit)
        return kenward_roger_rows.kenward_roger_of_rows(fit, second_order=second_order)
    df_resid = float(fit.nobs - fit.crossprod.p)
    return ConstantDf(method, covariance, np.inf if method == "normal" else df_resid)


def _has_no_estimate(fit: FittedModel) -> bool:
    """Whether the residuals' covariance has no estimate: the search ran into a singular one."""
    return fit.residual.at_ends.singular and not fit.optimizer_result.converged


def _unknown(covariance: CoefficientCovariance) -> CoefficientCovariance:
    """The covariance of coefficients whose variances are not known."""
    return replace(covariance, in_basis=np.full_like(covariance.in_basis, np.nan))
