"""Text to formula: the fixed part, and the random terms that stand in parentheses.

patsy's own tokenizer and operator parser read the whole text, with ``|`` added as an
operator, so that everything patsy understands is understood in both parts, and every node
of the tree knows where in the text it came from. What is left to do is to walk the sum on
the right, take the random terms out of it, and let patsy expand each piece.

Nothing here knows data: a name is only a name, and ``.`` stays a dot until
:func:`expand_dot` is told the columns.
"""

from __future__ import annotations

import ast
import keyword
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, NoReturn

from patsy import PatsyError, Term
from patsy.desc import INTERCEPT, Evaluator
from patsy.infix_parser import Operator, ParseNode, Token
from patsy.origin import Origin
from patsy.parse_formula import parse_formula

from mixedfx.errors import FormulaError

Structure = Literal["us", "diag"]
STRUCTURES: tuple[Structure, ...] = ("us", "diag")

# The unary bar lets `||` arrive as a bar whose right side is a bar of one argument.
_BARS = [Operator("|", 2, 50), Operator("|", 1, 60)]
_BLANKS = str.maketrans(dict.fromkeys("\n\r\t\f\v", " "))
_LATER_STRUCTURES = ("cs", "ar1", "toep", "homdiag", "ou", "exp", "gau", "mat", "rr")
_R_CALLS = {
    "factor": "C({0})",
    "ordered": "C({0})",
    "as.factor": "C({0})",
    "as.numeric": "{0}",
    "as.integer": "{0}",
}


@dataclass(frozen=True)
class RandomTerm:
    """
    One random term: effects that vary between the levels of a group.

    Parameters
    ----------
    effects : str
        The columns that vary, as patsy text with the intercept implied: ``"1"``, ``"x"``,
        ``"0 + x"``.
    group : tuple of str
        The grouping factors; more than one for an interaction such as ``a:b``.
    structure : {"us", "diag"}
        Covariance of the effects: unstructured, or diagonal.

    Examples
    --------
    >>> str(RandomTerm("Days", ("Subject",)))
    '(Days | Subject)'
    """

    effects: str
    group: tuple[str, ...]
    structure: Structure = "us"

    @property
    def group_name(self) -> str:
        """Name of the grouping factor: the factors joined with colons."""
        return ":".join(self.group)

    def __str__(self) -> str:
        """Spell the term as lme4 does."""
        bar = "|" if self.structure == "us" else "||"
        return f"({self.effects} {bar} {self.group_name})"


@dataclass(frozen=True)
class Formula:
    """
    A mixed-model formula, taken apart.

    Parameters
    ----------
    response : str
        Python text of the response; empty in a formula of the dispersion.
    fixed : str
        patsy text of the fixed part, expanded, without the response.
    random : tuple of RandomTerm
        The random terms, in the order written.
    source : str
        The text that was parsed; not part of equality.

    Notes
    -----
    ``parse(str(formula)) == formula`` for every formula.

    Examples
    --------
    >>> Formula("y", "x", (RandomTerm("1", ("g",)),)) == parse("y ~ x + (1 | g)")
    True
    """

    response: str
    fixed: str
    random: tuple[RandomTerm, ...]
    source: str = field(default="", compare=False)

    def __str__(self) -> str:
        """Spell the formula so that it parses back to an equal one."""
        left = f"{self.response} ~" if self.response else "~"
        return " + ".join([f"{left} {self.fixed}", *map(str, self.random)])

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the grouping factors, each once, in order of appearance."""
        return tuple(dict.fromkeys(t.group_name for t in self.random))


def parse(text: str) -> Formula:
    """
    Parse an lme4-style formula.

    Parameters
    ----------
    text : str
        For example ``"y ~ x + (x | g)"``. Random terms stand in parentheses and are added:

        ===========================  =====================================================
        written                      means
        ===========================  =====================================================
        ``(1 | g)``                  random intercept
        ``(x | g)``                  correlated intercept and slope; ``(0 + x | g)`` slope
        ``(x || g)``, ``diag(...)``  the same without correlations
        ``(1 | a/b)``                ``(1 | a) + (1 | a:b)``, to any depth
        ``(1 | a:b)``                levels are the observed combinations
        ``(x | a + b)``              ``(x | a) + (x | b)``; ``a*b`` adds ``a:b``
        ===========================  =====================================================

        Everything else is patsy's: ``I(x**2)``, ``np.log(x)``, ``C(f, Sum)``,
        ``Q("odd name")``, ``bs(x, 4)``, ``a*b``, ``a:b``, ``- 1``.

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
    if not isinstance(text, str):
        raise FormulaError(f"a formula is a string, not {type(text).__name__}.", repr(text), 0, 1)
    return _parse(text)


def parse_dispersion(text: str) -> Formula:
    """Parse a formula of the residual standard deviation, which has no response."""
    if not isinstance(text, str):
        shown = type(text).__name__
        raise FormulaError(f"a formula is a string, not {shown}.", repr(text), 0, 1)
    return _parse_dispersion(text)


@lru_cache(maxsize=256)
def _parse(source: str) -> Formula:
    # patsy counts characters from the first that is not blank, in one line
    text = source.translate(_BLANKS).strip()
    try:
        tree = _tree(text, text)
        if tree.type != "~" or len(tree.args) != 2:
            _fail("the formula has no response.", text, tree, "Write 'response ~ terms'.")
        left, right = tree.args
        _check_python(left, text)
        response = _response(left, text)
        fixed, random = _right_side(right, text)
    except RecursionError:
        raise FormulaError("the formula is nested too deeply.", text, 0, len(text)) from None
    return Formula(response, fixed, random, source=text)


@lru_cache(maxsize=256)
def _parse_dispersion(source: str) -> Formula:
    text = source.translate(_BLANKS).strip()
    text = text if "~" in text else f"~ {text}"
    try:
        tree = _tree(text, text)
        if tree.type != "~" or len(tree.args) != 1:
            advice = "Write '~ terms': what the residual standard deviation depends on."
            _fail("a dispersion formula has no response.", text, tree, advice)
        if dot := _find(tree.args[0], _is_dot):
            _fail("'.' has no meaning in a dispersion formula.", text, dot, "Name the columns.")
        fixed, random = _right_side(tree.args[0], text)
    except RecursionError:
        raise FormulaError("the formula is nested too deeply.", text, 0, len(text)) from None
    return Formula("", fixed, random, source=text)


def _right_side(node: Any, text: str) -> tuple[str, tuple[RandomTerm, ...]]:
    """Take the right side of a formula apart: the fixed part's text, and the random terms."""
    operands, random = _split(node, text)
    fixed = _fixed_text(operands, text)
    seen: set[RandomTerm] = set()
    for term in random:
        if term in seen:
            _fail(f"the random term {term} stands twice.", text, node, "Leave one of them out.")
        seen.add(term)
    return fixed, tuple(random)


def expand_dot(formula: Formula, columns: list[str]) -> Formula:
    """Replace ``.`` in the fixed part by all columns but the response and the grouping factors."""
    text = formula.fixed
    right = _tree("~ " + text, formula.source).args[0]
    if not _find(right, _is_dot):
        return formula
    taken = names_in(formula.response)
    for random in formula.random:
        taken |= set().union(*map(names_in, random.group))
    free = [_quoted(c) for c in columns if c not in taken]
    if not free:
        at = formula.source.find(".")
        raise FormulaError("'.' stands for no column.", formula.source, at, at + 1)
    operands = [(sign, _without_dot(node, free)) for sign, node in _operands(right)]
    return replace(formula, fixed=_terms_text(_evaluate(operands, text)))


def terms_of(text: str) -> list[Term]:
    """Expand a piece of patsy text into its terms."""
    return list(_terms_of(text))


@lru_cache(maxsize=256)
def _terms_of(text: str) -> tuple[Term, ...]:
    return tuple(_evaluate(_operands(_tree("~ " + text, text).args[0]), text))


def names_in(text: str) -> set[str]:
    """Give the names that a Python expression reads, columns and functions alike."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text.strip(), mode="eval")):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Call) and _called(node) == "Q":
            found |= {str(a.value) for a in node.args if isinstance(a, ast.Constant)}
    return found


# ------------------------------------------------------------------ from text to trees


def _tree(code: str, text: str) -> Any:
    """Parse with patsy; whatever it raises on odd text becomes a FormulaError."""
    try:
        return parse_formula(code, extra_operators=_BARS)
    except PatsyError as error:
        _fail_patsy(error, code)
    except RecursionError:
        raise FormulaError("the formula is nested too deeply.", text, 0, len(text)) from None
    except Exception as error:  # tokenizers raise many kinds on garbage
        raise FormulaError(f"not a formula: {error}.", text, 0, len(text)) from error


def _operands(node: Any) -> list[tuple[str, Any]]:
    """Take a chain of sums and differences apart, without recursion: it may be long."""
    found = []
    while node.type in ("+", "-") and len(node.args) == 2:
        found.append((node.type, node.args[1]))
        node = node.args[0]
    return [("+", node), *reversed(found)]


def _split(node: Any, text: str) -> tuple[list[tuple[str, Any]], list[RandomTerm]]:
    """Take the random terms out of a sum; what is left are its fixed operands."""
    fixed: list[tuple[str, Any]] = []
    random: list[RandomTerm] = []
    for sign, operand in _operands(node):
        structure, inner = _named_structure(operand, text)
        if sign == "+" and operand.type == "|":
            random += _bar_terms(operand, text, None)
        elif sign == "+" and inner is not None:
            random += _bar_terms(inner, text, structure)
        elif sign == "+" and operand.type == "+" and _find(operand, lambda n: n.type == "|"):
            inside, more = _split(operand, text)
            fixed += inside
            random += more
        else:
            _refuse_bars(operand, text)
            _check_python(operand, text)
            fixed.append((sign, operand))
    return fixed, random


def _fixed_text(operands: list[tuple[str, Any]], text: str) -> str:
    """Spell the fixed part: expanded, or as written where a dot waits for the columns."""
    if not operands:
        return "1"
    if not any(_find(node, _is_dot) for _, node in operands):
        return _terms_text(_evaluate(operands, text))
    parts = [f" {sign} {_source(node, text)}" for sign, node in operands]
    return "".join(parts).removeprefix(" + ").strip()


def _evaluate(operands: list[tuple[str, Any]], text: str) -> list[Term]:
    """Expand a sum, with patsy's rules for what becomes of the intercept."""
    terms: dict[Term, None] = {}
    intercept: bool | None = None  # None until one is written or removed
    for i, (sign, node) in enumerate(operands):
        if node.type in ("ZERO", "ONE"):
            intercept = (node.type == "ONE") == (sign == "+")
            continue
        found = _expand(node, text)
        if sign == "+":
            terms.update(dict.fromkeys(found.terms))
            intercept = True if found.intercept else intercept
        else:
            for term in found.terms:
                terms.pop(term, None)
            intercept = False if found.intercept else intercept
        if i == 0 and found.intercept_removed:
            intercept = False
    return [*([] if intercept is False else [INTERCEPT]), *terms]


def _bar_terms(node: Any, text: str, structure: Structure | None) -> list[RandomTerm]:
    """Turn one bar, single or double, into the random terms it stands for."""
    if len(node.args) != 2:
        _fail("nothing stands before the bar.", text, node, "Write '(1 | group)'.")
    effects, group = node.args
    if structure is None and not _in_parentheses(node, text):
        written = _source(node, text).strip()
        advice = f"Write '({written})', added to the fixed part with '+'."
        left, _, right = written.partition("|")
        before, _, last = (part.strip() for part in left.rpartition("+"))
        if before:
            advice = f"Write '{before} + ({last} | {right.strip()})' or '({written})'."
        _fail("a random term must stand in parentheses.", text, node, advice)
    if group.type == "|" and len(group.args) == 1 and not _in_parentheses(group, text):
        if structure is not None:
            _fail(f"'||' cannot stand inside {structure}().", text, node, "Use a single bar.")
        group, structure = group.args[0], "diag"
    for side in (effects, group):
        _refuse_bars(side, text)
        _check_python(side, text)
        if dot := _find(side, _is_dot):
            _fail("'.' can stand only in the fixed part.", text, dot, "Name the columns.")
    columns = _evaluate(_operands(effects), text)
    if not columns:
        _fail("the random term has no effects.", text, effects, "Write '(1 | group)'.")
    if one := _find(group, lambda n: n.type in ("ONE", "ZERO", "NUMBER")):
        _fail("a grouping factor is a column, not a number.", text, one, "Write '(1 | group)'.")
    factors = [t.factors for t in _evaluate(_operands(group), text) if t.factors]
    if not factors:
        _fail("the random term has no grouping factor.", text, group)
    return [
        RandomTerm(_terms_text(columns), tuple(f.name() for f in fs), structure or "us")
        for fs in factors
    ]


def _named_structure(node: Any, text: str) -> tuple[Structure | None, Any]:
    """Recognise ``us(x | g)``: patsy reads it as one Python call, so its inside is reparsed."""
    if node.type != "PYTHON_EXPR":
        return None, None
    name, _, rest = node.token.extra.partition("(")
    if name not in (*STRUCTURES, *_LATER_STRUCTURES) or "|" not in rest:
        return None, None
    if name not in STRUCTURES:
        _fail(
            f"the covariance structure '{name}' is not available.",
            text,
            node,
            f"Available are: {', '.join(STRUCTURES)}.",
        )
    start, end = node.token.origin.start, node.token.origin.end
    inside = text[text.index("(", start) + 1 : end - 1]
    blank = len(inside) - len(inside.lstrip())
    inner = _tree(inside.strip(), text).args[-1]
    _move(inner, text, text.index("(", start) + 1 + blank)
    if inner.type != "|":
        _fail(f"{name}() takes one random term.", text, node, f"Write '{name}(x | group)'.")
    return STRUCTURES[STRUCTURES.index(name)], inner


def _expand(node: Any, text: str) -> Any:
    """Expand ``*``, ``/`` and ``**`` as patsy does."""
    if tilde := _find(node, lambda n: n.type == "~"):
        _fail("'~' can stand only once.", text, tilde, "Write 'response ~ terms'.")
    try:
        return Evaluator().eval(node, require_evalexpr=False)
    except PatsyError as error:
        _fail_patsy(error, text)


def _response(node: Any, text: str) -> str:
    """Take the one Python expression on the left."""
    if node.type != "PYTHON_EXPR" or _is_dot(node):
        _fail(
            "the response must be one column or expression.",
            text,
            node,
            "For a sum of columns write 'I(a + b) ~ ...'.",
        )
    return str(node.token.extra)


def _terms_text(terms: list[Term]) -> str:
    """Spell terms as patsy text, the intercept implied where something else follows."""
    names = [t.name() for t in terms if t.factors]
    has_intercept = any(not t.factors for t in terms)
    if not names:
        return "1" if has_intercept else "0"
    return " + ".join(names if has_intercept else ["0", *names])


# ------------------------------------------------------------------ looking at trees


def _find(node: Any, wanted: Any) -> Any:
    """First node, depth first, for which ``wanted`` holds."""
    if wanted(node):
        return node
    return next((hit for arg in node.args if (hit := _find(arg, wanted)) is not None), None)


def _refuse_bars(node: Any, text: str) -> None:
    bar = _find(node, lambda n: n.type == "|" or _named_structure(n, text)[1] is not None)
    if bar is not None:
        _fail(
            "a random term can only be added at the top level of the formula.",
            text,
            bar,
            "Write 'y ~ fixed terms + (effects | group)'.",
        )


def _check_python(node: Any, text: str) -> None:
    """Refuse Python that is not valid, and R that means something else in Python."""
    if node.type == "PYTHON_EXPR" and not _is_dot(node):
        code = node.token.extra
        called, _, inside = code.partition("(")
        if called in _R_CALLS and inside:
            advice = f"Write '{_R_CALLS[called].format(inside.removesuffix(')'))}'."
            _fail(f"'{called}()' is R; Python has no such function.", text, node, advice)
        if keyword.iskeyword(code):
            _fail(
                f"'{code}' is a word of Python.", text, node, f'Write Q("{code}") for the column.'
            )
        try:
            tree = ast.parse(code, mode="eval")
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            advice = 'Put odd column names in quotes: Q("odd name").'
            _fail(f"'{code}' is not a Python expression.", text, node, advice)
        for part in ast.walk(tree):
            _check_r(part, code, text, node)
    for arg in node.args:
        _check_python(arg, text)


def _check_r(part: ast.AST, code: str, text: str, node: Any) -> None:
    if isinstance(part, ast.BinOp) and isinstance(part.op, ast.BitXor):
        fixed = code.replace(" ^ ", "**")
        fixed = fixed if fixed.startswith("I(") or "(" in code else f"I({fixed})"
        _fail("'^' is exclusive-or in Python, not a power.", text, node, f"Write '{fixed}'.")
    if isinstance(part, ast.Call):
        called = _called(part)
        inside = ", ".join(ast.unparse(a) for a in part.args[:1])
        if called in _R_CALLS:
            advice = f"Write '{_R_CALLS[called].format(inside)}'."
            _fail(f"'{called}()' is R; Python has no such function.", text, node, advice)
        if called == "offset":
            _fail("an offset is not a term.", text, node, f"Pass offset={inside!r} to lmer().")
        if called == "Q" and not (part.args and isinstance(part.args[0], ast.Constant)):
            _fail("Q() quotes a column name.", text, node, 'Write Q("odd name").')


def _called(call: ast.Call) -> str:
    try:
        return ast.unparse(call.func)
    except RecursionError:
        return ""


def _in_parentheses(node: Any, text: str) -> bool:
    return text[node.origin.start] == "(" and node.origin.start < node.args[0].origin.start


def _source(node: Any, text: str) -> str:
    return text[node.origin.start : node.origin.end]


def _is_dot(node: Any) -> bool:
    return bool(node.type == "PYTHON_EXPR" and node.token.extra == ".")


def _without_dot(node: Any, columns: list[str]) -> Any:
    """Put a sum of columns for each dot; a balanced tree, as there may be thousands."""
    if not _is_dot(node):
        args = [_without_dot(arg, columns) for arg in node.args]
        return ParseNode(node.type, node.token, args, node.origin)
    nodes = [
        ParseNode("PYTHON_EXPR", Token("PYTHON_EXPR", node.origin, extra=c), [], node.origin)
        for c in columns
    ]
    while len(nodes) > 1:
        pairs = [nodes[i : i + 2] for i in range(0, len(nodes), 2)]
        nodes = [p[0] if len(p) == 1 else ParseNode("+", None, p, node.origin) for p in pairs]
    return nodes[0]


def _move(node: Any, text: str, by: int) -> None:
    """Let a tree that was read from a part of the text point into the whole."""
    for part in (node, node.token):
        if part is not None and part.origin is not None and part.origin.code != text:
            part.origin = Origin(text, part.origin.start + by, part.origin.end + by)
    for arg in node.args:
        _move(arg, text, by)


def _quoted(column: str) -> str:
    plain = column.isidentifier() and not keyword.iskeyword(column)
    return column if plain else f"Q({column!r})"


def _fail(problem: str, text: str, node: Any, advice: str = "") -> NoReturn:
    raise FormulaError(problem, text, node.origin.start, node.origin.end, advice)


def _fail_patsy(error: PatsyError, text: str) -> NoReturn:
    """Say patsy's complaint in a user's words, with a caret."""
    message = error.message.rstrip(".")
    start, end = (error.origin.start, error.origin.end) if error.origin else (0, len(text))
    advice = ""
    if "Unmatched '('" in message or "unclosed bracket" in message:
        message, advice = "'(' is never closed", "Close the random term, e.g. '(1 | group)'."
    elif "`" in text:
        advice = 'Put odd column names in quotes: Q("odd name").'
    elif "expected a noun" in message:
        message = "a term is missing here"
    elif "^" in text[start:end]:
        advice = "A power is written '**'."
    elif "besides '0' and '1'" in message:
        advice = "Only 0 and 1 may stand as numbers, for the intercept."
    raise FormulaError(f"{message}.", text, start, end, advice) from None
