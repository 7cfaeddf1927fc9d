"""Symbols to expressions: sums, products, matrices and distributions of given pieces.

What goes in is :class:`~mixedfx.diagrams.graph.Math`, what comes out is more of it. The one idea
is that a
summand is a pair of its sign and its size, so that a sum of estimates reads ``2 - 0.5 x`` and not
``2 + -0.5 x``. Nothing here knows models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mixedfx.diagrams.graph.symbols import Math

MINUS, PLUS = Math("−", "-"), Math("+", "+")
_HIGH = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def rounded(value: float, digits: int) -> Math:
    """Write a number, with an exponent only where zeros would have to be counted."""
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return Math(text, text)
    mantissa, exponent = text.split("e")
    if 0 < int(exponent) < 7:
        return Math(f"{value:.0f}", f"{value:.0f}")
    power = str(int(exponent))
    return Math(f"{mantissa}×10{power.translate(_HIGH)}", rf"{mantissa} \times 10^{{{power}}}")


def squared(sd: Math) -> Math:
    """Square a standard deviation."""
    if "×" in sd.unicode:
        sd = Math(f"({sd.unicode})", f"({sd.latex})")
    return sd + Math("²", "^2")


def signed_sum(summands: Sequence[tuple[Math, Math]], *, first: bool = True) -> Math:
    """Join summands with their signs."""
    total = Math("", "")
    for k, (sign, size) in enumerate(summands):
        if k == 0 and first:
            total = size if sign == PLUS else MINUS + size
        else:
            total += (Math(" ", " ") if k else Math("", "")) + sign + " " + size
    return total if summands else Math("0", "0")


def bracketed(parts: Sequence[tuple[Math, Math]]) -> Math:
    """Put a sum in parentheses."""
    return Math("(", "(") + signed_sum(parts) + ")"


def product_of(values: Iterable[Math]) -> Math:
    """Join factors with dots."""
    first, *rest = values
    for value in rest:
        first = first + Math("·", r" \cdot ") + value
    return first


def diagonal_matrix(entries: Sequence[Math]) -> Math:
    """Write a diagonal matrix."""
    return Math("diag(", r"\operatorname{diag}(") + listed(entries) + ")"


def normal(mean: Math, variance: Math) -> Math:
    """Write a normal distribution."""
    return Math("N(", r"\mathcal{N}(") + mean + Math(", ", r",\, ") + variance + ")"


def conditional(symbol: Math, parents: Sequence[Math]) -> Math:
    """Write what a variable's distribution is given by."""
    return symbol + Math(" | ", r" \mid ") + listed(parents) if parents else symbol


def listed(symbols: Sequence[Math]) -> Math:
    """Join symbols with commas."""
    first, *rest = symbols
    for symbol in rest:
        first = first + ", " + symbol
    return first
