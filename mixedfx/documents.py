"""Tables as Word documents, Excel workbooks and Great Tables.

Word tables have three rules, as in APA style; cells that are numbers are numbers in Excel, with the
decimals that are shown.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mixedfx._extras import import_extra
from mixedfx.errors import ArgumentError, brief

# Excel refuses these in the names of sheets, and more than 31 characters.
_NOT_IN_SHEET_NAMES, _LONGEST_SHEET_NAME = re.compile(r"[\\/*?:\[\]]"), 31
_NUMBER = re.compile(r"[+-]?\d+(?:\.(\d+))?(e[+-]?\d+)?")


class DocumentPart(NamedTuple):
    """A table of a document: its heading, and its cells as text."""

    title: str
    frame: pd.DataFrame


class DocumentsMixin:
    """Word and Excel of tables and summaries."""

    def _document(self) -> tuple[Sequence[DocumentPart], Sequence[str]]:
        """Tables, and notes below them."""
        raise NotImplementedError

    def to_docx(self, path: Any) -> None:
        """
        Write a Word document, with the extra ``docx``.

        Parameters
        ----------
        path : str, path-like or binary file
            File to write, ``"table.docx"``.

        Raises
        ------
        ArgumentError
            If ``path`` is none; a MissingPackageError if python-docx is not installed.
        """
        _check_path(path, ".docx")
        document = import_extra("docx", "to_docx() needs").Document()
        parts, notes = self._document()
        for part in parts:
            _add_table(document, part)
        for note in notes:
            document.add_paragraph(f"Note. {note}")
        document.save(_target(path))

    def to_excel(self, path: Any) -> None:
        """
        Write an Excel workbook with a sheet for each table, with the extra ``excel``.

        Parameters
        ----------
        path : str, path-like or binary file
            File to write, ``"table.xlsx"``.

        Raises
        ------
        ArgumentError
            If ``path`` is none; a MissingPackageError if openpyxl is not installed.
        """
        _check_path(path, ".xlsx")
        workbook = import_extra("openpyxl", "to_excel() needs").Workbook()
        workbook.remove(workbook.active)
        parts, notes = self._document()
        for part in parts:
            sheet = workbook.create_sheet(_sheet_name(part.title, workbook.sheetnames))
            _fill_sheet(sheet, part)
        for note in notes:
            workbook.worksheets[0].append([f"Note. {note}"])
        workbook.save(_target(path))


class TableDocumentsMixin(DocumentsMixin):
    """Great Tables of one table."""

    def to_gt(self) -> Any:
        """
        Make a table of the package great_tables, with the extra ``gt``.

        Returns
        -------
        great_tables.GT
            With title, notes and alignment, to be formatted further; ``as_raw_html()``,
            ``as_latex()`` and ``save()`` are its own.
        """
        parts, notes = self._document()
        return _great_table(parts[0], notes)


def _great_table(part: DocumentPart, notes: Sequence[str]) -> Any:
    library = import_extra("great_tables", "to_gt() needs")
    names = [f"column_{j}" for j in range(part.frame.shape[1])]  # headings need not differ
    labels = [str(c) for c in part.frame.columns]
    aligned = aligned_right(part.frame)
    table = library.GT(part.frame.set_axis(names, axis=1).reset_index(drop=True))
    table = table.tab_header(title=part.title)
    table = table.cols_label(dict(zip(names, labels, strict=True)))
    for side, is_right in (("right", True), ("left", False)):
        columns = [n for n, right in zip(names, aligned, strict=True) if right == is_right]
        table = table.cols_align(align=side, columns=columns) if columns else table
    for note in notes:
        table = table.tab_source_note(note)
    return table


def aligned_right(frame: pd.DataFrame) -> list[bool]:
    """Whether all entries of each column are numbers, up to parentheses and marks."""
    return [_is_numeric(frame.iloc[:, j]) for j in range(frame.shape[1])]


def _is_numeric(column: pd.Series) -> bool:
    texts = [str(v).strip(" ()*<") for v in column if str(v).strip()]
    return bool(texts) and all(is_number(t.split(" ")[0]) for t in texts)


def is_number(text: str) -> bool:
    """Whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_path(path: Any, suffix: str) -> None:
    if hasattr(path, "write"):
        return
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(f"path={brief(path)} must be the path of a file, or an open file.")
    if Path(path).suffix.lower() != suffix:
        raise ArgumentError(f"path={brief(path)} must end in {suffix}, such as 'table{suffix}'.")


def _target(path: Any) -> Any:
    return path if hasattr(path, "write") else str(Path(path).expanduser())


def _add_table(document: Any, part: DocumentPart) -> None:
    """Append a table with its heading, and rules above, below the headings and at the end."""
    document.add_paragraph(part.title, style="Caption")
    rows = [[str(c) for c in part.frame.columns], *part.frame.astype(str).to_numpy().tolist()]
    table = document.add_table(rows=len(rows), cols=part.frame.shape[1])
    aligned = aligned_right(part.frame)
    for i, values in enumerate(rows):
        for j, (cell, value) in enumerate(zip(table.rows[i].cells, values, strict=True)):
            cell.text = value
            paragraph = cell.paragraphs[0]
            paragraph.alignment = 2 if aligned[j] else 0  # WD_ALIGN_PARAGRAPH.RIGHT, LEFT
            paragraph.runs[0].bold = i == 0 if paragraph.runs else None
            sides = [("top", i == 0), ("bottom", i in (0, len(rows) - 1))]
            _set_rules(cell, [side for side, has_rule in sides if has_rule])
    document.add_paragraph()


def _set_rules(cell: Any, sides: Sequence[str]) -> None:
    """Draw a line on some sides of a cell, which python-docx has no method for."""
    xml, ns = importlib.import_module("docx.oxml"), importlib.import_module("docx.oxml.ns")
    borders = xml.OxmlElement("w:tcBorders")
    for side in sides:
        rule = xml.OxmlElement(f"w:{side}")
        for name, value in (("val", "single"), ("sz", "6"), ("color", "auto")):
            rule.set(ns.qn(f"w:{name}"), value)
        borders.append(rule)
    cell._tc.get_or_add_tcPr().append(borders)


def _sheet_name(title: str, taken: Sequence[str]) -> str:
    """A title as the name of a sheet that is not taken."""
    name = _NOT_IN_SHEET_NAMES.sub(" ", title).strip()[:_LONGEST_SHEET_NAME] or "Table"
    number = 2
    while name.lower() in (other.lower() for other in taken):
        name = f"{name[: _LONGEST_SHEET_NAME - 4]} {number}"
        number += 1
    return name


def _fill_sheet(sheet: Any, part: DocumentPart) -> None:
    font = importlib.import_module("openpyxl.styles").Font(bold=True)
    sheet.append([str(c) for c in part.frame.columns])
    for cell in sheet[1]:
        cell.font = font
    for i, values in enumerate(part.frame.to_numpy().tolist(), start=2):
        for j, value in enumerate(values, start=1):
            _set_cell(sheet.cell(i, j), value)
    for j, column in enumerate(sheet.columns):
        widest = max(len(str(cell.value or "")) for cell in column)
        letter = importlib.import_module("openpyxl.utils").get_column_letter(j + 1)
        sheet.column_dimensions[letter].width = min(widest + 2, 60)


def _set_cell(cell: Any, value: Any) -> None:
    """Write a number as a number, with its decimals, and text as text, ``=x`` too."""
    text = str(value).strip()
    if number := _NUMBER.fullmatch(text):
        decimals = len(number[1] or "")
        cell.value = float(text) if decimals or number[2] else int(text)
        cell.number_format = ("0." + "0" * decimals if decimals else "0") + (
            "E+00" if number[2] else ""
        )
        return
    cell.value = text
    cell.data_type = "s"
