"""Logarithm of the probability of an interval, ``log(F(high) - F(low))``, with derivatives.

With ``A = log(1 - F)``, ``x = A(low) - A(high)`` and ``h(x) = log(1 - exp(-x))`` it is

    A(low) + h(x),    h' = 1 / (exp(x) - 1),    h'' = -h' (1 + h'),    h''' = -h'' (1 + 2 h'),

which keeps its digits in the upper tail; a symmetric F takes the interval that is mirrored where
the lower tail is nearer. Of the logistic distribution ``F(high) - F(low)`` is a product,

    F(high) (1 - F(low)) (1 - exp(low - high)).

The ends move together by a shift s, minus the linear predictor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixedfx.families.derivatives import Array, LogDerivatives

# An end beyond all values; its powers are finite.
FAR = 1e60


class Width(NamedTuple):
    """Of widths x of intervals: ``log(1 - exp(-x))``, and its derivative ``1 / (exp(x) - 1)``."""

    log_rest: Array
    slope: Array

    @staticmethod
    def of(width: Array) -> Width:
        """At widths, which may be infinite."""
        with np.errstate(all="ignore"):
            return Width(_log_of_rest(width), 1.0 / np.expm1(width))

    def take(self, at: npt.NDArray[np.intp]) -> Width:
        """Of some intervals."""
        return Width(self.log_rest.take(at), self.slope.take(at))


class ByEnd(NamedTuple):
    """Derivatives by one end of the value, and of its first and second derivative by the shift."""

    value: Array
    first: Array
    second: Array


class EndCurvature(NamedTuple):
    """
    Derivatives of a product of functions of each end and of one of the width, by the ends.

    A derivative by the shift is one by the end again, as the shift does not change the width: twice
    by an end it is that, and the second derivative by the width; by both ends it is minus the last.
    """

    by_end: Array  # (2, 4, n) by the high end and the low one, and of these by the shift
    by_width: Array  # (n,) second derivative


@dataclass(frozen=True)
class LogInterval:
    """An interval's log probability, with derivatives by the shift, and by its ends."""

    by_shift: LogDerivatives
    ends: Callable[[], tuple[ByEnd, ByEnd]]  # by the high end and by the low one
    curvature: Callable[[], EndCurvature] | None = None  # if there is a closed form


def _log_of_rest(x: Array) -> Array:
    """``log(1 - exp(-x))``."""
    return np.where(x < 0.5, np.log(-np.expm1(-x)), np.log1p(-np.exp(-x)))


def of_survival(
    log_sf: Callable[..., LogDerivatives], low: Array, high: Array, *, third: bool
) -> LogInterval:
    """From the survival function at both ends."""
    a, b = log_sf(high, third=third), log_sf(low, third=third)
    x = b.value - a.value
    h1 = 1.0 / np.expm1(x)
    h2 = -h1 * (1.0 + h1)
    h3 = -h2 * (1.0 + 2.0 * h1)
    x1, x2 = b.first - a.first, b.second - a.second
    first = b.first + h1 * x1
    second = b.second + h2 * x1 * x1 + h1 * x2
    slope = None
    if b.third is not None and a.third is not None:
        slope = b.third + x1 * (h3 * x1 * x1 + 3.0 * h2 * x2) + h1 * (b.third - a.third)

    def ends() -> tuple[ByEnd, ByEnd]:
        h, moved = (h1, h2, h3), (x1, x2)
        return _by_end(a, h, moved, sign=-1.0), _by_end(b, h, moved, sign=1.0)

    return LogInterval(LogDerivatives(b.value + _log_of_rest(x), first, second, slope), ends)


def _by_end(
    end: LogDerivatives, h: tuple[Array, Array, Array], x: tuple[Array, Array], *, sign: float
) -> ByEnd:
    """Derivatives by an end whose A enters x with a sign; that of the low one is outside h too."""
    h1, h2, h3 = h
    x1, x2 = x
    assert end.third is not None
    own = h1 if sign < 0.0 else 1.0 + h1
    first, second, third = sign * end.first, sign * end.second, sign * end.third
    return ByEnd(
        own * first,
        h2 * first * x1 + own * second,
        h3 * first * x1 * x1 + h2 * (2.0 * second * x1 + first * x2) + own * third,
    )


def of_symmetric(
    log_sf: Callable[..., LogDerivatives], low: Array, high: Array, *, third: bool
) -> LogInterval:
    """From the survival function, the interval mirrored where it is nearer to the lower tail."""
    mirrored = low + high < 0.0
    sign = np.where(mirrored, -1.0, 1.0)
    ends_in_upper_tail = np.where(mirrored, -high, low), np.where(mirrored, -low, high)
    inner = of_survival(log_sf, *ends_in_upper_tail, third=third)
    value, first, second, slope = inner.by_shift
    by_shift = LogDerivatives(value, sign * first, second, None if slope is None else sign * slope)

    def ends() -> tuple[ByEnd, ByEnd]:
        by_high, by_low = inner.ends()
        swapped = [
            (np.where(mirrored, b, a), np.where(mirrored, a, b))
            for a, b in zip(by_high, by_low, strict=True)
        ]
        (a0, b0), (a1, b1), (a2, b2) = swapped
        return ByEnd(sign * a0, a1, sign * a2), ByEnd(sign * b0, b1, sign * b2)

    return LogInterval(by_shift, ends)


def of_logistic(
    log_cdf: Callable[..., LogDerivatives], low: Array, high: Array, width: Width, *, third: bool
) -> LogInterval:
    """The product, whose last factor a shift does not change."""
    # F(high) and 1 - F(low) = F(-low) by one call.
    value, first, second, d3 = log_cdf(np.array([high, -low]), third=third)
    slope = None if d3 is None else d3[0] - d3[1]
    total = value[0] + value[1]
    total += width.log_rest
    by_shift = LogDerivatives(total, first[0] - first[1], second[0] + second[1], slope)
    if d3 is None:
        return LogInterval(by_shift, _no_ends)
    k, third_of_F = width.slope, d3

    def ends() -> tuple[ByEnd, ByEnd]:
        return (
            ByEnd(first[0] + k, second[0], third_of_F[0]),
            ByEnd(-first[1] - k, second[1], -third_of_F[1]),
        )

    def curvature() -> EndCurvature:
        by = np.empty((2, 4, *k.shape))
        np.add(first, k, out=by[:, 0])
        by[:, 1], by[:, 2] = second, third_of_F
        np.negative(by[1, ::2], out=by[1, ::2])
        # Of log F the fourth derivative is F2 ((2 F1 - 1)^2 + 2 F2), F1 and F2 its first two.
        fourth = 2.0 * first
        fourth -= 1.0
        fourth *= fourth
        fourth += 2.0 * second
        np.multiply(fourth, second, out=by[:, 3])
        return EndCurvature(by, -k * (1.0 + k))

    return LogInterval(by_shift, ends, curvature)


def _no_ends() -> tuple[ByEnd, ByEnd]:
    """Of an interval that was evaluated without third derivatives."""
    raise AssertionError
