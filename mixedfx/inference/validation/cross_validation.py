"""Cross-validation of a fit: tables of predictions, folds and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.source import values_of_rows
from mixedfx.errors import ArgumentError, check_choice, check_share
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.validation.fold_fits import FoldFits
from mixedfx.inference.validation.folds import Fold, Units, make_folds
from mixedfx.inference.validation.scores import (
    Score,
    ScoredRows,
    ScoreTerms,
    resolve_scores,
)
from mixedfx.inference.validation.training import TrainingRows

Codes = npt.NDArray[np.intp]


@dataclass(frozen=True, repr=False, eq=False)
class CrossValidation:
    """
    Predictions of rows by fits without them, and their scores.

    Parameters
    ----------
    table : pandas.DataFrame
        A row for each fold: ``fold n_train n_test converged`` and the scores.
    summary : pandas.DataFrame
        Each score of all predictions, ``estimate std_error``; the standard error takes what is left
        out whole, rows or groups, as independent.
    predictions : pandas.DataFrame
        A row for each prediction: ``row fold y prediction sd known_groups``, the mean and standard
        deviation of the predictive distribution and whether the fit had rows of all groups of the
        row; and the scores that are of single rows.
    by : str or None
        What was left out whole: groups, or rows.
    conf_level : float
        Of the intervals whose coverage is a score.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> sleep = mfx.datasets.load("sleepstudy")
    >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
    >>> fit.cross_validate(by="Subject", folds="loo")
    Cross-validation: 18 folds of groups of 'Subject', 180 predictions
    <BLANKLINE>
               estimate  std_error
    log_score    -5.299      0.126
    crps         27.537      3.716
    rmse         49.604      6.219
    mae          37.848      5.518
    r2            0.260      0.079
    coverage      0.917      0.041
    """

    table: pd.DataFrame
    summary: pd.DataFrame
    predictions: pd.DataFrame
    by: str | None = None
    conf_level: float = 0.95

    def __repr__(self) -> str:
        """Text of the summary."""
        what = "rows" if self.by is None else f"groups of '{self.by}'"
        head = (
            f"Cross-validation: {len(self.table):,} folds of {what}, "
            f"{len(self.predictions):,} predictions"
        )
        failed = int((~self.table["converged"]).sum())
        notes = [f"{failed} of the fits did not converge."] if failed else []
        if self.by is None:
            new = int((~self.predictions["known_groups"]).sum())
            notes += [f"{new:,} predictions are of groups without rows in the fit."] if new else []
        text = self.summary.rename_axis(None).to_string(float_format="%.3f")
        return "\n\n".join([head, text, *notes])

    def _repr_html_(self) -> str:
        return self.summary.round(3).to_html()


def units_of(fit: FittedModel, by: Any, labels: pd.Index) -> Units:
    """Rows, or groups by the name of a factor or column or by an array."""
    if by is None:
        return Units.of_rows(labels)
    if not isinstance(by, str):
        values = values_of_rows("by", by, fit.rows.n)
        return Units.of_groups(str(values.name or "by"), np.asarray(values))
    columns, groups = fit.rows.columns, fit.formula.groups
    if by in columns:
        return Units.of_groups(by, columns[by].array)
    check_choice("by", by, list(dict.fromkeys([*groups, *columns])))
    codes = fit.rows.codes_of(by)
    return Units(codes, fit.spec.levels_of(by).labels, by)


def check_can_be_validated(fit: FittedModel, what: str) -> None:
    """Refuse fits of which no part of the rows can be fitted anew."""
    fit.spec.residual.check_one_predictor(what, "compare models by fit.aic, or simulate from them")
    if not fit.rows.in_memory:
        raise ArgumentError(f"{what} needs the rows in memory: fit the table itself.")
    if fit.spec.residual.has_random_effects:
        raise ArgumentError(
            f"{what} predicts by one residual scale, and this fit has {fit.spec.residual.argument}:"
            " leave its random term out."
        )
    if fit.rows.weights_are_counts:
        raise ArgumentError(f"{what} needs the rows of the data, and equal ones were merged here.")


def cross_validated(
    fit: FittedModel,
    units: Units,
    folds: Any,
    scores: Any,
    *,
    conf_level: float,
    rng: Any,
    labels: pd.Index,
) -> CrossValidation:
    """Predict the rows of each fold by a fit of the others, and score the predictions."""
    check_share("conf_level", conf_level)
    check_can_be_validated(fit, "cross-validation")
    chosen = resolve_scores(scores)
    made = make_folds(folds, units, TrainingRows(fit).frame, fit.rows.y, rng)
    found = [ScoredRows(p, conf_level) for p in FoldFits(fit).predictions(made)]
    terms = ScoreTerms.of(chosen, found)
    return CrossValidation(
        _by_fold(found, chosen, terms),
        _of_all(made, units, chosen, terms),
        _by_row(found, chosen, terms, labels),
        units.by,
        conf_level,
    )


def _by_fold(
    folds: Sequence[ScoredRows], scores: Mapping[str, Score], terms: ScoreTerms
) -> pd.DataFrame:
    """One row a fold."""
    columns: dict[str, Any] = {
        "fold": [rows.prediction.fold.label for rows in folds],
        "n_train": [rows.prediction.fold.n_train for rows in folds],
        "n_test": [len(rows.y) for rows in folds],
        "converged": [rows.prediction.converged for rows in folds],
    }
    for name, score in scores.items():
        pairs = zip(terms.terms[name], terms.divisors[name], strict=True)
        columns[name] = [score.value(a, b) for a, b in pairs]
    return pd.DataFrame(columns)


def _of_all(
    folds: Sequence[Fold], units: Units, scores: Mapping[str, Score], terms: ScoreTerms
) -> pd.DataFrame:
    """Scores of all predictions, with standard errors by unit."""
    of_rows = units.codes[np.concatenate([fold.test for fold in folds])]
    values = {}
    for name, score in scores.items():
        a, b = (np.concatenate(part[name]) for part in (terms.terms, terms.divisors))
        values[name] = (score.value(a, b), score.std_error(a, b, of_rows))
    table = pd.DataFrame.from_dict(values, orient="index", columns=["estimate", "std_error"])
    return table.rename_axis("score")


def _by_row(
    folds: Sequence[ScoredRows],
    scores: Mapping[str, Score],
    terms: ScoreTerms,
    labels: pd.Index,
) -> pd.DataFrame:
    """One row a prediction."""
    made = [rows.prediction.fold for rows in folds]
    moments = [rows.moments for rows in folds]
    of_fold = np.repeat(np.arange(len(folds)), [len(fold.test) for fold in made])
    columns: dict[str, Any] = {
        "row": labels[np.concatenate([fold.test for fold in made])],
        "fold": pd.Index([fold.label for fold in made])[of_fold],
        "y": np.concatenate([rows.y for rows in folds]),
        "prediction": np.concatenate([mean for mean, _ in moments]),
        "sd": np.concatenate([sd for _, sd in moments]),
        "known_groups": np.concatenate([rows.prediction.known for rows in folds]),
    }
    for name, score in scores.items():
        if score.name_of_rows is not None:
            columns[score.name_of_rows] = np.concatenate(terms.terms[name])
    return pd.DataFrame(columns)
