"""Scores of predictions: of each row, of folds, and of all rows with a standard error.

A score is ``g(sum a_i / sum b_i)`` of terms of each row, with ``b_i = 1`` and g the identity unless
it says otherwise:

=============  ==========================================================  ==================
score          a_i                                                         g, b_i
=============  ==========================================================  ==================
log_score      log predictive density of the response, larger is better
crps           ``int (F(x) - 1{x >= y})^2 dx``, smaller is better
rmse           ``(y - m)^2``, m the predicted mean                         square root
mae            ``|y - m|``
r2             ``(y - m)^2``                                               ``1 - x``, ``(y - c)^2``
coverage       whether the prediction interval has y
=============  ==========================================================  ==================

with c the mean of the responses that were fitted. The standard error is that of a ratio of sums
over units that are left out whole, rows or groups, by linearisation (Cochran 1977, Sampling
Techniques, section 6.4).

Gneiting and Raftery (2007), J. Am. Stat. Assoc. 102:359.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.errors import ArgumentError, brief, check_choice, name_list
from mixedfx.inference.validation.fold_fits import FoldPrediction

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class ScoredRows:
    """Responses and their predictive distributions in one fold."""

    prediction: FoldPrediction
    conf_level: float

    @property
    def y(self) -> Vector:
        """Responses."""
        return self.prediction.y

    @cached_property
    def moments(self) -> tuple[Vector, Vector]:
        """Means and standard deviations."""
        rows = self.prediction.rows
        return rows.around.moments(rows.eta, rows.variance)

    @property
    def error(self) -> Vector:
        """Responses less means."""
        return np.asarray(self.y - self.moments[0])

    def log_density(self) -> Vector:
        """Of the responses."""
        rows = self.prediction.rows
        return rows.around.log_density(self.y, rows.eta, rows.variance)

    def crps(self) -> Vector:
        """Of the responses."""
        rows = self.prediction.rows
        return rows.around.crps(self.y, rows.eta, rows.variance)

    def covered(self) -> Vector:
        """One where the response is in the prediction interval."""
        rows, half = self.prediction.rows, 0.5 * self.conf_level
        low, high = rows.around.quantiles(rows.eta, rows.variance, [0.5 - half, 0.5 + half])
        return np.asarray((self.y >= low) & (self.y <= high), dtype=float)


def _ones(rows: ScoredRows) -> Vector:
    return np.ones(len(rows.y))


def _identity(ratio: Any) -> Any:
    return ratio


def _unit_slope(_: float) -> float:
    return 1.0


@dataclass(frozen=True)
class Score:
    """Function of a ratio of sums over rows."""

    terms: Callable[[ScoredRows], Vector] = field(repr=False)
    divisors: Callable[[ScoredRows], Vector] = field(default=_ones, repr=False)
    transform: Callable[[Any], Any] = field(default=_identity, repr=False)
    slope: Callable[[float], float] = field(default=_unit_slope, repr=False)
    name_of_rows: str | None = None  # of a column of the terms; None: the score has no such

    def value(self, terms: Vector, divisors: Vector) -> float:
        """Score of all rows."""
        with np.errstate(all="ignore"):
            return float(self.transform(terms.sum() / divisors.sum()))

    def std_error(self, terms: Vector, divisors: Vector, units: Codes) -> float:
        """Standard error, rows of a unit being added up first."""
        with np.errstate(all="ignore"):
            ratio = terms.sum() / divisors.sum()
            sums = np.bincount(units, terms - ratio * divisors)
            sums = sums[np.bincount(units) > 0]
            k = len(sums)
            variance = k / (k - 1.0) * (sums**2).sum() if k > 1 else np.nan
            return float(abs(self.slope(ratio)) * np.sqrt(variance) / divisors.sum())


SCORES: Mapping[str, Score] = {
    "log_score": Score(ScoredRows.log_density, name_of_rows="log_score"),
    "crps": Score(ScoredRows.crps, name_of_rows="crps"),
    "rmse": Score(
        lambda rows: rows.error**2, transform=np.sqrt, slope=lambda x: 0.5 / float(np.sqrt(x))
    ),
    "mae": Score(lambda rows: np.abs(rows.error)),
    "r2": Score(
        lambda rows: rows.error**2,
        lambda rows: (rows.y - rows.prediction.mean_of_others) ** 2,
        transform=lambda x: 1.0 - x,
    ),
    "coverage": Score(ScoredRows.covered, name_of_rows="covered"),
}


def _of_function(name: str, function: Callable[..., Any]) -> Score:
    """Mean of a caller's function of responses, means and standard deviations."""

    def terms(rows: ScoredRows) -> Vector:
        values = np.asarray(function(rows.y.copy(), *(m.copy() for m in rows.moments)), dtype=float)
        if values.shape != rows.y.shape:
            raise ArgumentError(
                f"scores: '{name}' gave values of shape {values.shape} for {len(rows.y)} rows; it "
                "must return one for each, which are averaged."
            )
        return values

    return Score(terms, name_of_rows=name)


def resolve_scores(scores: Any) -> dict[str, Score]:
    """Scores by name; all that there are by default."""
    if scores is None:
        return dict(SCORES)
    if isinstance(scores, Mapping):
        found = {}
        for name, value in scores.items():
            if not callable(value):
                raise ArgumentError(
                    f"scores[{brief(name)}]={brief(value)} must be a function of responses, "
                    "predictions and their standard deviations."
                )
            found[str(name)] = _of_function(str(name), value)
        return found
    names = name_list("scores", scores)
    for name in names:
        check_choice("scores", name, SCORES)
    if not names:
        raise ArgumentError(f"scores= is empty; there are {', '.join(map(repr, SCORES))}.")
    return {name: SCORES[name] for name in names}


@dataclass(frozen=True)
class ScoreTerms:
    """Terms and divisors of each score in the predicted rows of all folds, in their order."""

    terms: Mapping[str, Sequence[Vector]] = field(repr=False)
    divisors: Mapping[str, Sequence[Vector]] = field(repr=False)

    @staticmethod
    def of(scores: Mapping[str, Score], folds: Sequence[ScoredRows]) -> ScoreTerms:
        """Evaluate on each fold."""
        return ScoreTerms(
            {name: [score.terms(rows) for rows in folds] for name, score in scores.items()},
            {name: [score.divisors(rows) for rows in folds] for name, score in scores.items()},
        )
