"""Expansion of formula text into patsy terms: ``*``, ``/``, ``**``, the intercept and ``.``.

The intercept follows patsy's rules: implied unless removed by ``0`` or ``- 1``; the last of
several such operands counts.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from patsy import PatsyError, Term
from patsy.desc import INTERCEPT, Evaluator
from patsy.infix_parser import ParseNode, Token

from mixedfx._names import decode, encode
from mixedfx.errors import FormulaError
from mixedfx.formula.response import response_code
from mixedfx.formula.rewriting import STRING
from mixedfx.formula.size import check_number_of_terms
from mixedfx.formula.terms import Formula
from mixedfx.formula.trees import (
    fail,
    fail_as_patsy,
    find_node,
    is_dot,
    parse_tree,
    signed_operands,
    source_text,
)

_DOTTED = re.compile(r"[^\W\d]\w*(?:\.\w+)+")


def terms_of(text: str) -> list[Term]:
    """Expand one side of a formula, without random terms, into patsy terms."""
    return list(_terms_of(text))


@lru_cache(maxsize=256)
def _terms_of(text: str) -> tuple[Term, ...]:
    return tuple(expand(signed_operands(parse_tree("~ " + text, text).args[0]), text))


def names_in(code: str) -> set[str]:
    """Identifiers that a Python expression reads: columns (encoded), variables and functions."""
    names: set[str] = set()
    own: set[str] = set()  # of comprehensions and lambdas
    for node in ast.walk(ast.parse(code.strip(), mode="eval")):
        if isinstance(node, ast.Name):
            (names if isinstance(node.ctx, ast.Load) else own).add(node.id)
        elif isinstance(node, ast.arg):
            own.add(node.arg)
    return names - own


def columns_in(code: str, columns: Collection[str]) -> set[str]:
    """Those of some columns, by their names in the data, that a Python expression reads."""
    return {name for name in map(decode, names_in(code)) if name in columns}


def expand(operands: list[tuple[str, Any]], text: str) -> list[Term]:
    """Expand a signed sum into distinct terms, the intercept first."""
    terms: dict[Term, None] = {}
    intercept: bool | None = None  # None until one is written or removed
    for i, (sign, node) in enumerate(operands):
        if node.type in ("ZERO", "ONE"):
            intercept = (node.type == "ONE") == (sign == "+")
            continue
        expanded = _evaluate(node, text)
        if sign == "+":
            terms.update(dict.fromkeys(expanded.terms))
            intercept = True if expanded.intercept else intercept
        else:
            for term in expanded.terms:
                terms.pop(term, None)
            intercept = False if expanded.intercept else intercept
        if expanded.intercept_removed and (i == 0 or (node.type == "-" and len(node.args) == 1)):
            intercept = sign == "-"
    return [*([] if intercept is False else [INTERCEPT]), *terms]


def _evaluate(node: Any, text: str) -> Any:
    """Expand ``*``, ``/`` and ``**`` by patsy's evaluator."""
    if tilde := find_node(node, lambda n: n.type == "~"):
        fail("'~' can stand only once.", text, tilde, "Write 'response ~ terms'.")
    check_number_of_terms(node, text)
    try:
        return Evaluator().eval(node, require_evalexpr=False)
    except PatsyError as error:
        fail_as_patsy(error, text)


def terms_text(terms: list[Term]) -> str:
    """Write terms as patsy text, the intercept implied where another term follows."""
    names = [t.name() for t in terms if t.factors]
    has_intercept = any(not t.factors for t in terms)
    if not names:
        return "1" if has_intercept else "0"
    return " + ".join(names if has_intercept else ["0", *names])


def fixed_text(operands: list[tuple[str, Any]], text: str) -> str:
    """Write the fixed part expanded; as in the source where it contains ``.``."""
    if not operands:
        return "1"
    if not any(find_node(node, is_dot) for _, node in operands):
        return terms_text(expand(operands, text))
    signed = [f" {sign} {source_text(node, text)}" for sign, node in operands]
    return "".join(signed).removeprefix(" + ").strip()


def resolve_dotted(formula: Formula, columns: Collection[str]) -> Formula:
    """Take ``my.var`` for the column of that name, if there is one, not for an attribute."""
    if "." not in formula.source:
        return formula
    dotted = sorted((c for c in columns if _DOTTED.fullmatch(c)), key=len, reverse=True)
    if not dotted:
        return formula
    name = "|".join(map(re.escape, dotted))
    pattern = re.compile(rf"{STRING}|(?<![\w.])(?P<name>{name})(?![\w(])")

    def resolved(code: str) -> str:
        return pattern.sub(lambda m: encode(m[0]) if m["name"] else m[0], code)

    return replace(
        formula,
        response=resolved(formula.response),
        fixed=resolved(formula.fixed),
        random=tuple(
            replace(t, effects=resolved(t.effects), group=tuple(map(resolved, t.group)))
            for t in formula.random
        ),
        offset=resolved(formula.offset),
    )


def of_columns(formula: Formula, columns: Sequence[str]) -> Formula:
    """A formula for data of these columns: dotted names are columns, and ``.`` the others."""
    return expand_dot(resolve_dotted(formula, columns), list(columns))


def expand_dot(formula: Formula, columns: list[str]) -> Formula:
    """Replace ``.`` in the fixed part by all columns but the response and the grouping factors."""
    text = formula.fixed
    if not _has_dot(text, formula.source):
        return formula
    tree = parse_tree("~ " + text, formula.source).args[0]
    used = set().union(*map(names_in, response_code(formula.response).parts))
    for term in formula.random:
        used |= set().union(*map(names_in, term.group))
    others = [name for name in map(encode, columns) if name not in used]
    if not others:
        at = formula.source.find(".")
        raise FormulaError("'.' stands for no column.", formula.source, at, at + 1)
    operands = [(sign, _substitute_dot(node, others)) for sign, node in signed_operands(tree)]
    return replace(formula, fixed=terms_text(expand(operands, text)))


@lru_cache(maxsize=256)
def _has_dot(text: str, source: str) -> bool:
    """Whether a part of a formula has the name ``.``."""
    return find_node(parse_tree("~ " + text, source).args[0], is_dot) is not None


def _substitute_dot(node: Any, columns: list[str]) -> Any:
    """Replace each dot by the sum of the columns, as a balanced tree: there may be thousands."""
    if not is_dot(node):
        args = [_substitute_dot(arg, columns) for arg in node.args]
        return ParseNode(node.type, node.token, args, node.origin)
    nodes = [
        ParseNode("PYTHON_EXPR", Token("PYTHON_EXPR", node.origin, extra=c), [], node.origin)
        for c in columns
    ]
    while len(nodes) > 1:
        pairs = [nodes[i : i + 2] for i in range(0, len(nodes), 2)]
        nodes = [p[0] if len(p) == 1 else ParseNode("+", None, p, node.origin) for p in pairs]
    return nodes[0]
