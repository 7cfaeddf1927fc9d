"""Slopes of the mean of a fit, and effects of its variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from mixedfx._other_programs import EFFECTS_ARGUMENTS, explains_arguments
from mixedfx.errors import ArgumentError, check_flag
from mixedfx.inference.denominator_df import DfMethod
from mixedfx.inference.emmeans import joint_tests as tests_of_terms
from mixedfx.inference.emmeans import means_grid, row_averages, row_effects
from mixedfx.inference.emmeans import slopes as marginal_slopes
from mixedfx.results import marginaleffects
from mixedfx.results.base import ResultsBase

if TYPE_CHECKING:
    from mixedfx.inference.emmeans.marginal_means import EMMeans
    from mixedfx.inference.emmeans.means_grid import Weights


class MarginalEffectsMixin(ResultsBase):
    """Slopes and effects."""

    @explains_arguments(EFFECTS_ARGUMENTS)
    def slopes(
        self,
        variable: str,
        by: str | Sequence[str] | None = None,
        *,
        at: Mapping[str, Any] | None = None,
        average: bool = False,
        data: Any = None,
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
        data : DataFrame, optional
            With ``average=True`` rows to take instead of those of the fit.
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
            if data is not None:
                raise ArgumentError("data= has rows to average over: add average=True.")
            options = means_grid.GridOptions(at=at, nesting=nesting, weights=weights, argument="by")
            return marginal_slopes.slopes(
                fit, ddf, variable, by, options=options, which=which, conf_level=conf_level
            )
        if weights != "equal":
            raise ArgumentError(
                f"average=True averages over the rows: weights={weights!r} weighs cells of a grid."
            )
        return marginal_slopes.average_slopes(
            fit,
            ddf,
            variable,
            row_averages.row_groups(fit, by, at, data),
            which=which,
            conf_level=conf_level,
        )

    @explains_arguments(EFFECTS_ARGUMENTS)
    def emtrends(self, variable: str, by: Any = None, **options: Any) -> EMMeans:
        """Estimate slopes along a covariate: another name of :meth:`slopes`."""
        return self.slopes(variable, by, **options)

    @explains_arguments(EFFECTS_ARGUMENTS)
    def comparisons(
        self,
        variables: str | Sequence[str] | Mapping[str, Any] | None = None,
        by: str | Sequence[str] | None = None,
        *,
        at: Mapping[str, Any] | None = None,
        data: Any = None,
        average: bool = True,
        comparison: Literal["difference", "ratio"] = "difference",
        which: Literal["mean", "linear"] = "mean",
        random: str | Sequence[str] = "none",
        df_method: DfMethod = "auto",
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """
        Compare the means at other values of a variable, averaged over rows, as marginaleffects.

        Each row has one and the other value of the variable, all else as it is (g-computation).

        Parameters
        ----------
        variables : str, list of str or mapping, optional
            Variables of the fixed part; by default all. Of a number one more is compared with its
            own value (of one that has two values these), of a factor each level with the first,
            unless a mapping says what: of a number how much more, two values, ``"sd"``, ``"2sd"``,
            ``"iqr"`` or ``"minmax"``; of a factor ``"reference"``, ``"sequential"``,
            ``"pairwise"`` or two levels (the second less the first).
        by : str or list of str, optional
            Variables within whose levels rows are averaged.
        at : mapping, optional
            Values of variables in all rows: conditional effects.
        data : DataFrame, optional
            Rows to take instead of those of the fit; without the columns of the offset that is
            at its mean.
        average : bool
            Whether to average over the rows; else there is an estimate for each.
        comparison : {"difference", "ratio"}
            Difference of the averages, or their ratio.
        which : {"mean", "linear"}
            Means of the response, or of the linear predictor.
        random : "none", "all" or list of str
            Grouping factors whose conditional modes are included, as of :meth:`predict`. They are
            taken as known: errors are those of the coefficients alone.
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom.
        conf_level : float
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
            ``term contrast``, the variables of ``by`` (or the row's own), and ``estimate std_error
            statistic df p_value conf_low conf_high``, by the delta method; of ratios on their
            logarithm, tested against one.

        Raises
        ------
        ArgumentError
            If a variable is in no term of the fixed part, or its values are not as above.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> cbpp = mfx.datasets.load("cbpp")
        >>> formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
        >>> fit = mfx.glmer(formula, cbpp, "binomial")
        >>> effects = fit.comparisons({"period": "sequential"})
        >>> effects[["term", "contrast", "estimate", "std_error"]].round(3)
             term contrast  estimate  std_error
        0  period    2 - 1    -0.114      0.035
        1  period    3 - 2    -0.010      0.028
        2  period    4 - 3    -0.026      0.027
        """
        check_flag("average", average)
        options = row_effects.EffectOptions(
            at, data, average, which, comparison, conf_level, random
        )
        return row_effects.comparisons(
            self.model, self._denominator_df(df_method), variables, by, options
        )

    @explains_arguments(EFFECTS_ARGUMENTS)
    def predictions(
        self,
        by: str | Sequence[str] | None = None,
        *,
        at: Mapping[str, Any] | None = None,
        data: Any = None,
        average: bool = True,
        which: Literal["mean", "linear"] = "mean",
        random: str | Sequence[str] = "none",
        df_method: DfMethod = "auto",
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """
        Average the predictions of rows, all of them or within levels of variables.

        Unlike a marginal mean, the average is over the rows as they are, not over a balanced grid.

        Parameters
        ----------
        by : str or list of str, optional
            Variables within whose levels rows are averaged.
        at : mapping, optional
            Values of variables in all rows.
        data : DataFrame, optional
            Rows to take instead of those of the fit; without the columns of the offset that is
            at its mean.
        average : bool
            Whether to average over the rows; else there is an estimate for each.
        which : {"mean", "linear"}
            Means of the response, or the linear predictor.
        random : "none", "all" or list of str
            Grouping factors whose conditional modes are included, as of :meth:`predict`. They are
            taken as known: errors are those of the coefficients alone.
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom.
        conf_level : float
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
            The variables of ``by`` (or the row's own), then ``estimate std_error statistic df
            p_value conf_low conf_high``, by the delta method.

        See Also
        --------
        predict : Predictions with random effects, and prediction intervals.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.predictions()[["estimate", "std_error", "df"]].round(2)
           estimate  std_error    df
        0    298.51       9.05  17.0
        """
        check_flag("average", average)
        options = row_effects.EffectOptions(
            at, data, average, which, conf_level=conf_level, random=random
        )
        ddf = self._denominator_df(df_method)
        return row_effects.average_predictions(self.model, ddf, by, options)

    @explains_arguments(EFFECTS_ARGUMENTS)
    def joint_tests(
        self,
        by: str | Sequence[str] | None = None,
        *,
        at: Mapping[str, Any] | None = None,
        df_method: DfMethod = "auto",
    ) -> pd.DataFrame:
        """
        Test each term of the fixed part by contrasts of marginal means, as R's joint_tests.

        Of each combination of variables in a term, the interaction contrasts are tested together,
        averaged with equal weights over the other variables. In models of factors without empty
        cells these are the tests of ``fit.anova()``.

        Parameters
        ----------
        by : str or list of str, optional
            Variables within each of whose levels the others are tested: simple effects.
        at : mapping, optional
            Values of variables. By default a covariate is at its mean less and plus one.
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom of the denominator.

        Returns
        -------
        pandas.DataFrame
            ``term``, the variables of ``by``, ``num_df den_df F p_value``; what is not estimable
            lowers ``num_df``. The degrees of freedom of the denominator are those of the joint
            test (emmeans takes the least of the contrasts').

        Examples
        --------
        >>> import mixedfx as mfx
        >>> cake = mfx.datasets.load("cake")
        >>> fit = mfx.lmer("angle ~ recipe * temperature + (1 | recipe:replicate)", cake)
        >>> fit.joint_tests(by="recipe").round(3)
                  term recipe  num_df  den_df      F  p_value
        0  temperature      A     5.0   210.0  8.576      0.0
        1  temperature      B     5.0   210.0  7.210      0.0
        2  temperature      C     5.0   210.0  6.746      0.0
        """
        ddf = self._denominator_df(df_method)
        return tests_of_terms.joint_tests(self.model, ddf, by, at)

    def to_marginaleffects(self, *, df_method: DfMethod = "auto") -> Any:
        """
        Give the fit to the package marginaleffects, as a model that its functions take.

        Predictions are the mean of the response at random effects of zero, in the levels of the
        fit.

        Parameters
        ----------
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            Method whose covariance of the coefficients is used: Kenward and Roger's is adjusted.

        Returns
        -------
        marginaleffects.classes.ModelAbstract
            For ``avg_slopes(model)``, ``avg_comparisons(model)`` and the others.

        Raises
        ------
        ImportError
            If marginaleffects is not installed.
        """
        return marginaleffects.marginaleffects_model(
            self.model, self._denominator_df(df_method).cov
        )
