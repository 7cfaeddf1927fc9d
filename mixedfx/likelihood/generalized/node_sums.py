"""Sums over the nodes of a quadrature and the rows, of rows in memory and of blocks of rows.

With ``v_k`` of each level and node k (:mod:`~.quadrature`) and ``pi_k = v_k / sum v``, the gradient
averages by ``pi_k`` what the rows are at the node. Of rows in memory one look at the nodes adds up
``v_k`` and what is averaged; of blocks a level may have rows in many, so that the first reading
gives ``v_k`` and a second one the averages, of as many nodes at a time as memory has numbers for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mixedfx.families.family import ParamDerivatives, RowDerivatives
from mixedfx.likelihood.generalized.row_arrays import RowArrays

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Numbers of the levels at some nodes, over which these are taken in parts.
_MOST_NUMBERS = 2**23


@dataclass(frozen=True)
class Nodes:
    """Spherical effects of the levels of the one factor at the nodes, ``u + C x_k``."""

    lam: Matrix  # (K, K)
    u: Matrix = field(repr=False)  # (K, L) the modes
    C: Array = field(repr=False)  # (K, K, L) of each level
    x: Matrix  # (m, K)
    omega: Vector  # (m,) weights of the rule

    def effects(self, k: int) -> Matrix:
        """Effects at a node, (K, L)."""
        return np.asarray(self.u + np.tensordot(self.x[k], self.C, axes=(0, 1)))

    def relative(self, k: int, effects: Matrix, value: Vector, at_mode: Vector) -> Vector:
        """``v_k`` of each level, from its log densities at the node and the integrand's at u."""
        log_v = value - 0.5 * (effects**2).sum(axis=0) - at_mode
        return np.asarray(self.omega[k] * np.exp(log_v + 0.5 * float(self.x[k] @ self.x[k])))

    def in_parts(self) -> Iterator[Nodes]:
        """Some nodes at a time."""
        length = max(1, _MOST_NUMBERS // max(self.u.shape[1], 1))
        for start in range(0, len(self.x), length):
            part = slice(start, start + length)
            yield replace(self, x=self.x[part], omega=self.omega[part])


@dataclass(frozen=True)
class NodeSums:
    """
    Sums over nodes, ``v_k`` relative to the integrand at the modes.

    That is at most ``omega_k exp(x_k'x_k / 2)``, so no sum overflows. Averages are by ``pi_k``.
    """

    total: Vector  # (L,) sum of v_k
    r: Matrix  # (K, L) mean of r_k
    r_x: Array  # (K, K, L) mean of r_k x_k'
    Ztg_u: Matrix  # (K, K) sum over levels of the mean of (Z'g_k) u_k'
    Xt_change: Vector  # (p,) X'(g - mean g_k), g at the modes
    by_params_change: Vector  # (r,) sum over rows of dl/dphi less its mean
    first_change: Vector  # (n,) g - mean g_k of rows in memory


class EvaluatedBlock(Protocol):
    """Rows in memory, all or those of a block, at a linear predictor."""

    @property
    def rows(self) -> RowArrays:
        """The rows."""
        ...

    @property
    def params(self) -> Vector:
        """Parameters of the family."""
        ...

    @property
    def fixed(self) -> Vector:
        """``offset + X beta``."""
        ...

    @property
    def derivatives(self) -> RowDerivatives:
        """At the modes."""
        ...

    @property
    def by_params(self) -> ParamDerivatives:
        """By the coordinates of the family's parameters, at the modes."""
        ...


def sums_of_rows(at: EvaluatedBlock, nodes: Nodes, *, with_gradient: bool) -> NodeSums:
    """Of rows in memory."""
    rows, lam = at.rows, nodes.lam
    factor, (K, L), r = rows.factors[0], nodes.u.shape, len(at.params)
    mode = at.derivatives
    at_mode = _by_level(at, mode.value) - 0.5 * (nodes.u**2).sum(axis=0)
    total, first, by_params = np.zeros(L), np.zeros_like(at.fixed), np.zeros((r, len(rows.y)))
    sum_r, sum_rx, sum_gu = np.zeros((K, L)), np.zeros((K, K, L)), np.zeros((K, K, L))
    for k, x in enumerate(nodes.x):
        u_k = nodes.effects(k)
        eta = _predictor(at, nodes, u_k)
        there = rows.derivatives(eta, at.params)
        v = nodes.relative(k, u_k, _by_level(at, there.value), at_mode)
        total += v
        if not with_gradient:
            continue
        g = _finite(there.first)
        Ztg = factor.sums(g)
        vr = v * (lam.T @ Ztg - u_k)
        sum_r += vr
        sum_rx += vr[:, None] * x[None, :, None]
        sum_gu += (v * Ztg)[:, None] * u_k[None]
        first += v[factor.codes] * g
        if r:
            by_params += v[factor.codes] * rows.by_params(eta, at.params).value
    share = 1.0 / total
    by_row = share[factor.codes]
    change = mode.first - first * by_row
    of_params = at.by_params.value.sum(axis=-1) if r and with_gradient else np.zeros(r)
    return NodeSums(
        total,
        share * sum_r,
        share * sum_rx,
        (share * sum_gu).sum(axis=2),
        rows.fixed_sums(change),
        of_params - by_params @ by_row,
        change,
    )


def sums_of_blocks(
    over_blocks: Callable[[Callable[[Any], Any]], Any], nodes: Nodes, *, with_gradient: bool
) -> NodeSums:
    """Of rows in blocks, given what adds up a function of each block at the modes."""
    K, L = nodes.u.shape
    total, parts = np.zeros(L), list(nodes.in_parts())
    weights: list[Matrix] = []
    for part in parts:
        v = _relative(over_blocks, part)
        total += v.sum(axis=0)
        weights = [v] if len(parts) == 1 else []
    share, none = 1.0 / total, np.zeros(0)
    if not with_gradient:
        empty = np.zeros((K, K))
        return NodeSums(total, np.zeros((K, L)), np.zeros((K, K, L)), empty, none, none, none)
    Xt, of_params, r, r_x, Ztg_u = over_blocks(
        lambda at: (
            at.rows.fixed_sums(at.derivatives.first),
            at.by_params.value.sum(axis=-1) if len(at.params) else none,
            np.zeros((K, L)),
            np.zeros((K, K, L)),
            np.zeros((K, K)),
        )
    )
    for part in parts:
        pi = share * (weights[0] if weights else _relative(over_blocks, part))
        averages = _Averages(part, pi)
        Z, Zx, Zu, X, params = over_blocks(averages.of)
        effects = [part.effects(k) for k in range(len(part.x))]
        pi_u = [own * u for own, u in zip(pi, effects, strict=True)]
        r += part.lam.T @ Z - sum(pi_u)
        of_x = zip(pi_u, part.x, strict=True)
        r_x += np.einsum("ba,bcl->acl", part.lam, Zx)
        r_x -= sum(own[:, None] * x[None, :, None] for own, x in of_x)
        Ztg_u += Zu
        Xt, of_params = Xt - X, of_params - params
    return NodeSums(total, r, r_x, Ztg_u, Xt, of_params, none)


def _relative(over_blocks: Callable[[Callable[[Any], Any]], Any], nodes: Nodes) -> Matrix:
    """``v_k`` of all levels at some nodes, (m, L)."""
    effects = [nodes.effects(k) for k in range(len(nodes.x))]

    def values(at: EvaluatedBlock) -> Matrix:
        etas = (_predictor(at, nodes, u) for u in effects)
        of_nodes = [at.rows.derivatives(eta, at.params).value for eta in etas]
        return np.array([_by_level(at, value) for value in (at.derivatives.value, *of_nodes)])

    of_mode, *of_nodes = over_blocks(values)
    at_mode = of_mode - 0.5 * (nodes.u**2).sum(axis=0)
    of_levels = zip(effects, of_nodes, strict=True)
    return np.array([nodes.relative(k, u, v, at_mode) for k, (u, v) in enumerate(of_levels)])


@dataclass(frozen=True)
class _Averages:
    """Sums over the rows of a block, averaged over some nodes by ``pi_k``."""

    nodes: Nodes
    pi: Matrix = field(repr=False)  # (m, L)

    def of(self, at: EvaluatedBlock) -> tuple[Matrix, Array, Matrix, Vector, Vector]:
        """``Z'g_k``, its products with ``x_k`` and ``u_k``, ``X'g_k`` and ``dl_k/dphi``."""
        rows, nodes, (K, L) = at.rows, self.nodes, self.nodes.u.shape
        factor, r = rows.factors[0], len(at.params)
        Z, Zx, Zu = np.zeros((K, L)), np.zeros((K, K, L)), np.zeros((K, K))
        first, params = np.zeros_like(at.fixed), np.zeros(r)
        for k, x in enumerate(nodes.x):
            u, pi = nodes.effects(k), self.pi[k]
            eta = _predictor(at, nodes, u)
            there = rows.derivatives(eta, at.params)
            g, of_rows = _finite(there.first), pi[factor.codes]
            weighted = pi * factor.sums(g)
            Z += weighted
            Zx += weighted[:, None] * x[None, :, None]
            Zu += weighted @ u.T
            first += of_rows * g
            if r:
                params += rows.by_params(eta, at.params).value @ of_rows
        return Z, Zx, Zu, rows.fixed_sums(first), params


def _predictor(at: EvaluatedBlock, nodes: Nodes, effects: Matrix) -> Vector:
    """Linear predictor of the rows at the effects of a node."""
    return at.fixed + at.rows.factors[0].predictor(nodes.lam @ effects)


def _finite(values: Vector) -> Vector:
    return np.where(np.isfinite(values), values, 0.0)


def _by_level(at: EvaluatedBlock, values: Vector) -> Vector:
    """Sum over the rows of each level, (L,)."""
    factor = at.rows.factors[0]
    return np.bincount(factor.codes, values, factor.n_levels).astype(float)
