"""What likelihoods ask of a factorised block matrix, however it is factorised.

:mod:`mixedfx.linalg.cholesky` does it exactly, :mod:`mixedfx.linalg.iterative` by iterations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from mixedfx.linalg.cholesky.block_matrix import Array, BlockMatrix, BlockPattern
from mixedfx.linalg.cholesky.elimination import EliminationOrder


class Factor(Protocol):
    """``M = Lambda' A Lambda + I`` at one set of Lambdas."""

    @property
    def symbolic(self) -> EliminationOrder:
        """Elimination order, and the columns of each factor."""
        ...

    @property
    def assembled(self) -> Any:
        """What does not depend on Lambda, with the ``diagonal`` blocks of each factor."""
        ...

    @property
    def most_columns(self) -> float:
        """Right-hand sides beyond which what asks for them should be refused."""
        ...

    @property
    def solved_by(self) -> str:
        """What solves for them, with its verb."""
        ...

    @property
    def otherwise(self) -> str:
        """What else a user can do, after a first advice."""
        ...

    @property
    def log_det(self) -> float:
        """``log|M|``."""
        ...

    def solve(self, rhs: Array) -> Array:
        """``Lambda M^-1 Lambda' rhs``, (q, m)."""
        ...

    def schur_complement(self, rhs: Sequence[Array], matrix: Array) -> EliminatedColumns:
        """``matrix - rhs' Lambda M^-1 Lambda' rhs``, for columns (K, m, L) of each factor."""
        ...


class EliminatedColumns(Protocol):
    """Columns after the elimination of all factors."""

    @property
    def numeric(self) -> Any:
        """The :class:`Factor`."""
        ...

    @property
    def matrix(self) -> Array:
        """The Schur complement, (m, m)."""
        ...

    def back_substitute(self, weights: Array) -> tuple[list[Array], list[Array]]:
        """Effects ``b = Lambda u`` and ``u = M^-1 Lambda' rhs weights``, (K, L) per factor."""
        ...

    def derivative(self, dC: Array) -> list[Array]:
        """Derivative of ``log_det + f(matrix)`` by each Lambda, given that of f by the matrix."""
        ...

    def level_covariances(self) -> list[Array]:
        """Blocks of ``Lambda M^-1 Lambda'`` of each level, (K, K, L) per factor."""
        ...


class Solver(Protocol):
    """A way to factorise block matrices."""

    @property
    def for_curvature(self) -> Solver:
        """As accurate as second derivatives need it: their relative error is what matters."""
        ...

    def symbolic(self, pattern: BlockPattern) -> EliminationOrder:
        """Elimination order of a pattern."""
        ...

    def assemble(self, block_matrix: BlockMatrix) -> Any:
        """What does not depend on Lambda, computed at the first call."""
        ...

    def factorize(self, block_matrix: BlockMatrix, lambdas: Sequence[Array]) -> Factor:
        """Factorise at given Lambdas."""
        ...
