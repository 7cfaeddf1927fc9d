"""Coordinates of the relative covariance factors in which a likelihood is differentiated.

The random effects of term t have covariance ``sigma**2 Lambda_t Lambda_t'``. Coordinates are a
smooth map from a vector ``x``, unbounded and of full rank, to the factors; they carry
derivatives of a function by the entries of the factors back to ``x``:

    df/dx_i = sum_ab  df/dLambda[a, b]  dLambda[a, b]/dx_i
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx._cached import cached_property

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


def concatenate(parts: Iterable[Vector]) -> Vector:
    """One vector of the terms' parts, empty without terms."""
    found = list(parts)
    if len(found) < 2:
        return found[0] if found else np.zeros(0)
    return np.concatenate(found)


class TermCoordinates(Protocol):
    """Coordinates of one term's factor."""

    @property
    def size(self) -> int:
        """Number of coordinates, ``m``."""
        ...

    @property
    def is_linear(self) -> bool:
        """Whether Lambda is linear in ``x``."""
        ...

    def factor(self, x: Vector) -> Matrix:
        """Lambda at ``x``, (k, k)."""
        ...

    def jacobian(self, x: Vector) -> Array:
        """Derivatives of Lambda by ``x``, (m, k, k)."""
        ...

    def pullback(self, x: Vector, by_factor: Matrix) -> Vector:
        """Derivative by ``x`` from the derivative by the entries of Lambda, (m,)."""
        ...

    def params(self, factor: Matrix) -> Vector:
        """``x`` of a factor, (m,)."""
        ...

    def canonical(self, x: Vector) -> Vector:
        """One of the points that differ in the signs of Lambda's columns only."""
        ...

    @property
    def is_sd(self) -> npt.NDArray[np.bool_]:
        """Whether a coordinate is a standard deviation: zero is stationary for any data."""
        ...


@dataclass(frozen=True)
class EntryCoordinates:
    """Some entries of Lambda, the others being zero: linear in ``x``."""

    k: int
    rows: Ints
    cols: Ints

    @property
    def size(self) -> int:
        """Number of free entries."""
        return len(self.rows)

    @property
    def is_linear(self) -> bool:
        """Each entry is a coordinate, or zero."""
        return True

    def factor(self, x: Vector) -> Matrix:
        """Lambda with the free entries ``x``."""
        entries = np.zeros(self.k * self.k)
        entries[self._positions] = x
        return entries.reshape(self.k, self.k)

    def params(self, factor: Matrix) -> Vector:
        """Free entries of a (k, k) matrix."""
        return factor.take(self._positions)

    def pullback(self, x: Vector, by_factor: Matrix) -> Vector:
        """Free entries of the derivative."""
        return self.params(by_factor)

    def canonical(self, x: Vector) -> Vector:
        """Columns with non-negative diagonal entries."""
        lam = self.factor(x)
        return self.params(lam * np.where(np.diag(lam) < 0.0, -1.0, 1.0))

    @cached_property
    def is_sd(self) -> npt.NDArray[np.bool_]:
        """Diagonal entries."""
        diagonal: npt.NDArray[np.bool_] = self.rows == self.cols
        set_readonly(diagonal)
        return diagonal

    def without(self, fixed: list[tuple[int, int]]) -> EntryCoordinates:
        """The other entries, those in the list being zero."""
        entries = zip(self.rows.tolist(), self.cols.tolist(), strict=True)
        free = [entry not in fixed for entry in entries]
        return EntryCoordinates(self.k, self.rows[free], self.cols[free])

    def jacobian(self, x: Vector) -> Array:
        """One unit matrix for each free entry."""
        return self._unit_matrices

    @cached_property
    def _positions(self) -> Ints:
        """Of the free entries, row by row."""
        return self.rows * self.k + self.cols

    @cached_property
    def _unit_matrices(self) -> Array:
        unit = np.zeros((self.size, self.k, self.k))
        unit[np.arange(self.size), self.rows, self.cols] = 1.0
        set_readonly(unit)
        return unit


@dataclass(frozen=True)
class Coordinates:
    """Coordinates of all terms, one after the other."""

    terms: tuple[TermCoordinates, ...]

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Part of ``x`` that belongs to each term."""
        ends = itertools.accumulate((term.size for term in self.terms), initial=0)
        return tuple(slice(a, b) for a, b in itertools.pairwise(ends))

    @cached_property
    def size(self) -> int:
        """Length of ``x``."""
        return sum(term.size for term in self.terms)

    @cached_property
    def is_linear(self) -> bool:
        """Whether every term's Lambda is linear in ``x``."""
        return all(term.is_linear for term in self.terms)

    def lambdas(self, x: Vector) -> list[Matrix]:
        """Lambda of each term at ``x``."""
        return [term.factor(x[part]) for term, part in zip(self.terms, self.slices, strict=True)]

    def pullback(self, x: Vector, by_factor: Sequence[Matrix]) -> Vector:
        """Derivative by ``x`` from the derivatives by the entries of each Lambda."""
        parts = [
            term.pullback(x[part], by)
            for term, part, by in zip(self.terms, self.slices, by_factor, strict=True)
        ]
        return concatenate(parts)

    def params(self, lambdas: Sequence[Matrix]) -> Vector:
        """``x`` of each term's factor."""
        parts = [term.params(lam) for term, lam in zip(self.terms, lambdas, strict=True)]
        return concatenate(parts)

    def canonical(self, x: Vector) -> Vector:
        """One of the points that differ in the signs of the columns of the factors only."""
        parts = [
            term.canonical(x[part]) for term, part in zip(self.terms, self.slices, strict=True)
        ]
        return concatenate(parts)

    @property
    def is_sd(self) -> npt.NDArray[np.bool_]:
        """Whether a coordinate is a standard deviation: zero is stationary for any data."""
        return np.concatenate([np.zeros(0, dtype=bool), *(term.is_sd for term in self.terms)])

    def is_of_same_terms(self, other: Coordinates) -> bool:
        """Whether both are of the same objects, as those without data are shared."""
        return all(a is b for a, b in zip(self.terms, other.terms, strict=True))

    def is_map_of(self, other: Coordinates) -> bool:
        """Whether both are the same linear map."""
        if self is other:
            return self.is_linear
        if not (self.is_linear and other.is_linear and self.slices == other.slices):
            return False
        x = np.zeros(self.size)
        pairs = zip(self.jacobians(x), other.jacobians(x), strict=True)
        return all(np.array_equal(a, b) for a, b in pairs)

    def moved_effects(self, x: Vector) -> npt.NDArray[np.bool_]:
        """Whether a coordinate moves an effect at ``x``, (m, effects of all terms)."""
        return self._moved if self.is_linear else self._moved_at(x)

    @cached_property
    def _moved(self) -> npt.NDArray[np.bool_]:
        return self._moved_at(np.zeros(self.size))

    def _moved_at(self, x: Vector) -> npt.NDArray[np.bool_]:
        by_term = [(J != 0.0).any(axis=2) for J in self.jacobians(x)]
        moved = np.zeros((self.size, sum(part.shape[1] for part in by_term)), dtype=bool)
        first = 0
        for part, of_term in zip(self.slices, by_term, strict=True):
            moved[part, first : first + of_term.shape[1]] = of_term
            first += of_term.shape[1]
        return moved

    def jacobians(self, x: Vector) -> list[Array]:
        """Derivatives of each term's Lambda by its part of ``x``."""
        return [term.jacobian(x[part]) for term, part in zip(self.terms, self.slices, strict=True)]
