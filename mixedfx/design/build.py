"""Design of a formula on data: the specification learned from the rows, and the rows as arrays.

The data are checked here, before any number is computed from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import EvalEnvironment

from mixedfx._names import column_label, decode
from mixedfx.design.categories import categories_read
from mixedfx.design.checks import (
    are_usual,
    check_finite,
    check_offset_range,
    check_positive,
    check_weight_range,
    independent_columns,
)
from mixedfx.design.columns import (
    formula_environment,
    used_columns,
)
from mixedfx.design.dispersion import DispersionRows, DispersionSpec, build_dispersion
from mixedfx.design.estimability import column_aliases
from mixedfx.design.evaluation import EvaluatedFormula, build_matrices, evaluate
from mixedfx.design.known_levels import KnownLevels, check_relmat
from mixedfx.design.ordered_response import (
    columns_of_family,
    response_of_family,
)
from mixedfx.design.random import RandomTerms, build_random_terms, subset_random_terms
from mixedfx.design.residual import (
    EqualVariances,
    KnownStandardDeviations,
    ResidualRequest,
    ResidualRows,
    ResidualSpec,
)
from mixedfx.design.response import Observed, ResponseSpec
from mixedfx.design.rows import ModelRows, nested_factors
from mixedfx.design.source import as_frame, row_vector
from mixedfx.design.spec import ModelSpec
from mixedfx.design.table import Table
from mixedfx.design.used_rows import UsedRows, used_rows
from mixedfx.design.variables import Variables
from mixedfx.errors import DataError, DispersionError
from mixedfx.families.family import Family
from mixedfx.families.gaussian import NORMAL
from mixedfx.formula.expansion import of_columns, resolve_dotted
from mixedfx.formula.terms import Formula

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Design:
    """A model's specification, and rows to which it is applied."""

    spec: ModelSpec
    rows: ModelRows

    def with_response(self, y: Vector) -> Design:
        """Replace the response."""
        return replace(self, rows=self.rows.replaced(y=y))

    def with_weights(self, weights: Vector | None) -> Design:
        """Replace the prior weights."""
        return replace(self, rows=self.rows.replaced(weights=weights))

    def with_sigma(self, sigma: float | None) -> Design:
        """Replace the value at which sigma is fixed; None lets it be estimated."""
        return replace(self, spec=replace(self.spec, fixed_sigma=sigma))


class RowArguments(TypedDict, total=False):
    """Arguments with one value a row: a column's name, or the values."""

    weights: Any
    offset: Any
    residual_sd: Any


class _Given(NamedTuple):
    """Arguments with one value a row, columns that they name, and known covariances of factors."""

    row_vectors: dict[str, Vector | None]
    column_of: dict[str, str | None]
    relmat: Mapping[str, Any] | None

    @staticmethod
    def of(
        arguments: RowArguments, frame: pd.DataFrame, relmat: Mapping[str, Any] | None = None
    ) -> _Given:
        given = {name: arguments.get(name) for name in RowArguments.__annotations__}
        row_vectors = {name: row_vector(value, name, frame) for name, value in given.items()}
        column_of = {name: v if isinstance(v, str) else None for name, v in given.items()}
        return _Given(row_vectors, column_of, relmat)


def build(
    formula: Formula,
    data: Any,
    *,
    residual: ResidualRequest | Formula | None = None,
    family: Family = NORMAL,
    env: EvalEnvironment | None = None,
    relmat: Mapping[str, Any] | None = None,
    **arguments: Unpack[RowArguments],
) -> Design:
    """Evaluate a formula on data; ``residual`` is a dispersion formula or a registered model."""
    table = Table(as_frame(data))
    formula = of_columns(formula, table.names)
    if isinstance(residual, Formula):
        residual = resolve_dotted(residual, table.names)
    elif residual is not None and residual.dispersion is not None:
        residual = replace(residual, dispersion=resolve_dotted(residual.dispersion, table.names))
    residual_formula = residual.read if isinstance(residual, ResidualRequest) else residual
    env = formula_environment(env, [formula, residual_formula], table.identifiers)
    given = _Given.of(arguments, table.frame, relmat)
    parts = residual.parts if isinstance(residual, ResidualRequest) else {"dispersion": residual}
    used = used_rows(formula, parts, table, given.row_vectors, env, family)
    check_relmat(relmat, formula)
    design = _evaluate_rows(formula, residual, family, used, env, given)
    response = design.spec.response.noting_unused(lambda: table.get(formula.response))
    if response is design.spec.response:
        return design
    return replace(design, spec=replace(design.spec, response=response))


def build_several(
    formula: Formula,
    parts: Mapping[str, Formula],
    data: Any,
    *,
    family: Family,
    env: EvalEnvironment | None = None,
    **arguments: Unpack[RowArguments],
) -> tuple[Design, dict[str, Design]]:
    """Design of a formula, and of others without a response, on rows complete for all of them."""
    table = Table(as_frame(data))
    formula = of_columns(formula, table.names)
    parts = {name: resolve_dotted(part, table.names) for name, part in parts.items()}
    env = formula_environment(env, [formula, *parts.values()], table.identifiers)
    given = _Given.of(arguments, table.frame)
    used = used_rows(formula, parts, table, given.row_vectors, env, family)
    design, designs = _evaluate_rows(formula, None, family, used, env, given), {}
    for name, part in parts.items():
        own = replace(part, response=formula.response)
        of_part = used.of_part(used_columns(own, table, env, part=name))
        designs[name] = _evaluate_rows(own, None, family, of_part, env, given)
    return design, designs


def _evaluate_rows(
    formula: Formula,
    residual: ResidualRequest | Formula | None,
    family: Family,
    used: UsedRows,
    env: EvalEnvironment,
    given: _Given,
) -> Design:
    """Learn the specification from the complete rows, and build their arrays."""
    offset_is_argument, used = used.offset is not None, used.with_offset_of(formula, env)
    evaluated = evaluate(formula, used.evaluated, env, len(used.index))
    kept = _independent_fixed_columns(formula, evaluated, used.index)
    evaluated, kept = columns_of_family(formula, evaluated, kept, family)
    random_specs, random_rows = _random_terms(formula, used, evaluated, env, family, given)
    residual_spec, residual_rows = _residual(formula, given, residual, used, env)
    response_spec, observed = _response(formula, evaluated, used, family)
    X = _select_columns(evaluated.fixed, kept)
    rows = used.model_rows(
        X=X, random_terms=random_rows, residual=residual_rows, **observed._asdict()
    )
    spec = ModelSpec(
        formula=formula,
        column_names=tuple(map(column_label, evaluated.fixed_info.column_names)),
        kept_columns=kept,
        random_terms=random_specs,
        residual=residual_spec,
        variables=tuple(map(decode, used.variables)),
        weights_column=given.column_of["weights"],
        offset_column=given.column_of["offset"],
        nesting=nested_factors(random_rows),
        fixed_info=evaluated.fixed_info,
        env=env,
        fixed_sigma=None if used.residual_sd is None else 1.0,
        offset_is_argument=offset_is_argument,
        aliases=column_aliases(evaluated.fixed, kept),
        row_dependent=evaluated.row_dependent,
        categories=categories_read(formula, used.evaluated),
        family=response_spec.family(family),
        response=response_spec,
    )
    return Design(spec, rows)


def _response(
    formula: Formula, evaluated: EvaluatedFormula, used: UsedRows, family: Family
) -> tuple[ResponseSpec, Observed]:
    parts, weights = evaluated.response, used.prior_weights
    found = response_of_family(formula, parts, family, weights, used.index)
    _check_row_vectors(used, family)
    return found


def _check_row_vectors(rows: UsedRows, family: Family) -> None:
    """Check offset, weights and residual sds; trials are checked with the response."""
    if not family.takes_trials:
        check_positive("weights", rows.weights, rows.index)
        check_positive("residual_sd", rows.residual_sd, rows.index)
        name = "weights" if rows.residual_sd is None else "residual_sd"
        check_weight_range(name, rows.prior_weights, rows.index)
    if rows.offset is not None:
        check_finite("offset", rows.offset, rows.index)
        check_offset_range(rows.offset, family.mean, rows.index)


def _select_columns(fixed: Matrix, kept: Codes) -> Matrix:
    return fixed if len(kept) == fixed.shape[1] else np.ascontiguousarray(fixed[:, kept])


def _independent_fixed_columns(
    formula: Formula, evaluated: EvaluatedFormula, index: pd.Index
) -> Codes:
    names = evaluated.fixed_info.column_names
    if not names and not formula.random:
        raise DataError(f"'{formula}' has no terms: add a fixed or a random one.")
    with np.errstate(all="ignore"):
        products = evaluated.fixed.T @ evaluated.fixed
    if not are_usual(products.diagonal(), len(index)):
        for j, name in enumerate(names):
            check_finite(f"fixed column '{name}'", evaluated.fixed[:, j], index)
    kept = independent_columns(evaluated.fixed, products=products)
    if len(index) <= len(kept):
        raise DataError(
            f"{len(kept)} fixed columns need more than {len(index)} rows; leave terms out."
        )
    return kept


def _random_terms(
    formula: Formula,
    rows: UsedRows,
    evaluated: EvaluatedFormula,
    env: EvalEnvironment,
    family: Family,
    given: _Given,
) -> RandomTerms:
    return build_random_terms(
        formula,
        rows.evaluated,
        env,
        evaluated.random,
        evaluated.random_infos,
        rows.index,
        given=KnownLevels(rows.residual_sd is not None or family != NORMAL, given.relmat),
    )


def _residual(
    formula: Formula,
    given: _Given,
    residual: ResidualRequest | Formula | None,
    rows: UsedRows,
    env: EvalEnvironment,
) -> tuple[ResidualSpec, ResidualRows]:
    """Residual model that the arguments ask for, and its columns."""
    if rows.residual_sd is not None:
        return KnownStandardDeviations(given.column_of["residual_sd"]), ResidualRows()
    if residual is None:
        return EqualVariances(), ResidualRows()
    if isinstance(residual, Formula):
        return _dispersion(formula.response, residual, rows, env)
    variables = Variables(rows.residual_variables)
    if residual.dispersion is None:
        return residual.build(variables)
    of_dispersion = _dispersion(formula.response, residual.dispersion, rows, env)
    assert residual.combine is not None
    return residual.combine(residual.build(variables)[1], *of_dispersion)


def _dispersion(
    response: str, dispersion: Formula, rows: UsedRows, env: EvalEnvironment
) -> tuple[DispersionSpec, DispersionRows]:
    """Log-linear model of the residual standard deviation, and its columns."""
    if response in rows.residual_variables:
        raise DispersionError(
            f"the dispersion formula '{dispersion}' reads the response '{response}'; "
            "the residual standard deviation cannot depend on what it scatters."
        )
    variables = Variables(rows.residual_variables, rows.term_values)
    return build_dispersion(dispersion, variables, env, rows.index)


def fixed_matrix(design: Design) -> Matrix:
    """Build all fixed columns again, also the linearly dependent ones."""
    return build_matrices([design.spec.fixed_info], design.rows.variables, design.rows.n)[0]


def subset_rows(design: Design, keep: Mask | Codes) -> Design:
    """Select rows of a design, by a mask or positions, and the levels that occur in them."""
    spec, rows = design.spec, design.rows
    random_specs, random_rows = subset_random_terms(spec.random_terms, rows.random_terms, keep)
    residual_spec, residual_rows = rows.residual.subset(spec.residual, keep)
    spec = replace(
        spec,
        random_terms=random_specs,
        residual=residual_spec,
        nesting=nested_factors(random_rows),
    )
    return Design(spec, replace(rows.at(keep), random_terms=random_rows, residual=residual_rows))
