"""Marginal means of a response with a zero part, averages of the means in the cells of the grid.

In a cell the mean is that of the response at random effects of zero, ``(1 - p) mu``, with the
linear predictors of both parts there; the cells are then averaged. Standard errors are of the
coefficients of all predictors and of the family's parameters together; limits are symmetric.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixedfx.errors import ArgumentError, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.glmm.several_estimate import PredictorEstimate, SeveralEstimate
from mixedfx.inference.emmeans.linear_functions import LinearFunctions, linear_functions
from mixedfx.inference.emmeans.parameter_functions import ParameterFunctions
from mixedfx.inference.emmeans.scale import LinkScale, mean_function
from mixedfx.likelihood.coefficient_covariance import combinations_in_basis


@dataclass(frozen=True)
class SeveralScale(LinkScale):
    """Scale of means of the response, zero part included."""

    @property
    def caption(self) -> str:
        """What the means are of."""
        return "Means are of the response, zero part included, at random effects of zero."

    def contrasted(self, fit: FittedModel, which: str) -> LinkScale:
        """The same."""
        check_choice("which", which, ("linear", "mean"))
        if which == "mean":
            return self
        raise ArgumentError(
            "contrasts(which='linear'): these means are which='mean'; write "
            "fit.emmeans(..., which='linear') and compare those."
        )

    def regridded(self, fit: FittedModel) -> None:
        """They are averages of means of the response."""

    def contrast_remark(self, ratio: str | None) -> str:
        """What contrasts are of."""
        return "Contrasts are differences of means of the response."


def several_scale(fit: FittedModel) -> SeveralScale:
    """Scale of the means of a fit."""
    return SeveralScale(mean_function(fit))


def several_functions(
    fit: FittedModel, cells: LinearFunctions, grid: pd.DataFrame
) -> ParameterFunctions:
    """Mean of the response in each cell of a grid."""
    first, density = fit.residual, fit.residual.density  # type: ignore[attr-defined]
    assert isinstance(first, SeveralEstimate)
    parts = [(part, linear_functions(part, grid)) for part in first.parts.values()]
    etas = np.array([one.values(part.solution.beta) for part, one in [(fit, cells), *parts]])
    slopes = density.mean_slopes(etas, first.params)
    of_params = density.mean_by_params(etas, first.params)
    # Derivatives by the free parameters in the order of the search, then in that of the fit.
    gradient = np.zeros((len(grid), len(first.x)))
    for slope, (part, one) in zip(slopes[1:], parts, strict=True):
        estimate = part.residual
        assert isinstance(estimate, PredictorEstimate)
        own = estimate.order[estimate.n_own : estimate.n_own + len(estimate.beta)]
        in_basis = combinations_in_basis(one.rows, part.crossprod.qr_R)
        gradient[:, own] = slope[:, None] * in_basis
    if of_params is not None:
        gradient[:, gradient.shape[1] - len(of_params) :] = of_params.T
    rest = gradient[:, first.order[first.n_own + len(first.beta) :]]
    return ParameterFunctions.of(cells, fit, density.mean(etas, first.params), slopes[0], rest)
