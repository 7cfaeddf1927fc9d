"""Blocks of ``G = Lambda M^-1 Lambda'`` at the pattern of ``A``: the derivatives of ``log|M|``.

With ``M = Lambda' A Lambda + I`` over all factors, ``d log|M| = tr(G dA)``: the entries of ``G``
at the levels that share rows are all that the derivative by any weights of these rows needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mixedfx.linalg import precision
from mixedfx.linalg.cholesky.block_matrix import Array
from mixedfx.linalg.cholesky.numeric import NumericFactor
from mixedfx.linalg.cholesky.reverse_mode import reverse_pass
from mixedfx.linalg.solver import Factor


@dataclass(frozen=True)
class LogDetDerivatives:
    """Derivatives of ``log|M|``; returned by :func:`log_det_derivatives`."""

    by_lambda: tuple[Array, ...]  # (K, K) per factor
    diagonal: tuple[Array, ...] = field(repr=False)  # of G, (K, K, L) per factor
    # Of G, for factors f < g, (K_f, K_g, pairs) in the order of the pattern's pairs. In ``A`` each
    # occurs twice.
    off_diagonal: Mapping[tuple[int, int], Array] = field(repr=False)
    within: Mapping[int, Array] = field(repr=False)  # (K, K, pairs) likewise


def log_det_derivatives(numeric: Factor) -> LogDetDerivatives:
    """Derivatives of ``log|M|`` by each Lambda, and the blocks of ``G`` at the pattern of ``A``."""
    if not isinstance(numeric, NumericFactor):
        assert isinstance(numeric, precision.PrecisionFactor)
        diagonal, off_diagonal = numeric.blocks
        by_lambda = numeric.log_det_derivative()
        return LogDetDerivatives(tuple(by_lambda), tuple(diagonal), off_diagonal, {})
    symbolic = numeric.symbolic
    found = reverse_pass(symbolic, numeric.steps, numeric.dense, by_first_entries=True)
    off_diagonal = {}
    for f, g in symbolic.pairs:
        if (f, g) in symbolic.trailing_positions:
            off_diagonal[f, g] = found.trailing.take(symbolic.trailing_positions[f, g])
            continue
        assert found.first_entries is not None
        first = symbolic.order[0]
        positions = symbolic.first_positions[g if f == first else f]
        block = found.first_entries.take(positions, axis=1)
        off_diagonal[f, g] = block if f == first else block.transpose(1, 0, 2)
    factors = symbolic.layout.factors
    return LogDetDerivatives(
        tuple(found.by_lambda[f] for f in factors),
        tuple(found.diagonal[f] for f in factors),
        off_diagonal,
        {f: found.trailing.take(at) for f, at in symbolic.within_positions.items()},
    )
