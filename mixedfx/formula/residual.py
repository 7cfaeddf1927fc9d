"""Parser of the argument ``residual=``: ``name(position | subject)``, or ``name(columns)``."""

from __future__ import annotations

import re
from typing import NoReturn

from mixedfx.covariance.elsewhere import our_name
from mixedfx.errors import FormulaError
from mixedfx.formula.parser import check_is_text, one_line, parse_dispersion
from mixedfx.formula.positions import ALL_ROWS
from mixedfx.formula.terms import Formula, RandomTerm

_EXAMPLE = "us(visit | patient)"
# The one subject of all rows, while it is parsed as a grouping factor.
_ALL_ROWS_FACTOR = "all_rows_"
_ONE = re.compile(r"\|\s*1\s*$")


def parse_residual(text: str) -> tuple[str, str, Formula]:
    """
    Parse ``"name(columns)"``: name of a residual model, columns as text and as a formula.

    Subjects ``1`` are all rows, as one.
    """
    check_is_text(text)
    line = one_line(text)
    name, bracket, rest = line.partition("(")
    name = name.strip()
    if not (name.isidentifier() and bracket and rest.endswith(")")):
        _fail_call(line)
    inside = rest[:-1].strip()
    if re.match(r"\w+\s*=", inside):
        _fail_nlme(line, name, inside)
    if not inside:
        raise FormulaError(
            "nothing stands in the parentheses.",
            line,
            0,
            len(line),
            f"Write '{name}(...)', such as '{_EXAMPLE}'.",
        )
    one_subject = _ONE.search(inside)
    source = (
        inside if one_subject is None else inside[: one_subject.start()] + f"| {_ALL_ROWS_FACTOR}"
    )
    try:
        formula = parse_dispersion(f"~ ({source})")
    except FormulaError as error:
        if one_subject is not None:
            raise
        # At its place in the argument.
        at = line.index(inside) - len("~ (")
        start, end = max(error.start + at, 0), min(error.end + at, len(line))
        advice = error.advice.replace("'(1 | group)'", f"'{_EXAMPLE}'")
        raise FormulaError(error.problem, line, start, max(end, start + 1), advice) from None
    if one_subject is not None:
        random = tuple(RandomTerm(t.effects, (ALL_ROWS,), t.structure) for t in formula.random)
        formula = Formula("", formula.fixed, random, source=formula.source)
    return name, inside, formula


def _fail_call(line: str) -> NoReturn:
    """Say what is missing of ``name(position | subject)``."""
    bare = line.removeprefix("~").strip()
    if not bare:
        problem, advice = "the residual model is empty.", f"Write a structure, '{_EXAMPLE}'."
    elif bare.isidentifier():
        problem = f"'{bare}' is not of the form name(columns)."
        advice = (
            f"If it names a structure, write '{bare}(visit | patient)': the column that tells the "
            "rows of a subject apart, and that of the subject. A column goes into a structure, as "
            f"in 'us({bare} | patient)'."
        )
    elif "(" in bare and bare.count("(") > bare.count(")"):
        problem, advice = "'(' is never closed.", f"Close the call, as in '{_EXAMPLE}'."
    elif bare != line and bare.endswith(")"):
        problem, advice = "a residual model is no formula.", f"Write '{bare}', without '~'."
    elif "|" in bare and "(" not in bare:
        problem = "positions and subject have no structure."
        advice = f"Write 'us({bare})', or 'ar1', 'cs', 'toep' in its place."
    elif "@" in bare:
        problem = "products of two structures are not available."
        advice = "Write one of them, or the other as a random term beside it."
    else:
        problem, advice = "a residual model is written as a call.", f"Write '{_EXAMPLE}'."
    raise FormulaError(problem, line, 0, max(len(line), 1), advice)


def _fail_nlme(line: str, name: str, inside: str) -> NoReturn:
    """Translate ``corAR1(form = ~ visit | patient)`` of nlme."""
    from_form = re.fullmatch(r"(?:form|value)\s*=\s*~\s*([^|]+)\|(.+?)", inside)
    position, subject = ("visit", "patient")
    if from_form is not None:
        position, subject = (part.strip() for part in from_form.groups())
    note = ""
    if position == "1":
        position = "visit"
        note = " Here a column says which visit a row is; nlme's ~ 1 is the order of the rows."
    raise FormulaError(
        "arguments with '=' are nlme's.",
        line,
        line.index(inside),
        line.index(inside) + len(inside),
        f"Write '{our_name(name)}({position} | {subject})'.{note}",
    )
