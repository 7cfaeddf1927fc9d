"""What the residual standard deviation depends on, as columns of its logarithm.

``log sd = D gamma + v``: ``D`` are the columns of a formula such as ``~ kind``, and ``v``, where
the formula has a random term, an effect of each level of its group. Rows that agree in all
columns, and in the level, are a stratum: they have one standard deviation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import DesignInfo, EvalEnvironment

from mixedfx._arrays import set_readonly
from mixedfx.design.checks import check_finite, independent_columns
from mixedfx.design.columns import as_frame, complete, used_columns
from mixedfx.design.levels import Levels
from mixedfx.design.random import Block, random_blocks
from mixedfx.design.terms import group_values, learn, matrices
from mixedfx.errors import DispersionError
from mixedfx.formula.expansion import terms_of
from mixedfx.formula.terms import Formula

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Labels of strata name at most so many columns' values.
_SHOWN = 4


@dataclass(frozen=True)
class DispersionDesign:
    """
    Columns of the logarithm of the residual standard deviation.

    Parameters
    ----------
    formula : Formula
        Without a response.
    columns : ndarray of shape (n, r)
        ``D``; a constant is a combination of them.
    names : tuple of str
        Their names.
    block : Block or None
        The random term, an intercept.
    info : patsy.DesignInfo
        What builds the columns again.
    env : patsy.EvalEnvironment
        The caller's functions.
    read : mapping of str to pandas.Series
        The data's columns that the formula reads, in the rows used.
    """

    formula: Formula
    columns: Matrix
    names: tuple[str, ...]
    block: Block | None
    info: DesignInfo = field(repr=False)
    env: EvalEnvironment = field(repr=False)
    read: Mapping[str, pd.Series] = field(repr=False)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())

    def some_rows(self, keep: npt.NDArray[np.bool_]) -> DispersionDesign:
        """Take some of the rows, and of the levels those that are left."""
        block = self.block
        if block is not None:
            left, codes = np.unique(block.codes[keep], return_inverse=True)
            block = replace(
                block,
                levels=block.levels.take(left),
                codes=codes.astype(np.intp),
                values=block.values[keep],
            )
        read = {name: column[keep] for name, column in self.read.items()}
        return replace(self, columns=self.columns[keep], block=block, read=read)

    def strata(self) -> Codes:
        """Number each row's stratum: rows of equal columns, the random term aside."""
        _, codes = np.unique(self.columns, axis=0, return_inverse=True)
        return np.asarray(codes.ravel(), dtype=np.intp)

    def describe(self, row: int) -> str:
        """Name the stratum of a row by the values of what the formula reads."""
        parts = []
        for name, column in list(self.read.items())[:_SHOWN]:
            value = column.iloc[row]
            parts.append(f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}")
        return ", ".join(parts) if parts else "all rows"

    def rebuild(self, data: Any) -> tuple[Matrix, Codes | None]:
        """Make the columns for new rows, NaN where a value is missing, and their levels."""
        frame = as_frame(data)
        used, rows = complete(used_columns(self.formula, frame, self.env), len(frame))
        D = np.full((len(frame), len(self.names)), np.nan)
        D[rows] = matrices([self.info], used, len(rows))[0]
        if self.block is None:
            return D, None
        codes = np.full(len(frame), -1, dtype=np.intp)
        if len(rows):
            keys = [group_values(f, used, self.env, len(rows)) for f in self.block.term.group]
            codes[rows] = self.block.levels.encode(keys)
        return D, codes

    @property
    def levels(self) -> Levels | None:
        """Levels of the random term."""
        return None if self.block is None else self.block.levels


def dispersion_design(
    formula: Formula, columns: dict[str, Any], env: EvalEnvironment, index: pd.Index
) -> DispersionDesign:
    """Evaluate a formula of the residual standard deviation."""
    n = len(index)
    info = learn([terms_of(formula.fixed)], columns, env)[0]
    D = matrices([info], columns, n)[0]
    names = tuple(info.column_names)
    for j, name in enumerate(names):
        check_finite(f"column '{name}' of the dispersion", D[:, j], index)
    block = _random_part(formula, columns, env, index)
    _check_columns(formula, D, names, block)
    return DispersionDesign(formula, D, names, block, info, env, columns)


def _random_part(
    formula: Formula, columns: dict[str, Any], env: EvalEnvironment, index: pd.Index
) -> Block | None:
    if not formula.random:
        return None
    if len(formula.random) > 1 or formula.random[0].effects != "1":
        terms = " and ".join(map(str, formula.random))
        raise DispersionError(
            f"the dispersion formula '{formula}' has the random part {terms}; it can have one "
            "random intercept, such as (1 | friend)."
        )
    return random_blocks(formula, columns, env, [None], [None], index)[0]


def _check_columns(
    formula: Formula, D: Matrix, names: tuple[str, ...], block: Block | None
) -> None:
    n, r = D.shape
    ones = np.ones(n)
    if r == 0 or np.linalg.norm(ones - D @ np.linalg.lstsq(D, ones, rcond=None)[0]) > 1e-6 * n**0.5:
        raise DispersionError(
            f"the dispersion formula '{formula}' has no intercept: the residual standard "
            "deviation would be 1 where its columns are zero. Take the '0 +' or '- 1' away."
        )
    kept = independent_columns(D)
    if len(kept) < r:
        lost = [repr(names[j]) for j in range(r) if j not in kept.tolist()]
        left = ", ".join(lost[:_SHOWN]) + (
            f" and {len(lost) - _SHOWN} more" if lost[_SHOWN:] else ""
        )
        raise DispersionError(
            f"columns {left} of the dispersion formula '{formula}' depend on the others; leave "
            "them out."
        )
    if block is None and not np.ptp(D, axis=0).any():
        raise DispersionError(
            f"the dispersion formula '{formula}' varies within nothing: it gives every row the "
            "same residual standard deviation, as lmer() does without it. Name a column that "
            "varies between the rows used, or leave dispersion= out."
        )
