"""How a generalised model's response, trials and offset are read from the data."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from patsy import EvalEnvironment

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.design.new_data import evaluate_new_data, formula_offset
from mixedfx.design.response import ResponseSpec, Successes, TwoLevels
from mixedfx.errors import (
    ColumnTypeError,
    DataError,
    InfiniteValueError,
    MissingColumnError,
    ResponseError,
    WeightsError,
)
from mixedfx.families import NORMAL, resolve_family
from mixedfx.formula.parser import parse
from mixedfx.refit import new_response
from mixedfx.storage.expressions import check_formula

N = 40
BINOMIAL, POISSON = resolve_family("binomial"), resolve_family("poisson")


@pytest.fixture
def data():
    rng = np.random.default_rng(20)
    n = rng.integers(1, 9, N)
    frame = pd.DataFrame({"x": rng.normal(size=N), "g": np.repeat(list("abcdefgh"), 5), "n": n})
    frame["k"] = rng.binomial(n, 0.4)
    frame["y"] = rng.integers(0, 2, N)
    return frame.set_axis([f"r{i}" for i in range(N)], axis=0)


def design_of(response, data, family=BINOMIAL, right="x + (1 | g)", **arguments):
    return build(parse(f"{response} ~ {right}"), data, family=family, **arguments)


# ---------------------------------------------------------------- zero and one


CODINGS = {
    "integers": lambda y: y,
    "floats": lambda y: y.astype(float),
    "booleans": lambda y: y == 1,
    "nullable booleans": lambda y: (y == 1).astype("boolean"),
    "objects": lambda y: (y == 1).astype(object),
    "text": lambda y: y.map({0: "no", 1: "yes"}),
    "text of digits": lambda y: y.map({0: "1", 1: "2"}),
    "categories": lambda y: pd.Categorical(y.map({0: "yes", 1: "no"}), categories=["yes", "no"]),
    "unused category": lambda y: pd.Categorical(
        y.map({0: "b", 1: "a"}), categories=["b", "never", "a"]
    ),
    "numeric categories": lambda y: pd.Categorical(y.map({0: 2, 1: 1}), categories=[2, 1]),
}


@pytest.mark.parametrize("coding", CODINGS)
def test_a_response_of_two_values_is_one_in_rows_of_success(data, coding):
    design = design_of("z", data.assign(z=CODINGS[coding](data["y"])))
    np.testing.assert_array_equal(design.rows.y, data["y"])
    assert design.rows.weights is None


@pytest.mark.parametrize(
    "response", ["I(y == 1)", "(y > 0)", "C(z)", "z.str.upper()", "np.where(y == 1, 1, 0)"]
)
def test_expressions_of_two_values_are_responses(data, response):
    design = design_of(response, data.assign(z=data["y"].map({0: "no", 1: "yes"})))
    np.testing.assert_array_equal(design.rows.y, data["y"])


def test_the_second_level_is_the_success_and_is_named(data):
    z = pd.Categorical(data["y"].map({0: "yes", 1: "no"}), categories=["yes", "no"])
    spec = design_of("z", data.assign(z=z)).spec
    assert spec.response == TwoLevels("yes", "no")
    assert "probability that 'z' is 'no', the second" in spec.response.note("z")


def test_levels_given_in_a_formula_keep_their_order(data):
    design = design_of("C(y, levels=[1, 0])", data)
    assert design.spec.response == TwoLevels(1, 0)
    np.testing.assert_array_equal(design.rows.y, 1 - data["y"])


def test_levels_that_are_no_text_are_named_as_they_print(data):
    spec = design_of("z", data.assign(z=pd.cut(data["y"], [-1.0, 0.5, 2.0]))).spec
    assert "is (0.5, 2.0], the second" in spec.response.note("z")


def test_of_categories_without_rows_none_is_a_level(data):
    z = pd.Categorical(["yes"] * N, categories=["no", "yes"])
    with pytest.raises(ResponseError, match="'z' is 'yes' in every row used"):
        design_of("z", data.assign(z=z))


def test_a_level_that_only_incomplete_rows_have_is_none(data):
    z = data["y"].map({0: "no", 1: "yes"})
    with pytest.raises(ResponseError, match="'z' is 'no' in every row used"):
        design_of("z", data.assign(z=z, x=data["x"].where(data["y"] == 0)))


@pytest.mark.parametrize("name", ["z", "odd name"])
def test_more_levels_than_two_are_refused_with_advice_that_works(data, name):
    frame = data.assign(**{name: np.resize(["a", "b", "c"], N)})
    written = f"`{name}`" if " " in name else name
    with pytest.raises(ResponseError) as caught:
        design_of(written, frame)
    advised = str(caught.value).split("'I(")[1].split(" ~ ...'")[0]
    y = design_of("I(" + advised, frame).rows.y
    np.testing.assert_array_equal(y, frame[name] == "c")


def test_one_and_two_are_refused_with_advice_that_works(data):
    with pytest.raises(ResponseError, match=r"1 or 2, not 0 or 1: write 'I\(z == 2\) ~ \.\.\.'"):
        design_of("z", data.assign(z=data["y"] + 1))
    design = design_of("I(z == 2)", data.assign(z=data["y"] + 1))
    np.testing.assert_array_equal(design.rows.y, data["y"])


# ---------------------------------------------------------------- successes of trials


SPELLINGS = {
    "cbind": ("cbind(k, n - k)", {}),
    "cbind of columns": ("cbind(k, m)", {}),
    "prop": ("prop(k, n)", {}),
    "backticks": ("prop(`no. sick`, n)", {}),
    "proportion column": ("p", {"weights": "n"}),
    "proportion": ("I(k / n)", {"weights": "n"}),
    "weights as an array": ("p", {"weights": "array"}),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_successes_are_proportions_with_trials(data, spelling):
    response, arguments = SPELLINGS[spelling]
    frame = data.assign(m=data["n"] - data["k"], p=data["k"] / data["n"])
    frame["no. sick"] = data["k"]
    if arguments.get("weights") == "array":
        arguments = {"weights": frame["n"].to_numpy()}
    rows = design_of(response, frame, **arguments).rows
    np.testing.assert_array_equal(rows.y, data["k"] / data["n"])
    np.testing.assert_array_equal(rows.weights, data["n"])


def test_a_number_of_trials_is_that_of_every_row(data):
    rows = design_of("prop(k, 8)", data).rows
    np.testing.assert_array_equal(rows.y, data["k"] / 8)
    np.testing.assert_array_equal(rows.weights, np.full(N, 8.0))


def test_trials_may_be_a_variable_of_the_caller(data):
    trials = 9
    env = EvalEnvironment.capture(0)
    rows = design_of("cbind(k, trials - k)", data, env=env).rows
    np.testing.assert_array_equal(rows.weights, np.full(N, float(trials)))


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "object"])
def test_successes_of_any_numeric_type_are_read_with_their_missing_values(data, dtype):
    k = data["k"].astype(dtype)
    k.iloc[3] = None if dtype == "object" else pd.NA
    design = design_of("cbind(k, n - k)", data.assign(k=k))
    kept = data.index != "r3"
    np.testing.assert_array_equal(design.rows.y, (data["k"] / data["n"])[kept])


def test_single_trials_are_no_weights(data):
    assert design_of("cbind(y, 1 - y)", data).rows.weights is None
    assert design_of("y", data, weights=np.ones(N)).rows.weights is None


def test_columns_named_as_the_functions_are_columns(data):
    frame = data.assign(prop=data["k"], cbind=data["x"])
    rows = design_of("prop(prop, n)", frame, right="cbind + (1 | g)").rows
    np.testing.assert_array_equal(rows.y, data["k"] / data["n"])


def test_a_dot_does_not_stand_for_successes_and_trials(data):
    spec = design_of("cbind(k, n - k)", data, right=". + (1 | g)").spec
    assert spec.column_names == ("Intercept", "x", "y")


def test_rows_with_missing_successes_or_trials_are_dropped_and_counted(data):
    frame = data.assign(
        k=data["k"].astype(float).where(data.index != "r3"),
        n=data["n"].astype(float).where(~data.index.isin(["r4", "r5"])),
    )
    rows = design_of("prop(k, n)", frame).rows
    assert dict(rows.missing) == {"k": 1, "n": 2}
    assert rows.n_dropped == 3
    rows = design_of("cbind(k, n - k)", frame).rows
    assert rows.n_dropped == 3
    assert not rows.index.isin(["r3", "r4", "r5"]).any()


def test_rows_without_trials_are_kept_as_in_R(data):
    # R 4 and lme4: glmer(cbind(k, n - k) ~ ...) keeps them, nobs() counts them, y is 0.
    frame = data.assign(k=data["k"].where(data.index != "r3", 0))
    frame["n"] = data["n"].where(data.index != "r3", 0)
    rows = design_of("cbind(k, n - k)", frame).rows
    assert (rows.n, rows.y[3], rows.weights[3]) == (N, 0.0, 0.0)


def test_equal_proportions_are_data(data):
    rows = design_of("prop(2, 4)", data).rows
    assert set(rows.y) == {0.5}


WRONG = {
    "negative successes": ("cbind(-n, n)", ("negative successes", "r0, r1, r2 and 37 more")),
    "negative failures": ("cbind(n, k - n)", ("negative failures", "poisson")),
    "more successes than trials": ("prop(n + 1, n)", ("more successes than trials", "cbind(k, m)")),
    "fractional": ("cbind(k / 2 + 0.25, n)", ("successes", "no whole numbers", "weights=trials")),
    "fractional trials": ("prop(k, n + 0.5)", ("trials", "no whole numbers")),
    "no success": ("prop(0 * k, n)", ("every row",)),
    "no failure": ("prop(n, n)", ("every row",)),
    "no trials": ("prop(0 * n, 0 * n)", ("no trials",)),
    "constant": ("I(0 * y)", ("0", "every row")),
    "counts": ("n", ("poisson",)),
    "negative": ("I(y - 2)", ("-2 or -1",)),
    "proportions without trials": ("I(k / n)", ("prop(k, n)", "weights=")),
    "columns": ("np.column_stack([k, n])", ("2 columns", "cbind(k, n - k)")),
}


@pytest.mark.parametrize("fault", WRONG)
def test_each_wrong_binomial_response_has_its_own_error(data, fault):
    response, words = WRONG[fault]
    with pytest.raises(ResponseError) as caught:
        design_of(response, data)
    for word in words:
        assert word in str(caught.value)


def test_infinite_successes_are_refused(data):
    with pytest.raises(InfiniteValueError, match="r0"):
        design_of("prop(k / 0, n)", data.assign(k=1))


def test_successes_that_are_no_numbers_or_no_column_are_named(data):
    with pytest.raises(ColumnTypeError, match=r"'prop\(g, n\)' must be numbers"):
        design_of("prop(g, n)", data)
    with pytest.raises(MissingColumnError, match="'sick'"):
        design_of("cbind(sick, n - sick)", data)


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize("weights", [0.5, -1.0])
def test_trials_are_whole_and_not_negative(data, weights):
    with pytest.raises(WeightsError, match=r"numbers of trials.*row r0"):
        design_of("y", data, weights=np.full(N, weights))


def test_weights_beside_successes_are_refused(data):
    with pytest.raises(WeightsError, match="leave weights= out"):
        design_of("cbind(k, n - k)", data, weights="n")


def test_trials_of_zero_and_one_responses_are_kept(data):
    rows = design_of("y", data, weights="n").rows
    np.testing.assert_array_equal(rows.weights, data["n"])
    np.testing.assert_array_equal(rows.y, data["y"])


def test_prior_weights_of_other_families_are_positive(data):
    with pytest.raises(WeightsError, match="positive"):
        design_of("k", data, POISSON, weights=np.zeros(N))
    rows = design_of("k", data, POISSON, weights="n").rows
    np.testing.assert_array_equal(rows.weights, data["n"])


# ---------------------------------------------------------------- other families


@pytest.mark.parametrize("family", ["gaussian", "poisson", "gamma", "nbinom2"])
def test_successes_and_levels_are_for_binomial_families(data, family):
    family = resolve_family(family)
    with pytest.raises(ResponseError, match=r'mfx\.glmer\(formula, data, family="binomial"\)'):
        design_of("cbind(k, n - k)", data, family)
    text = data.assign(z=data["y"].map({0: "no", 1: "yes"}))
    with pytest.raises(ResponseError, match=r"'no', 'yes'.*probability that it is 'yes'"):
        design_of("z", text, family)


@pytest.mark.parametrize("response", ["cbind(k, n - k)", "prop(k, n)", "z"])
def test_lmer_names_glmer_for_successes_and_levels(data, response):
    text = data.assign(z=data["y"].map({0: "no", 1: "yes"}))
    with pytest.raises(ResponseError, match=r"mfx\.glmer"):
        mfx.lmer(f"{response} ~ x + (1 | g)", text)


def test_levels_of_one_row_are_for_families_without_a_residual_variance(data):
    frame = data.assign(row=np.arange(N))
    spec = design_of("k", frame, POISSON, right="x + (1 | row)").spec
    assert spec.ngroups == {"row": N}
    with pytest.raises(DataError, match="one row per level"):
        design_of("k", frame, NORMAL, right="x + (1 | row)")


# ---------------------------------------------------------------- offset


@pytest.mark.parametrize("family", [BINOMIAL, POISSON])
def test_offsets_of_argument_and_formula_are_added(data, family):
    frame = data.assign(log_time=np.log(data["n"]))
    response = "prop(k, n)" if family is BINOMIAL else "k"
    design = design_of(
        response, frame, family, right="x + offset(log(n)) + (1 | g)", offset="log_time"
    )
    np.testing.assert_allclose(design.rows.offset, 2.0 * np.log(data["n"]))
    np.testing.assert_allclose(formula_offset(design.spec, frame[:3]), np.log(data["n"][:3]))


@pytest.mark.parametrize("family", ["poisson", "binomial", "gamma", "nbinom1"])
@pytest.mark.parametrize("size", [5000.0, -800.0])
def test_an_offset_beyond_the_mean_is_named(data, family, size):
    frame = data.assign(time=np.where(data.index == "r7", size, 1.0), one=data["k"] + 1.0)
    response = {"gamma": "one", "binomial": "y"}.get(family, "k")
    link = "log" if family == "gamma" else None
    with pytest.raises(DataError, match=f"offset is {size:g} in row r7.*log"):
        design_of(response, frame, resolve_family(family, link), offset="time")


@pytest.mark.parametrize(
    ("family", "link"),
    [("poisson", "identity"), ("poisson", "sqrt"), ("gaussian", "identity"), ("gamma", "inverse")],
)
def test_an_offset_on_the_scale_of_the_mean_may_be_large(data, family, link):
    frame = data.assign(k=data["k"] + 1, time=5000.0)
    rows = design_of("k", frame, resolve_family(family, link), offset="time").rows
    assert rows.offset[0] == 5000.0


# ---------------------------------------------------------------- new data, other responses


@pytest.mark.parametrize("response", ["cbind(k, n - k)", "prop(k, n)", "y", "I(y > 0)"])
def test_new_data_need_neither_response_nor_trials(data, response):
    spec = design_of(response, data).spec
    new = evaluate_new_data(spec, data[["x", "g"]], groups=("g",))
    np.testing.assert_array_equal(new.X[:, 1], data["x"])
    assert (new.codes[0] >= 0).all()


def test_new_data_need_no_trials_that_are_weights(data):
    spec = design_of("I(k / n)", data, weights="n").spec
    assert evaluate_new_data(spec, data[["x", "g"]], groups=("g",)).X.shape == (N, 2)


@pytest.mark.parametrize("response", ["cbind(k, n - k)", "z", "y"])
@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "cauchit", "log"])
def test_a_specification_pickles_with_family_and_response(data, response, link):
    frame = data.assign(z=data["y"].map({0: "no", 1: "yes"}))
    spec = design_of(response, frame, resolve_family("binomial", link)).spec
    found = pickle.loads(pickle.dumps(spec))
    assert (found.family, found.response) == (spec.family, spec.response)


@pytest.mark.parametrize("family", ["gamma", "inverse_gaussian", "nbinom2", "nbinom1", "poisson"])
def test_a_specification_pickles_with_each_family(data, family):
    spec = design_of("k", data.assign(k=data["k"] + 1), resolve_family(family)).spec
    assert pickle.loads(pickle.dumps(spec)).family == spec.family


@pytest.mark.parametrize("response", ["cbind(k, n - k)", "prop(prop, n)", "I(k / n)"])
def test_a_file_may_bring_responses_along(data, response):
    spec = design_of(response, data.assign(prop=data["k"]), weights=trials_of(response)).spec
    check_formula(spec, set())


def trials_of(response):
    return "n" if response.startswith("I(") else None


def test_the_specification_of_a_linear_model_is_normal(data):
    spec = build(parse("x ~ k + (1 | g)"), data).spec
    assert spec.family == NORMAL
    assert spec.response == ResponseSpec()


def new_values(design, values):
    return new_response(values, design.spec, design.rows)


def test_new_proportions_keep_the_trials(data):
    design = design_of("cbind(k, n - k)", data)
    assert design.spec.response == Successes("cbind")
    p = 1.0 - data["k"] / data["n"]
    found = new_values(design, p.sample(frac=1.0, random_state=1))
    np.testing.assert_allclose(found.y, p, rtol=1e-15)
    np.testing.assert_array_equal(found.weights, data["n"])


@pytest.mark.parametrize("function", ["cbind", "prop"])
def test_two_new_columns_are_successes_with_trials_of_their_own(data, function):
    design = design_of("cbind(k, n - k)" if function == "cbind" else "prop(k, n)", data)
    new = np.column_stack([data["k"], data["n"] + 1])
    found = new_values(design, new)
    trials = data["n"] + 1 + (data["k"] if function == "cbind" else 0)
    np.testing.assert_array_equal(found.weights, trials)
    np.testing.assert_allclose(found.y, data["k"] / trials, rtol=1e-15)


def test_new_values_of_two_levels_are_levels_or_numbers(data):
    design = design_of("z", data.assign(z=data["y"].map({0: "no", 1: "yes"})))
    new = 1 - data["y"]
    for values in (new, new == 1, new.map({0: "no", 1: "yes"}), new.astype(float).to_numpy()):
        np.testing.assert_array_equal(new_values(design, values).y, new)
    as_categories = pd.Categorical(new.map({0: "no", 1: "yes"}), categories=["yes", "no"])
    np.testing.assert_array_equal(new_values(design, as_categories).y, new)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda d: d["k"], ResponseError, "more successes than trials"),
        (lambda d: 0.3 + 0.0 * d["k"], ResponseError, "of 7 trials"),
        (lambda d: (d["k"] / d["n"]).where(d.index != "r3"), InfiniteValueError, "1 rows"),
        (lambda d: np.zeros((N, 3)), ResponseError, "3 columns"),
        (lambda d: d["g"], ResponseError, "columns"),
        (lambda d: np.zeros(N), ResponseError, "every row"),
    ],
)
def test_each_wrong_new_response_has_its_own_error(data, change, error, words):
    design = design_of("prop(k, n)", data.assign(n=7, k=data["k"].clip(upper=7)))
    with pytest.raises(error, match=words):
        new_values(design, change(data.assign(k=data["k"] + 5)))
