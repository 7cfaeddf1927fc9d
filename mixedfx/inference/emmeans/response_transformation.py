"""Inverse of the transformation that a formula makes of its response: ``np.log(y) ~ ...``.

The code is a chain of functions and of sums, products and powers with numbers, around one column.
Each step ``t = f(u)`` has an inverse ``g`` with three derivatives, and with ``h = g(f^-1)`` those
of a chain are (Faa di Bruno)

    h' = g' k',    h'' = g'' k'^2 + g' k'',    h''' = g''' k'^3 + 3 g'' k' k'' + g' k'''

of ``g`` at ``k``, the inverse of the steps outside. The code is read, never evaluated.
"""

from __future__ import annotations

import ast
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx._names import decode
from mixedfx.formula.response import response_code
from mixedfx.formula.trees import called_name

Vector = npt.NDArray[np.float64]
Derivatives = tuple[Vector, Vector, Vector, Vector]  # of an inverse: its value, then three


class Step(ABC):
    """One step ``t = f(u)`` of a transformation."""

    @abstractmethod
    def inverse(self, t: Vector) -> Derivatives:
        """``u`` and its derivatives by t."""

    def within_domain(self, low: Vector, high: Vector) -> tuple[Vector, Vector]:
        """Ends of the part of an interval of t that f takes as values."""
        return low, high


@dataclass(frozen=True)
class Affine(Step):
    """``t = a u + b``."""

    a: float
    b: float

    def inverse(self, t: Vector) -> Derivatives:
        """``(t - b) / a``."""
        zero = np.zeros_like(t)
        return (t - self.b) / self.a, np.full_like(t, 1.0 / self.a), zero, zero


@dataclass(frozen=True)
class Log(Step):
    """``t = log(u) / k``."""

    k: float = 1.0

    def inverse(self, t: Vector) -> Derivatives:
        """``exp(k t)``."""
        u = np.exp(self.k * t)
        return u, self.k * u, self.k**2 * u, self.k**3 * u


@dataclass(frozen=True)
class Exp(Step):
    """``t = exp(u)``."""

    def inverse(self, t: Vector) -> Derivatives:
        """``log(t)``."""
        return np.log(t), 1.0 / t, -1.0 / t**2, 2.0 / t**3

    def within_domain(self, low: Vector, high: Vector) -> tuple[Vector, Vector]:
        """What is positive."""
        return np.maximum(low, 0.0), high


@dataclass(frozen=True)
class Power(Step):
    """``t = u ** p``, ``u`` not negative unless ``1 / p`` is an odd number."""

    p: float

    @property
    def _is_odd(self) -> bool:
        return (1.0 / self.p) % 2.0 == 1.0

    def inverse(self, t: Vector) -> Derivatives:
        """``t ** (1 / p)``."""
        q = 1.0 / self.p
        factors = np.cumprod([1.0, q, q - 1.0, q - 2.0])
        if q == round(q):  # of negative numbers, too
            q = round(q)
        u = [c * np.power(t, q - j) if c else np.zeros_like(t) for j, c in enumerate(factors)]
        return u[0], u[1], u[2], u[3]

    def within_domain(self, low: Vector, high: Vector) -> tuple[Vector, Vector]:
        """What is not negative; of a reciprocal an interval on one side of zero."""
        if self._is_odd and self.p < 0.0:
            outside = (low <= 0.0) & (high >= 0.0)
            return np.where(outside, np.nan, low), np.where(outside, np.nan, high)
        return (low, high) if self._is_odd else (np.maximum(low, 0.0), high)


@dataclass(frozen=True)
class Arcsinh(Step):
    """``t = arcsinh(u)``."""

    def inverse(self, t: Vector) -> Derivatives:
        """``sinh(t)``."""
        sinh, cosh = np.sinh(t), np.cosh(t)
        return sinh, cosh, sinh, cosh


@dataclass(frozen=True)
class ResponseTransformation:
    """A transformation of a column, from the outermost step to the innermost; as a link."""

    code: str
    column: str
    steps: tuple[Step, ...]

    @property
    def ratio(self) -> str | None:
        """What the exponential of a difference is, times :attr:`ratio_unit`; None: nothing."""
        return "ratio" if self._log is not None else None

    @property
    def ratio_unit(self) -> float:
        """Factor of a difference that makes it one of natural logarithms of the column."""
        return 1.0 if self._log is None else self._log

    @property
    def _log(self) -> float | None:
        """Factor from the transformed values to natural logarithms; None where they are none."""
        *outer, last = self.steps
        scale = 1.0
        for step in outer:
            if not isinstance(step, Affine):
                return None
            scale /= step.a
        return scale * last.k if isinstance(last, Log) else None

    def mean(self, eta: Vector) -> Vector:
        """The column's value."""
        return self._derivatives(eta)[0]

    def mean_derivatives(self, eta: Vector) -> tuple[Vector, Vector, Vector]:
        """Its derivatives."""
        return self._derivatives(eta)[1:]

    def _derivatives(self, eta: Vector) -> Derivatives:
        value = np.asarray(eta, dtype=float)
        k1, k2, k3 = np.ones_like(value), np.zeros_like(value), np.zeros_like(value)
        with np.errstate(all="ignore"):
            for step in self.steps:
                value, g1, g2, g3 = step.inverse(value)
                k3 = g3 * k1**3 + 3.0 * g2 * k1 * k2 + g1 * k3
                k2 = g2 * k1**2 + g1 * k2
                k1 = g1 * k1
        return value, k1, k2, k3

    def within_domain(self, low: Vector, high: Vector) -> tuple[Vector, Vector]:
        """Ends of the part of an interval that the first step that is not linear can have."""
        outer: list[Affine] = []
        for step in self.steps:
            if not isinstance(step, Affine):
                break
            outer.append(step)
            low, high = (step.inverse(end)[0] for end in (low, high))
        else:
            return _restored(low, high, outer)
        flipped = np.asarray(low > high).any()
        ends = step.within_domain(*((high, low) if flipped else (low, high)))
        return _restored(*(ends[::-1] if flipped else ends), outer)


def _restored(low: Vector, high: Vector, outer: list[Affine]) -> tuple[Vector, Vector]:
    for step in reversed(outer):
        low, high = (step.a * end + step.b for end in (low, high))
    return low, high


# ---------------------------------------------------------------- reading the code

_FUNCTIONS: dict[str, tuple[Step, ...]] = {
    "I": (),
    "log": (Log(),),
    "log2": (Log(math.log(2.0)),),
    "log10": (Log(math.log(10.0)),),
    "log1p": (Log(), Affine(1.0, 1.0)),
    "exp": (Exp(),),
    "expm1": (Affine(1.0, -1.0), Exp()),
    "sqrt": (Power(0.5),),
    "cbrt": (Power(1.0 / 3.0),),
    "square": (Power(2.0),),
    "reciprocal": (Power(-1.0),),
    "arcsinh": (Arcsinh(),),
}
_MODULES = ("np", "numpy", "math")


@lru_cache(maxsize=256)
def response_transformation(response: str) -> ResponseTransformation | None:
    """Transformation in the code of a response; None where it is a column, or cannot be read."""
    code = response_code(response)
    if code.function or not code.parts:
        return None
    steps: list[Step] = []
    node: Any = ast.parse(code.parts[0].strip(), mode="eval").body
    while not _is_column(node):
        unwrapped = _unwrap(node)
        if unwrapped is None:
            return None
        own, node = unwrapped
        steps.extend(own)
    if not any(step != Affine(1.0, 0.0) for step in steps):
        return None
    column = node.id if isinstance(node, ast.Name) else ast.unparse(node)
    return ResponseTransformation(decode(code.parts[0]), decode(column), tuple(steps))


def _is_column(node: Any) -> bool:
    """Whether a node is a name, or ``Q("name")``."""
    is_quoted = isinstance(node, ast.Call) and called_name(node) == "Q"
    return isinstance(node, ast.Name) or is_quoted


def _unwrap(node: Any) -> tuple[tuple[Step, ...], Any] | None:
    """Steps of the outermost operation, and what it is of."""
    if isinstance(node, ast.Call):
        name = _function_name(node)
        if name in _FUNCTIONS and len(node.args) == 1 and not node.keywords:
            return _FUNCTIONS[name], node.args[0]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return (Affine(-1.0, 0.0),), node.operand
    if isinstance(node, ast.BinOp):
        left, right = _number(node.left), _number(node.right)
        if right is not None and left is None:
            return _wrapped(_of_number_on_the_right(node.op, right), node.left)
        if left is not None and right is None:
            return _wrapped(_of_number_on_the_left(node.op, left), node.right)
    return None


def _wrapped(steps: tuple[Step, ...] | None, inner: Any) -> tuple[tuple[Step, ...], Any] | None:
    return None if steps is None else (steps, inner)


def _function_name(call: ast.Call) -> str:
    """Name of a function, numpy's with or without its module."""
    function = call.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return function.attr if function.value.id in _MODULES else ""
    return called_name(call)


def _of_number_on_the_right(op: Any, c: float) -> tuple[Step, ...] | None:
    if isinstance(op, ast.Add | ast.Sub):
        return (Affine(1.0, c if isinstance(op, ast.Add) else -c),)
    if isinstance(op, ast.Mult | ast.Div) and c:
        return (Affine(c if isinstance(op, ast.Mult) else 1.0 / c, 0.0),)
    return (Power(c),) if isinstance(op, ast.Pow) and c else None


def _of_number_on_the_left(op: Any, c: float) -> tuple[Step, ...] | None:
    if isinstance(op, ast.Add | ast.Sub):
        return (Affine(1.0 if isinstance(op, ast.Add) else -1.0, c),)
    if isinstance(op, ast.Mult | ast.Div) and c:
        product = Affine(c, 0.0)
        return (product,) if isinstance(op, ast.Mult) else (product, Power(-1.0))
    return None


def _number(node: Any) -> float | None:
    """Number that a node is, with a sign, or a quotient of two; None for anything else."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _number(node.operand)
        return None if value is None else -value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        over, under = _number(node.left), _number(node.right)
        return over / under if over is not None and under else None
    is_number = isinstance(node, ast.Constant) and type(node.value) in (int, float)
    return float(node.value) if is_number else None
