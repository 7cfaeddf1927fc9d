"""Labels of estimated marginal means, and their table as text."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mixedfx._escaping import html_block
from mixedfx.documents import DocumentPart, is_number
from mixedfx.formatting import format_column
from mixedfx.inference.emmeans.reference_grid import level_text

# Significant digits of the columns that are numbers.
_DIGITS = {"emmean": 5, "estimate": 5, "std_error": 5, "df": 3, "statistic": 3, "p_value": 3}
_DIGITS |= {
    "slope": 5,
    "conf_low": 5,
    "conf_high": 5,
    "ratio": 5,
    "odds_ratio": 5,
    "hazard_ratio": 5,
}


def mean_labels(table: pd.DataFrame, specs: Sequence[str]) -> list[str]:
    """Label each mean as emmeans does: numbers with their variable, operators in parentheses."""
    if not specs:
        return ["overall"] * len(table)
    texts = []
    for name in specs:
        levels = [level_text(value) for value in table[name]]
        prefix = name if all(map(is_number, levels)) else ""
        texts.append([prefix + level for level in levels])
    labels = [" ".join(parts) for parts in zip(*texts, strict=True)]
    return [f"({label})" if re.search(r"[-+*/]", label) else label for label in labels]


def formatted_table(table: pd.DataFrame) -> pd.DataFrame:
    """Format every column as text: levels flush left, numbers to the digits needed."""
    formatted: dict[str, list[str]] = {}
    for name in table.columns:
        if name in _DIGITS:
            formatted[name] = format_column(table[name], digits=_DIGITS[name])
        else:
            texts = [level_text(value) for value in table[name]]
            width = max(map(len, [name, *texts]))
            formatted[name.ljust(width)] = [text.ljust(width) for text in texts]
    return pd.DataFrame(formatted)


@dataclass(frozen=True)
class Captions:
    """What is said of marginal means below their table."""

    scale: str
    averaged_over: tuple[str, ...]
    fixed_at: Mapping[str, Any]
    df_method: str
    conf_level: float
    notes: tuple[str, ...]

    @property
    def paragraphs(self) -> list[str]:
        """Sentences on the table, then its notes."""
        sentences = [self.scale] if self.scale else []
        if self.averaged_over:
            sentences.append(f"Averaged over: {', '.join(self.averaged_over)}.")
        if self.fixed_at:
            values = (f"{name} = {level_text(value)}" for name, value in self.fixed_at.items())
            sentences.append(f"Held at: {', '.join(values)}.")
        sentences.append(f"Degrees of freedom: {self.df_method}.")
        sentences.append(f"Confidence level: {self.conf_level:g}.")
        return [" ".join(sentences), *(f"Note: {note}" for note in self.notes)]


def _contrasts_caption(method: str, contrasts: pd.DataFrame) -> str:
    return f"Contrasts: {method}. {contrasts.attrs['caption']}"


def means_text(
    table: pd.DataFrame, captions: Captions, compared: tuple[str, pd.DataFrame] | None
) -> str:
    """Text of the table with its captions; ``compared`` is a method with its contrasts."""
    lines = [textwrap.fill(text, 80) for text in captions.paragraphs]
    text = "\n".join([formatted_table(table).to_string(index=False), "", *lines])
    if compared is None:
        return text
    shown = formatted_table(compared[1]).to_string(index=False)
    return f"{text}\n\n{shown}\n\n{_contrasts_caption(*compared)}"


def means_html(
    table: pd.DataFrame, captions: Captions, compared: tuple[str, pd.DataFrame] | None
) -> str:
    """HTML of the same."""
    shown = formatted_table(table).to_html(index=False, border=0)
    shown += "".join(f"<p>{html.escape(text)}</p>" for text in captions.paragraphs)
    if compared is None:
        return html_block(shown)
    shown += formatted_table(compared[1]).to_html(index=False, border=0)
    return html_block(f"{shown}<p>{html.escape(_contrasts_caption(*compared))}</p>")


def means_document(
    table: pd.DataFrame, captions: Captions, compared: tuple[str, pd.DataFrame] | None
) -> tuple[list[DocumentPart], list[str]]:
    """Tables of a document, and the paragraphs below them."""
    title = "Estimated slopes" if "slope" in table.columns else "Estimated marginal means"
    parts = [DocumentPart(title, _stripped(table))]
    notes = [text.removeprefix("Note: ") for text in captions.paragraphs]
    if compared is not None:
        parts.append(DocumentPart("Contrasts", _stripped(compared[1])))
        notes.append(_contrasts_caption(*compared))
    return parts, notes


def _stripped(table: pd.DataFrame) -> pd.DataFrame:
    """The formatted table without the spaces that align it in a terminal."""
    formatted = formatted_table(table)
    return pd.DataFrame({str(name).strip(): formatted[name].str.strip() for name in formatted})
