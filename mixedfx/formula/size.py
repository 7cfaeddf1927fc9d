"""Number of terms of an expansion, from its parse tree, before it is expanded.

With ``m`` and ``k`` terms on the two sides, ``+`` and ``/`` give ``m + k``, ``:`` gives ``m k``,
``*`` gives ``m + k + m k``, and ``** d`` the products of at most ``d`` of the terms. These count
duplicates; ``c`` distinct variables have at most ``2^c - 1`` distinct terms.
"""

from __future__ import annotations

import math
from typing import Any

from mixedfx.formula.trees import fail

MAX_TERMS = 10_000


def check_number_of_terms(node: Any, text: str) -> None:
    """Raise a FormulaError where a part of a formula has more than ``MAX_TERMS`` terms."""
    count, _ = _count(node)
    if count > MAX_TERMS:
        problem = f"this is {count:,} terms, and a formula can have {MAX_TERMS:,}."
        advice = "Write '(a + b + c)**2' for main effects and interactions of two variables."
        fail(problem, text, node, advice)


def _count(node: Any) -> tuple[int, frozenset[str]]:
    """Upper bound of the number of terms of a node, and its distinct variables."""
    if node.type == "PYTHON_EXPR":
        return 1, frozenset([node.token.extra])
    if not node.args:
        return 1, frozenset()
    if node.type in ("+", "-"):
        return _count_sum(node)
    parts = [_count(arg) for arg in node.args]
    variables = frozenset().union(*(names for _, names in parts))
    left, right = parts[0][0], parts[-1][0]
    if node.type == "*":
        count = left + right + left * right
    elif node.type == ":":
        count = left * right
    elif node.type == "**":
        count = _count_power(left, node.args[1])
    else:
        count = sum(c for c, _ in parts)
    return min(count, 2 ** len(variables) - 1) if variables else count, variables


def _count_sum(node: Any) -> tuple[int, frozenset[str]]:
    """Count of a chain of sums and differences; iterative, as chains may be long."""
    count, variables = 0, set[str]()
    while node.type in ("+", "-") and len(node.args) == 2:
        of_operand, names = _count(node.args[1])
        count, variables = count + of_operand, variables | names
        node = node.args[0]
    of_operand, names = _count(node.args[-1] if node.type in ("+", "-") else node)
    return count + of_operand, frozenset(variables | names)


def _count_power(terms: int, exponent: Any) -> int:
    """Products of at most so many of the terms; patsy refuses exponents that are no integers."""
    try:
        degree = min(int(exponent.token.extra), terms)
    except (AttributeError, TypeError, ValueError):
        degree = 1
    count = 0
    for d in range(1, degree + 1):
        count += math.comb(terms, d)
        if count > 10 * MAX_TERMS**2:  # the exact number is of no use
            break
    return count
