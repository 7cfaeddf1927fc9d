"""Rows of a generalised model in blocks that are read anew for each sum over them.

A block is a model's rows in memory (:class:`RowBlock`); a sum over all rows is that of the sums of
the blocks, each at the same coefficients, effects and parameters. Memory is that of a block, of the
levels and of the pairs of levels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.errors import MixedfxError
from mixedfx.likelihood.generalized.conditional_rows import GivenOthers
from mixedfx.likelihood.generalized.evaluated_rows import EvaluatedRows
from mixedfx.likelihood.generalized.node_sums import Nodes, NodeSums, sums_of_blocks
from mixedfx.likelihood.generalized.row_arrays import RowArrays
from mixedfx.likelihood.generalized.rows_model import (
    LogDetRows,
    RowsAt,
    RowsModel,
    ThroughSums,
    WorkingSums,
)
from mixedfx.linalg.cholesky.block_matrix import BlockMatrix
from mixedfx.linalg.cholesky.inverse_blocks import LogDetDerivatives

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RowBlock(RowArrays):
    """Rows of a block, with the pattern of all rows."""

    known_base: Vector | None = field(default=None, repr=False)

    @property
    def base(self) -> Vector | None:
        """Log densities near their largest, computed once."""
        return self.known_base

    def at(
        self, fixed: Vector, effects: Sequence[Matrix], params: Vector, *, third: bool = False
    ) -> EvaluatedRows:
        """The rows at a linear predictor."""
        return EvaluatedRows.of(self, fixed, effects, params, third=third)

    def given_others(self, f: int) -> GivenOthers:
        """The rows with one grouping factor, the effects of the others after the coefficients."""
        return GivenOthers.of(self, f, self.alone(f))


class RowBlocks(Protocol):
    """Blocks of rows, read anew at each iteration."""

    @abstractmethod
    def __iter__(self) -> Iterator[RowBlock]:
        """The blocks, in the order of the rows."""


@dataclass(frozen=True)
class _GivenBlocks(RowBlocks):
    """Blocks with one grouping factor, given the effects of the others."""

    blocks: RowBlocks
    factor: int

    def __iter__(self) -> Iterator[Any]:
        """Read the blocks."""
        return (block.given_others(self.factor) for block in self.blocks)


class DensitySizes(NamedTuple):
    """Of all rows: constants of the log densities, and sizes that these are relative to."""

    constants: float
    base: float
    absolute_base: float


@dataclass(frozen=True, kw_only=True)
class BlockedRows(RowsModel):
    """Rows of a generalised model in blocks."""

    blocks: RowBlocks = field(repr=False)
    sizes: DensitySizes
    # Coefficients in the basis and family parameters from which a search starts, where known.
    start: tuple[Vector, Vector] | None = field(default=None, repr=False)

    @property
    def rounding(self) -> float:
        """Rounding error of a sum of log densities relative to ``largest``."""
        return 1e-15 * self.sizes.absolute_base

    @property
    def largest(self) -> float:
        """Constants, and the sizes that log densities are relative to."""
        return self.sizes.constants + self.sizes.base

    @property
    def effect_shapes(self) -> tuple[tuple[int, int], ...]:
        """Columns and levels of each factor."""
        layout = self.pattern.layout
        return tuple((layout.width(f), layout.levels(f)) for f in layout.factors)

    def fixed_predictor(self, beta: Vector) -> Vector:
        """The coefficients, by which each block has its predictor."""
        return beta

    def at(
        self, fixed: Vector, effects: Sequence[Matrix], params: Vector, *, third: bool = False
    ) -> BlockedAt:
        """The rows at coefficients, effects and parameters."""
        return BlockedAt(self, fixed, tuple(effects), params)

    def given_others(self, f: int) -> BlockedRows:
        """The rows with one grouping factor, the effects of the others after the coefficients."""
        return replace(self, pattern=self.alone(f), blocks=_GivenBlocks(self.blocks, f))

    def total(self, function: Callable[[RowBlock], T]) -> T:
        """Sum of a function of each block."""
        total: Any = None
        with np.errstate(all="ignore"):
            for block in self.blocks:
                of_block = function(block)
                total = of_block if total is None else _plus(total, of_block)
        found: T = total
        return found


class _StepSums(NamedTuple):
    """What a step to the modes reads of the rows."""

    value: float
    value_by_level: Vector
    Ztg: list[Matrix]
    Xtg: Vector
    products: BlockMatrix
    weighted_effects: list[Matrix]
    not_positive: int  # blocks with a negative weight


@dataclass(frozen=True)
class BlockedAt(RowsAt):
    """Rows in blocks at coefficients, effects and parameters: nothing is kept of a row."""

    rows: BlockedRows = field(repr=False)
    beta: Vector
    effects: tuple[Matrix, ...] = field(repr=False)
    params: Vector

    def total(self, function: Callable[[EvaluatedRows], T], *, third: bool = False) -> T:
        """Sum of a function of each block at its linear predictor."""

        def of_block(block: RowBlock) -> T:
            fixed = block.fixed_predictor(self.beta)
            return function(block.at(fixed, self.effects, self.params, third=third))

        return self.rows.total(of_block)

    @cached_property
    def _step(self) -> _StepSums:
        """All that a step needs, by one reading."""
        by_level = self.rows.levels_are_apart

        def sums(at: EvaluatedRows) -> _StepSums:
            return _StepSums(
                at.value,
                at.value_by_level if by_level else np.zeros(0),
                at.Ztg,
                at.Xtg,
                at.products(),
                at.weighted_effects(),
                int(not at.positive),
            )

        return self.total(sums)

    @property
    def value(self) -> float:
        """Sum of the log densities."""
        return self._step.value

    @property
    def value_by_level(self) -> Vector:
        """The same of each level of a single factor."""
        return self._step.value_by_level

    @property
    def Ztg(self) -> list[Matrix]:
        """``Z'g``."""
        return self._step.Ztg

    @property
    def Xtg(self) -> Vector:
        """``X'g``."""
        return self._step.Xtg

    @property
    def positive(self) -> bool:
        """Whether no weight is negative."""
        return not self._step.not_positive

    @cached_property
    def _nonnegative(self) -> tuple[BlockMatrix, list[Matrix]]:
        return self.total(
            lambda at: (at.products(nonnegative=True), at.weighted_effects(nonnegative=True))
        )

    def products(self, *, nonnegative: bool = False) -> BlockMatrix:
        """``Z'WZ``."""
        return self._nonnegative[0] if nonnegative else self._step.products

    def weighted_effects(self, *, nonnegative: bool = False) -> list[Matrix]:
        """``Z'W Zb``."""
        return self._nonnegative[1] if nonnegative else self._step.weighted_effects

    def with_third(self) -> BlockedAt:
        """Third derivatives are computed where they are summed."""
        return self

    def by_log_det(self, of_log_det: LogDetDerivatives) -> BlockedLogDet:
        """Sums with the derivatives of ``log|H|``."""
        return BlockedLogDet(self, of_log_det)

    def over_nodes(self, nodes: Nodes, *, with_gradient: bool) -> NodeSums:
        """Sums over the nodes of a quadrature."""
        return sums_of_blocks(self.total, nodes, with_gradient=with_gradient)

    @cached_property
    def _information(self) -> tuple[list[Matrix], Matrix]:
        return self.total(lambda at: at.information())

    def information(self) -> tuple[list[Matrix], Matrix]:
        """``Z'WX`` and ``X'WX``."""
        return self._information

    def working(self, least: float | None = None) -> WorkingSums:
        """Cross-products of the working linear model."""
        return self.total(lambda at: at.working(least))

    def scores_by_params(self) -> list[list[Matrix]]:
        """``Z'(dg/dphi)``."""
        return self.total(lambda at: at.scores_by_params()) if len(self.params) else []

    @property
    def working_rows(self) -> tuple[None, None]:
        """Not in memory."""
        return None, None

    def any_certain(self, near: float, less: float, far: float) -> bool:
        """Whether a response is as good as certain."""
        return self.total(lambda at: int(at.any_certain(near, less, far))) > 0


@dataclass(frozen=True)
class BlockedLogDet(LogDetRows):
    """Rows in blocks beside derivatives of ``log|H|``."""

    at: BlockedAt
    of_log_det: LogDetDerivatives = field(repr=False)

    @property
    def Ztc(self) -> list[Matrix]:
        """``Z'c``."""
        return self.at.total(lambda at: at.by_log_det(self.of_log_det).Ztc, third=True)

    def through(self, effects: Sequence[Matrix]) -> ThroughSums:
        """Sums at ``Lambda s``."""

        def sums(at: EvaluatedRows) -> ThroughSums:
            found = at.by_log_det(self.of_log_det).through(effects)
            return found._replace(by_eta=np.zeros(0))

        return self.at.total(sums, third=True)


def _plus(a: Any, b: Any) -> Any:
    """Sum of two values of one shape: numbers, arrays, and sequences and mappings of them."""
    if isinstance(a, BlockMatrix):
        off_diagonal = _plus(a.off_diagonal, b.off_diagonal)
        return BlockMatrix(a.pattern, _plus(a.diagonal, b.diagonal), off_diagonal)
    if isinstance(a, Mapping):
        return {key: _plus(value, b[key]) for key, value in a.items()}
    if isinstance(a, tuple | list):
        parts = [_plus(x, y) for x, y in zip(a, b, strict=True)]
        return type(a)(*parts) if hasattr(a, "_fields") else type(a)(parts)
    if not isinstance(a, int | float | np.ndarray):
        raise MixedfxError(f"no sum of {type(a).__name__}")
    return a + b
