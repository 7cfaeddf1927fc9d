"""Meta-analysis: mixed models of effects with known standard errors: :func:`meta`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import EvalEnvironment
from scipy import special

from mixedfx._cached import cached_property
from mixedfx.api import ModelOptions, fit_formula, warned_results
from mixedfx.errors import ArgumentError, brief, check_flag, check_share
from mixedfx.inference.denominator_df import DfMethod
from mixedfx.inference.heterogeneity import Heterogeneity, heterogeneity
from mixedfx.results.results import Results

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class MetaAnalysis:
    """
    A meta-analysis, as returned by :func:`mixedfx.meta`.

    Parameters
    ----------
    fit : Results
        The mixed model, which has everything else: predictions, effects of the studies, profiles.
    """

    fit: Results
    _without: Results | None = field(repr=False)  # without moderators

    @cached_property
    def _found(self) -> Heterogeneity:
        return heterogeneity(self.fit.model)

    @cached_property
    def _between(self) -> float:
        """Variance between effects, of all levels together."""
        return float(self.fit.vcomp.sum())

    @property
    def has_moderators(self) -> bool:
        """Whether the fixed part is more than a mean."""
        return self._without is not None

    @property
    def tau2(self) -> pd.Series | float:
        """Variance between studies; by level where there are several."""
        variances = self.fit.vcomp
        return float(variances.iloc[0]) if len(variances) == 1 else variances

    @property
    def tau(self) -> pd.Series | float:
        """Standard deviation between studies."""
        found = self.tau2
        return np.sqrt(found) if isinstance(found, pd.Series) else float(np.sqrt(found))

    @property
    def I2(self) -> float:
        """Share of the variance that is between studies, in percent (Higgins and Thompson 2002)."""
        return 100.0 * self._found.share(self._between)

    @property
    def H2(self) -> float:
        """Total over sampling variance."""
        return 1.0 + self._between / self._found.typical_variance

    @property
    def R2(self) -> float:
        """Share of the heterogeneity that moderators account for, in percent; NaN without them."""
        if self._without is None:
            return np.nan
        before = float(self._without.vcomp.sum())
        return 100.0 * max(1.0 - self._between / before, 0.0) if before > 0.0 else np.nan

    @property
    def Q(self) -> pd.Series:
        """Cochran's test of (residual) heterogeneity: ``Q df p_value``."""
        found = self._found
        return pd.Series({"Q": found.Q, "df": float(found.df), "p_value": found.p_value}, name="Q")

    def tidy(self, *, df_method: DfMethod = "normal", conf_level: float = 0.95) -> pd.DataFrame:
        """
        Tabulate the mean effect, or the coefficients of the moderators.

        Parameters
        ----------
        df_method : {"normal", "satterthwaite", "kenward-roger"}
            Normal tests as of metafor; or t tests, for few studies.
        conf_level : float
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
            Columns as of :meth:`Results.tidy`.
        """
        return self.fit.tidy(df_method=df_method, conf_level=conf_level)

    def prediction_interval(self, *, conf_level: float = 0.95) -> pd.Series:
        """
        Interval of the true effect of a new study, without moderators.

        Parameters
        ----------
        conf_level : float
            Coverage.

        Returns
        -------
        pandas.Series
            ``estimate pred_low pred_high``: the mean, less and plus the quantile of
            ``sqrt(se^2 + tau^2)``.

        References
        ----------
        .. [1] Higgins, Thompson and Spiegelhalter (2009), J. R. Stat. Soc. A 172:137.
        """
        check_share("conf_level", conf_level)
        if self.has_moderators:
            raise ArgumentError(
                "prediction_interval() is of a model without moderators: "
                "fit.predict(new, random='none', interval='confidence') has means at their values."
            )
        mean, se = float(self.fit.params.iloc[0]), float(self.fit.bse.iloc[0])
        half = float(special.ndtri(0.5 + 0.5 * conf_level))
        half *= float(np.sqrt(se**2 + self._between))
        return pd.Series({"estimate": mean, "pred_low": mean - half, "pred_high": mean + half})

    def forest(self, *, labels: Any = None, conf_level: float = 0.95, ax: Any = None) -> Any:
        """
        Draw the studies' effects with intervals, and the mean.

        Parameters
        ----------
        labels : str or sequence of str, optional
            Names of the rows, or the column of the data that has them; by default the levels of
            the innermost grouping factor.
        conf_level : float
            Coverage of the intervals.
        ax : matplotlib axes, optional
            Where to draw.

        Returns
        -------
        matplotlib axes
            Squares of an area in proportion to the weight; the diamond is the mean with its
            interval, the line at its level the interval of a new study's effect.
        """
        from mixedfx.plots.meta import forest

        check_share("conf_level", conf_level)
        return forest(self, self._labels(labels), conf_level=conf_level, ax=ax)

    def funnel(self, *, ax: Any = None) -> Any:
        """
        Draw effects against their standard errors, with limits of 95% about the mean.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where to draw.

        Returns
        -------
        matplotlib axes
        """
        from mixedfx.plots.meta import funnel

        return funnel(self, ax=ax)

    def _labels(self, labels: Any) -> list[str]:
        rows = self.fit.model.rows
        if labels is None:
            group = list(self.fit.ngroups)[-1]
            levels = self.fit.model.spec.levels_of(group).labels
            return [
                ", ".join(map(str, level)) if isinstance(level, tuple) else str(level)
                for level in levels[rows.codes_of(group)]
            ]
        if isinstance(labels, str):
            frame = rows.model_frame
            if labels not in frame:
                raise ArgumentError(
                    f"labels='{labels}' is no column of the model; give the labels themselves."
                )
            labels = frame[labels]
        texts = list(map(str, labels))
        if len(texts) != rows.n:
            raise ArgumentError(f"labels has {len(texts)} values, and the fit {rows.n} rows.")
        return texts

    def __str__(self) -> str:
        """Heterogeneity and coefficients as text."""
        groups = self.fit.vcomp.index.get_level_values("group")
        variances = zip(groups, self.fit.vcomp, strict=True)
        tau2 = ", ".join(f"{group} {variance:.4f}" for group, variance in variances)
        Q, n, method = self.Q, self.fit.nobs, "REML" if self.fit.reml else "ML"
        lines = [
            f"Meta-analysis: {self.fit.model.formula_text} ({n} effects, {method})",
            f"tau2: {tau2}; I2 {self.I2:.1f}%, H2 {self.H2:.2f}"
            + ("" if np.isnan(self.R2) else f"; moderators account for {self.R2:.1f}%"),
            f"Heterogeneity: Q({Q['df']:.0f}) = {Q['Q']:.2f}, p = {Q['p_value']:.3g}",
            "",
            self.tidy().round(4).to_string(index=False),
        ]
        return "\n".join(lines)

    __repr__ = __str__


def meta(
    formula: str,
    data: Any,
    *,
    se: Any = None,
    variance: Any = None,
    reml: bool = True,
) -> MetaAnalysis:
    """
    Combine effects of studies whose standard errors are known.

    Parameters
    ----------
    formula : str
        ``"effect ~ 1 + (1 | study)"``, moderators in place of the 1; several levels,
        ``(1 | district/school)``, where effects are nested.
    data : DataFrame
        A row for each effect.
    se, variance : str or array
        Standard errors of the effects, or their variances: one of the two.
    reml : bool
        REML, or maximum likelihood.

    Returns
    -------
    MetaAnalysis
        ``tau2 I2 H2 Q R2 tidy() prediction_interval() forest() funnel()``; ``.fit`` has all else.

    Raises
    ------
    ArgumentError
        If neither or both of ``se`` and ``variance`` are given, or there is no random term.

    References
    ----------
    .. [1] Viechtbauer (2010), Conducting meta-analyses in R with the metafor package, J. Stat.
       Softw. 36(3).
    .. [2] Raudenbush (2009), Analyzing effect sizes: random-effects models, in The Handbook of
       Research Synthesis and Meta-Analysis.

    Examples
    --------
    >>> import mixedfx as mfx, pandas as pd
    >>> trials = pd.DataFrame(
    ...     {
    ...         "trial": list("ABCDEF"),
    ...         "effect": [-0.89, -1.59, -1.44, -0.22, -0.79, 0.01],
    ...         "se": [0.57, 0.44, 0.14, 0.23, 0.08, 0.06],
    ...     }
    ... )
    >>> found = mfx.meta("effect ~ 1 + (1 | trial)", trials, se="se")
    >>> round(found.tau2, 3), round(found.I2, 1)
    (0.371, 95.8)
    """
    check_flag("reml", reml)
    if (se is None) == (variance is None):
        raise ArgumentError("meta() takes either se= or variance=, of each effect.")
    if variance is not None:
        se = _roots(data, variance)
    env = EvalEnvironment.capture(1)
    options = ModelOptions(residual_sd=se, reml=reml)
    fit = warned_results(fit_formula(env, formula, data, options))
    if not fit.ngroups:
        raise ArgumentError(
            f"'{fit.formula}' has no random term: effects of studies differ, which "
            "'(1 | study)' says."
        )
    without = None
    if list(fit.params.index) != ["Intercept"]:
        random = " + ".join(str(term.formula_term) for term in fit.model.spec.random_terms)
        plain = f"{fit.model.formula.response} ~ 1 + {random}"
        without = Results(fit_formula(env, plain, data, options))
    return MetaAnalysis(fit, without)


def _roots(data: Any, variance: Any) -> Any:
    """Standard errors: the roots of a column or of values."""
    if isinstance(variance, str):
        if variance not in data:
            raise ArgumentError(f"variance='{variance}' is no column of the data.")
        variance = data[variance]
    values = np.asarray(variance, dtype=float)
    if not (values[~np.isnan(values)] >= 0.0).all():
        raise ArgumentError(f"variance={brief(variance)} has negative values.")
    return np.sqrt(values)
