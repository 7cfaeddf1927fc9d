"""Design of the residual standard deviation: ``log sd = D gamma + v``.

``D`` are the columns of a formula such as ``~ kind``; ``v`` is a random intercept, where the
formula has a random term. Rows with equal rows of ``D`` are a stratum: apart from ``v`` they have
one standard deviation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import DesignInfo, EvalEnvironment

from mixedfx._arrays import set_readonly
from mixedfx._names import column_label, decode
from mixedfx.design.categories import Categories, categories_read
from mixedfx.design.checks import check_finite, independent_columns
from mixedfx.design.evaluation import build_matrices, find_row_dependent, learn_design_infos
from mixedfx.design.levels import Levels
from mixedfx.design.random import build_random_terms, subset_random_terms
from mixedfx.design.residual import ResidualRows, ResidualSpec
from mixedfx.design.rows import RandomTermRows
from mixedfx.design.spec import RandomTermSpec
from mixedfx.errors import DispersionError
from mixedfx.formula.expansion import terms_of
from mixedfx.formula.terms import Formula

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

# At most so many columns are named in messages and labels of strata.
_MAX_NAMED = 4


@dataclass(frozen=True)
class DispersionSpec(ResidualSpec):
    """Columns of the log residual standard deviation, and the levels of its random intercept."""

    formula: Formula  # without a response
    D_names: tuple[str, ...]  # r; a constant is in their column space
    random_term: RandomTermSpec | None
    info: DesignInfo = field(repr=False)
    env: EvalEnvironment = field(repr=False)  # that of the model
    row_dependent: tuple[str, ...] = ()  # factors computed from other rows
    categories: Categories = field(default_factory=dict)  # of columns read by expressions

    @property
    def levels(self) -> Levels | None:
        """Levels of the random term."""
        return None if self.random_term is None else self.random_term.levels

    @property
    def argument(self) -> str:
        """The argument of ``lmer``."""
        return f"dispersion='{self.formula}'"

    @property
    def label(self) -> str:
        """After the formula."""
        return f"dispersion {self.formula}"

    def header(self, *, mixed: bool) -> tuple[tuple[str, str], ...]:
        """Line of the summary."""
        return (("Dispersion", str(self.formula)),)

    @property
    def explanation(self) -> str | None:
        """Note of the equations."""
        return f"its logarithm is modelled by '{self.formula}'"

    @property
    def has_random_effects(self) -> bool:
        """Whether there is a random term."""
        return self.random_term is not None

    @property
    def sampling_refusal(self) -> str:
        """The sampler draws no random effects of the scale."""
        if not self.has_random_effects:
            return ""
        return (
            f"the random term in {self.argument} cannot be sampled; use strata, such as '~ kind', "
            "or fit.bootstrap()."
        )

    @property
    def n_params(self) -> int:
        """Columns of D but one, which is sigma's, and the sd of the random term."""
        return len(self.D_names) - 1 + self.has_random_effects

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        """Columns of D."""
        return self.D_names

    def full_name(self, name: str) -> str:
        """Name of a coefficient."""
        return f"dispersion({name})"

    def without_evaluation(self) -> DispersionSpec:
        """Leave out patsy's design information and the functions of the formula."""
        nothing, term = cast(Any, None), self.random_term
        term = None if term is None else replace(term, info=None)
        return replace(self, info=nothing, env=nothing, random_term=term)


@dataclass(frozen=True)
class DispersionRows(ResidualRows):
    """Columns of the log residual standard deviation in each row."""

    D: Matrix  # (n, r)
    random_term: RandomTermRows | None  # an intercept
    variables: Mapping[str, pd.Series] = field(repr=False)  # read by the formula

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.D)

    @property
    def codes(self) -> Codes | None:
        """Level of each row in the random term, (n,)."""
        return None if self.random_term is None else self.random_term.codes

    @property
    def log_sd_columns(self) -> Matrix:
        """D."""
        return self.D

    @property
    def dispersion_variables(self) -> Mapping[str, pd.Series]:
        """Variables of the formula."""
        return self.variables

    def stratum_codes(self) -> Codes:
        """Number the distinct rows of D, (n,)."""
        _, codes = np.unique(self.D, axis=0, return_inverse=True)
        return np.asarray(codes.ravel(), dtype=np.intp)

    def stratum_label(self, row: int) -> str:
        """Label the stratum of a row by the values of the formula's variables."""
        return label_of_values(self.variables, row)

    def subset(self, spec: DispersionSpec, keep: Mask) -> tuple[DispersionSpec, DispersionRows]:
        """Select rows, and the levels that occur in them."""
        term_spec, term_rows = spec.random_term, self.random_term
        if term_spec is not None and term_rows is not None:
            (term_spec,), (term_rows,) = subset_random_terms([term_spec], [term_rows], keep)
        variables = {name: column[keep] for name, column in self.variables.items()}
        rows = DispersionRows(self.D[keep], term_rows, variables)
        return replace(spec, random_term=term_spec), rows

    def without_variables(self) -> DispersionRows:
        """Arrays alone."""
        return replace(self, variables={})


def label_of_values(variables: Mapping[str, pd.Series], row: int) -> str:
    """Values of some variables in a row, as text."""
    parts = []
    named = [(decode(name), column) for name, column in variables.items()]
    for name, column in named[:_MAX_NAMED]:
        value = column.iloc[row]
        parts.append(f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}")
    return ", ".join(parts) if parts else "all rows"


def build_dispersion(
    formula: Formula, variables: dict[str, Any], env: EvalEnvironment, index: pd.Index
) -> tuple[DispersionSpec, DispersionRows]:
    """Evaluate a formula of the residual standard deviation."""
    info = learn_design_infos([terms_of(formula.fixed)], variables, env)[0]
    row_dependent = find_row_dependent([info], variables, env, len(index))
    D = build_matrices([info], variables, len(index))[0]
    names = tuple(map(column_label, info.column_names))
    for j, name in enumerate(names):
        check_finite(f"column '{name}' of the dispersion", D[:, j], index)
    term_spec, term_rows = _random_intercept(formula, variables, env, index)
    _check_columns(formula, D, names)
    if term_spec is None:
        _check_varies(formula, D)
    categories = categories_read(formula, variables)
    spec = DispersionSpec(formula, names, term_spec, info, env, row_dependent, categories)
    return spec, DispersionRows(D, term_rows, dict(variables))


def _random_intercept(
    formula: Formula, variables: dict[str, Any], env: EvalEnvironment, index: pd.Index
) -> tuple[RandomTermSpec, RandomTermRows] | tuple[None, None]:
    if not formula.random:
        return None, None
    if len(formula.random) > 1 or formula.random[0].effects != "1":
        terms = " and ".join(map(str, formula.random))
        raise DispersionError(
            f"the dispersion formula '{formula}' has the random part {terms}; it can have one "
            "random intercept, such as (1 | friend)."
        )
    specs, rows = build_random_terms(formula, variables, env, [None], [None], index)
    return specs[0], rows[0]


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
