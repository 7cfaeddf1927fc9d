"""Generated formulas parse back to themselves; any other text is a FormulaError.

Source of truth: patsy's own expansion of fixed terms.
"""

from __future__ import annotations

import patsy
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tiers import but_for

from mixedfx.errors import FormulaError
from mixedfx.formula.parser import parse
from mixedfx.formula.terms import Formula

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
    st.sampled_from(
        ["y", "np.log(y)", 'Q("the response")', "I(a + b)", "cbind(a, b - a)", "prop(`a b`, n)"]
    ),
    st.sampled_from(["1", "0"]) | parts,
    st.lists(randoms, max_size=3),
)


def _parsed(text: str) -> Formula | None:
    """Parse generated text; None where it has an empty or repeated random term."""
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


@pytest.mark.full
@given(formulas)
def test_text_of_any_formula_parses_back_to_it(text):
    formula = _parsed(text)
    assert formula is None or parse(str(formula)) == formula


@given(formulas)
def test_text_of_a_parsed_formula_is_stable(text):
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
    formula = _parsed(f"y ~ {' + '.join([*random, fixed])}")
    assert formula is None or formula.fixed == parse(f"y ~ {fixed}").fixed


# ------------------------------------------------------------------ arbitrary text

LETTERS = "yxzgf01239 ~|()+-*/:^.,'\"`#%\\\n\t;[]{}@=<>!$&?_é"


def _formula_or_error(text: str) -> None:
    """Assert that text is a formula that parses back to itself, or a FormulaError with a place."""
    try:
        outcome: Formula | FormulaError = parse(text)
    except FormulaError as error:
        outcome = error
    if isinstance(outcome, Formula):
        assert parse(str(outcome)) == outcome
    else:
        assert 0 <= outcome.start < outcome.end


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
def test_any_edit_of_a_formula_is_a_formula_or_a_formula_error(text, data):
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


@pytest.mark.full
@pytest.mark.parametrize("kind", but_for(DEEP, ["parentheses", "signs", "a sum"]))
def test_depth_ends_in_a_formula_or_a_formula_error(kind):
    _formula_or_error(DEEP[kind])
