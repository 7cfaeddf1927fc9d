"""Diagonal blocks of ``Lambda M^-1 Lambda'`` of every level, estimated from vectors of signs.

Of the factors that are not eliminated the blocks are those of ``Lambda L^-T P^-1 L^-1 Lambda'``:
exact on the span of W, and on its complement, with the projection Q on that,

    P_c^-1 = mean of (P_c^-1 z + P_c z - 2 z) z' + 2 Q - P_c;

of the first factor ``G + T P^-1 T'``, ``T = G A_12 Lambda L^-T``, with
``P_c^-1 = mean of (P_c^-1 z - z) z' + Q``. What is random is of second and of first order in the
off-diagonal entries of P (Bekas, Kokiopoulou and Saad 2007, Appl. Numer. Math. 57:1214).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mixedfx.linalg.cholesky.batched import matmul
from mixedfx.linalg.cholesky.block_matrix import Array
from mixedfx.linalg.iterative.block_products import by_level
from mixedfx.linalg.iterative.log_det import LogDeterminant, full_rank
from mixedfx.linalg.iterative.schur_operator import SchurOperator, symmetrized
from mixedfx.linalg.threads import for_each

Blocks = dict[int, Array]


def level_covariances(op: SchurOperator, estimate: LogDeterminant) -> tuple[Blocks, Blocks]:
    """Estimates of the blocks (K, K, L) of each factor, and standard errors of their entries."""
    known, n = _known(op, estimate), len(estimate.by_probe)
    parts = for_each(
        lambda pair: _of_signs(op, estimate.deflation.complement, *pair),
        list(zip(estimate.signs, estimate.solved, strict=True)),
    )
    blocks, errors = {}, {}
    for f, exact in known.items():
        mean = sum(values[f] for values, _ in parts) / n
        square = sum(squares[f] for _, squares in parts) / n
        blocks[f] = symmetrized(exact + mean)
        errors[f] = np.sqrt(np.maximum(square - mean**2, 0.0) / (n - 1))
    return blocks, errors


def _known(op: SchurOperator, estimate: LogDeterminant) -> Blocks:
    """What is not random."""
    deflation = estimate.deflation
    W, V = deflation.columns, estimate.solved_W
    PW = op.multiply(W)
    inverse = np.asarray(np.linalg.inv(full_rank(deflation.products(V))), dtype=np.float64)
    on_span = deflation.combine(V, inverse)
    on_W = deflation.combine(W, deflation.inner(W, PW))
    # P^-1 on the span, and 2 Q - P_c less the identity, whose blocks are those of 2 I - P.
    left, right = np.hstack([on_span, PW - on_W - 2.0 * W, W]), np.hstack([V, W, PW])
    parts = _in_effects(op, left, right)
    known = {f: parts[f].sum(axis=3) for f in op.rest}
    for f in op.rest:
        known[f] = known[f] + op.scaled_identity(f)
    left, right = np.hstack([on_span, -W]), np.hstack([V, W])
    of_first = op.G + _of_first(op, left, right).sum(axis=3)
    for f in op.rest:
        squares = op.products.weighted_squares(f, op.first, op.scaled_identity(f))
        of_first = of_first + matmul(matmul(op.G, squares), op.G)
    known[op.first] = of_first
    return known


def _of_signs(
    op: SchurOperator, complement: Callable[[Array], Array], z: Array, solved: Array
) -> tuple[Blocks, Blocks]:
    """Sums over some vectors of what each says, and of its square."""
    difference = solved - z
    parts: Mapping[int, Array] = {
        **_in_effects(op, difference + complement(op.multiply(z)) - z, z),
        op.first: _of_first(op, difference, z),
    }
    sums = {f: part.sum(axis=3) for f, part in parts.items()}
    return sums, {f: (part**2).sum(axis=3) for f, part in parts.items()}


def _in_effects(op: SchurOperator, Y: Array, Z: Array) -> Blocks:
    """``Lambda L^-T y z' L^-1 Lambda'``, (K, K, L, m) of each factor that is not eliminated."""
    left, right = op.effects(op.from_root(Y)), op.effects(op.from_root(Z))
    return {f: left[f][:, None] * right[f][None, :] for f in op.rest}


def _of_first(op: SchurOperator, Y: Array, Z: Array) -> Array:
    """``T y z' T'``, (K, K, L, m)."""
    left, right = (
        by_level(op.G, op.with_first(op.effects(op.from_root(vectors)))) for vectors in (Y, Z)
    )
    return np.asarray(left[:, None] * right[None, :])
