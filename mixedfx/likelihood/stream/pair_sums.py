"""Sums by pair of levels of two grouping factors, merged over chunks.

A run has each pair once, in increasing order of ``row * width + col``. Runs are merged as in a
binary counter, so that each number is moved about log(chunks) times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.likelihood.level_sums import multiply
from mixedfx.linalg.cholesky.block_matrix import LevelPairs

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Keys = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Run:
    """Pairs in increasing order, and their sums."""

    keys: Keys  # (m,)
    values: Matrix  # (products, m)


@dataclass(frozen=True)
class PairSums:
    """Sums by pair, as runs of which each is at least twice as long as the next."""

    width: int  # levels of the second factor
    runs: tuple[Run, ...]

    def __add__(self, other: PairSums) -> PairSums:
        """Sums over the rows of both."""
        runs = [*self.runs, *other.runs]
        runs.sort(key=lambda run: -len(run.keys))
        while len(runs) > 1 and len(runs[-2].keys) < 2 * len(runs[-1].keys):
            last = runs.pop()
            runs[-1] = _merge(runs[-1], last)
        return PairSums(self.width, tuple(runs))

    def total(self) -> Run:
        """All runs in one."""
        runs = list(self.runs)
        while len(runs) > 1:
            last = runs.pop()
            runs[-1] = _merge(runs[-1], last)
        return runs[0]

    @property
    def n_bytes(self) -> int:
        """Size of the runs."""
        return sum(run.keys.nbytes + run.values.nbytes for run in self.runs)


def pair_sums(
    rows: Codes,
    cols: Codes,
    width: int,
    first: list[Vector | None],
    second: list[Vector | None],
    w: Vector | None,
) -> PairSums:
    """Sums of the products of the columns of two factors in some rows."""
    keys = rows.astype(np.int64) * width + cols
    order = np.argsort(keys)
    ordered = keys[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    values = np.empty((len(first) * len(second), len(starts)))
    ends = np.append(starts[1:], len(ordered))
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            product = multiply(multiply(a, b), w)
            into = values[i * len(second) + j]
            if product is None:
                np.subtract(ends, starts, out=into, casting="unsafe")
            elif len(starts):
                np.add.reduceat(product[order], starts, out=into)
    return PairSums(width, (Run(ordered[starts], values),))


def as_block(sums: PairSums, n_first: int, n_second: int) -> tuple[LevelPairs, Matrix]:
    """Pairs of levels, and the block of ``Z'WZ`` over them."""
    run = sums.total()
    rows, cols = np.divmod(run.keys, sums.width)
    return LevelPairs(rows, cols), run.values.reshape(n_first, n_second, -1)


def _merge(a: Run, b: Run) -> Run:
    """Sum of two runs, the first the longer one."""
    at = np.searchsorted(a.keys, b.keys)
    inside = np.minimum(at, max(len(a.keys) - 1, 0))
    known = a.keys[inside] == b.keys if len(a.keys) else np.zeros(len(b.keys), dtype=bool)
    n_new = len(b.keys) - int(np.count_nonzero(known))
    if not n_new:
        values = a.values.copy()
        values[:, at] += b.values
        return Run(a.keys, values)
    # Places of b's new keys in the result, and of a's keys between them.
    new = ~known
    place = at[new] + np.arange(n_new)
    is_old = np.ones(len(a.keys) + n_new, dtype=bool)
    is_old[place] = False
    keys = np.empty(len(is_old), dtype=np.int64)
    keys[is_old], keys[place] = a.keys, b.keys[new]
    values = np.empty((len(a.values), len(keys)))
    shifted = at + np.cumsum(new) - new
    for k in range(len(values)):
        values[k, is_old] = a.values[k]
        values[k, place] = b.values[k, new]
        values[k, shifted[known]] += b.values[k, known]
    return Run(keys, values)
