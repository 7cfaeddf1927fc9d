"""The summary: every number of a fit that a reader needs, in 80 columns of text or in HTML.

Source of truth: the fit's own numbers, rounded here by Python's formatting, and lme4's printed
summary for the arrangement (Bates, Maechler, Bolker and Walker 2015, section 5.2).
"""

from __future__ import annotations

import html
import warnings
from dataclasses import replace
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import MixedfxWarning
from mixedfx.formatting import Summary, component_rows, format_column

# Every shape that a summary can take: wide and narrow, with and without each of its parts.
MODELS = {
    "slopes": ("sleepstudy", "Reaction ~ Days + (Days | Subject)", {}),
    "slopes, ML": ("sleepstudy", "Reaction ~ Days + (Days | Subject)", {"reml": False}),
    "uncorrelated": ("sleepstudy", "Reaction ~ Days + (Days || Subject)", {}),
    "polynomials": ("sleepstudy", "Reaction ~ poly(Days, 3) + (poly(Days, 2) | Subject)", {}),
    "nested": ("Pastes", "strength ~ 1 + (1 | batch/cask)", {}),
    "crossed": ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", {}),
    "singular": ("Dyestuff2", "Yield ~ 1 + (1 | Batch)", {}),
    "factors": ("cake", "angle ~ recipe*temperature + (1 | recipe:replicate)", {}),
    "contrasts": ("cake", "angle ~ C(recipe, Sum)*C(temperature, Poly) + (1 | replicate)", {}),
    "wide slopes": ("cake", "angle ~ recipe + (0 + temperature | replicate)", {}),
    "four factors": ("schools", "y ~ hours + ses + (1 | state/district/school/classroom)", {}),
    "three factors": ("appcrash", "y ~ 1 + (1 | publisher/app) + (1 | device)", {}),
    "no intercept": ("romcom", "rating ~ 0 + kind + (1 | friend) + (1 | movie)", {}),
    "no fixed part": ("sleepstudy", "Reaction ~ 0 + (Days | Subject)", {}),
    "regression": ("sleepstudy", "Reaction ~ Days", {}),
    "weighted": ("sleepstudy", "Reaction ~ Days + (1 | Subject)", {"weights": np.arange(1, 181)}),
    "profiled": ("Dyestuff", "Yield ~ 1 + (1 | Batch)", {"engine": "profiled"}),
}


def _fit(name):
    data, formula, options = MODELS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixedfxWarning)
        return mfx.lmer(formula, mfx.datasets.load(data), **options)


class Fits(dict):
    """Fits by the names of their models, each made when it is first asked for."""

    def __missing__(self, name):
        self[name] = _fit(name)
        return self[name]


@pytest.fixture(scope="module")
def fits():
    return Fits()


CHECKS = []


def check(function):
    """Register a claim on the summary of any model."""
    CHECKS.append(function)
    return function


FEW = ["slopes, ML", "singular", "weighted"]


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", but_for(MODELS, FEW))
def test_summary_shows_the_fit(fits, name, subtests):
    for holds in CHECKS:
        with subtests.test(holds.__name__):
            holds(fits, name)


def _lines_of(text: str, title: str) -> list[str]:
    """Cut one part of the summary: the lines under its title."""
    part = next(p for p in text.split("\n\n") if p.startswith(title))
    return part.splitlines()[1:]


def _flat(text: str) -> str:
    return " ".join(text.split())


# ------------------------------------------------------------------ text


@check
def text_fits_80_columns(fits, name):
    too_long = [line for line in str(fits[name].summary()).splitlines() if len(line) > 80]
    assert not too_long


@check
def text_shows_the_formula(fits, name):
    assert _flat(str(fits[name].formula)) in _flat(str(fits[name].summary()))


@check
def text_shows_the_method(fits, name):
    fit = fits[name]
    mixed = "REML" if fit.reml else "maximum likelihood"
    method = mixed if fit.formula.random else "least squares"
    assert f"fitted by {method}" in str(fit.summary())


@check
def text_shows_the_engine(fits, name):
    line = next(x for x in str(fits[name].summary()).splitlines() if x.startswith("Engine:"))
    assert line.split()[1] == fits[name].engine


def test_text_shows_that_a_second_engine_agrees(fits):
    header = str(fits["slopes"].summary()).split("\n\n")[0]
    assert "statsmodels" in header
    assert "profiled" in header


@check
def text_shows_the_criterion_by_its_name(fits, name):
    fit = fits[name]
    expected = f"{'REML criterion' if fit.reml else 'deviance'} {fit.deviance:.4f}"
    assert expected in str(fit.summary())


@check
def text_shows_aic_and_bic(fits, name):
    assert f"AIC {fits[name].aic:.1f}, BIC {fits[name].bic:.1f}" in str(fits[name].summary())


@check
def text_shows_quantiles_of_the_scaled_residuals(fits, name):
    fit = fits[name]
    weights = fit.model.rows.weights
    scaled = fit.resid / fit.sigma * (1.0 if weights is None else np.sqrt(weights))
    expected = [f"{np.quantile(scaled, q):.4f}" for q in (0, 0.25, 0.5, 0.75, 1)]
    head, values = _lines_of(str(fit.summary()), "Scaled residuals")
    assert head.split() == ["Min", "1Q", "Median", "3Q", "Max"]
    assert values.split() == expected


@check
def text_counts_rows_and_groups(fits, name):
    fit = fits[name]
    groups = "".join(f"; {g}, {n}" for g, n in fit.ngroups.items())
    expected = f"Number of observations: {fit.nobs}" + groups.replace(";", "; groups:", 1)
    assert expected in _flat(str(fit.summary()))


@check
def text_shows_every_standard_deviation(fits, name):
    fit = fits[name]
    title = "Random effects" if fit.formula.random else "Residual"
    rows = fit.varcorr[fit.varcorr["effect2"].isna()]
    shown = _lines_of(str(fit.summary()), title)[1:]
    found = [float(value) for line, value in zip(shown, _sds(shown), strict=True) if line]
    np.testing.assert_allclose(found, rows["sdcor"], rtol=1e-3, atol=1e-4)


def _sds(lines: list[str]) -> list[str]:
    """Read the column Std.Dev.: the second number of each line, correlations coming after it."""
    return [[w for w in line.split() if _is_number(w)][1] for line in lines]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def test_text_shows_the_correlation_beside_the_later_effect(fits):
    line = next(x for x in str(fits["slopes"].summary()).splitlines() if x.split()[:1] == ["Days"])
    correlation = fits["slopes"].varcorr["sdcor"][2]
    assert line.split()[-1] == f"{correlation:.2f}"


def test_text_shows_no_correlation_where_there_is_none(fits):
    assert "Corr" not in str(fits["uncorrelated"].summary())


def _coefficients_of(text: str) -> list[str]:
    """Lines of the fixed effects, the numbers after names that take a line of their own."""
    lines = []
    for line in _lines_of(text, "Fixed effects")[1:]:
        if line.startswith(" "):
            lines[-1] += line
        else:
            lines.append(line)
    return lines


@pytest.mark.parametrize("name", but_for([n for n in MODELS if n != "no fixed part"], FEW))
def test_text_shows_the_fixed_effects(fits, name):
    fit = fits[name]
    lines = _coefficients_of(str(fit.summary()))
    shown = [line.split()[-5:-3] + line.split()[-2:-1] for line in lines]
    expected = np.column_stack([fit.params, fit.bse, fit.tvalues])
    sizes = np.abs(expected).max(axis=0)
    # Five digits of the largest of a column, t values to the hundredth.
    np.testing.assert_allclose(
        np.array(shown, dtype=float) / sizes, expected / sizes, rtol=0, atol=1e-2 / sizes.min()
    )


@pytest.mark.parametrize("name", but_for([n for n in MODELS if n != "no fixed part"], FEW))
def test_text_names_the_fixed_effects(fits, name):
    shown = _coefficients_of(str(fits[name].summary()))
    for line, term in zip(shown, fits[name].params.index, strict=True):
        assert line.startswith(term)


def test_text_without_fixed_effects_has_no_such_table(fits):
    assert "Fixed effects" not in str(fits["no fixed part"].summary())


@check
def text_shows_every_note(fits, name):
    text = _flat(str(fits[name].summary()))
    assert all(_flat(note) in text for note in fits[name].notes)


def test_text_without_notes_has_no_such_part(fits):
    assert "Notes" not in str(fits["slopes"].summary())


def test_printing_a_fit_prints_its_summary(fits):
    assert str(fits["slopes"]) == str(fits["slopes"].summary())


def test_showing_a_summary_prints_it(fits):
    assert repr(fits["slopes"].summary()) == str(fits["slopes"].summary())


def test_long_formula_is_broken_at_its_terms(fits):
    summary = replace(
        fits["slopes"].summary(),
        header=[("Formula", "y ~ 1 + " + " + ".join(f"(covariate{i} | group)" for i in range(9)))],
    )
    lines = str(summary).split("\n\n")[0].splitlines()
    assert len(lines) > 1
    assert all(line.count("(") == line.count(")") for line in lines)


def _components(*rows):
    return pd.DataFrame(rows, columns=["group", "effect", "effect2", "vcov", "sdcor"])


RESIDUAL = ("Residual", None, None, 1.0, 1.0)


@pytest.mark.full
@given(st.lists(st.from_regex(r"[a-z]{1,30}", fullmatch=True), min_size=1, max_size=12))
def test_long_notes_are_wrapped(words):
    text = f"a note on ({', '.join(words)} | group)."
    summary = Summary(
        [("Model", "m")], pd.Series([0.0]), _components(RESIDUAL), "1", pd.DataFrame(), [text]
    )
    lines = str(summary).splitlines()
    assert max(map(len, lines)) <= 80
    assert _flat(text) in _flat(str(summary))


# ------------------------------------------------------------------ HTML


def _tables(summary: Summary) -> list[pd.DataFrame]:
    pytest.importorskip("lxml")
    return pd.read_html(StringIO(summary._repr_html_()))


@check
def html_has_the_header(fits, name):
    summary = fits[name].summary()
    for label, value in summary.header:
        assert html.escape(label) in summary._repr_html_()
        assert html.escape(value) in summary._repr_html_()


@check
def html_has_the_numbers_of_the_text(fits, name):
    summary = fits[name].summary()
    page = html.unescape(summary._repr_html_())
    tables = _lines_of(str(summary), "Random effects" if fits[name].ngroups else "Residual")
    if len(fits[name].params):
        tables += _lines_of(str(summary), "Fixed effects")
    numbers = {word for line in tables for word in line.split() if _is_number(word)}
    assert not {number for number in numbers if number not in page}


@check
def html_counts_rows_and_groups(fits, name):
    summary = fits[name].summary()
    assert html.escape(summary.counts) in summary._repr_html_()


@check
def html_has_the_notes(fits, name):
    page = fits[name].summary()._repr_html_()
    assert all(f"<li>{html.escape(note)}</li>" in page for note in fits[name].notes)


@check
def html_has_the_quantiles(fits, name):
    summary = fits[name].summary()
    assert all(f"{value:.4f}" in summary._repr_html_() for value in summary.residuals)


@check
def html_closes_what_it_opens(fits, name):
    page = fits[name].summary()._repr_html_()
    for tag in ("div", "table", "tr", "td", "th", "p", "ul", "li", "h4"):
        assert page.count(f"<{tag}>") + page.count(f"<{tag} ") == page.count(f"</{tag}>")


@pytest.mark.parametrize("where", ["column", "group", "level of a factor"])
def test_html_escapes_what_the_user_named(where):
    sleep = mfx.datasets.load("sleepstudy")
    evil = "z<b>&x"
    if where == "column":
        fit = mfx.lmer(f"Reaction ~ Q('{evil}')", sleep.rename(columns={"Days": evil}))
    elif where == "group":
        renamed = sleep.rename(columns={"Subject": evil})
        fit = mfx.lmer(f"Reaction ~ Days + (1 | Q('{evil}'))", renamed)
    else:
        split = sleep.assign(half=np.where(sleep["Days"] > 4, evil, "a"))
        fit = mfx.lmer("Reaction ~ half", split)
    page = fit.summary()._repr_html_()
    assert evil not in page
    assert html.escape(evil) in page


def test_notebook_shows_the_summary_of_a_fit(fits):
    assert fits["slopes"]._repr_html_() == fits["slopes"].summary()._repr_html_()


# ------------------------------------------------------------------ component_rows


def test_group_is_written_once():
    table = component_rows(
        _components(("g", "Intercept", None, 4.0, 2.0), ("g", "x", None, 1.0, 1.0), RESIDUAL)
    )
    assert table["Group"].tolist() == ["g", "", "Residual"]


def test_residual_has_no_effect():
    assert component_rows(_components(RESIDUAL))["Effect"].tolist() == [""]


def test_correlations_stand_in_a_triangle():
    table = component_rows(
        _components(
            ("g", "a", None, 1.0, 1.0),
            ("g", "b", None, 1.0, 1.0),
            ("g", "c", None, 1.0, 1.0),
            ("g", "a", "b", 0.1, 0.1),
            ("g", "a", "c", 0.2, 0.2),
            ("g", "b", "c", 0.3, 0.3),
            RESIDUAL,
        )
    )
    assert table.iloc[:, 4:].to_numpy().tolist() == [
        ["", ""],
        ["0.10", ""],
        ["0.20", "0.30"],
        ["", ""],
    ]


def test_correlation_that_is_not_defined_says_so():
    table = component_rows(
        _components(
            ("g", "a", None, 1.0, 1.0),
            ("g", "b", None, 0.0, 0.0),
            ("g", "a", "b", 0.0, np.nan),
            RESIDUAL,
        )
    )
    assert table["Corr"].tolist() == ["", "nan", ""]


def test_two_terms_of_one_group_do_not_mix_their_correlations():
    # (x | g) + (z | g): two intercepts of one group, each with its own slope.
    table = component_rows(
        _components(
            ("g", "Intercept", None, 1.0, 1.0),
            ("g", "x", None, 1.0, 1.0),
            ("g", "Intercept", "x", 0.1, 0.1),
            ("g", "Intercept", None, 1.0, 1.0),
            ("g", "z", None, 1.0, 1.0),
            ("g", "Intercept", "z", 0.2, 0.2),
            RESIDUAL,
        )
    )
    assert table["Corr"].tolist() == ["", "0.10", "", "0.20", ""]


def test_two_terms_of_one_group_with_the_same_effects_keep_their_own_correlations():
    # (x | g) twice is refused, but (1 + x | g) + (0 + x + z | g) has x in both.
    table = component_rows(
        _components(
            ("g", "Intercept", None, 1.0, 1.0),
            ("g", "x", None, 1.0, 1.0),
            ("g", "Intercept", "x", 0.1, 0.1),
            ("g", "x", None, 1.0, 1.0),
            ("g", "z", None, 1.0, 1.0),
            ("g", "x", "z", 0.2, 0.2),
            RESIDUAL,
        )
    )
    assert table["Corr"].tolist() == ["", "0.10", "", "0.20", ""]


# ------------------------------------------------------------------ format_column

numbers = st.floats(-1e7, 1e7).filter(lambda v: v == 0 or abs(v) > 1e-3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([612.09, 35.0717], ["612.09", " 35.07"]),
        ([251.405, 10.467], ["251.41", " 10.47"]),
        ([24.7404, 5.9221], ["24.740", " 5.922"]),
        ([0.0], ["0"]),
        ([1.0, 0.0], ["1.0000", "0.0000"]),
        ([np.nan, 1.5], ["   nan", "1.5000"]),
        ([np.nan], ["nan"]),
        ([-3.25, 12.5], ["-3.250", "12.500"]),
        ([123456.789], ["123457"]),
        ([1.5e9, 2.0], ["1.5e+09", "2"]),
        ([1e-9, 2.0], ["1e-09", "2"]),
        ([], []),
    ],
)
def test_numbers_of_a_column_have_the_same_decimals(values, expected):
    assert format_column(pd.Series(values, dtype=float)) == expected


@given(st.lists(numbers, min_size=1, max_size=6))
def test_formatted_numbers_are_the_numbers(values):
    # Five digits of the largest.
    found = [float(text) for text in format_column(pd.Series(values))]
    np.testing.assert_allclose(found, values, rtol=0, atol=1e-4 * np.abs(values).max())


@given(st.lists(numbers, min_size=1, max_size=6))
def test_formatted_numbers_keep_two_digits_of_the_smallest(values):
    found = [float(text) for text in format_column(pd.Series(values))]
    np.testing.assert_allclose(found, values, rtol=0.06)


@given(st.lists(numbers, min_size=1, max_size=6))
def test_formatted_numbers_are_of_one_width(values):
    assert len({len(text) for text in format_column(pd.Series(values))}) == 1


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=6))
def test_any_number_can_be_formatted(values):
    assert len(format_column(pd.Series(values, dtype=float))) == len(values)
