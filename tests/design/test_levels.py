"""Levels of grouping factors: combinations of any number of factors, and look-up by text."""

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.design.levels import combine

SLEEP = mfx.datasets.load("sleepstudy")
NUMBER = SLEEP["Subject"].astype(int)


@pytest.mark.cases(1)
@pytest.mark.parametrize("n_factors", [2, 5, 9])
def test_combinations_are_the_distinct_rows_of_the_factors(n_factors):
    # 4000**9 is 2.6e32: a code in mixed radix would leave 64 bits from the sixth factor on.
    rng = np.random.default_rng(n_factors)
    codes = rng.integers(0, 4000, (1000, n_factors))
    codes = codes[rng.integers(0, len(codes), 3000)]
    levels, found = combine([(pd.Index(range(4000)), column) for column in codes.T])
    distinct, expected = np.unique(codes, axis=0, return_inverse=True)
    assert len(levels) == len(distinct)
    np.testing.assert_array_equal(found, expected.ravel())
    np.testing.assert_array_equal(np.column_stack(levels.value_positions), distinct)
    assert levels.labels[0] == ":".join(map(str, distinct[0]))
    np.testing.assert_array_equal(levels.encode([pd.Series(c) for c in codes.T]), found)
    unseen = [pd.Series([distinct[0][0]]), *(pd.Series([4001]) for _ in range(n_factors - 1))]
    assert levels.encode(unseen).tolist() == [-1]


def test_levels_of_seven_large_factors_united_are_those_of_all_rows():
    codes = np.random.default_rng(1).integers(0, 3000, (400, 7))
    values = [(pd.Index(range(3000)), column) for column in codes.T]
    whole, found = combine(values)
    first, of_first = combine([(index, column[:250]) for index, column in values])
    second, of_second = combine([(index, column[250:]) for index, column in values])
    united, in_first, in_second = first.union(second)
    assert united.labels.equals(whole.labels)
    np.testing.assert_array_equal(np.concatenate([in_first[of_first], in_second[of_second]]), found)


@pytest.mark.full
def test_a_model_of_seven_crossed_keys_has_the_likelihood_of_one_key():
    rng = np.random.default_rng(2)
    keys = rng.integers(0, 1000, (60, 7)) * 997
    rows = np.repeat(np.arange(60), 3)
    y = rng.normal(size=60)[rows] + rng.normal(size=180)
    # Values as far apart as those of identifiers; further rows give each factor 1000 values.
    data = pd.DataFrame(keys[rows], columns=list("abcdefh")).assign(y=y, g=rows)
    joint = mfx.lmer("y ~ 1 + (1 | a:b:c:d:e:f:h)", data)
    single = mfx.lmer("y ~ 1 + (1 | g)", data)
    assert joint.ngroups == {"a:b:c:d:e:f:h": 60}
    assert joint.deviance == pytest.approx(single.deviance, abs=1e-9)


TEXT = NUMBER.astype(str)
DATE = (pd.to_datetime("2020-01-01") + pd.to_timedelta(NUMBER, "D")).dt.date


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("of_fit", "new"),
    [
        (NUMBER, TEXT),
        (TEXT, NUMBER),
        (NUMBER, NUMBER.astype(float)),
        (NUMBER.astype(float), TEXT),
        (NUMBER + 0.5, (NUMBER + 0.5).astype(str)),
        (NUMBER.astype("Int64"), TEXT.astype("category")),
        (NUMBER.astype("category"), TEXT.astype("string[pyarrow]")),
        (DATE, DATE.astype(str)),
        (NUMBER.map(lambda n: (n, "a")), TEXT.map(lambda n: (n, "a"))),
    ],
    ids=["text", "number", "float", "of float", "fraction", "Int64", "Arrow", "date", "tuple"],
)
def test_group_keys_match_as_text(of_fit, new):
    # R's predict.merMod compares factor levels, which are text.
    fit = mfx.lmer("Reaction ~ Days + (Days | g)", SLEEP.assign(g=of_fit))
    predicted = fit.predict(SLEEP.assign(g=new))
    np.testing.assert_array_equal(predicted, fit.predict(SLEEP.assign(g=of_fit)))


def test_keys_within_nested_groups_match_as_text():
    data = SLEEP.assign(a=NUMBER // 10, b=NUMBER % 10)
    fit = mfx.lmer("Reaction ~ Days + (1 | a:b)", data)
    expected = fit.predict(data)
    for types in ({"a": str}, {"b": float}, {"a": "category", "b": str}):
        np.testing.assert_array_equal(fit.predict(data.astype(types)), expected)


def test_an_unseen_value_of_either_factor_is_a_new_level():
    data = SLEEP.assign(a=NUMBER // 10, b=NUMBER % 10)
    fit = mfx.lmer("Reaction ~ Days + (1 | a:b)", data)
    for changed in ({"a": 999}, {"b": "999"}):
        rows = data.assign(**changed)
        with pytest.raises(mfx.errors.NewLevelError, match="999"):
            fit.predict(rows)
        predicted = fit.predict(rows, new_levels="population")
        np.testing.assert_allclose(predicted, fit.predict(rows, random="none"))


def test_keys_of_two_types_with_one_text_are_one_level():
    # R: c(5, "5") is text, of one level.
    mixed = NUMBER.astype(object)
    mixed.iloc[::2] = TEXT.iloc[::2]
    fit = mfx.lmer("Reaction ~ Days + (Days | g)", SLEEP.assign(g=mixed))
    expected = mfx.lmer("Reaction ~ Days + (Days | Subject)", SLEEP)
    assert fit.deviance == expected.deviance
    assert fit.ranef("g").index.tolist() == expected.ranef("Subject").index.tolist()


def test_an_unseen_key_of_another_type_names_both_types():
    fit = mfx.lmer("Reaction ~ Days + (Days | g)", SLEEP.assign(g=NUMBER))
    with pytest.raises(mfx.errors.NewLevelError) as caught:
        fit.predict(SLEEP.assign(g="s" + TEXT))
    assert "'g' holds text here, such as 's308', and integers in the fit, such as 308" in str(
        caught.value
    )


def test_levels_to_draw_and_marginal_means_are_found_by_text():
    fit = mfx.lmer("Reaction ~ Days + (Days | g)", SLEEP.assign(g=NUMBER))
    from mixedfx.plots import select_levels

    labels = fit.ranef("g").index
    assert select_levels(labels, ["310", 308.0], group="g", max_levels=5).tolist() == [2, 0]
