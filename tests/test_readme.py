"""The examples of the README, one after another, and what stands below each."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```(python|text)\n(.*?)^```", README.read_text("utf-8"), re.DOTALL | re.M)


def lines(text: str) -> list[str]:
    """Without blanks at the ends, and without the gradient at an optimum, which is rounding."""
    found = [re.sub(r"gradient [\d.e-]+", "gradient", line.rstrip()) for line in text.splitlines()]
    return [line for line in found if line]


@pytest.mark.full
def test_the_examples_print_what_stands_below_them():
    namespace, printed = {"__name__": "readme"}, io.StringIO()
    for kind, text in BLOCKS:
        if kind == "text":
            assert lines(printed.getvalue()) == lines(text)
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(text, "README.md", "exec"), namespace)
