"""Bootstrap: estimates of a model refitted to simulated or resampled responses, or to cases.

Failed refits are counted and reported; singular ones are draws like any other, as in lme4's
bootMer.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict, Unpack

import numpy as np
import pandas as pd

from mixedfx._escaping import html_block
from mixedfx._warnings import warn_caller
from mixedfx._workers import THIS_PROCESS, Workers
from mixedfx.errors import (
    MixedfxWarning,
    check_choice,
    check_count,
    check_flag,
)
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.blocked_responses import check_own_process
from mixedfx.inference.bootstrap.intervals import (
    INTERVALS,
    IntervalName,
    bca_limits,
    interval_limits,
    select_columns,
)
from mixedfx.inference.bootstrap.parallel import collect_draws, iter_batches, progress_bar
from mixedfx.inference.bootstrap.refit import (
    Draw,
    Failure,
    parameter_names,
    parameter_values,
    refit_model,
)
from mixedfx.inference.bootstrap.resampling import Kind, Resampling
from mixedfx.inference.bootstrap.statistic import Statistic, statistic_values
from mixedfx.inference.coverage import DEFAULT_ALPHA, resolve_alpha
from mixedfx.inference.simulation import RandomName
from mixedfx.likelihood.stratified import StratifiedSums
from mixedfx.linalg.blas_threads import single_threaded_blas
from mixedfx.linalg.random_streams import spawn_generators

_KIND_NAMES = {"residual": "resampled residuals", "cases": "resampled cases"}


class ResamplingOptions(TypedDict, total=False):
    """Arguments of :class:`~mixedfx.inference.bootstrap.resampling.Resampling`."""

    kind: Kind
    random: RandomName
    groups: str | None
    resample_rows: bool
    by_level: StratifiedSums | None


@dataclass(frozen=True, repr=False, eq=False)
class Bootstrap:
    """
    Estimates of a model refitted to simulated or resampled data.

    Parameters
    ----------
    draws : pandas.DataFrame
        A row per draw that succeeded, by its number; columns are the fixed effects, then each
        term's standard deviations and correlations, sigma, and theta. A correlation with an
        effect of zero variance does not exist and is NaN.
    estimates : pandas.Series
        Those of the fit, by the same names.
    requested : int
        Number of draws asked for.
    failures : tuple of Failure
        Draws without estimates, which are not in ``draws``.
    singular : int
        Number of draws on the boundary: a variance of zero, a correlation of one.
    kind : str
        ``"parametric"``, ``"residual"`` or ``"cases"``.
    frequencies : pandas.DataFrame, optional
        How often each draw has each level of the grouping factor, of resampled cases.

    References
    ----------
    .. [1] Davison and Hinkley (1997), Bootstrap Methods and their Application, chapter 5.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
    >>> bootstrapped = bootstrap(fit.model, 200, rng=1, progress=False)
    >>> bootstrapped
    <mixedfx.Bootstrap: 200 draws, 0 failed, 5 singular>
    >>> bootstrapped.conf_int(parm=["sd(Intercept | Batch)", "sigma"]).round(1)
                              0     1
    sd(Intercept | Batch)   6.4  64.1
    sigma                  34.3  61.7
    """

    draws: pd.DataFrame
    estimates: pd.Series
    requested: int
    failures: tuple[Failure, ...] = field(default=())
    singular: int = 0
    kind: Kind = "parametric"
    frequencies: pd.DataFrame | None = field(default=None)

    def conf_int(
        self,
        alpha: float = DEFAULT_ALPHA,
        parm: str | Sequence[str] | None = None,
        method: IntervalName = "percentile",
        *,
        conf_level: float | None = None,
    ) -> pd.DataFrame:
        """
        Compute confidence intervals.

        Parameters
        ----------
        alpha : float
            One minus the coverage.
        parm : str or list of str, optional
            Which parameters; all of them without it.
        method : {"percentile", "basic", "normal", "bca"}
            Quantiles of the draws; twice the estimate less the opposite quantile; the estimate
            less its bias, and normal quantiles of the draws' standard deviation about it; or
            quantiles corrected for bias and acceleration, of resampled cases, whose influences
            are from a regression of the draws on the frequencies of the levels.
        conf_level : float, optional
            Coverage, instead of ``alpha``.

        Returns
        -------
        pandas.DataFrame
            A row per parameter, the limits in columns 0 and 1.

        Raises
        ------
        ArgumentError
            If ``alpha`` or ``conf_level`` is not between zero and one, both are given, or a name
            is unknown; or if ``method="bca"`` and the draws are not of cases, or too few.
        """
        check_choice("method", method, INTERVALS)
        alpha = resolve_alpha(alpha, conf_level)
        columns = select_columns(list(self.draws.columns), parm)
        draws, estimates = self.draws.iloc[:, columns], self.estimates.iloc[columns]
        if method == "bca":
            limits = bca_limits(draws, estimates.to_numpy(), self.frequencies, alpha)
        else:
            limits = interval_limits(draws, estimates.to_numpy(), alpha, method)
        return pd.DataFrame(limits.T, index=draws.columns)

    @property
    def table(self) -> pd.DataFrame:
        """Estimate, bias, standard error and 95% percentile interval of each parameter."""
        interval = self.conf_int().to_numpy()
        estimates = self.estimates.to_numpy()
        return pd.DataFrame(
            {
                "estimate": estimates,
                "bias": self.draws.mean().to_numpy() - estimates,
                "std_error": self.draws.std().to_numpy(),
                "conf_low": interval[:, 0],
                "conf_high": interval[:, 1],
            },
            index=self.draws.columns,
        )

    def __repr__(self) -> str:
        """Numbers of draws, of failures and of singular refits."""
        return f"<mixedfx.Bootstrap: {self._counts()}>"

    def _counts(self) -> str:
        n_draws = len(self.draws) + len(self.failures)
        total = f"{n_draws} draws"
        if n_draws < self.requested:
            total = f"{n_draws} of {self.requested} draws (interrupted)"
        kinds = f" ({_failure_counts(self.failures)})" if self.failures else ""
        of_kind = "" if self.kind == "parametric" else f" of {_KIND_NAMES[self.kind]}"
        return f"{total}{of_kind}, {len(self.failures)} failed{kinds}, {self.singular} singular"

    def _repr_html_(self) -> str:
        table = self.table.to_html(border=0)
        return html_block(f"<p>Bootstrap: {html.escape(self._counts())}</p>{table}")


def bootstrap(
    fit: FittedModel,
    n: int = 1000,
    *,
    rng: Any = None,
    workers: Workers = THIS_PROCESS,
    progress: bool = True,
    statistic: Statistic | None = None,
    **options: Unpack[ResamplingOptions],
) -> Bootstrap:
    """
    Refit a model to ``n`` responses simulated from it, or resampled, or to resampled cases.

    References
    ----------
    .. [1] Davison and Hinkley (1997), Bootstrap Methods and their Application, chapter 2.
    """
    check_flag("progress", progress)
    n = check_count("n", n)
    resampling = Resampling(**options)
    check_own_process(fit, workers)
    # Where the function fails on the fit itself, its own error is the best message.
    estimates = None if statistic is None else statistic_values(statistic(fit))
    model = refit_model(fit, resampling, statistic)
    rngs = spawn_generators(rng, n)
    with (
        single_threaded_blas(fit.crossprod.symbolic.dense_size),
        progress_bar(n, progress) as advance,
    ):
        draws, ended = collect_draws(iter_batches(model, rngs, workers), advance)
    if estimates is None:
        values = parameter_values(fit.solution, fit.residual)
        estimates = pd.Series(values, index=parameter_names(fit))
    result = replace(_assemble(estimates, draws, n), kind=resampling.kind)
    for message in _warnings(result, ended):
        warn_caller(message, MixedfxWarning)
    return result


def _assemble(estimates: pd.Series, results: list[Draw | Failure], n: int) -> Bootstrap:
    """Tabulate draws and failures by their numbers, whatever the order they were made in."""
    names = list(estimates.index)
    lengths = [
        Failure(d.number, "wrong length", f"{len(d.values)} values instead of {len(names)}")
        for d in results
        if isinstance(d, Draw) and len(d.values) != len(names)
    ]
    draws = [d for d in results if isinstance(d, Draw) and len(d.values) == len(names)]
    draws = sorted(draws, key=lambda d: d.number)
    failures = [*(f for f in results if isinstance(f, Failure)), *lengths]
    failures = sorted(failures, key=lambda f: f.draw)
    numbers = pd.Index([d.number for d in draws], dtype=np.int64, name="draw")
    values = np.array([d.values for d in draws]).reshape(len(draws), len(names))
    counts = [d.frequencies for d in draws if d.frequencies is not None]
    return Bootstrap(
        draws=pd.DataFrame(values, index=numbers, columns=names),
        estimates=estimates.rename("estimate"),
        requested=int(n),
        failures=tuple(failures),
        singular=sum(d.singular for d in draws),
        frequencies=pd.DataFrame(np.array(counts), index=numbers) if counts else None,
    )


def _warnings(result: Bootstrap, ended: str) -> Iterator[str]:
    n_failed = len(result.failures)
    n_draws = len(result.draws) + n_failed
    if n_draws < result.requested:
        yield f"{ended} after {n_draws} of {result.requested} draws, which are returned."
    if n_failed:
        yield (
            f"{n_failed} of {n_draws} draws failed and are left out: "
            f"{_failure_counts(result.failures)}. Their numbers and reasons are in failures."
        )


def _failure_counts(failures: Sequence[Failure]) -> str:
    """Numbers of failures by kind, the most frequent first."""
    counts = Counter(f.kind for f in failures).most_common()
    return ", ".join(f"{count} {kind}" for kind, count in counts)
