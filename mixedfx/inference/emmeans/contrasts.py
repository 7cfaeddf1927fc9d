"""Coefficients of contrasts of means, and their labels, as in R's emmeans.

A contrast is a linear combination of ``k`` means; a method is a matrix of coefficients that
depends on ``k`` only, and for comparisons with one mean on which that is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from mixedfx.errors import ArgumentError, brief, check_choice, did_you_mean

Matrix = npt.NDArray[np.float64]

Method = Literal[
    "pairwise",
    "revpairwise",
    "tukey",
    "trt.vs.ctrl",
    "trt.vs.ctrlk",
    "dunnett",
    "eff",
    "del.eff",
    "consec",
    "mean_chg",
    "poly",
]
METHODS: tuple[Method, ...] = get_args(Method)
# All differences of pairs, whose family Tukey's adjustment is for.
ALL_PAIRS = ("pairwise", "revpairwise", "tukey")
# Comparisons with one mean, the first or the last unless told.
WITH_REFERENCE = {"trt.vs.ctrl": 0, "dunnett": 0, "trt.vs.ctrlk": -1}

# As in emmeans, up to degree 6.
_DEGREES = ("linear", "quadratic", "cubic", "quartic", "degree 5", "degree 6")

# Differences of two means: positions of the first and the second, by k.
_DIFFERENCES: dict[str, Callable[[int], Iterable[tuple[int, int]]]] = {
    "pairwise": lambda k: itertools.combinations(range(k), 2),
    "tukey": lambda k: itertools.combinations(range(k), 2),
    "revpairwise": lambda k: ((i, j) for i in range(k) for j in range(i)),
    "consec": lambda k: ((i, i - 1) for i in range(1, k)),
}


def contrast_coefficients(
    method: Method | Mapping[str, Any],
    names: Sequence[str],
    *,
    sign: str = "-",
    ref: int | None = None,
    keys: Sequence[Sequence[Any]] = (),
) -> tuple[list[str], Matrix]:
    """
    Labels and coefficients (contrasts, means) of a method, or of coefficients as given.

    ``sign`` stands between the names of two means that are compared, ``keys`` are other names of
    each mean.
    """
    k = len(names)
    if isinstance(method, Mapping):
        return _custom_contrasts(method, names, keys)
    check_choice("method", method, METHODS)
    check_two_means(k)
    if method == "poly":
        labels = list(_DEGREES[: k - 1])
        values = [_polynomial(k, 1 + i) for i in range(len(labels))]
        return labels, np.array(values, dtype=float)
    if method in _OF_AVERAGES:
        return _OF_AVERAGES[method](names)
    if method in WITH_REFERENCE:
        reference = (WITH_REFERENCE[method] if ref is None else ref) % k
        differences = [(i, reference) for i in range(k) if i != reference]
    else:
        differences = list(_DIFFERENCES[method](k))
    rows = np.zeros((len(differences), k))
    for row, (plus, minus) in zip(rows, differences, strict=True):
        row[plus], row[minus] = 1.0, -1.0
    return [f"{names[plus]} {sign} {names[minus]}" for plus, minus in differences], rows


def _effects(names: Sequence[str]) -> tuple[list[str], Matrix]:
    """Each mean less the mean of all."""
    k = len(names)
    return [f"{name} effect" for name in names], np.eye(k) - 1.0 / k


def _deleted_effects(names: Sequence[str]) -> tuple[list[str], Matrix]:
    """Each mean less the mean of the others."""
    labels, rows = _effects(names)
    return labels, rows * (len(names) / (len(names) - 1.0))


def _mean_changes(names: Sequence[str]) -> tuple[list[str], Matrix]:
    """Mean of those from each on less the mean of those before."""
    k = len(names)
    rows = [np.r_[np.full(i, -1.0 / i), np.full(k - i, 1.0 / (k - i))] for i in range(1, k)]
    return [f"{a}|{b}" for a, b in itertools.pairwise(names)], np.array(rows)


_OF_AVERAGES = {"eff": _effects, "del.eff": _deleted_effects, "mean_chg": _mean_changes}


def check_two_means(size: int) -> None:
    """Raise if there are fewer than two means to compare."""
    if size < 2:
        raise ArgumentError(
            "there is one mean, and nothing to compare it with; name more variables in specs=, "
            "or give a covariate several values, as at={'x': [0, 1]}."
        )


def _custom_contrasts(
    method: Mapping[Any, Any], names: Sequence[str], keys: Sequence[Sequence[Any]]
) -> tuple[list[str], Matrix]:
    """Validate the coefficients of contrasts that a user gives."""
    if not method:
        raise ArgumentError("method has no contrasts; give a label with a coefficient per mean.")
    rows = []
    for label, coefficients in method.items():
        if isinstance(coefficients, Mapping):
            rows.append(_by_name(label, coefficients, names, keys))
            continue
        try:
            row = np.asarray(coefficients, dtype=float)
        except (TypeError, ValueError):
            row = np.array(np.nan)
        if row.shape != (len(names),) or not np.isfinite(row).all():
            raise ArgumentError(
                f"the coefficients of {label!r} must be {len(names)} numbers, for "
                f"{', '.join(names)}; got {brief(coefficients)}."
            )
        rows.append(row)
    return [str(label) for label in method], np.array(rows)


def _by_name(
    label: Any, given: Mapping[Any, Any], names: Sequence[str], keys: Sequence[Sequence[Any]]
) -> npt.NDArray[np.float64]:
    """Coefficients of one contrast, from levels to numbers; zero for levels not named."""
    row = np.zeros(len(names))
    for key, value in given.items():
        position = position_of(f"the contrast {label!r}", key, names, keys)
        real = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not real or not math.isfinite(value):
            raise ArgumentError(
                f"the coefficient of {key!r} in {label!r} is {brief(value)}: give a number."
            )
        row[position] += float(value)
    if not row.any():
        raise ArgumentError(f"the coefficients of {label!r} are all zero: give two that differ.")
    return row


def position_of(what: str, key: Any, names: Sequence[str], keys: Sequence[Sequence[Any]]) -> int:
    """Position of a mean, by its label or its level; of several variables by a tuple."""
    for position, name in enumerate(names):
        if any(_same(key, other) for other in (name, *(keys[position] if keys else ()))):
            return position
    hint = did_you_mean(str(key), names)
    raise ArgumentError(f"{what}: {key!r} is none of the means {', '.join(names)}.{hint}")


def _same(key: Any, other: Any) -> bool:
    """Whether a key is a level, or a tuple of levels."""
    if isinstance(key, np.ndarray):
        return False
    if isinstance(other, tuple):
        return isinstance(key, tuple | list) and tuple(key) == other
    truth = isinstance(key, bool), isinstance(other, bool | np.bool_)
    return bool(truth[0] == truth[1] and key == other)


def _polynomial(k: int, degree: int) -> list[int]:
    """
    Orthogonal polynomial over ``k`` equidistant points, in the smallest integers.

    Chebyshev's discrete polynomials (Abramowitz and Stegun 1964, 22.17), times a falling
    factorial that makes the values integers; the last is positive.
    """
    values = [
        sum(
            (-1) ** (degree + j)
            * math.comb(degree, j)
            * math.comb(degree + j, j)
            * math.perm(x, j)
            * math.perm(k - 1 - j, degree - j)
            for j in range(degree + 1)
        )
        for x in range(k)
    ]
    return [value // math.gcd(*values) for value in values]
