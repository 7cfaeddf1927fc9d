"""Checks of the pieces of a formula: misplaced bars, invalid Python, and R syntax."""

from __future__ import annotations

import ast
import keyword
from typing import Any

from mixedfx.formula.missing_plus import check_plus
from mixedfx.formula.trees import called_name, fail, find_node, is_dot, source_text, structure_call

# Functions of R and what to write instead; {0} stands for the argument.
_R_FUNCTIONS = {
    "ordered": "C({0}, Poly)",
    "as.numeric": "{0}",
    "as.integer": "{0}",
}


def check_no_bar(node: Any, text: str) -> None:
    """Refuse a random term below the top level of the sum."""
    bar = find_node(node, lambda n: n.type == "|" or structure_call(n, text)[1] is not None)
    if bar is not None:
        problem = "a random term can only be added at the top level of the formula."
        fail(problem, text, bar, "Write 'y ~ fixed terms + (effects | group)'.")


def check_python(node: Any, text: str) -> None:
    """Refuse invalid Python, and R syntax that means something else in Python."""
    if node.type == "PYTHON_EXPR" and not is_dot(node):
        _check_expression(node, text)
    if _is_power_of_variable(node, text):
        power = f"{node.args[0].token.extra}**{source_text(node.args[1], text)}"
        problem = "a power is that of a sum, (a + b)**2; of one variable it is the variable itself."
        fail(problem, text, node, f"Write 'I({power})' for its values to that power.")
    for arg in node.args:
        check_python(arg, text)


def _is_power_of_variable(node: Any, text: str) -> bool:
    base = node.args[0] if node.type == "**" else None
    if base is None or base.type != "PYTHON_EXPR" or is_dot(base):
        return False
    return not source_text(node, text).startswith("(")


def _check_expression(node: Any, text: str) -> None:
    code = node.token.extra
    check_plus(text, node)
    name, _, argument = code.partition("(")
    if name in _R_FUNCTIONS and argument:
        _fail_r_function(name, argument.removesuffix(")"), text, node)
    if keyword.iskeyword(code):
        fail(f"'{code}' is a word of Python.", text, node, f'Write Q("{code}") for the column.')
    try:
        tree = ast.parse(code, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        advice = "Put a column name that is no identifier in backticks: `odd name`."
        fail(f"'{code}' is not a Python expression.", text, node, advice)
    for python_node in ast.walk(tree):
        if isinstance(python_node, ast.Call):
            _check_call(python_node, text, node)
        if isinstance(python_node, ast.Compare):
            _check_comparison(python_node, text, node)


def _check_comparison(comparison: ast.Compare, text: str, node: Any) -> None:
    """Refuse ``a > 0 & b < 1``, in which Python joins ``0 & b`` first, and R last."""
    code = node.token.extra
    for side in (comparison.left, *comparison.comparators):
        joins = isinstance(side, ast.BinOp) and isinstance(side.op, ast.BitAnd | ast.BitOr)
        if joins and not code[: side.col_offset].rstrip().endswith("("):
            problem = "'&' and '|' come before comparisons in Python."
            fail(problem, text, node, "Write parentheses: '(a > 0) & (b < 1)'.")


def offset_code(node: Any) -> str | None:
    """Code of the argument of an ``offset()`` term; None for other nodes."""
    if node.type != "PYTHON_EXPR" or not node.token.extra.startswith("offset("):
        return None
    call = ast.parse(node.token.extra, mode="eval").body
    is_offset = isinstance(call, ast.Call) and called_name(call) == "offset"
    if not isinstance(call, ast.Call) or not is_offset or len(call.args) != 1 or call.keywords:
        return None
    return ast.unparse(call.args[0])


def check_offset(sign: str, operand: Any, text: str) -> None:
    """Refuse an offset that is removed, or stands inside another term."""
    if (inner := find_node(operand, lambda n: offset_code(n) is not None)) is None:
        return
    if inner is not operand:
        problem = "an offset is added to the other terms."
        fail(problem, text, inner, "Write '... + offset(x)', or pass offset= to lmer().")
    if sign == "-":
        fail("an offset cannot be removed.", text, operand, "Leave it out.")


def _check_call(call: ast.Call, text: str, node: Any) -> None:
    name = called_name(call)
    argument = ", ".join(ast.unparse(a) for a in call.args[:1])
    if name in _R_FUNCTIONS:
        _fail_r_function(name, argument, text, node)
    if name == "offset" and offset_code(node) is None:
        problem = "an offset is one expression, added to the other terms."
        fail(problem, text, node, "Write '... + offset(x)', or pass offset= to lmer().")
    if name == "log" and len(call.args) + len(call.keywords) > 1:
        base = ast.unparse((*call.args[1:], *(k.value for k in call.keywords))[0])
        advice = f"Write 'I(log({argument}) / log({base}))', log2() or log10()."
        fail("log() is the natural logarithm, of one argument.", text, node, advice)
    if name == "Q" and not (call.args and isinstance(call.args[0], ast.Constant)):
        fail("Q() quotes a column name.", text, node, 'Write Q("odd name").')


def _fail_r_function(name: str, argument: str, text: str, node: Any) -> None:
    advice = f"Write '{_R_FUNCTIONS[name].format(argument)}'."
    fail(f"'{name}()' is R; Python has no such function.", text, node, advice)
