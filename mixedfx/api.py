"""The whole story: a formula and a DataFrame in, results out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from patsy import EvalEnvironment

from mixedfx.design.build import build
from mixedfx.errors import ArgumentError
from mixedfx.estimation import dispatch
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.optimizer_result import Control
from mixedfx.fit import fit_design
from mixedfx.formula.parser import parse, parse_dispersion
from mixedfx.likelihood.accumulate import parametrization_of
from mixedfx.priors.specification import match_priors
from mixedfx.results.results import Results

# No standard deviation is this many residual ones.
_FAR = 1e8


def lmer(
    formula: str,
    data: Any,
    *,
    reml: bool = True,
    weights: Any = None,
    offset: Any = None,
    residual_sd: Any = None,
    dispersion: str | None = None,
    priors: Mapping[str, Any] | None = None,
    engine: dispatch.EngineName = "auto",
    start: npt.ArrayLike | None = None,
    control: Control | None = None,
) -> Results:
    """
    Fit a linear mixed model.

    Parameters
    ----------
    formula : str
        lme4-style, such as ``"y ~ x + (x | group)"``; see :func:`mixedfx.parse`. Its terms are
        evaluated as Python: do not fit formulas from people you do not trust.
    data : DataFrame
        pandas, or anything with ``to_pandas()`` or the Arrow interface, or a mapping of
        columns. Rows with a missing value in a used column are left out; it is not changed.
    reml : bool
        Restricted maximum likelihood (default), or maximum likelihood.
    weights : str or array, optional
        Relative precisions: the residual variance of a row is ``sigma**2 / weight``.
    offset : str or array, optional
        A known part of the mean.
    residual_sd : str or array, optional
        Known residual standard deviations, in units of the response, such as the standard
        errors of the studies of a meta-analysis; sigma is then not estimated. Instead of
        ``weights``.
    dispersion : str, optional
        What the residual standard deviation depends on, log-linearly: ``"~ kind"`` gives each
        kind its own, ``"~ 1 + (1 | friend)"`` draws each friend's from one distribution.
    priors : mapping of str to prior, optional
        From parameters, or kinds of them (``"fixed"``, ``"sd"``, ``"corr"``,
        ``"dispersion"``), to priors of :mod:`mixedfx.priors`. The fit is then the mode of the
        posterior, and :meth:`Results.sample` draws from it.
    engine : {"auto", "statsmodels", "profiled", "em"}
        What finds the optimum. ``auto`` lets the profiled engine find it and, where
        statsmodels' MixedLM can express the model and the problem is small, lets MixedLM fit
        it from there, so that two programs agree.
    start : array of shape (m,), optional
        Where to begin the search for theta.
    control : Control, optional
        Tolerance and limit of the search.

    Returns
    -------
    Results
        Frozen; names as in statsmodels.

    Raises
    ------
    FormulaError
        If the formula cannot be understood.
    DataError
        If the data do not suit it; each kind has its own.
    EngineError
        If the engine asked for cannot fit it, or two computations disagree.

    Warns
    -----
    SingularFitWarning, DroppedColumnsWarning, ConvergenceWarning
        Also kept in ``notes``.

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
    fit = fit_formula(
        EvalEnvironment.capture(1),
        formula,
        data,
        reml=reml,
        weights=weights,
        offset=offset,
        residual_sd=residual_sd,
        dispersion=dispersion,
        priors=priors,
        engine=engine,
        start=start,
        control=control,
    )
    for note in fit.notes:
        if note.warning is not None:
            warnings.warn(note.text, note.warning, stacklevel=2)
    return Results(fit)


def fit_formula(
    env: EvalEnvironment,
    formula: str,
    data: Any,
    *,
    reml: bool = True,
    weights: Any = None,
    offset: Any = None,
    residual_sd: Any = None,
    dispersion: str | None = None,
    priors: Mapping[str, Any] | None = None,
    engine: dispatch.EngineName = "auto",
    start: npt.ArrayLike | None = None,
    control: Control | None = None,
) -> FittedModel:
    """Fit a linear mixed model, with the functions of whoever asks for it."""
    parsed = parse(formula)
    if not isinstance(reml, bool | np.bool_):
        raise ArgumentError(f"reml={reml!r} must be True (REML) or False (maximum likelihood).")
    if control is not None and not isinstance(control, Control):
        raise ArgumentError(f"control={control!r} must be a mixedfx.Control.")
    if weights is not None and residual_sd is not None:
        raise ArgumentError(
            "weights and residual_sd both say what a row's residual variance is; give one of them."
        )
    if dispersion is not None and residual_sd is not None:
        raise ArgumentError(
            "with residual_sd the residual standard deviations are known, so dispersion has "
            "nothing to estimate; give one of them."
        )
    if start is not None and (dispersion is not None or priors is not None):
        raise ArgumentError(
            "start= begins a search for theta alone; with dispersion= or priors= more is searched "
            "for, from the fit without them. Leave start= out."
        )
    if priors is not None and not reml:
        raise ArgumentError(
            "with priors= the fixed effects are integrated out, as REML does: leave reml=True."
        )
    design = build(
        parsed,
        data,
        weights=weights,
        offset=offset,
        residual_sd=residual_sd,
        dispersion=None if dispersion is None else parse_dispersion(dispersion),
        env=env,
    )
    return fit_design(
        design,
        engine=engine,
        reml=reml,
        control=control or Control(),
        start=_checked_start(start, parametrization_of(design).size),
        priors=None if priors is None else match_priors(priors, design),
    )


def _checked_start(start: npt.ArrayLike | None, size: int) -> npt.NDArray[np.float64] | None:
    if start is None:
        return None
    try:
        theta = np.array(start, dtype=float)
    except (TypeError, ValueError):
        raise ArgumentError(f"start={start!r} must be numbers.") from None
    if theta.shape != (size,):
        raise ArgumentError(
            f"start has shape {theta.shape}, but theta has {size} parameters; see fit.theta."
        )
    if not (np.abs(theta) < _FAR).all():
        raise ArgumentError(f"start={theta} must be finite, below {_FAR:g}, and not nan.")
    return theta
