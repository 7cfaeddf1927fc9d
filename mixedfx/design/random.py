"""Random terms: the levels of the grouping factor and the raw model matrix of each.

A term's part of Z is the row-wise Khatri-Rao product of the indicators of its levels and its raw
model matrix (Bates, Maechler, Bolker and Walker 2015, equation 8); both factors are stored, the
product never is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import DesignInfo, EvalEnvironment

from mixedfx._arrays import set_readonly
from mixedfx.design.checks import check_finite, check_grouping_factor
from mixedfx.design.evaluation import group_values
from mixedfx.design.levels import Levels, combine, factorize
from mixedfx.errors import DataError
from mixedfx.formula.terms import Formula, RandomTerm

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RandomTermDesign:
    """Columns of one random term: Z's part is their product with the indicators of the levels."""

    formula_term: RandomTerm
    levels: Levels
    codes: Codes  # (n,) level of each row
    model_matrix: Matrix  # (n, k) value of each effect's column in each row
    effect_names: tuple[str, ...]  # k

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())

    @property
    def group(self) -> str:
        """Name of the grouping factor."""
        return self.formula_term.group_name

    def component_name(self, kind: str, effects: tuple[int, ...]) -> str:
        """Name of a component, ``sd(Days | Subject)``; of all effects together without any."""
        names = [self.effect_names[i] for i in effects] or [self.formula_term.effects_name]
        return f"{kind}({', '.join(names)} | {self.group})"

    def add_to_linear_predictor(self, eta: Vector, effects: Matrix) -> None:
        """Add Z b of this term to eta in place; effects are (k, levels)."""
        for j, effect in enumerate(effects):
            eta += self.model_matrix[:, j] * effect[self.codes]

    def with_levels(self, levels: Levels, codes: Codes, keep: Mask) -> RandomTermDesign:
        """Select rows, whose levels are renumbered."""
        matrix = self.model_matrix[keep]
        return replace(self, levels=levels, codes=codes, model_matrix=matrix)


def subset_levels(term: RandomTermDesign, keep: Mask) -> tuple[Levels, Codes]:
    """Select the levels that occur in some of the rows, and renumber them."""
    remaining, codes = np.unique(term.codes[keep], return_inverse=True)
    return term.levels.take(remaining), codes.astype(np.intp)


def build_random_terms(
    formula: Formula,
    variables: Mapping[str, Any],
    env: EvalEnvironment,
    matrices: Sequence[Matrix | None],
    infos: Sequence[DesignInfo | None],
    index: pd.Index,
    *,
    residual_sd_known: bool = False,
) -> tuple[RandomTermDesign, ...]:
    """Find the levels of each random term, and check its columns."""
    n = len(index)
    levels_of: dict[tuple[str, ...], tuple[Levels, Codes]] = {}
    levels_of_factor: dict[str, tuple[pd.Index, Codes]] = {}
    random_terms = []
    for term, matrix, info in zip(formula.random, matrices, infos, strict=True):
        if term.group not in levels_of:
            for factor in term.group:
                if factor not in levels_of_factor:
                    values = group_values(factor, variables, env, n)
                    if values.dtype.kind == "f":
                        check_finite(f"grouping factor '{factor}'", values.to_numpy(), index)
                    levels_of_factor[factor] = factorize(values)
            levels_of[term.group] = combine([levels_of_factor[f] for f in term.group])
        levels, codes = levels_of[term.group]
        if matrix is None or info is None:  # an intercept alone
            matrix, names = np.broadcast_to(1.0, (n, 1)).view(), ("Intercept",)
        else:
            names = tuple(info.column_names)
        check_grouping_factor(
            term, len(levels), matrix.shape[1], n, residual_sd_known=residual_sd_known
        )
        for j, name in enumerate(names):
            check_finite(f"column '{name}' of {term}", matrix[:, j], index)
            if not matrix[:, j].any():
                raise DataError(f"column '{name}' of {term} is zero in every row; leave it out.")
        random_terms.append(RandomTermDesign(term, levels, codes, matrix, names))
    return tuple(random_terms)
