"""Fit of a generalised model to rows in blocks, which are read for each evaluation.

The search begins at the coefficients that rows in memory, a part of all with the extremes of each
column, have without random effects.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.glmm.blocked_separation import blocked_separation
from mixedfx.estimation.glmm.fit import SHARES, assemble_fit, at_end, search_from
from mixedfx.estimation.glmm.merging_modes import merging_statements
from mixedfx.estimation.glmm.starting_values import Start, fit_without_effects, start_at
from mixedfx.estimation.glmm.working import basis_coefficients, own_coefficients
from mixedfx.estimation.optimizer_result import Control
from mixedfx.likelihood.generalized.blocked_rows import BlockedRows
from mixedfx.likelihood.generalized.likelihood import GeneralizedLikelihood
from mixedfx.likelihood.generalized.rows import GeneralizedRows
from mixedfx.linalg.blas_threads import single_threaded_blas

Vector = npt.NDArray[np.float64]


def fit_blocked(
    design: Design,
    rows: BlockedRows,
    part: Design,
    *,
    control: Control,
    start: Vector | None = None,
) -> FittedModel:
    """Maximise Laplace's approximation; ``part`` has some of the rows, in memory."""
    with single_threaded_blas(design.spec.n_random_effects):
        likelihood = GeneralizedLikelihood(rows)
        first = _start(design, rows, part, start)
        shares = SHARES if start is None else (1.0,)
        found = at_end(search_from(likelihood, first, control, shares), 1)
        statements = blocked_separation(design, rows, part, found.evaluation.modes)
        if merging := merging_statements(design, found.evaluation):
            # No errors are of a curvature where there is no maximum.
            found = replace(found, hessian=np.full_like(found.hessian, np.nan))
            statements = statements or merging
        return assemble_fit(design, found, nagq=1, control=control, not_identified=statements)


def _start(design: Design, rows: BlockedRows, part: Design, theta: Vector | None) -> Start:
    """Starting values: coefficients of the rows in memory, covariances of all rows."""
    alone = replace(
        part,
        spec=replace(part.spec, random_terms=()),
        rows=replace(part.rows, random_terms=()),
    )
    few = GeneralizedRows.of(alone)
    beta, params = fit_without_effects(few)
    own = np.zeros(len(design.spec.column_names))
    own[part.spec.kept_columns] = own_coefficients(few, beta)
    first = basis_coefficients(rows, own[design.spec.kept_columns])
    return start_at(design.spec, rows, first, params, theta)
