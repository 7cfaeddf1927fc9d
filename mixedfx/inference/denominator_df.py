"""Degrees of freedom: how much the data know of the variance of an estimate.

A :class:`DenominatorDf` says of any linear combination of the fixed effects which covariance and
how many degrees of freedom a test of it has. The tests, tables and marginal means ask it and
do not know which of the four it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from mixedfx.errors import ArgumentError, expect_choice
from mixedfx.estimation.fitted_model import FittedModel, expect_no_priors
from mixedfx.inference.kenward_roger import KenwardRoger, kenward_roger
from mixedfx.inference.satterthwaite import Satterthwaite, satterthwaite

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

DfMethod = Literal["satterthwaite", "kenward-roger", "residual", "normal"]
DF_METHODS: tuple[DfMethod, ...] = ("satterthwaite", "kenward-roger", "residual", "normal")


class DenominatorDf(Protocol):
    """What a method of degrees of freedom can be asked."""

    @property
    def name(self) -> str:
        """Its name, for ``df_method=``."""
        ...

    @property
    def cov(self) -> Matrix:
        """Covariance of the fixed effects, (p, p)."""
        ...

    @property
    def remark(self) -> str | None:
        """What the user should know of it; None for nothing."""
        ...

    def t_df(self, row: Vector) -> float:
        """Degrees of freedom of one combination of the fixed effects, (p,)."""
        ...

    def f_scale_and_df(self, rows: Matrix) -> tuple[float, float]:
        """Factor of the F statistic of several independent rows, and its denominator's."""
        ...


@dataclass(frozen=True)
class ConstantDf:
    """
    One number for every combination.

    Parameters
    ----------
    name : {"residual", "normal"}
        For ``df_method=``.
    cov : ndarray of shape (p, p)
        Covariance of the fixed effects.
    df : float
        The number.
    remark : None
        There is nothing to say.
    """

    name: str
    cov: Matrix
    df: float
    remark: str | None = None

    def t_df(self, row: Vector) -> float:
        """Degrees of freedom of one combination of the fixed effects, (p,)."""
        return self.df

    def f_scale_and_df(self, rows: Matrix) -> tuple[float, float]:
        """Factor of the F statistic of several independent rows, and its denominator's."""
        return 1.0, self.df


def denominator_df(fit: FittedModel, method: str) -> DenominatorDf:
    """Prepare a method of degrees of freedom for a fit."""
    expect_choice("df_method", method, DF_METHODS)
    made: Satterthwaite | KenwardRoger | ConstantDf
    if method == "kenward-roger":
        expect_no_priors(fit, "df_method='kenward-roger'")
    if fit.priors is not None:  # standard deviations of the posterior, its covariances held
        return ConstantDf("normal", fit.solution.sigma**2 * fit.solution.vcov_unscaled, np.inf)
    if method == "satterthwaite":
        made = satterthwaite(fit)
    elif (
        method == "kenward-roger" and fit.design.random_terms
    ):  # without, nothing is to be adjusted
        if not fit.reml:
            raise ArgumentError(
                "df_method='kenward-roger' adjusts a REML fit, and this one is by maximum "
                "likelihood: fit with reml=True, or take df_method='satterthwaite'."
            )
        made = kenward_roger(fit)
    else:
        cov = fit.solution.sigma**2 * fit.solution.vcov_unscaled
        rest = float(fit.crossprod.n - fit.crossprod.p)
        made = ConstantDf(method, cov, np.inf if method == "normal" else rest)
    return made
