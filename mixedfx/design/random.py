"""Random terms: the levels of the grouping factor and the raw model matrix of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import DesignInfo, EvalEnvironment

from mixedfx._names import column_label
from mixedfx.design.checks import check_finite, check_grouping_factor
from mixedfx.design.evaluation import group_depends_on_rows, group_values, position_values
from mixedfx.design.levels import Levels, combine, factorize
from mixedfx.design.positions import (
    EffectPositions,
    build_positions,
    check_size_of_positions,
    position_names,
)
from mixedfx.design.rows import RandomTermRows
from mixedfx.design.spec import RandomTermSpec
from mixedfx.design.swapped import swapped_sides
from mixedfx.errors import DataError, GroupingError
from mixedfx.formula.positions import ALL_ROWS, has_positions, position_codes
from mixedfx.formula.terms import Formula, RandomTerm

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

RandomTerms = tuple[tuple[RandomTermSpec, ...], tuple[RandomTermRows, ...]]


def subset_random_terms(
    specs: Sequence[RandomTermSpec], rows: Sequence[RandomTermRows], keep: Mask
) -> RandomTerms:
    """Select rows, and the levels that occur in them, which are renumbered."""
    levels_of: dict[str, tuple[Levels, Codes]] = {}
    new_specs, new_rows = [], []
    for spec, term in zip(specs, rows, strict=True):
        if spec.group not in levels_of:
            remaining, codes = np.unique(term.codes[keep], return_inverse=True)
            levels_of[spec.group] = spec.levels.take(remaining), codes.astype(np.intp)
        levels, codes = levels_of[spec.group]
        new_specs.append(replace(spec, levels=levels))
        new_rows.append(RandomTermRows(spec.group, len(levels), codes, term.model_matrix[keep]))
    return tuple(new_specs), tuple(new_rows)


def nested_factors(terms: Sequence[RandomTermRows]) -> dict[str, str]:
    """For each grouping factor nested in others, the innermost of those."""
    by_group = {term.group: term for term in terms if term.n_levels > 1}
    innermost = {}
    for group, inner in by_group.items():
        containing = [
            outer
            for outer in by_group.values()
            if outer.n_levels < inner.n_levels and _is_nested(inner, outer)
        ]
        if containing:
            innermost[group] = max(containing, key=lambda outer: outer.n_levels).group
    return innermost


def _is_nested(inner: RandomTermRows, outer: RandomTermRows) -> bool:
    """Whether each level of one factor occurs with a single level of another."""
    outer_of = np.empty(inner.n_levels, dtype=np.intp)
    outer_of[inner.codes] = outer.codes
    return bool((outer_of[inner.codes] == outer.codes).all())


def _finite_values(
    factor: str, variables: Mapping[str, Any], env: EvalEnvironment, index: pd.Index
) -> pd.Series:
    values = group_values(factor, variables, env, len(index))
    if values.dtype.kind == "f":
        check_finite(f"grouping factor '{factor}'", values.to_numpy(), index)
    return values


def _check_sides(
    term: RandomTerm, info: DesignInfo | None, variables: Mapping[str, Any], levels: int, n: int
) -> None:
    """Refuse a term of swapped sides that has as many effects as rows; others get a note."""
    meant = swapped_sides(term, info, variables)
    if meant is not None and info is not None and levels * len(info.column_names) >= n:
        raise GroupingError(meant)


def _effect_columns(
    term: RandomTerm,
    matrix: Matrix | None,
    info: DesignInfo | None,
    variables: Mapping[str, Any],
    env: EvalEnvironment,
    index: pd.Index,
) -> tuple[EffectPositions | None, tuple[str, ...], Matrix]:
    """Positions, if the effects have any, names and columns of the effects of one term."""
    if has_positions(term.structure):
        positions, of_rows = build_positions(term, variables, env, index)
        return positions, position_names(term, positions), positions.indicators(of_rows)
    if matrix is None or info is None:  # an intercept alone
        return None, ("Intercept",), np.broadcast_to(1.0, (len(index), 1)).view()
    return None, tuple(map(column_label, info.column_names)), matrix


def _check_columns(term: RandomTerm, matrix: Matrix, names: Sequence[str], index: pd.Index) -> None:
    """Refuse columns of infinite values or of zeros alone."""
    for j, name in enumerate(names):
        check_finite(f"column '{name}' of {term}", matrix[:, j], index)
        if not matrix[:, j].any():
            raise DataError(f"column '{name}' of {term} is zero in every row; leave it out.")


def _row_dependent_positions(
    term: RandomTerm, variables: Mapping[str, Any], env: EvalEnvironment, n: int
) -> set[str]:
    """Variables of a left side that are computed from other rows than their own."""
    values = {
        code: position_values(code, variables, env, n) for code in position_codes(term.effects)
    }
    return {c for c, v in values.items() if group_depends_on_rows(c, v, variables, env)}


def build_random_terms(
    formula: Formula,
    variables: Mapping[str, Any],
    env: EvalEnvironment,
    matrices: Sequence[Matrix | None],
    infos: Sequence[DesignInfo | None],
    index: pd.Index,
    *,
    one_row_levels: bool = False,
) -> RandomTerms:
    """Find the levels of each random term, and check its columns."""
    n = len(index)
    levels_of: dict[tuple[str, ...], tuple[Levels, Codes]] = {}
    levels_of_factor: dict[str, tuple[pd.Index, Codes]] = {}
    row_dependent: set[str] = set()
    specs, rows = [], []
    for term, matrix, info in zip(formula.random, matrices, infos, strict=True):
        if term.group not in levels_of:
            for factor in term.group:
                if factor not in levels_of_factor:
                    values = _finite_values(factor, variables, env, index)
                    levels_of_factor[factor] = factorize(values)
                    if group_depends_on_rows(factor, values, variables, env):
                        row_dependent.add(factor)
            levels_of[term.group] = combine([levels_of_factor[f] for f in term.group])
        levels, codes = levels_of[term.group]
        positions, names, matrix = _effect_columns(term, matrix, info, variables, env, index)
        _check_sides(term, info, variables, len(levels), n)
        if positions is not None:
            check_size_of_positions(term, len(names), len(levels))
            row_dependent |= _row_dependent_positions(term, variables, env, n)
        if term.group != (ALL_ROWS,):
            check_grouping_factor(term, len(levels), n, one_row_levels=one_row_levels)
        _check_columns(term, matrix, names, index)
        read = (*term.group, *(position_codes(term.effects) if positions else ()))
        dependent = tuple(f for f in read if f in row_dependent)
        specs.append(RandomTermSpec(term, levels, names, info, dependent, positions))
        rows.append(RandomTermRows(term.group_name, len(levels), codes, matrix))
    return tuple(specs), tuple(rows)
