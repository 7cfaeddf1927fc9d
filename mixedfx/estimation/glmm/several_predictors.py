"""Fit of a generalised model with several linear predictors: one marginal likelihood of all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.design.family_residual import FamilyResidual
from mixedfx.design.known_levels import check_plain_levels
from mixedfx.design.predictors import SeveralFormulas, predictor_designs
from mixedfx.errors import ArgumentError, SearchError
from mixedfx.estimation.fitted_model import FittedModel, build_fitted_model
from mixedfx.estimation.glmm.exact_cells import exact_cells
from mixedfx.estimation.glmm.fit import (
    Optimum,
    at_end,
    check_nagq,
    evaluated_anew,
    optimizer_result,
    search_from,
)
from mixedfx.estimation.glmm.mode_derivatives import covariance_jacobians
from mixedfx.estimation.glmm.several_estimate import PredictorEstimate, SeveralEstimate
from mixedfx.estimation.glmm.several_limits import notes_of_parts, without_maximum
from mixedfx.estimation.glmm.several_modes import index_among_all, jacobian_of_all, part_of_effects
from mixedfx.estimation.glmm.several_starts import several_start
from mixedfx.estimation.glmm.stopped_searches import stopped_statements
from mixedfx.estimation.glmm.working import with_independent_columns, working_crossproducts
from mixedfx.estimation.optimizer_result import Control
from mixedfx.families.derivatives import RowDerivatives
from mixedfx.likelihood.generalized.all_effects import AllEffects, EffectsOfOne
from mixedfx.likelihood.generalized.evaluated_rows import working_response, working_sums
from mixedfx.likelihood.generalized.likelihood import GeneralizedLikelihood, MarginalEvaluation
from mixedfx.likelihood.generalized.several_predictors import SeveralRows
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.linalg.blas_threads import single_threaded_blas
from mixedfx.residuals.model import FamilyModel
from mixedfx.residuals.registry import residual_model

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


def several_rows(design: Design) -> SeveralRows:
    """Rows of all predictors of a design."""
    spec = design.spec.residual
    assert isinstance(spec, SeveralFormulas)
    return SeveralRows.of_parts(predictor_designs(design), spec.density)


def fit_several(
    design: Design, spec: FamilyResidual, *, control: Control, start: Vector | None = None
) -> FittedModel:
    """Maximise the marginal likelihood over the parameters of all predictors."""
    assert isinstance(spec, SeveralFormulas)
    designs = predictor_designs(design)
    for part in designs:
        check_plain_levels(part.spec, spec.argument)
    _check_nodes(designs, spec)
    with single_threaded_blas(sum(part.spec.n_random_effects for part in designs)):
        rows = several_rows(design)
        try:
            first = several_start(design, rows, start)
            found = search_from(GeneralizedLikelihood(rows, spec.nagq), first, control)
        except (SearchError, np.linalg.LinAlgError) as error:
            reasons = exact_cells(_by_argument(designs))
            raise SearchError(f"{'; '.join(reasons)}.") if reasons else error from None
        return _assemble(designs, rows, at_end(found, spec.nagq), control)


def _by_argument(designs: list[Design]) -> dict[str, Design]:
    """Designs of the predictors, by argument; that of the mean is of 'formula'."""
    spec = designs[0].spec.residual
    assert isinstance(spec, SeveralFormulas)
    return dict(zip(("formula", *spec.formulas), designs, strict=True))


def _check_nodes(designs: list[Design], spec: SeveralFormulas) -> None:
    """Refuse integrals that are not computed."""
    if spec.nagq == 0:
        raise ArgumentError(
            f"nagq=0 finds the coefficients of one linear predictor beside its random effects; "
            f"with {spec.named_arguments} leave nagq at 1."
        )
    check_nagq(_with_all_terms(designs), spec.nagq)


def _with_all_terms(designs: list[Design]) -> Design:
    """The first design, with the random terms of all."""
    terms = tuple(term for part in designs for term in part.spec.random_terms)
    return replace(designs[0], spec=replace(designs[0].spec, random_terms=terms))


@dataclass(frozen=True)
class _Assembly:
    """The optimum, and what the fitted models of the predictors share."""

    designs: list[Design]
    rows: SeveralRows
    found: Optimum
    again: MarginalEvaluation
    control: Control
    jacobian: Matrix  # (q, m) of all modes by all free parameters
    by_covariance: tuple[Matrix, ...]
    not_identified: tuple[str, ...]
    effects: AllEffects

    def order(self, k: int) -> Codes:
        """Numbers of the free parameters, those of predictor k first."""
        own_terms = range(*self.rows.term_slices[k].indices(len(self.rows.term_positions)))
        slices = self.found.covariance.slices
        own = [i for t in own_terms for i in range(slices[t].start, slices[t].stop)]
        m, beta = self.found.covariance.size, self.rows.slices[k]
        own += range(m + beta.start, m + beta.stop)
        rest = [i for i in range(len(self.found.x)) if i not in set(own)]
        return np.array([*own, *rest], dtype=np.intp)

    def fitted(self, k: int, parts: dict[str, FittedModel] | None) -> FittedModel:
        """Fitted model of predictor k; of the first, with those of the others."""
        design, rows = self.designs[k], self.rows.parts[k]
        modes, point = self.found.evaluation.modes, self.found.evaluation.point
        beta = point.beta[self.rows.slices[k]]
        own_terms = self.rows.term_slices[k]
        factors = point.factors[own_terms]
        at = _of_predictor(modes.at_rows, k)
        with np.errstate(all="ignore"):
            Zb = modes.eta[k] - modes.fixed[k]
            crossprod = working_crossproducts(design.spec, rows, beta, working_sums(rows, Zb, at))
        crossprod = with_independent_columns(crossprod, factors)
        likelihood = GaussianLikelihood(crossprod, reml=False)
        estimate = self._estimate(k, likelihood, crossprod.ols_coef, factors, parts)
        result = optimizer_result(
            self.found, crossprod.theta(factors), self.found.evaluation.nagq, self.control
        )
        return build_fitted_model(
            design, likelihood, replace(result, factors=tuple(factors)), residual=estimate
        )

    def _estimate(
        self,
        k: int,
        likelihood: GaussianLikelihood,
        beta: Vector,
        factors: tuple[Matrix, ...],
        parts: dict[str, FittedModel] | None,
    ) -> PredictorEstimate:
        """Estimates of predictor k."""
        again = self.again
        shared: dict[str, Any] = {
            "model": _model(self.designs[k]),
            "marginal_deviance": again.deviance,
            "beta": beta,
            "params": again.modes.params,
            **self._derivatives(k),
            **self._effects(k, likelihood, factors),
            **self._working(k),
        }
        if parts is None:
            return PredictorEstimate(**shared)
        shared["effects"] = self.effects
        shared["not_identified"] = self.not_identified
        return SeveralEstimate(**shared, density=self.rows.density, parts=parts)

    def _derivatives(self, k: int) -> dict[str, Any]:
        """Free parameters and derivatives by them, those of predictor k first."""
        order, found = self.order(k), self.found
        own = self.rows.term_slices[k]
        return {
            "order": order,
            "x": found.x[order],
            "gradient": found.gradient[order],
            "hessian": found.hessian[np.ix_(order, order)],
            "covariance_jacobians": self.by_covariance[own],
            "n_own": sum(part.stop - part.start for part in found.covariance.slices[own]),
        }

    def _effects(
        self, k: int, likelihood: GaussianLikelihood, factors: tuple[Matrix, ...]
    ) -> dict[str, Any]:
        """Random effects of predictor k among those of all."""
        modes, groups = self.again.modes, part_of_effects(self.rows, k)
        index = index_among_all(modes, likelihood.crossprod.symbolic, groups)
        alone = not len(index) or len(self.rows.term_positions) == len(factors)
        return {
            "effects_of_one": EffectsOfOne(index, tuple(groups)),
            "all_effects": None if alone else self.effects,
            "scores_by_params": np.zeros((len(index), len(modes.params))),
            "modes_jacobian": self.jacobian[np.ix_(index, self.order(k))],
        }

    def _working(self, k: int) -> dict[str, Any]:
        """Working response and weights of predictor k."""
        modes = self.again.modes
        at = _of_predictor(modes.at_rows, k)
        return {
            "working_response": working_response(modes.eta[k], at),
            "working_weights": at.weight,
        }


def _model(design: Design) -> FamilyModel:
    model = residual_model(design)
    assert isinstance(model, FamilyModel)
    return model


def _of_predictor(at: RowDerivatives, k: int) -> RowDerivatives:
    """Derivatives by one of the predictors."""
    return RowDerivatives(at.value, at.first[k], at.weight[k, k], None)


def _assemble(
    designs: list[Design], rows: SeveralRows, found: Optimum, control: Control
) -> FittedModel:
    """Fitted models of the further predictors, then that of the mean, which holds them."""
    again = evaluated_anew(found.evaluation)
    by_covariance = covariance_jacobians(found.covariance, found.x)
    jacobian = jacobian_of_all(again.modes, by_covariance)
    spec = designs[0].spec.residual
    assert isinstance(spec, SeveralFormulas)
    by_argument = _by_argument(designs)
    found, statements = without_maximum(by_argument, rows, found)
    if not found.search.end.converged:
        statements = exact_cells(by_argument) or statements
    if stopped := stopped_statements(_with_all_terms(designs), found.evaluation):
        # No errors are of a curvature where there is no maximum.
        found = replace(found, hessian=np.full_like(found.hessian, np.nan))
        statements = statements or stopped
    modes = again.modes
    effects = AllEffects(modes.rows.weighted_products(modes.at_rows.weight), modes.lambdas)
    assembly = _Assembly(
        designs, rows, found, again, control, jacobian, by_covariance, statements, effects
    )
    parts = {name: assembly.fitted(k, None) for k, name in enumerate(spec.formulas, start=1)}
    fit = assembly.fitted(0, parts)
    of_parts = notes_of_parts(fit.notes, {name: part.notes for name, part in parts.items()})
    return replace(fit, notes=(*fit.notes, *of_parts))
