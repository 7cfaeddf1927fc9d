"""Random terms whose sides are probably swapped: ``(Subject | Days)`` for ``(Days | Subject)``.

The grouping factor is a number, and the effects are those of a factor of three levels or more with
several rows each; and the numbers are not integers, or hardly occur twice, or are fewer than the
factor's levels. Subjects numbered by integers, ``(condition | subject)``, are none of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from patsy import DesignInfo

from mixedfx._names import decode, written
from mixedfx.design.variables import Numbers, variable_of
from mixedfx.formula.terms import RandomTerm

_FEWEST_LEVELS, _FEWEST_ROWS, _FEW_ROWS = 3, 2.0, 1.5


def swapped_sides(
    term: RandomTerm, info: DesignInfo | None, variables: Mapping[str, Any]
) -> str | None:
    """What the term means and what was probably meant, as a sentence; None for other terms."""
    if info is None or len(term.group) != 1:
        return None
    if len(info.factor_infos) != 1:
        return None
    ((factor, learned),) = info.factor_infos.items()
    if learned.type != "categorical" or (name := factor.name()) not in variables:
        return None
    column = variable_of(variables, term.group[0])
    if not isinstance(column, Numbers) or column.values.dtype.kind not in "if":
        return None
    values = column.values
    levels, numbers, n = len(learned.categories), len(np.unique(values)), len(values)
    if levels < _FEWEST_LEVELS or n < _FEWEST_ROWS * levels:
        return None
    fractions = bool((values != np.rint(values)).any())
    if not (fractions or n < _FEW_ROWS * numbers or levels > numbers):
        return None
    group, factor = term.group[0], decode(name)
    return (
        f"{decode(str(term))} gives each of the {numbers} values of '{decode(group)}' an effect of "
        f"each of the {levels} levels of '{factor}'. The sides are probably swapped: write "
        f"'({written(group)} | {written(name)})' for a slope of '{decode(group)}' that varies "
        f"between the levels of '{factor}'."
    )
