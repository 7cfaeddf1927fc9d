"""Rows of chunks as blocks of arrays in a file, and the rows of a generalised model in them.

Blocks have one length whatever the chunks, so that sums over them do not depend on these.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import column_of_ones
from mixedfx.design.build import Design
from mixedfx.design.combinations import Combinations
from mixedfx.design.rows import ModelRows, RandomTermRows
from mixedfx.design.spec import RandomTermSpec
from mixedfx.design.stream.learning import Learned
from mixedfx.families.family import Family
from mixedfx.likelihood.accumulate import parametrization_of
from mixedfx.likelihood.basis import ColumnBasis, rows_in_basis
from mixedfx.likelihood.generalized.blocked_rows import (
    BlockedRows,
    DensitySizes,
    RowBlock,
    RowBlocks,
)
from mixedfx.likelihood.generalized.factor_rows import FactorRows, PairRows
from mixedfx.likelihood.generalized.row_arrays import largest_densities
from mixedfx.likelihood.generalized.rows import predictor_unit, solver_of
from mixedfx.likelihood.recentred import at_unit_length, is_identity
from mixedfx.likelihood.stream.assembly import StreamedModel
from mixedfx.likelihood.stream.submodels import TermChanges
from mixedfx.likelihood.stream.sums import ReductionPlan, RowSums
from mixedfx.linalg.triangular import solve_upper
from mixedfx.sources.array_blocks import ArrayBlocks

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Arrays = dict[str, npt.NDArray[Any]]

# Rows of a block: many beside the work of one, and as many as there are sums, up to a limit.
_LEAST_ROWS, _MOST_ROWS = 2**17, 2**20


@dataclass(frozen=True)
class BlockPlan:
    """How the rows of chunks become blocks."""

    reduction: ReductionPlan
    unit: float  # of the linear predictor
    bases: tuple[ColumnBasis, ...]  # of the random terms, in this unit
    n_rows: int  # of a block
    row_bytes: int

    @staticmethod
    def of(learned: Learned, reduction: ReductionPlan) -> BlockPlan:
        """By what the first pass found."""
        spec = learned.spec
        unit = predictor_unit(spec.family, learned.sample.rows.y)
        bases = tuple(replace(basis, R=basis.R / unit) for basis in reduction.bases)
        levels = list(spec.ngroups.values())
        pairs = [a * b for a, b in itertools.combinations(levels, 2)]
        wanted = min(max([*levels, *pairs], default=0), learned.totals.n)
        plan = BlockPlan(reduction, unit, bases, int(np.clip(wanted, _LEAST_ROWS, _MOST_ROWS)), 0)
        one = plan.arrays(learned.sample.rows)
        n = learned.sample.rows.n
        row_bytes = sum(array.nbytes for array in one.values()) // max(n, 1) + 4 * len(pairs)
        return replace(plan, row_bytes=row_bytes)

    def arrays(self, rows: ModelRows) -> Arrays:
        """What is kept of some rows."""
        found: Arrays = {"y": rows.y, "X": self.reduction.fixed_columns(rows.X)}
        if rows.weights is not None:
            found["weights"] = rows.weights
        if rows.offset is not None:
            found["offset"] = rows.offset
        for t, term in enumerate(rows_in_basis(rows.random_terms, self.bases)):
            found[_codes(term.group)] = term.codes.astype(np.int32)
            if term.model_matrix.strides[0]:
                found[_columns(t)] = term.model_matrix
        return found


def _codes(group: str) -> str:
    return f"levels of {group}"


def _columns(t: int) -> str:
    return f"columns of term {t}"


def _pairs(i: int, j: int) -> str:
    return f"pairs {i} {j}"


class BlockWriter:
    """Cuts the rows of chunks into blocks."""

    def __init__(self, plan: BlockPlan, store: ArrayBlocks) -> None:
        self._plan, self._store = plan, store
        self._parts: list[Arrays] = []
        self._n = 0

    def add(self, rows: ModelRows) -> None:
        """Write all blocks that are complete."""
        if not rows.n:
            return
        self._parts.append(self._plan.arrays(rows))
        self._n += rows.n
        if self._n >= self._plan.n_rows:
            joined = self._joined()
            full = self._n - self._n % self._plan.n_rows
            for start in range(0, full, self._plan.n_rows):
                self._append(joined, slice(start, start + self._plan.n_rows))
            self._parts = [{name: array[full:].copy() for name, array in joined.items()}]
            self._n -= full

    def finish(self) -> None:
        """Write the rest."""
        if self._n:
            self._append(self._joined(), slice(None))
        self._parts, self._n = [], 0

    def _append(self, joined: Arrays, part: slice) -> None:
        self._store.append({name: array[part] for name, array in joined.items()})

    def _joined(self) -> Arrays:
        return {name: np.concatenate([p[name] for p in self._parts]) for name in self._parts[0]}


@dataclass(frozen=True)
class StoredTerm:
    """A random term of a model, and where its columns are in a file."""

    number: int  # of the term whose columns they are combinations of
    empty: RandomTermRows  # of no rows
    change: Matrix | None  # the combinations; None: the columns themselves

    def rows(self, arrays: Arrays, codes: npt.NDArray[np.intp]) -> RandomTermRows:
        """The term's rows in a block."""
        columns = arrays.get(_columns(self.number), column_of_ones(len(codes)))
        matrix = columns if self.change is None else columns @ self.change
        return replace(self.empty, codes=codes, model_matrix=matrix)


@dataclass(frozen=True)
class StoredBlocks(RowBlocks):
    """Blocks of a file as rows of a model."""

    store: ArrayBlocks
    empty: RowBlock = field(repr=False)  # a block of no rows
    T: Matrix  # from the fixed columns in the file to those of the model
    terms: tuple[StoredTerm, ...]
    factors: tuple[int, ...]  # number that each grouping factor has in the file
    response: ArrayBlocks | None = None  # another one, in the same blocks

    def __iter__(self) -> Iterator[RowBlock]:
        """Read the blocks."""
        if self.response is None:
            yield from map(self._block, self.store)
            return
        for arrays, others in zip(self.store, self.response, strict=True):
            arrays.pop("base", None)
            yield self._block({**arrays, **others})

    def _block(self, arrays: Arrays) -> RowBlock:
        codes = {group: arrays[_codes(group)].astype(np.intp) for group in self.empty.groups}
        terms = [term.rows(arrays, codes[term.empty.group]) for term in self.terms]
        by_group = [[t for t in terms if t.group == group] for group in self.empty.groups]
        pairs = {
            (i, j): PairRows(
                arrays[_pairs(self.factors[i], self.factors[j])].astype(np.intp), len(of)
            )
            for (i, j), of in self.empty.pattern.pairs.items()
        }
        return replace(
            self.empty,
            y=arrays["y"],
            weights=arrays.get("weights"),
            offset=arrays.get("offset"),
            X=arrays["X"] @ self.T,
            factors=tuple(map(FactorRows.of, by_group)),
            pairs=pairs,
            known_base=arrays.get("base"),
        )


def blocked_rows(
    plan: BlockPlan, sums: RowSums, model: StreamedModel, store: ArrayBlocks
) -> BlockedRows:
    """Rows of the model in the blocks of a file."""
    spec, crossprod = model.spec, model.crossprod
    kept = spec.kept_columns
    XtX, sizes = _complete(model, store)
    scaled, size = at_unit_length(XtX[np.ix_(kept, kept)] / sums.n)
    C = np.linalg.cholesky(scaled).T * size if len(kept) else scaled
    R = C @ plan.reduction.R(len(plan.reduction.coef))[np.ix_(kept, kept)]
    T = np.zeros((len(plan.reduction.coef), len(kept)))
    T[kept] = np.linalg.inv(C) * plan.unit if len(kept) else 0.0
    pattern = crossprod.ZtZ.pattern
    shared: dict[str, Any] = {
        "family": spec.family,
        "qr_R": R / plan.unit,
        "pattern": pattern,
        "groups": crossprod.groups,
        "term_positions": crossprod.term_positions,
        "parametrization": parametrization_of(spec),
        "bases": plan.bases,
        "n": sums.n,
        "solver": solver_of(pattern, [None] * len(crossprod.groups), crossprod.groups),
    }
    none = np.zeros(0)
    empty = RowBlock(
        **shared,
        y=none,
        weights=None,
        offset=None,
        X=np.zeros((0, len(kept))),
        factors=(),
        pairs={},
        constants=0.0,
    )
    terms = tuple(
        StoredTerm(t, _empty_term(term), None) for t, term in enumerate(spec.random_terms)
    )
    blocks = StoredBlocks(store, empty, T, terms, tuple(range(len(crossprod.groups))))
    return BlockedRows(**shared, blocks=blocks, sizes=sizes)


def _empty_term(term: RandomTermSpec) -> RandomTermRows:
    """A random term without rows."""
    none, k = np.zeros(0, dtype=np.intp), len(term.effect_names)
    return RandomTermRows(term.group, len(term.levels), none, np.zeros((0, k)))


def rows_of_submodel(rows: BlockedRows, design: Design, columns: Combinations) -> BlockedRows:
    """Rows of a smaller model in the same file: its columns are combinations of those there."""
    spec, kept, stored = design.spec, design.rows.sample, rows.blocks
    assert isinstance(stored, StoredBlocks)
    of_whole = (rows.groups, rows.term_positions, rows.bases)
    unit = predictor_unit(spec.family, kept.y)
    terms = TermChanges.of(spec, kept.random_terms, columns, of_whole, unit)
    R, T = rows.qr_R, stored.T
    if not is_identity(columns.fixed):
        A = rows.qr_R @ columns.fixed
        R = np.asarray(np.linalg.qr(A, mode="r"))
        R = R * np.where(np.diag(R) < 0.0, -1.0, 1.0)[:, None]
        T = stored.T @ solve_upper(R, A.T, transposed=True).T
    pattern = terms.pattern(rows.pattern)
    shared: dict[str, Any] = {
        "qr_R": R,
        "pattern": pattern,
        "groups": terms.groups,
        "term_positions": terms.positions,
        "parametrization": parametrization_of(spec),
        "bases": terms.bases,
        "solver": solver_of(pattern, [None] * len(terms.groups), terms.groups),
    }
    of_terms = zip(spec.random_terms, columns.terms, terms.of_terms, strict=True)
    blocks = StoredBlocks(
        stored.store,
        replace(stored.empty, **shared, X=np.zeros((0, len(R)))),
        T,
        tuple(
            StoredTerm(t, _empty_term(term), None if is_identity(M) else M)
            for term, (t, _), M in of_terms
        ),
        terms.factors,
        stored.response,
    )
    return replace(rows, **shared, blocks=blocks)


class ResponseWriter:
    """Another response of the rows of blocks, in a file of its own."""

    def __init__(self, rows: BlockedRows, in_memory: Sequence[Codes] = ()) -> None:
        self._rows, self._in_memory = rows, in_memory
        self._store = ArrayBlocks(8.0 * rows.n)
        self._sizes, self._n = np.zeros(3), 0
        self._kept: list[list[Arrays]] = [[] for _ in in_memory]
        self.low, self.high = np.inf, -np.inf  # of all values

    def add(self, y: Vector, weights: Vector | None, *, has_own_weights: bool = False) -> None:
        """The next block; a value that is missing makes the limits missing."""
        self.low = float(np.minimum(self.low, y.min()))
        self.high = float(np.maximum(self.high, y.max()))
        base, sizes = _large_densities(self._rows.family, y, weights)
        self._sizes += sizes
        own = {"y": y}
        if has_own_weights:
            own["weights"] = np.ones(len(y)) if weights is None else weights
        self._store.append({**own, **base})
        start, self._n = self._n, self._n + len(y)
        for positions, parts in zip(self._in_memory, self._kept, strict=True):
            first, end = np.searchsorted(positions, [start, self._n])
            at = positions[first:end] - start
            parts.append({name: array[at] for name, array in own.items()})

    def kept(self) -> list[Arrays]:
        """Of each of the parts of the rows that are in memory, what was written."""
        return [
            {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            for parts in self._kept
        ]

    def rows(self) -> BlockedRows:
        """The rows with this response."""
        blocks = self._rows.blocks
        assert isinstance(blocks, StoredBlocks)
        own = replace(blocks, response=self._store)
        return replace(self._rows, blocks=own, sizes=DensitySizes(*self._sizes.tolist()))


def _complete(model: StreamedModel, store: ArrayBlocks) -> tuple[Matrix, DensitySizes]:
    """
    Write the pair of levels of each row, and large log densities; their sums, and ``X'X``.

    Sums over blocks are the same to the last digit for any chunks.
    """
    pattern, codes = model.crossprod.ZtZ.pattern, list(map(_codes, model.crossprod.groups))
    XtX, sizes = np.zeros(()), np.zeros(3)
    for b in range(len(store)):
        arrays = store.block(b, ["y", "weights", "X", *codes])
        further, of_block = _large_densities(model.spec.family, arrays["y"], arrays.get("weights"))
        sizes += of_block
        for (i, j), pairs in pattern.pairs.items():
            width = pattern.layout.levels(j)
            found = pairs.positions(arrays[codes[i]], arrays[codes[j]], width)
            further[_pairs(i, j)] = found.astype(np.int32)
        XtX = XtX + arrays["X"].T @ arrays["X"]
        store.extend(b, further)
    return XtX, DensitySizes(*sizes.tolist())


def _large_densities(family: Family, y: Vector, weights: Vector | None) -> tuple[Arrays, Vector]:
    """What a block keeps of the log densities of its rows, and their sizes."""
    base = largest_densities(family, y, weights)
    with np.errstate(all="ignore"):
        constants = family.constants(y, weights).sum()
    if base is None:
        return {}, np.array([constants, 0.0, 0.0])
    return {"base": base}, np.array([constants, base.sum(), np.abs(base).sum()])


def with_response_of(rows: BlockedRows, other: BlockedRows) -> BlockedRows:
    """Rows with the response of others of the same file."""
    own, drawn = rows.blocks, other.blocks
    assert isinstance(own, StoredBlocks)
    assert isinstance(drawn, StoredBlocks)
    return replace(rows, blocks=replace(own, response=drawn.response), sizes=other.sizes)
