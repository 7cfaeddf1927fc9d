"""Multiple membership: ``mm(t1, t2, weights=[w1, w2])`` as a grouping factor.

The code of the call is the factor; its name is the call without the weights.
"""

from __future__ import annotations

import ast
from functools import lru_cache

from mixedfx.errors import FormulaError

FUNCTION = "mm"


def is_membership(code: str) -> bool:
    """Whether a grouping factor is a call of ``mm()``."""
    return _call(code) is not None


def membership_name(code: str) -> str:
    """Name of a factor: of a call of ``mm()`` without its weights."""
    call = _call(code)
    if call is None:
        return code
    return f"{FUNCTION}({', '.join(ast.unparse(a) for a in call.args)})"


def check_memberships(groups: list[tuple[str, ...]], text: str, start: int, end: int) -> None:
    """Refuse ``mm()`` of fewer than two columns, of other arguments, or combined with factors."""
    for group in groups:
        for code in group:
            call = _call(code)
            if call is None:
                continue
            problem, advice = "", f"Write '(1 | {FUNCTION}(t1, t2, weights=[w1, w2]))'."
            if len(group) > 1:
                problem = f"{FUNCTION}() is a grouping factor by itself, not combined with others."
            elif len(call.args) < 2:
                problem = f"{FUNCTION}() takes two columns or more, of whose levels a row has one."
            elif any(k.arg != "weights" for k in call.keywords):
                problem = f"{FUNCTION}() takes columns and weights=."
            elif call.keywords and not _fit(call):
                problem = f"{FUNCTION}() takes a list of weights, one for each column."
            if problem:
                raise FormulaError(problem, text, start, end, advice)


def _fit(call: ast.Call) -> bool:
    weights = call.keywords[0].value
    return isinstance(weights, ast.List | ast.Tuple) and len(weights.elts) == len(call.args)


@lru_cache(maxsize=256)
def _call(code: str) -> ast.Call | None:
    """The call of ``mm()`` that some code is; None where it is another expression."""
    if not code.startswith(f"{FUNCTION}("):
        return None
    try:
        node = ast.parse(code, mode="eval").body
    except SyntaxError:
        return None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == FUNCTION:
        return node
    return None
