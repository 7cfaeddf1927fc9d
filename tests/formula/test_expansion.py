"""Expansion of formulas: ``.``, names, and the columns of both parts.

Sources of truth: R's ``terms(y ~ ., data)`` for the dot, patsy itself for the columns.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import patsy
import pytest

from mixedfx._names import encode
from mixedfx.design.build import build
from mixedfx.formula.expansion import expand_dot, names_in
from mixedfx.formula.parser import parse
from mixedfx.formula.terms import RandomTerm

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
    assert expanded.fixed == " + ".join(map(encode, ["a b", "class", "it's"]))


def test_dot_leaves_out_a_quoted_response():
    assert expand_dot(parse("Q('the y') ~ . + (1 | g)"), ["the y", "a", "g"]).fixed == "a"


def test_dot_keeps_the_random_terms():
    assert expand_dot(parse("y ~ . + (1 | g)"), COLUMNS).random == (RandomTerm("1", ("g",)),)


def test_formula_without_a_dot_is_left_alone():
    formula = parse("y ~ a + (1 | g)")
    assert expand_dot(formula, COLUMNS) is formula


def test_dot_takes_a_thousand_columns():
    columns = [f"x{i}" for i in range(1000)]
    assert expand_dot(parse("y ~ ."), ["y", *columns]).fixed == " + ".join(columns)


# ------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x", {"x"}),
        ("np.log(x) + z", {"np", "x", "z"}),
        (f"np.log({encode('odd name')})", {"np", encode("odd name")}),
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
    "standardize(x)",
    "center(x) + center(z)",
    "standardize(x)*f",
    "standardize(np.log(x))",
    "center(x):standardize(z)",
    'Q("odd name")',
    'Q("odd name"):x + I(Q("odd name")**2)',
]


@pytest.mark.parametrize("written", FIXED)
def test_fixed_columns_are_patsys_with_random_terms_or_without(frame, written):
    expected = patsy.dmatrix(written, frame)
    alone = build(parse(f"y ~ {written}"), frame)
    np.testing.assert_allclose(alone.rows.X, np.asarray(expected), rtol=0, atol=1e-13)
    names = [n.replace('Q("odd name")', "odd name") for n in expected.design_info.column_names]
    assert list(alone.spec.column_names) == names
    beside = build(parse(f"y ~ {written} + (x | f) + (1 | k)"), frame)
    np.testing.assert_array_equal(beside.rows.X, alone.rows.X)


EFFECTS = ["x", "0 + x", "x*z", "f", "0 + f", "f:x - 1", "bs(x, 4)", "standardize(x)", "C(f, Sum)"]


@pytest.mark.parametrize("written", EFFECTS)
def test_random_columns_are_patsys(frame, written):
    expected = patsy.dmatrix(written, frame)
    found = build(parse(f"y ~ 1 + ({written} | o)"), frame).rows.random_terms[0].model_matrix
    np.testing.assert_allclose(found, np.asarray(expected), rtol=0, atol=1e-13)
