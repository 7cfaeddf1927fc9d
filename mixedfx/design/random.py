"""Random terms to blocks: the levels of a grouping factor, and the columns that vary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import DesignInfo, EvalEnvironment

from mixedfx._arrays import set_readonly
from mixedfx.design.checks import check_finite, check_group
from mixedfx.design.levels import Levels, combine, factorize
from mixedfx.design.terms import group_values
from mixedfx.errors import DataError
from mixedfx.formula.terms import Formula, RandomTerm

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Block:
    """
    The columns of one random term, before they are spread over its levels.

    Parameters
    ----------
    term : RandomTerm
        What the formula says.
    levels : Levels
        ``l`` levels.
    codes : ndarray of shape (n,)
        Level of each row.
    values : ndarray of shape (n, k)
        Value of each effect's column in each row.
    effects : tuple of str
        Names of the ``k`` columns.
    """

    term: RandomTerm
    levels: Levels
    codes: Codes
    values: Matrix
    effects: tuple[str, ...]

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())

    @property
    def group(self) -> str:
        """Name of the grouping factor."""
        return self.term.group_name

    def add_to(self, rows: Vector, effects: Matrix) -> None:
        """Add what the levels' effects, (k, levels), mean for each row, in place."""
        for j, effect in enumerate(effects):
            rows += self.values[:, j] * effect[self.codes]


def random_blocks(
    formula: Formula,
    columns: dict[str, Any],
    env: EvalEnvironment,
    random: list[Matrix | None],
    infos: Sequence[DesignInfo | None],
    index: pd.Index,
    *,
    alone: bool = False,
) -> tuple[Block, ...]:
    """Give each random term its levels and columns."""
    n = len(index)
    coded: dict[tuple[str, ...], tuple[Levels, Codes]] = {}
    single: dict[str, tuple[pd.Index, Codes]] = {}
    blocks = []
    for term, values, info in zip(formula.random, random, infos, strict=True):
        if term.group not in coded:
            for factor in term.group:
                if factor not in single:
                    values_of = group_values(factor, columns, env, n)
                    if values_of.dtype.kind == "f":
                        check_finite(f"grouping factor '{factor}'", values_of.to_numpy(), index)
                    single[factor] = factorize(values_of)
            coded[term.group] = combine([single[f] for f in term.group])
        levels, codes = coded[term.group]
        if values is None:
            values, names = np.broadcast_to(1.0, (n, 1)).view(), ("Intercept",)
        else:
            assert info is not None  # an intercept alone has neither
            names = tuple(info.column_names)
        check_group(term, len(levels), values, n, alone=alone)
        for j, name in enumerate(names):
            check_finite(f"column '{name}' of {term}", values[:, j], index)
            if not values[:, j].any():
                raise DataError(f"column '{name}' of {term} is zero in every row; leave it out.")
        blocks.append(Block(term, levels, codes, values, names))
    return tuple(blocks)
