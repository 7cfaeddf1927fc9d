"""Choice of the estimator that a design needs, and the fitted model at its estimates.

Priors lead to the posterior mode, ``dispersion=`` to the estimators of the residual standard
deviations, and everything else to :mod:`mixedfx.estimation.dispatch`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixedfx.bayes.mode import find_mode
from mixedfx.design.build import Design
from mixedfx.errors import EngineRefusal
from mixedfx.estimation import dispatch
from mixedfx.estimation.dispersion.fixed import estimate_dispersion
from mixedfx.estimation.dispersion.random import estimate_location_scale
from mixedfx.estimation.fitted_model import FittedModel, build_fitted_model
from mixedfx.estimation.optimizer_result import Control
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.linalg.blas_threads import single_threaded_blas
from mixedfx.priors.specification import PriorSpecification

Vector = npt.NDArray[np.float64]


def fit_design(
    design: Design,
    *,
    engine: str,
    reml: bool,
    control: Control,
    start: Vector | None = None,
    crossprod: CrossProducts | None = None,
    priors: PriorSpecification | None = None,
) -> FittedModel:
    """Estimate a design's model; ``crossprod`` are its cross-products if they are at hand."""
    if priors is not None:
        return _fit_posterior_mode(design, priors, engine=engine, control=control)
    if design.spec.dispersion is not None:
        return _fit_dispersion(design, engine=engine, reml=reml, control=control)
    if crossprod is None:
        crossprod = compute_crossproducts(design)
    with single_threaded_blas(crossprod.symbolic.dense_size):
        likelihood = GaussianLikelihood(crossprod, reml)
        optimizer_result = dispatch.estimate(
            engine, design, likelihood, control=control, start=start
        )
        return build_fitted_model(design, likelihood, optimizer_result)


def _fit_dispersion(design: Design, *, engine: str, reml: bool, control: Control) -> FittedModel:
    """Estimate with modelled residual standard deviations, which become weights."""
    if engine not in ("auto", "profiled"):
        raise EngineRefusal(
            f"engine='{engine}' knows one residual variance; with dispersion= use "
            "engine='profiled'."
        )
    assert design.spec.dispersion is not None
    random = design.spec.dispersion.random_term is not None
    estimator = estimate_location_scale if random else estimate_dispersion
    with single_threaded_blas(design.spec.n_random_effects):
        optimizer_result, weighted_design, dispersion = estimator(
            design, reml=reml, control=control
        )
        return build_fitted_model(
            weighted_design,
            GaussianLikelihood(compute_crossproducts(weighted_design), reml),
            optimizer_result,
            dispersion=dispersion,
        )


def _fit_posterior_mode(
    design: Design, priors: PriorSpecification, *, engine: str, control: Control
) -> FittedModel:
    if engine not in ("auto", "profiled"):
        raise EngineRefusal(f"engine='{engine}' knows no priors; use engine='profiled'.")
    dispersion = design.spec.dispersion
    if dispersion is not None and dispersion.random_term is not None:
        raise EngineRefusal(
            f"priors= with the random term in dispersion='{dispersion.formula}' are not "
            "supported; leave one of the two out."
        )
    with single_threaded_blas(design.spec.n_random_effects):
        mode = find_mode(design, priors, control)
        return build_fitted_model(
            mode.design,
            GaussianLikelihood(compute_crossproducts(mode.design), reml=True),
            mode.optimizer_result,
            dispersion=mode.dispersion,
            priors=mode.priors,
        )
