"""Estimated marginal means and slopes, and their comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._arrays import set_readonly
from mixedfx._deprecation import renamed_attribute
from mixedfx.documents import DocumentPart, TableDocumentsMixin
from mixedfx.errors import check_share
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.denominator_df import DenominatorDf
from mixedfx.inference.emmeans.comparison_method import Comparison, MethodComparison, comparison_of
from mixedfx.inference.emmeans.contrast_table import contrast_table
from mixedfx.inference.emmeans.contrasts import Method, check_two_means
from mixedfx.inference.emmeans.display import (
    Captions,
    mean_labels,
    means_document,
    means_html,
    means_text,
)
from mixedfx.inference.emmeans.joint_tests import joint_test
from mixedfx.inference.emmeans.linear_functions import LinearFunctions
from mixedfx.inference.emmeans.p_adjust import Adjust, adjust_family, resolve_adjustment
from mixedfx.inference.emmeans.scale import LinkScale, exponentiated

Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, repr=False, eq=False)
class EMMeans(TableDocumentsMixin):
    """
    Estimated marginal means or slopes, as ``fit.emmeans()`` and ``fit.slopes()`` return them.

    Parameters
    ----------
    table : pandas.DataFrame
        A row per mean: a column for each variable of ``by`` and ``specs`` with its level, then
        ``emmean std_error df conf_low conf_high``, or for slopes ``slope std_error df statistic
        p_value conf_low conf_high``. The first of several variables varies fastest, and those of
        ``by`` slowest. NaN for means that are not estimable.
    specs, by : tuple of str
        The variables whose levels have a mean each; those of ``by`` split the contrasts.
    averaged_over : tuple of str
        The variables that are averaged over.
    fixed_at : mapping
        From the other variables to their one value: the mean of a covariate, or that of ``at``.
    conf_level : float
        Coverage of the intervals of the means.
    method : str or None
        How ``contrasts()`` compares the means unless told: the left side of a formula such as
        ``"pairwise ~ a"``. If there is one, printing shows the contrasts below the means.
    notes : tuple of str
        Caveats: nested factors, means that are not estimable, interactions with
        variables averaged over, and the degrees of freedom of a singular fit.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> cake = mfx.datasets.load("cake")
    >>> fit = mfx.lmer("angle ~ recipe + temp + (1 | recipe:replicate)", cake)
    >>> means = fit.emmeans("recipe")
    >>> means
    recipe emmean std_error   df conf_low conf_high
    A      33.122    1.7368 42.0   29.617    36.627
    B      31.644    1.7368 42.0   28.139    35.150
    C      31.600    1.7368 42.0   28.095    35.105
    <BLANKLINE>
    Held at: temp = 200. Degrees of freedom: satterthwaite. Confidence level: 0.95.
    >>> means.contrasts()[["contrast", "estimate", "p_value"]].round(4)
      contrast  estimate  p_value
    0    A - B    1.4778   0.8200
    1    A - C    1.5222   0.8102
    2    B - C    0.0444   0.9998
    """

    table: pd.DataFrame
    specs: tuple[str, ...]
    by: tuple[str, ...]
    averaged_over: tuple[str, ...]
    fixed_at: Mapping[str, Any]
    conf_level: float
    method: Method | None
    notes: tuple[str, ...]
    _fit: FittedModel = field(repr=False)
    _ddf: DenominatorDf = field(repr=False)
    _functions: LinearFunctions = field(repr=False)
    _groups: tuple[slice, ...] = field(repr=False)  # rows of each combination of ``by``'s levels
    _scale: LinkScale = field(repr=False)

    def __post_init__(self) -> None:
        """Raise if a method is to compare one mean."""
        if self.method is not None:
            self._compared_groups(MethodComparison(self.method))

    averaged = renamed_attribute("EMMeans", "averaged", "averaged_over")
    held = renamed_attribute("EMMeans", "held", "fixed_at")

    @property
    def rows(self) -> Matrix:
        """Coefficients of the means over the columns of ``X``; NaN where not estimable."""
        estimable = self._functions.estimable[:, None]
        rows = np.where(estimable, self._functions.rows, np.nan)
        set_readonly(rows)
        return rows

    def contrasts(
        self,
        method: Method | Mapping[str, Any] | None = None,
        *,
        interaction: Any = None,
        ref: Any = None,
        which: Literal["linear", "mean"] | None = None,
        adjust: Adjust | None = None,
        conf_level: float | None = None,
    ) -> pd.DataFrame:
        """
        Compare the means, within each level of ``by``.

        Parameters
        ----------
        method : str or mapping, optional
            ``"pairwise"`` or ``"tukey"``: all differences, earlier less later; ``"revpairwise"``:
            later less earlier; ``"trt.vs.ctrl"`` or ``"dunnett"``: each less the first;
            ``"trt.vs.ctrlk"``: each less the last; ``"consec"``: each less the one before;
            ``"eff"``: each less the mean of the means; ``"del.eff"``: less the mean of the others;
            ``"mean_chg"``: the mean of those from each on less the mean of those before;
            ``"poly"``: orthogonal polynomials over equal steps, in the integers of published
            tables. Or a mapping from labels to a coefficient for each mean, or to coefficients
            by level: ``{"h-l": {"high": 1, "low": -1}}``; levels of several variables are tuples.
            Without it the method of the formula of the means, or ``"pairwise"``.
        interaction : str, list of str, mapping or True, optional
            Interaction contrasts: products of the contrasts of each variable of the means by such
            a method, one for all, a list of one for each or a mapping from variables to methods;
            True is ``"pairwise"``, differences of differences.
        ref : optional
            Level (of several variables a tuple, or the label) that ``"trt.vs.ctrl"`` and
            ``"dunnett"`` compare the others with, instead of the first.
        which : {"linear", "mean"}, optional
            ``"linear"``: differences of the linear predictor. ``"mean"``: their exponentials where
            these are ratios and the coefficients sum to zero: odds ratios of a logit link, hazard
            ratios of a complementary log-log, ratios of means of a log, and of medians where the
            response is a logarithm; differences of the linear predictor otherwise, as in emmeans.
            By default that of the means.
        adjust : str, optional
            Adjustment for multiplicity within each level of ``by``: ``"tukey"``, ``"holm"``,
            ``"bonferroni"``, ``"sidak"``, ``"mvt"`` (from the joint t distribution of the
            contrasts, exact for any: Dunnett's for comparisons with one mean), ``"dunnettx"``
            (emmeans' approximation to it), ``"scheffe"``, ``"fdr"`` or ``"none"``. Without it
            ``"tukey"`` for all pairs, ``"mvt"`` for ``"dunnett"``, ``"none"`` for polynomials,
            interactions and coefficients given, ``"holm"`` for the others (emmeans takes
            ``"dunnettx"`` or ``"mvt"`` there, and ``"fdr"`` for ``"eff"``).
        conf_level : float, optional
            Coverage of the intervals, that of the means without it. They hold for all of a family
            together: Holm's has Bonferroni's intervals; those of ``"fdr"`` and ``"none"`` are not
            adjusted.

        Returns
        -------
        pandas.DataFrame
            The variables of ``by``, then ``contrast estimate std_error df statistic p_value
            conf_low conf_high``; ratios are called ``odds_ratio``, ``hazard_ratio`` or ``ratio``
            instead of ``estimate``, and have the tests of the differences. NaN for contrasts that
            are not estimable; a contrast can be estimable although its means are not. It is printed
            with its adjustment and for how many contrasts that is, which ``attrs`` has, too.

        Raises
        ------
        ArgumentError
            If a choice or a level is unknown; coefficients are not one for each mean; there is
            one mean only; or Tukey's adjustment is asked for other contrasts than all pairs.

        References
        ----------
        .. [1] Tukey (1953), The problem of multiple comparisons; Kramer (1956), Biometrics
           12:307, for unequal standard errors.
        .. [2] Holm (1979), Scand. J. Stat. 6:65. Benjamini and Hochberg (1995), J. R. Stat.
           Soc. B 57:289.
        .. [3] Dunnett (1955), J. Am. Stat. Assoc. 50:1096. Genz and Bretz (2009), Computation of
           Multivariate Normal and t Probabilities. Scheffe (1953), Biometrika 40:87.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> means = fit.emmeans("Days", at={"Days": [0, 5, 9]}, df_method="kenward-roger")
        >>> means.contrasts("consec")[["contrast", "estimate", "df"]].round(2)
                contrast  estimate    df
        0  Days5 - Days0     52.34  17.0
        1  Days9 - Days5     41.87  17.0
        >>> means.contrasts({"late": {0: -0.5, 5: -0.5, 9: 1}})[["contrast", "estimate"]].round(2)
          contrast  estimate
        0     late     68.04
        """
        if conf_level is None:
            conf_level = self.conf_level
        check_share("conf_level", conf_level)
        method = (self.method or "pairwise") if method is None else method
        comparison = comparison_of(self.specs, method, ref=ref, interaction=interaction)
        adjustment = resolve_adjustment(
            comparison.default_adjust, adjust, all_pairs=comparison.all_pairs
        )
        scale = self._scale if which is None else self._scale.contrasted(self._fit, which)
        groups, families, ratio = self._compared_groups(comparison), [], None
        for group in groups:
            levels, names = self._levels_in(group)
            labels, coefficients = comparison.coefficients(levels, names)
            ratio = scale.ratio_name(coefficients)
            functions = self._functions.select(group).combine(coefficients)
            family = self._adjusted(functions, adjustment, len(levels), conf_level)
            if ratio is not None:
                labels, _ = comparison.coefficients(levels, names, sign="/")
                family = exponentiated(family, ratio, scale.response.ratio_unit)
            family.insert(0, "contrast", labels)
            families.append(self._insert_by(family, group.start))
        sizes = [group.stop - group.start for group in groups]
        remark = scale.contrast_remark(ratio)
        return contrast_table(families, sizes, adjustment, remark=remark)

    def _levels_in(self, group: slice) -> tuple[pd.DataFrame, list[str]]:
        """Levels and labels of the means of a group."""
        table = self.table[[*self.specs]]
        return table.iloc[group], mean_labels(table, self.specs)[group]

    def _adjusted(
        self, functions: LinearFunctions, adjustment: Adjust, k: int, conf_level: float
    ) -> pd.DataFrame:
        """Estimates of a family of contrasts of k means, adjusted."""
        family = functions.estimate(self._fit, self._ddf, conf_level)

        def correlation(tested: Mask) -> Matrix:
            cov = functions.select(tested).covariance(self._ddf)
            sds = np.sqrt(np.diag(cov))
            return np.asarray(cov / np.outer(sds, sds))

        return adjust_family(
            family, adjustment, k=k, conf_level=conf_level, correlation=correlation
        )

    def regrid(self) -> EMMeans:
        """
        Take means of the response as estimates of their own, so that contrasts are differences.

        Their errors are by the delta method and their intervals symmetric, as of R's ``regrid``.

        Returns
        -------
        EMMeans
            Of the same levels; ``contrasts()`` are differences of probabilities or counts, say.
            Slopes, and means of a linear model, are as they were.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> cbpp = mfx.datasets.load("cbpp")
        >>> formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
        >>> means = mfx.glmer(formula, cbpp, "binomial").emmeans("period")
        >>> means.regrid().contrasts("consec")[["contrast", "estimate", "std_error"]].round(3)
                    contrast  estimate  std_error
        0  period2 - period1    -0.114      0.035
        1  period3 - period2    -0.010      0.028
        2  period4 - period3    -0.026      0.027
        """
        fit, own = self._fit, self._scale.regridded(self._fit)
        if own is None:
            return self
        at, beta = self._functions, fit.solution.beta
        mean, slope = own.mean_and_slope(at.values(beta))
        functions = at.linearised(mean, slope[:, None] * at.rows, beta)
        levels = self.table[[*self.by, *self.specs]]
        table = estimate_table(fit, self._ddf, functions, levels, self.conf_level, own)
        return replace(self, table=table, _functions=functions, _scale=own)

    def joint(self) -> pd.DataFrame:
        """
        Test that the means within each level of ``by`` are all equal.

        Returns
        -------
        pandas.DataFrame
            The variables of ``by``, then ``F num_df den_df p_value``, of the estimable
            differences; NaN if there are none. The degrees of freedom of the
            denominator are those of the differences from the first mean together (emmeans takes
            the least of theirs one by one).

        Raises
        ------
        ArgumentError
            If there is one mean only.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> cake = mfx.datasets.load("cake")
        >>> fit = mfx.lmer("angle ~ recipe * temperature + (1 | recipe:replicate)", cake)
        >>> fit.emmeans("temperature").joint().round(2)
               F  num_df  den_df  p_value
        0  20.52     5.0   210.0      0.0
        """
        tests = []
        for group in self._compared_groups(MethodComparison("pairwise")):
            n_differences = group.stop - group.start - 1
            from_first = np.column_stack([-np.ones(n_differences), np.eye(n_differences)])
            differences = self._functions.select(group).combine(from_first)
            test = joint_test(self._fit, self._ddf, differences).to_frame().T
            tests.append(self._insert_by(test.reset_index(drop=True), group.start))
        return pd.concat(tests, ignore_index=True)

    def _compared_groups(self, comparison: Comparison) -> list[slice]:
        """Groups of means that are compared: all but nests of one level."""
        if comparison.given:
            return list(self._groups)
        check_two_means(max(group.stop - group.start for group in self._groups))
        return [group for group in self._groups if group.stop - group.start > 1]

    def _insert_by(self, table: pd.DataFrame, start: int) -> pd.DataFrame:
        """Insert the levels of ``by`` of one group as the first columns."""
        for position, name in enumerate(self.by):
            table.insert(position, name, [self.table[name].iloc[start]] * len(table))
        return table

    def _shown(self) -> tuple[pd.DataFrame, Captions, tuple[str, pd.DataFrame] | None]:
        """The table, what is said of it, and the contrasts that a formula asks for."""
        captions = Captions(
            self._scale.caption,
            self.averaged_over,
            self.fixed_at,
            self._ddf.name,
            self.conf_level,
            self.notes,
        )
        compared = None if self.method is None else (self.method, self.contrasts())
        return self.table, captions, compared

    def _document(self) -> tuple[list[DocumentPart], list[str]]:
        """The table and its contrasts as text, and their captions."""
        return means_document(*self._shown())

    def __str__(self) -> str:
        """Text of the table with its captions."""
        return means_text(*self._shown())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """HTML of the same."""
        return means_html(*self._shown())


def estimate_table(
    fit: FittedModel,
    ddf: DenominatorDf,
    functions: LinearFunctions,
    levels: pd.DataFrame,
    conf_level: float,
    scale: LinkScale,
) -> pd.DataFrame:
    """Levels of each function, then its estimate and interval, on some scale."""
    estimates = functions.estimate(fit, ddf, conf_level)
    estimates = estimates.rename(columns={"estimate": scale.columns[0]})
    columns = {str(name): np.asarray(levels[name]) for name in levels}
    return pd.concat([pd.DataFrame(columns), estimates[[*scale.columns]]], axis=1)
