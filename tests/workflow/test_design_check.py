"""The check of a design: what it finds, what it leaves alone, and the formulas it writes."""

import warnings

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx import errors


def _rows(**more):
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"g": np.repeat(range(12), 5), "t": np.tile(range(5), 12)})
    data = data.assign(x=rng.normal(size=60), w=data["g"] * 1.5)
    effects, slopes = rng.normal(size=(2, 12))
    y = 2.0 * effects[data["g"]] + slopes[data["g"]] * data["x"] + 0.5 * rng.normal(size=60)
    return data.assign(y=y).assign(**more)


def _schools(sizes=(2, 3, 4, 3, 2, 3, 4, 2)):
    cells = [(s, c, i) for s, k in enumerate(sizes) for c in range(1, k + 1) for i in range(6)]
    data = pd.DataFrame(cells, columns=["school", "classroom", "pupil"])
    return data.assign(y=np.random.default_rng(4).normal(size=len(data)))


def _found(check, kind):
    return next(f for f in check.findings if f.kind == kind)


# ---------------------------------------------------------------- pairs of factors


def test_labels_used_again_are_told_from_crossed_factors():
    check = mfx.check_design("y ~ 1 + (1 | school) + (1 | classroom)", _schools())
    finding = _found(check, "labels")
    assert finding.formula == "y ~ 1 + (1 | school/classroom)"
    assert check.pairs.loc[0, ["relation", "labels"]].tolist() == [
        "partially crossed",
        "used again",
    ]
    # Followed, the advice leaves nothing to say of labels.
    followed = mfx.check_design(finding.formula, _schools())
    assert "labels" not in {f.kind for f in followed.findings}


@pytest.mark.full
def test_equal_numbers_of_labels_are_a_question():
    for order in ("(1 | school) + (1 | classroom)", "(1 | classroom) + (1 | school)"):
        check = mfx.check_design(f"y ~ 1 + {order}", _schools((3,) * 8))
        assert "If each 'school' has the same ones" in _found(check, "labels").to_do
        assert check.to_try == ("y ~ 1 + (1 | school/classroom)",)


@pytest.mark.full
def test_a_subject_numbered_anew_in_each_arm_is_found():
    data = pd.DataFrame({"arm": list("a" * 20 + "b" * 25), "subject": [i // 5 for i in range(45)]})
    data.loc[20:, "subject"] -= 4
    check = mfx.check_design("~ arm + (1 | subject)", data)
    assert _found(check, "labels").formula == "~ arm + (1 | arm:subject)"


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "formula", "relation"),
    [
        ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", "fully crossed"),
        ("Pastes", "strength ~ 1 + (1 | batch) + (1 | batch:cask)", "nested"),
    ],
)
def test_known_designs_have_no_finding_about_labels(name, formula, relation):
    check = mfx.check_design(formula, mfx.datasets.load(name))
    assert check.pairs.loc[0, "relation"] == relation
    assert "labels" not in {f.kind for f in check.findings}


@pytest.mark.full
def test_sets_of_levels_that_no_row_joins_are_counted():
    a = np.r_[np.tile([0, 7], 10), np.tile([20, 31], 10)]
    b = np.r_[np.repeat([0, 8], 10), np.repeat([22, 29], 10)]
    check = mfx.check_design("~ 1 + (1 | a) + (1 | b)", {"a": a, "b": b})
    assert check.pairs.loc[0, "components"] == 2
    assert "2 sets" in _found(check, "connected").what


@pytest.mark.full
def test_factors_that_divide_the_rows_in_the_same_way_are_found():
    data = _rows()
    check = mfx.check_design(
        "y ~ x + (1 | g) + (1 | k)", data.assign(k="k" + data["g"].astype(str))
    )
    assert _found(check, "same").formula == "y ~ x + (1 | g)"


# ---------------------------------------------------------------- levels, slopes, cells


def test_a_slope_of_a_covariate_of_the_levels_is_left_out():
    check = mfx.check_design("y ~ x + w + (x + w | g)", _rows())
    assert _found(check, "slope").formula == "y ~ x + w + (x | g)"
    level = check.covariates.set_index("covariate")[["level", "units"]]
    assert level.loc["w"].tolist() == ["g", 12]
    assert level.loc["x"].tolist() == ["row", 60]


@pytest.mark.full
def test_two_rows_in_a_level_leave_no_residual_beside_a_slope():
    data = pd.DataFrame({"g": np.repeat(range(20), 2), "x": np.tile([0.0, 1.0], 20)})
    check = mfx.check_design("~ x + (x | g)", data)
    assert _found(check, "slope").formula == "~ x + (1 | g)"
    assert not check.slopes.loc[0, "can_be_estimated"]


@pytest.mark.full
@pytest.mark.parametrize(
    ("formula", "kind", "suggested"),
    [
        ("y ~ x + (1 | one)", "levels", "y ~ x"),
        ("y ~ x + (1 | row)", "levels", "y ~ x"),
        ("y ~ x + C(g) + (1 | g)", "same", "y ~ x + C(g)"),
        ("y ~ x + (f | x)", "swapped", "y ~ x + (x | f)"),
        ("y ~ x + I(2 * x) + (1 | g)", "dependent", "y ~ x + (1 | g)"),
    ],
)
def test_what_a_fit_refuses_is_said_with_a_formula_that_fits(formula, kind, suggested):
    data = _rows(one="k", row=range(60), f=list("abc") * 20)
    check = mfx.check_design(formula, data)
    assert _found(check, kind).formula == suggested
    assert not check.ok
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.SingularFitWarning)
        mfx.lmer(suggested, data)


@pytest.mark.full
def test_what_cannot_be_read_is_said_in_the_words_of_the_fit():
    data = _rows(
        text=lambda d: d["x"].astype(str), infinite=lambda d: d["x"].replace(d["x"][3], np.inf)
    )
    for column in ("text", "infinite"):
        formula = f"y ~ {column} + ({column} | g)"
        with pytest.raises(errors.DataError) as refused:
            mfx.lmer(formula, data)
        assert str(refused.value) in _found(mfx.check_design(formula, data), "refused").what


@pytest.mark.full
def test_empty_cells_are_listed():
    data = _rows(f=list("abc") * 20)
    check = mfx.check_design("y ~ f * C(t) + (1 | g)", data[(data["f"] != "a") | (data["t"] != 1)])
    finding = _found(check, "empty cells")
    assert "f = a, t = 1" in finding.what
    assert finding.formula == "y ~ f + C(t) + (1 | g)"


@pytest.mark.full
def test_a_coefficient_of_few_units_is_noted():
    data = _rows(arm=lambda d: d["g"] // 3 % 2, clinic=lambda d: d["g"] // 3)
    check = mfx.check_design("y ~ arm + (1 | clinic)", data)
    assert "4 levels of 'clinic'" in _found(check, "few units").what
    assert check.ok


# ---------------------------------------------------------------- what goes in and comes out


def test_a_right_design_has_nothing_to_change_and_the_data_stay():
    data = mfx.datasets.load("sleepstudy")
    before = data.copy()
    check = mfx.check_design("Reaction ~ Days + (Days | Subject)", data)
    assert check.findings == ()
    assert "Nothing to change." in str(check)
    pd.testing.assert_frame_equal(data, before)


@pytest.mark.full
def test_the_engine_and_the_effects_are_those_of_the_fit():
    for formula in ("y ~ x + (x | g)", "y ~ x + (1 + x | g)"):
        fit, size = mfx.lmer(formula, _rows()), mfx.check_design(formula, _rows()).size
        value = size.set_index("size")["value"]
        assert value["random effects"] == fit.model.spec.n_random_effects
        assert fit.engine in value["engine"]
    binary = _rows(y=np.tile([0, 1], 30))
    size = mfx.check_design("y ~ x + (1 | g)", binary, family="binomial").size
    assert size["value"].iloc[-1] == "Laplace's approximation"


@pytest.mark.full
def test_responses_that_are_not_observed_are_not_needed():
    planned = _rows().drop(columns="y")
    text = mfx.check_design("~ x + w + (w | g)", planned)
    assert text.to_try == ("~ x + w + (1 | g)",)
    assert mfx.check_design("y ~ x + (1 | g)", planned.assign(y=np.nan)).ok


@pytest.mark.full
def test_every_table_that_lmer_takes_is_taken():
    pa, pl = pytest.importorskip("pyarrow"), pytest.importorskip("polars")
    data, formula = _rows(), "y ~ x + w + (x + w | g)"
    expected = mfx.check_design(formula, data)
    columns = {name: data[name].tolist() for name in data}
    for table in (
        columns,
        pa.Table.from_pandas(data),
        pl.DataFrame(columns),
        pl.LazyFrame(columns),
    ):
        found = mfx.check_design(formula, table)
        pd.testing.assert_frame_equal(found.slopes, expected.slopes)
        assert found.findings == expected.findings


@pytest.mark.full
def test_names_that_are_no_identifiers_are_shown_as_they_are():
    names = {"y": "the y", "w": "of a level", "g": "a group"}
    formula = "`the y` ~ `of a level` + (`of a level` | `a group`)"
    check = mfx.check_design(formula, _rows().rename(columns=names))
    assert check.to_try == ("`the y` ~ `of a level` + (1 | `a group`)",)
    assert "Q__" not in str(check)
    assert "of a level" in check._repr_html_()


@pytest.mark.full
@pytest.mark.parametrize(
    ("formula", "arguments", "error", "message"),
    [
        ("y ~ x + (1 | nope)", {}, errors.MissingColumnError, "'nope' is not in the data"),
        ("y ~ x + (1 | g", {}, errors.FormulaError, "never closed"),
        ("y ~ x + (1 | g)", {"icc": 1.0}, errors.ArgumentError, "icc=1.0"),
        ("y ~ x + (1 | g)", {"icc": {"h": 0.1}}, errors.ArgumentError, "'h'"),
        ("y ~ x + (x | g)", {"icc": 0.5}, errors.ArgumentError, "leave some to the rows"),
        ("y ~ x + (1 | g)", {"family": "poison"}, errors.ArgumentError, "poison"),
        ("y ~ x + (1 | g)", {"REML": True}, errors.CallError, "REML"),
        ("y ~ x + (1 | g)", {"dispersion": "~ x"}, errors.CallError, "dispersion=: leave it out"),
    ],
)
def test_bad_input_is_named(formula, arguments, error, message):
    with pytest.raises(error, match=message):
        mfx.check_design(formula, _rows(), **arguments)


@pytest.mark.full
def test_data_that_are_no_table_are_named():
    with pytest.raises(errors.ColumnTypeError, match="data is a list"):
        mfx.check_design("y ~ x", [1, 2])
    with pytest.raises(errors.EmptyDataError):
        mfx.check_design("y ~ x + (1 | g)", _rows()[:0])
