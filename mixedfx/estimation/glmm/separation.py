"""Separation: directions in which the likelihood of a generalised model rises without end.

Row i is at the boundary of the support where its log density rises in a direction ``s_i`` (-1 or
+1) of the linear predictor without end, as that of a zero does when a logit or a log mean falls;
other rows have ``s_i = 0``. The likelihood has no maximum where there is a direction d of the
coefficients with

    s_i x_i'd >= 0 where s_i is not zero,    x_i'd = 0 where it is,    not all of them zero

(Albert and Anderson 1984, Biometrika 71:1; Konis 2007, thesis, Oxford, chapter 4; for counts
Correia, Guimaraes and Zylkin 2019, arXiv:1903.01633). A linear program finds a direction in which
all rows rise that do so in any. Random effects change none of this: for any of their values the
density rises.

A standard deviation runs off where fixed and random effects together fit every response: the
likelihood then tends to the probability of effects that do so, as groups whose responses are all
alike have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from mixedfx.design.rows import ModelRows, RandomTermRows
from mixedfx.likelihood.generalized.pirls import Modes

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# Rows whose response is as good as certain: of these alone a direction can have run off.
_CERTAIN = 1e-5
# By a link of heavy tails a response is less certain however far its predictor has run off.
_LESS_CERTAIN, _FAR_PREDICTOR = 1e-2, 100.0
# Standard deviation on the link's scale from which the random effects are looked at.
_LARGE_SD = 8.0
# Bound of a direction, columns having unit root mean square: a row that rises by less than its
# inverse does not.
_BOUND = 1e4
# Part of a direction that is rounding.
_ROUNDING = 1e-7
# Rows in a linear program at first, and added at a time.
_MOST_ROWS = 4000
_TIME_LIMIT = 20.0
# Columns are left out one by one where rows times columns are not more than this.
_MOST_ENTRIES = 1_000_000


def linprog(*args: Any, **options: Any) -> Any:
    """Solve a linear program by SciPy's module of optimisers, which is slow to import."""
    from scipy.optimize import linprog

    return linprog(*args, **options)


@dataclass(frozen=True)
class Separation:
    """A direction of the coefficients in which the likelihood rises without end."""

    direction: Vector  # (p,) of the coefficients of the formula's columns
    rows: Mask  # (n,) that rise


def is_suspicious(modes: Modes) -> bool:
    """Whether any response is as good as certain at the modes."""
    return modes.at.any_certain(_CERTAIN, _LESS_CERTAIN, _FAR_PREDICTOR)


def find_separation(X: Matrix, signs: Vector) -> Separation | None:
    """A direction in which most rows rise, of as few coefficients as that takes; or None."""
    scale = np.sqrt(np.mean(X**2, axis=0))
    distinct, index = _distinct(X / scale)
    n, p = distinct.shape
    lowest, highest = np.full(n, 2.0), np.full(n, -2.0)
    np.minimum.at(lowest, index, signs)
    np.maximum.at(highest, index, signs)
    s = np.where(lowest == highest, lowest, 0.0)  # rows of both kinds stay where they are
    fixed, A = distinct[s == 0.0], s[s != 0.0, None] * distinct[s != 0.0]
    support = _support(A, fixed)
    if not support.any():
        return None
    columns = _needed(A, fixed, support)
    d = np.zeros(p)
    d[columns] = _fewest(A[:, columns], fixed[:, columns], support)
    separated = np.zeros(n, dtype=bool)
    separated[s != 0.0] = support
    return Separation(d / scale, separated[index])


def _distinct(X: Matrix) -> tuple[Matrix, npt.NDArray[np.intp]]:
    """Distinct rows, and that of each row."""
    rng, key = np.random.default_rng(0), np.zeros(len(X))
    for column in X.T:
        key += rng.uniform(0.5, 1.5) * column
    _, first, index = np.unique(key, return_index=True, return_inverse=True)
    index = index.ravel()
    return (X[first], index) if (X[first][index] == X).all() else (X, np.arange(len(X)))


def _needed(A: Matrix, fixed: Matrix, support: Mask) -> npt.NDArray[np.intp]:
    """Columns without any of which not all of these rows rise."""
    columns = np.flatnonzero(_fewest(A, fixed, support))
    if A.size > _MOST_ENTRIES:
        return columns
    for j in columns[::-1]:
        fewer = columns[columns != j]
        if len(fewer) and np.array_equal(_support(A[:, fewer], fixed[:, fewer]), support):
            columns = fewer
    return columns


def _null_space(A: Matrix, p: int) -> Matrix:
    """Orthonormal basis of the directions that leave all rows as they are, (p, k)."""
    if not len(A):
        return np.eye(p)
    return np.asarray(linalg.null_space(A.T @ A / len(A), rcond=1e-12))


def _support(A: Matrix, fixed: Matrix) -> Mask:
    """
    Rows with ``a_i'd > 0`` for a d with ``A d >= 0`` that leaves the fixed rows, as many as can be.

    With ``d = N z``, N spanning the directions that leave these, the program
    ``max sum t, t <= A N z, 0 <= t <= 1`` has t of one in all of them. Of many rows a part is
    taken, and those that its solution violates are added.
    """
    n, basis = len(A), _null_space(fixed, A.shape[1])
    if not n or not basis.shape[1]:
        return np.zeros(n, dtype=bool)
    A, active = A @ basis, np.arange(n)
    if n > _MOST_ROWS:
        active = np.sort(np.random.default_rng(0).choice(n, _MOST_ROWS, replace=False))
    while True:
        z = _most_rising(A[active])
        if z is None:
            return np.zeros(n, dtype=bool)
        rise = A @ z
        size = max(float(np.abs(rise).max()), 1.0)
        violated = np.flatnonzero(rise < -_ROUNDING * size)
        new = np.setdiff1d(violated, active)
        if not len(new):
            return np.asarray(rise > max(1e-3, _ROUNDING * size))
        worst = new[np.argsort(rise[new])[:_MOST_ROWS]]
        active = np.sort(np.append(active, worst))


def _most_rising(A: Matrix) -> Vector | None:
    """The program's z; None where no row rises."""
    n, k = A.shape
    result = linprog(
        np.concatenate([np.zeros(k), -np.ones(n)]),
        A_ub=sparse.hstack([sparse.csr_array(-A), sparse.eye_array(n)], format="csr"),
        b_ub=np.zeros(n),
        bounds=[(-_BOUND, _BOUND)] * k + [(0.0, 1.0)] * n,
        method="highs",
        options={"time_limit": _TIME_LIMIT},
    )
    if result.x is None or not float(result.x[k:].sum()) > 0.5:
        return None
    return np.asarray(result.x[:k])


def _fewest(A: Matrix, fixed: Matrix, support: Mask) -> Vector:
    """Direction of the smallest sum of absolute coefficients in which all these rows rise."""
    p, both = A.shape[1], np.hstack([A, -A])
    kept = linalg.null_space(_null_space(fixed, p).T).T  # spans the rows that stay
    result = linprog(
        np.ones(2 * p),
        A_ub=-both,
        b_ub=-support.astype(float),
        A_eq=np.hstack([kept, -kept]) if len(kept) else None,
        b_eq=np.zeros(len(kept)) if len(kept) else None,
        bounds=(0.0, None),
        method="highs",
        options={"time_limit": _TIME_LIMIT},
    )
    if result.x is None:
        return np.ones(p)  # not found in time: all coefficients are named
    d = result.x[:p] - result.x[p:]
    d[np.abs(d) < 1e-6 * np.abs(d).max()] = 0.0
    return np.asarray(d)


def large_terms(sds: Sequence[Vector]) -> list[int]:
    """Terms with a standard deviation from which the random effects are looked at."""
    return [t for t, sd in enumerate(sds) if sd.max(initial=0.0) > _LARGE_SD]


def runaway_terms(rows: ModelRows, signs: Vector, sds: Sequence[Vector]) -> list[int]:
    """
    Terms with a large standard deviation, where the effects can fit every response.

    ``sds`` are of each term's effects, of columns of unit root mean square.
    """
    large = large_terms(sds)
    if not large or (signs == 0.0).any():
        return []
    Z = sparse.hstack([sparse.csr_array(rows.X), *map(_indicators, rows.random_terms)])
    A = sparse.diags_array(signs) @ Z
    result = linprog(
        np.zeros(A.shape[1]),
        A_ub=-A.tocsr(),
        b_ub=-np.ones(A.shape[0]),
        bounds=(None, None),
        method="highs",
        options={"time_limit": _TIME_LIMIT},
    )
    return large if result.status == 0 else []


def _indicators(term: RandomTermRows) -> sparse.csr_array:
    """Columns of a random term, (n, levels x effects)."""
    M, codes, size = term.model_matrix, term.codes, term.n_codes
    n, k = M.shape
    at = np.arange(n)
    parts = [sparse.csr_array((M[:, j], (at, codes)), shape=(n, size)) for j in range(k)]
    if term.memberships is not None:
        parts = [of_codes @ term.memberships.csr for of_codes in parts]
    return sparse.csr_array(sparse.hstack(parts))
