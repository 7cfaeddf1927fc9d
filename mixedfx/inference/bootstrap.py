"""A fit to the spread of its estimates: simulate from it, refit, repeat.

A draw changes only the response, so the rows are read for three cross-products and the rest of
the design, the order of elimination too, is shared by all draws. Each draw has a generator of
its own: what it gives does not depend on which process makes it, or when.

What fails is counted and shown, and a singular refit is a draw like any other.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri

from mixedfx.design.build import Design
from mixedfx.errors import ArgumentError, MixedfxError, MixedfxWarning, check_share, expect_choice
from mixedfx.estimation.boundary import boundary_parameters
from mixedfx.estimation.dispersion.estimate import DispersionEstimate
from mixedfx.estimation.fitted_model import FittedModel, build_fitted_model, expect_no_priors
from mixedfx.estimation.least_squares import least_squares_result
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.estimation.profiled import Profiled
from mixedfx.fit import fit_design
from mixedfx.formula.terms import Formula
from mixedfx.inference.parameters import parameters
from mixedfx.inference.simulation import (
    RandomName,
    ResponseDistribution,
    response_distribution,
    spawn_generators,
)
from mixedfx.likelihood.accumulate import with_response
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution
from mixedfx.linalg.blas_threads import single_threaded_blas

Vector = npt.NDArray[np.float64]

IntervalName = Literal["percentile", "basic", "normal"]
INTERVALS: tuple[IntervalName, ...] = ("percentile", "basic", "normal")

# What a refit may die of; anything else is a mistake of ours and is not counted but raised.
_FAILURES = (MixedfxError, ArithmeticError, ValueError)  # numpy's LinAlgError is a ValueError
# Draws that a worker makes at a stretch: enough that sending it the model costs little, few
# enough that all workers end together and an interruption loses little.
_MOST_AT_A_STRETCH, _STRETCHES = 50, 8


@dataclass(frozen=True)
class Failure:
    """
    A draw that gave no estimates.

    Parameters
    ----------
    draw : int
        Its number: column of :func:`mixedfx.inference.simulation.simulate` with the same ``rng``.
    kind : str
        ``"not converged"``, or the name of the error.
    message : str
        What the search or the error said.
    """

    draw: int
    kind: str
    message: str


@dataclass(frozen=True, repr=False, eq=False)
class Bootstrap:
    """
    Estimates from simulated responses.

    Parameters
    ----------
    draws : pandas.DataFrame
        A row per draw that succeeded, by its number; columns are the fixed effects, then each
        term's standard deviations and correlations, sigma, and theta. A correlation with an
        effect of zero variance does not exist and is NaN.
    estimates : pandas.Series
        Those of the fit, by the same names.
    requested : int
        How many draws were asked for.
    failures : tuple of Failure
        Draws without estimates, which are in no table.
    singular : int
        How many of the draws are on the boundary: a variance of zero, a correlation of one.

    References
    ----------
    .. [1] Davison and Hinkley (1997), Bootstrap Methods and their Application, chapter 5.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
    >>> drawn = bootstrap(fit.model, 200, rng=1, progress=False)
    >>> drawn
    <mixedfx.Bootstrap: 200 draws, 0 failed, 5 singular>
    >>> drawn.conf_int(parm=["sd(Intercept | Batch)", "sigma"]).round(1)
                              0     1
    sd(Intercept | Batch)   6.4  64.1
    sigma                  34.3  61.7
    """

    draws: pd.DataFrame
    estimates: pd.Series
    requested: int
    failures: tuple[Failure, ...] = field(default=())
    singular: int = 0

    def conf_int(
        self,
        alpha: float = 0.05,
        parm: str | Sequence[str] | None = None,
        method: IntervalName = "percentile",
    ) -> pd.DataFrame:
        """
        Compute confidence intervals.

        Parameters
        ----------
        alpha : float
            One less the coverage.
        parm : str or list of str, optional
            Which parameters; all of them without it.
        method : {"percentile", "basic", "normal"}
            Quantiles of the draws; twice the estimate less the opposite quantile; the estimate
            less its bias, and normal quantiles of the draws' standard deviation about it.

        Returns
        -------
        pandas.DataFrame
            A row per parameter, the ends in columns 0 and 1.

        Raises
        ------
        ArgumentError
            If ``alpha`` is not between zero and one, or a name is unknown.
        """
        expect_choice("method", method, INTERVALS)
        check_share("alpha", alpha)
        wanted = _wanted(list(self.draws.columns), parm)
        draws, estimates = self.draws.iloc[:, wanted], self.estimates.iloc[wanted]
        ends = _ends(draws, estimates.to_numpy(), alpha, method)
        return pd.DataFrame(ends.T, index=draws.columns)

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
        """Count the draws."""
        return f"<mixedfx.Bootstrap: {self._counts()}>"

    def _counts(self) -> str:
        made = len(self.draws) + len(self.failures)
        total = f"{made} draws"
        if made < self.requested:
            total = f"{made} of {self.requested} draws (interrupted)"
        why = f" ({_kinds(self.failures)})" if self.failures else ""
        return f"{total}, {len(self.failures)} failed{why}, {self.singular} singular"

    def _repr_html_(self) -> str:
        return f"<div><p>Bootstrap: {self._counts()}</p>{self.table.to_html(border=0)}</div>"


def bootstrap(
    fit: FittedModel,
    n: int = 1000,
    *,
    rng: Any = None,
    random: RandomName = "new",
    n_jobs: int = 1,
    progress: bool = True,
) -> Bootstrap:
    """
    Refit a model to responses simulated from it.

    References
    ----------
    .. [1] Davison and Hinkley (1997), Bootstrap Methods and their Application, chapter 2.
    """
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int | np.integer) or n_jobs == 0:
        raise ArgumentError(
            f"n_jobs={n_jobs!r} must be a number of processes, or -1 for one per core."
        )
    expect_no_priors(fit, "bootstrap()")
    model = _model(fit, random)
    own = spawn_generators(rng, n)
    with single_threaded_blas(fit.crossprod.symbolic.dense_size), _counter(n, progress) as count:
        made = _collect(_parts(model, own, n_jobs), count)
    result = _joined(fit, made, n)
    for text in _complaints(result):
        warnings.warn(text, MixedfxWarning, stacklevel=3)
    return result


# ------------------------------------------------------------------ one draw


@dataclass(frozen=True)
class _Model:
    """All that a draw needs of a fit; unlike a fit, it can be sent to another process."""

    formula: Formula
    design: Design
    crossprod: CrossProducts
    reml: bool
    responses: ResponseDistribution


@dataclass(frozen=True)
class _Draw:
    number: int
    values: Vector
    singular: bool


def _model(fit: FittedModel, random: RandomName) -> _Model:
    # Patsy's recipes refuse to be pickled; labels and columns as read would only weigh.
    bare = replace(fit.original_design, spec=cast(Any, None), variables={}, index=pd.RangeIndex(0))
    if bare.dispersion is not None:
        dispersion = replace(
            bare.dispersion, info=cast(Any, None), env=cast(Any, None), variables={}
        )
        bare = replace(bare, dispersion=dispersion)
    return _Model(
        fit.formula, bare, fit.crossprod, fit.reml, response_distribution(fit, random=random)
    )


def _refit(model: _Model, number: int, rng: np.random.Generator) -> _Draw | Failure:
    design = model.design
    y = model.responses.draw(rng)
    if design.offset is not None:
        y = y - design.offset
    try:
        if design.dispersion is not None:
            return _refit_scale(replace(design, y=y), number, model.reml)
        crossprod = with_response(model.crossprod, design, y)
        search = _search(design, crossprod, model.reml)
        if not search.converged:
            return Failure(number, "not converged", search.message)
        solution = build_fitted_model(
            model.formula, design, crossprod, search, reml=model.reml
        ).solution
    except _FAILURES as error:
        return Failure(number, type(error).__name__, str(error))
    singular = bool(boundary_parameters(design, crossprod, search.theta))
    return _Draw(number, _values(solution, crossprod), singular)


def _refit_scale(design: Design, number: int, reml: bool) -> _Draw | Failure:
    """Fit a response whose residual standard deviations are estimated too."""
    fit = fit_design(design, engine="profiled", reml=reml, control=Control())
    if not fit.optimizer_result.converged:
        return Failure(number, "not converged", fit.optimizer_result.message)
    singular = bool(boundary_parameters(fit.design, fit.crossprod, fit.optimizer_result.theta))
    return _Draw(number, _values(fit.solution, fit.crossprod, fit.dispersion), singular)


def _search(design: Design, crossprod: CrossProducts, reml: bool) -> OptimizerResult:
    if not design.random_terms:
        return least_squares_result(crossprod, reml=False)
    # From the moment estimate rather than the fit's theta: of fewer evaluations, and a fit on
    # the boundary cannot hold its draws there.
    return Profiled().estimate(design, crossprod, reml=reml, control=Control())


def _values(
    solution: Solution, crossprod: CrossProducts, dispersion: DispersionEstimate | None = None
) -> Vector:
    """All parameters at a solution, in the order of :func:`_names`."""
    parts = [solution.beta]
    for structure, lam in zip(crossprod.parametrization.structures, solution.lambdas, strict=True):
        root = solution.sigma * lam
        cov, sds = root @ root.T, np.linalg.norm(root, axis=1)
        parts.append(sds)
        if structure != "diag":
            i, j = np.triu_indices(len(sds), 1)
            product = sds[i] * sds[j]
            missing = np.full(len(product), np.nan)
            ratio = np.divide(cov[i, j], product, out=missing, where=product > 0.0)
            parts.append(np.clip(ratio, -1.0, 1.0))
    if crossprod.sigma is None or dispersion is not None:
        parts.append(np.array([solution.sigma]))
    if dispersion is not None:
        parts.append(dispersion.gamma)
        if dispersion.random is not None:
            parts.append(np.array([dispersion.random.sd]))
    return np.concatenate([*parts, solution.theta])


def _names(fit: FittedModel) -> list[str]:
    found = parameters(fit)
    left_out = set(fit.design.dropped_names)
    fixed = [p.name for p in found if p.kind == "fixed" and p.name not in left_out]
    others = [p.name for p in found if p.kind != "fixed"]
    return [*fixed, *others, *(f"theta[{i}]" for i in range(fit.crossprod.parametrization.size))]


# ------------------------------------------------------------------ many draws


def _parts(
    model: _Model, own: list[np.random.Generator], n_jobs: int
) -> Generator[list[_Draw | Failure], None, None]:
    """Make the draws, one by one here or in parts elsewhere, in any order."""
    workers = 1
    if n_jobs != 1:
        from joblib import Parallel, delayed, effective_n_jobs

        workers = effective_n_jobs(n_jobs)
    if workers == 1:
        for number, rng in enumerate(own):
            yield [_refit(model, number, rng)]
        return
    size = min(max(len(own) // (_STRETCHES * workers), 1), _MOST_AT_A_STRETCH)
    starts = range(0, len(own), size)
    yield from Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=1)(
        delayed(_stretch)(model, start, own[start : start + size]) for start in starts
    )


def _stretch(model: _Model, start: int, own: list[np.random.Generator]) -> list[_Draw | Failure]:
    """Make consecutive draws in a worker, which has one core."""
    with single_threaded_blas(0):
        return [_refit(model, start + i, rng) for i, rng in enumerate(own)]


def _collect(
    parts: Generator[list[_Draw | Failure], None, None], count: Callable[[int], object]
) -> list[_Draw | Failure]:
    """Gather what is made, until the end or a keyboard interrupt."""
    made: list[_Draw | Failure] = []
    try:
        for part in parts:
            made += part
            count(len(part))
    except KeyboardInterrupt:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joblib counts tasks dropped, we draws
            parts.close()
    return made


@contextmanager
def _counter(n: int, progress: bool) -> Iterator[Callable[[int], object]]:
    """Show a bar, and give what advances it."""
    if not progress:
        yield lambda _: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=n, desc="bootstrap", unit="draw") as bar:
        yield bar.update


def _joined(fit: FittedModel, made: list[_Draw | Failure], n: int) -> Bootstrap:
    """Put the draws in the order of their numbers, whoever was first."""
    draws = sorted((d for d in made if isinstance(d, _Draw)), key=lambda d: d.number)
    failures = sorted((f for f in made if isinstance(f, Failure)), key=lambda f: f.draw)
    names = _names(fit)
    numbers = pd.Index([d.number for d in draws], dtype=np.int64, name="draw")
    values = np.array([d.values for d in draws]).reshape(len(draws), len(names))
    estimates = pd.Series(
        _values(fit.solution, fit.crossprod, fit.dispersion), index=names, name="estimate"
    )
    return Bootstrap(
        draws=pd.DataFrame(values, index=numbers, columns=names),
        estimates=estimates,
        requested=int(n),
        failures=tuple(failures),
        singular=sum(d.singular for d in draws),
    )


def _complaints(result: Bootstrap) -> Iterator[str]:
    made, failed = len(result.draws) + len(result.failures), len(result.failures)
    if made < result.requested:
        yield f"interrupted after {made} of {result.requested} draws, which are returned."
    if failed:
        yield (
            f"{failed} of {made} draws failed and are left out: {_kinds(result.failures)}. Their "
            "numbers and reasons are in failures."
        )


def _kinds(failures: Sequence[Failure]) -> str:
    """Count the failures by kind, commonest first."""
    counts = Counter(f.kind for f in failures).most_common()
    return ", ".join(f"{count} {kind}" for kind, count in counts)


# ------------------------------------------------------------------ from draws to intervals


def _wanted(names: list[str], parm: str | Sequence[str] | None) -> list[int]:
    """Positions of the parameters asked for; names may occur twice."""
    if parm is None:
        return list(range(len(names)))
    asked = list(dict.fromkeys([parm] if isinstance(parm, str) else parm))
    for name in asked:
        expect_choice("parm", name, names)
    return [i for name in asked for i, known in enumerate(names) if known == name]


def _ends(draws: pd.DataFrame, estimates: Vector, alpha: float, method: str) -> Vector:
    """Lower and upper ends, of shape (2, parameters); missing draws are left out."""
    if method == "normal":
        bias = draws.mean().to_numpy() - estimates
        half = -ndtri(alpha / 2) * draws.std().to_numpy()
        return np.asarray(np.stack([estimates - bias - half, estimates - bias + half]))
    low, high = draws.quantile([alpha / 2, 1 - alpha / 2]).to_numpy()
    return np.stack([low, high] if method == "percentile" else 2 * estimates - [high, low])
