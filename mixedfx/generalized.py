"""Fit generalised linear mixed models from a formula and a table: :func:`glmer`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy.typing as npt
import pandas as pd
from patsy import EvalEnvironment

from mixedfx._names import decode
from mixedfx._other_programs import GENERALIZED_ARGUMENTS, explains_arguments
from mixedfx.api import check_control, checked_start, warned_results
from mixedfx.design.build import Design, build, build_several
from mixedfx.design.family_residual import FamilyResidual
from mixedfx.design.predictors import check_other_columns, check_zeros, family_with, with_predictors
from mixedfx.design.rows import ModelRows
from mixedfx.errors import ArgumentError, check_count
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.notes import Note
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
from mixedfx.streamed.loading import TRIALS, has_binary_response, load_columns, load_merged

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


@dataclass(frozen=True)
class _Merged:
    """A source whose equal rows were merged."""

    n: int  # rows of the source
    note: Note


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
        As for :func:`mixedfx.lmer`; of rows that are read in chunks the columns used are read
        into memory, of counts and answers of 0 and 1 the distinct rows with their numbers.
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
    parts, merged = options.parts, None
    family = family_with(family, parts)
    source = as_source(data, connection=options.connection)
    if source is not None:
        data, options, merged = _read(parsed, source, family, options)
    design = _design(parsed, data, family, options, env, nagq)
    design = replace(design, rows=_counted(design.rows, data, merged))
    spec = design.spec
    fit = fit_design(
        design,
        engine="auto",
        reml=False,
        control=options.control or Control(),
        start=checked_start(options.start, parametrization_of(spec).size),
        priors=NO_PRIORS if options.priors is None else match_priors(options.priors, spec),
    )
    return fit if merged is None else replace(fit, notes=(*fit.notes, merged.note))


def _design(
    formula: Formula,
    data: Any,
    family: Family,
    options: GeneralizedOptions,
    env: EvalEnvironment,
    nagq: int,
) -> Design:
    """Design of all predictors."""
    given = {"weights": options.weights, "offset": options.offset, "family": family, "env": env}
    parts = options.parts
    if not parts:
        design = build(formula, data, relmat=options.relmat, **given)
        residual = FamilyResidual(design.spec.family, nagq)
        return replace(design, spec=replace(design.spec, residual=residual))
    if options.relmat is not None:
        raise ArgumentError(
            f"{' and '.join(f'{name}=' for name in parts)} with relmat= are not supported: leave "
            "one of the two out."
        )
    design, designs = build_several(formula, parts, data, **given)
    check_other_columns(design, designs)
    if "zero_inflation" in parts:
        check_zeros(design, parts["zero_inflation"])
    return with_predictors(design, designs, parts, nagq)


def _read(
    formula: Formula, source: DataSource, family: Family, options: GeneralizedOptions
) -> tuple[pd.DataFrame, GeneralizedOptions, _Merged | None]:
    """Read a source's columns; of answers that are few its distinct rows, with their numbers."""
    given = (options.weights, options.offset)
    formulas = [formula, *options.parts.values()]
    if options.weights is not None or not _has_few_answers(formula, source, family, options):
        return load_columns(formulas, source, given, "a generalised model"), options, None
    merged, n = load_merged(formulas, source, given)
    if len(merged) == n:
        return merged.drop(columns=TRIALS), options, None
    text = f"{n:,} rows were read in chunks, in 1 pass; {len(merged):,} of them are distinct, and "
    counted = "trials" if family.takes_trials else "weights"
    note = Note(f"{text}were fitted with their numbers as {counted}.")
    return merged, replace(options, weights=TRIALS), _Merged(n, note)


def _has_few_answers(
    formula: Formula, source: DataSource, family: Family, options: GeneralizedOptions
) -> bool:
    """Whether a row of weight w has the log density of w equal rows: of counts, of 0 and 1."""
    if family.takes_trials:
        return not options.parts and has_binary_response(formula, source)
    return family.discrete


def _counted(rows: ModelRows, data: pd.DataFrame, merged: _Merged | None) -> ModelRows:
    """Rows that count those of the source, where they were merged."""
    if merged is None:
        return rows
    rows = replace(rows, weights_are_counts=True)
    columns = [decode(name) for name in rows.missing]
    missing = {
        name: int(data.loc[data[column].isna(), TRIALS].sum())
        for name, column in zip(rows.missing, columns, strict=True)
        if set(columns) <= set(data)  # of a term's values it is not known which are missing
    }
    return replace(rows, n_dropped=merged.n - rows.n - rows.n_merged, missing=missing)
