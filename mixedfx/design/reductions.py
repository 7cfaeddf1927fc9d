"""Reductions of columns inside terms, such as ``x.mean()`` in ``I(x - x.mean())``.

The number that a reduction gives on the rows of the fit is remembered, as that of ``center(x)``
is, and stands in the term on new rows: the call is wrapped in a stateful transform of patsy. A call
that gives one value a row (``x.rolling(3).mean()``) is left as it is.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import Any

import numpy as np
from patsy import stateful_transform

REMEMBER = "_remember"  # the transform's name in the evaluated code

_METHODS = {
    *("mean", "median", "std", "var", "sem", "min", "max", "sum", "prod", "quantile", "ptp"),
    *("count", "nunique", "skew", "kurt", "average", "amin", "amax", "percentile"),
    *("nanmean", "nanmedian", "nanstd", "nanvar", "nanmin", "nanmax", "nansum", "nanquantile"),
}
_BUILTINS = {"len", "max", "min", "sum"}


class _Remember:
    """Value of a reduction on the rows of the fit."""

    def __init__(self) -> None:
        self._n_chunks = 0

    def memorize_chunk(self, value: Any) -> None:
        self._n_chunks += 1
        self.value = value if np.ndim(value) == 0 else None

    def memorize_finish(self) -> None:
        if self._n_chunks > 1 and self.value is not None:
            raise ValueError("a reduction such as x.mean() cannot be learned in chunks: center(x)")

    @property
    def learned_in_chunks(self) -> bool:
        """Whether there is nothing to learn: the call gives a value a row."""
        return self.value is None

    def transform(self, value: Any) -> Any:
        return value if self.value is None else self.value


remember = stateful_transform(_Remember)


@lru_cache(maxsize=256)
def with_remembered_reductions(code: str) -> str:
    """Wrap the outermost reductions of an expression; the rest of the text is kept."""
    if "(" not in code:
        return code
    encoded = code.encode()  # the offsets of ast count bytes, here of a single line
    spans = _reductions(ast.parse(code, mode="eval").body) if "\n" not in code else []
    for start, end in sorted(spans, reverse=True):
        call = encoded[start:end]
        encoded = encoded[:start] + REMEMBER.encode() + b"(" + call + b")" + encoded[end:]
    return encoded.decode()


def _reductions(node: ast.AST) -> list[tuple[int, int]]:
    """Start and end of each outermost call of a reduction; those in a lambda have no columns."""
    if isinstance(node, ast.Lambda | ast.GeneratorExp | ast.ListComp | ast.DictComp | ast.SetComp):
        return []
    if isinstance(node, ast.Call) and _is_reduction(node.func):
        return [(node.col_offset, node.end_col_offset or 0)]
    return [span for child in ast.iter_child_nodes(node) for span in _reductions(child)]


def _is_reduction(function: ast.expr) -> bool:
    if isinstance(function, ast.Attribute):
        return function.attr in _METHODS
    return isinstance(function, ast.Name) and function.id in _BUILTINS
