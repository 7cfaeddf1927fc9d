"""Tests of the fixed and random effects of a fit, and marginal means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import pandas as pd

from mixedfx._other_programs import EMMEANS_ARGUMENTS, METHOD_ARGUMENTS, explains_arguments
from mixedfx.errors import check_flag
from mixedfx.inference import anova as anova_tables
from mixedfx.inference import comparison, constraints, hypothesis_basis, wald
from mixedfx.inference.denominator_df import DfMethod
from mixedfx.inference.emmeans import emmeans as marginal_means
from mixedfx.inference.emmeans import response_means
from mixedfx.results.base import ResultsBase
from mixedfx.results.frames import FrameName, OtherFrame, converted

if TYPE_CHECKING:
    from mixedfx.inference.emmeans.marginal_means import EMMeans
    from mixedfx.inference.emmeans.means_grid import Weights


class HypothesisTestsMixin(ResultsBase):
    """Tests of fixed and random effects, and marginal means."""

    # ---------------------------------------------------------------- fixed effects

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values of the fixed effects, as of :meth:`tidy`."""
        table = self.tidy().set_index("term")
        return table["p_value"].rename_axis(None)

    @overload
    def tidy(
        self,
        *,
        df_method: DfMethod = ...,
        conf_level: float = ...,
        exponentiate: bool = ...,
        to: Literal["pandas"] = ...,
    ) -> pd.DataFrame: ...
    @overload
    def tidy(
        self,
        *,
        df_method: DfMethod = ...,
        conf_level: float = ...,
        exponentiate: bool = ...,
        to: OtherFrame,
    ) -> Any: ...
    @explains_arguments(METHOD_ARGUMENTS)
    def tidy(
        self,
        *,
        df_method: DfMethod = "auto",
        conf_level: float = 0.95,
        exponentiate: bool = False,
        to: FrameName = "pandas",
    ) -> Any:
        """
        Tabulate the fixed effects with their tests and intervals.

        Parameters
        ----------
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom; ``"auto"`` is Satterthwaite's of a linear model, and normal
            distributions of a generalised one, which has no others.
        conf_level : float
            Coverage of the intervals.
        exponentiate : bool
            Whether to give the exponentials of estimates and limits: odds ratios of a logit
            link, ratios of means of a log link, hazard ratios of ``cloglog``, ratios of medians
            of a linear model of the log response. The standard error is that of the exponential by
            the delta method, ``exp(estimate) std_error``, as of R's broom.mixed; statistic and
            p-value remain those of the coefficient.
        to : {"pandas", "polars", "pyarrow"}
            Library of the table.

        Returns
        -------
        pandas.DataFrame
            A row per coefficient, ``term estimate std_error statistic df p_value conf_low
            conf_high``; NaN for columns that were dropped.

        References
        ----------
        .. [1] Kuznetsova, Brockhoff and Christensen (2017), J. Stat. Softw. 82(13).
        .. [2] Kenward and Roger (1997), Biometrics 53:983.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.tidy()[["term", "estimate", "std_error", "df", "p_value"]].round(3)
                term  estimate  std_error    df  p_value
        0  Intercept   251.405      6.825  17.0      0.0
        1       Days    10.467      1.546  17.0      0.0
        """
        check_flag("exponentiate", exponentiate)
        table = wald.tidy(self.model, self._denominator_df(df_method), conf_level=conf_level)
        return converted(wald.exponentiated(self.model, table) if exponentiate else table, to)

    @explains_arguments(METHOD_ARGUMENTS)
    def t_test(
        self,
        r_matrix: Any,
        *,
        df_method: DfMethod = "auto",
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """
        Test linear hypotheses on the fixed effects, one at a time.

        Parameters
        ----------
        r_matrix : str, list of str, dict or array
            As in statsmodels: ``"Days = 10"``, ``"a[T.2] = a[T.3]"``, several separated by
            commas, or rows of coefficients.
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom.
        conf_level : float
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
            A row per hypothesis, columns as of :meth:`tidy`. The estimate and its interval are
            of the linear combination of coefficients, before the constant is subtracted.

        Raises
        ------
        ArgumentError
            If a hypothesis cannot be parsed, or names no coefficient; lists them.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.t_test("Days = 10")[["term", "estimate", "df", "p_value"]].round(3)
                term  estimate    df  p_value
        0  Days = 10    10.467  17.0    0.766
        """
        hypotheses = constraints.linear_constraints(self.model, r_matrix)
        return wald.t_tests(
            self.model,
            self._denominator_df(df_method),
            hypotheses.rows,
            hypotheses.labels,
            values=hypotheses.values,
            conf_level=conf_level,
        )

    def wald_test(self, r_matrix: Any, *, df_method: DfMethod = "auto") -> pd.Series:
        """
        Test linear hypotheses on the fixed effects jointly, by an F or a chi-squared test.

        The test is of the space that the hypotheses span, in whatever rows and coding they are
        written.

        Parameters
        ----------
        r_matrix : str, list of str, dict or array
            As for :meth:`t_test`.
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom of the denominator.

        Returns
        -------
        pandas.Series
            ``F num_df den_df p_value``. Of a generalised model, and with normal distributions,
            ``den_df`` is infinite: ``F num_df`` is Wald's chi-squared.

        Raises
        ------
        ArgumentError
            If a hypothesis cannot be parsed, or they contradict each other.

        References
        ----------
        .. [1] Fai and Cornelius (1996), J. Stat. Comput. Simul. 54:363.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.wald_test("Intercept = 250, Days = 10").round(3)["den_df"]
        np.float64(17.0)
        """
        found = constraints.linear_constraints(self.model, r_matrix)
        hypotheses = hypothesis_basis.echelon_hypotheses(self.model, found)
        return wald.f_test(self.model, self._denominator_df(df_method), hypotheses)

    def f_test(self, r_matrix: Any, *, df_method: DfMethod = "auto") -> pd.Series:
        """Test linear hypotheses jointly: another name of :meth:`wald_test`."""
        return self.wald_test(r_matrix, df_method=df_method)

    @overload
    def anova(
        self,
        type: Literal[1, 2, 3] = ...,
        *,
        df_method: DfMethod = ...,
        to: Literal["pandas"] = ...,
    ) -> pd.DataFrame: ...
    @overload
    def anova(
        self, type: Literal[1, 2, 3] = ..., *, df_method: DfMethod = ..., to: OtherFrame
    ) -> Any: ...
    @explains_arguments(METHOD_ARGUMENTS)
    def anova(
        self,
        type: Literal[1, 2, 3] = 3,  # noqa: A002 (the name that R has for it)
        *,
        df_method: DfMethod = "auto",
        to: FrameName = "pandas",
    ) -> Any:
        """
        Test each term of the fixed part, by F tests or Wald's chi-squared tests.

        Parameters
        ----------
        type : {1, 2, 3} or {"I", "II", "III"}
            I: sequential, main effects before interactions and otherwise in the order of the
            formula, as in R; II: each term given all those that do not contain it; III: each
            term given all others, main effects averaged over the factors they interact with,
            whatever the coding.
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom of the denominator.
        to : {"pandas", "polars", "pyarrow"}
            Library of the table.

        Returns
        -------
        pandas.DataFrame
            Indexed by term: ``sum_sq mean_sq num_df den_df F p_value``. ``mean_sq`` is
            ``F sigma**2`` and ``sum_sq`` is ``mean_sq num_df``, in squared units of the response.
            Types I and II are of weighted rows, as R's ``lm`` has them; lmerTest has plain ones.
            ``attrs["notes"]`` names cells without data and says what the hypotheses then are; of a
            term that they leave nothing of ``num_df`` is 0. Of a generalised model the columns are
            ``chisq df p_value``. Types II and III are those of R's ``car::Anova`` (III with sums to
            zero); it has no I, which divides the joint statistic in the order of the formula.

        Raises
        ------
        ArgumentError
            If ``type`` or ``df_method`` is not one of the choices, or the method does not apply
            to the fit.

        References
        ----------
        .. [1] Kuznetsova, Brockhoff and Christensen (2017), J. Stat. Softw. 82(13), section 2.
        .. [2] SAS Institute (1978), Tests of hypotheses in fixed-effects linear models: the four
           types of estimable functions.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep).anova().round(2)
                sum_sq   mean_sq  num_df  den_df      F  p_value
        term
        Days  30031.01  30031.01     1.0    17.0  45.85      0.0
        """
        return converted(anova_tables.anova(self.model, self._denominator_df(df_method), type), to)

    def ranova(self) -> pd.DataFrame:
        """
        Test each random effect by the likelihood ratio of the model without it.

        Returns
        -------
        pandas.DataFrame
            Indexed by what is left out: ``npar llf aic chisq df p_value p_mixture``. As a
            variance of zero is on the boundary, ``p_value`` is conservative; ``p_mixture`` is
            that of the mixture of chi-squared distributions where one effect is left out.

        References
        ----------
        .. [1] Stram and Lee (1994), Biometrics 50:1171.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.ranova()[["chisq", "df", "p_mixture"]].round(3)
                                   chisq   df  p_mixture
        left_out
        <none>                       NaN  NaN        NaN
        Days in (Days | Subject)  42.837  2.0        0.0
        """
        return comparison.ranova(self.model)

    @explains_arguments(EMMEANS_ARGUMENTS)
    def emmeans(
        self,
        specs: str | Sequence[str],
        *,
        by: str | Sequence[str] | None = None,
        at: Mapping[str, Any] | None = None,
        nesting: str | Mapping[str, Any] | None = "auto",
        weights: Weights = "equal",
        cov_reduce: Any = "mean",
        which: Literal["linear", "mean", "probabilities"] = "linear",
        bias_adjust: bool = False,
        df_method: DfMethod = "auto",
        conf_level: float = 0.95,
    ) -> EMMeans:
        """
        Estimate marginal means, averaged over a balanced reference grid, as R's emmeans.

        Parameters
        ----------
        specs : str or list of str
            Variables at whose levels the means are estimated; or a formula as in R,
            ``"~ a | b"`` for ``specs="a", by="b"``. A method of contrasts on its left side,
            ``"pairwise ~ a | b"``, is that of ``contrasts()``; they are printed below the means.
        by : str or list of str, optional
            Variables within whose levels contrasts are computed.
        at : mapping, optional
            Values of variables, such as ``{"Days": [0, 9]}``; by default numeric variables are
            at their means and factors are averaged over.
        nesting : str or mapping, optional
            Factors whose levels belong to one combination of others': ``"var %in% fam"``, several
            separated by commas, or ``{"var": "fam"}``. By default they are detected, where each
            level occurs with one level of the other or the factor has no main effect; None for
            none. Means are then averages over the combinations that occur, and a nested factor's
            means are shown with the factors around it.
        weights : {"equal", "proportional", "outer", "cells", "flat"}
            Weights of the cells that are averaged over, as in emmeans: equal ones;
            ``"proportional"`` to the rows of each combination of the other factors, the same in
            every mean, or to the product of its margins (``"outer"``); ``"cells"``: to the rows of
            each cell; ``"flat"``: equal ones of the cells that have rows.
        cov_reduce : str, callable, False or mapping
            Values of covariates that ``at`` does not give: ``"mean"``, ``"median"``, ``"range"``
            (both ends), a function of the values in the rows, or False for all distinct ones;
            or a mapping from covariates to these.
        which : {"linear", "mean", "probabilities"}
            ``"linear"``: means of the linear predictor, such as log odds. ``"mean"``: these means
            on the scale of the response, probabilities or expected counts, with standard errors by
            the delta method and transformed limits; contrasts are then ratios where the link has
            them. If the formula transforms the response, as in ``np.log(y)``, ``np.sqrt(y)`` or
            ``1 / y``, they are transformed back. Of ordered
            categories ``"linear"`` is the latent variable less the mean of the thresholds,
            ``"mean"`` the mean class from 1 to K, and ``"probabilities"`` those of all categories,
            grouped by them; contrasts are differences.
        bias_adjust : bool
            Whether means on the scale of the response are adjusted, to second order, for the
            variance of the random effects, its mean over the rows, with the residual one where
            the formula transforms the response: emmeans' ``bias.adjust``.
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom.
        conf_level : float
            Coverage of the intervals.

        Returns
        -------
        EMMeans
            With ``table`` and ``contrasts("pairwise", adjust="tukey")``.

        References
        ----------
        .. [1] Searle, Speed and Milliken (1980), The American Statistician 34:216.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.emmeans("Days", at={"Days": [0, 9]}).table.round(1)
           Days  emmean  std_error    df  conf_low  conf_high
        0   0.0   251.4        6.8  17.0     237.0      265.8
        1   9.0   345.6       14.6  17.0     314.7      376.5
        >>> cake = mfx.datasets.load("cake")
        >>> fit = mfx.lmer("angle ~ recipe * temp + (1 | recipe:replicate)", cake)
        >>> fit.emmeans("revpairwise ~ recipe").contrasts()[["contrast", "p_value"]].round(3)
          contrast  p_value
        0    B - A     0.82
        1    C - A     0.81
        2    C - B     1.00
        """
        means = marginal_means.emmeans(
            self.model,
            self._denominator_df(df_method),
            specs,
            by=by,
            conf_level=conf_level,
            at=at,
            nesting=nesting,
            weights=weights,
            cov_reduce=cov_reduce,
            which=which,
        )
        return response_means.on_scale(self.model, means, which, bias_adjust=bias_adjust)
