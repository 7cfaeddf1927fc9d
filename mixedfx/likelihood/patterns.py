"""Patterns of positions of correlated residuals, and the precisions of the rows of a pattern.

Subjects that are observed at the same positions share a covariance ``R_p``, a submatrix of that of
all positions. The distinct entries of all ``Q_p = R_p^-1`` are one vector ``q``: of patterns of one
size together, row by row of the lower triangle, or of its band where the process is Markov, whose
precision is tridiagonal. Everything that a likelihood needs of the rows is linear in ``q``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class PatternsOfSize:
    """Patterns of ``v`` positions, and their subjects, which are sorted by pattern."""

    positions: Codes  # (P, v) ascending
    strata: Codes  # (P,) whose covariance a pattern has
    rows: Codes = field(repr=False)  # (subjects, v) rows of the data
    starts: Codes = field(repr=False)  # (P + 1,) first subject of each pattern
    lower: tuple[Codes, Codes] = field(repr=False)  # positions s >= t of the entries of a precision
    first_entry: int  # of the patterns' entries in ``q``

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.positions, self.strata, self.rows, self.starts, *self.lower)

    @property
    def n_patterns(self) -> int:
        """Number of patterns."""
        return len(self.positions)

    @property
    def counts(self) -> Vector:
        """Subjects of each pattern, (P,)."""
        return np.diff(self.starts).astype(float)

    @property
    def entries(self) -> slice:
        """The patterns' part of ``q``."""
        return slice(self.first_entry, self.first_entry + self.n_patterns * len(self.lower[0]))

    @property
    def _in_R(self) -> tuple[Codes, Codes, Codes]:
        """Where the entries of ``R_p`` stand in those of all positions."""
        at = self.positions
        return self.strata[:, None, None], at[:, :, None], at[:, None, :]

    def covariances(self, R: Array) -> Array:
        """``R_p`` of each pattern, (..., P, v, v), from those of all positions (..., S, k, k)."""
        return R[(..., *self._in_R)]

    def add_at_positions(self, out: Array, values: Array) -> None:
        """Add matrices of the patterns, (P, v, v), to one of all positions, (strata, k, k)."""
        np.add.at(out, self._in_R, values)

    def packed(self, values: Array) -> Vector:
        """Entries of symmetric matrices (P, v, v) in the order of ``q``."""
        s, t = self.lower
        return np.asarray(values[:, s, t].ravel())

    def unpacked(self, q: Vector) -> Array:
        """Symmetric matrices (P, v, v) from their entries in a vector like ``q``."""
        s, t = self.lower
        out = np.zeros((self.n_patterns, self.positions.shape[1], self.positions.shape[1]))
        values = q[self.entries].reshape(self.n_patterns, -1)
        out[:, s, t] = values
        out[:, t, s] = values
        return out

    def derivative(self, by_q: Vector) -> Array:
        """Derivatives by symmetric Q from those by ``q``: an entry s > t stands for two of Q."""
        by_Q = 0.5 * self.unpacked(by_q)
        v = np.arange(self.positions.shape[1])
        by_Q[:, v, v] *= 2.0
        return by_Q

    def entry_of_subjects(self) -> Codes:
        """Entry of ``q`` of each pair of positions of each subject, (subjects, entries)."""
        pattern = np.repeat(np.arange(self.n_patterns), np.diff(self.starts))
        per_pattern = len(self.lower[0])
        return self.first_entry + pattern[:, None] * per_pattern + np.arange(per_pattern)


@dataclass(frozen=True)
class Patterns:
    """All patterns of a design's rows."""

    sizes: tuple[PatternsOfSize, ...]
    n_entries: int  # length of ``q``

    @staticmethod
    def of(subjects: Codes, positions: Codes, strata: Codes, *, markov: bool) -> Patterns:
        """Find the patterns of rows with a subject, a position and a stratum each."""
        order = np.lexsort((positions, subjects))
        starts = np.flatnonzero(np.diff(subjects[order], prepend=-1))
        lengths = np.diff(np.append(starts, len(order)))
        sizes, first_entry = [], 0
        for v in np.unique(lengths).tolist():
            at = starts[lengths == v][:, None] + np.arange(v)
            rows = order[at]
            found = _of_size(rows, positions, strata, first_entry, markov=markov)
            sizes.append(found)
            first_entry = found.entries.stop
        return Patterns(tuple(sizes), first_entry)

    def precisions(self, R: Array) -> tuple[Vector, float]:
        """``q``, and ``log|R|`` of all rows."""
        q, log_det = np.empty(self.n_entries), 0.0
        for size in self.sizes:
            covariances = size.covariances(R)
            roots = np.linalg.cholesky(covariances)
            diagonals = np.diagonal(roots, axis1=1, axis2=2)
            log_det += 2.0 * float(size.counts @ np.log(diagonals).sum(axis=1))
            q[size.entries] = size.packed(np.asarray(np.linalg.inv(covariances), dtype=np.float64))
        return q, log_det

    def least_share(self, R: Array) -> float:
        """Least share of a row's variance that the rows before it leave; LinAlgError: none."""
        shares = []
        for size in self.sizes:
            C = size.covariances(R)
            left = np.diagonal(np.linalg.cholesky(C), axis1=1, axis2=2) ** 2
            shares.append(float((left / np.diagonal(C, axis1=1, axis2=2)).min()))
        return min(shares)

    def pulled_back(self, R: Array, by_q: Vector, by_log_det: float) -> Array:
        """
        Derivative by R (strata, k, k) from those by the entries of ``q`` and by ``log|R|``.

        ``dQ = -Q dR Q``.
        """
        by_R = np.zeros_like(R)
        for size in self.sizes:
            precision = np.linalg.inv(size.covariances(R))
            by_Q = size.derivative(by_q)
            by = by_log_det * size.counts[:, None, None] * precision - precision @ by_Q @ precision
            size.add_at_positions(by_R, by)
        return by_R

    def information(self, R: Array, by_x: Array) -> tuple[Matrix, Vector]:
        """``sum tr(Q dR_i Q dR_j)`` and ``sum tr(Q dR_i)``; by_x is (m, strata, k, k)."""
        m = len(by_x)
        products, traces = np.zeros((m, m)), np.zeros(m)
        for size in self.sizes:
            precision = np.linalg.inv(size.covariances(R))
            dR = size.covariances(by_x)
            QdR = precision @ dR  # (m, P, v, v)
            weighted = size.counts[:, None, None] * QdR
            traces += np.einsum("ipss->i", weighted)
            entries = (m, precision.size)
            flat, turned = weighted.reshape(entries), QdR.transpose(0, 1, 3, 2).reshape(entries)
            products += flat @ turned.T
        return products, traces

    def along(self, R: Array, by_x: Array) -> Matrix:
        """Derivatives of ``q`` by parameters of R, (m, entries): ``-Q dR Q``."""
        out = np.empty((len(by_x), self.n_entries))
        for size in self.sizes:
            precision = np.linalg.inv(size.covariances(R))
            s, t = size.lower
            dQ = -precision @ size.covariances(by_x) @ precision
            out[:, size.entries] = dQ[:, :, s, t].reshape(len(by_x), size.n_patterns * len(s))
        return out

    def second(self, R: Array, by_x: Array, by_q: Vector) -> tuple[Matrix, Array]:
        """
        Second derivatives of ``log|R| + by_q q``, without those of R itself, and what these enter.

        ``2 tr(B dR_i Q dR_j) - tr(Q dR_i Q dR_j)`` with ``B = Q dQ Q``, (m, m), and the derivative
        by R, (strata, k, k).
        """
        m = len(by_x)
        H, by_R = np.zeros((m, m)), np.zeros_like(R)
        for size in self.sizes:
            precision = np.linalg.inv(size.covariances(R))
            by_Q = size.derivative(by_q)
            B = precision @ by_Q @ precision
            counted = size.counts[:, None, None] * precision
            dR = size.covariances(by_x)
            left = (2.0 * B - counted) @ dR @ precision
            entries = (m, precision.size)
            H += left.transpose(0, 1, 3, 2).reshape(entries) @ dR.reshape(entries).T
            size.add_at_positions(by_R, counted - B)
        return H, by_R

    def pairs(self) -> tuple[Codes, Codes, Codes]:
        """Rows i and j of each pair with a precision, in both orders, and its entry of ``q``."""
        first: list[Codes] = []
        second: list[Codes] = []
        entry: list[Codes] = []
        for size in self.sizes:
            s, t = size.lower
            e = size.entry_of_subjects()
            off = s != t
            i, j = size.rows[:, s], size.rows[:, t]
            first += [i.ravel(), j[:, off].ravel()]
            second += [j.ravel(), i[:, off].ravel()]
            entry += [e.ravel(), e[:, off].ravel()]
        return np.concatenate(first), np.concatenate(second), np.concatenate(entry)


def _of_size(
    rows: Codes, positions: Codes, strata: Codes, first_entry: int, *, markov: bool
) -> PatternsOfSize:
    """Patterns of subjects with equally many rows, (subjects, v)."""
    v = rows.shape[1]
    keys = np.column_stack([strata[rows[:, 0]], positions[rows]])
    distinct, pattern = np.unique(keys, axis=0, return_inverse=True)
    pattern = pattern.ravel()
    by_pattern = np.argsort(pattern, kind="stable")
    starts = np.searchsorted(pattern[by_pattern], np.arange(len(distinct) + 1))
    s, t = np.tril_indices(v)
    if markov:
        near = s - t <= 1
        s, t = s[near], t[near]
    return PatternsOfSize(
        np.ascontiguousarray(distinct[:, 1:]),
        np.ascontiguousarray(distinct[:, 0]),
        rows[by_pattern],
        starts,
        (s, t),
        first_entry,
    )


def sum_products(patterns: Patterns, columns: Sequence[Vector]) -> Matrix:
    """
    Sums of products of columns by entry of ``q``, (entries, c c), symmetric in the columns.

    With them ``columns' R^-1 columns`` is ``q @ sums``.
    """
    M = np.column_stack(list(columns))
    c = M.shape[1]
    sums = np.empty((patterns.n_entries, c * c))
    for size in patterns.sizes:
        v, (s, t) = size.positions.shape[1], size.lower
        found = np.empty((size.n_patterns, len(s), c, c))
        for p in range(size.n_patterns):
            block = M[size.rows[size.starts[p] : size.starts[p + 1]]].reshape(-1, v * c)
            products = (block.T @ block).reshape(v, c, v, c)
            found[p] = products[s, :, t]
        off = s != t
        found[:, off] += found[:, off].transpose(0, 1, 3, 2)
        sums[size.entries] = found.reshape(-1, c * c)
    return sums
