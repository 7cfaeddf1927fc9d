"""Broom's tables of a fit: ``glance`` and ``augment``."""

from __future__ import annotations

from typing import Any, Literal, overload

import pandas as pd

from mixedfx.results import tables
from mixedfx.results.base import ResultsBase
from mixedfx.results.frames import FrameName, OtherFrame, converted


class BroomMixin(ResultsBase):
    """Tables with a row for the fit, and with a row for each row."""

    @overload
    def glance(self, *, to: Literal["pandas"] = ...) -> pd.DataFrame: ...
    @overload
    def glance(self, *, to: OtherFrame) -> Any: ...
    def glance(self, *, to: FrameName = "pandas") -> Any:
        """
        Summarize the fit in one row.

        Parameters
        ----------
        to : {"pandas", "polars", "pyarrow"}
            Library of the table.

        Returns
        -------
        pandas.DataFrame
            ``nobs sigma llf aic bic deviance df_resid icc r2_marginal r2_conditional``; sigma is
            NaN of a family without a scale.

        References
        ----------
        .. [1] Nakagawa and Schielzeth (2013), Methods Ecol. Evol. 4:133.
        .. [2] Johnson (2014), Methods Ecol. Evol. 5:944.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.glance()[["nobs", "sigma", "icc", "r2_marginal", "r2_conditional"]].round(3)
           nobs   sigma    icc  r2_marginal  r2_conditional
        0   180  25.592  0.722        0.279           0.799
        """
        return converted(tables.glance(self.model), to)

    def augment(self, data: Any = None, *, to: Any = None) -> Any:
        """
        Join fitted values, residuals and leverages to the data.

        Parameters
        ----------
        data : pandas.DataFrame, optional
            The table that was fitted, to keep all its columns and rows; without it, the
            columns that the formula reads, in the rows used. With ``to``, a source of rows.
        to : str, optional
            ``"polars"`` or ``"pyarrow"``: library of the table. Else a new folder for Parquet files
            of a source's rows.

        Returns
        -------
        pandas.DataFrame
            The data with ``fitted`` (random effects included), ``resid``, ``fixed`` (fitted
            without random effects) and ``hat`` (leverage); NaN in rows that were not used.

        Raises
        ------
        ArgumentError
            If the data have columns of these names already, or do not hold the rows used.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.augment().round(2).head(2)
           Reaction  Days Subject  fitted  resid   fixed   hat
        0    249.56   0.0     308  253.66  -4.10  251.41  0.23
        1    258.70   1.0     308  273.33 -14.63  261.87  0.17
        """
        return tables.augment(self.model, data, to)
