"""Functions that every formula knows without a prefix, as R's formulas do."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import patsy.builtins
from patsy import stateful_transform

from mixedfx._keys import key_text
from mixedfx.design.group_means import group_mean, within
from mixedfx.design.membership import mm
from mixedfx.design.r_functions import R_CONSTANTS, R_FUNCTIONS
from mixedfx.design.reductions import REMEMBER, remember
from mixedfx.design.splines import bs, float_column, ns
from mixedfx.design.standardization import scale, standardize

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


class _Poly:
    """Orthogonal polynomials of a column, R's ``poly``; its state is the three-term recurrence."""

    def __init__(self) -> None:
        self._chunks: list[Vector] = []

    def memorize_chunk(self, x: Any, degree: int = 1, raw: bool = False) -> None:
        self._chunks.append(float_column("poly", x))
        self._degree, self.learned_in_chunks = degree, bool(raw)

    def memorize_finish(self) -> None:
        x, degree = np.concatenate(self._chunks), self._degree
        self._chunks = []
        if degree < 1 or degree >= len(np.unique(x)):
            raise ValueError(f"poly() needs more than degree = {degree} different values")
        self._alpha, self._norm2 = _recurrence(x, degree)

    def transform(self, x: Any, degree: int = 1, raw: bool = False) -> Matrix:
        if raw:
            return np.asarray(np.vander(float_column("poly", x), degree + 1)[:, -2::-1])
        columns = _polynomials(float_column("poly", x), self._alpha, self._norm2)
        return columns[:, 1:] / np.sqrt(self._norm2[1:])


def _recurrence(x: Vector, degree: int) -> tuple[Vector, Vector]:
    """
    Coefficients of the three-term recurrence of orthogonal polynomials, and their squared norms.

    p[d+1] = (x - alpha[d]) p[d] - norm2[d] / norm2[d-1] p[d-1] (Forsythe 1957, J. SIAM 5, 74-88).
    """
    alpha, norm2 = np.zeros(degree), np.ones(degree + 1)
    previous, current = np.zeros_like(x), np.ones_like(x)
    norm2[0] = current @ current
    for d in range(degree):
        alpha[d] = (x * current) @ current / norm2[d]
        following = (x - alpha[d]) * current - (norm2[d] / norm2[d - 1] if d else 0.0) * previous
        previous, current = current, following
        norm2[d + 1] = current @ current
    return alpha, norm2


def _polynomials(x: Vector, alpha: Vector, norm2: Vector) -> Matrix:
    columns = [np.ones_like(x)]
    previous = np.zeros_like(x)
    for d, alpha_d in enumerate(alpha):
        ratio = norm2[d] / norm2[d - 1] if d else 0.0
        columns.append((x - alpha_d) * columns[-1] - ratio * previous)
        previous = columns[-2]
    return np.column_stack(columns)


class _Squeeze:
    """
    Shares moved off 0 and 1, ``(y (n - 1) + 1/2) / n`` of n rows: for a beta response.

    Smithson and Verkuilen (2006), Psychol. Methods 11:54, equation 4.
    """

    def __init__(self) -> None:
        self._n = 0

    def memorize_chunk(self, y: Any) -> None:
        y = float_column("squeeze", y)
        if (y < 0.0).any() or (y > 1.0).any():
            raise ValueError(
                "squeeze() takes shares from 0 to 1; divide by the total, as in squeeze(k / n)"
            )
        self._n += len(y)

    def memorize_finish(self) -> None:
        pass

    def transform(self, y: Any) -> Vector:
        return (float_column("squeeze", y) * (self._n - 1.0) + 0.5) / self._n


def dummy(f: Any, *levels: Any) -> Vector:
    """Indicator of some levels of a factor, lme4's ``dummy(f, "b")``."""
    if not levels:
        raise ValueError("dummy() takes a factor and its levels, dummy(f, 'b')")
    texts = {key_text(level) for level in levels}
    found = [key_text(value) in texts for value in pd.Series(f).tolist()]
    return np.asarray(found, dtype=float)


# patsy's own functions, for grouping factors, which patsy does not evaluate.
PATSY_FUNCTIONS = {name: getattr(patsy.builtins, name) for name in patsy.builtins.__all__}

# Beyond those that patsy defines: center, cr, C, I, Q; its bs is zero at the upper boundary knot
# where an interior knot is there too, and refuses values beyond the boundary knots; its scale is
# learned row by row, and divides by another standard deviation than R's.
FORMULA_FUNCTIONS = {
    **R_FUNCTIONS,
    **R_CONSTANTS,
    "log": np.log,
    "log1p": np.log1p,
    "log2": np.log2,
    "log10": np.log10,
    "abs": np.abs,
    "dummy": dummy,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "poly": stateful_transform(_Poly),
    "bs": bs,
    "ns": ns,
    "scale": scale,
    "standardize": standardize,
    "squeeze": stateful_transform(_Squeeze),
    "group_mean": group_mean,
    "mm": mm,
    "within": within,
    REMEMBER: remember,
    "np": np,
}
