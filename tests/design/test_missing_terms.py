"""Missing values that a term makes are missing values.

Source of truth: the same model with the term made as a column before the formula; R's numbers for
``f.map(...)`` and ``pd.cut``, of which lme4 drops the rows.
"""

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.errors import DroppedRowsWarning
from mixedfx.formula.parser import parse

# pandas announces that values outside the categories will be an error; they are missing until then.
pytestmark = pytest.mark.filterwarnings("ignore:Constructing a Categorical with a dtype")


def _data():
    r = np.random.default_rng(1)
    g, f = np.repeat(np.arange(12), 8), np.tile(list("abcd"), 24)
    x, u, s = r.normal(size=96), r.normal(size=12), r.normal(size=12) * 0.5
    shift = pd.Series(f).map({"a": 0, "b": 0.5, "c": 1, "d": -1}).to_numpy()
    y = 2 + x + shift + u[g] + s[g] * x + r.normal(size=96) * 0.7
    data = pd.DataFrame({"y": y, "x": x, "f": f, "g": [f"s{i:02d}" for i in g]})
    data["h"] = np.tile(["u", "v"], 48)
    data["k"] = (x + 3).astype(float)
    data.loc[::5, "k"] = np.nan
    data["i"] = pd.array(np.arange(96) % 4, dtype="Int64")
    data.loc[3:9, "i"] = pd.NA
    data["b"] = pd.array(np.arange(96) % 2 == 0, dtype="boolean")
    data.loc[1:4, "b"] = pd.NA
    data["t"] = pd.date_range("2020-01-01", periods=96)
    data.loc[5:8, "t"] = pd.NaT
    data["o"] = data["f"].astype(object)
    data.loc[10:14, "o"] = None
    return data


DATA = _data()
F, X = DATA["f"], DATA["x"]
# Each term, and the same column made before the formula.
TERMS = {
    "f.map(dict(a='q', b='r'))": F.map({"a": "q", "b": "r"}),
    "f.map(dict(a=1.0, b=2.0, c=5.0))": F.map({"a": 1.0, "b": 2.0, "c": 5.0}),
    "C(f.map(dict(a='q', b='r')))": F.map({"a": "q", "b": "r"}),
    "f.replace({'c': None, 'd': None})": F.replace({"c": None, "d": None}),
    "f.replace('d', pd.NA)": F.replace("d", pd.NA),
    "f.str.extract('(a|b|c)')": F.str.extract("(a|b|c)")[0],
    "f.str.extract('(a|b|c)')[0]": F.str.extract("(a|b|c)")[0],
    "f.where(f.isin(['a', 'b']))": F.where(F.isin(["a", "b"])),
    "np.where(f == 'a', None, f)": pd.Series(np.where(F == "a", None, F)),
    "pd.Categorical(f, categories=['a', 'b'])": F.where(F.isin(["a", "b"])),
    "C(f, levels=['b', 'a', 'z'])": F.where(F.isin(["a", "b"])),
    "C(f, Sum, levels=['b', 'a'])": F.where(F.isin(["a", "b"])),
    "pd.cut(x, [-1, 0, 1, 9, 10])": pd.cut(X, [-1, 0, 1, 9, 10]),
    "x.shift(1)": X.shift(1),
    "k.shift(1)": DATA["k"].shift(1),
    "x.rolling(3).mean()": X.rolling(3).mean(),
    "x.where(x > 0)": X.where(X > 0),
    "np.where(f == 'a', np.nan, x)": np.where(F == "a", np.nan, X),
    "np.log(k)": np.log(DATA["k"]),
    "k.fillna(0)": DATA["k"].fillna(0),
    "C(i)": DATA["i"].astype("string"),
    "i.astype(int)": DATA["i"],
    "np.sqrt(i)": np.sqrt(DATA["i"].astype(float)),
    "C(b)": DATA["b"].astype("string"),
    "t.dt.day_of_week": DATA["t"].dt.day_of_week,
    "I(o + h)": DATA["o"] + DATA["h"],
    "o.str.upper()": DATA["o"].str.upper(),
}
NUMBERS = {f"s{j:02d}": j // 2 for j in range(9)}
PLACES = ("y ~ {} + (1 | g)", "y ~ x + ({} | g)", "y ~ x * {} + (1 | g)")


def _design(formula, data, **options):
    return build(parse(formula), data, env=mfx.api.EvalEnvironment.capture(), **options)


def _same_space(A, B):
    fitted = A @ np.linalg.lstsq(A, B, rcond=None)[0]
    return A.shape == B.shape and np.allclose(fitted, B, atol=1e-8 * (1 + np.abs(B).max()))


@pytest.mark.covering(1)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("term", TERMS)
def test_a_term_drops_the_rows_of_a_column_made_before(term, place):
    found = _design(place.format(term), DATA).rows
    expected = _design(place.format("made"), DATA.assign(made=TERMS[term])).rows
    assert found.n < len(DATA) or term == "k.fillna(0)"
    assert found.index.equals(expected.index)
    assert _same_space(found.X, expected.X)
    for own, made in zip(found.random_terms, expected.random_terms, strict=True):
        np.testing.assert_array_equal(own.codes, made.codes)
        assert _same_space(own.model_matrix, made.model_matrix)


@pytest.mark.full
@pytest.mark.parametrize("dtype", ["category", "string", "string[pyarrow]", object])
@pytest.mark.parametrize(
    "term",
    [
        "f.map(dict(a='q', b='r'))",
        "f.where(f.isin(['a', 'b']))",
        "f.replace({'c': None, 'd': None})",
        "C(f, levels=['a', 'b'])",
        "pd.Categorical(f, categories=['a', 'b'])",
    ],
)
def test_every_type_of_text_gives_the_estimates_of_lme4(term, dtype):
    # R: lmer(y ~ m + (1 | g)), m = c(a = "q", b = "r")[f]: 48 rows.
    with pytest.warns(DroppedRowsWarning, match="48 of 96 rows"):
        fit = mfx.lmer(f"y ~ {term} + (1 | g)", DATA.assign(f=F.astype(dtype)))
    assert fit.nobs == 48
    np.testing.assert_allclose(fit.params, [1.87390379, 0.31240863], atol=1e-7)
    left_out = f"48 of 96 rows have missing values and were left out: {term} (48)."
    assert fit.notes == (left_out,)


@pytest.mark.parametrize("dtype", ["Float64", "float64[pyarrow]"])
def test_numbers_that_a_term_makes_missing(dtype):
    data = DATA.assign(x=X.astype(dtype))
    for term in ("x.where(x > 0)", "np.log(x.where(x > 0))"):
        assert _design(f"y ~ {term} + (1 | g)", data).rows.n == (X > 0).sum()


def test_intervals_by_cut_give_the_estimates_of_lme4():
    with pytest.warns(DroppedRowsWarning):
        fit = mfx.lmer("y ~ pd.cut(x, [-1, 0, 1]) + (1 | g)", DATA)
    assert fit.nobs == 76
    np.testing.assert_allclose(fit.params, [1.52254293, 0.91040867], atol=1e-6)


@pytest.mark.parametrize(
    ("group", "made"),
    [
        ("g.where(x > -1)", DATA["g"].where(X > -1)),
        ("np.where(x > -1, g, None)", DATA["g"].where(X > -1)),
        (
            "C(g, levels=['s00', 's03', 's05'])",
            DATA["g"].where(DATA["g"].isin(["s00", "s03", "s05"])),
        ),
        (
            "g.map({'s%02d' % j: j // 2 for j in range(9)})",
            DATA["g"].map({f"s{j:02d}": j // 2 for j in range(9)}),
        ),
    ],
)
@pytest.mark.parametrize("place", ["y ~ x + (1 | {})", "y ~ x + (x | {}:h)"])
def test_a_group_that_is_missing_leaves_its_rows_out(group, made, place):
    found = _design(place.format(group), DATA)
    expected = _design(place.format("made"), DATA.assign(made=made))
    assert found.rows.index.equals(expected.rows.index)
    np.testing.assert_array_equal(
        found.rows.random_terms[0].codes, expected.rows.random_terms[0].codes
    )


def test_a_dispersion_formula_leaves_rows_out_of_all_parts():
    residual = mfx.api.parse_dispersion("~ f.map(dict(a='q', b='r'))")
    design = _design("y ~ x + (1 | g)", DATA, residual=residual)
    assert design.rows.n == 48
    assert design.rows.residual.D.shape == (48, 2)


@pytest.mark.parametrize(
    ("response", "made"),
    [("np.log(y)", np.log(DATA["y"].where(DATA["y"] > 0))), ("y.shift(1)", DATA["y"].shift(1))],
)
def test_a_response_that_is_missing_leaves_its_rows_out(response, made):
    found = _design(f"{response} ~ x + (1 | g)", DATA).rows
    expected = _design("made ~ x + (1 | g)", DATA.assign(made=made)).rows
    np.testing.assert_array_equal(found.y, expected.y)


@pytest.mark.parametrize("term", ["center(x)", "scale(x)", "poly(x, 2)", "bs(x, 4)"])
def test_a_transform_learns_from_the_rows_that_are_complete(term):
    complete = DATA[F.isin(["a", "b"])]
    found = _design(f"y ~ {term} + f.map(dict(a='q', b='r')) + (1 | g)", DATA).rows
    expected = _design(f"y ~ {term} + f + (1 | g)", complete).rows
    np.testing.assert_allclose(np.sort(found.X), np.sort(expected.X), atol=1e-12)


@pytest.mark.parametrize("argument", ["x.shift(1)", "x.where(x > -1)", "np.log(k)"])
@pytest.mark.parametrize("transform", ["center({})", "poly({}, 2)", "bs({}, df=4)"])
def test_missing_arguments_of_a_transform_are_missing(transform, argument):
    made = {
        "x.shift(1)": X.shift(1),
        "x.where(x > -1)": X.where(X > -1),
        "np.log(k)": np.log(DATA["k"]),
    }
    found = _design(f"y ~ {transform.format(argument)} + (1 | g)", DATA).rows
    data = DATA.assign(made=made[argument])
    expected = _design(f"y ~ {transform.format('made')} + (1 | g)", data).rows
    np.testing.assert_allclose(found.X, expected.X, atol=1e-12)


def test_new_rows_in_which_a_term_is_missing_predict_nothing():
    formula = "y ~ f.map(dict(a='q', b='r')) + x.where(x > -1) + (1 | g.where(x > -2))"
    with pytest.warns(DroppedRowsWarning):
        fit = mfx.lmer(formula, DATA)
    predicted = fit.predict(DATA)
    complete = F.isin(["a", "b"]) & (X > -1)
    np.testing.assert_array_equal(predicted.notna(), complete)
    np.testing.assert_allclose(predicted[complete], fit.fittedvalues)


def test_levels_that_no_complete_row_has_make_no_columns():
    for term in ("C(f, levels=['a', 'b', 'z'])", "f.astype('category')", "pd.Categorical(f)"):
        data = DATA.assign(x=X.where(F.isin(["a", "b"])))
        design = _design(f"y ~ {term} + x + (1 | g)", data)
        assert len(design.spec.column_names) == 3


def test_a_term_that_is_missing_everywhere_is_named():
    with pytest.raises(mfx.errors.EmptyDataError, match=r"f\.map\({}\) \(96\)"):
        mfx.lmer("y ~ f.map({}) + (1 | g)", DATA)


def test_infinite_values_of_a_term_stay_an_error():
    with pytest.raises(mfx.errors.InfiniteValueError, match="-inf in 96 rows"):
        mfx.lmer("y ~ np.log(x - x) + (1 | g)", DATA)


def test_the_table_is_not_changed():
    before = DATA.copy(deep=True)
    _design("y ~ C(f, levels=['a', 'b']) + x.shift(1) + np.log(k) + (1 | g.where(x > 0))", DATA)
    pd.testing.assert_frame_equal(DATA, before)
