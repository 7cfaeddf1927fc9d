"""Eliminate all factors at one Lambda, and run the elimination backwards.

:func:`factorise` does what depends on the matrix alone. :meth:`Factor.reduce` then passes any
columns of right sides through it, as often as wanted; :meth:`Reduced.backward`
differentiates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mixedfx.factor.blocks import (
    flatten,
    from_lower,
    level_sums,
    lower,
    penalised,
    product,
    unflatten,
    weighted_product,
)
from mixedfx.factor.gram import Array
from mixedfx.factor.plan import Both, Pairs, Plan, Rows, Step
from mixedfx.factor.tail import Solved, Tail, factorise_tail, mirror


@dataclass(frozen=True)
class _Done:
    """What the elimination of one chain factor leaves."""

    A: Array
    G: Array
    T: Array
    z: Array | None
    Z: Both | None  # entries, (K L) by all columns
    updates: tuple[Both, ...]  # of the store, one per distinct entry of G


@dataclass(frozen=True)
class Factor:
    """
    The factorised matrix at one set of Lambdas; made by :func:`factorise`.

    Parameters
    ----------
    plan : Plan
        The order.
    lambdas : tuple of ndarray of shape (K, K)
        One per factor.
    log_det : float
        ``log |Lambda' A Lambda + I|`` over all factors.
    """

    plan: Plan = field(repr=False)
    lambdas: tuple[Array, ...]
    log_det: float
    _done: tuple[_Done, ...] = field(repr=False)
    _tail: Tail | None = field(repr=False)

    def reduce(self, border: Sequence[Array], corner: Array) -> Reduced:
        """
        Eliminate the factors from some dense columns.

        Parameters
        ----------
        border : sequence of ndarray of shape (K, m, L)
            Each factor's cross-products with the columns.
        corner : ndarray of shape (m, m)
            The columns' own cross-products.

        Returns
        -------
        Reduced
            ``corner - border' Lambda M^-1 Lambda' border``, and the way back.
        """
        plan = self.plan
        corner = corner.copy()
        F = list(border)
        for step, V in zip(plan.steps, self._pass(F), strict=True):
            corner -= _cross(F[step.factor], V)
        if self._tail is None:
            return Reduced(self, corner, tuple(F), None)
        solved = self._tail.solve(np.concatenate([flatten(F[f]) for f in plan.tail]))
        corner -= solved.F.T @ solved.V
        return Reduced(self, corner, tuple(F), solved)

    def solve(self, right: Array) -> Array:
        """
        Multiply by ``Lambda M^-1 Lambda'``: the effects' covariance over ``sigma**2``.

        Parameters
        ----------
        right : ndarray of shape (q, m)
            Columns over all scalar columns, in the plan's order.

        Returns
        -------
        ndarray of shape (q, m)
            In the same order.
        """
        plan = self.plan
        F = [unflatten(right[plan.columns(f)], plan.gram.width(f)) for f in plan.gram.factors]
        self._pass(F)
        out = np.zeros_like(right)
        if self._tail is not None:
            tail = np.concatenate([flatten(F[f]) for f in plan.tail])
            out[plan.tail_start :] = self._tail.solve(tail).V
        for step, done in zip(reversed(plan.steps), reversed(self._done), strict=True):
            rest = F[step.factor]
            if done.Z is not None:
                rest = rest - unflatten(done.Z.plain @ out, step.K)
            elif isinstance(step.pairs, Rows):
                rest = rest - unflatten(step.pairs.matrix @ out[plan.tail_start :], step.K)
            out[step.columns] = flatten(product(done.G, rest))
        return out

    def _pass(self, F: list[Array]) -> list[Array]:
        """Eliminate the chain from columns, in place; ``G F`` of each of its factors."""
        plan, V = self.plan, []
        for step, done in zip(plan.steps, self._done, strict=True):
            V.append(product(done.G, F[step.factor]))
            if step.pairs is None:
                continue
            change = _to_columns(step, done, V[-1], plan)
            for g, start in plan.starts.items():
                if start > step.start:
                    part = change[start : start + plan.gram.size(g)]
                    F[g] = F[g] - unflatten(part, plan.gram.width(g))
        return V


@dataclass(frozen=True)
class Reduced:
    """
    Dense columns after elimination; made by :meth:`Factor.reduce`.

    Parameters
    ----------
    factor : Factor
        The elimination.
    corner : ndarray of shape (m, m)
        What is left of the columns' cross-products.
    """

    factor: Factor = field(repr=False)
    corner: Array
    _F: tuple[Array, ...] = field(repr=False)  # each factor's border when it was eliminated
    _solved: Solved | None = field(repr=False)

    def effects(self, weights: Array) -> tuple[list[Array], list[Array]]:
        """
        Solve for the effects.

        Parameters
        ----------
        weights : ndarray of shape (m,)
            Combination of the dense columns that is explained, such as ``(-beta, 1)``.

        Returns
        -------
        b, u : list of ndarray of shape (K, L)
            Effects, and the spherical ones with ``b = Lambda u``; one per factor.
        """
        plan = self.factor.plan
        b, u = np.zeros(plan.size), np.zeros(plan.size)
        if self._solved is not None:
            b[plan.tail_start :] = self._solved.V @ weights
            u[plan.tail_start :] = self._solved.U @ weights
        for step, done in zip(reversed(plan.steps), reversed(self.factor._done), strict=True):
            right = np.tensordot(self._F[step.factor], weights, axes=(1, 0))
            if done.Z is not None:
                right = right - (done.Z.plain @ b).reshape(step.K, step.L)
            elif isinstance(step.pairs, Rows):
                right = right - (step.pairs.matrix @ b[plan.tail_start :]).reshape(step.K, step.L)
            b[step.columns] = product(done.G, right[:, None])[:, 0].ravel()
            u[step.columns] = product(done.T.transpose(1, 0, 2), right[:, None])[:, 0].ravel()
        cut = [(plan.columns(f), plan.gram.width(f)) for f in plan.gram.factors]
        return [b[c].reshape(K, -1) for c, K in cut], [u[c].reshape(K, -1) for c, K in cut]

    def backward(self, inner: Array) -> tuple[list[Array], list[Array]]:
        """
        Differentiate ``log_det`` plus a function of :attr:`corner`.

        Parameters
        ----------
        inner : ndarray of shape (m, m)
            Symmetric derivative of that function; zero for ``log_det`` alone.

        Returns
        -------
        gradients : list of ndarray of shape (K, K)
            By each factor's Lambda, all entries.
        blocks : list of ndarray of shape (K, K, L)
            Within-level blocks of the derivative by ``A``. With ``inner`` zero these are the
            blocks of ``Lambda M^-1 Lambda'``: the effects' conditional covariances over
            ``sigma**2``.
        """
        plan = self.factor.plan
        store = np.zeros(plan.tail_at)
        border = np.zeros((plan.size, len(inner)))
        gradients: dict[int, Array] = {}
        blocks: dict[int, Array] = {}
        bar = None
        if self.factor._tail is not None:
            assert self._solved is not None
            bar, gradients, blocks = self.factor._tail.backward(self._solved, inner)
            border[plan.tail_start :] = -self._solved.V @ inner
            if any(isinstance(s.pairs, Rows) for s in plan.steps):
                mirror(bar)
            else:  # whatever is off the diagonal stands twice in the matrix
                store = np.concatenate([store, bar.ravel()]) if plan.tail_at else bar.reshape(-1)
                store[plan.tail_at :] *= 2.0
                store[plan.tail_at :: plan.tail_size + 1] *= 0.5
        for i in range(len(plan.steps) - 1, -1, -1):
            step, done, F = plan.steps[i], self.factor._done[i], self._F[plan.steps[i].factor]
            Q, N = _surrounding(step, done, F, inner, border, store, bar, plan)
            GQ = product(done.G, Q)
            slope = done.A - Q + product(done.A, GQ)  # A - (I - A G) Q
            gradients[step.factor] = 2.0 * level_sums(slope, done.T.transpose(1, 0, 2))
            block = done.G + product(GQ, done.G)
            blocks[step.factor] = block
            if i:
                passed = N + np.tensordot(F, inner, axes=(1, 0)).transpose(0, 2, 1)
                border[step.columns] = -flatten(product(done.G, passed))
                _pass_on(step, done, F, border, store, block)
        order = plan.gram.factors
        return [gradients[f] for f in order], [blocks[f] for f in order]


def factorise(plan: Plan, lambdas: Sequence[Array]) -> Factor:
    """
    Eliminate every factor at the given Lambdas.

    Parameters
    ----------
    plan : Plan
        From :func:`mixedfx.factor.analyse`.
    lambdas : sequence of ndarray of shape (K, K)
        One per factor; usually lower triangular, and singular ones are welcome.

    Returns
    -------
    Factor
        Determinant, and the way for right sides.
    """
    store = plan.store.copy()
    log_det, all_done = 0.0, []
    for step in plan.steps:
        A = plan.gram.diagonal[step.factor]
        if step.own is not None:
            A = from_lower(store[step.own].reshape(-1, step.L), step.K)
        G, T, log_m = penalised(A, lambdas[step.factor])
        log_det += log_m
        z: Array | None = None
        Z: Both | None = None
        updates: tuple[Both, ...] = ()
        if isinstance(step.pairs, Rows):
            _subtract_rows(step, G, store, plan)
        elif step.pairs is not None:
            z = step.entries(store)
            if step.constant is not None:
                Z, updates = step.constant
            else:
                Z = Both.of(step.matrix(z, plan.size))
                updates = tuple(map(Both.of, step.pairs.matrices(z)))
            for update, g in zip(updates, lower(G), strict=True):
                store -= update.plain @ g
        all_done.append(_Done(A, G, T, z, Z, updates))
    tail = None
    if plan.tail_size:
        square = store[plan.tail_at :].reshape(plan.tail_size, plan.tail_size)
        tail = factorise_tail(plan, lambdas, square)
        log_det += tail.log_det
    return Factor(plan, tuple(lambdas), log_det, tuple(all_done), tail)


def _subtract_rows(step: Step, G: Array, store: Array, plan: Plan) -> None:
    """Subtract ``Z' G Z`` from the tail, by dense products."""
    assert isinstance(step.pairs, Rows)
    square = store[plan.tail_at :].reshape(plan.tail_size, plan.tail_size)
    for first, last in step.pairs.parts:
        Z = step.pairs.portion(first, last)
        GZ = np.zeros_like(Z)
        for a in range(step.K):
            for b in range(step.K):
                GZ[a] += G[a, b, first:last, None] * Z[b]
        flat = (Z.shape[0] * Z.shape[1], -1)
        square -= Z.reshape(flat).T @ GZ.reshape(flat)


def _cross(F: Array, V: Array) -> Array:
    """Sum over columns and levels of ``F' V``, (m, m)."""
    if F.shape[0] == 1:
        total: Array = F[0] @ V[0].T
        return total
    return np.asarray(sum(f @ v.T for f, v in zip(F, V, strict=True)))


def _to_columns(step: Step, done: _Done, V: Array, plan: Plan) -> Array:
    """``Z' V`` for the entries of a step, (all columns, m)."""
    flat = flatten(V)
    if done.Z is not None:
        return np.asarray(done.Z.transposed @ flat)
    assert isinstance(step.pairs, Rows)
    change = np.zeros((plan.size, flat.shape[1]))
    change[plan.tail_start :] = step.pairs.matrix.T @ flat
    return change


def _surrounding(
    step: Step,
    done: _Done,
    F: Array,
    inner: Array,
    border: Array,
    store: Array,
    bar: Array | None,
    plan: Plan,
) -> tuple[Array, Array]:
    """Sum up ``Q = A_r (derivative by the rest) A_r'`` at every level, and its half ``N``."""
    K = step.K
    Q = weighted_product(F, inner, F)
    if step.pairs is None:
        return Q, np.zeros_like(F)
    if isinstance(step.pairs, Rows):
        assert bar is not None
        N = unflatten(step.pairs.matrix @ border[plan.tail_start :], K)
        for first, last in step.pairs.parts:
            Z = step.pairs.portion(first, last)
            Y = (Z.reshape(-1, Z.shape[2]) @ bar).reshape(Z.shape)
            for a in range(K):
                for b in range(K):
                    Q[a, b, first:last] += np.einsum("ld,ld->l", Y[a], Z[b])
    else:
        assert done.Z is not None
        N = unflatten(np.asarray(done.Z.plain @ border), K)
        found = np.stack([update.transposed @ store for update in done.updates])
        Q += _halve_off_diagonal(from_lower(found, K))
    for c in range(F.shape[1]):
        half = N[:, None, c] * F[None, :, c]
        Q += half
        Q += half.transpose(1, 0, 2)
    return Q, N


def _halve_off_diagonal(Q: Array) -> Array:
    """Undo that an entry off the diagonal of G was counted once for both its places."""
    for a in range(Q.shape[0]):
        for b in range(a):
            Q[a, b] *= 0.5
            Q[b, a] *= 0.5
    return Q


def _pass_on(
    step: Step,
    done: _Done,
    F: Array,
    border: Array,
    store: Array,
    block: Array,
) -> None:
    """Tell earlier steps the derivatives by this step's own block and couplings."""
    assert step.own is not None
    K = step.K
    own = [(1.0 if a == b else 2.0) * block[a, b] for a in range(K) for b in range(a + 1)]
    store[step.own] = np.concatenate(own)
    if step.pairs is None:
        return
    assert isinstance(step.pairs, Pairs)
    assert done.z is not None
    p = step.pairs
    # The store holds derivatives by values that stand twice in the matrix, so half of each;
    # entries paired with themselves stand once, but are then found from both sides.
    full = 0.5 * store[p.target]
    count = len(step.rows)
    Y = (F[:, :, step.rows] * border[step.cols].T[None]).sum(axis=1)
    for a in range(K):
        Y[a] += np.bincount(p.first, done.z[a, p.second] * full, count)
        Y[a] += np.bincount(p.second, done.z[a, p.first] * full, count)
    store[step.where] = -2.0 * product(done.G[:, :, step.rows], Y[:, None])[:, 0]
