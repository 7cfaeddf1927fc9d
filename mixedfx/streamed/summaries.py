"""Summaries of rows that were read in chunks: from their sums, and from the rows that were kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._names import encode
from mixedfx.design.rows import ModelRows
from mixedfx.design.stream.streamed_rows import StreamedRows
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.emmeans.nesting import observed_levels
from mixedfx.inference.emmeans.reference_grid import Variable, fixed_variables
from mixedfx.inference.emmeans.slopes import variable_ranges
from mixedfx.inference.estimability import cells_without_data
from mixedfx.inference.recoding import recoded
from mixedfx.inference.sampled_rows import with_rows
from mixedfx.inference.variance_explained import VarianceShares
from mixedfx.likelihood.stream.moments import RowMoments
from mixedfx.storage.summaries import residual_quantiles

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def with_summaries(fit: FittedModel, moments: RowMoments) -> FittedModel:
    """The fit with all that a fit without rows knows of them."""
    rows = cast(StreamedRows, fit.rows)
    # Recoding needs it, which other summaries are of.
    rows = replace(rows, summaries={"qr R": _cholesky(moments.XtX)})
    fit = with_rows(fit, cast(ModelRows, rows))
    summaries = {
        **rows.summaries,
        **_of_kept_rows(fit, rows, moments),
        **_of_sums(fit, moments),
        "residual variance": _residual_variance(fit),
    }
    own = replace(rows, summaries=summaries)
    return with_rows(fit, cast(ModelRows, own))


def _residual_variance(fit: FittedModel) -> float:
    """Mean over the rows."""
    return fit.solution.sigma**2 * cast(StreamedRows, fit.rows).mean_variance


def _of_kept_rows(fit: FittedModel, rows: StreamedRows, moments: RowMoments) -> dict[str, Any]:
    """Of what the kept rows have all kinds; means of numbers are those of all rows."""
    kept, drawn = with_rows(fit, rows.sample), with_rows(fit, rows.random_sample)
    variables = fixed_variables(kept)
    for name, variable in variables.items():
        total = moments.variable_sums.get(encode(name))
        if variable.numeric and len(variable.levels) == 1 and total is not None:
            mean = pd.Series([total / moments.n], dtype=float)
            variables[name] = Variable(mean, numeric=True)
    return {
        "fixed variables": variables,
        "observed levels": observed_levels(kept),
        "variable ranges": variable_ranges(kept),
        "cells without data": cells_without_data(kept),
        "residual quantiles": residual_quantiles(drawn),
    }


def _of_sums(fit: FittedModel, moments: RowMoments) -> dict[str, Any]:
    """What moments of the columns tell."""
    n, XtX, beta, solution = moments.n, moments.XtX, fit.solution.beta, fit.solution
    coding = recoded(fit).from_coding
    groups = dict.fromkeys(fit.formula.groups, 0.0)
    for term, squares, lam in zip(
        fit.spec.random_terms, moments.squares, solution.lambdas, strict=True
    ):
        groups[term.group] += float(np.trace(lam.T @ squares @ lam)) / n
    group_variances = solution.sigma**2 * pd.Series(groups, dtype=float)
    fixed = float(np.square(moments.X_root @ beta).sum())
    spherical = sum(float(np.square(u).sum()) for u in solution.spherical_modes())
    method = fit.residual.observation_methods[0]
    residual = fit.residual.observation_variance(
        method, lambda: _residual_variance(fit), lambda: float("nan")
    )
    return {
        "rows of levels": {
            group: moments.counts[group].astype(np.intp) for group in fit.crossprod.groups
        },
        "mean offset": moments.offset_sum / n,
        "column rms": np.sqrt(np.diag(XtX) / n),
        "coding rms": np.sqrt(np.maximum(np.diag(coding.T @ XtX @ coding), 0.0) / n),
        "group variances": group_variances,
        "variance shares": VarianceShares(fixed, group_variances, residual, method),
        "family deviance": solution.pwrss - spherical,
    }


def _cholesky(XtX: Matrix) -> Matrix:
    """Upper triangular R of ``R'R = X'X``, columns at unit length while it is computed."""
    size = np.sqrt(np.diag(XtX))
    return np.asarray(np.linalg.cholesky(XtX / np.outer(size, size)).T * size)
