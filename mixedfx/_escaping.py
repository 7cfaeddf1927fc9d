"""Names and notes as text that Markdown and LaTeX show as it is."""

from __future__ import annotations

import re
from typing import Any

# What Markdown would take for markup: emphasis except inside a word, code, links, tags,
# mathematics, and the bar that ends a cell.
_MARKDOWN = re.compile(r"[\\`*\[\]|$]|(?<![^\W_])_|_(?![^\W_])|<(?=[A-Za-z/!?])|~(?=~)|&(?=#?\w+;)")


def markdown_text(value: Any) -> str:
    """Escape what Markdown would take for markup."""
    return _MARKDOWN.sub(lambda m: "\\" + m[0], str(value))


def latex_text(text: str) -> str:
    """Escape the special characters of LaTeX."""
    special = {c: f"\\{c}" for c in "&%$#_{}"}
    special |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
    special |= {"|": r"\textbar{}", "<": r"\textless{}", ">": r"\textgreater{}"}
    return "".join(special.get(c, c) for c in text)
