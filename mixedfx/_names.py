"""Column names that are no Python identifiers, written as identifiers that can be read back.

patsy evaluates a term as Python, where a column is an identifier that no function, word of the
language or variable of the caller may stand for. A name that is not such an identifier
(``reading score``, ``class``, ``log``) is encoded: the prefix, then letters and digits as they are,
an underscore doubled, and every other character as its code point in hexadecimal between
underscores. Texts for people are decoded.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Callable, Container
from functools import lru_cache

_PREFIX = "Q__"
_ENCODED = re.compile(r"\bQ__((?:[0-9A-Za-z]|_[0-9a-f]*_)*)")
_NOT_IN_BACKTICKS = re.compile(r"[`\n\r\t\f\v]")
_ESCAPE = re.compile(r"_([0-9a-f]*)_")
# Functions that formulas know: as the name of a column they are encoded.
FUNCTION_NAMES = frozenset(
    {
        "I",
        "C",
        "Q",
        "ContrastMatrix",
        "Treatment",
        "Poly",
        "Sum",
        "Helmert",
        "Diff",
        "factor",
        "dummy",
    }
    | {"center", "standardize", "scale", "bs", "cr", "cc", "te", "ns", "poly", "offset", "mm", "np"}
    | {"squeeze"}
    | {"log", "log1p", "log2", "log10", "exp", "sqrt", "abs", "group_mean", "within"}
)
# Names that patsy takes for functions or numbers.
RESERVED = FUNCTION_NAMES | {"inf", "Inf", "infinity", "Infinity", "nan", "NaN", "NA"}


@lru_cache(maxsize=4096)
def encode(name: str) -> str:
    """Identifier of a column: the name itself, or its encoding where that is no identifier."""
    plain = (
        name.isidentifier()
        and not keyword.iskeyword(name)
        and name not in RESERVED
        and not name.startswith(_PREFIX)
        and unicodedata.normalize("NFKC", name) == name
    )
    return name if plain else _PREFIX + "".join(map(_encoded_character, name))


def _encoded_character(character: str) -> str:
    if character == "_":
        return "__"
    plain = character.isascii() and character.isalnum()
    return character if plain else f"_{ord(character):x}_"


def decode(code: str) -> str:
    """Text with the names as they are in the data: for tables, plots and messages."""
    return _ENCODED.sub(_decoded, code) if _PREFIX in code else code


# How patsy writes levels that are neither numbers nor text, and how they are shown.
_LEVELS: dict[str, str | Callable[[re.Match[str]], str]] = {
    r"Timestamp\('([^']+?)(?: 00:00:00)?'(?:, tz='[^']*')?\)": r"\1",
    r"Timedelta\('([^']+)'\)": r"\1",
    r"Period\('([^']+)', '[^']*'\)": r"\1",
    r"datetime\.date\((\d+), (\d+), (\d+)\)": lambda m: f"{m[1]}-{int(m[2]):02}-{int(m[3]):02}",
    r"datetime\.time\((\d+), (\d+)\)": lambda m: f"{int(m[1]):02}:{int(m[2]):02}",
    r"Interval\((.+?), (.+?), closed='right'\)": r"(\1, \2]",
    r"Interval\((.+?), (.+?), closed='left'\)": r"[\1, \2)",
    r"Interval\((.+?), (.+?), closed='both'\)": r"[\1, \2]",
    r"Interval\((.+?), (.+?), closed='neither'\)": r"(\1, \2)",
}


def column_label(code: str) -> str:
    """Name of a column of a model matrix, with names and levels as people read them."""
    name, bracket, levels = decode(code).partition("[")
    if bracket and "(" in levels:
        for pattern, shown in _LEVELS.items():
            levels = re.sub(pattern, shown, levels)
    return name + bracket + levels


def written(code: str) -> str:
    """Text with encoded names in backticks, which parses to the same code."""
    return _ENCODED.sub(_quoted, code) if _PREFIX in code else code


def unused_name(name: str, names: Container[str]) -> str:
    """The name, or that with underscores behind it, which is not among some names."""
    while name in names:
        name += "_"
    return name


def _decoded(match: re.Match[str]) -> str:
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else "_", match[1])


def _quoted(match: re.Match[str]) -> str:
    name = _decoded(match)
    # Backticks take neither themselves nor white space that a line of text has not.
    plain = name.strip() and not _NOT_IN_BACKTICKS.search(name)
    return f"`{name}`" if plain else f"Q({name!r})"
