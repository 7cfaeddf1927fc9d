"""Sums by pair of levels of two grouping factors, merged over chunks.

A run has each pair once, in increasing order of ``row * width + col``. Runs of about the same
length are merged eight at a time, so that each number is moved about log_8(chunks) times; where
that hardly shortens them, as nearly every row has a pair of its own, 64 at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.likelihood.level_sums import multiply
from mixedfx.linalg.available_memory import check_memory
from mixedfx.linalg.cholesky.block_matrix import LevelPairs

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Keys = npt.NDArray[np.int64]

# Runs are merged where so many of them are within this ratio of lengths; more of them where the
# last ones that were merged kept this share of their length.
_MERGED, _ALIKE = 8, 4
_MERGED_IF_DISTINCT, _DISTINCT, _DISTINCT_IN_CHUNK = 64, 0.8, 0.98
# Share of rows with the key of the row before them up to which these are added one by one.
_FEW_REPEATED = 0.2


@dataclass(frozen=True)
class Run:
    """Pairs, each once, and their sums; in increasing order but for those still to be merged."""

    keys: Keys  # (m,)
    values: Matrix  # (products, m)

    @property
    def n_bytes(self) -> int:
        """Size of the arrays."""
        return self.keys.nbytes + self.values.nbytes


@dataclass(frozen=True)
class PairSums:
    """Sums by pair, as runs that are still to be merged."""

    width: int  # levels of the second factor
    runs: tuple[Run, ...]
    kept: float = 0.0  # share of their length that the last merged runs kept

    def __add__(self, other: PairSums) -> PairSums:
        """Sums over the rows of both."""
        runs = sorted([*self.runs, *other.runs], key=lambda run: -len(run.keys))
        kept = min(self.kept, other.kept)
        due = _MERGED if kept < _DISTINCT else _MERGED_IF_DISTINCT
        while len(runs) >= due and len(runs[-due].keys) <= _ALIKE * len(runs[-1].keys):
            last = runs[-due:]
            merged = merge_runs(last)
            kept = len(merged.keys) / max(sum(len(run.keys) for run in last), 1)
            runs = sorted([*runs[:-due], merged], key=lambda run: -len(run.keys))
        return PairSums(self.width, tuple(runs), kept)

    def total(self) -> Run:
        """All runs in one."""
        return self.runs[0] if len(self.runs) == 1 else merge_runs(self.runs)


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
    ordered, order = _sorted(keys)
    starts = _starts(ordered)
    values = np.empty((len(first) * len(second), len(starts)))
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            product = multiply(multiply(a, b), w)
            into = values[i * len(second) + j]
            if product is None:
                into[:] = np.diff(np.append(starts, len(ordered)))
            else:
                _add_runs(product, order, starts, into)
    # Rows that hardly share a pair within a chunk are taken not to between chunks.
    kept = len(starts) / max(len(ordered), 1)
    return PairSums(
        width, (Run(ordered[starts], values),), kept if kept > _DISTINCT_IN_CHUNK else 0.0
    )


def _sorted(keys: Keys) -> tuple[Keys, Codes]:
    """Sorted keys and the order: sorted with positions in one number, where both fit into it."""
    bits = max(len(keys) - 1, 1).bit_length()
    if not len(keys) or int(keys.max()).bit_length() + bits > 63:
        order = np.argsort(keys, kind="stable")
        return keys[order], order
    packed = (keys << bits) | np.arange(len(keys))
    packed.sort()
    ordered = packed >> bits
    packed &= (1 << bits) - 1
    return ordered, packed


def _starts(ordered: Keys) -> Codes:
    """Where a new key begins."""
    begins = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=begins[1:])
    return np.flatnonzero(begins)


def _add_runs(values: Vector, order: Codes, starts: Codes, into: Vector) -> None:
    """Sums of the values of each key."""
    if len(order) - len(starts) > _FEW_REPEATED * len(order):
        np.add.reduceat(values[order], starts, out=into)
        return
    np.take(values, order[starts], out=into)
    if len(starts) < len(order):  # the other rows of the few keys that have several
        further = np.ones(len(order), dtype=bool)
        further[starts] = False
        at = np.flatnonzero(further)
        np.add.at(into, np.searchsorted(starts, at, side="right") - 1, values[order[at]])


def as_block(sums: PairSums, n_first: int, n_second: int) -> tuple[LevelPairs, Matrix]:
    """Pairs of levels, and the block of ``Z'WZ`` over them."""
    run = sums.total()
    rows, cols = np.divmod(run.keys, sums.width)
    return LevelPairs(rows, cols), run.values.reshape(n_first, n_second, -1)


def merge_runs(runs: Sequence[Run]) -> Run:
    """Sum of some runs; SizeError where memory does not hold it beside them."""
    check_memory(
        f"the rows have up to {sum(len(run.keys) for run in runs):,} pairs of levels of two "
        "grouping factors, whose sums are merged",
        sum(run.n_bytes for run in runs),
        copies=2,
        advice=(
            "Leave one of the two factors out, fit rows of fewer of their levels, or use a machine "
            "with more memory."
        ),
    )
    ordered, order = _sorted(np.concatenate([run.keys for run in runs]))
    starts = _starts(ordered)
    values = np.empty((len(runs[0].values), len(starts)))
    for k, into in enumerate(values):
        _add_runs(np.concatenate([run.values[k] for run in runs]), order, starts, into)
    return Run(ordered if len(starts) == len(ordered) else ordered[starts], values)
