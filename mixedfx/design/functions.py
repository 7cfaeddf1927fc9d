"""Functions that every formula knows without a prefix, after R's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import patsy.builtins
from patsy import (
    stateful_transform,
)

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


class _Poly:
    """Orthogonal polynomials of a column, as R's ``poly``; remembers its recurrence."""

    def __init__(self) -> None:
        self._seen: list[Vector] = []

    def memorize_chunk(self, x: Any, degree: int = 1) -> None:
        self._seen.append(np.asarray(x, dtype=float).ravel())

    def memorize_finish(self) -> None:
        self._x = np.concatenate(self._seen)
        self._seen = []
        self._fits: dict[int, tuple[Vector, Vector]] = {}

    def transform(self, x: Any, degree: int = 1) -> Matrix:
        if degree not in self._fits:
            if degree < 1 or degree >= len(np.unique(self._x)):
                raise ValueError(f"poly() needs more than degree = {degree} different values")
            self._fits[degree] = _recurrence(self._x, degree)
        shifts, norms = self._fits[degree]
        columns = _polynomials(np.asarray(x, dtype=float).ravel(), shifts, norms)
        return columns[:, 1:] / np.sqrt(norms[1:])


def _recurrence(x: Vector, degree: int) -> tuple[Vector, Vector]:
    """Centres and squared norms of the three-term recurrence (Forsythe 1957)."""
    shifts, norms = np.zeros(degree), np.ones(degree + 1)
    before, now = np.zeros_like(x), np.ones_like(x)
    norms[0] = now @ now
    for d in range(degree):
        shifts[d] = (x * now) @ now / norms[d]
        after = (x - shifts[d]) * now - (norms[d] / norms[d - 1] if d else 0.0) * before
        before, now = now, after
        norms[d + 1] = now @ now
    return shifts, norms


def _polynomials(x: Vector, shifts: Vector, norms: Vector) -> Matrix:
    columns = [np.ones_like(x)]
    before = np.zeros_like(x)
    for d, shift in enumerate(shifts):
        back = norms[d] / norms[d - 1] if d else 0.0
        columns.append((x - shift) * columns[-1] - back * before)
        before = columns[-2]
    return np.column_stack(columns)


# patsy's own, for grouping expressions, which patsy does not evaluate.
PATSY = {name: getattr(patsy.builtins, name) for name in patsy.builtins.__all__}

# patsy itself knows scale, bs, cr, C, I, Q.
KNOWN_FUNCTIONS = {
    "log": np.log,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "poly": stateful_transform(_Poly),
    "np": np,
}
