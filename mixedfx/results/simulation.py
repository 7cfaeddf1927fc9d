"""New responses from a fitted model, refits to them, and draws from its posterior."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from mixedfx._other_programs import METHOD_ARGUMENTS, explains_arguments
from mixedfx._workers import Workers
from mixedfx.bayes import sample
from mixedfx.errors import ArgumentError, brief
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference import posterior_prediction
from mixedfx.inference import simulation as simulations
from mixedfx.inference.bootstrap import bootstrap as resampling
from mixedfx.results.base import ResultsBase
from mixedfx.streamed import family_summaries
from mixedfx.streamed import resampling as resampled_levels

if TYPE_CHECKING:
    from mixedfx.inference.bootstrap.bootstrap import Bootstrap


@dataclass(frozen=True)
class _OfModel:
    """A function of results, applied to a fitted model."""

    statistic: Callable[[Any], Any]
    results: Callable[[FittedModel], Any]

    def __call__(self, model: FittedModel) -> Any:
        return self.statistic(self.results(family_summaries.completed(model)))


class SimulationMixin(ResultsBase):
    """Simulation, bootstrap and posterior draws."""

    @explains_arguments(METHOD_ARGUMENTS)
    def simulate(
        self,
        n: int = 1,
        *,
        rng: Any = None,
        random: Literal["new", "fitted"] = "new",
        data: Any = None,
        params: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """
        Simulate responses from the fitted model.

        Parameters
        ----------
        n : int
            Number of responses.
        rng : numpy.random.Generator or int, optional
            Source of randomness, or its seed.
        random : {"new", "fitted"}
            Draw new random effects, or condition on the predicted ones; those of levels that the
            fit has not seen are always drawn.
        data : DataFrame, optional
            Rows to simulate the response of, instead of those of the fit; NaN where a value is
            missing. Where the response is written with its trials, as ``cbind(k, n - k)``, they
            have the columns of which it has the trials.
        params : mapping of str to float, optional
            Other values of some parameters, by the names of :meth:`conf_int`: fixed effects,
            ``"sd(Days | Subject)"``, ``"corr(Intercept, Days | Subject)"``, ``"sigma"``, the
            parameters of a family, such as ``"alpha"``; or ``"theta"``, an array as ``theta``.

        Returns
        -------
        pandas.DataFrame
            A row for each row used, or of ``data``, a column per simulated response, on the scale
            of ``fittedvalues``: proportions where rows have trials, else zeros and ones of a
            response of two levels. :meth:`refit` takes any of them.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
        >>> fit.simulate(3, rng=1).shape
        (30, 3)
        >>> drawn = fit.simulate(1, rng=1, params={"sigma": 0.0, "sd(Intercept | Batch)": 0.0})
        >>> float(drawn[0].max())
        1527.5
        """
        return simulations.simulate(self.model, n, rng=rng, random=random, data=data, params=params)

    @explains_arguments(METHOD_ARGUMENTS)
    def bootstrap(
        self,
        n: int = 1000,
        *,
        rng: Any = None,
        kind: Literal["parametric", "residual", "cases"] = "parametric",
        random: Literal["new", "fitted"] = "new",
        groups: str | None = None,
        resample_rows: bool = False,
        n_jobs: int = 1,
        client: Any = None,
        progress: bool = True,
        statistic: Callable[[Any], Any] | None = None,
        data: Any = None,
    ) -> Bootstrap:
        """
        Refit the model to simulated responses, or to resampled residuals or cases.

        Parameters
        ----------
        n : int
            Number of draws.
        rng : numpy.random.Generator or int, optional
            Source of randomness, or its seed; the draws do not depend on ``n_jobs``.
        kind : {"parametric", "residual", "cases"}
            Responses drawn from the fitted model; responses of conditional modes and residuals
            drawn with replacement, centred and with the variances of the fit, of linear models
            (Carpenter, Goldstein and Rasbash); or levels of a grouping factor drawn with
            replacement, with all of their rows: nothing of the model is then taken as true but
            the independence of the levels.
        random : {"new", "fitted"}
            Of ``kind="parametric"``: draw new random effects, or condition on the predicted ones.
        groups : str, optional
            Of ``kind="cases"``: the grouping factor whose levels are drawn, by default the one
            that all others are nested in. Levels of factors crossed with it stay as they are.
        resample_rows : bool
            Of ``kind="cases"``: whether the rows within each level are drawn with replacement, too.
        n_jobs : int
            Number of processes; -1 for all cores.
        client : dask.distributed.Client or concurrent.futures.Executor, optional
            What makes the draws instead: the workers of a cluster, which have mixedfx installed.
        progress : bool
            Whether to show a progress bar.
        statistic : callable, optional
            Function of a fit (:class:`Results`) that returns a number, a sequence, a Series or a
            dictionary of numbers, which are then bootstrapped instead of the parameters. It is
            called with this fit first; a draw for which it raises an error is a failure.
        data : source of rows, optional
            Of ``kind="cases"`` and a linear fit whose rows were read in chunks: the same source,
            which is read once more.

        Returns
        -------
        Bootstrap
            With ``draws``, ``table``, ``conf_int()`` and ``failures``; after an interrupt, or
            where a worker process was killed, of the draws made so far.

        References
        ----------
        .. [1] Davison and Hinkley (1997), Bootstrap Methods and their Application, chapter 5.
        .. [2] Carpenter, Goldstein and Rasbash (2003), J. R. Stat. Soc. C 52:431.
        .. [3] Van der Leeden, Meijer and Busing (2008), Resampling multilevel models, in Handbook
           of Multilevel Analysis.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
        >>> fit.bootstrap(50, rng=1, progress=False).draws.shape
        (50, 4)
        >>> icc = fit.bootstrap(50, rng=1, progress=False, statistic=lambda fit: fit.icc)
        >>> list(icc.draws)
        ['Batch', 'total']
        >>> fit.bootstrap(50, rng=1, progress=False, kind="residual")
        <mixedfx.Bootstrap: 50 draws of resampled residuals, 0 failed, 2 singular>
        """
        of_model = None
        if statistic is not None:
            if not callable(statistic):
                raise ArgumentError(f"statistic={brief(statistic)} must be a function of a fit.")
            of_model = _OfModel(statistic, type(self))
        by_level = resampled_levels.sums_of_cases(
            self.model, kind, groups, data, resample_rows=resample_rows
        )
        return resampling.bootstrap(
            self.model,
            n,
            rng=rng,
            kind=kind,
            random=random,
            groups=groups,
            resample_rows=resample_rows,
            by_level=by_level,
            workers=Workers(n_jobs, client),
            progress=progress,
            statistic=of_model,
        )

    @explains_arguments(METHOD_ARGUMENTS)
    def sample(
        self, draws: int = 1000, *, chains: int = 4, rng: Any = None, progress: bool = True
    ) -> Any:
        """
        Draw from the posterior, under the priors of the fit, or flat ones.

        Parameters
        ----------
        draws : int
            Number of draws kept of each chain.
        chains : int
            Number of chains.
        rng : numpy.random.Generator or int, optional
            Source of randomness, or its seed.
        progress : bool
            Whether a sampler that takes a while shows a progress bar.

        Returns
        -------
        PosteriorTree
            An xarray.DataTree, with ``predict(data, kind="mean")`` for new rows. For ArviZ:
            ``posterior`` (``beta sd corr sigma``, with a dispersion formula ``gamma``, and
            ``b_<group>``, each in units of the response), ``sample_stats``,
            ``posterior_predictive``, ``log_likelihood`` and ``observed_data``, these three of rows
            in memory.

        Raises
        ------
        ArgumentError
            If an argument is invalid, or the extra ``bayes`` is not installed.
        PriorError
            If the posterior is improper under flat priors.
        EngineRefusal
            If the dispersion formula has a random term.

        Warns
        -----
        SamplingWarning
            Names the parameters whose rank-normalised R-hat is 1.01 or more, or whose bulk
            effective sample size is 400 or less.

        Notes
        -----
        Fixed and random effects are integrated out analytically. Standard deviations and
        correlations are sampled from their marginal posterior, by independence Metropolis with a
        mixture of t distributions fitted to it, of more than eight by resampling of its draws, or
        by emcee's ensembles where the mixture fits badly. The effects are then drawn exactly, given
        each draw of them. The attributes of ``posterior`` have the ``sampler``, the ``efficiency``
        of the mixture and the ``pareto_k`` of its weights.

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
        samples = sample.sample(self.model, draws=draws, chains=chains, rng=rng, progress=progress)
        from mixedfx.inference.posterior_tree import PosteriorTree

        return PosteriorTree.of(posterior_prediction.PosteriorPredictor(self.model, samples))
