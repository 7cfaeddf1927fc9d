"""Positions of the equations ``Lambda'Z'WZ Lambda + A^-1`` of all factors, and their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx.linalg.cholesky.block_matrix import BlockLayout, BlockPattern, LevelPairs
from mixedfx.linalg.cholesky.elimination import EliminationOrder
from mixedfx.linalg.precision.basis import PrecisionBasis
from mixedfx.linalg.sparse_cholesky.ordering import SparseOrder, order_by_degree
from mixedfx.linalg.sparse_cholesky.symbolic import SparseSymbolic

Ints = npt.NDArray[np.intp]
Vector = npt.NDArray[np.float64]
Bases = Sequence[PrecisionBasis | None]
Entries = tuple[Ints, Ints]  # rows and columns


@dataclass(frozen=True)
class NodeColumns:
    """Scalar columns of the nodes of all factors, and where the equations have values."""

    order: EliminationOrder
    at: tuple[Ints, ...] = field(repr=False)  # of each factor, nodes of its levels
    own: tuple[Entries, ...] = field(repr=False)  # (K, K, nodes) within nodes
    beside: Mapping[int, Entries] = field(repr=False)  # (K, pairs) of A^-1, an effect with itself
    between: Mapping[tuple[int, int], Entries] = field(repr=False)  # (K_f, K_g, pairs)

    @staticmethod
    def of(pattern: BlockPattern, bases: Bases) -> NodeColumns:
        """Columns of the nodes, effect by effect."""
        layout = pattern.layout
        at = tuple(np.arange(layout.levels(f)) if B is None else B.at for f, B in enumerate(bases))
        nodes = tuple(layout.levels(f) if B is None else B.n_nodes for f, B in enumerate(bases))
        pairs = {
            (f, g): LevelPairs(at[f][p.rows], at[g][p.cols]) for (f, g), p in pattern.pairs.items()
        }
        within = {f: LevelPairs(*B.neighbours) for f, B in enumerate(bases) if B is not None}
        of_nodes = BlockPattern(BlockLayout(layout.widths, nodes), pairs, within)
        order = EliminationOrder.of(of_nodes, (), tuple(layout.factors))
        columns = [
            order.starts[f] + np.arange(nodes[f] * layout.width(f)).reshape(-1, nodes[f])
            for f in layout.factors
        ]
        return NodeColumns(
            order,
            at,
            tuple(_block(c, c) for c in columns),
            {f: (columns[f][:, p.rows], columns[f][:, p.cols]) for f, p in within.items()},
            {
                (f, g): _block(columns[f][:, p.rows], columns[g][:, p.cols])
                for (f, g), p in pairs.items()
            },
        )

    def elimination(self) -> SparseOrder:
        """Order that leaves few values."""
        entries = [*self.own, *self.beside.values(), *self.between.values()]
        rows = np.concatenate([r.ravel() for r, _ in entries])
        cols = np.concatenate([c.ravel() for _, c in entries])
        ends = np.concatenate([rows, cols]), np.concatenate([cols, rows])
        size = self.order.size
        return order_by_degree(sparse.csr_array((np.ones(2 * len(rows)), ends), shape=(size, size)))


@dataclass(frozen=True)
class PrecisionPattern:
    """Positions of the equations' values in a sparse factor."""

    order: EliminationOrder  # of the nodes
    at: tuple[Ints, ...] = field(repr=False)
    symbolic: SparseSymbolic = field(repr=False)
    own: tuple[Ints, ...] = field(repr=False)
    beside: Mapping[int, Ints] = field(repr=False)
    between: Mapping[tuple[int, int], Ints] = field(repr=False)

    @staticmethod
    def of(columns: NodeColumns, order: SparseOrder) -> PrecisionPattern:
        """Positions in one order."""
        symbolic = SparseSymbolic.of(order)
        return PrecisionPattern(
            columns.order,
            columns.at,
            symbolic,
            tuple(symbolic.positions(*entries) for entries in columns.own),
            {f: symbolic.positions(*entries) for f, entries in columns.beside.items()},
            {fg: symbolic.positions(*entries) for fg, entries in columns.between.items()},
        )


def _block(rows: Ints, cols: Ints) -> Entries:
    """All pairs of effects at each pair of columns (K, pairs)."""
    block = np.broadcast_arrays(rows[:, None], cols[None])
    return block[0], block[1]
