"""Tables of a fit: their columns, their rows, and that asking for them changes nothing.

Source of truth: broom's names for tidy, glance and augment tables, the fit's own numbers, and
what lmerTest prints.
"""

from __future__ import annotations

import copy
import gc
import re
from dataclasses import fields, is_dataclass

import numpy as np
import pandas as pd
import pytest
from reference_models import REFERENCES, fit_of
from scipy import stats
from tiers import but_for

import mixedfx as mfx
from mixedfx.design.build import fixed_matrix
from mixedfx.errors import ArgumentError, DroppedColumnsWarning, MixedfxError

DF_METHODS = ["satterthwaite", "kenward-roger", "residual", "normal"]
every_method = pytest.mark.parametrize("df_method", DF_METHODS)
ROUNDING = 1e-12

MODELS = {
    "slopes": ("Reaction ~ Days + (Days | Subject)", {}),
    "maximum likelihood": ("Reaction ~ Days + (1 | Subject)", {"reml": False}),
    "weights and offset": ("Reaction ~ Days + (1 | Subject)", {"weights": "w", "offset": "off"}),
    "regression": ("Reaction ~ Days", {}),
}
every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(scope="module")
def sleep():
    rng = np.random.default_rng(6)
    data = mfx.datasets.load("sleepstudy")
    return data.assign(w=rng.uniform(0.5, 2, len(data)), off=rng.normal(size=len(data)))


@pytest.fixture(scope="module")
def fits(sleep):
    return {n: mfx.lmer(formula, sleep, **options) for n, (formula, options) in MODELS.items()}


@pytest.fixture(scope="module")
def holed(sleep):
    """Rows with labels of their own, two of them incomplete."""
    data = sleep.set_index(pd.Index([f"r{i}" for i in range(len(sleep))], name="row"))
    data["note"] = "kept"
    data["Days"] = data["Days"].astype(float).where(~data.index.isin(["r3", "r90"]))
    return data


# ---------------------------------------------------------------- tidy

TIDY = ["term", "estimate", "std_error", "statistic", "df", "p_value", "conf_low", "conf_high"]


@pytest.mark.covering(1)
@every_method
@pytest.mark.parametrize("name", ["slopes", "regression"])
def test_tidy_has_its_columns(fits, name, df_method):
    assert list(fits[name].tidy(df_method=df_method)) == TIDY


@every_model
def test_tidy_has_a_row_for_each_coefficient(fits, name):
    assert fits[name].tidy()["term"].tolist() == list(fits[name].params.index)


@every_model
def test_tidy_has_the_fits_estimates_and_errors(fits, name):
    fit, found = fits[name], fits[name].tidy()
    np.testing.assert_array_equal(found["estimate"], fit.params)
    np.testing.assert_allclose(found["std_error"], fit.bse, rtol=ROUNDING)
    np.testing.assert_allclose(found["statistic"], fit.tvalues, rtol=ROUNDING)


@pytest.mark.covering(1)
@every_method
@pytest.mark.parametrize("conf_level", [0.95, 0.5])
def test_tidys_tests_and_intervals_are_those_of_t(fits, df_method, conf_level):
    found = fits["slopes"].tidy(df_method=df_method, conf_level=conf_level)
    t = stats.t(found["df"])  # with infinite degrees of freedom the normal distribution
    np.testing.assert_allclose(found["p_value"], 2 * t.sf(found["statistic"].abs()), rtol=1e-9)
    half = t.ppf(0.5 + conf_level / 2) * found["std_error"]
    np.testing.assert_allclose(found["conf_low"], found["estimate"] - half, rtol=1e-9)
    np.testing.assert_allclose(found["conf_high"], found["estimate"] + half, rtol=1e-9)


@pytest.mark.parametrize("conf_level", [0, 1, 95, "0.95", None])
def test_a_confidence_level_is_a_share(fits, conf_level):
    with pytest.raises(ArgumentError, match=r"conf_level=.*between 0 and 1"):
        fits["slopes"].tidy(conf_level=conf_level)


@pytest.fixture(scope="module")
def dropped(sleep):
    with pytest.warns(DroppedColumnsWarning, match="Days, again"):
        return mfx.lmer(
            "Reaction ~ twice + Days + again + (1 | Subject)",
            sleep.assign(twice=2 * sleep["Days"], again=sleep["Days"] - 1),
        )


@every_method
def test_columns_that_were_left_out_are_missing_in_their_rows(dropped, df_method):
    table = dropped.tidy(df_method=df_method).set_index("term")
    assert table.isna().all(axis=1).to_dict() == dropped.params.isna().to_dict()
    assert table.isna().any(axis=1).sum() == 2


# ---------------------------------------------------------------- p-values


@every_model
def test_p_values_are_named_as_the_coefficients(fits, name):
    pd.testing.assert_index_equal(fits[name].pvalues.index, fits[name].params.index)


def test_p_values_of_columns_that_were_left_out_are_missing(dropped):
    pd.testing.assert_index_equal(dropped.pvalues.index, dropped.params.index)
    pd.testing.assert_series_equal(dropped.pvalues.isna(), dropped.params.isna(), check_names=False)


@every_model
def test_p_values_are_satterthwaites(fits, name):
    expected = fits[name].tidy(df_method="satterthwaite")["p_value"]
    np.testing.assert_array_equal(fits[name].pvalues, expected)


# ---------------------------------------------------------------- glance

GLANCE = ["nobs", "sigma", "llf", "aic", "bic", "deviance", "df_resid"]
SHARES = ["icc", "r2_marginal", "r2_conditional"]


@every_model
def test_glance_has_its_columns_and_one_row(fits, name):
    found = fits[name].glance()
    assert (list(found), len(found)) == ([*GLANCE, *SHARES], 1)


@pytest.mark.covering(1)
@every_model
@pytest.mark.parametrize("column", GLANCE)
def test_glance_has_the_fits_numbers(fits, name, column):
    assert fits[name].glance()[column].item() == getattr(fits[name], column)


@every_model
def test_glance_has_the_shares_of_variance(fits, name):
    fit, row = fits[name], fits[name].glance().iloc[0]
    found = row[SHARES].tolist()
    assert found == [fit.icc["total"], fit.r2["marginal"], fit.r2["conditional"]]


def test_glances_of_several_fits_stack(fits):
    table = pd.concat([fit.glance() for fit in fits.values()], keys=fits)
    assert not any(pd.api.types.is_object_dtype(kind) for kind in table.dtypes)


# ---------------------------------------------------------------- augment

MADE = ["fitted", "resid", "fixed", "hat"]


@every_model
def test_augment_has_what_the_formula_reads_and_four_columns(fits, name):
    read = ["Reaction", "Days", "Subject"] if "Subject" in MODELS[name][0] else ["Reaction", "Days"]
    assert list(fits[name].augment()) == [*read, *MADE]


@pytest.mark.covering(1)
@every_model
@pytest.mark.parametrize("given", [False, True])
def test_augment_has_the_fits_values(fits, sleep, name, given):
    fit = fits[name]
    found = fit.augment(sleep if given else None)
    np.testing.assert_allclose(found["fitted"], fit.fittedvalues, rtol=ROUNDING)
    np.testing.assert_allclose(found["resid"], fit.resid, rtol=ROUNDING)
    np.testing.assert_allclose(found["fixed"], fit.predict(random="none"), rtol=ROUNDING)
    np.testing.assert_allclose(found["hat"], fit.influence()["hat"], rtol=ROUNDING)


@every_model
def test_augments_fitted_values_and_residuals_add_up_to_the_response(fits, name):
    found = fits[name].augment()
    np.testing.assert_allclose(found["fitted"] + found["resid"], found["Reaction"], rtol=ROUNDING)


@every_model
def test_augment_shows_the_data_that_was_read(fits, sleep, name):
    found = fits[name].augment().drop(columns=MADE)
    for column in found:
        assert found[column].tolist() == sleep[column].tolist()


def test_augment_shows_columns_as_they_are_not_as_the_formula_changes_them(sleep):
    fit = mfx.lmer("np.log(Reaction) ~ poly(Days, 2) + (1 | Subject)", sleep)
    found = fit.augment()
    assert list(found) == ["Reaction", "Days", "Subject", *MADE]
    expected = np.log(sleep["Reaction"])
    np.testing.assert_allclose(found["fitted"] + found["resid"], expected, rtol=ROUNDING)


def test_augment_has_the_rows_used(holed):
    found = mfx.lmer(MODELS["slopes"][0], holed).augment()
    pd.testing.assert_index_equal(found.index, holed.index.drop(["r3", "r90"]))
    assert found.notna().all(axis=None)


def test_augmenting_the_data_keeps_all_its_rows_and_columns(holed):
    found = mfx.lmer(MODELS["slopes"][0], holed).augment(holed)
    pd.testing.assert_frame_equal(found[list(holed)], holed)
    assert list(found) == [*holed, *MADE]


def test_rows_that_were_not_used_are_missing_in_the_augmented_data(holed):
    fit = mfx.lmer(MODELS["slopes"][0], holed)
    found = fit.augment(holed)[MADE]
    missing = found.isna().any(axis=1)
    assert missing[missing].index.tolist() == ["r3", "r90"]
    pd.testing.assert_frame_equal(found.drop(index=["r3", "r90"]), fit.augment()[MADE])


def test_rows_are_found_by_their_labels(holed):
    fit = mfx.lmer(MODELS["slopes"][0], holed)
    mixed = holed.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(fit.augment(mixed).loc[holed.index], fit.augment(holed))


def test_rows_with_labels_of_several_parts_are_augmented(sleep):
    data = sleep.set_index(["Subject", "Days"], drop=False).rename_axis(["s", "d"])
    fit = mfx.lmer(MODELS["slopes"][0], data)
    for found in (fit.augment(), fit.augment(data)):
        pd.testing.assert_index_equal(found.index, data.index)
        np.testing.assert_allclose(found["fitted"], fit.fittedvalues, rtol=ROUNDING)


def test_rows_with_the_same_label_are_augmented_without_the_data(sleep):
    # As after pd.concat: each row still has its own values.
    data = sleep.set_axis(np.arange(len(sleep)) // 2)
    found = mfx.lmer(MODELS["slopes"][0], data).augment()
    plain = mfx.lmer(MODELS["slopes"][0], sleep).augment()
    pd.testing.assert_frame_equal(found.reset_index(drop=True), plain, check_index_type=False)


def test_rows_with_the_same_label_cannot_be_found_in_the_data(sleep):
    data = sleep.set_axis(np.arange(len(sleep)) // 2)
    with pytest.raises(ArgumentError, match="each row that was fitted, once"):
        mfx.lmer(MODELS["slopes"][0], data).augment(data)


def test_data_without_some_rows_of_the_fit_is_refused(fits, sleep):
    with pytest.raises(ArgumentError, match="each row that was fitted, once"):
        fits["slopes"].augment(sleep.iloc[1:])


@pytest.mark.parametrize("column", MADE)
def test_a_column_is_not_overwritten(fits, sleep, column):
    with pytest.raises(ArgumentError, match=f"column named '{column}' already"):
        fits["slopes"].augment(sleep.assign(**{column: 1.0}))


def test_a_column_of_the_formula_is_not_overwritten_either(sleep):
    fit = mfx.lmer("Reaction ~ hat + (1 | Subject)", sleep.rename(columns={"Days": "hat"}))
    with pytest.raises(ArgumentError, match="'hat' already"):
        fit.augment()


def test_augmenting_leaves_the_users_data(fits, sleep):
    before = sleep.copy(deep=True)
    found = fits["slopes"].augment(sleep)
    found.loc[:, "Reaction"] = -99.0
    pd.testing.assert_frame_equal(sleep, before)


def test_a_mapping_that_was_fitted_is_augmented():
    data = mfx.datasets.load("Dyestuff").to_dict("list")
    fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", data)
    np.testing.assert_allclose(fit.augment(data)[MADE], fit.augment()[MADE])


class Table:
    """A table of another library, as lmer takes it."""

    def __init__(self, frame):
        self.frame = frame

    def to_pandas(self):
        return self.frame.copy()


@pytest.mark.parametrize("kind", ["to_pandas", "arrow"])
def test_a_table_of_another_library_is_augmented(sleep, kind):
    table = Table(sleep)
    if kind == "arrow":
        table = pytest.importorskip("pyarrow").table(sleep.astype({"Subject": str}))
    fit = mfx.lmer(MODELS["slopes"][0], table)
    np.testing.assert_allclose(fit.augment(table)[MADE], fit.augment()[MADE])


@pytest.mark.parametrize("data", [3, "sleepstudy", [1, 2]])
def test_what_is_no_table_cannot_be_augmented(fits, data):
    with pytest.raises(MixedfxError):
        fits["slopes"].augment(data)


# ---------------------------------------------------------------- summary


@pytest.mark.covering(1)
@every_method
@pytest.mark.parametrize("name", ["slopes", "regression"])
def test_the_summary_tests_as_tidy_does(fits, name, df_method):
    shown = fits[name].summary(df_method=df_method).coefficients
    letter = "z" if df_method == "normal" else "t"
    columns = {
        "Estimate": "estimate",
        "Std. Error": "std_error",
        "df": "df",
        f"{letter} value": "statistic",
        f"Pr(>|{letter}|)": "p_value",
    }
    if df_method == "normal":
        del columns["df"]  # infinite, and not worth a column
    expected = fits[name].tidy(df_method=df_method).set_index("term")[list(columns.values())]
    np.testing.assert_array_equal(shown, expected)
    assert list(shown) == list(columns)


@pytest.mark.parametrize(
    ("df_method", "said"),
    [
        ("satterthwaite", "Satterthwaite"),
        ("kenward-roger", "Kenward and Roger"),
        ("residual", "residual degrees of freedom"),
        ("normal", "z, normal distribution"),
    ],
)
def test_the_summary_says_which_degrees_of_freedom(fits, df_method, said):
    (line,) = re.findall(r"(?m)^Tests:.*$", str(fits["slopes"].summary(df_method=df_method)))
    assert said in line


def printed(summary):
    """The lines of the fixed effects, cut into words."""
    lines = str(summary).split("Fixed effects:\n")[1].splitlines()[1:3]
    return [line.split() for line in lines]


def test_the_summary_prints_what_lmertest_prints(fits):
    # summary(lmerTest::lmer(...)): 251.405 6.825 17.000 36.838 <2e-16, and
    # 10.467 1.546 17.000 6.771 3.26e-06. Here decimals are those that the column needs.
    assert printed(fits["slopes"].summary()) == [
        ["Intercept", "251.41", "6.8246", "17.0", "36.84", "<2e-16"],
        ["Days", "10.47", "1.5458", "17.0", "6.77", "3.26e-06"],
    ]


REFERENCE = REFERENCES["sleep_rs__reml"].fixed
DF = {
    "satterthwaite": REFERENCE["df_satterthwaite"],
    "kenward-roger": REFERENCE["df_kr"],
    "residual": pd.Series(180.0 - 2.0, REFERENCE.index),
    "normal": pd.Series(np.inf, REFERENCE.index),
}


@every_method
def test_the_summary_prints_degrees_of_freedom_and_p_values(fits, df_method):
    found = {row[0]: row[3:] for row in printed(fits["slopes"].summary(df_method=df_method))}
    for name, df in DF[df_method].items():
        p = 2 * stats.t.sf(REFERENCE["t"][name], df)
        last = "<2e-16" if p < 2e-16 else f"{p:.3g}"
        expected = [f"{df:.1f}", f"{REFERENCE['t'][name]:.2f}", last]
        assert found[name] == (expected[1:] if df_method == "normal" else expected)


@every_method
def test_the_html_shows_the_same_tests_as_the_text(fits, df_method):
    summary = fits["slopes"].summary(df_method=df_method)
    shown = summary._repr_html_()
    for row in printed(summary):
        assert row[-1].replace("<", "&lt;") in shown
        assert row[-2] in shown


def test_the_summary_of_a_singular_fit_says_that_degrees_of_freedom_are_a_limit():
    text = " ".join(str(fit_of("dyestuff2__reml", "profiled").summary()).split())
    assert "singular fit: sd(Intercept | Batch) is on the boundary" in text
    assert "degrees of freedom are the limit on the boundary" in text


@pytest.mark.parametrize("name", ["sleep_rs__reml", "penicillin__reml"])
def test_the_summary_of_a_regular_fit_says_nothing_of_a_limit(name):
    assert "limit" not in str(fit_of(name, "profiled").summary())


def test_the_summary_marks_columns_that_were_left_out(dropped):
    (line,) = re.findall(r"(?m)^again .*$", str(dropped.summary()))
    assert set(line.split()[1:]) == {"nan"}


# ---------------------------------------------------------------- nothing changes

ASKED = {
    "summary": lambda fit: fit.summary().coefficients,
    "tidy": lambda fit: fit.tidy(),
    "tidy by Kenward-Roger": lambda fit: fit.tidy(df_method="kenward-roger"),
    "pvalues": lambda fit: fit.pvalues,
    "t_test": lambda fit: fit.t_test("Days = 10"),
    "wald_test": lambda fit: fit.wald_test("Intercept = 250, Days = 10"),
    "anova": lambda fit: fit.anova(),
    "emmeans": lambda fit: fit.emmeans("Days", at={"Days": [0, 9]}).table,
    "conf_int": lambda fit: fit.conf_int(parm=["Days", "sigma", "sd(Days | Subject)"]),
    "profile": lambda fit: fit.profile("Days", zetas=[-1, 0, 1]),
    "profile intervals": lambda fit: fit.conf_int(method="profile", parm="Days"),
    "bootstrap": lambda fit: fit.bootstrap(3, rng=1, progress=False).draws,
    "simulate": lambda fit: fit.simulate(2, rng=1),
    "ranova": lambda fit: fit.ranova(),
    "compare": lambda fit: mfx.compare(fit, fit, names=["a", "b"])[["aic", "bic"]],
    "icc": lambda fit: fit.icc,
    "r2": lambda fit: fit.r2,
    "glance": lambda fit: fit.glance(),
    "augment": lambda fit: fit.augment(),
    "influence": lambda fit: fit.influence(),
    "influence of levels": lambda fit: fit.influence("Subject"),
    "rank_pca": lambda fit: fit.rank_pca()["Subject"],
    "predict": lambda fit: fit.predict(interval="prediction", se=True),
    "cov_params": lambda fit: fit.cov_params(),
    "vcov": lambda fit: fit.vcov(),
}
every_question = pytest.mark.parametrize("question", ASKED)


def numbers_in(value, seen=None):
    """Every array and number that a value holds, as bytes and texts, in order."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    if is_dataclass(value) and not isinstance(value, type):
        seen.add(id(value))
        for part in fields(value):
            if part.name != "cache":  # what factorisations of one matrix share, filled at the first
                yield from numbers_in(getattr(value, part.name), seen)
    elif isinstance(value, np.ndarray):
        yield value.tobytes()
    elif isinstance(value, pd.Series | pd.Index):
        yield value.to_numpy().astype(str).tobytes()
    elif isinstance(value, dict):
        for key in value:
            yield repr(key)
            yield from numbers_in(value[key], seen)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from numbers_in(part, seen)
    elif isinstance(value, int | float | str | bool):
        yield repr(value)


@pytest.fixture
def fresh(sleep):
    return mfx.lmer(MODELS["slopes"][0], sleep, engine="profiled")


@every_question
def test_asking_does_not_change_the_fit(fresh, question):
    before = list(numbers_in(fresh.model))
    assert fresh.model.rows.y.tobytes() in before
    assert fresh.model.crossprod.XytXy.tobytes() in before
    ASKED[question](fresh)
    assert list(numbers_in(fresh.model)) == before


def spoil(table):
    """Overwrite everything that was given out, if it lets itself be."""
    try:
        if isinstance(table, pd.Series):
            table.iloc[:] = -99.0
        else:
            numeric = list(table.select_dtypes("number"))
            table.loc[:, numeric] = -99
    except ValueError:  # read-only
        pass


@pytest.mark.full
@every_question
def test_what_is_given_out_may_be_overwritten(fresh, question):
    ask = ASKED[question]
    before = ask(fresh).copy(deep=True)
    spoil(ask(fresh))
    again = ask(fresh)
    same = pd.testing.assert_series_equal if isinstance(again, pd.Series) else None
    (same or pd.testing.assert_frame_equal)(again, before)


# ---------------------------------------------------------------- the data may change afterwards

KINDS = {
    "float": (lambda s: s.astype(float), 0.5),
    "integer": (lambda s: s, 0),
    "nullable integer": (lambda s: s.astype("Int64"), 0),
    "truth": (lambda s: s > 4, False),
    "text": (lambda s: s.gt(4).map({True: "late", False: "early"}).astype(object), "early"),
    "string": (lambda s: s.gt(4).map({True: "late", False: "early"}).astype("string"), "early"),
    "category": (lambda s: pd.Categorical(s > 4), False),
}


@pytest.mark.full
@pytest.mark.covering(1)
@pytest.mark.parametrize("kind", but_for(KINDS, ["float", "nullable integer", "category"]))
@pytest.mark.parametrize(
    "question",
    but_for(["augment", "predict", "emmeans", "anova", "influence"], ["augment", "emmeans"]),
)
def test_the_data_may_change_after_the_fit(sleep, kind, question):
    change, other = KINDS[kind]
    data = pd.DataFrame(sleep[["Reaction", "Subject"]]).assign(Days=change(sleep["Days"]))
    data = data.copy(deep=True)
    asked = {**ASKED, "emmeans": lambda fit: fit.emmeans("Days").table}[question]
    expected = asked(mfx.lmer(MODELS["maximum likelihood"][0], data.copy(deep=True)))
    fit = mfx.lmer(MODELS["maximum likelihood"][0], data)
    gc.collect()  # columns that pandas handed out for the fit no longer guard the table
    data.loc[:, "Days"] = other
    data.loc[:, "Reaction"] = 1.0
    data.loc[:, "Subject"] = data["Subject"].iloc[0]
    pd.testing.assert_frame_equal(asked(fit), expected)


def test_arrays_of_a_mapping_may_change_after_the_fit(sleep):
    arrays = {name: sleep[name].to_numpy(copy=True) for name in ("Reaction", "Days", "Subject")}
    fit = mfx.lmer(MODELS["slopes"][0], arrays)
    arrays["Reaction"][:] = arrays["Days"][:] = 1
    expected = mfx.lmer(MODELS["slopes"][0], sleep).augment()
    pd.testing.assert_frame_equal(fit.augment()[MADE], expected[MADE])


# ---------------------------------------------------------------- the design behind the tables


@pytest.mark.parametrize("fixed", ["Days", "0 + Days", "poly(Days, 2)", "1", "C(Days) * w"])
def test_all_fixed_columns_can_be_made_again(sleep, fixed):
    design = mfx.lmer(f"Reaction ~ {fixed} + (1 | Subject)", sleep).model.design
    np.testing.assert_array_equal(fixed_matrix(design), design.rows.X)


def test_fixed_columns_that_were_left_out_can_be_made_again(dropped):
    design = dropped.model.design
    found = fixed_matrix(design)
    np.testing.assert_array_equal(found[:, design.spec.kept_columns], design.rows.X)
    assert found.shape[1] == len(design.spec.column_names) == 4


# ---------------------------------------------------------------- habits and mishaps


def test_a_method_in_the_place_of_alpha_is_recognised(sleep):
    fit = mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep)
    with pytest.raises(ArgumentError, match=r"conf_int\(method='profile'\)"):
        fit.conf_int("profile")


def test_alpha_is_not_mistaken_for_a_coverage(sleep):
    fit = mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep)
    with pytest.raises(ArgumentError, match=r"such as 0\.05"):
        fit.conf_int(95)


@pytest.mark.cases(1)
@pytest.mark.parametrize("method", ["wald", "profile", "bootstrap"])
def test_intervals_take_their_coverage_as_alpha_or_conf_level(fits, method):
    options = {"method": method, "parm": ["Days"], "n": 10, "rng": 1}
    by_level = fits["slopes"].conf_int(conf_level=0.8, **options)
    by_alpha = fits["slopes"].conf_int(0.2, **options)
    np.testing.assert_allclose(by_level, by_alpha, rtol=1e-9)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_alpha_and_conf_level_exclude_each_other(fits, alpha):
    with pytest.raises(ArgumentError, match=r"alpha=.* and conf_level="):
        fits["slopes"].conf_int(alpha, conf_level=0.95)


@pytest.mark.parametrize("conf_level", [0, 1, 95, "0.95", True])
def test_the_coverage_of_conf_int_is_a_share(fits, conf_level):
    with pytest.raises(ArgumentError, match=r"conf_level=.*between 0 and 1"):
        fits["slopes"].conf_int(conf_level=conf_level)


def test_conf_int_has_no_unknown_arguments(fits):
    with pytest.raises(TypeError, match="unexpected keyword argument 'coverage'"):
        fits["slopes"].conf_int(coverage=0.9)


def test_a_copy_of_a_fit_is_the_fit(sleep):
    fit = mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep)
    assert copy.deepcopy(fit) is copy.copy(fit) is fit


@pytest.mark.full
def test_bootstrap_intervals_name_the_parameters_of_the_others(sleep):
    fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep, engine="profiled")
    drawn = fit.conf_int(method="bootstrap", n=20, rng=1)
    assert list(drawn.index) == list(fit.conf_int(method="profile").index)
