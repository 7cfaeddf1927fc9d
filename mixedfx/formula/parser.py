"""Parser of lme4-style formulas: response, fixed part and random terms.

The right side is a sum whose operands are fixed terms or random terms in parentheses (or calls of
a covariance structure, ``diag(x | g)``). The random terms are separated from the sum and the
remaining pieces are expanded by patsy. The grammar is that of lme4 (Bates, Maechler, Bolker and
Walker 2015, Journal of Statistical Software 67(1), table 2). Parsing needs no data: ``.`` is
replaced later, by :func:`mixedfx.formula.expansion.expand_dot`.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import Any, NoReturn

from mixedfx.errors import FormulaError, brief
from mixedfx.formula.checks import check_no_bar, check_offset, check_python, offset_code
from mixedfx.formula.expansion import expand, fixed_text, terms_text
from mixedfx.formula.membership import check_memberships
from mixedfx.formula.positions import ALL_ROWS, has_positions, is_all_rows, position_terms
from mixedfx.formula.response import check_predictors, response_text
from mixedfx.formula.rewriting import rewrite
from mixedfx.formula.terms import Formula, RandomTerm
from mixedfx.formula.trees import (
    fail,
    fail_nested_too_deeply,
    find_node,
    in_parentheses,
    is_dot,
    parse_tree,
    signed_operands,
    source_text,
    structure_call,
)

_WHITE_SPACE = str.maketrans(dict.fromkeys("\n\r\t\f\v", " "))


def parse(text: str | Formula) -> Formula:
    """
    Parse an lme4-style formula.

    Parameters
    ----------
    text : str
        For example ``"y ~ x + (x | g)"``; a formula that is parsed already is returned. Random
        terms stand in parentheses and are added:

        ===========================  =====================================================
        written                      means
        ===========================  =====================================================
        ``(1 | g)``                  random intercept
        ``(x | g)``                  correlated intercept and slope; ``(0 + x | g)`` slope
        ``(x || g)``, ``diag(...)``  the same without correlations
        ``(1 | a/b)``                ``(1 | a) + (1 | a:b)``, to any depth
        ``(1 | a:b)``                levels are the observed combinations
        ``(x | a + b)``              ``(x | a) + (x | b)``; ``a*b`` adds ``a:b``
        ``ar1(visit | g)``           an effect of each visit, correlated by their lag
        ``exp(lon + lat | g)``       an effect at each point, correlated by distance;
                                     ``| 1``: one field for all rows
        ``(1 | mm(t1, t2))``         a row belongs to several levels; ``weights=[w1, w2]``
        ``cbind(k, n - k) ~``        k successes and n - k failures; ``prop(k, n) ~`` the same
        ===========================  =====================================================

        Everything else is patsy's: ``I(x**2)``, ``np.log(x)``, ``C(f, Sum)``,
        `` `odd name` ``, ``bs(x, 4)``, ``a*b``, ``a:b``, ``- 1``.

    Returns
    -------
    Formula
        Response, fixed part and random terms as text.

    Raises
    ------
    FormulaError
        If the text is not such a formula; shows the place and what to write instead.

    Notes
    -----
    Parsing evaluates nothing. Fitting evaluates the formula's terms as Python, so a formula
    from someone you do not trust is a program from someone you do not trust.

    Examples
    --------
    >>> f = parse("score ~ x + (1 | school/room)")
    >>> str(f)
    'score ~ x + (1 | school) + (1 | school:room)'
    >>> f.random[1].group
    ('school', 'room')
    """
    if isinstance(text, Formula):
        return text
    check_is_text(text)
    return _parse(text)


def parse_dispersion(text: str, part: str = "dispersion") -> Formula:
    """Parse a formula that has no response, ``"~ x + (1 | g)"``; ``part`` says of what."""
    check_is_text(text)
    return _parse_dispersion(text, part)


# What a formula without a response is called, what it is of, and what to do about an offset.
_PARTS = {
    "dispersion": (
        "dispersion",
        "the residual standard deviation",
        "Known residual standard deviations are the argument residual_sd.",
    ),
    "family dispersion": (
        "dispersion",
        "the dispersion parameter",
        "An offset is a part of the mean: write it into the formula, or give offset=.",
    ),
    "zero_inflation": (
        "zero-inflation",
        "the probability of a zero",
        "An offset is a part of the mean: write it into the formula, or give offset=.",
    ),
}


def check_is_text(text: object) -> None:
    """Refuse what is no string."""
    if not isinstance(text, str):
        kind = type(text).__name__
        advice = "The formula comes first, then the data." if hasattr(text, "columns") else ""
        raise FormulaError(f"a formula is a string, not {kind}.", brief(text), 0, 1, advice)


@lru_cache(maxsize=256)
def _parse(source: str) -> Formula:
    line = one_line(source)
    rewritten = rewrite(line)
    text = rewritten.text
    try:
        tree = parse_tree(text, text)
        if tree.type != "~" or len(tree.args) != 2:
            fail("the formula has no response.", text, tree, "Write 'response ~ terms'.")
        left, right = tree.args
        check_python(left, text)
        response = response_text(left, text)
        fixed, random, offset = _right_side(right, text)
    except FormulaError as error:
        raise rewritten.in_source(error) from None
    except RecursionError:
        fail_nested_too_deeply(line)
    return Formula(response, fixed, random, source=line, offset=offset)


@lru_cache(maxsize=256)
def _parse_dispersion(source: str, part: str) -> Formula:
    name, of, offset_advice = _PARTS[part]
    line = one_line(source)
    line = line if "~" in line else f"~ {line}"
    rewritten = rewrite(line)
    text = rewritten.text
    try:
        tree = parse_tree(text, text)
        if tree.type != "~" or len(tree.args) != 1:
            advice = f"Write '~ terms': what {of} depends on."
            fail(f"a {name} formula has no response.", text, tree, advice)
        if dot := find_node(tree.args[0], is_dot):
            fail(f"'.' has no meaning in a {name} formula.", text, dot, "Name the columns.")
        fixed, random, offset = _right_side(tree.args[0], text)
        if offset:
            fail(f"a {name} formula has no offset.", text, tree, offset_advice)
    except FormulaError as error:
        raise rewritten.in_source(error) from None
    except RecursionError:
        fail_nested_too_deeply(line)
    return Formula("", fixed, random, source=line)


def one_line(source: str) -> str:
    """Text in one line: patsy counts positions from the first character that is not blank."""
    return source.translate(_WHITE_SPACE).strip()


def _right_side(node: Any, text: str) -> tuple[str, tuple[RandomTerm, ...], str]:
    """Text of the fixed part, random terms, and offset, of the right side of a formula."""
    operands, random = _separate_random_terms(node, text)
    check_predictors(node, text)
    offsets = [code for _, operand in operands if (code := offset_code(operand)) is not None]
    operands = [(sign, o) for sign, o in operands if offset_code(o) is None]
    fixed = fixed_text(operands, text)
    seen: set[RandomTerm] = set()
    for term in random:
        if term in seen:
            fail(f"the random term {term} stands twice.", text, node, "Leave one of them out.")
        seen.add(term)
    offset = " + ".join(f"({code})" for code in offsets)
    # Unparsed, which leaves the parentheses that are needed, it is the same when parsed again.
    return fixed, tuple(random), ast.unparse(ast.parse(offset, mode="eval")) if offset else ""


def _separate_random_terms(node: Any, text: str) -> tuple[list[tuple[str, Any]], list[RandomTerm]]:
    """Signed fixed operands, and random terms, of a sum."""
    fixed: list[tuple[str, Any]] = []
    random: list[RandomTerm] = []
    for sign, operand in signed_operands(node):
        structure, bar = structure_call(operand, text)
        if sign == "+" and operand.type == "|":
            random += _random_terms(operand, text, None)
        elif sign == "+" and bar is not None:
            random += _random_terms(bar, text, structure)
        elif sign == "+" and operand.type == "+" and find_node(operand, _is_bar):
            inner_fixed, inner_random = _separate_random_terms(operand, text)
            fixed += inner_fixed
            random += inner_random
        else:
            check_no_bar(operand, text)
            check_python(operand, text)
            check_offset(sign, operand, text)
            fixed.append((sign, operand))
    return fixed, random


def _is_bar(node: Any) -> bool:
    return bool(node.type == "|")


def _random_terms(bar: Any, text: str, structure: str | None) -> list[RandomTerm]:
    """Random terms of one bar: one for each grouping factor, ``a/b`` giving ``a`` and ``a:b``."""
    if len(bar.args) != 2:
        fail("nothing stands before the bar.", text, bar, "Write '(1 | group)'.")
    effects, group = bar.args
    if structure is None and not in_parentheses(bar, text):
        _fail_without_parentheses(bar, text)
    if group.type == "|" and len(group.args) == 1 and not in_parentheses(group, text):
        if structure is not None:
            fail(f"'||' cannot stand inside {structure}().", text, bar, "Use a single bar.")
        group, structure = group.args[0], "diag"
    if power := find_node(group, lambda n: n.type == "**"):
        combined = ":".join(source_text(arg, text) for arg in power.args)
        advice = f"Write '{combined}' for each combination of their levels."
        fail("a grouping factor is not raised to a power.", text, power, advice)
    for side in (effects, group):
        check_no_bar(side, text)
        check_python(side, text)
        if dot := find_node(side, is_dot):
            fail("'.' can stand only in the fixed part.", text, dot, "Name the columns.")
    columns = expand(signed_operands(effects), text)
    if has_positions(structure):
        assert structure is not None
        columns = position_terms(columns, structure, effects, text)
    if not columns:
        fail("the random term has no effects.", text, effects, "Write '(1 | group)'.")
    if is_all_rows(group, structure):
        return [RandomTerm(terms_text(columns), (ALL_ROWS,), structure or "us")]
    if number := find_node(group, lambda n: n.type in ("ONE", "ZERO", "NUMBER")):
        problem = "a grouping factor is a column, not a number."
        fail(problem, text, number, "Write '(1 | group)'.")
    groups = [t.factors for t in expand(signed_operands(group), text) if t.factors]
    if not groups:
        fail("the random term has no grouping factor.", text, group)
    names = [tuple(f.name() for f in factors) for factors in groups]
    check_memberships(names, text, group.origin.start, group.origin.end)
    return [RandomTerm(terms_text(columns), factors, structure or "us") for factors in names]


def _fail_without_parentheses(bar: Any, text: str) -> NoReturn:
    """Refuse ``y ~ x + z | g``, with both readings as advice."""
    written = source_text(bar, text).strip()
    advice = f"Write '({written})', added to the fixed part with '+'."
    left, _, group = written.partition("|")
    fixed, _, effects = (part.strip() for part in left.rpartition("+"))
    if fixed:
        advice = f"Write '{fixed} + ({effects} | {group.strip()})' or '({written})'."
    fail("a random term must stand in parentheses.", text, bar, advice)
