"""Formulas of marginal means, as R's emmeans writes them: ``"pairwise ~ a | b"``.

The right side names the variables whose levels have a mean each; operators between them mean
nothing more, as in R's ``all.vars``. Behind the bar stand those within whose levels the means are
compared, and on the left the comparison.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from mixedfx._names import decode
from mixedfx.errors import ArgumentError, FormulaError, did_you_mean
from mixedfx.formula.rewriting import rewrite
from mixedfx.formula.trees import fail, parse_tree
from mixedfx.inference.emmeans.contrasts import METHODS, Method
from mixedfx.inference.emmeans.reference_grid import parse_names

_JOINING = ("+", "*", ":", "/")
_FORMS = "Write 'pairwise ~ a', '~ a | b' or '~ a * b'."


@dataclass(frozen=True)
class MeansRequest:
    """Variables of means, variables that group them, and how they are compared, if at all."""

    specs: tuple[str, ...]
    by: tuple[str, ...]
    method: Method | None = None


def means_request(
    specs: Any, by: Any, variables: Mapping[str, Any], *, argument: str = "specs"
) -> MeansRequest:
    """Validate the names as given, or those of a formula in ``specs``, named as an argument."""
    by_names = parse_names("by", by, variables)
    _check_tilde(specs, variables, argument)
    if not isinstance(specs, str) or specs in variables or "~" not in specs:
        request = MeansRequest(parse_names(argument, specs, variables), by_names)
    else:
        request = _parse(specs, variables)
        if request.by and by is not None:
            raise ArgumentError(f"by={by!r} is given twice: '{specs}' names it behind the bar.")
        request = replace(request, by=request.by or by_names)
    return replace(request, specs=tuple(n for n in request.specs if n not in request.by))


def _check_tilde(specs: Any, variables: Collection[str], argument: str) -> None:
    """Refuse a formula without its tilde, and one in a list."""
    if isinstance(specs, list | tuple) and len(specs) == 1 and "~" in str(specs[0]):
        if specs[0] not in variables:
            raise ArgumentError(f"{argument}: a formula is text by itself: write {specs[0]!r}.")
    elif isinstance(specs, str) and specs not in variables and _parses(f"~ {specs}", variables):
        raise ArgumentError(f"{argument}: a formula begins with '~': write '~ {specs.strip()}'.")


def _parses(source: str, variables: Collection[str]) -> bool:
    """Whether a text joins several variables by operators."""
    if not any(mark in source for mark in ("|", *_JOINING)):
        return False
    try:
        _parse(source, variables)
    except FormulaError:
        return False
    return True


def _parse(source: str, variables: Collection[str]) -> MeansRequest:
    """Parse a formula of means; errors are marked in the source."""
    rewritten = rewrite(source.strip())
    try:
        return _parse_rewritten(rewritten.text, variables)
    except FormulaError as error:
        raise rewritten.in_source(error) from None


def _parse_rewritten(text: str, variables: Collection[str]) -> MeansRequest:
    tree = parse_tree(text, text)
    if tree.type != "~":
        fail("a formula of means has one '~'.", text, tree, _FORMS)
    *left, right = tree.args
    method = _method(left[0], text) if left else None
    if right.type != "|":
        return MeansRequest(_names(right, text, variables), (), method)
    if len(right.args) != 2:
        fail("nothing stands before the bar.", text, right, _FORMS)
    specs, by = (_names(side, text, variables) for side in right.args)
    return MeansRequest(specs, by, method)


def _method(node: Any, text: str) -> Method:
    """Method of contrasts on the left side."""
    name = node.token.extra if node.type == "PYTHON_EXPR" else None
    if name not in METHODS:
        advice = f"Available are: {', '.join(METHODS)}.{did_you_mean(str(name), METHODS)}"
        fail("the left side is a method of contrasts.", text, node, advice)
    return cast(Method, name)


def _names(node: Any, text: str, variables: Collection[str]) -> tuple[str, ...]:
    """Names of variables joined by operators; none for ``1``."""
    if node.type == "ONE":
        return ()
    if node.type in _JOINING and len(node.args) == 2:
        return tuple(
            dict.fromkeys(name for arg in node.args for name in _names(arg, text, variables))
        )
    if node.type != "PYTHON_EXPR":
        fail("variables are joined by '+', '*' or ':'.", text, node, _FORMS)
    name = decode(node.token.extra)
    if name not in variables:
        advice = f"Its variables are: {', '.join(variables)}.{did_you_mean(name, variables)}"
        fail(f"'{name}' is in no term of the fixed part.", text, node, advice)
    return (name,)
