"""Predictions under statsmodels' names: ``fit.get_prediction(new).summary_frame()``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._cached import cached_property
from mixedfx._other_programs import METHOD_ARGUMENTS, explains_arguments
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference import several_prediction
from mixedfx.inference.coverage import DEFAULT_ALPHA, resolve_alpha
from mixedfx.results.base import ResultsBase

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PredictionResults:
    """
    Predictions of rows, as of statsmodels' ``get_prediction``.

    Parameters
    ----------
    model : FittedModel
        The fit.
    data : DataFrame or None
        The rows; None for the fit's own.
    options : mapping
        Arguments of :meth:`Results.predict`.

    See Also
    --------
    Results.predict : The same numbers in one call.
    """

    model: FittedModel = field(repr=False)
    data: Any = field(repr=False)
    options: Mapping[str, Any]

    @cached_property
    def _table(self) -> pd.DataFrame:
        return self._predicted(None, DEFAULT_ALPHA)

    @property
    def predicted_mean(self) -> Vector:
        """Predicted means, (m,)."""
        return self._table["predicted"].to_numpy()

    @property
    def se_mean(self) -> Vector:
        """Standard errors of the means, (m,)."""
        return self._table["std_error"].to_numpy()

    def conf_int(self, alpha: float = DEFAULT_ALPHA, *, obs: bool = False) -> Vector:
        """
        Limits of the means, or of new observations.

        Parameters
        ----------
        alpha : float
            One minus the coverage.
        obs : bool
            Whether of new observations.

        Returns
        -------
        ndarray of shape (m, 2)
        """
        table = self._predicted("prediction" if obs else "confidence", alpha)
        return table[["conf_low", "conf_high"]].to_numpy()

    def summary_frame(self, alpha: float = DEFAULT_ALPHA) -> pd.DataFrame:
        """
        Tabulate means, standard errors and both intervals.

        Parameters
        ----------
        alpha : float
            One minus the coverage.

        Returns
        -------
        pandas.DataFrame
            ``mean mean_se mean_ci_lower mean_ci_upper obs_ci_lower obs_ci_upper``.
        """
        mean, obs = self._predicted("confidence", alpha), self._predicted("prediction", alpha)
        columns = {"mean": mean["predicted"], "mean_se": mean["std_error"]}
        for name, table in (("mean", mean), ("obs", obs)):
            columns[f"{name}_ci_lower"] = table["conf_low"]
            columns[f"{name}_ci_upper"] = table["conf_high"]
        return pd.DataFrame(columns)

    def _predicted(self, interval: str | None, alpha: float) -> pd.DataFrame:
        """Means, standard errors, and the limits of an interval."""
        table = several_prediction.predict(
            self.model,
            self.data,
            interval=interval,
            conf_level=1.0 - resolve_alpha(alpha, None),
            se=True,
            **self.options,
        )
        return pd.DataFrame(table)


class PredictionMixin(ResultsBase):
    """Predictions under statsmodels' names."""

    @explains_arguments(METHOD_ARGUMENTS)
    def get_prediction(
        self,
        data: Any = None,
        *,
        random: str | Sequence[str] | None = None,
        new_levels: str = "error",
    ) -> PredictionResults:
        """
        Predict rows, under statsmodels' names.

        Parameters
        ----------
        data : DataFrame, optional
            New rows; without it, the fit's own.
        random : "all", "none" or list of str, optional
            As of :meth:`predict`.
        new_levels : {"error", "population"}
            As of :meth:`predict`.

        Returns
        -------
        PredictionResults
            ``predicted_mean se_mean conf_int() summary_frame()``.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.get_prediction(sleep.head(2)).summary_frame().round(1)
            mean  mean_se  mean_ci_lower  mean_ci_upper  obs_ci_lower  obs_ci_upper
        0  253.7     12.3          229.6          277.7         198.1         309.3
        1  273.3     10.5          252.7          294.0         219.1         327.6
        """
        return PredictionResults(
            self.model, data, {"random": random, "new_levels": new_levels, "which": "mean"}
        )
