"""Names and notes as text that Markdown and LaTeX show as it is."""

from __future__ import annotations

import re
from typing import Any

# What Markdown would take for markup: emphasis except inside a word, code, links, tags,
# mathematics, and the bar that ends a cell.
_MARKDOWN = re.compile(r"[\\`*\[\]|$]|(?<![^\W_])_|_(?![^\W_])|<(?=[A-Za-z/!?])|~(?=~)|&(?=#?\w+;)")


def markdown_text(value: Any) -> str:
    """Escape what Markdown would take for markup."""
    return _MARKDOWN.sub(lambda m: "\\" + m[0], _one_line(value))


def latex_text(text: str) -> str:
    """Escape the special characters of LaTeX."""
    special = {c: f"\\{c}" for c in "&%$#_{}"}
    special |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
    special |= {"|": r"\textbar{}", "<": r"\textless{}", ">": r"\textgreater{}"}
    return "".join(special.get(c, c) for c in _one_line(text))


def html_block(content: str) -> str:
    """Wrap HTML so that notebooks do not set what stands between dollars as mathematics."""
    return f'<div class="tex2jax_ignore mathjax_ignore">{content}</div>'


def _one_line(value: Any) -> str:
    """Text without line breaks, which would end a row."""
    return " ".join(str(value).splitlines())
