"""Check of a design before a model is fitted to it: :func:`check_design`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from patsy import EvalEnvironment

from mixedfx._names import decode, unused_name
from mixedfx._other_programs import FIT_ARGUMENTS, explains_arguments
from mixedfx.design.columns import formula_environment
from mixedfx.design.inspection.reading import ReadRows
from mixedfx.design.source import as_frame
from mixedfx.design.table import Table
from mixedfx.families.gaussian import NORMAL
from mixedfx.families.registry import resolve_family
from mixedfx.formula.expansion import of_columns
from mixedfx.formula.parser import parse
from mixedfx.formula.terms import Formula
from mixedfx.linalg.available_memory import memory_errors_named
from mixedfx.sources.registry import as_source
from mixedfx.streamed.loading import load_columns
from mixedfx.workflow.design_tables import DesignCheck
from mixedfx.workflow.planned_design import STAND_INS, PlannedDesign, with_stand_in

# Of a fit, and nothing that a design is checked for.
_OF_FITS = "weights offset dispersion residual zero_inflation priors link thresholds reml"
_OF_FITS += " engine start control nagq chunk_rows"
_ARGUMENTS = {name: text for name, text in FIT_ARGUMENTS.items() if name != "family"}
_ARGUMENTS |= dict.fromkeys(
    _OF_FITS.split(), "leave it out, for the fit; the terms of the formula are what is checked"
)


@explains_arguments(_ARGUMENTS)
def check_design(
    formula: str | Formula,
    data: Any,
    *,
    family: Any = None,
    residual_sd: Any = None,
    relmat: Mapping[str, Any] | None = None,
    icc: float | Mapping[str, float] | None = None,
    connection: Any = None,
) -> DesignCheck:
    """
    Say what a formula asks of some rows, before a model is fitted.

    It also works where a fit would be refused, and says why it would.

    Parameters
    ----------
    formula : str or Formula
        As for :func:`mixedfx.lmer`. Without a response, ``"~ arm + (1 | clinic)"``, the design of a
        study whose responses are not observed yet is checked.
    data : DataFrame
        As for :func:`mixedfx.lmer`; of rows that are read in chunks the columns used are read into
        memory.
    family : str, optional
        Of :func:`mixedfx.glmer`, for a response that is not normal.
    residual_sd : str or array, optional
        Known residual standard deviations: levels may then have a row each.
    relmat : mapping of str to matrix, optional
        Known covariances between levels, as of :func:`mixedfx.lmer`.
    icc : float or mapping of str to float, optional
        Share of the response's variance that each grouping factor has, or a share by factor: of its
        intercepts, and of each slope at one standard deviation of its covariate. By default 0.1,
        and less where all effects together would have more than half of the variance.
    connection : DuckDB connection, optional
        Database in which ``data`` names a table.

    Returns
    -------
    DesignCheck
        ``findings`` with formulas to copy; ``factors``, ``pairs``, ``covariates``, ``slopes``,
        ``coefficients`` and ``size`` are tables.

    Raises
    ------
    FormulaError
        If the formula is invalid.
    DataError
        If a column is missing or there are no rows: there is nothing to check.
    ArgumentError
        If ``icc`` is no share, or of no grouping factor.

    Notes
    -----
    The design effect of a coefficient is the variance of its estimate at the assumed shares, over
    that of as many independent rows with the same variance; rows over the design effect are its
    effective sample size. Labels are held to be used again where they count (1, 2, ... or a, b,
    ...) anew in each level of another factor, in cells of several rows.

    References
    ----------
    .. [1] Kish (1965), Survey Sampling: the design effect.
    .. [2] Barr, Levy, Scheepers and Tily (2013), J. Mem. Lang. 68:255: slopes within units.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> check = mfx.check_design(
    ...     "strength ~ 1 + (1 | batch) + (1 | cask)", mfx.datasets.load("Pastes")
    ... )
    >>> check.pairs[["first", "second", "relation", "labels"]].to_numpy().tolist()
    [['batch', 'cask', 'fully crossed', 'used again?']]
    >>> check.to_try
    ('strength ~ 1 + (1 | batch/cask)',)
    """
    env = EvalEnvironment.capture(2)
    with memory_errors_named(), np.errstate(all="ignore"):
        chosen = NORMAL if family is None else resolve_family(family, None)
        frame, parsed, observed = _read(formula, data, residual_sd, connection)
        env = formula_environment(env, [parsed], Table(frame).identifiers)
        rows = ReadRows.of(parsed, frame, env, chosen)
        planned = PlannedDesign(rows, frame, chosen, residual_sd, relmat, observed)
        return planned.check(icc)


def _read(
    formula: Any, data: Any, residual_sd: Any, connection: Any
) -> tuple[pd.DataFrame, Formula, bool]:
    """Table, formula with a response, and whether that is observed."""
    observed, name = True, "response"
    if isinstance(formula, str) and formula.lstrip().startswith("~"):
        observed = False
    elif isinstance(formula, Formula) and not formula.response:
        observed, formula = False, str(formula)
    if observed:
        parsed = parse(formula)
    else:
        columns = set(getattr(data, "columns", data if isinstance(data, Mapping) else ()))
        name = unused_name(name, columns)
        parsed = parse(f"{name} {formula.lstrip()}")
    source = as_source(data, connection=connection)
    if source is not None:
        data = load_columns([parsed], source, (residual_sd,), "check_design()")
    frame = as_frame(data)
    names = [str(c) for c in frame.columns]
    parsed = of_columns(parsed, names)
    response = decode(parsed.response)
    if observed and response in frame.columns and frame[response].isna().all():
        observed, name = False, response
    return frame if observed else with_stand_in(frame, name, STAND_INS[0]), parsed, observed
