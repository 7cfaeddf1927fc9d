"""Slopes of the mean of a fit, and effects of its variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mixedfx._other_programs import EMMEANS_ARGUMENTS, explains_arguments
from mixedfx.errors import ArgumentError, check_flag
from mixedfx.inference.denominator_df import DfMethod
from mixedfx.inference.emmeans import slopes as marginal_slopes
from mixedfx.inference.emmeans.marginal_means import EMMeans
from mixedfx.inference.emmeans.means_grid import GridOptions, Weights
from mixedfx.results.base import ResultsBase


class MarginalEffectsMixin(ResultsBase):
    """Slopes and effects."""

    @explains_arguments(EMMEANS_ARGUMENTS)
    def slopes(
        self,
        variable: str,
        by: str | Sequence[str] | None = None,
        *,
        at: Mapping[str, Any] | None = None,
        average: bool = False,
        which: Literal["linear", "mean"] = "linear",
        weights: Weights = "equal",
        nesting: str | Mapping[str, Any] | None = "auto",
        df_method: DfMethod = "auto",
        conf_level: float = 0.95,
    ) -> EMMeans:
        """
        Estimate slopes along a covariate, as R's emtrends, or averaged over the rows.

        Parameters
        ----------
        variable : str
            A numeric variable of the fixed part; the slope is by the column itself, also where the
            formula has a function of it, such as ``np.log(x)``, a polynomial or a spline.
        by : str or list of str, optional
            Variables at whose levels there is a slope each, to be compared by ``contrasts()``; or
            a formula such as ``"~ a | b"``, whose slopes are compared within the levels of ``b``.
        at : mapping, optional
            Values of variables, of ``variable`` itself, too; by default numeric ones are at their
            means and factors are averaged over. With ``average=True`` in all rows.
        average : bool
            Whether to average the slopes of the rows of the data, each at its own values, rather
            than those of a balanced grid: average marginal effects.
        which : {"linear", "mean"}
            Slopes of the linear predictor, or of the mean of the response at random effects of
            zero (where the formula transforms the response, of the response itself).
        weights : {"equal", "proportional", "outer", "cells", "flat"}
            Weights of the cells that are averaged over, as of ``fit.emmeans()``.
        nesting : str or mapping, optional
            Factors nested in others, as of ``fit.emmeans()``.
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom.
        conf_level : float
            Coverage of the intervals.

        Returns
        -------
        EMMeans
            With ``table``, columns ``slope std_error df statistic p_value conf_low conf_high``
            after the levels, and ``contrasts()``. Errors are by the delta method.

        Raises
        ------
        ArgumentError
            If ``variable`` is categorical, or a variable is in no term of the fixed part.

        Notes
        -----
        Derivatives are weighted differences of the rows of X at five values of the variable, few
        thousandths of its range apart: exact for polynomials up to the fourth degree.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> cake = mfx.datasets.load("cake")
        >>> fit = mfx.lmer("angle ~ recipe * temp + (1 | recipe:replicate)", cake)
        >>> slopes = fit.slopes("temp", by="recipe")
        >>> slopes.table[["recipe", "slope", "std_error", "df", "p_value"]].round(4)
          recipe   slope  std_error     df  p_value
        0      A  0.1537     0.0282  222.0      0.0
        1      B  0.1646     0.0282  222.0      0.0
        2      C  0.1558     0.0282  222.0      0.0
        >>> slopes.contrasts()[["contrast", "estimate", "p_value"]].round(4)
          contrast  estimate  p_value
        0    A - B   -0.0109   0.9600
        1    A - C   -0.0021   0.9985
        2    B - C    0.0088   0.9738
        """
        check_flag("average", average)
        fit, ddf = self.model, self._denominator_df(df_method)
        if not average:
            options = GridOptions(at=at, nesting=nesting, weights=weights, argument="by")
            return marginal_slopes.slopes(
                fit, ddf, variable, by, options=options, which=which, conf_level=conf_level
            )
        if weights != "equal":
            raise ArgumentError(
                f"average=True averages over the rows: weights={weights!r} weighs cells of a grid."
            )
        return marginal_slopes.average_slopes(
            fit, ddf, variable, by, at=at, which=which, conf_level=conf_level
        )

    def emtrends(self, variable: str, by: Any = None, **options: Any) -> EMMeans:
        """Estimate slopes along a covariate: another name of :meth:`slopes`."""
        return self.slopes(variable, by, **options)
