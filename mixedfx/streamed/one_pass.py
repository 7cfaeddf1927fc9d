"""One pass over rows whose levels are known beforehand, or seem to be.

The bases of the columns, and the coefficients that sums are about, are those of a first portion of
the rows. What follows from the sums are the cross-products about the coefficients of all rows, by
an exact change of variables, as after two passes. The rows are read again where a chunk has what
the portion does not show, and where the portion was so unlike the other rows that digits would be
lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._names import decode
from mixedfx._warnings import without_warnings
from mixedfx.design.rows import ModelRows
from mixedfx.design.spec import ModelSpec
from mixedfx.design.stream.chunk_rows import ChunkDesign
from mixedfx.design.stream.learning import (
    HEAD_ROWS,
    FirstPass,
    Learned,
    learn,
    learned_of,
    merged,
    specified,
)
from mixedfx.design.stream.request import ColumnRequest, CompleteRows, complete_rows
from mixedfx.errors import DataError
from mixedfx.likelihood.recentred import smallest_eigenvalue
from mixedfx.likelihood.stream.assembly import level_numbers, plan_reduction
from mixedfx.likelihood.stream.sums import (
    ChunkColumns,
    ReductionPlan,
    RowSums,
    combine,
    of_observed_levels,
    reduce_rows,
)
from mixedfx.linalg.blas_threads import single_threaded_blas
from mixedfx.sources.reading import numbered, read_chunks
from mixedfx.sources.source import TEXTS, DataSource, PartitionedSource, naming_origin
from mixedfx.streamed.known_levels import Group, KnownLevels, is_integer, known_levels
from mixedfx.streamed.reduction import Summation

Matrix = npt.NDArray[np.float64]

Reduced = tuple[ReductionPlan, RowSums]

# Rows of the portion, at least: as many as a first pass keeps.
PORTION = 10_000
# Size of sums by level, up to which it does not matter that most levels may be without rows.
_BYTES_OF_NUMBER, _MOST_WASTED = 8, 1 << 26
# Squared residuals about the portion's coefficients, relative to those about those of all rows, and
# smallest eigenvalue of columns of unit length, up to which at least ten digits are left.
_MOST_RESIDUALS, _LEAST_EIGENVALUE = 1e4, 1e-5


@single_threaded_blas(0)  # as the second pass
def read_once(source: DataSource, request: ColumnRequest) -> tuple[Learned, Reduced | None]:
    """What a first pass learns, and the sums where these were made in it."""
    if request.dispersion is not None:
        return learn(source, request), None
    if isinstance(source, PartitionedSource):
        return _read_partitions(source, request)
    first = FirstPass(request)
    with _Portion(request, source) as portion:
        for frame in read_chunks(source, request.names, "rows", request.coded):
            with naming_origin(frame):
                found = first.add(frame)
            portion.add(frame, found)
        learned = learned_of(first, source)
        return learned, portion.finished(learned)


@dataclass(frozen=True)
class PortionPlan:
    """Plan from a portion of the rows, and the types of the columns whose values are known."""

    plan: ReductionPlan
    dtypes: Mapping[str, Any]

    @staticmethod
    def of(
        request: ColumnRequest,
        frames: Sequence[pd.DataFrame],
        source: DataSource,
        seen: Sequence[CompleteRows] = (),
        *,
        is_all: bool = False,
    ) -> PortionPlan | None:
        """None where levels are not known, or a transform has a state."""
        levels = known_levels(source, request, frames, seen, is_all=is_all)
        if levels is None:
            return None
        grouping = {decode(group[0]) for group, own in levels.items() if own.are_certain}
        texts = frames[0].attrs.get(TEXTS, ())
        dtypes = {
            str(name): dtype
            for name, dtype in frames[0].dtypes.items()
            if name not in texts and (isinstance(dtype, pd.CategoricalDtype) or name in grouping)
        }
        portion, left = FirstPass(request), PORTION
        try:
            for frame in frames:
                portion.add(frame.iloc[:left])
                left -= len(frame)
            for group, collector in portion.levels.items():
                collector.add(levels[group].values)
            with without_warnings():
                learned = specified(portion, _Unread())
                if _are_wasteful(learned.spec, levels):
                    return None
                plan = plan_reduction(learned)
        except DataError:  # of the portion: the other rows and passes may be in order
            return None
        return PortionPlan(plan, dtypes)

    def rows(
        self, frame: pd.DataFrame, found: CompleteRows
    ) -> tuple[ModelRows, CompleteRows] | None:
        """Rows of a chunk; None where it has what the portion does not have."""
        if not all(_same_type(frame[name].dtype, dtype) for name, dtype in self.dtypes.items()):
            return None
        try:
            return self.plan.design.rows(frame, found)
        except DataError:
            return None

    def reduce(self, frame: pd.DataFrame, found: CompleteRows) -> RowSums | None:
        """Sums of a chunk."""
        rows = self.rows(frame, found)
        return None if rows is None else reduce_rows(ChunkColumns(*rows, self.plan))

    def finished(self, learned: Learned, sums: RowSums) -> Reduced | None:
        """Plan and sums of the levels that have rows; None where the rows are to be read again."""
        spec, own = learned.spec, self.plan.design.spec
        independent = learned.sample.spec.kept_columns
        if learned.n_passes > 1 or not np.array_equal(self.plan.in_basis, independent):
            return None
        if not _same_columns(spec, own) or _loses_digits(self.plan, sums):
            return None
        for group, counts in zip(spec.ngroups, sums.counts, strict=True):
            observed = own.levels_of(group).take(np.flatnonzero(counts))
            if not observed.labels.equals(spec.levels_of(group).labels):
                return None
        design = ChunkDesign(learned.request, spec, learned.response_info, learned.strata)
        return replace(self.plan, design=design), of_observed_levels(sums)


def _are_wasteful(spec: ModelSpec, levels: Mapping[Group, KnownLevels]) -> bool:
    """Whether levels without rows, of which there may be many, take much memory."""
    if all(own.are_dense for own in levels.values()):
        return False
    return _BYTES_OF_NUMBER * level_numbers(spec) > _MOST_WASTED


def _same_type(own: Any, known: Any) -> bool:
    """Whether a column has categories, or plain integers, as that of the portion."""
    if isinstance(known, pd.CategoricalDtype):
        return isinstance(own, pd.CategoricalDtype)
    return is_integer(own)


class _Portion:
    """Chunks until they are enough for a plan, and the sums of all by this plan."""

    def __init__(self, request: ColumnRequest, source: DataSource) -> None:
        self._plan: PortionPlan | None = None
        self._request, self._source = request, source
        # None: the rows are not summed
        self._waiting: list[tuple[pd.DataFrame, CompleteRows]] | None = []
        self._summation: Summation | None = None

    def __enter__(self) -> _Portion:
        """Without threads until there is a plan."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads."""
        self._give_up()

    def _give_up(self) -> None:
        self._waiting = self._plan = None
        if self._summation is not None:
            self._summation.__exit__()

    def add(self, frame: pd.DataFrame, found: CompleteRows) -> None:
        """Sum a chunk, or keep it for the plan."""
        if self._waiting is None:
            return
        self._waiting.append((frame, found))
        if self._plan is not None or sum(len(f) for f, _ in self._waiting) >= PORTION:
            self._sum()

    def _sum(self, *, is_all: bool = False) -> None:
        """Sum the chunks that are waiting, which may be all."""
        assert self._waiting is not None
        if self._plan is None:
            frames, seen = zip(*self._waiting, strict=True)
            self._plan = PortionPlan.of(self._request, frames, self._source, seen, is_all=is_all)
        if self._plan is None:
            self._give_up()
            return
        if self._summation is None:
            self._summation = Summation(self._plan.plan)
        for frame, found in self._waiting:
            rows = self._plan.rows(frame, found)
            if rows is None:
                self._give_up()
                return
            self._summation.add(*rows)
        self._waiting = []

    def finished(self, learned: Learned) -> Reduced | None:
        """Plan and sums of all chunks; None where the rows are to be read again."""
        if self._waiting:  # all rows are fewer than a portion
            self._sum(is_all=True)
        if self._plan is None or self._summation is None:
            return None
        return self._plan.finished(learned, self._summation.total())


@dataclass(frozen=True)
class _Unread:
    """Stands for a source whose rows are not read again."""

    columns: ClassVar[tuple[str, ...]] = ()
    in_memory: ClassVar[bool] = False

    def chunks(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Transforms that have a state take a pass of their own."""
        raise DataError("transforms take a pass of their own.")


def _read_partitions(
    source: PartitionedSource, request: ColumnRequest
) -> tuple[Learned, Reduced | None]:
    """The same, the partitions being reduced where they are."""
    frames: list[pd.DataFrame] = []
    for frame in numbered(source.chunks(request.names)):
        frames.append(frame)
        if sum(map(len, frames)) >= PORTION:
            break
    seen = [complete_rows(request, frame, {}) for frame in frames]
    plan = PortionPlan.of(request, frames, source, seen) if frames else None
    if plan is None:
        return learn(source, request), None
    collect = partial(_collected, request=request, head=frames[0].iloc[:HEAD_ROWS], plan=plan)
    first, sums = source.reduce(request.names, collect, _merged)
    learned = learned_of(first, source)
    return learned, None if sums is None else plan.finished(learned, sums)


Part = tuple[FirstPass, RowSums | None]


def _collected(frame: pd.DataFrame, request: ColumnRequest, head: Any, plan: PortionPlan) -> Part:
    first = FirstPass(request, head)
    found = first.add(frame)
    return first, plan.reduce(frame, found)


def _merged(a: Part, b: Part) -> Part:
    sums = None if a[1] is None or b[1] is None else combine(a[1], b[1])
    return merged(a[0], b[0]), sums


def _same_columns(a: ModelSpec, b: ModelSpec) -> bool:
    """Whether the matrices of two specifications have the same columns."""
    if a.column_names != b.column_names or a.categories.keys() != b.categories.keys():
        return False
    effects = [[term.effect_names for term in spec.random_terms] for spec in (a, b)]
    return effects[0] == effects[1] and all(
        known.equals(b.categories[name][0]) for name, (known, _) in a.categories.items()
    )


def _loses_digits(plan: ReductionPlan, sums: RowSums) -> bool:
    """Whether the sums are those of differences that are small beside their terms."""
    p, spec = len(plan.coef), plan.design.spec
    blocks = [sums.XytXy[np.ix_(plan.in_basis, plan.in_basis)]]
    for group, ZtZ in zip(spec.ngroups, sums.ZtZ, strict=True):
        widths = [len(spec.random_terms[t].effect_names) for t in spec.terms_of(group)]
        total, ends = ZtZ.sum(axis=2), np.cumsum(widths)
        blocks += [total[end - k : end, end - k : end] for k, end in zip(widths, ends, strict=True)]
    if any(len(A) and smallest_eigenvalue(A) < _LEAST_EIGENVALUE for A in blocks):
        return True
    Xr, squares = sums.XytXy[:p, p], float(sums.XytXy[p, p])
    explained = float(Xr @ np.linalg.pinv(sums.XytXy[:p, :p], hermitian=True) @ Xr)
    return not squares <= _MOST_RESIDUALS * (squares - explained)
