"""Fit linear mixed models from a formula and a table.

:func:`lmer` checks its arguments, builds the design and fits it; :func:`pooling_fits` compares the
fit with complete and no pooling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import EvalEnvironment

from mixedfx._other_programs import FIT_ARGUMENTS, check_options, explains_arguments
from mixedfx.design.build import build
from mixedfx.design.residual import ResidualRequest
from mixedfx.errors import ArgumentError, brief, check_choice, check_flag
from mixedfx.estimation.engines import ENGINES, EngineName
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.notes import warn_of
from mixedfx.estimation.optimizer_result import Control
from mixedfx.fit import fit_design
from mixedfx.formula.parser import parse, parse_dispersion
from mixedfx.formula.terms import Formula
from mixedfx.inference import shrinkage
from mixedfx.likelihood.accumulate import parametrization_of
from mixedfx.linalg.available_memory import memory_errors_named
from mixedfx.priors.specification import NO_PRIORS, match_priors
from mixedfx.residuals.registry import residual_request
from mixedfx.results.results import Results
from mixedfx.sources.registry import as_source
from mixedfx.sources.source import DataSource
from mixedfx.streamed import fit as streamed_fit
from mixedfx.streamed import loading

# Upper bound of plausible starting values; theta is relative to the residual standard deviation.
_MAX_THETA = 1e8


@dataclass(frozen=True)
class ModelOptions:
    """Arguments of :func:`lmer` beside formula and data; see there."""

    reml: bool = True
    weights: Any = None
    offset: Any = None
    residual_sd: Any = None
    dispersion: str | None = None
    residual: str | None = None
    relmat: Mapping[str, Any] | None = None
    priors: Mapping[str, Any] | None = None
    engine: EngineName = "auto"
    start: npt.ArrayLike | None = None
    control: Control | None = None
    chunk_rows: int | None = None
    connection: Any = None


@explains_arguments(FIT_ARGUMENTS)
def lmer(
    formula: str | Formula,
    data: Any,
    *,
    reml: bool = True,
    weights: Any = None,
    offset: Any = None,
    residual_sd: Any = None,
    dispersion: str | None = None,
    residual: str | None = None,
    relmat: Mapping[str, Any] | None = None,
    priors: Mapping[str, Any] | None = None,
    engine: EngineName = "auto",
    start: npt.ArrayLike | None = None,
    control: Control | None = None,
    chunk_rows: int | None = None,
    connection: Any = None,
) -> Results:
    """
    Fit a linear mixed model.

    Parameters
    ----------
    formula : str or Formula
        lme4-style, such as ``"y ~ x + (x | group)"``; see :func:`mixedfx.parse`. Its terms are
        evaluated as Python: do not fit formulas from people you do not trust.
    data : DataFrame
        pandas, or anything with ``to_pandas()`` or the Arrow interface, or a mapping of
        columns. Rows with a missing value in a used column are dropped; the data are not changed.
        Or rows that are read in chunks, of which cross-products alone are kept: a file, a folder
        or a pattern of Parquet, Arrow or CSV files, a pyarrow Dataset, a function that gives
        RecordBatchReaders, a Polars LazyFrame, a DuckDB relation, a Dask DataFrame, or a function
        that yields DataFrames anew at each call.
    reml : bool
        Restricted maximum likelihood (default), or maximum likelihood. Without random terms the
        criterion is R's ``logLik(lm, REML=)``; sigma is ``sqrt(rss / (n - p))`` either way.
    weights : str or array, optional
        Relative precisions: the residual variance of a row is ``sigma**2 / weight``.
    offset : str or array, optional
        Known term of the linear predictor.
    residual_sd : str or array, optional
        Known residual standard deviations, in units of the response, such as the standard
        errors of the studies of a meta-analysis; sigma is then not estimated. Instead of
        ``weights``.
    dispersion : str, optional
        Log-linear model of the residual standard deviation: ``"~ kind"`` estimates one for each
        kind, ``"~ 1 + (1 | friend)"`` has random effects of friends on the logarithm.
    residual : str, optional
        Covariance structure of the residuals of a subject, ``"us(visit | patient)"``: ``us``,
        ``diag``, ``homdiag``, ``cs``, ``csh``, ``ar1``, ``ar1h``, ``toep``, ``toeph``, ``ad``,
        ``adh``, ``ou``, ``exp``, ``gau`` or ``mat`` over the positions of its rows, with one for
        each arm as ``"us(visit | arm / patient)"``; ``dispersion`` scales its standard deviations.
        Or a residual model that ``mixedfx.residuals.registry.register_residual`` has added, which
        excludes ``dispersion``.
    relmat : mapping of str to matrix, optional
        Known covariances between the levels of grouping factors, up to the variance that is
        estimated: ``{"animal": A}``. A is a DataFrame whose index and columns are the labels, a
        :class:`mixedfx.Relationship` (of a pedigree, or of the inverse), or a matrix without
        labels in the order of the factor's levels. It may hold levels without records.
    priors : mapping of str to prior, optional
        Priors of :mod:`mixedfx.priors` by parameter, or by kind of parameter (``"fixed"``,
        ``"sd"``, ``"corr"``, ``"dispersion"``). The fit is then at the mode of the posterior,
        from which :meth:`Results.sample` draws.
    engine : {"auto", "statsmodels", "profiled", "em", "iterative"}
        Engine that finds the optimum. With ``auto`` it is the profiled engine; where
        statsmodels' MixedLM can express the model and the problem is small, MixedLM is then
        started at that optimum, so that two programs confirm each other; and where crossed
        factors leave a dense block of some 4,600 columns or more, it is ``iterative``, whose
        estimates have a Monte Carlo error, in ``fit.convergence.monte_carlo``.
    start : array of shape (m,), optional
        Starting values of theta.
    control : Control, optional
        Tolerance and limit of the optimiser.
    chunk_rows : int, optional
        Rows of a chunk; by default as many as 16 MB of the columns used have. With it a DataFrame
        is read in chunks, too.
    connection : DuckDB connection, optional
        Database in which ``data`` names a table.

    Returns
    -------
    Results
        Immutable, with statsmodels' names.

    Raises
    ------
    FormulaError
        If the formula is invalid.
    DataError
        If the data do not suit the formula; subclasses name the reason.
    EngineError
        If the engine cannot fit the model, or two computations of the likelihood disagree.

    Warns
    -----
    SingularFitWarning, DroppedColumnsWarning, ConvergenceWarning
        Also kept in ``notes``; as are ``DroppedRowsWarning``, for more than a tenth of the rows,
        and ``ColumnWarning``, for row numbers that ``.`` stands for.

    See Also
    --------
    mixedfx.glmer : Counts, proportions, yes or no, and other responses that are not normal.

    References
    ----------
    .. [1] Bates, Maechler, Bolker and Walker (2015), Fitting linear mixed-effects models
       using lme4, J. Stat. Softw. 67(1).

    Examples
    --------
    >>> import mixedfx as mfx
    >>> sleep = mfx.datasets.load("sleepstudy")
    >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
    >>> round(fit.deviance, 3), fit.converged
    (1743.628, True)
    """
    options = ModelOptions(
        reml=reml,
        weights=weights,
        offset=offset,
        residual_sd=residual_sd,
        dispersion=dispersion,
        residual=residual,
        relmat=relmat,
        priors=priors,
        engine=engine,
        start=start,
        control=control,
        chunk_rows=chunk_rows,
        connection=connection,
    )
    env = EvalEnvironment.capture(2)
    with memory_errors_named():
        fit = fit_formula(env, formula, data, options)
    return warned_results(fit)


def warned_results(fit: FittedModel) -> Results:
    """Results of a fit, after the warnings of its notes at the caller's line."""
    warn_of(fit.notes)
    return Results(fit)


def fit_formula(
    env: EvalEnvironment, formula: str | Formula, data: Any, options: ModelOptions
) -> FittedModel:
    """Fit a linear mixed model; ``env`` is the caller's namespace, where its functions are."""
    parsed = parse(formula)
    _check_options(options)
    dispersion = None if options.dispersion is None else parse_dispersion(options.dispersion)
    residual: ResidualRequest | Formula | None = dispersion
    if options.residual is not None:
        residual = residual_request(options.residual, dispersion)
    source = as_source(data, chunk_rows=options.chunk_rows, connection=options.connection)
    if source is not None:
        fit_or_reason = _fit_source(parsed, source, options, env, dispersion)
        if isinstance(fit_or_reason, FittedModel):
            return fit_or_reason
        read = residual.read if isinstance(residual, ResidualRequest) else residual
        formulas = [f for f in (parsed, dispersion, read) if f is not None]
        given = (options.weights, options.offset, options.residual_sd)
        data = loading.load_columns(formulas, source, given, fit_or_reason)
    design = build(
        parsed,
        data,
        weights=options.weights,
        offset=options.offset,
        residual_sd=options.residual_sd,
        residual=residual,
        env=env,
        relmat=options.relmat,
    )
    return fit_design(
        design,
        engine=options.engine,
        reml=options.reml,
        control=options.control or Control(),
        start=None
        if options.start is None
        else checked_start(options.start, parametrization_of(design.spec).size),
        priors=NO_PRIORS if options.priors is None else match_priors(options.priors, design.spec),
    )


def _fit_source(
    formula: Formula,
    source: DataSource,
    options: ModelOptions,
    env: EvalEnvironment,
    dispersion: Formula | None,
) -> FittedModel | str:
    """Fit rows that are read in chunks; or what of the model needs all rows at once."""
    arguments = {"weights": options.weights, "offset": options.offset}
    how = streamed_fit.StreamedFit(
        options.engine,
        options.reml,
        options.control or Control(),
        lambda size: checked_start(options.start, size),
        dispersion,
    )
    return streamed_fit.fit_or_reason(formula, source, arguments, vars(options), env, how)


def _check_options(options: ModelOptions) -> None:
    """Refuse options of the wrong type, and those that exclude each other."""
    reml, control = options.reml, options.control
    check_choice("engine", options.engine, ENGINES)
    check_flag("reml", reml, ": REML or maximum likelihood")
    check_control(control)
    if options.weights is not None and options.residual_sd is not None:
        raise ArgumentError(
            "weights and residual_sd both say what a row's residual variance is; give one of them."
        )
    if options.dispersion is not None and options.residual_sd is not None:
        raise ArgumentError(
            "with residual_sd the residual standard deviations are known, so dispersion has "
            "nothing to estimate; give one of them."
        )
    if options.residual_sd is not None and options.residual is not None:
        raise ArgumentError(
            "residual and residual_sd both say what the residual variances are; give one of them."
        )
    more = (options.dispersion, options.residual, options.priors)
    if options.start is not None and any(value is not None for value in more):
        raise ArgumentError(
            "start= begins a search for theta alone; with dispersion=, residual= or priors= more "
            "is searched for, from the fit without them. Leave start= out."
        )
    if options.priors is not None and not reml:
        raise ArgumentError(
            "with priors= the fixed effects are integrated out, as REML does: leave reml=True."
        )


def check_control(control: object) -> None:
    """Refuse what is no :class:`Control`."""
    if control is not None and not isinstance(control, Control):
        raise ArgumentError(f"control={brief(control)} must be a mixedfx.Control.")


def checked_start(start: npt.ArrayLike | None, size: int) -> npt.NDArray[np.float64] | None:
    """Starting values of theta as an array of shape (m,)."""
    if start is None:
        return None
    try:
        theta = np.array(start, dtype=float)
    except (TypeError, ValueError):
        raise ArgumentError(f"start={brief(start)} must be numbers.") from None
    if theta.shape != (size,):
        raise ArgumentError(
            f"start has shape {theta.shape}, but theta has {size} parameters; see fit.theta."
        )
    if not (np.abs(theta) < _MAX_THETA).all():
        raise ArgumentError(f"start={theta} must be finite, below {_MAX_THETA:g}, and not nan.")
    return theta


@explains_arguments(FIT_ARGUMENTS)
def pooling_fits(
    formula: str | Formula, data: Any, group: str | None = None, **options: Any
) -> pd.DataFrame:
    """
    Fit a model with complete, without and with partial pooling, and compare the coefficients.

    Complete and no pooling leave out all other random terms, so with several groups the three
    models differ in that, too. :meth:`Results.pooling` conditions on the other groups instead, and
    compares poolings of generalised models, which are not fitted here.

    Parameters
    ----------
    formula : str or Formula
        As for :func:`mixedfx.lmer`.
    data : DataFrame
        The data.
    group : str, optional
        The grouping factor that is pooled over; required if there are several.
    **options
        Arguments of :func:`mixedfx.lmer`.

    Returns
    -------
    pandas.DataFrame
        Indexed by level, and by effect if there are several: ``complete``, least squares
        without the group; ``none``, least squares with a coefficient for each level;
        ``partial``, the multilevel model.

    Raises
    ------
    ArgumentError
        If the group is not named though there are several, or a fixed column varies between
        its levels only.

    References
    ----------
    .. [1] Gelman and Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical
       Models, section 12.2.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> sleep = mfx.datasets.load("sleepstudy")
    >>> pooling_fits("Reaction ~ Days + (Days | Subject)", sleep).round(1).head(2)
                       complete   none  partial
    Subject effect
    308     Intercept     251.4  244.2    253.7
            Days           10.5   21.8     19.7
    """
    check_options("pooling_fits", options, ModelOptions.__dataclass_fields__)
    fit = fit_formula(EvalEnvironment.capture(2), formula, data, ModelOptions(**options))
    groups = fit.formula.groups
    if group is None and len(groups) != 1:
        listed = ", ".join(map(repr, groups)) or "none"
        raise ArgumentError(
            f"group= says which grouping factor is pooled over; there are: {listed}."
        )
    return shrinkage.pooled_coefficients(fit, groups[0] if group is None else group)
