"""What can be inferred from a fit: tests, intervals, comparisons, simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from mixedfx.bayes import sample
from mixedfx.errors import ArgumentError, check_share, expect_choice
from mixedfx.inference import anova as variance_tables
from mixedfx.inference import bootstrap as resampling
from mixedfx.inference import comparison, intervals, wald
from mixedfx.inference.bootstrap import Bootstrap
from mixedfx.inference.constraints import constraints
from mixedfx.inference.denominator_df import DenominatorDf, DfMethod, denominator_df
from mixedfx.inference.emmeans import emmeans as marginal_means
from mixedfx.inference.emmeans.emmeans import EMMeans
from mixedfx.inference.parameters import select_parameters
from mixedfx.inference.profile import profile as profiles
from mixedfx.inference.simulation import simulate
from mixedfx.results.estimates import Estimates

IntervalMethod = Literal["wald", "profile", "bootstrap"]


@dataclass(frozen=True, repr=False)
class Inference(Estimates):
    """
    Tests and intervals of a fit, and what is simulated from it.

    Wherever a test is made, ``df_method`` chooses its degrees of freedom:

    - ``"satterthwaite"``, the default, as lmerTest's;
    - ``"kenward-roger"``, as pbkrtest's, with its adjusted covariance; for REML fits;
    - ``"residual"``, rows less fixed effects;
    - ``"normal"``, infinite: z and chi-squared tests.

    Parameters
    ----------
    fit : Fit
        The fit that it names.
    """

    # ---------------------------------------------------------------- fixed effects

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values of the fixed effects, with Satterthwaite's degrees of freedom."""
        table = self.tidy().set_index("term")
        return table["p_value"].rename_axis(None)

    def tidy(
        self, *, df_method: DfMethod = "satterthwaite", conf_level: float = 0.95
    ) -> pd.DataFrame:
        """
        Lay the fixed effects out with their tests and intervals, a row each.

        Parameters
        ----------
        df_method : {"satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom.
        conf_level : float
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
            ``term estimate std_error statistic df p_value conf_low conf_high``; NaN for
            columns that were left out.

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
        return wald.tidy(self.model, self._degrees(df_method), conf_level=conf_level)

    def t_test(
        self,
        r_matrix: Any,
        *,
        df_method: DfMethod = "satterthwaite",
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """
        Test linear hypotheses on the fixed effects, one at a time.

        Parameters
        ----------
        r_matrix : str, list of str, dict or array
            As in statsmodels: ``"Days = 10"``, ``"a[T.2] = a[T.3]"``, several separated by
            commas, or rows of coefficients.
        df_method : {"satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom.
        conf_level : float
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
            A row per hypothesis, columns as of :meth:`tidy`. The estimate and its interval are
            of the left side, with all coefficients on it.

        Raises
        ------
        ArgumentError
            If a hypothesis cannot be read, or names what is no coefficient; lists them.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.t_test("Days = 10")[["term", "estimate", "df", "p_value"]].round(3)
                term  estimate    df  p_value
        0  Days = 10    10.467  17.0    0.766
        """
        asked = constraints(self.model, r_matrix)
        return wald.estimates(
            self.model,
            self._degrees(df_method),
            asked.rows,
            asked.labels,
            values=asked.values,
            conf_level=conf_level,
        )

    def wald_test(self, r_matrix: Any, *, df_method: DfMethod = "satterthwaite") -> pd.Series:
        """
        Test linear hypotheses on the fixed effects, all together.

        Parameters
        ----------
        r_matrix : str, list of str, dict or array
            As for :meth:`t_test`.
        df_method : {"satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom of the denominator.

        Returns
        -------
        pandas.Series
            ``F num_df den_df p_value``.

        Raises
        ------
        ArgumentError
            If a hypothesis cannot be read, or they contradict each other.

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
        return wald.f_test(self.model, self._degrees(df_method), constraints(self.model, r_matrix))

    def f_test(self, r_matrix: Any, *, df_method: DfMethod = "satterthwaite") -> pd.Series:
        """
        Test linear hypotheses together: another name of :meth:`wald_test`.

        Parameters
        ----------
        r_matrix : str, list of str, dict or array
            As for :meth:`t_test`.
        df_method : {"satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom of the denominator.

        Returns
        -------
        pandas.Series
            ``F num_df den_df p_value``.
        """
        return self.wald_test(r_matrix, df_method=df_method)

    def anova(
        self,
        type: Literal[1, 2, 3] = 3,  # noqa: A002 (the name that R has for it)
        *,
        df_method: DfMethod = "satterthwaite",
    ) -> pd.DataFrame:
        """
        Test every term of the fixed part by an F test.

        Parameters
        ----------
        type : {1, 2, 3}
            I: each after those written before it; II: each after all that do not contain it;
            III: each as the last, main effects averaged over what they interact with, whatever
            the coding.
        df_method : {"satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom of the denominator.

        Returns
        -------
        pandas.DataFrame
            Indexed by term: ``sum_sq mean_sq num_df den_df F p_value``.

        References
        ----------
        .. [1] Kuznetsova, Brockhoff and Christensen (2017), J. Stat. Softw. 82(13), section 2.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep).anova().round(2)
                sum_sq   mean_sq  num_df  den_df      F  p_value
        term
        Days  30031.01  30031.01     1.0    17.0  45.85      0.0
        """
        return variance_tables.anova(self.model, self._degrees(df_method), type)

    def emmeans(
        self,
        specs: str | Sequence[str],
        *,
        by: str | Sequence[str] | None = None,
        at: Mapping[str, Any] | None = None,
        df_method: DfMethod = "satterthwaite",
        conf_level: float = 0.95,
    ) -> EMMeans:
        """
        Estimate marginal means: the response at each level, all else balanced.

        Parameters
        ----------
        specs : str or list of str
            Variables whose levels are wanted.
        by : str or list of str, optional
            Variables within whose levels contrasts are made.
        at : mapping, optional
            Values of variables, such as ``{"Days": [0, 9]}``; numbers are at their mean and
            factors averaged without it.
        df_method : {"satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom.
        conf_level : float
            Coverage of the intervals.

        Returns
        -------
        EMMeans
            Its ``table``; its ``contrasts("pairwise", adjust="tukey")``.

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
        """
        how = self._degrees(df_method)
        return marginal_means.emmeans(self.model, how, specs, by=by, at=at, conf_level=conf_level)

    # ---------------------------------------------------------------- every parameter

    def conf_int(
        self,
        alpha: float = 0.05,
        method: IntervalMethod = "wald",
        *,
        parm: str | Sequence[str] | None = None,
        df_method: DfMethod = "normal",
        n: int = 1000,
        rng: Any = None,
        n_jobs: int = 1,
    ) -> pd.DataFrame:
        """
        Give confidence intervals for the parameters.

        Parameters
        ----------
        alpha : float
            One less the coverage.
        method : {"wald", "profile", "bootstrap"}
            From the curvature at the estimate (the fixed effects, unless ``parm`` says more);
            from the profile of the likelihood, which is that of maximum likelihood also for
            REML fits; from the percentiles of a parametric bootstrap.
        parm : str or list of str, optional
            Fixed effects by name, ``"sd(Days | Subject)"``,
            ``"corr(Intercept, Days | Subject)"``, ``"sigma"``.
        df_method : {"normal", "satterthwaite", "kenward-roger", "residual"}
            For Wald intervals of fixed effects. Normal quantiles are the default here, as in
            statsmodels and lme4; :meth:`tidy` has Satterthwaite's.
        n, rng, n_jobs : int, Generator or seed, int
            Draws of the bootstrap, their source of randomness, and processes.

        Returns
        -------
        pandas.DataFrame
            Indexed by parameter, columns 0 and 1, the limits.

        Raises
        ------
        ArgumentError
            If a name, the method or ``alpha`` is none of the possible; lists them.

        References
        ----------
        .. [1] Bates, Maechler, Bolker and Walker (2015), J. Stat. Softw. 67(1), section 5.1.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.conf_int(method="profile", parm=["Days", "sd(Days | Subject)"]).round(2)
                               0      1
        parameter
        Days                7.36  13.58
        sd(Days | Subject)  3.80   8.75
        """
        methods = ("wald", "profile", "bootstrap")
        if str(alpha) in methods:
            raise ArgumentError(f"alpha={alpha!r} comes first; write conf_int(method={alpha!r}).")
        expect_choice("method", method, methods)
        check_share("alpha", alpha)
        names = [parameter.name for parameter in select_parameters(self.model, parm)]
        if method == "wald":
            return intervals.wald_intervals(self.model, self._degrees(df_method), 1 - alpha, parm)
        if method == "profile":
            return profiles.profile_intervals(self.model, 1 - alpha, parm)
        drawn = self.bootstrap(n, rng=rng, n_jobs=n_jobs, progress=False)
        kept = [name for name in names if name in drawn.draws]
        return drawn.conf_int(alpha, kept).reindex(names).rename_axis("parameter")

    def profile(
        self,
        parm: str | Sequence[str] | None = None,
        *,
        zetas: Sequence[float] | None = None,
    ) -> pd.DataFrame:
        """
        Profile the likelihood of each parameter.

        Parameters
        ----------
        parm : str or list of str, optional
            Names as for :meth:`conf_int`; all without it.
        zetas : sequence of float, optional
            Where: signed roots of the rise of the deviance. From -3 to 3 without it.

        Returns
        -------
        pandas.DataFrame
            ``parameter value zeta``: at each value the best deviance, all else free, is
            ``zeta**2`` above its minimum.

        References
        ----------
        .. [1] Bates, Maechler, Bolker and Walker (2015), J. Stat. Softw. 67(1), section 5.1.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
        >>> fit.profile("sigma", zetas=[-2, 0, 2]).round(2)
          parameter  value  zeta
        0     sigma  38.05  -2.0
        1     sigma  49.51   0.0
        2     sigma  68.14   2.0
        """
        return profiles.profile(self.model, parm, zetas=zetas)

    def ranova(self) -> pd.DataFrame:
        """
        Test each random term by the likelihood ratio of the model with less of it.

        Returns
        -------
        pandas.DataFrame
            Indexed by what is left out: ``npar llf aic chisq df p_value p_mixture``. The plain
            p-value is too large, as a variance of zero is on the boundary; the mixture of
            chi-squared distributions mends that where one effect is left out.

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

    # ---------------------------------------------------------------- simulation

    def simulate(
        self, n: int = 1, *, rng: Any = None, random: Literal["new", "fitted"] = "new"
    ) -> pd.DataFrame:
        """
        Draw responses from the fitted model.

        Parameters
        ----------
        n : int
            How many.
        rng : numpy.random.Generator, int, optional
            Source of randomness, or its seed.
        random : {"new", "fitted"}
            Draw new random effects, or keep the conditional means.

        Returns
        -------
        pandas.DataFrame
            A row for each row used, a column per draw.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
        >>> fit.simulate(3, rng=1).shape
        (30, 3)
        """
        return simulate(self.model, n, rng=rng, random=random)

    def sample(
        self, draws: int = 1000, *, chains: int = 4, rng: Any = None, progress: bool = True
    ) -> Any:
        """
        Draw from the posterior, with the priors of the fit, or flat ones.

        Parameters
        ----------
        draws : int
            How many are kept of each chain.
        chains : int
            How many chains.
        rng : int, numpy.random.Generator or None
            Seed, or source of randomness; None for a fresh seed.
        progress : bool
            Whether a sampler that takes a while shows a bar.

        Returns
        -------
        xarray.DataTree
            For ArviZ: ``posterior`` (``beta sd corr sigma``, with a dispersion formula ``gamma``,
            and ``b_<group>``, each in units of the response), ``sample_stats``,
            ``posterior_predictive``, ``log_likelihood`` and ``observed_data``.

        Raises
        ------
        ArgumentError
            If an argument is wrong, or the extra ``bayes`` is not installed.
        PriorError
            If flat priors leave the posterior without a finite total.
        EngineRefusal
            If the dispersion formula has a random term.

        Warns
        -----
        SamplingWarning
            Names the parameters whose rank-normalised R-hat is 1.01 or more, or whose bulk
            effective sample size is 400 or less.

        Notes
        -----
        Fixed and random effects are integrated out of what is sampled, standard deviations and
        correlations, and are then drawn exactly. Where a mixture of t distributions, fitted to
        the density, resembles it, chains propose from that; elsewhere emcee's ensembles walk.

        References
        ----------
        .. [1] Gelman and others (2013), Bayesian Data Analysis, third edition, section 15.
        .. [2] Vehtari and others (2021), Bayesian Analysis 16:667.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
        >>> posterior = fit.sample(1000, rng=1)["posterior"]
        >>> dict(posterior["b_Batch"].sizes)
        {'chain': 4, 'draw': 1000, 'Batch': 6, 'Batch_effect': 1}
        """
        return sample.sample(self.model, draws=draws, chains=chains, rng=rng, progress=progress)

    def bootstrap(
        self,
        n: int = 1000,
        *,
        rng: Any = None,
        random: Literal["new", "fitted"] = "new",
        n_jobs: int = 1,
        progress: bool = True,
    ) -> Bootstrap:
        """
        Fit simulated responses: the parametric bootstrap.

        Parameters
        ----------
        n : int
            How many.
        rng : numpy.random.Generator, int, optional
            Source of randomness, or its seed; the draws do not depend on ``n_jobs``.
        random : {"new", "fitted"}
            Draw new random effects, or keep the conditional means.
        n_jobs : int
            Processes; -1 for all cores.
        progress : bool
            Whether to show a bar.

        Returns
        -------
        Bootstrap
            Its ``draws``, ``table``, ``conf_int()`` and ``failures``. If it is interrupted,
            what it has.

        References
        ----------
        .. [1] Davison and Hinkley (1997), Bootstrap Methods and their Application, chapter 5.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
        >>> fit.bootstrap(50, rng=1, progress=False).draws.shape
        (50, 4)
        """
        return resampling.bootstrap(
            self.model, n, rng=rng, random=random, n_jobs=n_jobs, progress=progress
        )

    # ---------------------------------------------------------------- shared

    def _degrees(self, method: str) -> DenominatorDf:
        """Degrees of freedom by a method, prepared once."""
        known = self._prepared
        if method not in known:
            known[method] = denominator_df(self.model, method)
        return known[method]

    @cached_property
    def _prepared(self) -> dict[str, DenominatorDf]:
        return {}
