"""Confidence intervals and profile likelihoods of the parameters of a fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import pandas as pd

from mixedfx._other_programs import METHOD_ARGUMENTS, check_options, explains_arguments
from mixedfx._workers import Workers
from mixedfx.errors import ArgumentError, check_choice
from mixedfx.inference import intervals, parameters
from mixedfx.inference.bootstrap import bootstrap as resampling
from mixedfx.inference.coverage import DEFAULT_ALPHA, resolve_alpha
from mixedfx.inference.denominator_df import DfMethod, resolve_df_method
from mixedfx.inference.profile import profile as profiles
from mixedfx.results.base import ResultsBase

if TYPE_CHECKING:
    from mixedfx.inference.bootstrap.resampling import Kind


IntervalMethod = Literal["wald", "profile", "bootstrap"]


class BootstrapOptions(TypedDict, total=False):
    """Arguments that ``conf_int`` passes on to the bootstrap."""

    n: int
    rng: Any
    kind: Kind
    groups: str | None


class IntervalsMixin(ResultsBase):
    """Confidence intervals and profile likelihoods."""

    @explains_arguments(METHOD_ARGUMENTS)
    def conf_int(
        self,
        alpha: float = DEFAULT_ALPHA,
        method: IntervalMethod = "wald",
        *,
        conf_level: float | None = None,
        parm: str | Sequence[str] | None = None,
        df_method: DfMethod = "auto",
        n_jobs: int = 1,
        client: Any = None,
        **bootstrap: Unpack[BootstrapOptions],
    ) -> pd.DataFrame:
        """
        Compute confidence intervals of the parameters.

        Parameters
        ----------
        alpha : float
            One minus the coverage, as in statsmodels.
        method : {"wald", "profile", "bootstrap"}
            From the curvature at the estimate (of the fixed effects, unless ``parm`` names
            others); from the profile likelihood, which is that of maximum likelihood also for
            REML fits; from the percentiles of a bootstrap.
        conf_level : float, optional
            Coverage, instead of ``alpha``.
        parm : str or list of str, optional
            Fixed effects by name, ``"sd(Days | Subject)"``,
            ``"corr(Intercept, Days | Subject)"``, ``"sigma"``; of a dispersion model
            ``"dispersion(kind[T.usual])"`` and ``"sd(dispersion | friend)"``.
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            For Wald intervals of fixed effects: t quantiles of these degrees of freedom, as in
            :meth:`tidy`. ``"normal"`` gives the intervals of statsmodels and of lme4's
            ``confint(method="Wald")``.
        n_jobs, client
            Number of processes, or the workers of a cluster, for the other two methods, as in
            :meth:`bootstrap`.
        **bootstrap
            ``n`` and ``rng`` of the bootstrap: number of draws (1000), source of randomness or
            seed; ``kind`` and ``groups``, as of :meth:`bootstrap`.

        Returns
        -------
        pandas.DataFrame
            Indexed by parameter, columns 0 and 1, the limits.

        Raises
        ------
        ArgumentError
            If a name or the method is unknown, ``alpha`` or ``conf_level`` is not between 0 and
            1, both are given, or the method does not apply to the fit.
        CallError
            If a further argument is none of the bootstrap's.

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
        check_choice("method", method, methods)
        resolve_df_method(self.model, df_method)
        alpha = resolve_alpha(alpha, conf_level)
        workers = Workers(n_jobs, client)
        check_options("conf_int", bootstrap, BootstrapOptions.__annotations__)
        names = [parameter.name for parameter in parameters.select_parameters(self.model, parm)]
        if method == "wald":
            ddf = self._denominator_df(df_method)
            return intervals.wald_intervals(self.model, ddf, 1.0 - alpha, parm)
        if method == "profile":
            return profiles.profile_intervals(self.model, 1.0 - alpha, parm, workers)
        bootstrapped = resampling.bootstrap(
            self.model, progress=False, workers=workers, **bootstrap
        )
        available = [name for name in names if name in bootstrapped.draws]
        return bootstrapped.conf_int(alpha, available).reindex(names).rename_axis("parameter")

    def profile(
        self,
        parm: str | Sequence[str] | None = None,
        *,
        zetas: Sequence[float] | None = None,
        n_jobs: int = 1,
        client: Any = None,
    ) -> pd.DataFrame:
        """
        Compute the profile likelihood of each parameter.

        Parameters
        ----------
        parm : str or list of str, optional
            Names as for :meth:`conf_int`; by default all parameters.
        zetas : sequence of float, optional
            Signed square roots of the increase of the deviance, by default from -3 to 3.
        n_jobs, client
            Number of processes, or the workers of a cluster, as in :meth:`bootstrap`: each
            profiles some of the parameters.

        Returns
        -------
        pandas.DataFrame
            ``parameter value zeta``: the deviance minimised over all other parameters exceeds
            its minimum by ``zeta**2`` at each value.

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
        workers = Workers(n_jobs, client)
        return profiles.profile(self.model, parm, zetas=zetas, workers=workers)
