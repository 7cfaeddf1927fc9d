"""Fits beside each other, as tables for every kind of page.

Source of truth: the fits' own numbers, and the rules of Markdown, HTML and LaTeX.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError
from mixedfx.formatting import Table


@pytest.fixture(scope="module")
def fits() -> list[mfx.Results]:
    sleep = mfx.datasets.load("sleepstudy")
    formulas = ["Reaction ~ Days", "Reaction ~ Days + (1 | Subject)"]
    return [mfx.lmer(f, sleep) for f in [*formulas, "Reaction ~ 1 + (Days | Subject)"]]


@pytest.fixture(scope="module")
def cells(fits) -> pd.DataFrame:
    return mfx.table(*fits, names=["a", "b", "c"]).frame.set_index("")


def test_each_fit_has_a_column(cells):
    assert list(cells.columns) == ["a", "b", "c"]


def test_coefficients_have_their_errors_in_parentheses(fits, cells):
    found = re.fullmatch(r"(\S+) \((\S+)\)", cells.loc["Days", "b"])
    assert float(found[1]) == pytest.approx(fits[1].params["Days"], rel=5e-3)
    assert float(found[2]) == pytest.approx(fits[1].bse["Days"], rel=5e-3)


def test_what_a_fit_has_not_is_blank(cells):
    assert cells.loc["Days", "c"] == cells.loc["sd(Intercept | Subject)", "a"] == ""


def test_components_follow_the_coefficients(cells):
    order = list(cells.index)
    assert order.index("Days") < order.index("sd(Intercept | Subject)") < order.index("sigma")


@pytest.mark.parametrize(
    ("row", "attribute"), [("Observations", "nobs"), ("AIC", "aic"), ("Log-likelihood", "llf")]
)
def test_the_ends_say_what_was_fitted(fits, cells, row, attribute):
    assert float(cells.loc[row, "b"]) == pytest.approx(getattr(fits[1], attribute), abs=0.05)


def test_names_default_to_numbers(fits):
    assert list(mfx.table(*fits).frame.columns) == ["", "(1)", "(2)", "(3)"]


@pytest.mark.parametrize("wrong", [[], ["one"]])
def test_what_is_no_fit_is_refused(wrong):
    with pytest.raises(ArgumentError, match="fits"):
        mfx.table(*wrong)


def test_names_must_be_one_for_each(fits):
    with pytest.raises(ArgumentError, match="3 names"):
        mfx.table(*fits, names=["a"])


# ---------------------------------------------------------------- forms


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.found.append(data.strip())


ODD = Table("Odd", pd.DataFrame({"Term": ["(x | g)", "a_b & c%"], "P(>|t|)": ["<2e-16", "0.1"]}))


def test_html_holds_every_cell_as_text():
    parser = _Cells()
    parser.feed(ODD.to_html())
    assert parser.found == ["Term", "P(>|t|)", "(x | g)", "<2e-16", "a_b & c%", "0.1"]


def test_markdown_rows_have_as_many_cells_as_the_head():
    rows = [re.split(r"(?<!\\)\|", line) for line in ODD.to_markdown().splitlines()]
    assert {len(row) for row in rows} == {4}


def test_latex_escapes_what_it_would_read_as_commands():
    body = ODD.to_latex()
    assert r"a\_b \& c\%" in body
    assert body.count(r"\begin{tabular}") == body.count(r"\end{tabular}") == 1


def test_numbers_stand_at_the_right():
    assert "text-align: right" in Table("", pd.DataFrame({"x": ["1.0", "-2"]})).to_html()


@pytest.mark.parametrize("form", ["to_html", "to_markdown", "to_latex"])
def test_summaries_come_in_every_form(fits, form):
    text = getattr(fits[1].summary(), form)()
    assert [word in text for word in ("1786.4651", "Days", "Subject")] == [True] * 3


@pytest.mark.parametrize("form", ["to_html", "to_markdown", "to_latex", "__str__"])
def test_an_empty_table_comes_in_every_form(form):
    assert isinstance(getattr(Table("None", pd.DataFrame({"a": []})), form)(), str)


def test_a_table_has_the_dispersions_coefficients_with_their_errors():
    films = mfx.datasets.load("romcom")
    kinds = mfx.lmer("rating ~ 1 + (1 | friend)", films, dispersion="~ kind")
    shown = mfx.table(kinds).frame.set_index("").loc["dispersion(kind[T.usual])", "(1)"]
    row = kinds.dispersion.loc["kind[T.usual]"]
    assert shown == f"{row['estimate']:#.3g} ({row['std_error']:#.3g})"


def test_a_table_of_a_posteriors_mode_has_no_likelihood():
    films = mfx.datasets.load("romcom")
    believed = mfx.lmer("rating ~ 1 + (1 | friend)", films, priors={"sd": mfx.priors.HalfNormal(1)})
    shown = mfx.table(believed).frame.set_index("")["(1)"]
    assert shown["Criterion"] == "posterior mode"
    assert (shown[["Log-likelihood", "AIC", "BIC"]] == "").all()


@pytest.mark.full
def test_models_that_differ_in_their_dispersion_have_different_names():
    films = mfx.datasets.load("romcom")
    equal = mfx.lmer("rating ~ 1 + (1 | friend)", films)
    kinds = mfx.lmer("rating ~ 1 + (1 | friend)", films, dispersion="~ kind")
    assert mfx.compare(equal, kinds).index.is_unique


# ------------------------------------------------------------------ how fits are given


def test_fits_may_be_given_as_a_list_or_by_name(fits):
    one_by_one = mfx.table(*fits, names=["a", "b", "c"])
    assert mfx.table(fits, names=["a", "b", "c"]).frame.equals(one_by_one.frame)
    named = dict(zip("abc", fits, strict=True))
    assert mfx.table(named).frame.equals(one_by_one.frame)
    assert mfx.compare(named).equals(mfx.compare(*fits, names=["a", "b", "c"]))


@pytest.mark.parametrize("wrong", [[], {}, [1], {"a": 2}, 5, "fit", None])
def test_a_list_without_fits_is_refused(wrong):
    for function in (mfx.table, mfx.compare):
        with pytest.raises(ArgumentError, match="takes fits"):
            function(wrong)


@pytest.mark.parametrize("names", [5, "ab", ["a"], [], object()])
def test_names_that_do_not_number_the_fits_are_refused(fits, names):
    with pytest.raises(ArgumentError, match="names="):
        mfx.table(fits[0], fits[1], names=names)


# ------------------------------------------------------------------ notes, and files


def test_reml_criteria_of_different_fixed_parts_are_marked(fits):
    (note,) = mfx.table(fits[1], fits[2], names=["slope", "none"]).notes
    assert "none" in note
    for text in (str, Table.to_markdown, Table.to_html, Table.to_latex):
        assert "not comparable" in text(mfx.table(fits[1], fits[2])).replace("\n      ", " ")


def test_comparable_fits_have_no_note(fits):
    same = mfx.lmer("Reaction ~ Days + (Days | Subject)", mfx.datasets.load("sleepstudy"))
    assert mfx.table(fits[1], same).notes == ()


def test_other_data_are_marked(fits):
    fewer = mfx.lmer("Reaction ~ Days + (1 | Subject)", mfx.datasets.load("sleepstudy")[:170])
    assert "Other rows" in mfx.table(fits[1], fewer).notes[0]


def test_a_table_is_written_as_csv(fits, tmp_path):
    table = mfx.table(*fits)
    assert table.to_csv() == table.frame.to_csv(index=False)
    assert table.to_csv(tmp_path / "t.csv") is None
    assert (tmp_path / "t.csv").read_text(encoding="utf-8") == table.to_csv()


# What CommonMark would render as emphasis, code, links, HTML or mathematics, and as it is escaped.
MARKDOWN = {
    "a*b*c": r"a\*b\*c",
    "_x_": r"\_x\_",
    "`q`": r"\`q\`",
    "<b>x</b>": r"\<b>x\</b>",
    "[t](u)": r"\[t\](u)",
    "$y$": r"\$y\$",
    "a|b": r"a\|b",
    "~~z": r"\~~z",
    "&amp;": r"\&amp;",
    "x_1 < 2": "x_1 < 2",
}


@pytest.mark.parametrize("name", MARKDOWN)
def test_markdown_shows_names_as_they_are(name):
    text = Table("t", pd.DataFrame({"Term": [name]})).to_markdown()
    assert f"| {MARKDOWN[name]} " in text
