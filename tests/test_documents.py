"""Tables in Word, Excel and Great Tables.

Source of truth: the text of the table, in the files opened again.
"""

from __future__ import annotations

import importlib
import io
from functools import cache

import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError
from mixedfx.formatting import Table

docx = pytest.importorskip("docx")
openpyxl = pytest.importorskip("openpyxl")
great_tables = pytest.importorskip("great_tables")


@cache
def fits() -> tuple[mfx.Results, mfx.Results]:
    sleep = mfx.datasets.load("sleepstudy")
    formula = "Reaction ~ Days + ({} | Subject)"
    return tuple(mfx.lmer(formula.format(t), sleep, engine="profiled") for t in ("1", "Days"))


@cache
def models() -> Table:
    return mfx.table({"<one>": fits()[0], "two": fits()[1]})


HARD = Table(
    "Odd / names?",
    pd.DataFrame(
        [["=SUM(A1)", "1.50"], ["a<b & c", "2.25e-06"], ["", "<2e-16"]], columns=["x", "x"]
    ),
    ("A note with <tags> & more.",),
)


def cells(frame: pd.DataFrame) -> list[list[str]]:
    return [list(map(str, frame.columns)), *frame.astype(str).to_numpy().tolist()]


def word(table, path):
    table.to_docx(path)
    return docx.Document(path)


@pytest.mark.parametrize("table", [models, lambda: HARD], ids=["models", "hard"])
def test_word_has_the_cells_the_title_and_the_notes(table, tmp_path):
    document = word(table(), tmp_path / "t.docx")
    (written,) = document.tables
    assert [[c.text for c in row.cells] for row in written.rows] == cells(table().frame)
    texts = [p.text for p in document.paragraphs]
    assert texts[0] == table().title
    assert [t for t in texts if t.startswith("Note.")] == [f"Note. {n}" for n in table().notes]


def test_word_tables_have_three_rules_and_numbers_to_the_right(tmp_path):
    (written,) = word(HARD, tmp_path / "t.docx").tables
    rules = [
        [side.tag.split("}")[1] for side in row.cells[0]._tc.iter() if "}top" in side.tag]
        + [side.tag.split("}")[1] for side in row.cells[0]._tc.iter() if "}bottom" in side.tag]
        for row in written.rows
    ]
    assert rules == [["top", "bottom"], [], [], ["bottom"]]
    assert [c.paragraphs[0].alignment for c in written.rows[1].cells] == [0, 2]


def test_a_summary_in_word_has_all_of_its_tables(tmp_path):
    summary = fits()[1].summary()
    document = word(summary, tmp_path / "s.docx")
    expected = [cells(table.frame) for table in summary.tables()]
    found = [[[c.text for c in row.cells] for row in t.rows] for t in document.tables]
    assert found == expected


def test_excel_has_numbers_with_their_decimals():
    file = io.BytesIO()
    fits()[1].summary().to_excel(file)
    sheet = openpyxl.load_workbook(file)["Fixed effects"]
    row = {name.value: cell for name, cell in zip(sheet[1], sheet[3], strict=True)}
    assert row["Term"].value == "Days"
    assert row["Estimate"].value == pytest.approx(10.47)
    assert row["t value"].number_format == "0.00"
    assert row["Pr(>|t|)"].value == pytest.approx(3.26e-06)
    assert row["Pr(>|t|)"].number_format == "0.00E+00"


def test_excel_has_text_as_text_and_notes_below(tmp_path):
    HARD.to_excel(tmp_path / "t.xlsx")
    workbook = openpyxl.load_workbook(tmp_path / "t.xlsx")
    sheet = workbook.worksheets[0]
    assert workbook.sheetnames == ["Odd   names"]
    assert (sheet["A2"].value, sheet["A2"].data_type) == ("=SUM(A1)", "s")  # no formula
    assert [c.value for c in sheet["B"]][:4] == ["x", 1.5, 2.25e-06, "<2e-16"]
    assert sheet.cell(5, 1).value == "Note. A note with <tags> & more."


def test_great_tables_have_the_cells_and_escape_them():
    html = HARD.to_gt().as_raw_html()
    assert "a&lt;b &amp; c" in html
    assert "<tags>" not in html
    (written,) = pd.read_html(io.StringIO(models().to_gt().as_raw_html()))
    assert written.iloc[:, -1].tolist()[:2] == models().frame["two"].tolist()[:2]
    assert isinstance(models().to_gt(), great_tables.GT)


@pytest.mark.parametrize(
    ("method", "package", "module", "extra"),
    [
        ("to_docx", "python-docx", "docx", "docx"),
        ("to_excel", "openpyxl", "openpyxl", "excel"),
        ("to_gt", "great-tables", "great_tables", "gt"),
    ],
)
def test_a_missing_package_is_named_with_the_command(method, package, module, extra, monkeypatch):
    found = importlib.import_module

    def missing(name, *args):
        if name.split(".")[0] == module:
            raise ImportError(name)
        return found(name, *args)

    monkeypatch.setattr("importlib.import_module", missing)
    arguments = [] if method == "to_gt" else [io.BytesIO()]
    with pytest.raises(ArgumentError, match=rf'{package}: .*pip install "mixedfx\[{extra}\]"'):
        getattr(HARD, method)(*arguments)


@pytest.mark.parametrize("path", [None, 3, "table.doc", "table"])
def test_a_path_that_is_none_is_named(path):
    with pytest.raises(ArgumentError, match="path="):
        HARD.to_docx(path)
    with pytest.raises(ArgumentError, match="path="):
        HARD.to_excel(path)


def means():
    fit = mfx.lmer(
        "angle ~ recipe + (1 | recipe:replicate)", mfx.datasets.load("cake"), engine="profiled"
    )
    return fit.emmeans("pairwise ~ recipe")


def test_marginal_means_and_their_contrasts_are_written(tmp_path):
    found = means()
    document = word(found, tmp_path / "means.docx")
    of_means, of_contrasts = ([[c.text for c in r.cells] for r in t.rows] for t in document.tables)
    assert of_means[0] == list(found.table.columns)
    assert [row[0] for row in of_means[1:]] == ["A", "B", "C"]
    estimates = [float(row[1]) for row in of_means[1:]]
    assert estimates == pytest.approx(found.table["emmean"].tolist(), rel=1e-3)
    assert [row[0] for row in of_contrasts[1:]] == ["A - B", "A - C", "B - C"]
    texts = [p.text for p in document.paragraphs]
    assert texts[0] == "Estimated marginal means"
    assert any(text.startswith("Note. Contrasts: pairwise.") for text in texts)


@pytest.mark.full
def test_marginal_means_are_a_sheet_and_a_great_table(tmp_path):
    found = means()
    found.to_excel(tmp_path / "means.xlsx")
    workbook = openpyxl.load_workbook(tmp_path / "means.xlsx")
    assert workbook.sheetnames == ["Estimated marginal means", "Contrasts"]
    assert "emmean" in found.to_gt().as_raw_html()
