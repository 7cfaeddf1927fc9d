"""Model specification: columns, levels and transforms of a formula evaluated on data.

Its size depends on the numbers of columns and levels, not of rows. From it the same columns are
computed for other rows (:mod:`mixedfx.design.new_data`), and estimates are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from patsy import DesignInfo, EvalEnvironment

from mixedfx._arrays import set_readonly
from mixedfx.design.categories import Categories
from mixedfx.design.levels import Levels
from mixedfx.design.residual import ResidualSpec
from mixedfx.design.response import ResponseSpec
from mixedfx.families.family import Family
from mixedfx.families.gaussian import NORMAL
from mixedfx.formula.membership import is_membership
from mixedfx.formula.terms import Formula, RandomTerm

if TYPE_CHECKING:
    from mixedfx.covariance.relationship import Relationship
    from mixedfx.design.positions import EffectPositions


Codes = npt.NDArray[np.intp]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RandomTermSpec:
    """Effects and levels of one random term."""

    formula_term: RandomTerm
    levels: Levels
    effect_names: tuple[str, ...]  # k
    info: DesignInfo | None = field(repr=False)  # None for an intercept alone
    row_dependent: tuple[str, ...] = ()  # grouping factors, positions, computed from other rows
    positions: EffectPositions | None = None  # of effects that are levels or points
    relationship: Relationship | None = None  # of the levels' effects; None: independent

    @property
    def group(self) -> str:
        """Name of the grouping factor."""
        return self.formula_term.group_name

    @property
    def is_plain(self) -> bool:
        """Whether the effects of levels are independent, and a row has those of one level."""
        return self.relationship is None and not self.has_memberships

    @property
    def has_memberships(self) -> bool:
        """Whether a row belongs to several levels."""
        return is_membership(self.formula_term.group[0])

    def component_name(self, kind: str, effects: tuple[int, ...], label: str = "") -> str:
        """Name of a component, ``sd(Days | Subject)``; ``effects`` is empty for all of them."""
        names = [self.effect_names[i] for i in effects] or [self.formula_term.effects_name]
        names += [label] if label else []
        return f"{kind}({', '.join(names)} | {self.group})"


@dataclass(frozen=True)
class ModelSpec:
    """Columns, levels and transforms of a formula."""

    formula: Formula  # any dot expanded
    column_names: tuple[str, ...]  # of all fixed columns, also of the linearly dependent ones
    kept_columns: Codes  # (p,) positions in column_names of the columns of X
    random_terms: tuple[RandomTermSpec, ...]
    residual: ResidualSpec
    variables: tuple[str, ...]  # columns of the data that the formula reads
    weights_column: str | None  # None: none, or given as values
    offset_column: str | None  # of the argument
    nesting: Mapping[str, str]  # of each nested grouping factor the innermost one around it
    fixed_info: DesignInfo = field(repr=False)  # of all fixed columns
    env: EvalEnvironment = field(repr=False)  # the caller's functions and variables that are read
    # Sigma where it is not estimated from the rows: 1 with known residual sds, whose inverse
    # squares are the weights.
    fixed_sigma: float | None = None
    offset_is_argument: bool = False  # beside what the formula has as offset()
    # C of X_d = X_k C, (p, d), of the columns left out; None if there are none.
    aliases: Matrix | None = field(default=None, repr=False)
    row_dependent: tuple[str, ...] = ()  # factors of patsy computed from other rows
    categories: Categories = field(default_factory=dict)  # of columns read by expressions
    family: Family = NORMAL  # distribution of the response, with its link
    response: ResponseSpec = field(default_factory=ResponseSpec)  # how it is written

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.kept_columns, self.aliases)

    @property
    def X_names(self) -> tuple[str, ...]:
        """Names of the columns of ``X``."""
        return tuple(self.column_names[j] for j in self.kept_columns)

    @property
    def dropped_names(self) -> tuple[str, ...]:
        """Names of the fixed columns left out as linearly dependent."""
        kept = set(self.kept_columns.tolist())
        return tuple(name for j, name in enumerate(self.column_names) if j not in kept)

    @property
    def ngroups(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""
        return {term.group: len(term.levels) for term in self.random_terms}

    @property
    def relationships(self) -> dict[str, Relationship]:
        """Relationship of each grouping factor whose levels have one, as in ``relmat=``."""
        of_terms = ((term.group, term.relationship) for term in self.random_terms)
        return {group: known for group, known in of_terms if known is not None}

    @property
    def has_offset(self) -> bool:
        """Whether the formula or an argument gives an offset."""
        return self.offset_is_argument or bool(self.formula.offset)

    @property
    def is_least_squares(self) -> bool:
        """Whether nothing but coefficients and sigma is estimated."""
        return self.residual.linear and not self.random_terms and not self.residual.n_params

    @property
    def n_random_effects(self) -> int:
        """Number of columns of ``Z``."""
        return sum(len(term.levels) * len(term.effect_names) for term in self.random_terms)

    def terms_of(self, group: str) -> list[int]:
        """Positions of the random terms of a grouping factor."""
        return [t for t, term in enumerate(self.random_terms) if term.group == group]

    def levels_of(self, group: str) -> Levels:
        """Levels of a grouping factor."""
        return self.random_terms[self.terms_of(group)[0]].levels

    def without_evaluation(self) -> ModelSpec:
        """
        Names and levels alone, which can be pickled.

        patsy's design infos and environments cannot be: they hold the functions of a formula.
        """
        nothing = cast(Any, None)
        return replace(
            self,
            random_terms=tuple(replace(term, info=None) for term in self.random_terms),
            residual=self.residual.without_evaluation(),
            fixed_info=nothing,
            env=nothing,
        )
