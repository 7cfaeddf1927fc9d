"""Responses outside a family's support: the first rows, what was seen, and who takes it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.errors import ResponseError

Vector = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# R's glm warns of numbers of successes that are further from a whole number.
_WHOLE = 1e-3
_FIRST_ROWS = 3


class _Supported(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def support(self) -> str: ...

    def outside(self, y: Vector, w: Vector | None) -> Mask: ...

    def advice(self, y: Vector) -> str: ...

    def seen(self, y: float, w: float | None) -> str: ...


def is_whole(values: Vector) -> Mask:
    """Whether values are whole numbers, within the rounding of proportions."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(values - np.rint(values)) <= _WHOLE)


def not_counts(y: Vector) -> Mask:
    """Whether values are not whole numbers from zero on."""
    with np.errstate(invalid="ignore"):
        return np.asarray(~((y >= 0) & (y == np.rint(y)) & np.isfinite(y)))


def check_support(
    family: _Supported, name: str, y: Vector, w: Vector | None, index: pd.Index | None
) -> None:
    """Raise if rows are outside the support of a family."""
    outside = family.outside(y, w)
    if not outside.any():
        return
    rows = np.flatnonzero(outside)
    labels = range(len(y)) if index is None else index
    seen = [
        f"{family.seen(float(y[i]), None if w is None else float(w[i]))} in row {labels[i]}"
        for i in rows[:_FIRST_ROWS]
    ]
    of_all = f" ({len(rows):,} of {len(y):,} rows)" if len(rows) > len(seen) else ""
    advice = family.advice(y) or _advice(family.name, y, w)
    raise ResponseError(
        f"the response '{name}' is {', '.join(seen)}{of_all}, but family='{family.name}' takes "
        f"{family.support}. {advice}"
    )


def check_varies(name: str, y: Vector, *, trials: Vector | None) -> None:
    """Raise if the response is constant; equal proportions strictly within 0 and 1 are data."""
    if y[0] == y[-1] and y.min() == y.max() and (trials is None or y[0] in (0.0, 1.0)):
        of_trials = "" if trials is None else " of all trials"
        raise ResponseError(
            f"the response '{name}' is {y[0]:g}{of_trials} in every row: nothing to explain. "
            "Check which rows were selected, and how the response was coded."
        )


def _advice(family: str, y: Vector, w: Vector | None) -> str:
    """What to correct, or which families take such values."""
    if family == "binomial" and w is not None:
        return _trials_advice(y, w)
    within = ((y >= 0) & (y <= 1)).all()
    if family == "binomial" and within:
        return (
            "Give proportions their numbers of trials: prop(k, n) as the response, or weights= "
            "with the trials; shares that count nothing are for family='beta'."
        )
    if family == "beta" and within and not np.isin(y, (0.0, 1.0)).all():
        return (
            "Write squeeze(y) for the response y to move shares of exactly 0 and 1 inwards, by "
            "(y (n - 1) + 1/2) / n of n rows, or model them apart: whether the share is 0 by "
            "family='binomial', the others by family='beta'."
        )
    if not np.isfinite(y).all():
        return "Correct these values, or make them missing to leave the rows out."
    takers = " or ".join(f"'{taker}'" for taker in families_for(y) if taker != family)
    return f"These values are for family={takers}."


def _trials_advice(y: Vector, w: Vector) -> str:
    if not (is_whole(w) & (w >= 0)).all():
        return (
            "Its weights are numbers of trials: whole, not negative. For other weights aggregate "
            "the rows, or leave weights= out."
        )
    if (y > 1).any():
        return (
            "There are more successes than trials: check the order in cbind(successes, failures) "
            "or prop(successes, trials). Counts without trials are for family='poisson' or "
            "'nbinom2'."
        )
    return "Give the counts themselves: cbind(successes, failures) or prop(successes, trials)."


def families_for(y: Vector) -> list[str]:
    """Names of the families that take a response."""
    if np.isin(y, (0.0, 1.0)).all():
        return ["binomial"]
    if not not_counts(y).any():
        return ["poisson", "nbinom2"]
    if ((y > 0) & (y < 1)).all():
        return ["beta", "gamma", "gaussian"]
    return ["gamma", "gaussian"] if (y > 0).all() else ["gaussian"]
