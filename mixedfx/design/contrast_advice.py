"""What to write where a formula asks for a contrast as R does, or for one that is none.

Asked only where a term could not be evaluated. patsy's ``C(f, contrast)`` takes a contrast, such
as ``Treatment("b")`` or ``Sum``; R's contrasts have ``base=``, which counts from one.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import pandas as pd

from mixedfx._names import decode
from mixedfx.formula.trees import called_name

_CONTRASTS = ("Treatment", "Sum", "Helmert", "Poly", "Diff")
_BY_LOWER = {name.lower(): name for name in _CONTRASTS}
# R's names of the reference level.
_BASES = ("base", "ref", "reference")
_MOST_LEVELS = 12


def contrast_advice(code: str, variables: Mapping[str, Any]) -> str:
    """What is wrong with a factor's contrast, and what to write; empty where that is not it."""
    try:
        call = ast.parse(code, mode="eval").body
    except SyntaxError:
        return ""
    if not isinstance(call, ast.Call) or not call.args:
        return ""
    name, factor = called_name(call), ast.unparse(call.args[0])
    if name in _CONTRASTS:
        base = _keyword(call, _BASES)
        written = name if base is None else _treatment(base, factor, variables)
        return f"'{name}' is a contrast and no term. Write 'C({decode(factor)}, {written})'."
    return _of_C(call, factor, variables) if name == "C" else ""


def _of_C(call: ast.Call, factor: str, variables: Mapping[str, Any]) -> str:
    """The same of the arguments of ``C()``."""
    shown = decode(factor)
    if (base := _keyword(call, _BASES)) is not None:
        written = _treatment(base, factor, variables)
        return f"C() takes a contrast, and no base=. Write 'C({shown}, {written})'."
    others = [k.arg for k in call.keywords if k.arg not in ("contrast", "levels")]
    given = [*call.args[1:2], *(k.value for k in call.keywords if k.arg == "contrast")]
    if others and not given:
        given = [k.value for k in call.keywords if k.arg == others[0]]
    contrast = given[0] if given else None
    if isinstance(contrast, ast.Call) and called_name(contrast) in _CONTRASTS:
        return _of_contrast(contrast, factor, variables)
    word = getattr(contrast, "value", getattr(contrast, "id", None))
    known = _BY_LOWER.get(word.removeprefix("contr.").lower()) if isinstance(word, str) else None
    if known and (others or word != known):
        return f"C() takes a contrast without quotes. Write 'C({shown}, {known})'."
    if others or len(call.args) > 2:
        return f"C() takes a contrast and levels=. Write 'C({shown}, Sum)', for example."
    return ""


def _of_contrast(contrast: ast.Call, factor: str, variables: Mapping[str, Any]) -> str:
    """The same of the arguments of a contrast: the level that it takes as reference, or omits."""
    if (base := _keyword(contrast, ("base", "ref"))) is not None:
        written = _treatment(base, factor, variables)
        return f"its reference is another argument. Write 'C({decode(factor)}, {written})'."
    levels = _levels(factor, variables)
    level = next((a for a in (*contrast.args, *(k.value for k in contrast.keywords))), None)
    if not levels or not isinstance(level, ast.Constant) or level.value in levels:
        return ""
    if isinstance(level.value, int) and level.value < len(levels):
        return ""
    listed = ", ".join(map(repr, levels[:_MOST_LEVELS]))
    return f"{level.value!r} is no level of '{decode(factor)}'; its levels are {listed}."


def _keyword(call: ast.Call, names: tuple[str, ...]) -> ast.expr | None:
    """Value of the first of some keywords of a call."""
    return next((k.value for k in call.keywords if k.arg in names), None)


def _treatment(base: ast.expr, factor: str, variables: Mapping[str, Any]) -> str:
    """Treatment contrast of R's ``base=``, which is a level, or its number from one."""
    value, levels = getattr(base, "value", None), _levels(factor, variables)
    if isinstance(value, int) and value not in levels and 1 <= value <= len(levels):
        value = levels[value - 1]
    return f"Treatment(reference={value!r})"


def _levels(factor: str, variables: Mapping[str, Any]) -> list[Any]:
    """Levels of a column, in their order."""
    column = variables.get(factor)
    if column is None:
        return []
    values = pd.Series(getattr(column, "data", column))
    if isinstance(values.dtype, pd.CategoricalDtype):
        return list(values.cat.categories)
    return sorted(values.dropna().unique().tolist())
