"""Spellings of R, and names in backticks, rewritten to what patsy parses.

=====================  ==================================================
written                rewritten
=====================  ==================================================
```a name```, Q("…")   identifier of the column (:mod:`mixedfx._names`)
``class``              the same, where a word of Python stands alone
``a ^ b``              ``a ** b``
``a %in% b``           ``a:b``
``factor(f)``          ``C(f)``
``splines::ns(x, 4)``  ``ns(x, 4)``
``C(f, contr.sum)``    ``C(f, Sum)``
``raw=TRUE``           ``raw=True``
=====================  ==================================================

Positions in the rewritten text are mapped back to the source, for the carets of messages.
"""

from __future__ import annotations

import ast
import bisect
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mixedfx._names import RESERVED, encode
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.errors import FormulaError

# A string literal of Python.
STRING = r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\""
_TOKEN = re.compile(
    rf"(?P<quoted>(?<![\w.])Q\s*\(\s*(?P<inside>{STRING})\s*\))"
    rf"|(?P<string>{STRING})"
    r"|`(?P<backtick>[^`]*)`"
    r"|(?P<within>%in%)"
    r"|(?P<power>\^)"
    r"|(?P<factor>(?<![\w.])(?:as\.)?factor(?=\s*\())"
    r"|(?P<package>(?<![\w.])(?:base|stats|splines|lme4)::(?=[^\W\d]))"
    r"|(?P<contrast>(?<![\w.])contr\.(?:sum|poly|helmert|treatment)(?![\w.]))"
    r"|(?P<constant>(?<=[=,])(?<![=!<>]=)\s*(?:TRUE|FALSE|NULL)(?![\w.]))"
    r"|(?P<name>(?<![\w.])[^\W\d]\w*)"
)
# Values of arguments, and contrasts, that R writes otherwise.
_CONSTANTS = {"TRUE": "True", "FALSE": "False", "NULL": "None"}
_CONTRASTS = {"sum": "Sum", "poly": "Poly", "helmert": "Helmert", "treatment": "Treatment"}
# What may stand beside a name that is a term by itself.
_BEFORE, _AFTER = "~+-*/:|(^%`", "~+-*/:|)^%`"


@dataclass(frozen=True)
class Rewritten:
    """A formula's text as patsy parses it, and where its pieces stand in the source."""

    source: str
    text: str
    starts: tuple[int, ...]  # of each piece, in the text
    pieces: tuple[tuple[int, int, bool], ...]  # start and end in the source, whether replaced

    def in_source(self, error: FormulaError) -> FormulaError:
        """The error at its place in the source, with names as they were written."""
        start, end = self._position(error.start, 0), self._position(error.end, 1)
        return FormulaError(error.problem, self.source, start, max(end, start + 1), error.advice)

    def _position(self, position: int, side: int) -> int:
        """Position in the source; of a replaced piece its start (side 0) or end (1)."""
        i = max(bisect.bisect_right(self.starts, position - side) - 1, 0)
        start, end, replaced = self.pieces[i]
        return (start, end)[side] if replaced else min(start + position - self.starts[i], end)


def rewrite(source: str) -> Rewritten:
    """Rewrite the source of a formula."""
    unclosed = _TOKEN.sub(lambda match: " " * len(match[0]), source)
    if "`" in unclosed:
        start = unclosed.index("`")
        raise FormulaError(
            "'`' is never closed.", source, start, len(source), "Close the name, `reading score`."
        )
    texts, starts, pieces = [], [], []
    at, length = 0, 0
    for start, end, replacement in _replacements(source):
        for a, b, text in ((at, start, None), (start, end, replacement)):
            texts.append(source[a:b] if text is None else text)
            starts.append(length)
            pieces.append((a, b, text is not None))
            length += len(texts[-1])
        at = end
    texts.append(source[at:])
    starts.append(length)
    pieces.append((at, len(source), False))
    return Rewritten(source, "".join(texts), tuple(starts), tuple(pieces))


def _replacements(source: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and new text of each piece of the source that is replaced."""
    for match in _TOKEN.finditer(source):
        new = _replacement(match, source)
        if new is not None and new != match[0]:
            yield match.start(), match.end(), new


def _replacement(match: re.Match[str], source: str) -> str | None:
    if match["quoted"]:
        return encode(_string(match["inside"]))
    if match["backtick"] is not None:
        if not match["backtick"].strip():
            start, end = match.span()
            problem = "there is no name between the backticks."
            raise FormulaError(problem, source, start, end, "Write the name of a column.")
        return encode(match["backtick"])
    if match["within"]:
        return ":"
    if match["power"]:
        return "**"
    if match["factor"]:
        return "C"
    if match["package"]:
        return ""
    if match["contrast"]:
        return _CONTRASTS[match["contrast"].removeprefix("contr.")]
    if match["constant"]:
        return _CONSTANTS[match["constant"].strip()]
    name = match["name"]
    if name and (keyword.iskeyword(name) or name in RESERVED) and _stands_alone(match):
        return encode(name)
    return None


def _string(literal: str) -> str:
    """Value of a string literal; as written where Python does not accept it."""
    try:
        return str(ast.literal_eval(literal))
    except (SyntaxError, ValueError):
        return literal[1:-1]


def _stands_alone(match: re.Match[str]) -> bool:
    """Whether a name is a whole operand of the formula, outside of calls and indices."""
    source, start, end = match.string, *match.span()
    before, after = source[:start].rstrip(), source[end:].lstrip()
    if (before and before[-1] not in _BEFORE) or (after and after[0] not in _AFTER):
        return False
    return not _inside_call(before)


def _inside_call(before: str) -> bool:
    """Whether the text ends within the brackets of a call or an index."""
    depth = 0
    for i in range(len(before) - 1, -1, -1):
        if before[i] in ")]}":
            depth += 1
        elif before[i] in "([{":
            if depth == 0 and _opens_call(before[:i], before[i]):
                return True
            depth = max(depth - 1, 0)
    return False


def _opens_call(before: str, bracket: str) -> bool:
    """Whether a bracket after this text is that of a call; a structure's holds a random term."""
    if bracket != "(":
        return True
    name = re.search(r"[\w.\])]+$", before)
    return name is not None and name[0] not in STRUCTURES
