"""Design of the residual standard deviation: ``log sd = D gamma + v``.

``D`` are the columns of a formula such as ``~ kind``; ``v`` is the sum of the formula's random
terms, where it has any. Rows with equal rows of ``D`` are a stratum: apart from ``v`` they have one
standard deviation.
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
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.design.categories import Categories, categories_read
from mixedfx.design.checks import check_finite, independent_columns
from mixedfx.design.evaluation import build_matrices, learn_design_infos
from mixedfx.design.random import build_random_terms, subset_random_terms
from mixedfx.design.residual import ResidualRows, ResidualSpec
from mixedfx.design.row_dependence import row_dependent_factors
from mixedfx.design.rows import RandomTermRows
from mixedfx.design.spec import RandomTermSpec
from mixedfx.errors import DispersionError
from mixedfx.formula.expansion import terms_of
from mixedfx.formula.membership import is_membership
from mixedfx.formula.terms import Formula

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

# At most so many columns are named in messages and labels of strata.
_MAX_NAMED = 4


@dataclass(frozen=True)
class DispersionSpec(ResidualSpec):
    """Columns of the log residual standard deviation, and levels of its random terms."""

    formula: Formula  # without a response
    D_names: tuple[str, ...]  # r; a constant is in their column space
    random_terms: tuple[RandomTermSpec, ...]
    info: DesignInfo = field(repr=False)
    env: EvalEnvironment = field(repr=False)  # that of the model
    row_dependent: tuple[str, ...] = ()  # factors computed from other rows
    categories: Categories = field(default_factory=dict)  # of columns read by expressions

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
    def scale_terms(self) -> tuple[RandomTermSpec, ...]:
        """The formula's."""
        return self.random_terms

    @property
    def n_params(self) -> int:
        """Columns of D but one, which is sigma's, and the covariances of the random terms."""
        terms = ((STRUCTURES[t.formula_term.structure], t) for t in self.random_terms)
        of_terms = sum(s.n_params(len(t.effect_names)) for s, t in terms)
        return len(self.D_names) - 1 + of_terms

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        """Columns of D."""
        return self.D_names

    def full_name(self, name: str) -> str:
        """Name of a coefficient."""
        return f"dispersion({name})"

    def without_evaluation(self) -> DispersionSpec:
        """Leave out patsy's design information and the functions of the formula."""
        nothing = cast(Any, None)
        terms = tuple(replace(term, info=None) for term in self.random_terms)
        return replace(self, info=nothing, env=nothing, random_terms=terms)


@dataclass(frozen=True)
class DispersionRows(ResidualRows):
    """Columns of the log residual standard deviation in each row."""

    D: Matrix  # (n, r)
    random_terms: tuple[RandomTermRows, ...]
    variables: Mapping[str, pd.Series] = field(repr=False)  # read by the formula

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.D)

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

    def subset(
        self, spec: DispersionSpec, keep: Mask | Codes
    ) -> tuple[DispersionSpec, DispersionRows]:
        """Select rows, and the levels that occur in them."""
        term_specs, term_rows = subset_random_terms(spec.random_terms, self.random_terms, keep)
        variables = {name: column.iloc[keep] for name, column in self.variables.items()}
        rows = DispersionRows(self.D[keep], term_rows, variables)
        return replace(spec, random_terms=term_specs), rows

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
    formula: Formula, variables: Mapping[str, Any], env: EvalEnvironment, index: pd.Index
) -> tuple[DispersionSpec, DispersionRows]:
    """Evaluate a formula of the residual standard deviation."""
    _check_terms(formula)
    slopes = [term.effects != "1" for term in formula.random]
    texts = [t.effects for t, has_slopes in zip(formula.random, slopes, strict=True) if has_slopes]
    infos = learn_design_infos([terms_of(text) for text in (formula.fixed, *texts)], variables, env)
    row_dependent = row_dependent_factors(infos, variables, env, len(index))
    D, *matrices = build_matrices(infos, variables, len(index))
    info, names = infos[0], tuple(map(column_label, infos[0].column_names))
    for j, name in enumerate(names):
        check_finite(f"column '{name}' of the dispersion", D[:, j], index)
    info_of_next, matrix_of_next = iter(infos[1:]), iter(matrices)
    term_specs, term_rows = build_random_terms(
        formula,
        variables,
        env,
        [next(matrix_of_next) if has_slopes else None for has_slopes in slopes],
        [next(info_of_next) if has_slopes else None for has_slopes in slopes],
        index,
    )
    _check_columns(formula, D, names)
    if not term_specs:
        _check_varies(formula, D)
    categories = categories_read(formula, variables)
    spec = DispersionSpec(formula, names, term_specs, info, env, row_dependent, categories)
    return spec, DispersionRows(D, term_rows, dict(variables))


def _check_terms(formula: Formula) -> None:
    """Refuse terms whose effects are not those of one level a row, and of its own columns."""
    for term in formula.random:
        if is_membership(term.group[0]) or STRUCTURES[term.structure].design != "effects":
            raise DispersionError(
                f"the dispersion formula '{formula}' has the random term {term}; it can have "
                "terms of plain columns, such as (1 | friend), (x | friend) or (x || friend)."
            )


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
