"""Coefficients of contrasts of means, and their labels, as in R's emmeans.

A contrast is a linear combination of ``k`` means; a method is a matrix of coefficients that
depends on ``k`` only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mixedfx.errors import ArgumentError, brief, check_choice

Matrix = npt.NDArray[np.float64]

Method = Literal["pairwise", "revpairwise", "trt.vs.ctrl", "eff", "consec", "poly"]
METHODS: tuple[Method, ...] = ("pairwise", "revpairwise", "trt.vs.ctrl", "eff", "consec", "poly")

# As in emmeans, up to degree 6.
_DEGREES = ("linear", "quadratic", "cubic", "quartic", "degree 5", "degree 6")


def contrast_coefficients(
    method: Method | Mapping[str, Sequence[float]], names: Sequence[str], *, sign: str = "-"
) -> tuple[list[str], Matrix]:
    """
    Labels and coefficients (contrasts, means) of a method, or of coefficients as given.

    ``sign`` stands between the names of two means that are compared.
    """
    k = len(names)
    if isinstance(method, Mapping):
        return _custom_contrasts(method, names)
    check_choice("method", method, METHODS)
    check_two_means(k)
    if method == "eff":
        return [f"{name} effect" for name in names], np.eye(k) - 1.0 / k
    if method == "poly":
        labels = list(_DEGREES[: k - 1])
        values = [_polynomial(k, 1 + i) for i in range(len(labels))]
        return labels, np.array(values, dtype=float)
    pairs = {
        "pairwise": itertools.combinations(range(k), 2),
        "revpairwise": ((i, j) for i in range(k) for j in range(i)),
        "trt.vs.ctrl": ((i, 0) for i in range(1, k)),
        "consec": ((i, i - 1) for i in range(1, k)),
    }
    differences = list(pairs[method])
    rows = np.zeros((len(differences), k))
    for row, (plus, minus) in zip(rows, differences, strict=True):
        row[plus], row[minus] = 1.0, -1.0
    return [f"{names[plus]} {sign} {names[minus]}" for plus, minus in differences], rows


def check_two_means(size: int) -> None:
    """Raise if there are fewer than two means to compare."""
    if size < 2:
        raise ArgumentError(
            "there is one mean, and nothing to compare it with; name more variables in specs=, "
            "or give a covariate several values, as at={'x': [0, 1]}."
        )


def _custom_contrasts(method: Mapping[Any, Any], names: Sequence[str]) -> tuple[list[str], Matrix]:
    """Validate the coefficients of contrasts that a user gives."""
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
                f"{', '.join(names)}; got {brief(coefficients)}."
            )
        rows.append(row)
    return [str(label) for label in method], np.array(rows)


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
