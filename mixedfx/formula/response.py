"""Responses written as successes of trials: ``cbind(k, n - k)`` and ``prop(k, n)``.

They stand on the left side of a formula only, and each of their two arguments is an expression by
itself, evaluated as a column of its own.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import Any, NamedTuple

from mixedfx.formula.trees import called_name, fail, find_node, is_dot, source_text

# What the two arguments are, and what is written.
_ARGUMENTS = {
    "cbind": ("successes and failures", "cbind(k, n - k)"),
    "prop": ("successes and trials", "prop(k, n)"),
}


class ResponseCode(NamedTuple):
    """Function that a response is written with, empty without one, and its expressions."""

    function: str
    parts: tuple[str, ...]


@lru_cache(maxsize=256)
def response_code(code: str) -> ResponseCode:
    """Read the code of a response; that of a dispersion formula is empty."""
    if not code:
        return ResponseCode("", ())
    call = ast.parse(code.strip(), mode="eval").body
    if isinstance(call, ast.Call) and called_name(call) in _ARGUMENTS:
        return ResponseCode(called_name(call), tuple(map(ast.unparse, call.args)))
    return ResponseCode("", (code,))


def response_text(node: Any, text: str) -> str:
    """Code of the response, which is a single Python expression."""
    if inner := find_node(node, _calls_function):
        _check_call(inner, text, is_whole=inner is node)
    if node.type != "PYTHON_EXPR" or is_dot(node):
        problem = "the response must be one column or expression."
        fail(problem, text, node, _advice_on_operators(node, text))
    return str(node.token.extra)


def check_predictors(right: Any, text: str) -> None:
    """Refuse ``cbind()`` and ``prop()`` on the right side of a formula."""
    if node := find_node(right, _calls_function):
        name = _function_in(node.token.extra)
        problem = f"{name}() is a response: it stands on the left side only."
        advice = f"Write '{_ARGUMENTS[name][1]} ~ ...' for mfx.glmer(); predictors are added, "
        fail(problem, text, node, advice + "'a + b'.")


def _advice_on_operators(node: Any, text: str) -> str:
    if node.type != "/" or len(node.args) != 2:
        return "For a sum of columns write 'I(a + b) ~ ...'."
    a, b = (source_text(arg, text).strip() for arg in node.args)
    return f"Write 'prop({a}, {b}) ~ ...' for successes of trials, else 'I({a} / {b}) ~ ...'."


def _check_call(node: Any, text: str, *, is_whole: bool) -> None:
    """Refuse one of these functions inside another expression, or with other arguments."""
    name = _function_in(node.token.extra)
    arguments, example = _ARGUMENTS[name]
    call = ast.parse(node.token.extra.strip(), mode="eval").body
    if not (is_whole and isinstance(call, ast.Call) and called_name(call) == name) or any(
        _function_in(ast.unparse(argument)) for argument in call.args
    ):
        problem = f"{name}() is the whole response, not a part of it."
        fail(problem, text, node, f"Write '{example} ~ ...'.")
    starred = any(isinstance(a, ast.Starred) for a in call.args)
    if len(call.args) != 2 or call.keywords or starred:
        fail(f"{name}() takes two columns, {arguments}.", text, node, f"Write '{example} ~ ...'.")


def _calls_function(node: Any) -> bool:
    return node.type == "PYTHON_EXPR" and bool(_function_in(node.token.extra))


def _function_in(code: str) -> str:
    """First of these functions that some code calls; empty without one."""
    if not any(name in code for name in _ARGUMENTS):
        return ""
    try:
        tree = ast.parse(code.strip(), mode="eval")
    except SyntaxError:  # a random term with a structure: diag(x:prop | g)
        return ""
    calls = (n for n in ast.walk(tree) if isinstance(n, ast.Call))
    return next((n for n in map(called_name, calls) if n in _ARGUMENTS), "")
