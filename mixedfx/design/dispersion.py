"""Design of the residual standard deviation: ``log sd = D gamma + v``.

``D`` are the columns of a formula such as ``~ kind``; ``v`` is a random intercept, where the
formula has a random term. Rows with equal rows of ``D`` are a stratum: apart from ``v`` they have
one standard deviation.
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
from mixedfx.design.columns import used_columns
from mixedfx.design.completeness import select_complete_cases
from mixedfx.design.evaluation import build_matrices, group_values, learn_design_infos
from mixedfx.design.levels import Levels
from mixedfx.design.random import RandomTermDesign, build_random_terms, subset_levels
from mixedfx.design.source import as_frame
from mixedfx.errors import DispersionError
from mixedfx.formula.expansion import terms_of
from mixedfx.formula.terms import Formula

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

# At most so many columns are named in labels of strata and in messages.
_MAX_NAMED = 4


@dataclass(frozen=True)
class DispersionDesign:
    """Columns of the logarithm of the residual standard deviation."""

    formula: Formula  # without a response
    D: Matrix  # (n, r); a constant is in its column space
    D_names: tuple[str, ...]
    random_term: RandomTermDesign | None  # an intercept
    info: DesignInfo = field(repr=False)
    env: EvalEnvironment = field(repr=False)  # the caller's functions and variables
    variables: Mapping[str, pd.Series] = field(repr=False)  # used by the formula, rows used

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())

    def subset_rows(self, keep: Mask) -> DispersionDesign:
        """Select rows, and the levels that occur in them."""
        term = self.random_term
        if term is not None:
            term = term.with_levels(*subset_levels(term, keep), keep)
        variables = {name: column[keep] for name, column in self.variables.items()}
        return replace(self, D=self.D[keep], random_term=term, variables=variables)

    def stratum_codes(self) -> Codes:
        """Number the distinct rows of D, (n,)."""
        _, codes = np.unique(self.D, axis=0, return_inverse=True)
        return np.asarray(codes.ravel(), dtype=np.intp)

    def stratum_label(self, row: int) -> str:
        """Label the stratum of a row by the values of the formula's variables."""
        parts = []
        for name, column in list(self.variables.items())[:_MAX_NAMED]:
            value = column.iloc[row]
            parts.append(f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}")
        return ", ".join(parts) if parts else "all rows"

    def evaluate_new_data(self, data: Any) -> tuple[Matrix, Codes | None]:
        """Build D of new rows, NaN where a value is missing, and their levels, -1 where unseen."""
        frame = as_frame(data)
        variables, rows = select_complete_cases(
            used_columns(self.formula, frame, self.env), len(frame)
        )
        D = np.full((len(frame), len(self.D_names)), np.nan)
        D[rows] = build_matrices([self.info], variables, len(rows))[0]
        if self.random_term is None:
            return D, None
        codes = np.full(len(frame), -1, dtype=np.intp)
        if len(rows):
            factors = self.random_term.formula_term.group
            values = [group_values(f, variables, self.env, len(rows)) for f in factors]
            codes[rows] = self.random_term.levels.encode(values)
        return D, codes

    @property
    def levels(self) -> Levels | None:
        """Levels of the random term."""
        return None if self.random_term is None else self.random_term.levels


def dispersion_design(
    formula: Formula, variables: dict[str, Any], env: EvalEnvironment, index: pd.Index
) -> DispersionDesign:
    """Evaluate a formula of the residual standard deviation."""
    info = learn_design_infos([terms_of(formula.fixed)], variables, env)[0]
    D = build_matrices([info], variables, len(index))[0]
    names = tuple(info.column_names)
    for j, name in enumerate(names):
        check_finite(f"column '{name}' of the dispersion", D[:, j], index)
    random_term = _random_intercept(formula, variables, env, index)
    _check_columns(formula, D, names)
    if random_term is None:
        _check_varies(formula, D)
    return DispersionDesign(formula, D, names, random_term, info, env, variables)


def _random_intercept(
    formula: Formula, variables: dict[str, Any], env: EvalEnvironment, index: pd.Index
) -> RandomTermDesign | None:
    if not formula.random:
        return None
    if len(formula.random) > 1 or formula.random[0].effects != "1":
        terms = " and ".join(map(str, formula.random))
        raise DispersionError(
            f"the dispersion formula '{formula}' has the random part {terms}; it can have one "
            "random intercept, such as (1 | friend)."
        )
    return build_random_terms(formula, variables, env, [None], [None], index)[0]


def _check_columns(formula: Formula, D: Matrix, names: tuple[str, ...]) -> None:
    n, r = D.shape
    ones = np.ones(n)
    if r == 0 or np.linalg.norm(ones - D @ np.linalg.lstsq(D, ones, rcond=None)[0]) > 1e-6 * n**0.5:
        raise DispersionError(
            f"the dispersion formula '{formula}' has no intercept: the residual standard "
            "deviation would be 1 where its columns are zero. Take the '0 +' or '- 1' away."
        )
    kept = independent_columns(D)
    if len(kept) < r:
        dependent = [repr(names[j]) for j in range(r) if j not in kept.tolist()]
        more = f" and {len(dependent) - _MAX_NAMED} more" if dependent[_MAX_NAMED:] else ""
        raise DispersionError(
            f"columns {', '.join(dependent[:_MAX_NAMED])}{more} of the dispersion formula "
            f"'{formula}' depend on the others; leave them out."
        )


def _check_varies(formula: Formula, D: Matrix) -> None:
    if not np.ptp(D, axis=0).any():
        raise DispersionError(
            f"the dispersion formula '{formula}' varies within nothing: it gives every row the "
            "same residual standard deviation, as lmer() does without it. Name a column that "
            "varies between the rows used, or leave dispersion= out."
        )
