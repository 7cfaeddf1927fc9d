"""Model matrices of a formula on the rows of a fit: response, fixed columns, random terms.

What was learned from the rows (levels, transforms) is kept in a :class:`ModelSpec`, by which
:mod:`mixedfx.design.new_data` builds the same columns of new rows. The data are checked here,
before any number is computed from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import EvalEnvironment

from mixedfx._arrays import set_readonly
from mixedfx.design.checks import (
    check_finite,
    check_positive,
    check_weight_range,
    independent_columns,
    response_vector,
)
from mixedfx.design.columns import as_patsy_column, used_columns
from mixedfx.design.completeness import complete_cases
from mixedfx.design.dispersion import DispersionDesign, dispersion_design
from mixedfx.design.evaluation import EvaluatedFormula, build_matrices, evaluate
from mixedfx.design.functions import FORMULA_FUNCTIONS
from mixedfx.design.levels import Levels
from mixedfx.design.random import RandomTermDesign, build_random_terms, subset_levels
from mixedfx.design.source import as_frame, row_vector
from mixedfx.design.spec import ModelSpec
from mixedfx.errors import DataError, DispersionError
from mixedfx.formula.expansion import expand_dot
from mixedfx.formula.terms import Formula

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Design:
    """A model's data as arrays: n rows, p linearly independent fixed columns."""

    formula: Formula  # any dot expanded
    y: Vector  # (n,) response less offset
    X: Matrix  # (n, p)
    column_names: tuple[str, ...]  # of all fixed columns, also of those not in X
    kept_columns: Codes  # (p,) positions in column_names of the columns of X
    random_terms: tuple[RandomTermDesign, ...]
    weights: Vector | None  # (n,) prior weights: the residual variance is sigma**2 / weights
    offset: Vector | None  # (n,)
    index: pd.Index  # labels of the rows used
    dropped_rows: int  # rows left out for missing values
    spec: ModelSpec = field(repr=False)
    variables: Mapping[str, pd.Series] = field(repr=False)  # used by the formula, rows used
    sigma: float | None = None  # 1 where residual_sd is known (weights = residual_sd**-2)
    dispersion: DispersionDesign | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())

    @property
    def response(self) -> Vector:
        """The response as it was given, offset included."""
        return self.y if self.offset is None else self.y + self.offset

    def combined_weights(self, relative: Vector) -> Vector:
        """Products of relative weights and prior weights."""
        return relative if self.weights is None else relative * self.weights

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
    def model_frame(self) -> pd.DataFrame:
        """The variables that the formula uses, in the rows used, with the data's index."""
        return pd.DataFrame(dict(self.variables)).set_axis(self.index, axis=0)

    @property
    def nesting(self) -> dict[str, str]:
        """For each grouping factor nested in others, the innermost of those."""
        codes = {term.group: term.codes for term in self.random_terms}
        ngroups = self.ngroups
        innermost = {}
        for inner, inner_codes in codes.items():
            containing = [
                outer
                for outer, outer_codes in codes.items()
                if ngroups[outer] < ngroups[inner] and _is_nested(inner_codes, outer_codes)
            ]
            if containing:
                innermost[inner] = max(containing, key=ngroups.__getitem__)
        return innermost

    @property
    def ngroups(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""
        return {term.group: len(term.levels) for term in self.random_terms}


def _is_nested(inner: Codes, outer: Codes) -> bool:
    """Whether each level of one factor occurs with a single level of another."""
    first_row = np.unique(inner, return_index=True)[1]
    outer_of = np.empty(int(inner.max()) + 1, dtype=np.intp)
    outer_of[inner[first_row]] = outer[first_row]
    return bool((outer_of[inner] == outer).all())


@dataclass(frozen=True)
class _UsedRows:
    """The complete rows: variables of both formulas, and the arguments with one value a row."""

    variables: dict[str, pd.Series]
    dispersion_variables: dict[str, pd.Series]
    weights: Vector | None
    offset: Vector | None
    residual_sd: Vector | None
    index: pd.Index
    dropped: int


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
    env = (env or EvalEnvironment([{}])).with_outer_namespace(FORMULA_FUNCTIONS)
    arguments = {"weights": weights, "offset": offset, "residual_sd": residual_sd}
    row_vectors = {name: row_vector(value, name, frame) for name, value in arguments.items()}
    rows = _used_rows(formula, dispersion, frame, row_vectors, env)
    evaluated = evaluate(formula, rows.variables, env, len(rows.index))
    response = response_vector(evaluated.response, formula, rows.index)
    prior_weights = _prior_weights(rows)
    y = _subtract_offset(response, rows)
    kept = _independent_fixed_columns(formula, evaluated, rows.index)
    column_of = [v if isinstance(v, str) else None for v in (offset, residual_sd)]
    return Design(
        formula=formula,
        y=y,
        X=_select_columns(evaluated.fixed, kept),
        column_names=tuple(evaluated.fixed_info.column_names),
        kept_columns=kept,
        random_terms=_random_terms(formula, rows, evaluated, env),
        weights=prior_weights,
        offset=rows.offset,
        index=rows.index,
        dropped_rows=rows.dropped,
        spec=ModelSpec(evaluated.fixed_info, evaluated.random_infos, env, *column_of),
        variables=rows.variables,
        sigma=None if rows.residual_sd is None else 1.0,
        dispersion=_dispersion(formula, dispersion, rows, env),
    )


def _used_rows(
    formula: Formula,
    dispersion: Formula | None,
    frame: pd.DataFrame,
    row_vectors: dict[str, Vector | None],
    env: EvalEnvironment,
) -> _UsedRows:
    variables = used_columns(formula, frame, env)
    of_dispersion = {} if dispersion is None else used_columns(dispersion, frame, env)
    keep = complete_cases(of_dispersion | variables, row_vectors)
    index, dropped = frame.index, 0
    if keep is not None:
        variables = {name: column[keep] for name, column in variables.items()}
        of_dispersion = {name: column[keep] for name, column in of_dispersion.items()}
        row_vectors = {k: None if v is None else v[keep] for k, v in row_vectors.items()}
        index, dropped = index[keep], int(len(frame) - keep.sum())
    variables = {name: as_patsy_column(name, column) for name, column in variables.items()}
    return _UsedRows(variables, of_dispersion, **row_vectors, index=index, dropped=dropped)


def _prior_weights(rows: _UsedRows) -> Vector | None:
    """Check weights and residual sds; of known residual sds the weights are the inverse squares."""
    check_positive("weights", rows.weights, rows.index)
    check_positive("residual_sd", rows.residual_sd, rows.index)
    if rows.residual_sd is None:
        check_weight_range("weights", rows.weights, rows.index)
        return rows.weights
    weights: Vector = rows.residual_sd**-2.0
    check_weight_range("residual_sd", weights, rows.index)
    return weights


def _subtract_offset(response: Vector, rows: _UsedRows) -> Vector:
    if rows.offset is None:
        return response
    check_finite("offset", rows.offset, rows.index)
    return response - rows.offset


def _select_columns(fixed: Matrix, kept: Codes) -> Matrix:
    return fixed if len(kept) == fixed.shape[1] else np.ascontiguousarray(fixed[:, kept])


def _independent_fixed_columns(
    formula: Formula, evaluated: EvaluatedFormula, index: pd.Index
) -> Codes:
    names = evaluated.fixed_info.column_names
    if not names and not formula.random:
        raise DataError(f"'{formula}' has no terms: add a fixed or a random one.")
    for j, name in enumerate(names):
        check_finite(f"fixed column '{name}'", evaluated.fixed[:, j], index)
    kept = independent_columns(evaluated.fixed)
    if len(index) <= len(kept):
        raise DataError(
            f"{len(kept)} fixed columns need more than {len(index)} rows; leave terms out."
        )
    return kept


def _random_terms(
    formula: Formula, rows: _UsedRows, evaluated: EvaluatedFormula, env: EvalEnvironment
) -> tuple[RandomTermDesign, ...]:
    return build_random_terms(
        formula,
        rows.variables,
        env,
        evaluated.random,
        evaluated.random_infos,
        rows.index,
        residual_sd_known=rows.residual_sd is not None,
    )


def _dispersion(
    formula: Formula, dispersion: Formula | None, rows: _UsedRows, env: EvalEnvironment
) -> DispersionDesign | None:
    if dispersion is None:
        return None
    variables = {
        name: as_patsy_column(name, column) for name, column in rows.dispersion_variables.items()
    }
    if formula.response in variables:
        raise DispersionError(
            f"the dispersion formula '{dispersion}' reads the response '{formula.response}'; "
            "the residual standard deviation cannot depend on what it scatters."
        )
    return dispersion_design(dispersion, variables, env, rows.index)


def fixed_matrix(design: Design) -> Matrix:
    """Build all fixed columns again, also the linearly dependent ones."""
    return build_matrices([design.spec.fixed], design.variables, len(design.y))[0]


def subset_rows(design: Design, keep: Mask) -> Design:
    """Select rows of a design, and the levels that occur in them."""
    levels_of: dict[str, tuple[Levels, Codes]] = {}
    random_terms = []
    for term in design.random_terms:
        if term.group not in levels_of:
            levels_of[term.group] = subset_levels(term, keep)
        random_terms.append(term.with_levels(*levels_of[term.group], keep))
    return replace(
        design,
        y=design.y[keep],
        X=design.X[keep],
        random_terms=tuple(random_terms),
        weights=None if design.weights is None else design.weights[keep],
        offset=None if design.offset is None else design.offset[keep],
        index=design.index[keep],
        variables={name: column[keep] for name, column in design.variables.items()},
        dispersion=None if design.dispersion is None else design.dispersion.subset_rows(keep),
    )
