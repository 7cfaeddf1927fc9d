"""Formulas: each writing means what the documentation's table says, or the error shows where.

Sources of truth: the table of writings in :func:`mixedfx.parse`, which is lme4's (Bates,
Maechler, Bolker and Walker 2015, table 2), and patsy itself for everything else.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import patsy
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mixedfx.design.build import build
from mixedfx.errors import FormulaError
from mixedfx.formula.expansion import expand_dot, names_in
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
    '(1 | Q("odd name"))': (RandomTerm("1", ('Q("odd name")',)),),
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
    'Q("odd name")': 'Q("odd name")',
    'Q("a | b")': 'Q("a | b")',
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


def test_a_sum_of_a_thousand_terms_is_read():
    names = [f"x{i}" for i in range(1000)]
    assert parse(f"y ~ {' + '.join(names)} + (1 | g)").fixed == " + ".join(names)


# ------------------------------------------------------------------ round trip, any formula

NAMES = ["x", "z", "x1", "Days", "größe", "np.log(x)", "I(x**2)", "C(f, Sum)", "bs(x, 4)", "x > 0"]
names = st.sampled_from([*NAMES, "poly(x, 2)", "Q('a|b')", 'Q("odd name")'])
# Any text can be the name of a column.
quoted = st.text(st.characters(codec="utf-8"), max_size=8).map(lambda t: f"Q({t!r})")
terms = st.recursive(
    names | quoted,
    lambda inner: st.one_of(
        st.builds("{} + {}".format, inner, inner),
        st.builds("({} * {})".format, inner, inner),
        st.builds("({} : {})".format, inner, inner),
        st.builds("({} / {})".format, inner, inner),
        st.builds("({})**{}".format, inner, st.integers(1, 3)),
        st.builds("({} - {})".format, inner, inner),
    ),
    max_leaves=4,
)
parts = st.one_of(
    terms, terms.map("0 + {}".format), terms.map("{} - 1".format), terms.map("1 + {}".format)
)
plain_groups = st.sampled_from(["g", "h", "k", "C(g)", 'Q("odd group")', "g.str.upper()"])
groups = st.one_of(
    plain_groups,
    *(st.builds(("{} " + op + " {}").format, plain_groups, plain_groups) for op in "/:*+"),
    st.just("g/h/k"),
)
effects = st.just("1") | parts
randoms = st.one_of(
    st.builds("({} | {})".format, effects, groups),
    st.builds("({} || {})".format, effects, groups),
    st.builds("us({} | {})".format, effects, groups),
    st.builds("diag({} | {})".format, effects, groups),
)
formulas = st.builds(
    lambda y, fixed, random: f"{y} ~ {' + '.join([fixed, *random])}",
    st.sampled_from(["y", "np.log(y)", 'Q("the response")', "I(a + b)"]),
    st.sampled_from(["1", "0"]) | parts,
    st.lists(randoms, max_size=3),
)


def _parsed(text: str) -> Formula | None:
    """Parse what the grammar wrote; a term that says nothing or stands twice is refused."""
    try:
        return parse(text)
    except FormulaError as error:
        if "twice" in error.problem or "no effects" in error.problem:
            return None
        raise


# What a sum may be made of: also intercepts, written and taken out, at any depth.
pieces = st.recursive(
    st.sampled_from(["0", "1", "x", "z", "f", "x:f", "x*z", "I(x**2)", "f/z"]),
    lambda inner: st.lists(inner, min_size=1, max_size=4).flatmap(
        lambda parts: st.lists(
            st.sampled_from(["+", "-"]), min_size=len(parts) - 1, max_size=len(parts) - 1
        ).map(lambda signs: _sum(parts, signs))
    ),
    max_leaves=8,
)


def _sum(parts: list[str], signs: list[str]) -> str:
    rest = "".join(f" {sign} {part}" for sign, part in zip(signs, parts[1:], strict=True))
    return f"({parts[0]}{rest})"


@given(pieces, st.booleans())
@example("(0 + (x + 1))", False)
@example("((x - 1) + z)", False)
@example("(x + (z - 1))", False)
@example("(x - (z + 1))", False)
@example("(x - 0)", False)
@example("x", True)
def test_fixed_terms_are_patsys(text, negated):
    text = f"-1 + {text}" if negated else text
    try:
        expected = [t.name() for t in patsy.ModelDesc.from_formula(f"~ {text}").rhs_termlist]
    except patsy.PatsyError:
        with pytest.raises(FormulaError):
            parse(f"y ~ {text}")
        return
    fixed = parse(f"y ~ {text}").fixed
    found = [t.name() for t in patsy.ModelDesc.from_formula(f"~ {fixed}").rhs_termlist]
    assert sorted(found) == sorted(expected)


@given(formulas)
def test_spelling_of_any_formula_parses_back_to_it(text):
    formula = _parsed(text)
    assert formula is None or parse(str(formula)) == formula


@given(formulas)
def test_spelling_is_final(text):
    formula = _parsed(text)
    assert formula is None or str(parse(str(formula))) == str(formula)


@given(effects, groups)
def test_diag_is_the_double_bar(effect, group):
    assert _parsed(f"y ~ diag({effect} | {group})") == _parsed(f"y ~ ({effect} || {group})")


@given(effects, groups)
def test_us_is_the_single_bar(effect, group):
    assert _parsed(f"y ~ us({effect} | {group})") == _parsed(f"y ~ ({effect} | {group})")


@given(parts, st.lists(randoms, max_size=2))
def test_random_terms_do_not_change_the_fixed_part(fixed, random):
    whole = _parsed(f"y ~ {' + '.join([*random, fixed])}")
    assert whole is None or whole.fixed == parse(f"y ~ {fixed}").fixed


# ------------------------------------------------------------------ no text does harm

LETTERS = "yxzgf01239 ~|()+-*/:^.,'\"`#%\\\n\t;[]{}@=<>!$&?_é"


def _formula_or_error(text: str) -> None:
    """Hold what is promised for any text: a formula that spells itself, or a FormulaError."""
    try:
        found: Formula | FormulaError = parse(text)
    except FormulaError as error:
        found = error
    if isinstance(found, Formula):
        assert parse(str(found)) == found
    else:
        assert 0 <= found.start < found.end


@given(st.text(max_size=60))
@example("")
@example("\x00")
@example("\ud800")
@example("y ~ x\x0cz")
def test_any_text_is_a_formula_or_a_formula_error(text):
    _formula_or_error(text)


@given(st.text(alphabet=LETTERS, max_size=40))
@example("y ~ (x|||g)")
@example("y ~ ~ x")
@example("y ~ x + (~ z | g)")
@example("y ~ us(")
@example("y ~ 'x")
@example("y ~ \\")
@example("y ~ (yield)")
def test_any_text_of_the_letters_of_formulas_is_a_formula_or_a_formula_error(text):
    _formula_or_error(text)


@given(formulas, st.data())
def test_any_damage_to_a_formula_leaves_a_formula_or_a_formula_error(text, data):
    at = data.draw(st.integers(0, len(text)))
    removed = data.draw(st.integers(0, 3))
    inserted = data.draw(st.text(alphabet=LETTERS, max_size=3))
    _formula_or_error(text[:at] + inserted + text[at + removed :])


DEEP = {
    "parentheses": "y ~ " + "(" * 5000 + "x" + ")" * 5000,
    "brackets left open": "y ~ " + "f(" * 5000,
    "signs": "y ~ " + "-" * 5000 + "1",
    "signs in a call": "y ~ I(" + "-" * 5000 + "x)",
    "attributes": "y ~ x" + ".a" * 5000,
    "a sum": "y ~ " + " + ".join(f"x{i}" for i in range(5000)),
    "random terms": "y ~ " + " + ".join(f"(1 | g{i})" for i in range(2000)),
    "nesting": "y ~ (1 | " + "/".join(f"g{i}" for i in range(60)) + ")",
}


@pytest.mark.parametrize("kind", DEEP)
def test_depth_ends_in_a_formula_or_a_formula_error(kind):
    _formula_or_error(DEEP[kind])


@pytest.mark.parametrize("value", [None, 3, b"y ~ x", ["y ~ x"], {"y": "x"}, np.arange(3)])
def test_what_is_no_text_is_a_formula_error(value):
    with pytest.raises(FormulaError, match="a formula is a string, not"):
        parse(value)


# ------------------------------------------------------------------ errors show the place

# Text, what the carets must mark, and a part of what the user is told.
CULPRITS = [
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
    ("y ~ x + cs(x | g)", "cs(x | g)", "us, diag"),
    ("y + z ~ x", "y + z", "I(a + b)"),
    ("1 ~ x", "1", "response"),
    (". ~ x", ".", "response"),
    ("x + (1 | g)", "x + (1 | g)", "response ~ terms"),
    ("y ~ x + (. | g)", ".", "fixed part"),
    ("y ~ x + (1 | .)", ".", "fixed part"),
    ("y ~ x + 3", "3", "0 and 1"),
    ("y ~ 2*x", "2", "0 and 1"),
    ("y ~ class + x", "class", 'Q("class")'),
    ("y ~ x + a b", "a b", 'Q("odd name")'),
    ("y ~ x + lambda x: x", "lambda x", "Python"),
    ("y ~ x + I(x^2) + z", "I(x^2)", "I(x**2)"),
    ("y ~ us(x^2 | g)", "x^2", "I(x**2)"),
    ("y ~ x + diag(1 | 3)", "3", "not a number"),
    ("y ~ x + us(x | h) + us(. | g)", ".", "fixed part"),
    ("   y ~ x | g", "x | g", "'(x | g)'"),
    ("\n  y ~ x\n  + I(x^2)", "I(x^2)", "I(x**2)"),
]


@pytest.mark.parametrize(("text", "culprit", "told"), CULPRITS)
def test_carets_mark_the_culprit(text, culprit, told):
    assert _marked(_error(text)) == culprit


@pytest.mark.parametrize(("text", "culprit", "told"), CULPRITS)
def test_error_says_what_to_do(text, culprit, told):
    assert told in str(_error(text))


@pytest.mark.parametrize(("text", "culprit", "told"), CULPRITS)
def test_error_shows_the_formula(text, culprit, told):
    assert " ".join(text.split()) in " ".join(str(_error(text)).split())


def test_term_that_stands_twice_is_named():
    assert "(1 | g) stands twice" in str(_error("y ~ (1 | g) + x + us(1 | g)"))


def test_carets_mark_one_character_where_a_term_is_missing():
    assert len(_marked(_error("y ~ x + "))) <= 1


# ------------------------------------------------------------------ R's writings

# What R means, and what to write for it in Python.
R_WRITINGS = {
    "y ~ I(x^2) + (1 | g)": "I(x**2)",
    "y ~ x^2 + (1 | g)": "I(x**2)",
    "y ~ I(x ^ 2)": "I(x**2)",
    "y ~ np.log(x^2)": "np.log(x**2)",
    "y ~ (x + z)^2": "**",
    "y ~ (x^2 | g)": "I(x**2)",
    "y ~ factor(x) + (1 | g)": "C(x)",
    "y ~ ordered(x)": "C(x)",
    "y ~ as.factor(x)": "C(x)",
    "y ~ as.numeric(x)": "'x'",
    "y ~ (1 | factor(g))": "C(g)",
    "y ~ x | g": "(x | g)",
    "y ~ x || g": "(x || g)",
    "y ~ x + 1 | g": "| g)",
    "y ~ x + offset(z)": "offset='z'",
    "y ~ `odd name` + (1 | g)": 'Q("odd name")',
    "y ~ (1 | `odd name`)": 'Q("odd name")',
    "`odd name` ~ x": 'Q("odd name")',
}


@pytest.mark.parametrize("written", R_WRITINGS)
def test_what_r_writes_gets_the_python_for_it(written):
    assert R_WRITINGS[written] in _error(written).advice


def test_exclusive_or_is_explained():
    assert "exclusive-or" in _error("y ~ I(x^2)").problem


# ------------------------------------------------------------------ the dot

COLUMNS = ["y", "a", "b", "g"]
# R's terms(y ~ ., data): every column but the response; grouping factors are ours to leave out.
DOTS = {
    "y ~ .": "a + b + g",
    "y ~ . + (1 | g)": "a + b",
    "y ~ a + . + (1 | g)": "a + b",
    "y ~ 0 + . + (1 | g)": "0 + a + b",
    "y ~ . - a + (1 | g)": "b",
    "y ~ . - 1 + (1 | g)": "0 + a + b",
    "y ~ I(a**2) + . + (1 | g)": "I(a ** 2) + a + b",
    "y ~ . + (a | g)": "a + b",
    "y ~ . + (1 | b:g)": "a",
    "y ~ . + (1 | C(g))": "a + b",
    "np.log(y) ~ . + (1 | g)": "a + b",
    "I(y - a) ~ . + (1 | g)": "b",
    "y ~ .**2 + (1 | g)": "a + b + a:b",
}


@pytest.mark.parametrize("written", DOTS)
def test_dot_stands_for_the_other_columns(written):
    assert expand_dot(parse(written), COLUMNS).fixed == DOTS[written]


def test_dot_in_an_interaction_is_each_column_in_turn():
    found = expand_dot(parse("y ~ .:z + (1 | g)"), [*COLUMNS, "z"]).fixed
    assert set(found.split(" + ")) == {"a:z", "b:z", "z"}


def test_dot_quotes_names_that_python_cannot_read():
    expanded = expand_dot(parse("y ~ . + (1 | g)"), ["y", "a b", "class", "it's", "g"])
    assert expanded.fixed == """Q('a b') + Q('class') + Q("it's")"""


def test_dot_leaves_out_a_quoted_response():
    assert expand_dot(parse("Q('the y') ~ . + (1 | g)"), ["the y", "a", "g"]).fixed == "a"


def test_dot_keeps_the_random_terms():
    assert expand_dot(parse("y ~ . + (1 | g)"), COLUMNS).random == (ONE_G,)


def test_formula_without_a_dot_is_left_alone():
    formula = parse("y ~ a + (1 | g)")
    assert expand_dot(formula, COLUMNS) is formula


def test_dot_that_stands_for_nothing_is_an_error():
    with pytest.raises(FormulaError, match="stands for no column") as caught:
        expand_dot(parse("y ~ . + (1 | g)"), ["y", "g"])
    assert _marked(caught.value) == "."


def test_dot_takes_a_thousand_columns():
    columns = [f"x{i}" for i in range(1000)]
    assert expand_dot(parse("y ~ ."), ["y", *columns]).fixed == " + ".join(columns)


# ------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x", {"x"}),
        ("np.log(x) + z", {"np", "x", "z"}),
        ("Q('odd name')", {"Q", "odd name"}),
        ("bs(x, df=4)", {"bs", "x"}),
        ("C(f, levels=['a', 'b'])", {"C", "f"}),
        ("x[0]", {"x"}),
        ("g.str.upper()", {"g"}),
    ],
)
def test_names_are_what_an_expression_reads(code, expected):
    assert names_in(code) == expected


# ------------------------------------------------------------------ patsy is the oracle


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(20)
    n = 60
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.uniform(1.0, 3.0, n),
            "z": rng.normal(size=n),
            "k": rng.integers(0, 9, n),
            "r": rng.choice([0.5, 1.0, 2.5], n),
            "f": rng.choice(list("cab"), n),
            "h": pd.Categorical(rng.choice(["lo", "mid", "hi"], n), ["lo", "mid", "hi"]),
            "o": pd.Categorical(rng.choice(["s", "l"], n), ["s", "l"], ordered=True),
            "b": rng.random(n) > 0.5,
            "odd name": rng.normal(size=n),
        }
    )


FIXED = [
    "1",
    "x",
    "0 + x",
    "x - 1",
    "x + z",
    "x + z + x:z",
    "x*z",
    "(x + z + k)**2",
    "(x + z + k)**3",
    "np.log(x)",
    "np.sqrt(x) + I(x**2)",
    "I(x + z)",
    "I(x > 2)",
    "x > 2",
    "f",
    "0 + f",
    "h",
    "h - 1",
    "o",
    "b",
    "C(k)",
    "0 + C(k)",
    "C(r)",
    "C(b)",
    "C(f, Sum)",
    "C(f, Treatment('b'))",
    "C(h, Poly)",
    "C(h, Helmert)",
    "C(h, Diff)",
    "C(f, levels=['b', 'a', 'c'])",
    "f*h",
    "f:h - 1",
    "f/h",
    "x*f",
    "x:f",
    "0 + x:f",
    "x/f",
    "f/x",
    "x + f + h + f:h + x:h",
    "b:x + f",
    "C(f, Sum):x",
    "bs(x, 4)",
    "bs(x, df=5, degree=2)",
    "cr(x, 4) - 1",  # a spline that contains the constant
    "bs(x, 4):f",
    "te(cr(x, 3), cr(z, 3)) - 1",
    "scale(x)",
    "center(x) + center(z)",
    "standardize(x)*f",
    "scale(np.log(x))",
    "center(x):standardize(z)",
    'Q("odd name")',
    'Q("odd name"):x + I(Q("odd name")**2)',
]


@pytest.mark.parametrize("written", FIXED)
def test_fixed_columns_are_patsys(frame, written):
    expected = patsy.dmatrix(written, frame)
    found = build(parse(f"y ~ {written}"), frame).X
    np.testing.assert_allclose(found, np.asarray(expected), rtol=0, atol=1e-13)


@pytest.mark.parametrize("written", FIXED)
def test_fixed_columns_are_named_as_patsy_names_them(frame, written):
    expected = patsy.dmatrix(written, frame).design_info.column_names
    assert list(build(parse(f"y ~ {written}"), frame).column_names) == expected


@pytest.mark.parametrize("written", FIXED)
def test_random_terms_do_not_change_the_fixed_columns(frame, written):
    alone = build(parse(f"y ~ {written}"), frame)
    beside = build(parse(f"y ~ {written} + (x | f) + (1 | k)"), frame)
    np.testing.assert_array_equal(beside.X, alone.X)


EFFECTS = ["x", "0 + x", "x*z", "f", "0 + f", "f:x - 1", "bs(x, 4)", "scale(x)", "C(f, Sum)"]


@pytest.mark.parametrize("written", EFFECTS)
def test_random_columns_are_patsys(frame, written):
    expected = patsy.dmatrix(written, frame)
    found = build(parse(f"y ~ 1 + ({written} | o)"), frame).random_terms[0].model_matrix
    np.testing.assert_allclose(found, np.asarray(expected), rtol=0, atol=1e-13)
