"""Parse trees of formulas, by patsy's tokenizer and operator parser.

patsy's parser takes ``|`` as an additional operator, so that both sides of a bar accept whatever
patsy accepts, and every node has its position in the text, for the carets of error messages.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, NoReturn

from patsy import PatsyError
from patsy.infix_parser import Operator
from patsy.origin import Origin
from patsy.parse_formula import parse_formula

from mixedfx.covariance.registry import STRUCTURES
from mixedfx.errors import FormulaError

# `||` is parsed as a binary bar whose right operand is a unary bar.
_BAR_OPERATORS = [Operator("|", 2, 50), Operator("|", 1, 60)]
# Structures of glmmTMB: unless a structure of the name is registered, the message names them.
_GLMMTMB_STRUCTURES = ("rr", "hetar1", "propto")


def parse_tree(code: str, text: str) -> Any:
    """Parse ``code``, a part of the formula ``text``; every failure is a FormulaError."""
    try:
        return parse_formula(code, extra_operators=_BAR_OPERATORS)
    except PatsyError as error:
        fail_as_patsy(error, code)
    except RecursionError:
        fail_nested_too_deeply(text)
    except Exception as error:  # tokenizers raise many kinds on arbitrary text
        raise FormulaError(f"not a formula: {error}.", text, 0, len(text)) from error


def structure_call(node: Any, text: str) -> tuple[str | None, Any]:
    """
    Structure and bar node of a call such as ``us(x | g)``; ``(None, None)`` for other nodes.

    patsy takes the call for one Python expression, so its argument is parsed separately.
    """
    if node.type != "PYTHON_EXPR":
        return None, None
    name, _, argument = node.token.extra.partition("(")
    if name not in (*STRUCTURES, *_GLMMTMB_STRUCTURES) or "|" not in argument:
        return None, None
    if name not in STRUCTURES:
        names = [n for n, structure in STRUCTURES.items() if "term" in structure.sides]
        available = f"Available are: {', '.join(names)}."
        fail(f"the covariance structure '{name}' is not available.", text, node, available)
    if "term" not in STRUCTURES[name].sides:
        advice = f"Write residual='{node.token.extra}' beside the formula."
        fail(f"'{name}' is a covariance of residuals, not of a random term.", text, node, advice)
    start = text.index("(", node.token.origin.start) + 1
    code = text[start : node.token.origin.end - 1]
    start += len(code) - len(code.lstrip())
    bar = parse_tree(code.strip(), text).args[-1]
    _shift_origins(bar, text, start)
    if bar.type != "|":
        fail(f"{name}() takes one random term.", text, node, f"Write '{name}(x | group)'.")
    return name, bar


def _shift_origins(node: Any, text: str, offset: int) -> None:
    """Convert positions within a part of the text to positions within the whole."""
    for item in (node, node.token):
        if item is not None and item.origin is not None and item.origin.code != text:
            item.origin = Origin(text, item.origin.start + offset, item.origin.end + offset)
    for arg in node.args:
        _shift_origins(arg, text, offset)


def signed_operands(node: Any) -> list[tuple[str, Any]]:
    """Signs and operands of a chain of sums and differences; iterative, as chains may be long."""
    later = []
    while node.type in ("+", "-") and len(node.args) == 2:
        later.append((node.type, _without_plus(node.args[1])))
        node = node.args[0]
    return [("+", _without_plus(node)), *reversed(later)]


def _without_plus(node: Any) -> Any:
    """Operand of a unary plus, which changes nothing."""
    while node.type == "+" and len(node.args) == 1:
        node = node.args[0]
    return node


def find_node(node: Any, predicate: Callable[[Any], bool]) -> Any:
    """First node, depth first, for which the predicate holds; iterative, as chains may be long."""
    nodes = [node]
    while nodes:
        node = nodes.pop()
        if predicate(node):
            return node
        nodes.extend(reversed(node.args))
    return None


def is_dot(node: Any) -> bool:
    """Whether the node is ``.``, all other columns."""
    return bool(node.type == "PYTHON_EXPR" and node.token.extra == ".")


def in_parentheses(node: Any, text: str) -> bool:
    """Whether an operator node is enclosed in parentheses."""
    return text[node.origin.start] == "(" and node.origin.start < node.args[0].origin.start


def source_text(node: Any, text: str) -> str:
    """Text of a node as written."""
    return text[node.origin.start : node.origin.end]


def called_name(call: ast.Call) -> str:
    """Dotted name of the function that a Python expression calls."""
    try:
        return ast.unparse(call.func)
    except RecursionError:
        return ""


def fail(problem: str, text: str, node: Any, advice: str = "") -> NoReturn:
    """Raise a FormulaError at the position of a node."""
    raise FormulaError(problem, text, node.origin.start, node.origin.end, advice)


def fail_nested_too_deeply(text: str) -> NoReturn:
    """Raise a FormulaError for a tree that exceeds Python's recursion limit."""
    raise FormulaError("the formula is nested too deeply.", text, 0, len(text)) from None


def fail_as_patsy(error: PatsyError, text: str) -> NoReturn:
    """Raise patsy's error as a FormulaError, with advice for the frequent ones."""
    message = error.message.rstrip(".")
    start, end = (error.origin.start, error.origin.end) if error.origin else (0, len(text))
    advice = ""
    if "Unmatched '('" in message or "unclosed bracket" in message:
        message, advice = "'(' is never closed", "Close the random term, e.g. '(1 | group)'."
    elif "expected an operator" in message:
        advice = "Write '+' between terms."
    elif "expected a noun" in message:
        message = "a term is missing here"
    elif "besides '0' and '1'" in message:
        advice = "Only 0 and 1 may stand as numbers, for the intercept."
    raise FormulaError(f"{message}.", text, start, end, advice) from None
