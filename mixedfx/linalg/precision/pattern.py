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
from mixedfx.linalg.precision.loadings import PairLoadings, own_loadings, pair_loadings
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
    squares: tuple[sparse.csr_array, ...] = field(repr=False)  # of each factor, (codes, nodes)
    members: tuple[PairLoadings, ...] = field(repr=False)  # pairs of nodes of one code
    joined: Mapping[tuple[int, int], PairLoadings] = field(repr=False)  # of two factors
    own: tuple[Entries, ...] = field(repr=False)  # (K, K, nodes) within nodes
    beside: Mapping[int, Entries] = field(repr=False)  # (K, pairs) of A^-1, an effect with itself
    among: tuple[Entries, ...] = field(repr=False)  # (K, K, pairs) of ``members``
    between: Mapping[tuple[int, int], Entries] = field(repr=False)  # (K_f, K_g, pairs)

    @staticmethod
    def of(pattern: BlockPattern, bases: Bases) -> NodeColumns:
        """Columns of the nodes, effect by effect."""
        layout = pattern.layout
        S = [
            sparse.csr_array(sparse.eye_array(layout.levels(f))) if B is None else B.of_nodes.csr
            for f, B in enumerate(bases)
        ]
        nodes = tuple(of_nodes.shape[1] for of_nodes in S)
        joined = {
            (f, g): pair_loadings(S[f][p.rows], S[g][p.cols]) for (f, g), p in pattern.pairs.items()
        }
        squares, members = zip(*map(own_loadings, S), strict=True)
        beside = {f: LevelPairs(*B.neighbours) for f, B in enumerate(bases) if B is not None}
        order = _order_of_nodes(layout.widths, nodes, joined, beside, members)
        columns = [
            order.starts[f] + np.arange(nodes[f] * layout.width(f)).reshape(-1, nodes[f])
            for f in layout.factors
        ]
        return NodeColumns(
            order,
            squares,
            members,
            joined,
            tuple(_block(c, c) for c in columns),
            {f: (columns[f][:, p.rows], columns[f][:, p.cols]) for f, p in beside.items()},
            tuple(
                _block(c[:, p.rows], c[:, p.cols]) for c, p in zip(columns, members, strict=True)
            ),
            {
                (f, g): _block(columns[f][:, p.rows], columns[g][:, p.cols])
                for (f, g), p in joined.items()
            },
        )

    def elimination(self) -> SparseOrder:
        """Order that leaves few values."""
        entries = [*self.own, *self.beside.values(), *self.among, *self.between.values()]
        rows = np.concatenate([r.ravel() for r, _ in entries])
        cols = np.concatenate([c.ravel() for _, c in entries])
        ends = np.concatenate([rows, cols]), np.concatenate([cols, rows])
        size = self.order.size
        return order_by_degree(sparse.csr_array((np.ones(2 * len(rows)), ends), shape=(size, size)))


def _order_of_nodes(
    widths: tuple[int, ...],
    nodes: tuple[int, ...],
    joined: Mapping[tuple[int, int], PairLoadings],
    beside: Mapping[int, LevelPairs],
    members: Sequence[PairLoadings],
) -> EliminationOrder:
    """Columns of the nodes, and the pairs that depend on each other."""
    within = {}
    for f, own in enumerate(members):
        pairs: list[PairLoadings | LevelPairs] = [own]
        pairs += [beside[f]] if f in beside else []
        within[f] = LevelPairs(
            np.concatenate([p.rows for p in pairs]), np.concatenate([p.cols for p in pairs])
        )
    pairs_of = {fg: LevelPairs(p.rows, p.cols) for fg, p in joined.items()}
    of_nodes = BlockPattern(BlockLayout(widths, nodes), pairs_of, within)
    return EliminationOrder.of(of_nodes, (), tuple(range(len(widths))))


@dataclass(frozen=True)
class PrecisionPattern:
    """Positions of the equations' values in a sparse factor."""

    columns: NodeColumns = field(repr=False)
    symbolic: SparseSymbolic = field(repr=False)
    own: tuple[Ints, ...] = field(repr=False)
    beside: Mapping[int, Ints] = field(repr=False)
    among: tuple[Ints, ...] = field(repr=False)
    between: Mapping[tuple[int, int], Ints] = field(repr=False)

    @property
    def order(self) -> EliminationOrder:
        """Columns of the nodes."""
        return self.columns.order

    @staticmethod
    def of(columns: NodeColumns, order: SparseOrder) -> PrecisionPattern:
        """Positions in one order."""
        symbolic = SparseSymbolic.of(order)
        return PrecisionPattern(
            columns,
            symbolic,
            tuple(symbolic.positions(*entries) for entries in columns.own),
            {f: symbolic.positions(*entries) for f, entries in columns.beside.items()},
            tuple(symbolic.positions(*entries) for entries in columns.among),
            {fg: symbolic.positions(*entries) for fg, entries in columns.between.items()},
        )


def _block(rows: Ints, cols: Ints) -> Entries:
    """All pairs of effects at each pair of columns (K, pairs)."""
    block = np.broadcast_arrays(rows[:, None], cols[None])
    return block[0], block[1]
