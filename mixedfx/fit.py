"""Choice of the estimator that a design needs, and the fitted model at its estimates.

Priors lead to the posterior mode, a residual model with parameters to the estimator that it names,
and everything else to :mod:`mixedfx.estimation.dispatch`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from mixedfx.bayes import joint_mode, location_scale_mode
from mixedfx.bayes import mode as posterior_mode
from mixedfx.design.build import Design
from mixedfx.design.family_residual import FamilyResidual
from mixedfx.design.known_levels import check_plain_levels
from mixedfx.errors import EngineRefusal, check_choice
from mixedfx.estimation import compound_symmetry, dispatch, iterative, nested, saturation
from mixedfx.estimation.dispersion import random as location_scale
from mixedfx.estimation.engines import ENGINES
from mixedfx.estimation.fitted_model import FittedModel, build_fitted_model
from mixedfx.estimation.glmm import fit as generalized
from mixedfx.estimation.glmm import several_predictors
from mixedfx.estimation.optimizer_result import Control
from mixedfx.estimation.unidentified import check_residual_identified
from mixedfx.likelihood.accumulate import compute_crossproducts, crossproducts_of
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.linalg.blas_threads import single_threaded_blas
from mixedfx.priors.specification import NO_PRIORS, FamilyPriors, Priors, PriorSpecification
from mixedfx.residuals.model import ResidualModel
from mixedfx.residuals.registry import residual_model

if TYPE_CHECKING:
    from mixedfx.estimation.joint_estimate import JointEstimate
    from mixedfx.estimation.optimizer_result import OptimizerResult

    _Estimator = Callable[..., tuple[OptimizerResult, Design, JointEstimate]]

Vector = npt.NDArray[np.float64]

# Estimators of residual models with parameters, by the name that the model gives; imported when
# they are asked for.
_ESTIMATORS: dict[str, Callable[[], _Estimator]] = {
    "nested": lambda: nested.estimate_nested,
    "laplace": lambda: location_scale.estimate_location_scale,
}
# Fits of models of a family, by the same.
_OF_FAMILIES: dict[str, Callable[[], Callable[..., FittedModel]]] = {
    "marginal": lambda: generalized.fit_generalized,
    "several": lambda: several_predictors.fit_several,
}


def fit_design(
    design: Design,
    *,
    engine: str,
    reml: bool,
    control: Control,
    start: Vector | None = None,
    crossprod: CrossProducts | None = None,
    priors: Priors = NO_PRIORS,
) -> FittedModel:
    """Estimate a design's model; ``crossprod`` are its cross-products if they are at hand."""
    check_choice("engine", engine, ENGINES)
    model = residual_model(design)
    if not model.takes_related_levels:
        check_plain_levels(design.spec, model.spec.argument)
    if isinstance(priors, FamilyPriors):
        spec = cast(FamilyResidual, design.spec.residual)
        return joint_mode.fit_joint_mode(design, spec, priors, control=control)
    if isinstance(priors, PriorSpecification):
        _check_identified(design, reml=True)
        return _fit_posterior_mode(design, priors, engine=engine, control=control)
    if fit_family := _OF_FAMILIES.get(model.estimator):
        spec = cast(FamilyResidual, design.spec.residual)
        return fit_family()(design, spec, control=control, start=start)
    if model.estimator != "engine":
        _check_identified(design, reml=reml, crossprod=crossprod)
        return _fit_residual_model(design, model, engine=engine, reml=reml, control=control)
    crossprod = iterative.choose_solver(engine, design, crossprod or crossproducts_of(design))
    with single_threaded_blas(crossprod.symbolic.dense_size):
        likelihood = GaussianLikelihood(crossprod, reml)
        check_residual_identified(design.spec, likelihood)
        try:
            return _fit_linear(engine, design, likelihood, control=control, start=start)
        except saturation.ERRORS as error:
            raise saturation.explained(error, design, crossprod) from None


def _fit_linear(
    engine: str,
    design: Design,
    likelihood: GaussianLikelihood,
    *,
    control: Control,
    start: Vector | None,
) -> FittedModel:
    """Estimate theta by an engine, and solve for the other parameters."""
    result = dispatch.estimate(engine, design, likelihood, control=control, start=start)
    if result.solver is not None:
        likelihood = likelihood.with_solver(result.solver)
    return build_fitted_model(design, likelihood, result)


def _check_identified(
    design: Design, *, reml: bool, crossprod: CrossProducts | None = None
) -> None:
    """Refuse, before any search, terms that take the residual variance over."""
    spec = design.spec
    if spec.n_random_effects >= design.rows.n - (len(spec.kept_columns) if reml else 0):
        likelihood = GaussianLikelihood(crossprod or crossproducts_of(design), reml)
        check_residual_identified(spec, likelihood)


def _fit_residual_model(
    design: Design, model: ResidualModel, *, engine: str, reml: bool, control: Control
) -> FittedModel:
    """Estimate with modelled residual standard deviations, which become weights."""
    if engine in ("em", "iterative"):
        raise EngineRefusal(
            f"engine='{engine}' knows one residual variance; with {model.spec.keyword}= use "
            "engine='profiled'."
        )
    if engine == "statsmodels":
        compound_symmetry.check_random_intercept(design, model)
    estimator = _ESTIMATORS[model.estimator]()
    with single_threaded_blas(design.spec.n_random_effects):
        optimizer_result, weighted_design, estimate = estimator(
            design, model, reml=reml, control=control
        )
        if engine == "statsmodels":
            params = estimate.residual_params
            optimizer_result = compound_symmetry.confirm_by_mixedlm(
                optimizer_result, design, model, params, reml=reml, control=control
            )
        crossprod = estimate.crossprod or compute_crossproducts(weighted_design)
        return build_fitted_model(
            weighted_design,
            GaussianLikelihood(crossprod, reml),
            optimizer_result,
            residual=estimate,
        )


def _fit_posterior_mode(
    design: Design, priors: PriorSpecification, *, engine: str, control: Control
) -> FittedModel:
    if engine not in ("auto", "profiled"):
        raise EngineRefusal(f"engine='{engine}' knows no priors; use engine='profiled'.")
    design.spec.residual.check_priors()
    of_scale = design.spec.residual.has_random_effects
    find_mode = location_scale_mode.find_mode if of_scale else posterior_mode.find_mode
    with single_threaded_blas(design.spec.n_random_effects):
        mode = find_mode(design, priors, control)
        return build_fitted_model(
            mode.design,
            GaussianLikelihood(compute_crossproducts(mode.design), reml=True),
            mode.optimizer_result,
            residual=mode.residual,
            priors=mode.priors,
        )
