"""Control variate of the log-determinant where several factors are not eliminated.

With B the blocks of P between these factors but for those by the first, ``R = P - I - B``, which
goes over the first and is of second order, and the projection Q on the complement of W,

    log P_c = Q (B + R) Q - B Q B / 2 - (B Q R + R Q B) / 2 + B Q B Q B / 3 - ...

The quadratic forms of these terms are subtracted from that of the logarithm, and their traces,
which are sums over pairs of levels, added. That of ``B Q R`` is a sum over triples of levels, of
each two of which rows are shared: it is left out where these are too many.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixedfx._cached import cached_property
from mixedfx.linalg.cholesky.block_matrix import Array
from mixedfx.linalg.iterative.deflation import Deflation
from mixedfx.linalg.iterative.schur_operator import SchurOperator

# Triples of levels whose products are summed.
_MOST_TRIPLES = 1e9


@dataclass(frozen=True)
class ControlVariate:
    """What is known of the logarithm's form beyond ``P - I``."""

    operator: SchurOperator
    deflation: Deflation

    @cached_property
    def _has_triples(self) -> bool:
        op = self.operator
        triples = sum(
            op.products.count_triples(op.first, f, g) for f in op.rest for g in op.rest if f < g
        )
        return triples <= _MOST_TRIPLES

    @property
    def _has_cubes(self) -> bool:
        """Whether ``tr(B B B)`` is zero, as there are no triples among the other factors."""
        return len(self.operator.rest) == 2

    def forms(self, z: Array) -> Array:
        """``z'(B Q B / 2 + B Q R - B Q B Q B / 3) z`` of vectors of the complement, (m,)."""
        op, deflation = self.operator, self.deflation
        if len(op.rest) < 2:
            return np.zeros(z.shape[1])
        Bz = deflation.complement(op.direct(z))
        found = 0.5 * (Bz * Bz).sum(axis=0)
        if self._has_triples:
            found += (Bz * (deflation.complement(op.multiply(z)) - z - Bz)).sum(axis=0)
        if self._has_cubes:
            found -= (Bz * op.direct(Bz)).sum(axis=0) / 3.0
        return np.asarray(found)

    @cached_property
    def trace(self) -> float:
        """Expectation of :meth:`forms`."""
        op, deflation = self.operator, self.deflation
        if len(op.rest) < 2:
            return 0.0
        W = deflation.columns
        BW = op.direct(W)
        WBW, WBBW = deflation.inner(W, BW), deflation.inner(BW, BW)
        square = self._square() - 2.0 * float((BW * BW).sum()) + _trace(WBW, WBW)
        total = 0.5 * square
        if self._has_triples:
            RW = op.multiply(W) - W - BW
            mixed = self._triples() - 2.0 * float((BW * RW).sum())
            total += mixed + _trace(WBW, deflation.inner(W, RW))
        if self._has_cubes:
            cube = -3.0 * float((BW * op.direct(BW)).sum()) + 3.0 * _trace(WBW, WBBW)
            total -= (cube - _trace(WBW, WBW @ WBW)) / 3.0
        return total

    def _square(self) -> float:
        """``tr(B B)``."""
        op, total = self.operator, 0.0
        for f in op.rest:
            for g in op.rest:
                if g > f:
                    squares = op.products.weighted_squares(g, f, op.scaled_identity(g))
                    total += 2.0 * float(np.vdot(op.scaled_identity(f), squares))
        return total

    def _triples(self) -> float:
        """``tr(B R)``."""
        op, total = self.operator, 0.0
        for f in op.rest:
            for g in op.rest:
                if g > f:
                    scales = op.scaled_identity(f), op.scaled_identity(g)
                    total -= 2.0 * op.products.sum_over_triples(op.first, f, g, op.G, scales)
        return total


def _trace(A: Array, B: Array) -> float:
    """Sum over components of ``tr(A B)``."""
    return float(np.einsum("cab,cba->", A, B))
