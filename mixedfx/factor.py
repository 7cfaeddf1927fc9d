"""Blocked elimination of a penalised block matrix: analyse once, factor often.

A :class:`Gram` holds the cross-products of a set of factors (grouping factors, each with
``L`` levels and ``K`` columns) and of a few dense columns. With ``Lambda`` block-diagonal
over levels, eliminating a factor with

    G = Lambda (Lambda' A Lambda + I)^-1 Lambda'                                     (1)

turns what is left into a matrix of the same kind: ``A <- A - A_r G A_r'`` for the pairs of
columns that share a level. So the whole factorisation is one small step, repeated: first a
chain of factors each nested in the next, whose blocks all stay block-diagonal and which are
eliminated level by level, all levels at once; then one dense block for what crosses them.
Working with ``A`` rather than with ``Lambda' A Lambda`` makes the first update linear in
``G`` with constant coefficients: one sparse matrix, made once, does it.

The gradient is the same recursion backwards (reverse-mode differentiation by hand): the
adjoint of ``A`` is ``Lambda M^-1 Lambda'`` on the pattern of ``A``, which is also the
conditional covariance of the effects.

Arrays over levels have shape ``(K, K, L)`` and loops run over the small ``K``: an order of
magnitude faster than LAPACK called level by level.

Memory, in numbers of 8 bytes: for the first factor ``L K (3 K + 2 m)`` (``m`` dense columns)
and 1.5 per pair of entries that share one of its levels; ``3 t**2`` for a dense tail of ``t``
columns. Nothing here grows with the rows.

Nothing here knows formulas, likelihoods, parameters or names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse
from scipy.linalg.lapack import dpotrf, dpotri

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# A dense product does about this many multiplications in the time of one sparse one.
_DENSE_ADVANTAGE = 12.0


@dataclass(frozen=True)
class Coupling:
    """
    Cross-products between two factors, for the pairs of levels that occur together.

    Parameters
    ----------
    rows, cols : ndarray of shape (pairs,)
        Levels of the first and of the second factor, sorted by ``rows`` then ``cols``.
    values : ndarray of shape (K_first, K_second, pairs)
        The cross-products.
    """

    rows: Ints
    cols: Ints
    values: Array


@dataclass(frozen=True)
class Gram:
    """
    A symmetric block matrix over factors, bordered by dense columns.

    Parameters
    ----------
    diagonal : tuple of ndarray of shape (K, K, L)
        Each factor's own block.
    border : tuple of ndarray of shape (K, m, L)
        Each factor's cross-products with the dense columns.
    couplings : mapping of (int, int) to Coupling
        For factors ``i < j``.
    corner : ndarray of shape (m, m)
        Cross-products of the dense columns.
    """

    diagonal: tuple[Array, ...]
    border: tuple[Array, ...]
    couplings: Mapping[tuple[int, int], Coupling]
    corner: Array

    def width(self, i: int) -> int:
        """Columns of factor ``i``."""
        return int(self.diagonal[i].shape[0])

    def levels(self, i: int) -> int:
        """Levels of factor ``i``."""
        return int(self.diagonal[i].shape[2])

    def nested(self, i: int, j: int) -> bool:
        """Whether each level of ``i`` occurs with a single level of ``j``."""
        pair = self.couplings[min(i, j), max(i, j)]
        return len(pair.rows) == self.levels(i)


# ------------------------------------------------------------------ the plan


@dataclass(frozen=True)
class _Step:
    """
    One factor of the chain, and its entries in the columns of later factors.

    Entry ``e`` says that level ``rows[e]`` meets scalar column ``cols[e]``, with one value for
    each of the factor's ``K`` columns.
    """

    factor: int
    K: int
    L: int
    rows: Ints
    cols: Ints
    where: Any  # (K, entries) positions in the store; None for the first step
    values: Any  # (K, entries) constant values of the first step; None later
    own: Any  # (K (K + 1) / 2, L) positions of the own block in the store; None at first
    pairs: Any  # constant (CSR), varying (_Pairs), dense (ndarray) or None


@dataclass(frozen=True)
class _Pairs:
    """Pairs of entries of one level, and the place in the store that they update."""

    first: Ints
    second: Ints
    rows: Ints
    target: Ints


@dataclass(frozen=True)
class Plan:
    """
    What can be worked out before any Lambda is known; made by :func:`analyse`.

    The values that elimination changes live in one vector, the store: lower triangles of the
    chain's later blocks, their couplings, and the part of the tail's lower triangle that is
    ever filled.
    """

    gram: Gram
    steps: tuple[_Step, ...]
    tail: tuple[int, ...]
    offsets: Mapping[int, int]
    tail_start: int
    tail_size: int
    store: Array
    tail_places: Ints = field(repr=False)  # flat positions of the store's end in the tail
    twice: Array = field(repr=False)  # how often a stored value stands in the whole matrix
    dense_tail: Array | None = field(repr=False)

    @property
    def chain(self) -> tuple[int, ...]:
        """Factors that are eliminated level by level, in order."""
        return tuple(s.factor for s in self.steps)


def analyse(gram: Gram) -> Plan:
    """
    Choose the order of elimination and prepare everything that does not depend on Lambda.

    Parameters
    ----------
    gram : Gram
        The matrix.

    Returns
    -------
    Plan
        For :func:`factorise`.
    """
    chain, tail = _order(gram)
    order = [*chain, *tail]
    sizes = [gram.width(f) * gram.levels(f) for f in order]
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).tolist()
    offsets = dict(zip(order, starts, strict=False))
    tail_start = starts[len(chain)]
    builder = _Builder(gram, chain, tail, offsets, tail_start, starts[-1])
    return builder.plan()


def _order(gram: Gram) -> tuple[list[int], list[int]]:
    """Take the chain that leaves the cheapest tail: each candidate start, extended greedily."""
    factors = range(len(gram.diagonal))
    if not gram.diagonal:
        return [], []
    by_levels = sorted(factors, key=lambda f: -gram.levels(f))
    best: tuple[float, list[int]] | None = None
    for start in by_levels:
        chain = [start]
        for f in by_levels:
            if f not in chain and all(
                gram.levels(c) >= gram.levels(f) and gram.nested(c, f) for c in chain
            ):
                chain.append(f)
        size = sum(gram.width(f) * gram.levels(f) for f in factors if f not in chain)
        if best is None or size < best[0]:
            best = size, chain
    assert best is not None
    chain = best[1]
    return chain, [f for f in by_levels if f not in chain]


@dataclass
class _Builder:
    """Scratch space of :func:`analyse`."""

    gram: Gram
    chain: list[int]
    tail: list[int]
    offsets: dict[int, int]
    tail_start: int
    q: int

    def plan(self) -> Plan:
        self.order = [*self.chain, *self.tail]
        self.size = self.q - self.tail_start
        self._lay_out_store()
        entries = [self._entries(i) for i in range(len(self.chain))]
        dense = self._dense_pays(entries)
        steps, targets = [], [self.tail_own]
        for i, (rows, cols, where, values) in enumerate(entries):
            pairs: Any = None
            if dense:
                pairs = self._dense(i, rows, cols, values)
            elif len(rows):
                pairs = self._pair_up(rows, cols)
                targets.append(pairs.target[pairs.target >= self.base])
            f = self.chain[i]
            K, L = self.gram.width(f), self.gram.levels(f)
            own = None if i == 0 else self._own(f)
            steps.append(_Step(f, K, L, rows, cols, where, values, own, pairs))
        places = np.zeros(0, dtype=np.int64)
        store, dense_tail = self.values, None
        if dense:
            dense_tail = np.zeros((self.size, self.size))
            self._fill_tail(dense_tail)
        else:
            places, rank = self._compress(targets)
            tail = np.zeros((self.size, self.size))
            self._fill_tail(tail)
            store = np.concatenate([self.values, tail.ravel()[places]])
            steps = [self._settle(i, s, rank, len(store)) for i, s in enumerate(steps)]
        twice = np.full(len(store), 2.0)
        for f in self.chain[1:]:
            K = self.gram.width(f)
            rows_, cols_ = np.tril_indices(K)
            twice[self._own(f)[rows_ == cols_]] = 1.0
        if self.size:
            twice[self.base :][places // self.size == places % self.size] = 1.0
        return Plan(
            self.gram,
            tuple(steps),
            tuple(self.tail),
            self.offsets,
            self.tail_start,
            self.size,
            store,
            places,
            twice,
            dense_tail,
        )

    def _coupling(self, i: int, j: int) -> Coupling:
        """Return the pattern of ``i`` against ``j``, sorted by the levels of ``i``."""
        if i < j:
            return self.gram.couplings[i, j]
        c = self.gram.couplings[j, i]
        by = np.lexsort((c.rows, c.cols))
        return Coupling(c.cols[by], c.rows[by], c.values.transpose(1, 0, 2)[:, :, by])

    def _lay_out_store(self) -> None:
        """Give every changing value of the chain a place; the tail follows from ``base``."""
        self.own_at: dict[int, int] = {}
        self.coupling_at: dict[tuple[int, int], int] = {}
        self.patterns: dict[tuple[int, int], Coupling] = {}
        parts, at = [], 0
        for i, f in enumerate(self.chain):
            for g in self.order[i + 1 :]:
                self.patterns[f, g] = self._coupling(f, g)
        for i, f in enumerate(self.chain[1:], start=1):
            K = self.gram.width(f)
            low = np.tril_indices(K)
            parts.append(self.gram.diagonal[f][low].ravel())
            self.own_at[f] = at
            at += parts[-1].size
            for g in self.order[i + 1 :]:
                self.coupling_at[f, g] = at
                parts.append(self.patterns[f, g].values.ravel())
                at += parts[-1].size
        self.values = np.concatenate(parts) if parts else np.zeros(0)
        self.base = at
        self.tail_own = self._tail_pattern()

    def _own(self, f: int) -> Ints:
        K, L = self.gram.width(f), self.gram.levels(f)
        count = K * (K + 1) // 2
        return self.own_at[f] + np.arange(count * L, dtype=np.int64).reshape(count, L)

    def _entries(self, i: int) -> tuple[Ints, Ints, Any, Any]:
        """List the entries of chain factor ``i`` in later columns, sorted by level, then column."""
        f = self.chain[i]
        rows, cols, where, values = [], [], [], []
        for g in self.order[i + 1 :]:
            c = self.patterns[f, g]
            Kg, Lg, nnz = self.gram.width(g), self.gram.levels(g), len(c.rows)
            for b in range(Kg):
                rows.append(c.rows)
                cols.append(self.offsets[g] + b * Lg + c.cols)
                values.append(c.values[:, b])
                if i:
                    a = np.arange(self.gram.width(f))[:, None]
                    start = self.coupling_at[f, g] + (a * Kg + b) * nnz
                    where.append(start + np.arange(nnz))
        if not rows:
            none = np.zeros(0, dtype=np.int64)
            return none, none, None, None
        r, k = np.concatenate(rows), np.concatenate(cols)
        by = np.lexsort((k, r))
        at = np.concatenate(where, axis=1)[:, by] if i else None
        constant = None if i else np.ascontiguousarray(np.concatenate(values, axis=1)[:, by])
        return r[by], k[by], at, constant

    def _pair_up(self, rows: Ints, cols: Ints) -> _Pairs:
        """All pairs of entries that share a level, the later column first."""
        counts = np.bincount(rows)
        starts = np.cumsum(counts) - counts
        place = np.arange(len(rows)) - starts[rows]  # rank of the entry in its level
        first = np.repeat(np.arange(len(rows)), place + 1)
        ends = np.cumsum(place + 1)
        second = np.arange(len(first)) - (ends - place - 1)[first] + starts[rows[first]]
        target = self._target(cols[first], cols[second])
        return _Pairs(first, second, rows[first], target)

    def _target(self, later: Ints, earlier: Ints) -> Ints:
        """Find the place in the store of the value at two columns (``later >= earlier``)."""
        target = np.empty(len(later), dtype=np.int64)
        bounds = [self.offsets[f] for f in self.chain] + [self.tail_start]
        owner = np.searchsorted(bounds, earlier, side="right") - 1
        in_tail = owner == len(self.chain)
        row, col = later[in_tail] - self.tail_start, earlier[in_tail] - self.tail_start
        target[in_tail] = self.base + row * self.size + col
        for i in range(1, len(self.chain)):
            f = self.chain[i]
            mine = owner == i
            if mine.any():
                target[mine] = self._chain_target(f, later[mine], earlier[mine])
        return target

    def _chain_target(self, f: int, later: Ints, earlier: Ints) -> Ints:
        L = self.gram.levels(f)
        b, level = np.divmod(earlier - self.offsets[f], L)
        target = np.empty(len(later), dtype=np.int64)
        for g in self.order[self.order.index(f) :]:
            Kg, Lg = self.gram.width(g), self.gram.levels(g)
            at = later - self.offsets[g]
            mine = (at >= 0) & (at < Kg * Lg)
            c, other = np.divmod(at[mine], Lg)
            if g == f:
                target[mine] = self.own_at[f] + (c * (c + 1) // 2 + b[mine]) * L + level[mine]
            else:
                pattern = self.patterns[f, g]
                keys = pattern.rows * Lg + pattern.cols
                pair = np.searchsorted(keys, level[mine] * Lg + other)
                start = self.coupling_at[f, g] + (b[mine] * Kg + c) * len(keys)
                target[mine] = start + pair
        return target

    def _tail_pattern(self) -> Ints:
        """Store places of the tail's own nonzero lower triangle."""
        places = []
        for rows, cols, _ in self._tail_blocks():
            places.append(self.base + np.maximum(rows, cols) * self.size + np.minimum(rows, cols))
        return np.concatenate(places) if places else np.zeros(0, dtype=np.int64)

    def _tail_blocks(self) -> Any:
        """Rows, columns and values of the tail before elimination."""
        for i, f in enumerate(self.tail):
            K, L = self.gram.width(f), self.gram.levels(f)
            level = np.arange(L)
            start = self.offsets[f] - self.tail_start
            for a in range(K):
                for b in range(a + 1):
                    yield start + a * L + level, start + b * L + level, self.gram.diagonal[f][a, b]
            for g in self.tail[i + 1 :]:
                c = self._coupling(f, g)
                Kg, Lg = self.gram.width(g), self.gram.levels(g)
                other = self.offsets[g] - self.tail_start
                for a in range(K):
                    for b in range(Kg):
                        rows = start + a * L + c.rows
                        yield other + b * Lg + c.cols, rows, c.values[a, b]

    def _fill_tail(self, tail: Array) -> None:
        for rows, cols, values in self._tail_blocks():
            tail[rows, cols] = values
            tail[cols, rows] = values

    def _dense_pays(self, entries: list[tuple[Ints, Ints, Any, Any]]) -> bool:
        """Whether one dense product beats a pair at a time; only where the chain is one factor."""
        if len(self.chain) != 1 or not self.size:
            return False
        K, L = self.gram.width(self.chain[0]), self.gram.levels(self.chain[0])
        counts = np.bincount(entries[0][0], minlength=L).astype(float)
        pairs = float((counts * (counts + 1) / 2).sum()) * K * (K + 1) / 2
        return K * L * float(self.size) ** 2 < _DENSE_ADVANTAGE * pairs

    def _dense(self, i: int, rows: Ints, cols: Ints, values: Array) -> Array:
        f = self.chain[i]
        full = np.zeros((self.gram.width(f), self.gram.levels(f), self.size))
        full[:, rows, cols - self.tail_start] = values
        return full

    def _compress(self, targets: list[Ints]) -> tuple[Ints, Any]:
        """Keep only the places of the tail's triangle that are ever used."""
        used = np.zeros(self.size * self.size, dtype=bool)
        for target in targets:
            used[target - self.base] = True
        places = np.flatnonzero(used)
        rank = np.cumsum(used, dtype=np.int64) - 1
        return places, rank

    def _settle(self, i: int, step: _Step, rank: Ints, total: int) -> _Step:
        """Point pairs at compressed places; the first step's become one constant matrix."""
        if step.pairs is None:
            return step
        p = step.pairs
        inside = p.target >= self.base
        target = p.target.copy()
        target[inside] = self.base + rank[p.target[inside] - self.base]
        pairs: Any = _Pairs(p.first, p.second, p.rows, target)
        if i == 0:
            products = _pair_products(step.values, p.first, p.second)
            col = np.concatenate([p.rows + c * step.L for c in range(len(products))])
            row = np.tile(target, len(products))
            shape = (total, len(products) * step.L)
            pairs = sparse.coo_matrix((np.concatenate(products), (row, col)), shape=shape).tocsr()
        return _Step(
            step.factor,
            step.K,
            step.L,
            step.rows,
            step.cols,
            step.where,
            step.values,
            step.own,
            pairs,
        )


def _pair_products(z: Array, first: Ints, second: Ints) -> list[Array]:
    """Coefficients of the distinct entries of G in ``z_first' G z_second``."""
    products = []
    for a in range(z.shape[0]):
        for b in range(a + 1):
            value = z[a, first] * z[b, second]
            if a != b:
                value += z[b, first] * z[a, second]
            products.append(value)
    return products


# ------------------------------------------------------------------ small blocks, all levels


def penalised(A: Array, lam: Array) -> tuple[Array, Array, float]:
    """``G`` of (1), ``T = Lambda M^-1`` and ``log |M|``, for every level at once."""
    K = A.shape[0]
    if K == 1:
        M = lam[0, 0] ** 2 * A + 1.0
        T = lam[0, 0] / M
        return lam[0, 0] * T, T, float(np.log(M).sum())
    M = _mult_left(lam.T, _mult_right(A, lam))
    for a in range(K):
        M[a, a] += 1.0
    W = np.empty_like(M)
    W[:] = lam.T[:, :, None]
    for j in range(K):  # M = L L' in place, and W = L^-1 Lambda'
        root = np.sqrt(M[j, j])
        M[j, j] = root
        W[j] /= root
        if j + 1 < K:
            column = M[j + 1 :, j]
            column /= root
            M[j + 1 :, j + 1 :] -= column[:, None] * column[None, :]
            W[j + 1 :] -= column[:, None] * W[j]
    log_det = 2.0 * float(sum(np.log(M[j, j]).sum() for j in range(K)))
    G = _gram_of(W)
    for j in range(K - 1, -1, -1):  # T' = L^-T W
        W[j] /= M[j, j]
        if j:
            W[:j] -= M[j, :j, None] * W[j]
    return G, W.transpose(1, 0, 2), log_det


def _gram_of(W: Array) -> Array:
    G = W[0][:, None] * W[0][None, :]
    for c in range(1, W.shape[0]):
        G += W[c][:, None] * W[c][None, :]
    return G


def _mult_right(A: Array, small: Array) -> Array:
    """``A @ small`` for every level; zeros of ``small`` cost nothing."""
    K = small.shape[0]
    out = np.zeros((A.shape[0], small.shape[1], A.shape[2]))
    for c in range(K):
        for i in range(small.shape[1]):
            if small[c, i] != 0.0:
                out[:, i] += small[c, i] * A[:, c]
    return out


def _mult_left(small: Array, A: Array) -> Array:
    return _mult_right(A.transpose(1, 0, 2), small.T).transpose(1, 0, 2)


def product(A: Array, B: Array) -> Array:
    """``A @ B`` for every level."""
    out = A[:, 0, None] * B[None, 0]
    for c in range(1, A.shape[1]):
        out += A[:, c, None] * B[None, c]
    return out


def _level_sums(A: Array, B: Array) -> Array:
    """Sum over levels of ``A @ B'``, for ``A`` (a, c, L) and ``B`` (b, c, L)."""
    flat = A.reshape(A.shape[0], -1) @ B.reshape(B.shape[0], -1).T
    return np.asarray(flat)


def _low(G: Array) -> Array:
    """Lower triangle of each level's block, row by row, as one vector."""
    if G.shape[0] == 1:
        return G[0, 0]
    return G[np.tril_indices(G.shape[0])].ravel()


def _flat(F: Array) -> Array:
    """(K, m, L) to (K L, m)."""
    return np.ascontiguousarray(F.transpose(0, 2, 1)).reshape(-1, F.shape[1])


def _deep(F: Array, K: int) -> Array:
    """(K L, m) to (K, m, L)."""
    return np.ascontiguousarray(F.reshape(K, -1, F.shape[1]).transpose(0, 2, 1))


# ------------------------------------------------------------------ factorise


@dataclass(frozen=True)
class _Eliminated:
    """What the elimination of one chain factor leaves for the way back."""

    A: Array
    F: Array
    z: Any
    G: Array
    T: Array
    Z: Any
    products: Any


@dataclass(frozen=True)
class Factor:
    """
    The factorised matrix at one set of Lambdas; made by :func:`factorise`.

    Parameters
    ----------
    log_det : float
        ``log |Lambda' A Lambda + I|`` over all factors.
    corner : ndarray of shape (m, m)
        What is left of the dense columns' cross-products.
    """

    plan: Plan = field(repr=False)
    lambdas: tuple[Array, ...]
    log_det: float
    corner: Array
    _steps: tuple[_Eliminated, ...] = field(repr=False)
    _tail: Any = field(repr=False)

    def effects(self, weights: Array) -> list[Array]:
        """
        Conditional means of the effects.

        Parameters
        ----------
        weights : ndarray of shape (m,)
            Combination of the dense columns that is explained, such as ``(-beta, 1)``.

        Returns
        -------
        list of ndarray of shape (K, L)
            One per factor, in the order of the Gram.
        """
        plan = self.plan
        found = np.zeros(plan.tail_start + plan.tail_size)
        if plan.tail_size:
            found[plan.tail_start :] = self._tail.V @ weights
        result: dict[int, Array] = {}
        for step, e in zip(reversed(plan.steps), reversed(self._steps), strict=True):
            right = np.einsum("kml,m->kl", e.F, weights)
            if step.pairs is not None:
                if isinstance(step.pairs, np.ndarray):
                    right = right - step.pairs @ found[plan.tail_start :]
                else:
                    right = right - (e.Z @ found).reshape(step.K, step.L)
            b = np.einsum("abl,bl->al", e.G, right)
            start = plan.offsets[step.factor]
            found[start : start + b.size] = b.ravel()
        for f, start in plan.offsets.items():
            K, L = plan.gram.width(f), plan.gram.levels(f)
            result[f] = found[start : start + K * L].reshape(K, L)
        return [result[f] for f in range(len(plan.gram.diagonal))]

    def spherical(self, weights: Array) -> list[Array]:
        """Return the effects before Lambda: ``u`` with ``b = Lambda u``, as :meth:`effects`."""
        effects = self.effects(weights)
        result = []
        for f, lam in enumerate(self.lambdas):
            # u = Lambda' (right side - A b): stationarity of the penalised least squares.
            rest = np.einsum("kml,m->kl", self.plan.gram.border[f], weights)
            rest = rest - np.einsum("abl,bl->al", self.plan.gram.diagonal[f], effects[f])
            for (i, j), c in self.plan.gram.couplings.items():
                if f == i:
                    terms = np.einsum("abe,be->ae", c.values, effects[j][:, c.cols])
                    np.subtract.at(rest, (slice(None), c.rows), terms)
                elif f == j:
                    terms = np.einsum("abe,ae->be", c.values, effects[i][:, c.rows])
                    np.subtract.at(rest, (slice(None), c.cols), terms)
            result.append(lam.T @ rest)
        return result

    def backward(self, inner: Array) -> tuple[list[Array], list[Array]]:
        """
        Derivatives, from the last factor back to the first.

        Parameters
        ----------
        inner : ndarray of shape (m, m)
            Symmetric derivative of a scalar with respect to :attr:`corner`, to which
            ``log_det`` is added; zero for ``log_det`` alone.

        Returns
        -------
        gradients : list of ndarray of shape (K, K)
            Derivative of the sum with respect to each factor's Lambda, all entries.
        blocks : list of ndarray of shape (K, K, L)
            Within-level blocks of its derivative with respect to ``A``. With ``inner`` zero
            these are the blocks of ``Lambda M^-1 Lambda'``: the effects' conditional
            covariances over ``sigma**2``.
        """
        plan = self.plan
        m = inner.shape[0]
        border = np.zeros((plan.tail_start + plan.tail_size, m))
        store = np.zeros(len(plan.store))
        gradients: dict[int, Array] = {}
        blocks: dict[int, Array] = {}
        tail_bar = None
        if plan.tail_size:
            tail_bar = self._tail_backward(inner, gradients, blocks)
            border[plan.tail_start :] = -self._tail.V @ inner
            if plan.dense_tail is None:
                start = len(store) - len(plan.tail_places)
                store[start:] = tail_bar.ravel()[plan.tail_places] * plan.twice[start:]
        for step, e in zip(reversed(plan.steps), reversed(self._steps), strict=True):
            Q, N = _reduced(step, e, inner, border, store, tail_bar, plan)
            GQ = product(e.G, Q)
            bar = e.G + product(GQ, e.G)
            lower = Q - product(product(e.A, e.G), Q)
            slope = e.A - lower
            # sum over levels of (A - (I - A G) Q) T
            gradients[step.factor] = 2.0 * _level_sums(slope, e.T.transpose(1, 0, 2))
            blocks[step.factor] = bar
            if step.own is not None or len(plan.steps) > 1:
                self._pass_on(step, e, inner, border, store, N, bar)
        count = range(len(plan.gram.diagonal))
        return [gradients[f] for f in count], [blocks[f] for f in count]

    def _tail_backward(
        self, inner: Array, gradients: dict[int, Array], blocks: dict[int, Array]
    ) -> Array:
        """Adjoint of the dense block, and its factors' gradients."""
        plan, t = self.plan, self._tail
        inverse = t.inverse()
        T = _apply_left(plan, self.lambdas, inverse, transpose=False)
        G = _apply_right(plan, self.lambdas, T)
        residual = t.F - t.A @ t.V
        right = residual @ inner
        bar = G + t.V @ inner @ t.V.T
        for f in plan.tail:
            K, L = plan.gram.width(f), plan.gram.levels(f)
            start = plan.offsets[f] - plan.tail_start
            gradient, block = np.empty((K, K)), np.empty((K, K, L))
            for a in range(K):
                rows = slice(start + a * L, start + (a + 1) * L)
                for i in range(K):
                    cols = slice(start + i * L, start + (i + 1) * L)
                    trace = np.einsum("lm,ml->", t.A[rows], T[:, cols])
                    gradient[a, i] = 2.0 * (trace - np.sum(right[rows] * t.U[cols]))
                    block[a, i] = np.diagonal(bar[rows, cols])
            gradients[f], blocks[f] = gradient, block
        return bar

    def _pass_on(
        self,
        step: _Step,
        e: _Eliminated,
        inner: Array,
        border: Array,
        store: Array,
        N: Array,
        bar: Array,
    ) -> None:
        """Tell earlier steps the derivatives of this step's own block, border and couplings."""
        start = self.plan.offsets[step.factor]
        passed = -product(e.G, N + np.einsum("kml,mc->kcl", e.F, inner))
        border[start : start + step.K * step.L] = _flat(passed)
        if step.own is None:
            return
        store[step.own.ravel()] = _low(bar) * self.plan.twice[step.own.ravel()]
        if step.pairs is None:
            return
        p = step.pairs
        full = store[p.target] / self.plan.twice[p.target]
        apart = p.first != p.second
        Y = np.einsum("kme,me->ke", e.F[:, :, step.rows], border[step.cols].T)
        for a in range(step.K):
            Y[a] += np.bincount(p.first, e.z[a, p.second] * full, len(step.rows))
            Y[a] += np.bincount(p.second[apart], (e.z[a, p.first] * full)[apart], len(step.rows))
        store[step.where] = -2.0 * np.einsum("abe,be->ae", e.G[:, :, step.rows], Y)


def _reduced(
    step: _Step,
    e: _Eliminated,
    inner: Array,
    border: Array,
    store: Array,
    tail_bar: Array | None,
    plan: Plan,
) -> tuple[Array, Array]:
    """``Q = A_r (adjoint of the rest) A_r'`` for every level, and its part ``N`` to the border."""
    K, L = step.K, step.L
    FC = np.einsum("kml,mc->kcl", e.F, inner) if e.F.shape[2] else e.F
    N = np.zeros_like(e.F)
    Q = np.zeros((K, K, L))
    if isinstance(step.pairs, np.ndarray):
        assert tail_bar is not None
        Z = step.pairs
        Y = (Z.reshape(K * L, -1) @ tail_bar).reshape(K, L, -1)
        for a in range(K):
            for b in range(a + 1):
                Q[a, b] = Q[b, a] = np.einsum("ld,ld->l", Y[a], Z[b])
        N = _deep(Z.reshape(K * L, -1) @ border[plan.tail_start :], K)
    elif step.pairs is not None:
        if sparse.issparse(step.pairs):
            g = step.pairs.T @ store
        else:
            p = step.pairs
            h = store[p.target]
            g = np.concatenate([np.bincount(p.rows, v * h, L) for v in e.products])
        rows, cols = np.tril_indices(K)
        for v, a, b in zip(g.reshape(-1, L), rows, cols, strict=True):
            Q[a, b] = Q[b, a] = v if a == b else 0.5 * v
        N = _deep(e.Z @ border, K)
    for a in range(K):
        for b in range(a + 1):
            value = (FC[a] * e.F[b]).sum(axis=0)
            if step.pairs is not None:
                value += (N[a] * e.F[b] + e.F[a] * N[b]).sum(axis=0)
            Q[a, b] += value
            if a != b:
                Q[b, a] += value
    return Q, N


@dataclass
class _Tail:
    """The dense block: its reduced cross-products, factor and solutions."""

    A: Array
    F: Array
    U: Array
    V: Array
    chol: Array

    def inverse(self) -> Array:
        """Inverse of the penalised block, from its Cholesky factor; whole and symmetric."""
        inv, info = dpotri(self.chol, lower=1)
        assert info == 0  # the factor's diagonal is at least one
        low = np.tril_indices(len(inv), -1)
        inv.T[low] = inv[low]
        return np.asarray(inv)


def factorise(plan: Plan, lambdas: list[Array]) -> Factor:
    """
    Eliminate every factor at the given Lambdas.

    Parameters
    ----------
    plan : Plan
        From :func:`analyse`.
    lambdas : list of ndarray of shape (K, K)
        One per factor; lower triangular, singular ones welcome.

    Returns
    -------
    Factor
        Determinant, what is left of the dense columns, and the way back.
    """
    gram = plan.gram
    store = plan.store.copy() if len(plan.steps) > 1 or plan.tail_size else plan.store
    corner = gram.corner.copy()
    changed: dict[int, Array] = {}
    log_det, done = 0.0, []
    dense = plan.dense_tail
    for i, step in enumerate(plan.steps):
        K, L = step.K, step.L
        A = gram.diagonal[step.factor] if step.own is None else _unlow(store[step.own], K)
        F = changed.get(step.factor, gram.border[step.factor])
        G, T, log_m = penalised(A, lambdas[step.factor])
        log_det += log_m
        V = product(G, F)
        corner -= np.einsum("kml,kcl->mc", F, V, optimize=True)
        z = step.values if i == 0 else (None if step.where is None else store[step.where])
        Z, products = None, None
        if isinstance(step.pairs, np.ndarray):
            assert dense is not None
            flat = step.pairs.reshape(K * L, -1)
            GZ = np.einsum("abl,bld->ald", G, step.pairs).reshape(K * L, -1)
            dense = dense - flat.T @ GZ
            _update_border(plan, changed, flat.T @ _flat(V), plan.tail_start)
        elif step.pairs is not None:
            Z = _entry_matrix(plan, step, z)
            if sparse.issparse(step.pairs):
                store -= step.pairs @ _low(G)
            else:
                p = step.pairs
                products = _pair_products(z, p.first, p.second)
                total = sum(
                    v * g[p.rows] for v, g in zip(products, _low(G).reshape(-1, L), strict=True)
                )
                store -= np.bincount(p.target, total, len(store))
            _update_border(plan, changed, Z.T @ _flat(V), 0)
        done.append(_Eliminated(A, F, z, G, T, Z, products))
    tail = None
    if plan.tail_size:
        if dense is None:
            dense = np.zeros((plan.tail_size, plan.tail_size))
            dense.ravel()[plan.tail_places] = store[len(store) - len(plan.tail_places) :]
            low = np.tril_indices(plan.tail_size, -1)
            dense.T[low] = dense[low]
        tail, log_m = _factor_tail(plan, lambdas, dense, changed)
        log_det += log_m
        corner -= tail.F.T @ tail.V
    return Factor(plan, tuple(lambdas), log_det, corner, tuple(done), tail)


def _entry_matrix(plan: Plan, step: _Step, z: Array) -> Any:
    """Entries of one chain factor as a sparse matrix, (K L) by all columns."""
    row = np.concatenate([a * step.L + step.rows for a in range(step.K)])
    col = np.tile(step.cols, step.K)
    shape = (step.K * step.L, plan.tail_start + plan.tail_size)
    return sparse.csr_matrix((z.ravel(), (row, col)), shape=shape)


def _update_border(plan: Plan, changed: dict[int, Array], delta: Array, start: int) -> None:
    for f, at in plan.offsets.items():
        K, L = plan.gram.width(f), plan.gram.levels(f)
        if at >= start and (start or at > 0):
            before = changed.get(f, plan.gram.border[f])
            changed[f] = before - _deep(delta[at - start : at - start + K * L], K)


def _unlow(low: Array, K: int) -> Array:
    A = np.empty((K, K, low.shape[1]))
    for v, a, b in zip(low, *np.tril_indices(K), strict=True):
        A[a, b] = A[b, a] = v
    return A


def _factor_tail(
    plan: Plan, lambdas: list[Array], A: Array, changed: dict[int, Array]
) -> tuple[_Tail, float]:
    F = np.concatenate([_flat(changed.get(f, plan.gram.border[f])) for f in plan.tail])
    S = _apply_left(plan, lambdas, _apply_right_plain(plan, lambdas, A), transpose=True)
    S.ravel()[:: plan.tail_size + 1] += 1.0
    chol, info = dpotrf(S, lower=1, clean=1)
    if info != 0:
        raise linalg.LinAlgError("the penalised block is not positive definite")
    right = _apply_left(plan, lambdas, F, transpose=True)
    U = np.asarray(linalg.cho_solve((chol, True), right, check_finite=False))
    V = _apply_left(plan, lambdas, U, transpose=False)
    return _Tail(A, F, U, V, chol), 2.0 * float(np.log(np.diagonal(chol)).sum())


def _apply_left(plan: Plan, lambdas: Any, M: Array, *, transpose: bool) -> Array:
    """``Lambda @ M`` or ``Lambda' @ M`` over the tail's rows."""
    out = np.zeros_like(M)
    for f in plan.tail:
        lam = lambdas[f].T if transpose else lambdas[f]
        K, L = plan.gram.width(f), plan.gram.levels(f)
        start = plan.offsets[f] - plan.tail_start
        for a in range(K):
            target = out[start + a * L : start + (a + 1) * L]
            for c in range(K):
                if lam[a, c] != 0.0:
                    target += lam[a, c] * M[start + c * L : start + (c + 1) * L]
    return out


def _apply_right(plan: Plan, lambdas: Any, M: Array) -> Array:
    """``M @ Lambda'`` over the tail's columns."""
    return _apply_left(plan, lambdas, M.T, transpose=False).T


def _apply_right_plain(plan: Plan, lambdas: Any, M: Array) -> Array:
    """``M @ Lambda`` over the tail's columns."""
    return _apply_left(plan, lambdas, M.T, transpose=True).T
