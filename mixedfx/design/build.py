"""Formula and data to arrays: the response, the fixed columns, a block per random term.

The one idea is the recipe: what patsy and the level tables learned from the data is kept in
the :class:`Design`, so that new rows get the same columns, and every complaint about the
data is made before any number is computed from it.

Nothing here knows likelihoods, engines or results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import (
    DesignInfo,
    EvalEnvironment,
)

from mixedfx._arrays import set_readonly
from mixedfx.design.checks import (
    check_even,
    check_finite,
    check_positive,
    checked_response,
    independent_columns,
)
from mixedfx.design.columns import (
    as_frame,
    complete,
    complete_rows,
    per_row,
    prepared,
    used_columns,
)
from mixedfx.design.dispersion import DispersionDesign, dispersion_design
from mixedfx.design.functions import KNOWN_FUNCTIONS
from mixedfx.design.levels import Levels
from mixedfx.design.random import Block, random_blocks
from mixedfx.design.terms import evaluate, group_values, matrices
from mixedfx.errors import DataError, DispersionError
from mixedfx.formula.expansion import expand_dot
from mixedfx.formula.terms import Formula

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Recipe:
    """
    What turns new rows into the same columns.

    Parameters
    ----------
    fixed : patsy.DesignInfo
        The fixed columns, also those that were dropped.
    random : tuple of patsy.DesignInfo or None
        Each random term's columns; None for an intercept alone.
    env : patsy.EvalEnvironment
        The caller's functions, for grouping expressions.
    offset, residual_sd : str or None
        The columns of the offset and of the known residual standard deviations, where they
        were given by name.
    """

    fixed: DesignInfo
    random: tuple[DesignInfo | None, ...]
    env: EvalEnvironment
    offset: str | None
    residual_sd: str | None = None


@dataclass(frozen=True)
class Design:
    """
    A model's data as arrays.

    Parameters
    ----------
    formula : Formula
        Without a dot.
    y : ndarray of shape (n,)
        The response, less the offset.
    X : ndarray of shape (n, p)
        Fixed columns, those that depend on others left out.
    columns : tuple of str
        Names of all fixed columns, also of those left out.
    kept : ndarray of shape (p,)
        Which of ``columns`` are in ``X``.
    blocks : tuple of Block
        One per random term.
    weights, offset : ndarray of shape (n,) or None
        Weights (variance ``sigma**2 / w``) and the known part of the mean.
    index : pandas.Index
        Labels of the rows used.
    dropped_rows : int
        Rows left out for missing values.
    recipe : Recipe
        Rebuilds the columns on new data.
    read : mapping of str to pandas.Series
        The data's columns that the formula reads, in the rows used.
    sigma : float or None
        One where the residual standard deviations are known, so that the weights are their
        inverse squares; None where the standard deviation is estimated.
    scale : Scale or None
        What the residual standard deviation depends on.
    """

    formula: Formula
    y: Vector
    X: Matrix
    columns: tuple[str, ...]
    kept: Codes
    blocks: tuple[Block, ...]
    weights: Vector | None
    offset: Vector | None
    index: pd.Index
    dropped_rows: int
    recipe: Recipe = field(repr=False)
    read: Mapping[str, pd.Series] = field(repr=False)
    sigma: float | None = None
    dispersion: DispersionDesign | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())

    @property
    def response(self) -> Vector:
        """The response as it was given, offset included."""
        return self.y if self.offset is None else self.y + self.offset

    def reweighed(self, relative: Vector) -> Vector:
        """Weights times the design's own, where it has any."""
        return relative if self.weights is None else relative * self.weights

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of ``X``."""
        return tuple(self.columns[j] for j in self.kept)

    @property
    def frame(self) -> pd.DataFrame:
        """The data's columns that the formula reads, in the rows used, with their index."""
        return pd.DataFrame(dict(self.read)).set_axis(self.index, axis=0)

    @property
    def dropped_columns(self) -> tuple[str, ...]:
        """Names of the fixed columns left out because they depend on others."""
        return tuple(c for j, c in enumerate(self.columns) if j not in set(self.kept.tolist()))

    @property
    def nesting(self) -> dict[str, str]:
        """For each grouping factor that lies within others, the innermost of those."""
        codes = {b.group: b.codes for b in self.blocks}
        counts, found = self.ngroups, {}
        for inner, mine in codes.items():
            outer = [
                other
                for other, theirs in codes.items()
                if counts[other] < counts[inner] and _within(mine, theirs)
            ]
            if outer:
                found[inner] = max(outer, key=counts.__getitem__)
        return found

    @property
    def ngroups(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""
        return {b.group: len(b.levels) for b in self.blocks}


def _within(inner: Codes, outer: Codes) -> bool:
    """Whether each level of one factor occurs with a single level of another."""
    first = np.unique(inner, return_index=True)[1]
    owner = np.empty(int(inner.max()) + 1, dtype=np.intp)
    owner[inner[first]] = outer[first]
    return bool((owner[inner] == outer).all())


def build(
    formula: Formula,
    data: Any,
    *,
    weights: Any = None,
    offset: Any = None,
    residual_sd: Any = None,
    dispersion: Formula | None = None,
    env: EvalEnvironment | None = None,
) -> Design:
    """Evaluate a formula on data."""
    frame = as_frame(data)
    formula = expand_dot(formula, [str(c) for c in frame.columns])
    env = (env or EvalEnvironment([{}])).with_outer_namespace(KNOWN_FUNCTIONS)
    extra = {
        "weights": per_row(weights, "weights", frame),
        "offset": per_row(offset, "offset", frame),
        "residual_sd": per_row(residual_sd, "residual_sd", frame),
    }
    used = used_columns(formula, frame, env)
    told = {} if dispersion is None else used_columns(dispersion, frame, env)
    keep = complete_rows(told | used, extra)
    dropped = 0 if keep is None else int(len(frame) - keep.sum())
    index = frame.index
    if keep is not None:
        used = {name: column[keep] for name, column in used.items()}
        told = {name: column[keep] for name, column in told.items()}
        extra = {k: None if v is None else v[keep] for k, v in extra.items()}
        index = index[keep]
    columns = {name: prepared(name, column) for name, column in used.items()}

    y, fixed, random, fixed_info, random_infos = evaluate(formula, columns, env, len(index))
    named = [name if isinstance(name, str) else None for name in (offset, residual_sd)]
    recipe = Recipe(fixed_info, random_infos, env, *named)
    y = checked_response(y, formula, index)
    check_positive("weights", extra["weights"], index)
    check_positive("residual_sd", extra["residual_sd"], index)
    sd = extra["residual_sd"]
    weights = extra["weights"] if sd is None else sd**-2.0
    check_even("weights" if sd is None else "residual_sd", weights, index)
    if extra["offset"] is not None:
        check_finite("offset", extra["offset"], index)
        y = y - extra["offset"]
    names = tuple(recipe.fixed.column_names)
    if not names and not formula.random:
        raise DataError(f"'{formula}' has no terms: add a fixed or a random one.")
    for j, name in enumerate(names):
        check_finite(f"fixed column '{name}'", fixed[:, j], index)
    kept = independent_columns(fixed)
    if len(index) <= len(kept):
        raise DataError(
            f"{len(kept)} fixed columns need more than {len(index)} rows; leave terms out."
        )
    X = fixed if len(kept) == len(names) else np.ascontiguousarray(fixed[:, kept])
    known = sd is not None
    blocks = random_blocks(formula, columns, env, random, recipe.random, index, alone=known)
    dispersion_columns = None
    if dispersion is not None:
        told = {name: prepared(name, column) for name, column in told.items()}
        if formula.response in told:
            raise DispersionError(
                f"the dispersion formula '{dispersion}' reads the response '{formula.response}'; "
                "the residual standard deviation cannot depend on what it scatters."
            )
        dispersion_columns = dispersion_design(dispersion, told, env, index)
    return Design(
        formula=formula,
        y=y,
        X=X,
        columns=names,
        kept=kept,
        blocks=blocks,
        weights=weights,
        offset=extra["offset"],
        index=index,
        dropped_rows=dropped,
        recipe=recipe,
        read=columns,
        sigma=1.0 if known else None,
        dispersion=dispersion_columns,
    )


def fixed_matrix(design: Design) -> Matrix:
    """Build all fixed columns again, also those that were left out."""
    return matrices([design.recipe.fixed], dict(design.read), len(design.y))[0]


def some_rows(design: Design, keep: npt.NDArray[np.bool_]) -> Design:
    """Take some of a design's rows, and of the levels those that are left."""
    cut: dict[str, tuple[Levels, Codes]] = {}
    blocks = []
    for block in design.blocks:
        if block.group not in cut:
            left, codes = np.unique(block.codes[keep], return_inverse=True)
            cut[block.group] = block.levels.take(left), codes.astype(np.intp)
        levels, codes = cut[block.group]
        blocks.append(replace(block, levels=levels, codes=codes, values=block.values[keep]))
    return replace(
        design,
        y=design.y[keep],
        X=design.X[keep],
        blocks=tuple(blocks),
        weights=None if design.weights is None else design.weights[keep],
        offset=None if design.offset is None else design.offset[keep],
        index=design.index[keep],
        read={name: column[keep] for name, column in design.read.items()},
        dispersion=None if design.dispersion is None else design.dispersion.some_rows(keep),
    )


def rebuild(
    design: Design, data: Any, *, groups: Sequence[str], effects: bool = False
) -> tuple[pd.DataFrame, Matrix, list[Matrix], list[Codes]]:
    """Make the same columns for new rows."""
    frame = as_frame(data)
    env, formula, n = design.recipe.env, design.formula, len(frame)
    fixed_only = replace(formula, response="1", random=())
    columns, rows = complete(used_columns(fixed_only, frame, env), n)
    built = matrices([design.recipe.fixed], columns, len(rows))[0]
    X = _spread(built, rows, n)[:, design.kept]
    values, codes = [], []
    for block, info in zip(design.blocks, design.recipe.random, strict=True):
        level = np.full(n, -1, dtype=np.intp)
        codes.append(level)
        known = block.group in groups
        if not (known or effects):
            values.append(np.zeros((n, len(block.effects))))
            continue
        alone = replace(formula, response="1", fixed=block.term.effects, random=())
        one_term = replace(alone, fixed="1", random=(block.term,)) if known else alone
        columns, rows = complete(used_columns(one_term, frame, env), n)
        made = np.ones((len(rows), 1))
        if info is not None:
            made = matrices([info], columns, len(rows))[0]
        values.append(_spread(made, rows, n))
        if known:
            level[:] = -2
            if len(rows):
                keys = [group_values(f, columns, env, len(rows)) for f in block.term.group]
                level[rows] = block.levels.encode(keys)
    return frame, X, values, codes


def _spread(matrix: Matrix, rows: Codes, n: int) -> Matrix:
    if len(rows) == n:
        return matrix
    full = np.full((n, matrix.shape[1]), np.nan)
    full[rows] = matrix
    return full
