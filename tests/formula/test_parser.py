"""Parsing: each form of a term has the documented meaning, or the error shows the place.

Sources of truth: the table in :func:`mixedfx.parse`, which is lme4's (Bates, Maechler, Bolker and
Walker 2015, table 2), and patsy itself for everything else.
"""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixedfx._names import decode, encode
from mixedfx.errors import FormulaError
from mixedfx.formula.expansion import expand_dot
from mixedfx.formula.parser import parse
from mixedfx.formula.terms import Formula, RandomTerm


def _random(*terms: RandomTerm) -> Formula:
    return Formula("y", "1", terms)


def _marked(error: FormulaError) -> str:
    """Read what the carets of a message point at."""
    lines = str(error).split("\n")
    at = next(i for i, line in enumerate(lines) if re.fullmatch(r" *\^+", line))
    start, end = lines[at].index("^"), len(lines[at])
    return lines[at - 1][start:end]


def _error(text: str) -> FormulaError:
    with pytest.raises(FormulaError) as caught:
        parse(text)
    return caught.value


# ------------------------------------------------------------------ what each writing means

ONE_G = RandomTerm("1", ("g",))
X_G = RandomTerm("x", ("g",))

WRITINGS = {
    "(1 | g)": (ONE_G,),
    "(x | g)": (X_G,),
    "(1 + x | g)": (X_G,),
    "(x + 1 | g)": (X_G,),
    "(0 + x | g)": (RandomTerm("0 + x", ("g",)),),
    "(-1 + x | g)": (RandomTerm("0 + x", ("g",)),),
    "(x - 1 | g)": (RandomTerm("0 + x", ("g",)),),
    "(x + z | g)": (RandomTerm("x + z", ("g",)),),
    "(x || g)": (RandomTerm("x", ("g",), "diag"),),
    "(1 || g)": (RandomTerm("1", ("g",), "diag"),),
    "(x + z || g)": (RandomTerm("x + z", ("g",), "diag"),),
    "(f || g)": (RandomTerm("f", ("g",), "diag"),),
    "(0 + f || g)": (RandomTerm("0 + f", ("g",), "diag"),),
    "(1 | a/b)": (RandomTerm("1", ("a",)), RandomTerm("1", ("a", "b"))),
    "(x | a/b)": (RandomTerm("x", ("a",)), RandomTerm("x", ("a", "b"))),
    "(x || a/b)": (RandomTerm("x", ("a",), "diag"), RandomTerm("x", ("a", "b"), "diag")),
    "(1 | a/b/c/d)": tuple(RandomTerm("1", tuple("abcd"[: k + 1])) for k in range(4)),
    "(1 | a:b)": (RandomTerm("1", ("a", "b")),),
    "(1 | a:b:c)": (RandomTerm("1", ("a", "b", "c")),),
    "(x | a + b)": (RandomTerm("x", ("a",)), RandomTerm("x", ("b",))),
    "(x | a*b)": (RandomTerm("x", ("a",)), RandomTerm("x", ("b",)), RandomTerm("x", ("a", "b"))),
    "us(x | g)": (X_G,),
    "us(1 | a/b)": (RandomTerm("1", ("a",)), RandomTerm("1", ("a", "b"))),
    "diag(x | g)": (RandomTerm("x", ("g",), "diag"),),
    "(1 | g) + (0 + x | g)": (ONE_G, RandomTerm("0 + x", ("g",))),
    "((1 | g) + (1 | h))": (ONE_G, RandomTerm("1", ("h",))),
    "(1 | C(g))": (RandomTerm("1", ("C(g)",)),),
    '(1 | Q("odd name"))': (RandomTerm("1", (encode("odd name"),)),),
    "(1 | `odd name`)": (RandomTerm("1", (encode("odd name"),)),),
    "(`a b` | `c:d`/e)": (
        RandomTerm(encode("a b"), (encode("c:d"),)),
        RandomTerm(encode("a b"), (encode("c:d"), "e")),
    ),
    "(1 | class)": (RandomTerm("1", (encode("class"),)),),
    "us(lambda | yield)": (RandomTerm(encode("lambda"), (encode("yield"),)),),
    "(1 | factor(g))": (RandomTerm("1", ("C(g)",)),),
    "(1 | g %in% h)": (RandomTerm("1", ("g", "h")),),
    "+ (1 | g)": (ONE_G,),
    "+ + (x | g)": (X_G,),
}


@pytest.mark.parametrize("written", WRITINGS)
def test_random_part_means_what_the_table_says(written):
    assert parse(f"y ~ {written}") == _random(*WRITINGS[written])


# Left: as written. Right: the same in patsy's spelling, the intercept implied.
PATSY = {
    "x": "x",
    "x + 1": "x",
    "x + 0": "0 + x",
    "x - 1": "0 + x",
    "-1 + x": "0 + x",
    "I(x**2)": "I(x ** 2)",
    "np.log(x)": "np.log(x)",
    "log(x)": "log(x)",
    "C(f, Sum)": "C(f, Sum)",
    'Q("odd name")': encode("odd name"),
    'Q("a | b")': encode("a | b"),
    "`odd name`": encode("odd name"),
    "`a^b` + `%in%`": f"{encode('a^b')} + {encode('%in%')}",
    "class + None": f"{encode('class')} + {encode('None')}",
    "log + log(x)": f"{encode('log')} + log(x)",
    "nan + inf": f"{encode('nan')} + {encode('inf')}",
    "(a + b + c)^2": "a + b + c + a:b + a:c + b:c",
    "I(x^2)": "I(x ** 2)",
    "f('a^b', x)": "f('a^b', x)",
    "a %in% b": "a:b",
    "factor(f)": "C(f)",
    "as.factor(f)": "C(f)",
    "x + + z": "x + z",
    "+x": "x",
    "x + -1": "0 + x",
    "np.where(x is None, None, x)": "np.where(x is None, None, x)",
    "bs(x, 4)": "bs(x, 4)",
    "poly(x, 2)": "poly(x, 2)",
    "a*b": "a + b + a:b",
    "a:b": "a:b",
    "a/b": "a + a:b",
    "a*b - a:b": "a + b",
    "(a + b + c)**2": "a + b + c + a:b + a:c + b:c",
    "x > 0": "x > 0",
}


@pytest.mark.parametrize("written", PATSY)
def test_fixed_part_takes_patsys_writing(written):
    assert parse(f"y ~ {written} + (1 | g)") == Formula("y", PATSY[written], (ONE_G,))


@pytest.mark.parametrize("written", PATSY)
def test_random_part_takes_patsys_writing(written):
    assert parse(f"y ~ ({written} | g)") == _random(RandomTerm(PATSY[written], ("g",)))


def test_formula_without_random_terms_is_a_regression():
    assert parse("y ~ x").random == ()


def test_random_terms_alone_leave_an_intercept():
    assert parse("y ~ (1 | g)").fixed == "1"


@pytest.mark.parametrize("written", ["0 + (1 | g)", "(1 | g) - 1", "(1 | g) + 0", "-1 + (1 | g)"])
def test_intercept_can_be_taken_out_beside_random_terms(written):
    assert parse(f"y ~ {written}") == Formula("y", "0", (ONE_G,))


def test_fixed_terms_may_stand_on_both_sides_of_a_random_one():
    assert parse("y ~ x + (1 | g) + z") == Formula("y", "x + z", (ONE_G,))


def test_response_may_be_an_expression():
    assert parse("np.log(y) ~ x").response == "np.log(y)"


def test_spaces_mean_nothing():
    assert parse("y~x+(x|g)") == parse("  y  ~  x  +  ( x  |  g )  ")


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\t", "\n\n"])
def test_line_breaks_count_as_blanks(line_break):
    assert parse(f"y ~ x{line_break}+ (1{line_break}| g)") == parse("y ~ x + (1 | g)")


def test_source_keeps_the_text_as_written():
    assert parse("y~x+(x|g)").source == "y~x+(x|g)"


def test_groups_are_listed_once_in_order_of_appearance():
    assert parse("y ~ (1 | b) + (1 | a/b) + (0 + x | a)").groups == ("b", "a", "a:b")


def test_group_name_joins_factors_with_colons():
    assert RandomTerm("1", ("a", "b")).group_name == "a:b"


def test_two_structures_of_one_term_are_two_terms():
    assert len(parse("y ~ (x | g) + (x || g)").random) == 2


@pytest.mark.full
def test_a_sum_of_a_thousand_terms_is_read():
    names = [f"x{i}" for i in range(1000)]
    assert parse(f"y ~ {' + '.join(names)} + (1 | g)").fixed == " + ".join(names)


# ------------------------------------------------------------------ errors show the place


@pytest.mark.parametrize("value", [None, 3, b"y ~ x", ["y ~ x"], {"y": "x"}, np.arange(3)])
def test_what_is_no_text_is_a_formula_error(value):
    with pytest.raises(FormulaError, match="a formula is a string, not"):
        parse(value)


# Text, what the carets mark, and a part of the message.
ERRORS = [
    ("y ~ x + (1 | g", "(", "never closed"),
    ("y ~ x + us(1 | g", "us(1 | g", "never closed"),
    ("y ~ x + 1 | g)", ")", "extra"),
    ("y ~ x | g", "x | g", "'(x | g)'"),
    ("y ~ z + x | g", "z + x | g", "in parentheses"),
    ("y ~ x + (1 | 2)", "2", "not a number"),
    ("y ~ x + (| g)", "(| g)", "before the bar"),
    ("y ~ x + (0 | g)", "0", "no effects"),
    ("y ~ (1 | g) * x", "(1 | g)", "top level"),
    ("y ~ x:(1 | g)", "(1 | g)", "top level"),
    ("y ~ x - (1 | g)", "(1 | g)", "top level"),
    ("y ~ (x | g | h)", "x | g", "top level"),
    ("y ~ x + diag(x || g)", "x || g", "single bar"),
    ("y ~ x + rr(x | g)", "rr(x | g)", "us, diag"),
    ("y ~ x + ad(x | g)", "ad(x | g)", "residual='ad(x | g)'"),
    ("y ~ x + ar1(u + v | g)", "u + v", "ar1(visit | g)"),
    ("y ~ x + ar1(u:v | g)", "u:v", "combinations"),
    ("y ~ x + ar1(1 + u | g)", "1", "ar1(visit | g)"),
    ("y ~ x + toep(1 | g)", "1", "toep(visit | g)"),
    ("y ~ x + ou(1 + t | g)", "1", "ou(time | g)"),
    ("y ~ x + ou(s + t | g)", "s + t", "ou(time | g)"),
    ("y ~ x + exp(a + b + c + d | g)", "a + b + c + d", "exp(lon + lat | g)"),
    ("y ~ x + ar1(t | 1)", "1", "(1 | group)"),
    ("y ~ x + cs(t | 1)", "1", "(1 | group)"),
    ("y + z ~ x", "y + z", "I(a + b)"),
    ("1 ~ x", "1", "response"),
    (". ~ x", ".", "response"),
    ("x + (1 | g)", "x + (1 | g)", "response ~ terms"),
    ("y ~ x + (. | g)", ".", "fixed part"),
    ("y ~ x + (1 | .)", ".", "fixed part"),
    ("y ~ x + 3", "3", "0 and 1"),
    ("y ~ 2*x", "2", "0 and 1"),
    ("y ~ x + a b", "a b", "`odd name`"),
    ("y ~ `a b` + c d", "c d", "`odd name`"),
    ("y ~ x + `a b", "`a b", "`reading score`"),
    ("y ~ `` + x", "``", "name of a column"),
    ("y ~ `a b` | g", "`a b` | g", "(`a b` | g)"),
    ("y ~ x + (1 | g^h)", "g^h", "g:h"),
    ("y ~ x - offset(z)", "offset(z)", "Leave it out"),
    ("y ~ x*offset(z)", "offset(z)", "+ offset(x)"),
    ("y ~ offset(x, z)", "offset(x, z)", "+ offset(x)"),
    ("y ~ x + lambda x: x", "lambda x", "Python"),
    ("y ~ x + x^2 + z", "x^2", "I(x**2)"),
    ("y ~ x + x**2 + z", "x**2", "I(x**2)"),
    ("y ~ us(x^2 | g)", "x^2", "I(x**2)"),
    ("y ~ x + diag(1 | 3)", "3", "not a number"),
    ("y ~ x + us(x | h) + us(. | g)", ".", "fixed part"),
    ("   y ~ x | g", "x | g", "'(x | g)'"),
    ("\n  y ~ x\n  + x^2", "x^2", "I(x**2)"),
]


@pytest.mark.parametrize(("text", "marked", "advice"), ERRORS)
def test_error_shows_the_formula_marks_the_place_and_says_what_to_do(text, marked, advice):
    error = _error(text)
    assert " ".join(text.split()) in " ".join(str(error).split())
    assert _marked(error) == marked
    assert advice in str(error)


def test_term_that_stands_twice_is_named():
    assert "(1 | g) stands twice" in str(_error("y ~ (1 | g) + x + us(1 | g)"))


def test_carets_mark_one_character_where_a_term_is_missing():
    assert len(_marked(_error("y ~ x + "))) <= 1


def test_dot_that_stands_for_nothing_is_an_error():
    with pytest.raises(FormulaError, match="stands for no column") as caught:
        expand_dot(parse("y ~ . + (1 | g)"), ["y", "g"])
    assert _marked(caught.value) == "."


# ------------------------------------------------------------------ R's writings

# What R means, and what to write for it in Python.
R_WRITINGS = {
    "y ~ x^2 + (1 | g)": "I(x**2)",
    "y ~ (x^2 | g)": "I(x**2)",
    "y ~ ordered(x)": "C(x, Poly)",
    "y ~ as.numeric(x)": "'x'",
    "y ~ x | g": "(x | g)",
    "y ~ x || g": "(x || g)",
    "y ~ x + 1 | g": "| g)",
}


@pytest.mark.parametrize("written", R_WRITINGS)
def test_what_r_writes_gets_the_python_for_it(written):
    assert R_WRITINGS[written] in _error(written).advice


@pytest.mark.parametrize(
    ("written", "offset"),
    [
        ("offset(z)", "z"),
        ("offset(log(z))", "log(z)"),
        ("offset(z) + offset(2*w)", "z + 2 * w"),
        ("offset(z - w)", "z - w"),
        ("offset(`log time`)", encode("log time")),
    ],
)
def test_offsets_are_no_terms(written, offset):
    found = parse(f"y ~ x + {written} + (1 | g)")
    assert (found.fixed, found.offset) == ("x", offset)
    assert parse(str(found)) == found


ODD = [
    "reading score",
    "class",
    "log",
    "Größe",
    "a`b",
    "1st",
    "it's",
    'a"b',
    "x_1",
    "_",
    "None",
    "Q__",
]


@pytest.mark.parametrize("name", ODD)
def test_any_name_is_written_and_read_back(name):
    formula = Formula(encode(name), encode(name), (RandomTerm(encode(name), (encode(name), "g")),))
    assert parse(str(formula)) == formula
    assert formula.groups == (f"{name}:g",)
    assert formula.response_name == name


@given(st.text(min_size=1))
def test_names_are_encoded_as_identifiers_and_back(name):
    code = encode(name)
    assert code.isidentifier()
    assert decode(code) == name
    assert decode(f"np.log({code}) + x") == f"np.log({name}) + x"


def test_a_copy_of_a_formula_has_a_hash_of_its_own():
    formula = parse("y ~ x + (1 | g)")
    known = hash(formula)
    copied = pickle.loads(pickle.dumps(formula))
    assert vars(copied).keys() == {"response", "fixed", "random", "source", "offset"}
    assert (copied, hash(copied)) == (formula, known)
