"""Sums by key, collected from many parts in a table that holds them about once.

The table has buckets, which are ranges of keys. Sums are put at the end of their bucket; a bucket
that is full is merged, where some of its keys show that this shortens it, or takes more room.
Temporary arrays have the size of a bucket, and the memory of a bucket is given back when it has
been read.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx.linalg.available_memory import check_memory
from mixedfx.linalg.threads import for_each

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Keys = npt.NDArray[np.int64]

# Bits of the number of buckets at most, and of the keys in one at least; keys of so many bits take
# four bytes.
_BUCKET_BITS, _LEAST_BITS, _SHORT = 6, 16, 32
# A full bucket is merged where that leaves less than this share, by the keys whose hash, of so many
# bits, is zero: equal keys are all among them or none is. The factor of the hash is Knuth's.
_DISTINCT, _HASH_BITS, _HASH_FACTOR = 0.8, 6, np.uint32(2_654_435_761)
# Mappings of memory that pages are given when they are written to, where a system has them.
_PRIVATE = (
    {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
)
# Room of a bucket relative to what it holds, which costs a copy of that and no memory; it is full
# enough for more room from this share on.
_ROOM, _FULL, _LEAST_ROOM = 8.0 if _PRIVATE else 2.0, 0.75, 1024
# Arrays of more bytes have pages of their own, which the system gets back when they are dropped:
# an allocator keeps those of arrays below 32 MB.
_OWN_PAGES = 1 << 20
# Growth of a table between two looks at the memory.
_LOOK = 1.25
# Buckets that are merged at a time, at most: each takes memory for its order.
_THREADS = 2
# Share of numbers with the key of the one before them up to which these are added one by one.
_FEW_REPEATED = 0.2


class KeyTable:
    """Sums of some products by key, for keys below ``n_keys``."""

    def __init__(self, n_keys: int, n_products: int) -> None:
        bits = max(n_keys - 1, 1).bit_length()
        self._bits = max(bits - _BUCKET_BITS, _LEAST_BITS)
        dtype = np.uint32 if self._bits <= _SHORT else np.int64
        count = ((n_keys - 1) >> self._bits) + 1 if n_keys else 1
        self._buckets = [_Bucket(dtype, n_products) for _ in range(count)]
        self._lows = np.arange(count, dtype=np.int64) << self._bits
        self._looked_at = 0

    def __len__(self) -> int:
        """Count the sums, those of keys that are still to be merged too."""
        return sum(bucket.n for bucket in self._buckets)

    def add(self, keys: Keys, values: Matrix) -> None:
        """Add sums (products, m) of increasing keys."""
        self._check_memory(len(keys), len(values))
        ends = [*np.searchsorted(keys, self._lows).tolist(), len(keys)]
        for i, bucket in enumerate(self._buckets):
            part = slice(ends[i], ends[i + 1])
            if part.start < part.stop:
                bucket.add(keys[part] - self._lows[i], values[:, part])

    def _check_memory(self, n_new: int, n_products: int) -> None:
        """Refuse sums that memory does not hold as cross-products."""
        n = len(self) + n_new
        if n <= _LOOK * self._looked_at:
            return
        self._looked_at = n
        check_memory(
            f"the rows have up to {n:,} pairs of levels of two grouping factors so far, whose "
            "cross-products are kept",
            8.0 * (1 + n_products) * n,
            copies=1,
            held=float(sum(bucket.n_bytes for bucket in self._buckets)),
            advice=(
                "Leave one of the two factors out, fit rows of fewer of their levels, or use a "
                "machine with more memory."
            ),
        )

    def places(self) -> int:
        """At least the number of keys: more where an array takes pages only as it is written to."""
        if 8 * len(self) < _OWN_PAGES:
            for_each(_Bucket.merge, self._buckets, most=_THREADS)
        return len(self)

    def take(self, use: Callable[[slice, Keys, Iterable[Vector]], None]) -> int:
        """
        Use each key once, in increasing order, with its sums; returns the number of keys.

        Keys come bucket by bucket with their place among all, and buckets are given up.
        """
        buckets, self._buckets = self._buckets, []
        ends: list[Future[int]] = [Future() for _ in buckets]

        def take_one(i: int) -> None:
            try:
                own, found = buckets[i], buckets[i].sorted()
                start = ends[i - 1].result() if i else 0
                ends[i].set_result(start + len(found.keys))
                place = slice(start, start + len(found.keys))
                use(place, found.keys + self._lows[i], map(found.sums, own.values[:, : own.n]))
                own.give_up()
            except BaseException as error:
                if not ends[i].done():  # the next bucket waits for it
                    ends[i].set_exception(error)
                raise

        for_each(take_one, range(len(buckets)), most=_THREADS)
        return ends[-1].result()


class _Bucket:
    """Sums of a range of keys, as they came."""

    def __init__(self, dtype: Any, n_products: int) -> None:
        self.n = 0
        self.keys = np.empty(0, dtype=dtype)
        self.values = np.empty((n_products, 0))

    @property
    def n_bytes(self) -> int:
        """Size of what it holds; pages of further room are not in memory."""
        return self.n * (self.keys.itemsize + 8 * len(self.values))

    def add(self, keys: Keys, values: Matrix) -> None:
        """Put sums at the end."""
        m = len(keys)
        if self.n + m > len(self.keys):
            if self._distinct_share() < _DISTINCT:
                self.merge()
            if self.n + m > _FULL * len(self.keys):
                self._take_room(max(int(_ROOM * (self.n + m)), _LEAST_ROOM))
        at = slice(self.n, self.n + m)
        self.keys[at], self.values[:, at] = keys, values
        self.n += m

    def _distinct_share(self) -> float:
        """Share of the sums that a merge leaves, as it seems."""
        keys = self.keys[: self.n]
        hashed = keys.astype(np.uint32, copy=False) * _HASH_FACTOR
        some = keys[hashed < np.uint32(1 << (32 - _HASH_BITS))]
        return len(np.unique(some)) / len(some) if len(some) else 1.0

    def give_up(self) -> None:
        """Give the memory back."""
        self.n = 0
        self.keys, self.values = self.keys[:0].copy(), self.values[:, :0].copy()

    def _take_room(self, room: int) -> None:
        keys, values = self.keys, self.values
        self.keys = _empty((room,), keys.dtype)
        self.keys[: self.n] = keys[: self.n]
        del keys
        self.values = _empty((len(values), room), values.dtype)
        self.values[:, : self.n] = values[:, : self.n]

    def sorted(self) -> SortedKeys:
        """Its keys, and how sums are added up by key."""
        return SortedKeys(self.keys[: self.n].astype(np.int64))

    def merge(self) -> None:
        """Have each key once, in increasing order."""
        found, n = self.sorted(), self.n
        self.n = len(found.keys)
        self.keys[: self.n] = found.keys
        for row in self.values:
            row[: self.n] = found.sums(row[:n])


def _empty(shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    """Array without values: of some size, of which only pages that are written to take memory."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if n_bytes < _OWN_PAGES:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, buffer=mmap.mmap(-1, n_bytes, **_PRIVATE))


class SortedKeys:
    """Distinct ``keys`` of some numbers in increasing order, and sums over the numbers of each."""

    def __init__(self, keys: Keys) -> None:
        ordered, self._order = sorted_keys(keys)
        begins = np.ones(len(ordered), dtype=bool)
        np.not_equal(ordered[1:], ordered[:-1], out=begins[1:])
        self._starts = np.flatnonzero(begins)
        n_repeated = len(ordered) - len(self._starts)
        self.keys = ordered[self._starts] if n_repeated else ordered
        self._few_repeated = n_repeated <= _FEW_REPEATED * len(ordered)
        if self._few_repeated:
            # The first number of each key, and the other ones with their keys' positions.
            at = np.flatnonzero(~begins) if n_repeated else np.zeros(0, dtype=np.intp)
            self._first = self._order[self._starts] if n_repeated else self._order
            self._others = self._order[at]
            self._keys_of_others = np.searchsorted(self._starts, at, side="right") - 1

    def sums(self, values: Vector | None) -> Vector:
        """Sums of the values of each key; None stands for ones."""
        if not self._few_repeated:
            if values is None:
                return np.diff(self._starts, append=len(self._order)).astype(float)
            return np.asarray(np.add.reduceat(values[self._order], self._starts))
        sums = np.ones(len(self.keys)) if values is None else values.take(self._first)
        if len(self._others):
            further = 1.0 if values is None else values[self._others]
            np.add.at(sums, self._keys_of_others, further)
        return sums


def sorted_keys(keys: Keys) -> tuple[Keys, Codes]:
    """Sorted keys and the order: sorted with positions in one number, where both fit into it."""
    bits = max(len(keys) - 1, 1).bit_length()
    if not len(keys) or int(keys.max()).bit_length() + bits > 63:
        order = np.argsort(keys, kind="stable")
        return keys[order], order
    packed = keys << bits
    packed |= np.arange(len(keys))
    packed.sort()
    ordered = packed >> bits
    packed &= (1 << bits) - 1
    return ordered, packed
