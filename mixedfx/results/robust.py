"""Tests of the fixed effects that are robust to a wrong covariance model within clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from mixedfx.errors import ArgumentError, check_flag
from mixedfx.estimation.fitted_model import FittedModel, check_no_priors
from mixedfx.formatting import Summary
from mixedfx.inference import clusters as clustering
from mixedfx.inference import constraints, hypothesis_basis, intervals, wald
from mixedfx.inference.cluster_robust import ClusterRobust, cluster_robust
from mixedfx.inference.coverage import DEFAULT_ALPHA, resolve_alpha
from mixedfx.inference.denominator_df import ConstantDf, DenominatorDf
from mixedfx.results.base import ResultsBase
from mixedfx.results.summary import summarize

CovType = Literal["CR2", "CR0", "CR1", "CR1p", "CR1S", "CR3"]


@dataclass(frozen=True, repr=False)
class RobustResults:
    """
    Fixed effects of a fit with a cluster-robust covariance.

    Parameters
    ----------
    model : FittedModel
        The fit, whose estimates these are.
    cov_type : str
        ``"CR2"`` or another one.
    groups : str
        Name of the clusters.
    n_groups : int
        Number of clusters.

    See Also
    --------
    Results.get_robustcov_results : Makes it.
    """

    model: FittedModel = field(repr=False)
    cov_type: str
    groups: str
    n_groups: int
    _ddf: DenominatorDf = field(repr=False)

    @property
    def params(self) -> pd.Series:
        """Fixed effects, those of the fit."""
        return wald.coefficients(self.model)

    @property
    def bse(self) -> pd.Series:
        """Robust standard errors."""
        cov = self.cov_params()
        return pd.Series(np.sqrt(np.diag(cov)), index=cov.index, name="std_error")

    @property
    def tvalues(self) -> pd.Series:
        """Estimates over their robust standard errors."""
        return (self.params / self.bse).rename("t value")

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values."""
        return self.tidy().set_index("term")["p_value"].rename_axis(None)

    def cov_params(self) -> pd.DataFrame:
        """
        Robust covariance of the fixed effects.

        Returns
        -------
        pandas.DataFrame
            Of shape (p, p); NaN for columns that were dropped.
        """
        return wald.covariance(self.model, self._ddf.cov)

    vcov = cov_params

    def tidy(self, *, conf_level: float = 0.95) -> pd.DataFrame:
        """
        Tabulate the fixed effects with their tests and intervals.

        Parameters
        ----------
        conf_level : float
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
            Columns as of :meth:`Results.tidy`.
        """
        return wald.tidy(self.model, self._ddf, conf_level=conf_level)

    def conf_int(
        self,
        alpha: float = DEFAULT_ALPHA,
        *,
        conf_level: float | None = None,
        parm: str | Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """
        Compute confidence intervals of the fixed effects.

        Parameters
        ----------
        alpha : float
            One minus the coverage.
        conf_level : float, optional
            Coverage, instead of ``alpha``.
        parm : str or list of str, optional
            Fixed effects by name.

        Returns
        -------
        pandas.DataFrame
            Indexed by parameter, columns 0 and 1, the limits.
        """
        coverage = 1.0 - resolve_alpha(alpha, conf_level)
        return intervals.wald_intervals(self.model, self._ddf, coverage, parm)

    def t_test(self, r_matrix: Any, *, conf_level: float = 0.95) -> pd.DataFrame:
        """
        Test linear hypotheses on the fixed effects, one at a time.

        Parameters
        ----------
        r_matrix : str, list of str, dict or array
            As of :meth:`Results.t_test`.
        conf_level : float
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
            A row per hypothesis.
        """
        found = constraints.linear_constraints(self.model, r_matrix)
        return wald.t_tests(
            self.model,
            self._ddf,
            found.rows,
            found.labels,
            values=found.values,
            conf_level=conf_level,
        )

    def wald_test(self, r_matrix: Any) -> pd.Series:
        """
        Test linear hypotheses jointly, by Hotelling's T squared with approximate moments.

        Parameters
        ----------
        r_matrix : str, list of str, dict or array
            As of :meth:`Results.wald_test`.

        Returns
        -------
        pandas.Series
            ``F num_df den_df p_value``.
        """
        found = constraints.linear_constraints(self.model, r_matrix)
        hypotheses = hypothesis_basis.echelon_hypotheses(self.model, found)
        return wald.f_test(self.model, self._ddf, hypotheses)

    f_test = wald_test

    def summary(self) -> Summary:
        """
        Summarize the fit with the robust tests.

        Returns
        -------
        Summary
            As of :meth:`Results.summary`.
        """
        return summarize(self.model, self._ddf, self._ddf.name)

    def __repr__(self) -> str:
        """Name the model, the covariance and the clusters."""
        return (
            f"<mixedfx robust results: {self.model.formula_text}; {self.cov_type}, {self.n_groups} "
            f"clusters of {self.groups}>"
        )

    def __str__(self) -> str:
        """Print the summary."""
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


class RobustMixin(ResultsBase):
    """Covariances of the fixed effects without the covariance model."""

    def get_robustcov_results(
        self, cov_type: CovType = "CR2", *, groups: Any = None, use_t: bool = True
    ) -> RobustResults:
        """
        Test the fixed effects by a covariance that is robust within clusters.

        Parameters
        ----------
        cov_type : {"CR2", "CR0", "CR1", "CR1p", "CR1S", "CR3"}
            Bell and McCaffrey's covariance, unbiased if the model holds; the sandwich; that of m
            clusters times ``m / (m - 1)``, ``m / (m - p)``, or ``m (n - 1) / ((m - 1) (n - p))``;
            nearly the jackknife. The names are clubSandwich's.
        groups : str or array of shape (nobs,), optional
            Clusters: a grouping factor or another column of the model, or the cluster of each
            row; a Series is matched by its index. By default the grouping factor in which all
            others are nested.
        use_t : bool
            t and F tests with Satterthwaite's degrees of freedom, as clubSandwich's; or normal and
            chi-squared tests.

        Returns
        -------
        RobustResults
            ``params bse cov_params() tidy() conf_int() t_test() wald_test() summary()``.

        Raises
        ------
        ArgumentError
            If clusters are correlated by a random effect that they share, or the model is
            generalised or has priors.

        References
        ----------
        .. [1] Bell and McCaffrey (2002), Survey Methodology 28:169.
        .. [2] Tipton and Pustejovsky (2015), J. Educ. Behav. Stat. 40:604.
        .. [3] Pustejovsky and Tipton (2018), J. Bus. Econ. Stat. 36:672.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Reaction ~ Days + (1 | Subject)", mfx.datasets.load("sleepstudy"))
        >>> robust = fit.get_robustcov_results("CR2")
        >>> robust.tidy()[["term", "estimate", "std_error", "df"]].round(3)
                term  estimate  std_error    df
        0  Intercept   251.405      6.825  17.0
        1       Days    10.467      1.546  17.0
        """
        check_flag("use_t", use_t)
        model = self.model
        if not model.spec.residual.linear:
            raise ArgumentError(
                "get_robustcov_results() is of linear models: of a generalised one fit.bootstrap() "
                "gives intervals, and a dispersion parameter (family='nbinom2', 'betabinomial') "
                "takes up more variation."
            )
        check_no_priors(model, "get_robustcov_results()")
        clusters = clustering.resolve_clusters(model, groups)
        ddf = cluster_robust(model, clusters.codes, cov_type)
        return RobustResults(
            model, cov_type, clusters.name, ddf.n_clusters, ddf if use_t else _normal(ddf)
        )


def _normal(ddf: ClusterRobust) -> ConstantDf:
    return ConstantDf(f"{ddf.name}, normal", ddf.covariance, float("inf"))
