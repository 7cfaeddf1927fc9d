"""Partial derivatives of log densities by several variables, composed by their calculus rules.

A row's log density is a function of its linear predictors ``eta_1 ... eta_m`` and of the logarithms
of parameters. :class:`Partials` holds a function's value with its partial derivatives by these;
sums, products (Leibniz) and compositions (Faa di Bruno; Constantine and Savits 1996, Trans. Am.
Math. Soc. 348:503) of such functions have theirs exactly. Derivatives that are zero are not held.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy import special

from mixedfx.families.derivatives import Array

# Sorted numbers of the variables by which a function is differentiated: (0, 0, 1).
Index = tuple[int, ...]
Value = Array | float


@dataclass(frozen=True)
class Variables:
    """
    Variables, predictors first, and the derivatives by them that are wanted.

    Those by predictors go to ``order``; those by one parameter, and up to two predictors, are
    wanted if there are ``n_params``.
    """

    n_predictors: int
    order: int
    n_params: int = 0

    def keeps(self, index: Index) -> bool:
        """Whether a derivative is wanted."""
        of_params = sum(i >= self.n_predictors for i in index)
        return len(index) <= (3 if of_params else self.order) and of_params <= 1

    def variable(self, i: int, value: Array) -> Partials:
        """A variable as a function of itself."""
        return Partials(self, {(): value, (i,): 1.0})

    def constant(self, value: Value) -> Partials:
        """A function that does not vary."""
        return Partials(self, {(): value})

    def log_params(self, params: Array) -> list[Partials]:
        """Logarithms of the parameters."""
        return self.coordinates(np.log(params))

    def coordinates(self, values: Array) -> list[Partials]:
        """Coordinates of parameters: variables where derivatives by them are wanted."""
        if not self.n_params:
            return [self.constant(value) for value in values]
        return [self.variable(self.n_predictors + j, value) for j, value in enumerate(values)]


@dataclass(frozen=True)
class Partials:
    """A function of the variables in each row: its value, at the empty index, and derivatives."""

    variables: Variables
    parts: Mapping[Index, Value]

    # An array times a function is the function's product, not an array of products.
    __array_ufunc__: ClassVar[None] = None

    @property
    def value(self) -> Value:
        """Value of the function."""
        return self.parts[()]

    def __add__(self, other: Partials | Value) -> Partials:
        """Sum."""
        theirs = other.parts if isinstance(other, Partials) else {(): other}
        parts = dict(self.parts)
        for index, part in theirs.items():
            parts[index] = parts[index] + part if index in parts else part
        return Partials(self.variables, parts)

    __radd__ = __add__

    def __neg__(self) -> Partials:
        """Negative."""
        return Partials(self.variables, {index: -part for index, part in self.parts.items()})

    def __sub__(self, other: Partials | Value) -> Partials:
        """Difference."""
        return self + (-other)

    def __rsub__(self, other: Value) -> Partials:
        """Difference from a value."""
        return -self + other

    def __mul__(self, other: Partials | Value) -> Partials:
        """Product."""
        if not isinstance(other, Partials):
            return Partials(self.variables, {i: part * other for i, part in self.parts.items()})
        parts: dict[Index, Value] = {}
        for first, a in self.parts.items():
            for second, b in other.parts.items():
                index, ways = _merged(first, second)
                if not self.variables.keeps(index):
                    continue
                part = a * b if ways == 1 else ways * (a * b)
                parts[index] = parts[index] + part if index in parts else part
        return Partials(self.variables, parts)

    __rmul__ = __mul__

    def compose(self, value: Value, first: Value, second: Value, third: Value | None) -> Partials:
        """``f`` of this function, given f and its derivatives at its value."""
        parts: dict[Index, Value] = {(): value}
        u = self.parts
        for index in _indices(self.variables, tuple(sorted({i for k in u for i in k}))):
            terms = [first * u[index]] if index in u else []
            if len(index) == 2 and all((i,) in u for i in index):
                terms.append(second * (u[index[:1]] * u[index[1:]]))
            if len(index) == 3:
                terms += [
                    second * (u[(i,)] * u[pair])
                    for i, pair in _splits(index)
                    if (i,) in u and pair in u
                ]
                if third is not None and all((i,) in u for i in index):
                    terms.append(third * (u[index[:1]] * u[index[1:2]] * u[index[2:]]))
            if terms:
                parts[index] = sum(terms[1:], terms[0])
        return Partials(self.variables, parts)

    def tensor(self, order: int, n: tuple[int, ...], by: Index = ()) -> Array:
        """
        Derivatives of an order by the predictors, with the shape n after its m of each order.

        ``by`` is the number of a further variable by which the function is differentiated.
        """
        m = self.variables.n_predictors
        out = np.zeros((m,) * order + n)
        for index in np.ndindex(*(m,) * order):
            part = self.parts.get((*sorted(index), *by))
            if part is not None:
                out[index] = part
        return out

    def by_param(self, j: int, order: int, n: tuple[int, ...]) -> Array:
        """The same of the derivative by the j-th parameter."""
        return self.tensor(order, n, (self.variables.n_predictors + j,))


def of_rows(parts: Partials, rows: npt.NDArray[np.intp]) -> Partials:
    """Some of the rows."""
    taken = {
        index: part[..., rows] if isinstance(part, np.ndarray) and part.ndim else part
        for index, part in parts.parts.items()
    }
    return Partials(parts.variables, taken)


@lru_cache(maxsize=4096)
def _merged(first: Index, second: Index) -> tuple[Index, int]:
    """Index of a product's derivative, and how often the pair is a term of it."""
    index = tuple(sorted(first + second))
    ways = math.prod(math.comb(index.count(i), first.count(i)) for i in set(first))
    return index, ways


@lru_cache(maxsize=256)
def _indices(variables: Variables, present: Sequence[int]) -> tuple[Index, ...]:
    """Wanted derivatives by some of the variables."""
    return tuple(
        index
        for order in (1, 2, 3)
        for index in combinations_with_replacement(present, order)
        if variables.keeps(index)
    )


@lru_cache(maxsize=4096)
def _splits(index: Index) -> tuple[tuple[int, Index], ...]:
    """Each of three variables, and the two others."""
    a, b, c = index
    return (a, (b, c)), (b, (a, c)), (c, (a, b))


def exp(u: Partials) -> Partials:
    """Exponential."""
    e = np.exp(u.value)
    return u.compose(e, e, e, e)


def log(u: Partials) -> Partials:
    """Logarithm."""
    v = 1.0 / u.value
    return u.compose(np.log(u.value), v, -v * v, 2.0 * v * v * v)


def log1p(u: Partials) -> Partials:
    """``log(1 + u)``."""
    v = 1.0 / (1.0 + u.value)
    return u.compose(np.log1p(u.value), v, -v * v, 2.0 * v * v * v)


def softplus(u: Partials) -> Partials:
    """``log(1 + exp(u))``."""
    p = special.expit(u.value)
    q = special.expit(-u.value)
    slope = p * q
    return u.compose(np.logaddexp(0.0, u.value), p, slope, slope * (q - p))
