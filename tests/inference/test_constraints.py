"""Hypotheses on the fixed effects: what may be written, and what it is read as.

Source of truth: the rows of coefficients written out by hand, over the columns in their order.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError, DroppedColumnsWarning
from mixedfx.inference.constraints import Constraints, linear_constraints

NAMES = ["Intercept", "arm[T.b]", "arm[T.c]", "x"]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(8)
    n = 90
    g = rng.integers(9, size=n)
    return pd.DataFrame(
        {
            "y": rng.normal(size=n) + rng.normal(size=9)[g],
            "x": rng.normal(size=n),
            "arm": rng.permutation(np.resize(["a", "b", "c"], n)),
            "odd": rng.permutation(np.resize(["1-2", "3, 4", "5=6", "7*8"], n)),
            "g": g,
        }
    )


@pytest.fixture(scope="module")
def fit(data):
    made = mfx.lmer("y ~ arm + x + (1 | g)", data).model
    assert list(made.spec.column_names) == NAMES
    return made


@pytest.fixture(scope="module")
def fit_without_a_column(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DroppedColumnsWarning)
        made = mfx.lmer("y ~ x + I(2 * x) + arm + (1 | g)", data).model
    assert made.spec.dropped_names == ("I(2 * x)",)
    return made


def row(**weights):
    by_name = {"one": "Intercept", "b": "arm[T.b]", "c": "arm[T.c]", "x": "x"}
    found = dict.fromkeys(NAMES, 0.0) | {by_name[k]: float(v) for k, v in weights.items()}
    return list(found.values())


# ---------------------------------------------------------------- what may be written

SPELLINGS = [
    ("x", [row(x=1)], [0]),
    ("x = 10", [row(x=1)], [10]),
    ("10 = x", [row(x=-1)], [-10]),
    ("2 * x = 1", [row(x=2)], [1]),
    ("x / 4 = 1", [row(x=0.25)], [1]),
    ("-x = 1.5e-3", [row(x=-1)], [1.5e-3]),
    ("arm[T.b] = arm[T.c]", [row(b=1, c=-1)], [0]),
    ("arm[T.b] = arm[T.c] + 2", [row(b=1, c=-1)], [2]),
    ("(arm[T.b] + arm[T.c]) / 2 = x", [row(b=0.5, c=0.5, x=-1)], [0]),
    ("x = 1, arm[T.b] = 2", [row(x=1), row(b=1)], [1, 2]),
    ("x = arm[T.b] = 2", [row(x=1, b=-1), row(b=1)], [0, 2]),
    (["x = 1", "arm[T.b] = 2"], [row(x=1), row(b=1)], [1, 2]),
    (["x = 1"], [row(x=1)], [1]),
    ({"x": 1}, [row(x=1)], [1]),
    ({"x": 1, "Intercept": -2.5}, [row(x=1), row(one=1)], [1, -2.5]),
    (row(x=1), [row(x=1)], [0]),
    ([row(x=1), row(b=1, c=-1)], [row(x=1), row(b=1, c=-1)], [0, 0]),
    (np.eye(4), np.eye(4), [0, 0, 0, 0]),
    (np.eye(4, dtype=int)[:1], [row(one=1)], [0]),
    (pd.DataFrame(np.eye(4)[1:3], columns=NAMES), [row(b=1), row(c=1)], [0, 0]),
    ((np.eye(4)[:2], [3, 4]), [row(one=1), row(b=1)], [3, 4]),
    ((row(x=1), 5), [row(x=1)], [5]),
    (([row(x=1)], [5]), [row(x=1)], [5]),
]
every_spelling = pytest.mark.parametrize(("written", "rows", "values"), SPELLINGS, ids=repr)


def either_side(rows, values):
    """An equation and what it is the negative of say the same: turn the first weight positive."""
    rows, values = np.asarray(rows, dtype=float), np.asarray(values, dtype=float)
    sign = np.sign(rows[np.arange(len(rows)), (rows != 0).argmax(axis=1)])
    return np.column_stack([rows, values]) * sign[:, None]


@every_spelling
def test_every_spelling_is_read_as_its_rows(fit, written, rows, values):
    read = linear_constraints(fit, written)
    np.testing.assert_array_equal(either_side(read.rows, read.values), either_side(rows, values))


@every_spelling
def test_every_row_has_a_label(fit, written, rows, values):
    read = linear_constraints(fit, written)
    assert len(read.labels) == len(read.rows) == len(read.values)


def test_names_may_hold_signs_commas_and_stars(data):
    fit = mfx.lmer("y ~ odd + (1 | g)", data).model
    read = linear_constraints(fit, "odd[T.3, 4] = odd[T.5=6], 2*odd[T.7*8] = 1")
    np.testing.assert_array_equal(read.rows, [[0, 1, -1, 0], [0, 0, 0, 2]])


def test_hypotheses_are_read_only(fit):
    with pytest.raises(ValueError, match="read-only"):
        linear_constraints(fit, "x = 1").rows[0, 0] = 1.0


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("x = 10", "x = 10"),
        ("x", "x = 0"),
        ("Intercept", "Intercept = 0"),
        ("arm[T.b] = arm[T.c]", "arm[T.b] - arm[T.c] = 0"),
        ({"x": -0.5}, "x = -0.5"),
        (row(b=-1, x=2), "-arm[T.b] + 2 * x = 0"),
        (row(one=0.25, c=-3), "0.25 * Intercept - 3 * arm[T.c] = 0"),
        ((row(x=1), 1234567.0), "x = 1.23457e+06"),
    ],
    ids=repr,
)
def test_a_label_is_the_equation(fit, written, label):
    assert linear_constraints(fit, written).labels == (label,)


@pytest.mark.parametrize("written", ["x = 10", "arm[T.b] = arm[T.c], 2 * x = 1", np.eye(4)])
def test_labels_can_be_read_again(fit, written):
    once = linear_constraints(fit, written)
    again = linear_constraints(fit, list(once.labels))
    np.testing.assert_array_equal(
        either_side(again.rows, again.values), either_side(once.rows, once.values)
    )


# ---------------------------------------------------------------- rows that follow from others


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("x = 1, arm[T.b] = 2", ["x = 1", "arm[T.b] = 2"]),
        ("x = 1, x = 1", ["x = 1"]),
        ("x = 1, 2 * x = 2", ["x = 1"]),
        ("x = 1, arm[T.b] = 2, x + arm[T.b] = 3", ["x = 1", "arm[T.b] = 2"]),
        ("x + arm[T.b] = 3, x = 1, arm[T.b] = 2", ["arm[T.b] + x = 3", "x = 1"]),
    ],
)
def test_rows_that_follow_from_those_before_are_left_out(fit, written, kept):
    assert linear_constraints(fit, written).independent().labels == tuple(kept)


@pytest.mark.parametrize(
    "written",
    ["x = 1, x = 2", "x = 1, 2 * x = 3", "x = 1, arm[T.b] = 2, x + arm[T.b] = 4"],
)
def test_rows_that_contradict_each_other_are_refused(fit, written):
    with pytest.raises(ArgumentError, match="contradict each other"):
        linear_constraints(fit, written).independent()


@pytest.mark.parametrize("scale", [1e-20, 1e-9, 1e9, 1e20])
def test_independence_does_not_depend_on_the_units_of_a_coefficient(scale):
    hypotheses = Constraints(np.diag([1.0, scale]), np.zeros(2), ("a = 0", "b = 0"))
    assert len(hypotheses.independent().rows) == 2


@pytest.mark.parametrize("value", [1e-20, 1.0, 1e20])
def test_a_contradiction_does_not_depend_on_the_size_of_the_values(value):
    rows = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    hypotheses = Constraints(rows, np.array([value, 2 * value, 0.0]), ("a", "a again", "b"))
    with pytest.raises(ArgumentError, match="contradict"):
        hypotheses.independent()


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "written",
    [
        "z = 0",
        "x = z",
        "x = ",
        "= 1",
        "",
        "x * x = 0",
        "x ** 2 = 1",
        "0 = 0",
        "x - x = 0",
        "x = 1 2",
        "x = inf",
        [],
        {},
        {"z": 1},
        ["x = 0", "z = 0"],
        None,
        5,
        b"x",
        ("x", 1),
        (np.eye(4),),
        (np.eye(4), [1, 2]),
        np.eye(3),
        np.ones((2, 5)),
        np.ones((1, 1, 4)),
        np.zeros((0, 4)),
        [["a", "b", "c", "d"]],
    ],
    ids=repr,
)
def test_what_cannot_be_read_is_refused(fit, written):
    with pytest.raises(ArgumentError):
        linear_constraints(fit, written)


@pytest.mark.parametrize("written", ["z = 0", {"z": 1}, ["z = 0"], np.eye(3)], ids=repr)
def test_a_refusal_lists_the_coefficients(fit, written):
    with pytest.raises(ArgumentError) as refused:
        linear_constraints(fit, written)
    assert ", ".join(NAMES) in str(refused.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("X = 0", "'x'"),
        ("intercept = 0", "'Intercept'"),
        ("arm[T.a] = 0", "'arm[T.b]'"),
        ("x = 0, intercept = 1", "'Intercept'"),
        ("x + Interceptt = 1", "'Intercept'"),
        ("2*intercept = 1", "'Intercept'"),
        (["x = 0", "intercept = 1"], "'Intercept'"),
        ({"intercept": 1}, "'Intercept'"),
    ],
    ids=repr,
)
def test_a_refusal_offers_the_nearest_name(fit, written, meant):
    with pytest.raises(ArgumentError, match="Did you mean") as refused:
        linear_constraints(fit, written)
    assert meant in str(refused.value).partition("Did you mean")[2]


@pytest.mark.parametrize(
    "written", [np.full(4, np.nan), row(x=np.inf), {"x": np.nan}, (row(x=1), np.inf)], ids=repr
)
def test_hypotheses_that_are_not_finite_are_refused(fit, written):
    with pytest.raises(ArgumentError, match="not finite"):
        linear_constraints(fit, written)


@pytest.mark.parametrize("written", [np.zeros(4), [row(x=1), row()], (row(), 1)], ids=repr)
def test_rows_of_zeros_are_refused(fit, written):
    with pytest.raises(ArgumentError, match="involves no coefficient"):
        linear_constraints(fit, written)


# ---------------------------------------------------------------- columns that were left out


@pytest.mark.parametrize("written", ["I(2 * x) = 0", "x = I(2 * x)", [0, 0, 0, 0, 1.0]], ids=repr)
def test_a_column_that_was_left_out_cannot_be_tested(fit_without_a_column, written):
    columns = list(fit_without_a_column.spec.column_names)
    if not isinstance(written, str):
        written = [1.0 if name == "I(2 * x)" else 0.0 for name in columns]
    with pytest.raises(ArgumentError, match=r"I\(2 \* x\) was left out"):
        linear_constraints(fit_without_a_column, written)


def test_rows_are_over_the_columns_that_are_left(fit_without_a_column):
    names = fit_without_a_column.spec.X_names
    found = linear_constraints(fit_without_a_column, "arm[T.c] = 3").rows
    np.testing.assert_array_equal(found, [[float(name == "arm[T.c]") for name in names]])


def test_without_fixed_effects_there_is_nothing_to_test(data):
    fit = mfx.lmer("y ~ 0 + (1 | g)", data).model
    with pytest.raises(ArgumentError):
        linear_constraints(fit, "x = 0")
