"""A formula changed by another, in which ``.`` stands for what was there: R's ``update.formula``.

``~ . + z - x`` adds and takes away terms, random terms among them; ``log(.) ~ .`` changes the
response. What results is parsed as any other formula.
"""

from __future__ import annotations

import re
from typing import Any

from mixedfx._names import written
from mixedfx.errors import FormulaError
from mixedfx.formula.checks import offset_code
from mixedfx.formula.parser import check_is_text, one_line, parse
from mixedfx.formula.rewriting import STRING, rewrite
from mixedfx.formula.terms import Formula, RandomTerm
from mixedfx.formula.trees import (
    fail,
    fail_nested_too_deeply,
    is_dot,
    parse_tree,
    signed_operands,
    source_text,
    structure_call,
)

# A dot by itself, outside quotes.
_DOT = re.compile(rf"(?P<quoted>{STRING})|(?<![\w.)\]])\.(?![\w.])")


def update_formula(formula: Formula, change: str | Formula) -> Formula:
    """The formula with a change, such as ``"~ . + z"``."""
    if isinstance(change, Formula):
        return change
    check_is_text(change)
    rewritten = rewrite(one_line(change))
    text = rewritten.text
    try:
        tree = parse_tree(text, text)
        if tree.type != "~":
            advice = f"Write '~ . + {written(text)}' to add to the formula."
            fail("a change of a formula has a '~'.", text, tree, advice)
        left = _replaced(tree.args[0], text, formula.response) if len(tree.args) == 2 else ""
        right = _right_side(formula, tree.args[-1], text)
    except FormulaError as error:
        raise rewritten.in_source(error) from None
    except RecursionError:
        fail_nested_too_deeply(text)
    return parse(f"{left or formula.response} ~ {right}")


def _right_side(formula: Formula, node: Any, text: str) -> str:
    """Text of the right side: fixed terms, offset, random terms."""
    kept = _has_dot(source_text(node, text))
    random = list(formula.random) if kept else []
    offsets = [formula.offset] if kept and formula.offset else []
    fixed = ""
    for sign, operand in signed_operands(node):
        if is_dot(operand) and sign == "+":
            fixed += f" + {formula.fixed}"
        elif operand.type == "|" or structure_call(operand, text)[1] is not None:
            _change_random(random, sign, operand, text)
        elif (code := offset_code(operand)) is not None:
            _change_offsets(offsets, sign, code, operand, text)
        else:
            fixed += f" {sign} {_replaced(operand, text, formula.fixed)}"
    parts = [*(f"offset({code})" for code in offsets), *map(str, random)]
    return " + ".join([fixed.removeprefix(" + ") or "1", *parts])


def _change_random(random: list[RandomTerm], sign: str, operand: Any, text: str) -> None:
    """Add a random term, or take it away; ``(1 | a/b)`` is two."""
    for term in parse(f"y ~ 1 + {source_text(operand, text)}").random:
        if sign == "+":
            random.append(term)
        elif term in random:
            random.remove(term)
        else:
            terms = ", ".join(map(str, random)) or "none"
            problem = f"there is no random term {term} to take away."
            fail(problem, text, operand, f"The random terms are: {terms}.")


def _change_offsets(offsets: list[str], sign: str, code: str, operand: Any, text: str) -> None:
    if sign == "+":
        offsets.append(code)
    elif code in offsets:
        offsets.remove(code)
    else:
        found = ", ".join(offsets) or "none"
        fail("there is no such offset to take away.", text, operand, f"The offsets are: {found}.")


def _replaced(node: Any, text: str, replacement: str) -> str:
    """Text of a node, in which each dot is replaced."""
    inner = replacement if replacement.isidentifier() else f"({replacement})"
    return _DOT.sub(lambda match: match["quoted"] or inner, source_text(node, text))


def _has_dot(code: str) -> bool:
    return any(match["quoted"] is None for match in _DOT.finditer(code))
