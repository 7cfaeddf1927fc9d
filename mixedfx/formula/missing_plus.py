"""Random terms that follow another term without ``+``, which Python reads as a call.

``Days (1 | Subject)`` is a call of Days with one argument. It is taken for a random term if a space
stands before the parenthesis, or if 0 or 1 stands before the bar.
"""

from __future__ import annotations

import re
from typing import Any

from mixedfx._names import FUNCTION_NAMES
from mixedfx.formula.trees import fail, source_text, structure_call

_INTERCEPT = re.compile(r"\s*-?\s*[01]\s*(\+.*)?")


def check_plus(text: str, node: Any) -> None:
    """Refuse a term that ends in a random term without ``+`` before it."""
    code = source_text(node, text).rstrip()
    start = _last_parenthesis(code)
    inside = code[start + 1 : -1]
    if start <= 0 or "|" not in inside or _has_comma(inside):
        return
    term, effects = code[:start], inside.partition("|")[0]
    intercept = _INTERCEPT.fullmatch(effects) is not None
    spaced = term[-1].isspace() and term.strip() not in FUNCTION_NAMES
    if (intercept or spaced) and structure_call(node, text)[1] is None:
        left, bar, right = re.split(r"\s*(\|+)\s*", inside.strip(), maxsplit=1)
        advice = f"Write '{term.strip()} + ({left} {bar} {right})'."
        fail("a '+' is missing before the random term.", text, node, advice)


def _last_parenthesis(code: str) -> int:
    """Position of the parenthesis that the last character closes; -1 if there is none."""
    depth = 0
    for i in range(len(code) - 1, -1, -1) if code.endswith(")") else ():
        depth += (code[i] == ")") - (code[i] == "(")
        if depth == 0:
            return i
    return -1


def _has_comma(code: str) -> bool:
    """Whether a comma stands outside all brackets."""
    depth = 0
    for character in code:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            return True
    return False
