"""The response as it is written, and on the scale of the mean: k / n of a binomial response.

==========================================  ======================  ==========
written                                     y                       weights
==========================================  ======================  ==========
numbers, truth values                       the numbers             as given
two levels                                  1 in rows of the second as given
``cbind(k, n - k)``, ``prop(k, n)``         k / n, 0 where n is 0   n
==========================================  ======================  ==========

A binomial response's weights are its trials; without weights there is one trial a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._names import written
from mixedfx.design.checks import check_finite, first_non_numeric
from mixedfx.design.source import float_vector
from mixedfx.design.variables import factor_of, plain
from mixedfx.errors import ResponseError, WeightsError
from mixedfx.families.family import Family
from mixedfx.families.support import check_support
from mixedfx.formula.response import response_code
from mixedfx.formula.terms import Formula

Vector = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_GLMER = 'mfx.glmer(formula, data, family="binomial")'
_MOST_LISTED = 6
# A number of successes y n this near to a whole number is that number.
_ROUNDING = 1e-6


class Observed(NamedTuple):
    """Response on the scale of the mean, and prior weights or trials; None: all are one."""

    y: Vector
    weights: Vector | None


@dataclass(frozen=True)
class ResponseSpec:
    """A response of numbers, taken as they are."""

    n_parts: ClassVar[int] = 1  # columns that it is written with

    def observe(self, name: str, parts: Sequence[Any], weights: Vector | None) -> Observed:
        """Response and weights of some rows."""
        values = plain(parts[0])
        array = values.to_numpy() if isinstance(values, pd.Series) else np.asarray(values)
        if array.dtype.kind in "OUS":
            raise ResponseError(
                f"the response '{name}' is not numeric: it holds {first_non_numeric(array)}. "
                "Make it numbers, for example with pandas.to_numeric."
            )
        if array.ndim == 2 and array.shape[1] != 1:
            raise ResponseError(
                f"the response '{name}' has {array.shape[1]} columns; it must be one, or "
                "'cbind(k, n - k)' for successes and failures."
            )
        return Observed(array.reshape(-1).astype(float), weights)

    def note(self, name: str) -> str:
        """What the mean is of, where the response does not say it; empty where it does."""
        return ""

    def family(self, family: Family) -> Family:
        """A family with what it takes from the response."""
        return family

    def noting_unused(self, read: Callable[[], pd.Series | None]) -> ResponseSpec:
        """With the categories of its column that no row used has, where it has categories."""
        return self

    def trial_codes(self, parts: Sequence[str]) -> Sequence[str]:
        """Expressions whose sum is the number of trials, of the parts that it is written with."""
        return ()


@dataclass(frozen=True)
class TwoLevels(ResponseSpec):
    """A response of two levels: the mean is the probability of the second."""

    failure: Any
    success: Any

    def observe(self, name: str, parts: Sequence[Any], weights: Vector | None) -> Observed:
        """One in the rows of the second level."""
        values, factor = plain(parts[0]), factor_of(parts[0])
        if factor is not None and factor.levels.tolist() == [self.failure, self.success]:
            codes: Any = factor.codes
        else:
            codes = pd.Categorical(values, categories=[self.failure, self.success]).codes
        if (codes < 0).any():
            value = np.asarray(values, dtype=object)[int(np.argmax(codes < 0))]
            raise ResponseError(
                f"the response '{name}' is {level_text(self.failure)} or "
                f"{level_text(self.success)}, not {level_text(value)}."
            )
        return Observed(codes.astype(float), weights)

    def note(self, name: str) -> str:
        """Which level is the success."""
        failure, success = level_text(self.failure), level_text(self.success)
        return (
            f"the mean is the probability that '{name}' is {success}, the second of its levels "
            f"{failure} and {success}."
        )


@dataclass(frozen=True)
class Successes(ResponseSpec):
    """Numbers of successes beside those of failures (``cbind``), or of trials (``prop``)."""

    n_parts: ClassVar[int] = 2
    function: str

    def observe(self, name: str, parts: Sequence[Any], weights: Vector | None) -> Observed:
        """``k / n`` with n trials."""
        if weights is not None:
            raise WeightsError(
                f"the response '{name}' says how many trials a row has; leave weights= out. A row "
                "that counts w times has w times as many successes and trials."
            )
        k, second = (float_vector(f"the response '{name}'", plain(part)) for part in parts)
        n = k + second if self.function == "cbind" else second
        with np.errstate(all="ignore"):
            return Observed(np.where(n == 0.0, 0.0, k / n), n)

    def trial_codes(self, parts: Sequence[str]) -> Sequence[str]:
        """Successes and failures, or trials alone."""
        return parts if self.function == "cbind" else parts[1:]


@dataclass(frozen=True)
class _Rows:
    """Code of the response and labels of the rows, for messages, which decode names."""

    name: str
    index: pd.Index

    def fail(self, what: str, bad: Mask, values: Vector, advice: str) -> NoReturn:
        """Raise for some rows, naming the first ones and the first value."""
        at = np.flatnonzero(bad)
        listed = ", ".join(f"{self.index[i]}" for i in at[:3])
        more = f" and {len(at) - 3} more" if len(at) > 3 else ""
        raise ResponseError(
            f"the response '{self.name}' has {what} in row{'s'[: len(at) > 1]} {listed}{more}, "
            f"the first {values[at[0]]:g}. {advice}"
        )


def observe_response(
    name: str,
    parts: Sequence[Any],
    spec: ResponseSpec,
    family: Family,
    weights: Vector | None,
    index: pd.Index,
) -> Observed:
    """Values of a response in the rows of the fit, which the family takes."""
    found = observe_values(name, parts, spec, family, weights, index)
    _check_within_support(name, found.y, family, found.weights, index)
    return found


def observe_values(
    name: str,
    parts: Sequence[Any],
    spec: ResponseSpec,
    family: Family,
    weights: Vector | None,
    index: pd.Index,
) -> Observed:
    """Values of a response on the scale of the mean; of trials whole successes."""
    rows = _Rows(name, index)
    if isinstance(spec, Successes):
        _check_counts(spec, parts, rows)
    observed = spec.observe(name, parts, weights)
    check_finite(f"the response '{name}'", observed.y, index)
    return _with_whole_successes(observed, rows) if family.takes_trials else observed


def response_values(
    spec: ResponseSpec,
    name: str,
    values: npt.NDArray[Any],
    family: Family,
    weights: Vector | None,
    index: pd.Index,
    *,
    is_part: bool = False,
) -> Observed:
    """
    Values of another response in the rows of a fit, whose weights or trials are given.

    Floats are on the scale of the mean, proportions where rows have trials; objects are levels of
    the fit; two columns of successes, as in the formula, have trials of their own. A part of the
    rows may have one value in all of them.
    """
    parts = [values] if values.ndim < 2 else list(values.T)
    if len(parts) == 1 and values.dtype.kind == "f":
        spec = ResponseSpec()
    if len(parts) != spec.n_parts:
        raise ResponseError(
            f"the new response has {len(parts)} columns; '{name}' takes "
            f"{'its two' if spec.n_parts == 2 else 'one'}, or numbers on the scale of the mean."
        )
    given = None if isinstance(spec, Successes) else weights
    if not is_part:
        return observe_response(name, parts, spec, family, given, index)
    found = observe_values(name, parts, spec, family, given, index)
    check_support(family, name, found.y, found.weights, index)
    return found


def response_specification(formula: Formula, parts: Sequence[Any], family: Family) -> ResponseSpec:
    """Find how a response is written that is no ordered category."""
    name, function = formula.response, response_code(formula.response).function
    if function:
        if not family.takes_trials:
            raise ResponseError(
                f"the response '{name}' is successes of trials, which a {family.name} family does "
                f"not have: fit it by {_GLMER}."
            )
        return Successes(function)
    factor = factor_of(parts[0])
    if factor is None:
        return ResponseSpec()
    levels = factor.levels.tolist()
    if len(levels) == 1:
        raise ResponseError(
            f"the response '{name}' is {level_text(levels[0])} in every row used: nothing to "
            "explain."
        )
    if len(levels) == 2 and family.takes_trials:
        return TwoLevels(*levels)
    if len(levels) == 2:
        advice = f"{_GLMER} models the probability that it is {level_text(levels[1])}"
    else:
        advice = f"Of one level against the others, {_is(name, levels[-1])}, {_GLMER} models the "
        advice += "probability"
    raise ResponseError(
        f"the response '{name}' is not numeric: it has {len(levels)} levels, "
        f"{listed_levels(levels)}. {advice}; or make it numbers, for example with "
        "pandas.to_numeric."
    )


def level_text(level: Any) -> str:
    """A level in a message: text in quotes."""
    return repr(level) if isinstance(level, str) else str(level)


def listed_levels(levels: Sequence[Any], text: Callable[[Any], str] = level_text) -> str:
    """The first levels in a message."""
    return ", ".join(map(text, levels[:_MOST_LISTED])) + ", ..." * (len(levels) > _MOST_LISTED)


def _is(name: str, level: Any) -> str:
    """Response that is 1 in the rows of one level, as it is written."""
    value = f"{level:g}" if isinstance(level, float) else repr(level)
    if isinstance(level, str) and '"' not in level:
        value = f'"{level}"'
    return f"'I({written(name)} == {value}) ~ ...'"


def _check_counts(spec: Successes, parts: Sequence[Any], rows: _Rows) -> None:
    """Refuse counts that are negative or not whole, and more successes than trials."""
    labels = ("successes", "failures" if spec.function == "cbind" else "trials")
    columns = [float_vector(f"the response '{rows.name}'", plain(part)) for part in parts]
    for label, values in zip(labels, columns, strict=True):
        check_finite(f"the response '{rows.name}'", values, rows.index)
        fractional = values != np.rint(values)
        if fractional.any():
            advice = "Numbers of successes and trials are whole; a proportion takes weights=trials."
            rows.fail(f"{label} that are no whole numbers", fractional, values, advice)
        if (values < 0.0).any():
            advice = "Are there more successes than trials? Counts without a number of trials are "
            advice += 'of family="poisson".'
            rows.fail(f"negative {label}", values < 0.0, values, advice)
    k, n = columns
    if spec.function == "prop" and (k > n).any():
        advice = "prop(k, n) takes successes and trials; cbind(k, m), successes and failures."
        rows.fail("more successes than trials", k > n, k, advice)


def check_response(
    name: str, y: Vector, family: Family, weights: Vector | None, index: pd.Index
) -> None:
    """Refuse a response outside its family's support, or constant; rows without trials are free."""
    check_finite(f"the response '{name}'", y, index)
    _check_within_support(name, y, family, weights, index)


def _check_within_support(
    name: str, y: Vector, family: Family, weights: Vector | None, index: pd.Index
) -> None:
    if family.takes_trials and weights is not None and not weights.all():
        # As in R, rows without trials stay, without effect.
        has_trials = weights > 0.0
        if not has_trials.any():
            raise ResponseError(f"the response '{name}' has no trials in any row.")
        y, weights, index = y[has_trials], weights[has_trials], index[has_trials]
    family.check_response(name, y, weights, index)


def _with_whole_successes(observed: Observed, rows: _Rows) -> Observed:
    """Trials as whole numbers, None where all are one, and proportions of whole successes."""
    y, n = observed
    values = np.zeros(0)
    if n is None and not ((y == 0.0) | (y == 1.0)).all():
        values = np.unique(y)
    if len(values) == 2 and (values == np.rint(values)).all():
        raise ResponseError(
            f"the response '{rows.name}' is {values[0]:g} or {values[1]:g}, not 0 or 1: write "
            f"{_is(rows.name, values[1])} for the probability of {values[1]:g}."
        )
    if n is None:
        return observed
    check_finite("weights", n, rows.index)
    wrong = (n != np.rint(n)) | (n < 0.0)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise WeightsError(
            f"weights of a binomial response are numbers of trials: they must be whole and not "
            f"negative; {wrong.sum()} are not, the first is {n[at]:g} in row {rows.index[at]}."
        )
    if (n == 1.0).all():
        return Observed(y, None)
    k = y * n
    whole = np.abs(k - np.rint(k)) <= _ROUNDING * np.maximum(n, 1.0)
    return Observed(np.where(whole & (n > 0.0), np.rint(k) / np.maximum(n, 1.0), y), n)
