"""A way of comparing and the names of some means, to labelled rows of coefficients.

A contrast is a weighted sum of means, and a way to compare them is a matrix of weights: it
depends on how many means there are, not on what they are or how well they are known. The ways
and their labels are those of R's emmeans.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mixedfx.errors import ArgumentError, expect_choice

Matrix = npt.NDArray[np.float64]

Method = Literal["pairwise", "revpairwise", "trt.vs.ctrl", "eff", "consec", "poly"]
METHODS: tuple[Method, ...] = ("pairwise", "revpairwise", "trt.vs.ctrl", "eff", "consec", "poly")

# emmeans' names, and the highest degree that it gives.
_DEGREES = ("linear", "quadratic", "cubic", "quartic", "degree 5", "degree 6")


def contrast_coefficients(
    method: Method | Mapping[str, Sequence[float]], names: Sequence[str]
) -> tuple[list[str], Matrix]:
    """Coefficients of the contrasts of some means."""
    k = len(names)
    if isinstance(method, Mapping):
        return _given(method, names)
    expect_choice("method", method, METHODS)
    check_several(k)
    if method == "eff":
        return [f"{name} effect" for name in names], np.eye(k) - 1.0 / k
    if method == "poly":
        degrees = _DEGREES[: k - 1]
        values = [_polynomial(k, 1 + place) for place in range(len(degrees))]
        return list(degrees), np.array(values, dtype=float)
    pairs = {
        "pairwise": itertools.combinations(range(k), 2),
        "revpairwise": ((i, j) for i in range(k) for j in range(i)),
        "trt.vs.ctrl": ((i, 0) for i in range(1, k)),
        "consec": ((i, i - 1) for i in range(1, k)),
    }
    signs = list(pairs[method])
    rows = np.zeros((len(signs), k))
    for row, (plus, minus) in zip(rows, signs, strict=True):
        row[plus], row[minus] = 1.0, -1.0
    return [f"{names[plus]} - {names[minus]}" for plus, minus in signs], rows


def check_several(size: int) -> None:
    """Refuse to compare one mean with nothing."""
    if size < 2:
        raise ArgumentError(
            "there is one mean, and nothing to compare it with; name more variables in specs=, "
            "or give a covariate several values, as at={'x': [0, 1]}."
        )


def _given(method: Mapping[Any, Any], names: Sequence[str]) -> tuple[list[str], Matrix]:
    """Read contrasts that the user wrote."""
    if not method:
        raise ArgumentError("method has no contrasts; give a label with a coefficient per mean.")
    rows = []
    for label, coefficients in method.items():
        try:
            row = np.asarray(coefficients, dtype=float)
        except (TypeError, ValueError):
            row = np.array(np.nan)
        if row.shape != (len(names),) or not np.isfinite(row).all():
            raise ArgumentError(
                f"the coefficients of {label!r} must be {len(names)} numbers, for "
                f"{', '.join(names)}; got {coefficients!r}."
            )
        rows.append(row)
    return [str(label) for label in method], np.array(rows)


def _polynomial(k: int, degree: int) -> list[int]:
    """
    Orthogonal polynomial over ``k`` equal steps, in the smallest integers.

    Chebyshev's discrete polynomials (Abramowitz and Stegun 1964, 22.17), whose values times a
    falling factorial are whole; rising at the end.
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
