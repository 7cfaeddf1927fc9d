"""Random terms: the levels of the grouping factor and the raw model matrix of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import DesignInfo, EvalEnvironment

from mixedfx._arrays import column_of_ones
from mixedfx._names import column_label
from mixedfx.covariance import relationship as relationships
from mixedfx.design import positions as effect_positions
from mixedfx.design.checks import are_finite, check_finite, check_grouping_factor
from mixedfx.design.evaluation import group_depends_on_rows, group_values, position_values
from mixedfx.design.known_levels import KnownLevels, check_known_levels
from mixedfx.design.levels import Levels, Values, combine
from mixedfx.design.membership import find_memberships
from mixedfx.design.rows import RandomTermRows
from mixedfx.design.spec import RandomTermSpec
from mixedfx.design.swapped import swapped_sides
from mixedfx.design.variables import Numbers, variable, variable_of
from mixedfx.errors import DataError, GroupingError
from mixedfx.formula.membership import is_membership
from mixedfx.formula.positions import ALL_ROWS, has_positions, position_codes
from mixedfx.formula.terms import Formula, RandomTerm
from mixedfx.linalg.sparse_matrix import SparseMatrix

if TYPE_CHECKING:
    from mixedfx.covariance.relationship import Relationship
    from mixedfx.design.positions import EffectPositions


Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


class _FoundLevels(NamedTuple):
    """Levels of a grouping factor in the rows of the fit."""

    levels: Levels
    codes: Codes  # (n,) level of each row, or combination of levels
    memberships: SparseMatrix | None
    relationship: Relationship | None


RandomTerms = tuple[tuple[RandomTermSpec, ...], tuple[RandomTermRows, ...]]


def subset_random_terms(
    specs: Sequence[RandomTermSpec], rows: Sequence[RandomTermRows], keep: Mask | Codes
) -> RandomTerms:
    """Select rows, and the levels that occur in them, which are renumbered."""
    levels_of: dict[str, tuple[Levels, RandomTermRows]] = {}
    new_specs, new_rows = [], []
    for spec, term in zip(specs, rows, strict=True):
        if spec.group not in levels_of:
            remaining, subset = term.subset(keep)
            levels_of[spec.group] = spec.levels.take(remaining), subset
        levels, subset = levels_of[spec.group]
        new_specs.append(replace(spec, levels=levels))
        new_rows.append(replace(subset, model_matrix=term.model_matrix[keep]))
    return tuple(new_specs), tuple(new_rows)


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
    n_levels: int,
) -> tuple[EffectPositions | None, tuple[str, ...], Matrix]:
    """Positions, if the effects have any, names and columns of the effects of one term."""
    if has_positions(term.structure):
        positions, of_rows = effect_positions.build_positions(term, variables, env, index)
        effect_positions.check_size_of_positions(term, len(positions.levels), n_levels)
        return (
            positions,
            effect_positions.position_names(term, positions),
            positions.indicators(of_rows),
        )
    if matrix is None or info is None:  # an intercept alone
        return None, ("Intercept",), column_of_ones(len(index))
    return None, tuple(map(column_label, info.column_names)), matrix


def _check_columns(term: RandomTerm, matrix: Matrix, names: Sequence[str], index: pd.Index) -> None:
    """Refuse columns of infinite values or of zeros alone."""
    if are_finite(matrix):
        return
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
    given: KnownLevels | None = None,
) -> RandomTerms:
    """Find the levels of each random term, and check its columns."""
    n, given = len(index), given or KnownLevels()
    factors = _GroupingFactors(variables, env, index, given.relmat)
    row_dependent = factors.row_dependent
    specs, rows = [], []
    for term, matrix, info in zip(formula.random, matrices, infos, strict=True):
        levels, codes, memberships, relationship = factors.of(term)
        positions, names, matrix = _effect_columns(
            term, matrix, info, variables, env, index, len(levels)
        )
        _check_sides(term, info, variables, len(levels), n)
        if positions is not None:
            row_dependent |= _row_dependent_positions(term, variables, env, n)
        if term.group != (ALL_ROWS,):
            confounded = memberships is None and relationship is None and not given.one_row_levels
            check_grouping_factor(term, len(levels), n, one_row_levels=not confounded)
        if info is not None or positions is not None:
            _check_columns(term, matrix, names, index)
        read = (*term.group, *(position_codes(term.effects) if positions else ()))
        dependent = tuple(f for f in read if f in row_dependent)
        check_known_levels(term, len(levels), relationship, memberships is not None)
        specs.append(RandomTermSpec(term, levels, names, info, dependent, positions, relationship))
        rows.append(RandomTermRows(term.group_name, len(levels), codes, matrix, memberships))
    return tuple(specs), tuple(rows)


class _GroupingFactors:
    """Levels of each grouping factor in the rows of the fit, each found once."""

    def __init__(
        self,
        variables: Mapping[str, Any],
        env: EvalEnvironment,
        index: pd.Index,
        relmat: Mapping[str, Any] | None,
    ) -> None:
        self._read = (variables, env, index)
        self._relmat, self.row_dependent = relmat or {}, set[str]()
        self._of_factor: dict[str, tuple[Values, Codes]] = {}
        self._of_group: dict[tuple[str, ...], _FoundLevels] = {}

    def of(self, term: RandomTerm) -> _FoundLevels:
        """Levels of a term's grouping factor, each row's, and what is known of them."""
        if term.group not in self._of_group:
            self._of_group[term.group] = self._find(term)
        return self._of_group[term.group]

    def _find(self, term: RandomTerm) -> _FoundLevels:
        if is_membership(term.group[0]):
            variables, env, index = self._read
            texts = group_values(term.group[0], variables, env, len(index))
            levels, found = find_memberships(texts)
            return _FoundLevels(levels, found.codes, found.weights, None)
        levels, codes = combine([self._factor(f) for f in term.group])
        relationship = None
        if term.group_name in self._relmat:
            given = self._relmat[term.group_name]
            relationship = relationships.as_relationship(given, term.group_name, levels.labels)
            relationships.positions_of_levels(
                relationship, levels.labels, term.group_name
            )  # refuses levels without a row
        return _FoundLevels(levels, codes, None, relationship)

    def _factor(self, factor: str) -> tuple[Values, Codes]:
        if factor not in self._of_factor:
            variables, env, index = self._read
            column = variable_of(variables, factor)
            if column is None:
                values = group_values(factor, variables, env, len(index))
                if group_depends_on_rows(factor, values, variables, env):
                    self.row_dependent.add(factor)
                column = variable(values)
                assert column is not None
            if isinstance(column, Numbers) and column.values.dtype.kind == "f":
                check_finite(f"grouping factor '{factor}'", column.values, index)
            self._of_factor[factor] = column.distinct()
        return self._of_factor[factor]
