"""Cross-validation from a formula and a table: :func:`cross_validate`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from patsy import EvalEnvironment

from mixedfx._other_programs import (
    FIT_ARGUMENTS,
    GENERALIZED_ARGUMENTS,
    METHOD_ARGUMENTS,
    check_options,
    explains_arguments,
)
from mixedfx.api import ModelOptions, fit_formula, warned_results
from mixedfx.design.source import as_frame, check_index, values_of_rows
from mixedfx.errors import MissingColumnError, did_you_mean
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.terms import Formula
from mixedfx.generalized import GeneralizedOptions, fit_generalized_formula
from mixedfx.inference.validation.cross_validation import (
    CrossValidation,
    cross_validated,
    units_of,
)

# Those of either kind of model; family= and link= are options here.
_ARGUMENTS = {n: text for n, text in FIT_ARGUMENTS.items() if n in GENERALIZED_ARGUMENTS}
_ARGUMENTS |= {n: METHOD_ARGUMENTS[n] for n in ("seed", "random_state", "random_seed")}
_ARGUMENTS |= dict.fromkeys(("cv", "k", "K"), "write folds=")
_ARGUMENTS |= {"groups": "write by=", "scoring": "write scores="}


@explains_arguments(_ARGUMENTS)
def cross_validate(
    formula: str | Formula,
    data: Any,
    *,
    by: Any = None,
    folds: Any = 10,
    scores: Any = None,
    conf_level: float = 0.95,
    rng: Any = None,
    **options: Any,
) -> CrossValidation:
    """
    Predict rows, or whole groups, by fits without them, and score the predictions.

    Parameters
    ----------
    formula : str or Formula
        As for :func:`mixedfx.lmer`.
    data : DataFrame
        The data.
    by : str or array, optional
        Groups that are left out whole, a column of the data or a label for each row: predictions
        for new groups. Without it rows are left out, and most predictions are for new rows of
        known groups.
    folds : int, "loo", str, array or splitter
        Number of folds of equal size at random; each row or group alone; a column of the data, or a
        label for each row; or an object with scikit-learn's ``split(X, y, groups)``.
    scores : str, list of str or mapping of str to function, optional
        Among ``log_score crps rmse mae r2 coverage``, all by default; or functions of responses,
        predicted means and standard deviations that return a value for each row, to be averaged.
    conf_level : float
        Of the prediction intervals whose coverage is a score.
    rng : numpy.random.Generator or int, optional
        Source of randomness of the folds, or its seed.
    **options
        Arguments of :func:`mixedfx.lmer`, or of :func:`mixedfx.glmer` with ``family=``.

    Returns
    -------
    CrossValidation
        ``table``, a row a fold; ``summary``, each score with a standard error; ``predictions``.

    Raises
    ------
    ArgumentError
        If folds, groups or scores are none.
    DataError
        If the rows of a fold cannot be predicted from the others, or these not be fitted; the
        message names the fold.

    Warns
    -----
    SingularFitWarning, DroppedRowsWarning, ConvergenceWarning
        Of the fit of all rows; whether the others converged is in ``table``.

    Notes
    -----
    The predictive distribution has the errors of the coefficients and of the effects of known
    groups, the variance of the effects of new groups, and that of the residuals; of generalised
    models the family's distribution, averaged over the normal error of the linear predictor. Its
    mean is the prediction. Scores:

    ``log_score``
        Mean log predictive density of a row; larger is better.
    ``crps``
        Mean continuous ranked probability score, in units of the response; smaller is better.
    ``rmse``, ``mae``
        Root mean square and mean absolute error of the predictions.
    ``r2``
        One minus the squared errors over those of the mean of the rows that were fitted.
    ``coverage``
        Share of the responses in the prediction intervals.

    What a formula learns from rows (``scale(x)``, ``bs(x, 4)``, levels) is learned from those that
    are fitted. Where it learns nothing, and the residual variance is one or known, the
    cross-products of a fold are subtracted from those of all rows, and the search begins at the
    estimates of all rows: leaving out 1,000 groups in turn takes seconds.

    References
    ----------
    .. [1] Gneiting and Raftery (2007), Strictly proper scoring rules, prediction, and estimation,
       J. Am. Stat. Assoc. 102:359.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> sleep = mfx.datasets.load("sleepstudy")
    >>> formula = "Reaction ~ Days + (Days | Subject)"
    >>> rows = mfx.cross_validate(formula, sleep, folds=10, rng=1)
    >>> subjects = mfx.cross_validate(formula, sleep, by="Subject", folds="loo")
    >>> print(*(round(cv.summary.loc["rmse", "estimate"], 1) for cv in (rows, subjects)))
    30.3 49.6
    """
    frame = as_frame(data)
    labels, numbered = frame.index, frame.set_axis(pd.RangeIndex(len(frame)))
    for name in ("weights", "offset", "residual_sd"):
        check_index(options.get(name), name, labels)
    for name, value in (("by", by), ("folds", folds)):
        check_index(value, name, labels)
    fit = warned_results(_fit(EvalEnvironment.capture(2), formula, numbered, options)).model
    used = np.asarray(fit.rows.index)
    units = units_of(fit, _of_rows("by", by, numbered, used), labels[used])
    return cross_validated(
        fit,
        units,
        _of_rows("folds", folds, numbered, used),
        scores,
        conf_level=conf_level,
        rng=rng,
        labels=labels[used],
    )


def _fit(
    env: EvalEnvironment, formula: str | Formula, frame: pd.DataFrame, options: dict[str, Any]
) -> FittedModel:
    """Fit of all rows."""
    kind = GeneralizedOptions if "family" in options else ModelOptions
    check_options("cross_validate", options, kind.__dataclass_fields__)
    options = {name: _by_position(value) for name, value in options.items()}
    if kind is GeneralizedOptions:
        return fit_generalized_formula(env, formula, frame, GeneralizedOptions(**options))
    return fit_formula(env, formula, frame, ModelOptions(**options))


def _by_position(value: Any) -> Any:
    """Values of rows in their order, not by their labels."""
    return value.array if isinstance(value, pd.Series) else value


def _of_rows(name: str, value: Any, frame: pd.DataFrame, used: Any) -> Any:
    """Values of the rows used, of a column or of labels of all rows."""
    if isinstance(value, str):
        if value in frame.columns:
            return pd.Series(frame[value].array[used], name=value)
        known = [str(column) for column in frame.columns]
        if name == "by" and ":" not in value:
            raise MissingColumnError(
                f"by='{value}' is not a column of the data; columns are: {', '.join(known)}."
                f"{did_you_mean(value, known)}"
            )
        return value
    if not pd.api.types.is_list_like(value) or hasattr(value, "split"):
        return value
    return values_of_rows(name, value, len(frame), of="data").iloc[used]
