"""Sums, products, matrices and distributions of mathematical symbols.

A summand is a pair of its sign and its absolute value, so that a sum of estimates is set as
``2 - 0.5 x`` and not as ``2 + -0.5 x``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mixedfx.diagrams.equations.layout import Line
from mixedfx.diagrams.graph.symbols import Math

Summand = tuple[Math, Math]  # sign, absolute value

MINUS, PLUS = Math("−", "-"), Math("+", "+")
# A longer linear predictor has an equation of its own, broken into lines of this length.
MAX_LENGTH = 60
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float, digits: int) -> Math:
    """Format to significant digits; in scientific notation if very large or very small."""
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return Math(text, text)
    mantissa, exponent = text.split("e")
    if 0 < int(exponent) < 7:
        return Math(f"{value:.0f}", f"{value:.0f}")
    power = str(int(exponent))
    return Math(
        f"{mantissa}×10{power.translate(_SUPERSCRIPTS)}", rf"{mantissa} \times 10^{{{power}}}"
    )


def squared(sd: Math) -> Math:
    """Square of a standard deviation."""
    if "×" in sd.unicode:
        sd = Math(f"({sd.unicode})", f"({sd.latex})")
    return sd + Math("²", "^2")


def signed_sum(summands: Sequence[Summand], *, first: bool = True) -> Math:
    """Sum of summands; a plus before the first one is omitted, unless the sum is continued."""
    total = Math("", "")
    for k, (sign, size) in enumerate(summands):
        if k == 0 and first:
            total = size if sign == PLUS else MINUS + size
        else:
            total += (Math(" ", " ") if k else Math("", "")) + sign + " " + size
    return total if summands else Math("0", "0")


def sum_line(left: Math, summands: Sequence[Summand]) -> Line:
    """Equation of a symbol and a sum, which is broken into lines."""
    rows = [signed_sum(part, first=k == 0) for k, part in enumerate(_break_sum(summands))]
    latex = " \\\\\n&\\quad ".join(row.latex for row in rows)
    return Line(left, "=", tuple(row.unicode for row in rows), latex)


def _break_sum(summands: Sequence[Summand]) -> list[list[Summand]]:
    """Distribute summands over lines."""
    lines: list[list[Summand]] = [[]]
    for summand in summands:
        if lines[-1] and len(signed_sum([*lines[-1], summand]).unicode) > MAX_LENGTH:
            lines.append([])
        lines[-1].append(summand)
    return lines


def parenthesized_sum(summands: Sequence[Summand]) -> Math:
    """Sum in parentheses."""
    return Math("(", "(") + signed_sum(summands) + ")"


def product(factors: Iterable[Math]) -> Math:
    """Product with dots."""
    result, *others = factors
    for factor in others:
        result = result + Math("·", r" \cdot ") + factor
    return result


def diagonal_matrix(entries: Sequence[Math]) -> Math:
    """Diagonal matrix of its entries."""
    return Math("diag(", r"\operatorname{diag}(") + comma_list(entries) + ")"


def normal(mean: Math, variance: Math) -> Math:
    """Normal distribution."""
    return Math("N(", r"\mathcal{N}(") + mean + Math(", ", r",\, ") + variance + ")"


def conditional(symbol: Math, parents: Sequence[Math]) -> Math:
    """A variable, conditional on its parents."""
    return symbol + Math(" | ", r" \mid ") + comma_list(parents) if parents else symbol


def comma_list(symbols: Sequence[Math]) -> Math:
    """Symbols with commas between them."""
    result, *others = symbols
    for symbol in others:
        result = result + ", " + symbol
    return result
