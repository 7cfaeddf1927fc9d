"""The maximum of the likelihood of several linear predictors, which are profiled together.

What is profiled is a parameter of one predictor: its random terms and coefficients stand among
those of all. The parameters of the others are nuisance parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.parametrization import Parametrization
from mixedfx.errors import check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.glmm.search import LEAST_CURVATURE
from mixedfx.estimation.glmm.several_estimate import SeveralEstimate
from mixedfx.estimation.glmm.several_predictors import several_rows
from mixedfx.estimation.glmm.working import basis_coefficients
from mixedfx.inference.parameters import Parameter
from mixedfx.inference.profile.marginal_optimum import MarginalOptimum
from mixedfx.likelihood.basis import ColumnBasis
from mixedfx.likelihood.generalized.likelihood import GeneralizedLikelihood, MarginalEvaluation
from mixedfx.likelihood.pls import Solution

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def fit_of_predictor(fit: FittedModel, predictor: str) -> FittedModel:
    """Fitted model of one linear predictor, by the argument of its formula; empty: the mean's."""
    if not predictor:
        return fit
    check_choice("predictor", predictor, fit.residual.predictors)
    return cast(FittedModel, fit.residual.predictors[predictor])


@dataclass(frozen=True)
class _Terms:
    """Random terms of all predictors, where those of a model have cross-products."""

    parametrization: Parametrization
    bases: tuple[ColumnBasis, ...]
    column_rms: tuple[Vector, ...]


@dataclass(frozen=True)
class _Estimates:
    """Estimates of all predictors, where those of a model have a solution."""

    crossprod: _Terms
    factors: tuple[Matrix, ...]
    lambdas: tuple[Matrix, ...]
    beta: Vector
    vcov_in_basis: Matrix
    sigma: float = 1.0


class SeveralOptimum(MarginalOptimum):
    """The maximum of the joint likelihood, for parameters of one of the predictors."""

    def __init__(self, fit: FittedModel, predictor: str) -> None:
        estimate = fit.residual
        assert isinstance(estimate, SeveralEstimate)
        rows, fits = several_rows(fit.design), fit.predictors
        self.likelihood = GeneralizedLikelihood(rows, estimate.nagq)
        self._at = ["", *estimate.parts].index(predictor)
        self._terms, self._columns = rows.term_slices, rows.slices
        self.params = estimate.params
        beta = np.concatenate([one.solution.beta for one in fits])
        cov = estimate.in_search_order(estimate.acov)
        first = len(cov) - len(beta) - len(estimate.params)
        own = slice(first, first + len(beta))
        terms = _Terms(
            rows.parametrization, rows.bases, _joined(one.crossprod.column_rms for one in fits)
        )
        self.solution = cast(
            Solution,
            _Estimates(
                terms,
                _joined(one.solution.factors for one in fits),
                _joined(one.solution.lambdas for one in fits),
                beta,
                cov[own, own],
            ),
        )
        in_basis = basis_coefficients(rows, beta)
        self.rest = np.append(in_basis, rows.density.coordinates(self.params))
        self._modes: Sequence[Matrix] | None = None
        self.deviance = self.evaluate(self.solution.factors, self.rest)[0]

    def located(self, parameter: Parameter) -> Parameter:
        """The parameter of a random term, by the number of its term among all."""
        assert parameter.term is not None
        return replace(parameter, term=self._terms[self._at].start + parameter.term)

    def column(self, fit: FittedModel, parameter: Parameter) -> int | None:
        """Number of a coefficient among all; those of further predictors follow the family's."""
        if parameter.kind == "dispersion":
            assert parameter.first is not None
            beyond = parameter.first - len(self.params)
            return self._columns[0].stop + beyond if beyond >= 0 else None
        own = super().column(fit, parameter)
        return None if own is None else self._columns[self._at].start + own

    def checked(self, evaluation: MarginalEvaluation) -> MarginalEvaluation:
        """Refuse points where modes merge: beyond these Laplace's approximation has no bound."""
        if evaluation.modes.least_curvature < LEAST_CURVATURE:
            raise ArithmeticError("modes of the random effects merge")
        return evaluation


def _joined(parts: Any) -> tuple[Any, ...]:
    return tuple(one for part in parts for one in part)
