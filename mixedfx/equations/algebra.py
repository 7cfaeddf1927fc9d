"""Symbols to expressions: sums, products, matrices and distributions of given pieces.

What goes in is :class:`~mixedfx.dag.Math`, what comes out is more of it. The one idea is that a
summand is a pair of its sign and its size, so that a sum of estimates reads ``2 - 0.5 x`` and not
``2 + -0.5 x``. Nothing here knows models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mixedfx.dag import Math

MINUS, PLUS = Math("−", "-"), Math("+", "+")
_HIGH = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def rounded(value: float, digits: int) -> Math:
    """
    Write a number, with an exponent only where zeros would have to be counted.

    Parameters
    ----------
    value : float
        The number.
    digits : int
        Significant digits.

    Returns
    -------
    Math
        Rounded.

    Examples
    --------
    >>> print(rounded(123456.0, 4), rounded(0.5, 4), rounded(1.5e-9, 4))
    123456 0.5 1.5×10⁻⁹
    """
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return Math(text, text)
    mantissa, exponent = text.split("e")
    if 0 < int(exponent) < 7:
        return Math(f"{value:.0f}", f"{value:.0f}")
    power = str(int(exponent))
    return Math(f"{mantissa}×10{power.translate(_HIGH)}", rf"{mantissa} \times 10^{{{power}}}")


def squared(sd: Math) -> Math:
    """
    Square a standard deviation.

    Parameters
    ----------
    sd : Math
        A symbol or a number.

    Returns
    -------
    Math
        In parentheses if it has an exponent.
    """
    if "×" in sd.unicode:
        sd = Math(f"({sd.unicode})", f"({sd.latex})")
    return sd + Math("²", "^2")


def signed_sum(summands: Sequence[tuple[Math, Math]], *, first: bool = True) -> Math:
    """
    Join summands with their signs.

    Parameters
    ----------
    summands : sequence of (Math, Math)
        Sign and size of each.
    first : bool
        Whether the first begins the sum, so that its sign is shown only if it is needed.

    Returns
    -------
    Math
        Zero if there are none.

    Examples
    --------
    >>> print(signed_sum([(MINUS, Math("2", "2")), (PLUS, Math("x", "x"))]))
    −2 + x
    """
    total = Math("", "")
    for k, (sign, size) in enumerate(summands):
        if k == 0 and first:
            total = size if sign == PLUS else MINUS + size
        else:
            total += (Math(" ", " ") if k else Math("", "")) + sign + " " + size
    return total if summands else Math("0", "0")


def bracketed(parts: Sequence[tuple[Math, Math]]) -> Math:
    """
    Put a sum in parentheses.

    Parameters
    ----------
    parts : sequence of (Math, Math)
        Sign and size of each summand.

    Returns
    -------
    Math
        The sum.
    """
    return Math("(", "(") + signed_sum(parts) + ")"


def product_of(values: Iterable[Math]) -> Math:
    """
    Join factors with dots.

    Parameters
    ----------
    values : iterable of Math
        At least one.

    Returns
    -------
    Math
        The product.
    """
    first, *rest = values
    for value in rest:
        first = first + Math("·", r" \cdot ") + value
    return first


def diagonal_matrix(entries: Sequence[Math]) -> Math:
    """
    Write a diagonal matrix.

    Parameters
    ----------
    entries : sequence of Math
        Of its diagonal.

    Returns
    -------
    Math
        By its diagonal.
    """
    return Math("diag(", r"\operatorname{diag}(") + listed(entries) + ")"


def normal(mean: Math, variance: Math) -> Math:
    """
    Write a normal distribution.

    Parameters
    ----------
    mean : Math
        Its mean.
    variance : Math
        Its variance, or covariance matrix.

    Returns
    -------
    Math
        The distribution.
    """
    return Math("N(", r"\mathcal{N}(") + mean + Math(", ", r",\, ") + variance + ")"


def conditional(symbol: Math, parents: Sequence[Math]) -> Math:
    """
    Write what a variable's distribution is given by.

    Parameters
    ----------
    symbol : Math
        The variable.
    parents : sequence of Math
        What it depends on; may be empty.

    Returns
    -------
    Math
        The symbol alone if there are no parents.
    """
    return symbol + Math(" | ", r" \mid ") + listed(parents) if parents else symbol


def listed(symbols: Sequence[Math]) -> Math:
    """
    Join symbols with commas.

    Parameters
    ----------
    symbols : sequence of Math
        At least one.

    Returns
    -------
    Math
        The list.
    """
    first, *rest = symbols
    for symbol in rest:
        first = first + ", " + symbol
    return first
