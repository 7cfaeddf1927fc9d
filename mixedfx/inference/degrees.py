"""Degrees of freedom: how much the data know of the variance of an estimate.

A :class:`Degrees` says of any linear combination of the fixed effects which covariance and
how many degrees of freedom a test of it has. The tests, tables and marginal means ask it and
do not know which of the four it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from mixedfx.errors import ArgumentError, expect_choice
from mixedfx.fit import Fit, expect_no_priors
from mixedfx.inference.kenward_roger import KenwardRoger, kenward_roger
from mixedfx.inference.satterthwaite import Satterthwaite, satterthwaite

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

DfMethod = Literal["satterthwaite", "kenward-roger", "residual", "normal"]
DF_METHODS: tuple[DfMethod, ...] = ("satterthwaite", "kenward-roger", "residual", "normal")


class Degrees(Protocol):
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

    def of_row(self, row: Vector) -> float:
        """Degrees of freedom of one combination of the fixed effects, (p,)."""
        ...

    def of_rows(self, rows: Matrix) -> tuple[float, float]:
        """Factor of the F statistic of several independent rows, and its denominator's."""
        ...


@dataclass(frozen=True)
class Fixed:
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

    Examples
    --------
    >>> Fixed("normal", np.eye(1), np.inf).of_row(np.ones(1))
    inf
    """

    name: str
    cov: Matrix
    df: float
    remark: str | None = None

    def of_row(self, row: Vector) -> float:
        """Degrees of freedom of one combination of the fixed effects, (p,)."""
        return self.df

    def of_rows(self, rows: Matrix) -> tuple[float, float]:
        """Factor of the F statistic of several independent rows, and its denominator's."""
        return 1.0, self.df


def degrees(fit: Fit, method: str) -> Degrees:
    """
    Prepare a method of degrees of freedom for a fit.

    Parameters
    ----------
    fit : Fit
        Any fit.
    method : {"satterthwaite", "kenward-roger", "residual", "normal"}
        ``residual`` is the number of rows less that of the fixed effects, ``normal`` infinity.

    Returns
    -------
    Degrees
        With its covariance of the fixed effects.

    Raises
    ------
    ArgumentError
        If it is none of these; or Kenward-Roger for a fit by maximum likelihood, whose
        covariance it does not adjust.
    """
    expect_choice("df_method", method, DF_METHODS)
    made: Satterthwaite | KenwardRoger | Fixed
    if method == "kenward-roger":
        expect_no_priors(fit, "df_method='kenward-roger'")
    if fit.beliefs is not None:  # standard deviations of the posterior, its covariances held
        return Fixed("normal", fit.solution.sigma**2 * fit.solution.unscaled_cov, np.inf)
    if method == "satterthwaite":
        made = satterthwaite(fit)
    elif method == "kenward-roger" and fit.design.blocks:  # without, nothing is to be adjusted
        if not fit.reml:
            raise ArgumentError(
                "df_method='kenward-roger' adjusts a REML fit, and this one is by maximum "
                "likelihood: fit with reml=True, or take df_method='satterthwaite'."
            )
        made = kenward_roger(fit)
    else:
        cov = fit.solution.sigma**2 * fit.solution.unscaled_cov
        rest = float(fit.cross.n - fit.cross.p)
        made = Fixed(method, cov, np.inf if method == "normal" else rest)
    return made
