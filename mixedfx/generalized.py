"""Fit generalised linear mixed models from a formula and a table: :func:`glmer`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy.typing as npt
from patsy import EvalEnvironment

from mixedfx._other_programs import GENERALIZED_ARGUMENTS, explains_arguments
from mixedfx.api import check_control, checked_start, warned_results
from mixedfx.design.predictors import family_design, family_with
from mixedfx.errors import check_count
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.optimizer_result import Control
from mixedfx.families.family import Family
from mixedfx.families.registry import resolve_family
from mixedfx.fit import fit_design
from mixedfx.formula.parser import parse, parse_dispersion
from mixedfx.formula.terms import Formula
from mixedfx.likelihood.accumulate import parametrization_of
from mixedfx.linalg.available_memory import memory_errors_named
from mixedfx.priors.specification import NO_PRIORS, match_priors
from mixedfx.results.results import Results
from mixedfx.sources.registry import as_source
from mixedfx.sources.source import DataSource
from mixedfx.streamed import generalized as streamed_fit
from mixedfx.streamed import loading, merging

# More nodes change nothing but the time.
_MAX_NODES = 100


@dataclass(frozen=True)
class GeneralizedOptions:
    """Arguments of :func:`glmer` beside formula and data; see there."""

    family: Any = "binomial"
    link: Any = None
    nagq: int = 1
    thresholds: str | None = None
    weights: Any = None
    offset: Any = None
    zero_inflation: str | None = None
    dispersion: str | None = None
    relmat: Mapping[str, Any] | None = None
    priors: Mapping[str, Any] | None = None
    start: npt.ArrayLike | None = None
    control: Control | None = None
    chunk_rows: int | None = None
    connection: Any = None

    @property
    def parts(self) -> dict[str, Formula]:
        """Formulas of the further predictors, by argument."""
        given = {
            "zero_inflation": (self.zero_inflation, "zero_inflation"),
            "dispersion": (self.dispersion, "family dispersion"),
        }
        return {
            name: parse_dispersion(text, part)
            for name, (text, part) in given.items()
            if text is not None
        }


@explains_arguments(GENERALIZED_ARGUMENTS)
def glmer(
    formula: str | Formula,
    data: Any,
    family: Any = "binomial",
    *,
    link: Any = None,
    nagq: int = 1,
    thresholds: Literal["flexible", "equidistant"] | None = None,
    weights: Any = None,
    offset: Any = None,
    zero_inflation: str | None = None,
    dispersion: str | None = None,
    relmat: Mapping[str, Any] | None = None,
    priors: Mapping[str, Any] | None = None,
    start: npt.ArrayLike | None = None,
    control: Control | None = None,
    chunk_rows: int | None = None,
    connection: Any = None,
) -> Results:
    """
    Fit a generalised linear mixed model by maximum likelihood.

    Parameters
    ----------
    formula : str or Formula
        lme4-style, such as ``"y ~ x + (x | group)"``. On its left side a binomial response is 0
        and 1, truth values, two levels (the second is the success), ``cbind(k, n - k)``,
        ``prop(k, n)``, or a proportion with ``weights=`` trials.
    data : DataFrame
        As for :func:`mixedfx.lmer`. Of a source of rows the distinct ones are fitted with their
        numbers, of counts, answers and successes; others in memory, if they fit, or else from a
        file that is read for each evaluation.
    family : str or family of statsmodels
        ``"binomial"``, ``"poisson"``, ``"nbinom2"``, ``"nbinom1"``, ``"gamma"``,
        ``"inverse_gaussian"``, ``"gaussian"``, ``"beta"``, ``"betabinomial"``, ``"student"``,
        ``"truncated_poisson"``, ``"truncated_nbinom2"``, ``"tweedie"`` or ``"cumulative"``; or a
        family of statsmodels, ``sm.families.Poisson()``, with its link.
    link : str, optional
        Link of the mean; by default the family's first in :data:`mixedfx.families.FAMILIES`.
    nagq : int
        1, Laplace's approximation of the integral over the random effects; 2 and more, nodes of
        adaptive Gauss-Hermite quadrature for each effect, of one grouping factor; 0, Laplace with
        the coefficients at the mode of the penalised likelihood, as lme4's ``nAGQ=0``: less exact,
        and no faster here.
    thresholds : {"flexible", "equidistant"}, optional
        Of ``family="cumulative"``: a threshold between each two neighbouring categories of an
        ordered response, the default, or thresholds with equal distances.
    weights : str or array, optional
        Trials of a proportion; for other families prior weights: of a count, the row counts that
        often; of a continuous response, its dispersion is divided by them.
    offset : str or array, optional
        Known term of the linear predictor, such as the logarithm of an exposure.
    zero_inflation : str, optional
        Formula of the logit of the probability of a zero beside those of the family, such as
        ``"~ 1"`` or ``"~ x + (1 | group)"``; of a truncated family, of the probability of any zero:
        a hurdle model. Its random effects are independent of the others. ``fit.zero_inflation``.
    dispersion : str, optional
        Formula of the logarithm of the family's dispersion parameter, such as ``"~ x"``: ``alpha``
        of the negative binomials (for ``nbinom2`` glmmTMB's coefficients have the other sign),
        ``phi``, or ``sigma``. ``fit.dispersion``.
    relmat : mapping of str to matrix, optional
        Known covariances between the levels of grouping factors, as of :func:`mixedfx.lmer`.
    priors : mapping of str to prior, optional
        Priors of :mod:`mixedfx.priors`; the fit is then at the mode of the posterior. A normal
        prior on the coefficients keeps them finite where they separate the responses.
    start : array of shape (m,), optional
        Starting values of theta.
    control : Control, optional
        Tolerance and limit of the search.
    chunk_rows : int, optional
        Rows of a chunk of data that are read in chunks, which are not kept in memory then; a
        DataFrame with it is read in chunks too.
    connection : DuckDB connection, optional
        Database in which ``data`` names a table.

    Returns
    -------
    Results
        As of :func:`mixedfx.lmer`: z tests, standard errors from the Hessian by all parameters.

    Raises
    ------
    FormulaError
        If the formula is invalid.
    DataError
        If the data do not suit the formula or the family; subclasses name the reason.
    ArgumentError
        If there is no such family or link, or ``nagq`` does not suit the formula.
    SearchError
        If the likelihood is not finite at the starting values.

    See Also
    --------
    Results.approximation : How good the approximation is at the data.
    lmer : Linear mixed models.

    Notes
    -----
    Laplace's approximation takes the observed information, as glmmTMB does; lme4's ``glmer``
    takes the expected one, which differs for links that are not canonical. Theta is the Cholesky
    factor of the random effects' covariance itself, on the scale of the link.

    References
    ----------
    .. [1] Breslow and Clayton (1993), J. Am. Stat. Assoc. 88:9.
    .. [2] Pinheiro and Bates (1995), J. Comput. Graph. Stat. 4:12.
    .. [3] Brooks and others (2017), The R Journal 9:378.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> herds = mfx.datasets.load("cbpp")
    >>> fit = mfx.glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", herds)
    >>> fit.params.round(3)
    Intercept     -1.399
    period[T.2]   -0.992
    period[T.3]   -1.129
    period[T.4]   -1.580
    Name: estimate, dtype: float64
    """
    options = GeneralizedOptions(
        family=family,
        link=link,
        nagq=nagq,
        thresholds=thresholds,
        weights=weights,
        offset=offset,
        zero_inflation=zero_inflation,
        dispersion=dispersion,
        relmat=relmat,
        priors=priors,
        start=start,
        control=control,
        chunk_rows=chunk_rows,
        connection=connection,
    )
    env = EvalEnvironment.capture(2)
    with memory_errors_named():
        fit = fit_generalized_formula(env, formula, data, options)
    return warned_results(fit)


def fit_generalized_formula(
    env: EvalEnvironment, formula: str | Formula, data: Any, options: GeneralizedOptions
) -> FittedModel:
    """Fit a generalised model; ``env`` is the caller's namespace, where its functions are."""
    parsed = parse(formula)
    check_control(options.control)
    nagq = check_count("nagq", options.nagq, 0, most=_MAX_NODES, what="an integer from 0 on")
    family = resolve_family(options.family, options.link)
    if options.thresholds is not None:
        family = family.with_thresholds(options.thresholds)
    family = family_with(family, options.parts)
    source = as_source(data, chunk_rows=options.chunk_rows, connection=options.connection)
    table = None
    if source is not None:
        table = merging.read_table(_request(parsed, source, family, options, nagq))
        if table is None:
            return _fit_blocks(parsed, source, family, options, env)
        data, options = table.frame, replace(options, weights=table.weights)
    given = {"weights": options.weights, "offset": options.offset, "family": family, "env": env}
    design = family_design(parsed, data, options.parts, nagq, options.relmat, given)
    if table is not None:
        design = table.counted(design)
    spec = design.spec
    fit = fit_design(
        design,
        engine="auto",
        reml=False,
        control=options.control or Control(),
        start=checked_start(options.start, parametrization_of(spec).size),
        priors=NO_PRIORS if options.priors is None else match_priors(options.priors, spec),
    )
    return fit if table is None else replace(fit, notes=(*fit.notes, *table.notes))


def _request(
    formula: Formula, source: DataSource, family: Family, options: GeneralizedOptions, nagq: int
) -> merging.TableRequest:
    """What is asked of a source."""
    given = {"relmat": options.relmat, "priors": options.priors} | options.parts
    return merging.TableRequest(
        source,
        formula,
        tuple(options.parts.values()),
        family,
        weights=options.weights,
        offset=options.offset,
        is_chunked=options.chunk_rows is not None,
        in_memory_for=loading.reason_for_memory(formula, nagq, given),
    )


def _fit_blocks(
    formula: Formula,
    source: DataSource,
    family: Family,
    options: GeneralizedOptions,
    env: EvalEnvironment,
) -> FittedModel:
    """Fit rows in blocks that are read for each evaluation."""
    arguments = {"weights": options.weights, "offset": options.offset}
    how = streamed_fit.GeneralizedFit(
        family, options.control or Control(), lambda size: checked_start(options.start, size)
    )
    return streamed_fit.fit_generalized_source(formula, source, arguments, env, how)
