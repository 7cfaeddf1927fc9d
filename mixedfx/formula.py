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

from patsy import EvalFactor, ModelDesc, PatsyError, Term
from patsy.infix_parser import Operator, ParseNode
from patsy.parse_formula import parse_formula

from mixedfx.errors import FormulaError

Structure = Literal["us", "diag"]
STRUCTURES: tuple[Structure, ...] = ("us", "diag")

# The unary bar lets `||` arrive as a bar whose right side is a bar of one argument.
_BARS = [Operator("|", 2, 50), Operator("|", 1, 60)]
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
        Python text of the response.
    fixed : str
        patsy text of the fixed part, expanded, without the response.
    random : tuple of RandomTerm
        The random terms, in the order written.
    source : str
        The text that was parsed; not part of equality.

    Notes
    -----
    ``parse(str(formula)) == formula`` for every formula.
    """

    response: str
    fixed: str
    random: tuple[RandomTerm, ...]
    source: str = field(default="", compare=False)

    def __str__(self) -> str:
        """Spell the formula so that it parses back to an equal one."""
        return " + ".join([f"{self.response} ~ {self.fixed}", *map(str, self.random)])

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the grouping factors, each once, in order of appearance."""
        return tuple(dict.fromkeys(t.group_name for t in self.random))


@lru_cache(maxsize=256)
def parse(text: str) -> Formula:
    """
    Parse an lme4-style formula.

    Parameters
    ----------
    text : str
        For example ``"y ~ x + (x | g)"``. Random terms stand in parentheses and are added:

        ==========================  =====================================================
        written                     means
        ==========================  =====================================================
        ``(1 | g)``                 random intercept
        ``(x | g)``                 correlated intercept and slope; ``(0 + x | g)`` slope
        ``(x || g)``, ``diag(...)``  the same without correlations
        ``(1 | a/b)``               ``(1 | a) + (1 | a:b)``, to any depth
        ``(1 | a:b)``               levels are the observed combinations
        ``(x | a + b)``             ``(x | a) + (x | b)``; ``a*b`` adds ``a:b``
        ==========================  =====================================================

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
    tree = _tree(text, text)
    if tree.type != "~" or len(tree.args) != 2:
        _fail("the formula has no response.", text, tree, "Write 'response ~ terms'.")
    left, right = tree.args
    _check_python(left, text)
    if left.type == "PYTHON_EXPR" and left.token.extra == ".":
        _fail("'.' cannot be the response.", text, left)
    response = _response(left, text)
    rest, random = _split(right, text)
    fixed = "1" if rest is None else _terms_text(_expand(rest, text))
    for term in random:
        if random.count(term) > 1:
            _fail(f"the random term {term} stands twice.", text, right, "Leave one of them out.")
    return Formula(response, fixed, tuple(random), source=text)


def expand_dot(formula: Formula, columns: list[str]) -> Formula:
    """
    Replace ``.`` in the fixed part by all columns but the response and the grouping factors.

    Parameters
    ----------
    formula : Formula
        A parsed formula.
    columns : list of str
        The columns of the data, in order.

    Returns
    -------
    Formula
        The same formula where it has no dot.

    Examples
    --------
    >>> str(expand_dot(parse("y ~ . + (1 | g)"), ["y", "a", "b", "g"]))
    'y ~ a + b + (1 | g)'
    """
    terms = _expand(_tree("~ " + formula.fixed, formula.source).args[0], formula.source)
    if not any(_has_dot(t) for t in terms):
        return formula
    taken = names_in(formula.response)
    for random in formula.random:
        taken |= set().union(*map(names_in, random.group))
    free = [_quoted(c) for c in columns if c not in taken]
    if not free:
        at = formula.source.find(".")
        raise FormulaError("'.' stands for no column.", formula.source, at, at + 1)
    expanded: list[Term] = []
    for term in terms:
        stand_ins = [EvalFactor(c) for c in free] if _has_dot(term) else [None]
        for column in stand_ins:
            factors = [column if f.name() == "." else f for f in term.factors]
            expanded.append(Term(factors))
    return replace(formula, fixed=_terms_text(list(dict.fromkeys(expanded))))


def names_in(text: str) -> set[str]:
    """
    Give the names that a Python expression reads, columns and functions alike.

    Parameters
    ----------
    text : str
        Python text, such as ``"np.log(x) + Q('odd name')"``.

    Returns
    -------
    set of str
        Names, and what ``Q()`` quotes.

    Examples
    --------
    >>> sorted(names_in("np.log(x) + Q('odd name')"))
    ['Q', 'np', 'odd name', 'x']
    """
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


def _split(node: Any, text: str) -> tuple[Any, list[RandomTerm]]:
    """Take the random terms out of a sum; None where nothing fixed is left."""
    if node.type == "+" and len(node.args) == 2:
        left, first = _split(node.args[0], text)
        right, second = _split(node.args[1], text)
        if left is None or right is None:
            rest = right if left is None else left
        else:
            rest = ParseNode("+", node.token, [left, right], node.origin)
        return rest, first + second
    if node.type == "-" and len(node.args) == 2:
        left, first = _split(node.args[0], text)
        _refuse_bars(node.args[1], text)
        _check_python(node.args[1], text)
        if left is None:
            return ParseNode("-", node.token, [node.args[1]], node.origin), first
        return ParseNode("-", node.token, [left, node.args[1]], node.origin), first
    if node.type == "|":
        return None, _bar_terms(node, text, None)
    structure, inner = _named_structure(node, text)
    if inner is not None:
        return None, _bar_terms(inner, text, structure)
    _refuse_bars(node, text)
    _check_python(node, text)
    return node, []


def _bar_terms(node: Any, text: str, structure: Structure | None) -> list[RandomTerm]:
    """Turn one bar, single or double, into the random terms it stands for."""
    if len(node.args) != 2:
        _fail("nothing stands before the bar.", text, node, "Write '(1 | group)'.")
    effects, group = node.args
    if structure is None and not _in_parentheses(node, text):
        _fail(
            "a random term must stand in parentheses.",
            text,
            node,
            f"Write '({_source(effects, text)} | {_source(group, text)})', "
            "added to the fixed part with '+'.",
        )
    if group.type == "|" and len(group.args) == 1 and not _in_parentheses(group, text):
        if structure is not None:
            _fail(f"'||' cannot stand inside {structure}().", text, node, "Use a single bar there.")
        group, structure = group.args[0], "diag"
    for side in (effects, group):
        _refuse_bars(side, text)
        _check_python(side, text)
        if dot := _find(side, lambda n: n.type == "PYTHON_EXPR" and n.token.extra == "."):
            _fail("'.' can stand only in the fixed part.", text, dot, "Name the columns.")
    columns = _expand(effects, text)
    if not columns:
        _fail("the random term has no effects.", text, effects, "Write '(1 | group)'.")
    if one := _find(group, lambda n: n.type in ("ONE", "ZERO", "NUMBER")):
        _fail("a grouping factor is a column, not a number.", text, one, "Write '(1 | group)'.")
    factors = [t.factors for t in _expand(group, text) if t.factors]
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
    opening = text.index("(", start)
    # Blanks keep every position, so that carets point into the text as written.
    inside = " " * (opening + 1) + text[opening + 1 : end - 1]
    inner = _tree(inside, text).args[-1]
    if inner.type != "|":
        _fail(f"{name}() takes one random term.", text, node, f"Write '{name}(x | group)'.")
    return STRUCTURES[STRUCTURES.index(name)], inner


def _expand(node: Any, text: str) -> list[Term]:
    """Expand ``*``, ``/`` and ``**`` as patsy does."""
    try:
        described = ModelDesc.from_formula(ParseNode("~", None, [node], node.origin))
    except PatsyError as error:
        _fail_patsy(error, text)
    return list(described.rhs_termlist)


def _response(node: Any, text: str) -> str:
    """Take the one Python expression on the left."""
    if node.type != "PYTHON_EXPR":
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
    if node.type == "PYTHON_EXPR" and node.token.extra != ".":
        code = node.token.extra
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
            _fail(
                f"'{called}()' is R; Python has no such function.",
                text,
                node,
                f"Write '{_R_CALLS[called].format(inside)}'.",
            )
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


def _has_dot(term: Term) -> bool:
    return any(f.name() == "." for f in term.factors)


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
    elif "besides '0' and '1'" in message:
        advice = "Only 0 and 1 may stand as numbers, for the intercept."
    raise FormulaError(f"{message}.", text, start, end, advice) from None
