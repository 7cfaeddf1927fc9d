"""A design to a fit: which search it needs, and what the search's end implies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixedfx.bayes.mode import find_mode
from mixedfx.design.build import Design
from mixedfx.errors import EngineRefusal
from mixedfx.estimation import dispatch
from mixedfx.estimation.dispersion.fixed import estimate_dispersion
from mixedfx.estimation.dispersion.random import estimate_location_scale
from mixedfx.estimation.fitted_model import FittedModel, assemble
from mixedfx.estimation.optimizer_result import Control
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.crossproducts import CrossProducts
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
    reduced: CrossProducts | None = None,
    priors: PriorSpecification | None = None,
) -> FittedModel:
    """Search, and compute what the search's end implies."""
    if priors is not None:
        return _fit_mode(design, priors, engine=engine, control=control)
    if design.dispersion is not None:
        return _fit_dispersion(design, engine=engine, reml=reml, control=control)
    known = compute_crossproducts(design) if reduced is None else reduced
    with single_threaded_blas(known.symbolic.dense_size):
        optimizer_result = dispatch.estimate(
            engine, design, known, reml=reml, control=control, start=start
        )
        return assemble(design.formula, design, known, optimizer_result, reml=reml)


def _fit_dispersion(design: Design, *, engine: str, reml: bool, control: Control) -> FittedModel:
    if engine not in ("auto", "profiled"):
        raise EngineRefusal(
            f"engine='{engine}' knows one residual variance; with dispersion= use "
            "engine='profiled'."
        )
    with single_threaded_blas(_columns(design)):
        assert design.dispersion is not None
        estimator = (
            estimate_dispersion if design.dispersion.block is None else estimate_location_scale
        )
        optimizer_result, weighed, found = estimator(design, reml=reml, control=control)
        reduced = compute_crossproducts(weighed)
        return assemble(
            design.formula, weighed, reduced, optimizer_result, reml=reml, dispersion=found
        )


def _fit_mode(
    design: Design, priors: PriorSpecification, *, engine: str, control: Control
) -> FittedModel:
    if engine not in ("auto", "profiled"):
        raise EngineRefusal(f"engine='{engine}' knows no priors; use engine='profiled'.")
    if design.dispersion is not None and design.dispersion.block is not None:
        raise EngineRefusal(
            f"priors= with the random term in dispersion='{design.dispersion.formula}' are not "
            "supported; leave one of the two out."
        )
    with single_threaded_blas(_columns(design)):
        found = find_mode(design, priors, control)
        return assemble(
            design.formula,
            found.design,
            compute_crossproducts(found.design),
            found.optimizer_result,
            reml=True,
            dispersion=found.dispersion,
            priors=found.priors,
        )


def _columns(design: Design) -> int:
    return sum(len(b.levels) * b.values.shape[1] for b in design.blocks)
