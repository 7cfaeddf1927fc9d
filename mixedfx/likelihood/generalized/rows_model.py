"""What the rows of a generalised model share, and the sums over them that estimation needs.

At one linear predictor ``eta = offset + X beta + Z b``, with ``g = dl/deta``, ``w = -d2l/deta2``
and ``w1 = dw/deta`` of each row, estimation by Laplace's approximation reads the rows through sums
alone: those of :class:`RowsAt`. Of rows in memory they are computed from arrays, of rows in blocks
they are added up over the blocks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.covariance.parametrization import Parametrization
from mixedfx.families.family import Family
from mixedfx.likelihood.basis import ColumnBasis
from mixedfx.likelihood.crossproducts import CHOLESKY, TermPosition
from mixedfx.linalg.cholesky.block_matrix import BlockLayout, BlockMatrix, BlockPattern
from mixedfx.linalg.cholesky.inverse_blocks import LogDetDerivatives
from mixedfx.linalg.precision import PrecisionBasis
from mixedfx.linalg.solver import Solver

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
T = TypeVar("T")


class ThroughSums(NamedTuple):
    """
    Sums of ``t = c - w As``, which the gradient has beside those of ``g``.

    ``A`` is ``Z Lambda``, ``h_i = a_i'H^-1 a_i``, ``c = w1 h`` and ``s = H^-1 A'c``.
    """

    Zt: list[Matrix]  # Z't of each factor, (K, L)
    Xt: Vector  # X'(t - 2 g), (p,)
    by_params: Vector  # -2 sum dl/dphi + sum h dw/dphi + (As)' dg/dphi, (r,)
    by_eta: Vector  # t - 2 g of rows in memory, (n,)


class WorkingSums(NamedTuple):
    """Cross-products of the working linear model, with ``r = w Zb + g``."""

    XtWX: Matrix
    Xtr: Vector
    squares: float  # sum of r^2 / w over the rows with positive weights
    ZtWX: list[Matrix]  # of each factor, (K, p, L)
    Ztr: list[Matrix]
    ZtWZ: BlockMatrix


class LogDetRows(ABC):
    """The rows beside derivatives of ``log|H|`` by ``Z'WZ``."""

    @property
    @abstractmethod
    def Ztc(self) -> list[Matrix]:
        """``Z'c`` of each factor, (K, L)."""

    @abstractmethod
    def through(self, effects: Sequence[Matrix]) -> ThroughSums:
        """Sums at ``Lambda s`` of each factor."""


class RowsAt(ABC):
    """The rows at one linear predictor, as sums over them."""

    @abstractmethod
    def total(self, function: Callable[[Any], T], *, third: bool = False) -> T:
        """Sum of a function of rows in memory, of each block of them."""

    @property
    @abstractmethod
    def value(self) -> float:
        """Sum of the log densities, relative to ``RowsModel.largest``."""

    @property
    @abstractmethod
    def value_by_level(self) -> Vector:
        """The same of each level of a single factor, (L,)."""

    @property
    @abstractmethod
    def Ztg(self) -> list[Matrix]:
        """``Z'g`` of each factor, (K, L)."""

    @property
    @abstractmethod
    def Xtg(self) -> Vector:
        """``X'g``, (p,)."""

    @property
    @abstractmethod
    def positive(self) -> bool:
        """Whether no weight is negative."""

    @abstractmethod
    def products(self, *, nonnegative: bool = False) -> BlockMatrix:
        """``Z'WZ``, perhaps at the nearest weights without negative ones."""

    @abstractmethod
    def weighted_effects(self, *, nonnegative: bool = False) -> list[Matrix]:
        """``Z'W Zb`` of each factor, (K, L)."""

    def curvature_by_level(self, *, nonnegative: bool = False) -> tuple[Vector, Vector | None]:
        """``sum z^2 w``, and ``sum z^3 w1`` where it is at hand, of a single column z, (L,)."""
        return self.products(nonnegative=nonnegative).diagonal[0][0, 0], None

    @abstractmethod
    def with_third(self) -> RowsAt:
        """The same, with third derivatives."""

    @abstractmethod
    def by_log_det(self, of_log_det: LogDetDerivatives) -> LogDetRows:
        """Sums with the derivatives of ``log|H|``; third derivatives are there."""

    @abstractmethod
    def over_nodes(self, nodes: Any, *, with_gradient: bool) -> Any:
        """Sums over the nodes of a quadrature about the modes, which the rows are at."""

    @abstractmethod
    def information(self) -> tuple[list[Matrix], Matrix]:
        """``Z'WX`` of each factor and ``X'WX``, at weights without negative ones."""

    @abstractmethod
    def working(self, least: float | None = None) -> WorkingSums:
        """Cross-products of the working linear model, at weights of at least so much."""

    @abstractmethod
    def scores_by_params(self) -> list[list[Matrix]]:
        """``Z'(dg/dphi)`` of each factor, by each coordinate of the family's parameters."""

    @property
    @abstractmethod
    def working_rows(self) -> tuple[Vector | None, Vector | None]:
        """Working response and weights of the rows; None where they are not in memory."""

    @abstractmethod
    def any_certain(self, near: float, less: float, far: float) -> bool:
        """Whether a response is certain to ``near``; to ``less`` where ``|eta|`` is above far."""


@dataclass(frozen=True, kw_only=True)
class RowsModel(ABC):
    """Family, bases and pattern of a generalised model: all that its rows share."""

    family: Family
    qr_R: Matrix = field(repr=False)  # (p, p), X_formula = X qr_R
    pattern: BlockPattern = field(repr=False)
    groups: tuple[str, ...]
    term_positions: tuple[TermPosition, ...]
    parametrization: Parametrization
    bases: tuple[ColumnBasis, ...] = field(repr=False)
    n: int  # rows of the data
    solver: Solver = CHOLESKY  # of the equations of the modes

    @property
    @abstractmethod
    def rounding(self) -> float:
        """Rounding error of a sum of log densities relative to ``largest``."""

    @property
    @abstractmethod
    def largest(self) -> float:
        """What is added to sums of log densities: constants, and sizes they are relative to."""

    @property
    def as_given(self) -> RowsModel:
        """The rows of the data, unmerged."""
        return self

    @property
    @abstractmethod
    def effect_shapes(self) -> tuple[tuple[int, int], ...]:
        """Columns K and effects of each column, of each factor."""

    @property
    def level_bases(self) -> tuple[PrecisionBasis | None, ...]:
        """Bases of the levels' effects, of which rows may have several."""
        return (None,) * len(self.groups)

    @abstractmethod
    def fixed_predictor(self, beta: Vector) -> Any:
        """``offset + X beta``, of coefficients in the basis, as :meth:`at` takes it."""

    @abstractmethod
    def at(
        self, fixed: Any, effects: Sequence[Matrix], params: Vector, *, third: bool = False
    ) -> RowsAt:
        """The rows at a fixed part, effects ``b`` of each factor and the family parameters."""

    @abstractmethod
    def given_others(self, f: int) -> RowsModel:
        """The rows with one grouping factor, the effects of the others after the coefficients."""

    def alone(self, f: int) -> BlockPattern:
        """Pattern of one grouping factor."""
        width, levels = self.effect_shapes[f]
        return BlockPattern(BlockLayout((width,), (levels,)), {})

    @property
    def p(self) -> int:
        """Number of fixed columns."""
        return len(self.qr_R)

    @cached_property
    def q(self) -> int:
        """Number of random effects."""
        return sum(K * L for K, L in self.effect_shapes)

    @property
    def zero_effects(self) -> list[Matrix]:
        """Effects of zero, (K, L) of each factor."""
        return [np.zeros(shape) for shape in self.effect_shapes]

    @cached_property
    def has_one_mode(self) -> bool:
        """Whether the effects have one mode at any parameters: log densities are concave."""
        return self.family.link.name in self.family.log_concave_links

    @cached_property
    def levels_are_apart(self) -> bool:
        """Whether the effects of each level have a likelihood of their own."""
        return len(self.groups) == 1 and self.level_bases[0] is None

    @cached_property
    def has_scalar_levels(self) -> bool:
        """Whether each level has one effect, with a likelihood of its own."""
        return self.levels_are_apart and self.effect_shapes[0][0] == 1

    def by_group(self, factors: Sequence[Matrix]) -> list[Matrix]:
        """One factor of each grouping factor: block-diagonal over its terms."""
        result = [np.zeros((K, K)) for K, _ in self.effect_shapes]
        for position, lam in zip(self.term_positions, factors, strict=True):
            result[position.group][position.columns, position.columns] = lam
        return result

    def term_blocks(self, by_group: Sequence[Matrix]) -> list[Matrix]:
        """Each term's diagonal block of one square array for each grouping factor."""
        return [by_group[s.group][s.columns, s.columns] for s in self.term_positions]
