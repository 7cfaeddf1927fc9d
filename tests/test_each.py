"""Many responses at once: each is the fit of that response alone.

Source of truth: ``mfx.lmer`` of each response, which has its own references; limma's formulas
written out for moderated variances.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import mixedfx as mfx
from mixedfx.errors import ArgumentError, FormulaError, MixedfxWarning, SingularFitWarning
from mixedfx.inference.false_discovery import false_discovery_rates
from mixedfx.inference.moderation import moderated_variances

COLUMNS = list(mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff")).tidy().columns)
# Two searches of one model end within 1e-8 of a deviance: 1e-4 of the standard deviation of theta,
# of which standard errors depend less.
SEARCHES = 2e-5


def design(persons=30, each=5, seed=2):
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(persons), each)
    n = len(person)
    return pd.DataFrame(
        {
            "person": person,
            "t": np.tile(np.arange(float(each)), persons),
            "disease": np.where(person % 2, "yes", "no"),
            "batch": rng.integers(6, size=n),
            "w": rng.uniform(0.5, 2.0, n),
            "off": rng.standard_normal(n),
        },
        index=[f"row{i}" for i in range(n)],
    )


DATA = design()


def responses(count=12, seed=5, data=DATA):
    rng, n = np.random.default_rng(seed), len(data)
    person, t = data["person"].to_numpy(), data["t"].to_numpy()
    sds = rng.choice([0.0, 0.3, 1.0, 3.0], (2, count))
    persons = person.max() + 1
    Y = 50.0 + rng.standard_normal((n, count))
    Y += (sds[0] * rng.standard_normal((persons, count)))[person]
    Y += (0.3 * sds[1] * rng.standard_normal((persons, count)))[person] * t[:, None]
    return pd.DataFrame(Y, index=data.index, columns=[f"g{i}" for i in range(count)])


MODELS = {
    "intercepts": ("~ disease + (1 | person)", {}),
    "slopes": ("~ disease * t + (t | person)", {}),
    "uncorrelated": ("~ disease + t + (t || person)", {}),
    "maximum likelihood": ("~ disease + (1 | person)", {"reml": False}),
    "weights and offset": ("~ disease + (1 | person)", {"weights": "w", "offset": "off"}),
    "crossed": ("~ disease + (1 | person) + (1 | batch)", {}),
    "compound symmetry": ("~ disease + t + cs(t | person)", {}),
    "no random terms": ("~ disease + t", {}),
}


def one_by_one(formula, options, Y, data=DATA):
    tables = []
    for name in Y:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MixedfxWarning)
            fit = mfx.lmer(f"y {formula}", data.assign(y=Y[name]), engine="profiled", **options)
        tables.append(fit.tidy())
    return pd.concat(tables, ignore_index=True)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("name", MODELS)
def test_each_response_has_its_own_fit(name):
    formula, options = MODELS[name]
    Y = responses()
    found = mfx.lmer_each(formula, DATA, Y, **options)
    expected = one_by_one(formula, options, Y)
    assert list(found.columns) == ["response", *COLUMNS]
    assert list(found["response"]) == list(np.repeat(Y.columns, len(expected) // 12))
    assert list(found["term"]) == list(expected["term"])
    for column in COLUMNS[1:]:
        np.testing.assert_allclose(
            found[column], expected[column], rtol=SEARCHES, atol=1e-10, err_msg=column
        )


@pytest.mark.full
@pytest.mark.parametrize("formula", ["~ t + (1 | person)", "~ t + (t | person)"])
def test_responses_without_effects_are_certified_or_fitted_alone(formula):
    # Half of the variances are zero: the boundary, and correlations of one.
    Y = responses(60, seed=9) * 0.0 + np.random.default_rng(3).standard_normal((150, 60))
    found = mfx.lmer_each(formula, DATA, Y)
    expected = one_by_one(formula, {}, Y)
    for column in ("estimate", "std_error", "df"):
        np.testing.assert_allclose(found[column], expected[column], rtol=1e-4, atol=1e-10)


@pytest.mark.full
def test_missing_values_leave_rows_out_of_their_response():
    Y = responses(5)
    Y.iloc[3, 1] = Y.iloc[7:15, 2] = np.nan
    Y.iloc[3, 3] = np.inf
    found = mfx.lmer_each("~ disease + (1 | person)", DATA, Y)
    expected = one_by_one("~ disease + (1 | person)", {}, Y.replace(np.inf, np.nan))
    np.testing.assert_allclose(found["estimate"], expected["estimate"], rtol=SEARCHES)
    np.testing.assert_allclose(found["df"], expected["df"], rtol=SEARCHES)


def test_rows_missing_in_the_design_are_left_out_of_all():
    data = DATA.assign(t=DATA["t"].where(np.arange(150) % 11 != 0))
    found = mfx.lmer_each("~ t + (1 | person)", data, responses(3))
    expected = one_by_one("~ t + (1 | person)", {}, responses(3), data)
    np.testing.assert_allclose(found["estimate"], expected["estimate"], rtol=SEARCHES)


def test_responses_are_columns_an_array_or_matched_by_label():
    Y, formula = responses(4), "~ disease + (1 | person)"
    found = mfx.lmer_each(formula, DATA, Y)
    named = mfx.lmer_each(formula, DATA.join(Y), list(Y.columns))
    shuffled = mfx.lmer_each(formula, DATA, Y.sample(frac=1.0, random_state=1))
    array = mfx.lmer_each(formula, DATA, Y.to_numpy())
    pd.testing.assert_frame_equal(named, found)
    pd.testing.assert_frame_equal(shuffled, found)
    assert list(array["response"].unique()) == [0, 1, 2, 3]
    np.testing.assert_array_equal(array["estimate"], found["estimate"])


def test_a_predictor_may_be_called_response():
    data = DATA.rename(columns={"t": "response"})
    found = mfx.lmer_each("~ response + (1 | person)", data, responses(2))
    assert set(found["term"]) == {"Intercept", "response"}


@pytest.mark.full
def test_variances_and_shares_are_those_of_the_fit():
    Y = responses(6)
    found = mfx.lmer_each("~ disease + t + (t | person)", DATA, Y, what="variances")
    assert list(found.columns) == ["response", "component", "variance", "share"]
    for name, table in found.groupby("response"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SingularFitWarning)
            fit = mfx.lmer("y ~ disease + t + (t | person)", DATA.assign(y=Y[name]))
        Z = np.column_stack([np.ones(150), DATA["t"]])
        variance = np.einsum("ni,ij,nj->n", Z, fit.cov_re.to_numpy(), Z).mean()
        fixed = np.var(fit.predict(random="none"), ddof=1)
        np.testing.assert_allclose(table["variance"], [fixed, variance, fit.scale], rtol=1e-3)
        assert table["share"].sum() == pytest.approx(1.0)
        assert list(table["component"]) == ["fixed", "(t | person)", "Residual"]


def test_without_estimates_a_response_is_missing_and_named():
    Y = responses(4).assign(flat=3.0, none=np.nan)
    with pytest.warns(MixedfxWarning, match="2 of 6 responses have no estimates"):
        found = mfx.lmer_each("~ disease + (1 | person)", DATA, Y)
    assert set(found.attrs["failures"]) == {"flat", "none"}
    assert found.set_index("response").loc[["flat", "none"], "estimate"].isna().all()
    assert found["estimate"].notna().sum() == 8


def test_the_others_are_fitted_where_rows_left_have_no_design():
    Y = responses(3)
    Y.loc[DATA["disease"] == "yes", "g1"] = np.nan
    with pytest.warns(MixedfxWarning, match="has only one level"):
        found = mfx.lmer_each("~ disease + (1 | person)", DATA, Y)
    assert list(found["term"].unique()) == ["Intercept", "disease[T.yes]"]
    assert np.isnan(found.set_index(["response", "term"])["estimate"]["g1", "disease[T.yes]"])


def test_degrees_of_freedom_may_be_others():
    normal = mfx.lmer_each("~ t + (1 | person)", DATA, responses(3), df_method="normal")
    residual = mfx.lmer_each("~ t + (1 | person)", DATA, responses(3), df_method="residual")
    assert np.isinf(normal["df"]).all()
    assert (residual["df"] == 148).all()


def test_moderated_variances_are_limmas():
    # squeezeVar's moments, written out, for equal degrees of freedom.
    rng = np.random.default_rng(4)
    df, d0, s0 = 7.0, 9.0, 2.0
    s2 = s0 * stats.f(df, d0).rvs(5000, random_state=rng)
    posterior, found = moderated_variances(s2, np.full(5000, df))
    e = np.log(s2) - special.digamma(df / 2) + np.log(df / 2)
    excess = e.var(ddof=1) - special.polygamma(1, df / 2)
    assert special.polygamma(1, found / 2) == pytest.approx(excess)
    prior = np.exp(e.mean() + special.digamma(found / 2) - np.log(found / 2))
    np.testing.assert_allclose(posterior, (found * prior + df * s2) / (found + df))
    assert found == pytest.approx(d0, rel=0.15)
    assert prior == pytest.approx(s0, rel=0.05)


def test_equal_variances_are_moderated_to_one():
    rng = np.random.default_rng(6)
    s2 = rng.chisquare(1000, 40) / 1000
    s2 = 1.0 + 0.1 * (s2 - 1.0)
    posterior, d0 = moderated_variances(s2, np.full(40, 1000.0))
    assert np.isinf(d0)
    assert np.ptp(posterior) < 1e-12


def test_moderation_adds_degrees_of_freedom():
    Y = responses(40)
    plain = mfx.lmer_each("~ disease + (1 | person)", DATA, Y)
    moderated = mfx.lmer_each("~ disease + (1 | person)", DATA, Y, moderated=True)
    assert (moderated["df"] > plain["df"]).all()
    np.testing.assert_array_equal(moderated["estimate"], plain["estimate"])


def test_adjusted_p_values_are_benjamini_and_hochbergs():
    p = np.array([0.01, 0.04, np.nan, 0.03, 0.5])
    expected = [0.04, 0.04 * 4 / 3, np.nan, 0.04 * 4 / 3, 0.5]
    np.testing.assert_allclose(false_discovery_rates(p), expected)
    found = mfx.lmer_each("~ t + (1 | person)", DATA, responses(8), adjust="fdr")
    of_t = found[found["term"] == "t"]
    np.testing.assert_allclose(
        of_t["p_adjusted"], stats.false_discovery_control(of_t["p_value"]), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("formula", "given", "message"),
    [
        ("y ~ t + (1 | person)", {}, "without a response"),
        ("~ t + (1 | person)", {"responses": ["t", "u"]}, r"\['u'\] are no columns"),
        ("~ t + (1 | person)", {"responses": np.zeros(150)}, "a column for each response"),
        ("~ t + (1 | person)", {"responses": np.zeros((3, 150))}, r"take its \.T"),
        ("~ t + (1 | person)", {"responses": ["disease"]}, "are not numbers"),
        ("~ t + (1 | person)", {"df_method": "kenward-roger"}, "df_method"),
        ("~ t + (1 | person)", {"what": "ranef"}, "what"),
        ("~ t + (1 | person)", {"adjust": "holm"}, "adjust"),
        ("~ t + (1 | person)", {"moderated": 1}, "moderated"),
    ],
)
def test_wrong_arguments_are_refused(formula, given, message):
    given = {"responses": responses(2), **given}
    with pytest.raises(ArgumentError, match=message):
        mfx.lmer_each(formula, DATA, **given)


def test_labels_of_other_rows_are_refused():
    Y = responses(2)
    Y.index = [f"other{i}" for i in range(150)]
    with pytest.raises(ArgumentError, match="other row labels"):
        mfx.lmer_each("~ t + (1 | person)", DATA, Y)


def test_errors_of_the_formula_and_of_the_data_are_those_of_lmer():
    with pytest.raises(FormulaError):
        mfx.lmer_each("~ t + (1 | person", DATA, responses(2))
    with pytest.raises(mfx.errors.MissingColumnError, match="dose"):
        mfx.lmer_each("~ dose + (1 | person)", DATA, responses(2))


def test_nothing_of_the_users_is_changed():
    Y, data = responses(3), DATA.copy()
    before = Y.copy()
    mfx.lmer_each("~ t + (1 | person)", data, Y)
    pd.testing.assert_frame_equal(Y, before)
    pd.testing.assert_frame_equal(data, DATA)
