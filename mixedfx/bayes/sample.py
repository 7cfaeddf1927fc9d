"""Posterior samples of a fit."""

from __future__ import annotations

from typing import Any

from mixedfx._extras import check_extras
from mixedfx._warnings import warn_caller
from mixedfx.bayes.draws import PosteriorSamples, draw_posterior
from mixedfx.errors import EngineRefusal, SamplingWarning
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.linalg.blas_threads import single_threaded_blas

_REQUIRED = ("arviz_base", "arviz_stats", "emcee")


def sample(
    fit: FittedModel, *, draws: int = 1000, chains: int = 4, rng: Any = None, progress: bool = True
) -> PosteriorSamples:
    """Draw from the posterior of a fit, with flat priors where it has none."""
    if fit.spec.residual.sampling_refusal:
        raise EngineRefusal(fit.spec.residual.sampling_refusal)
    check_extras(_REQUIRED, "sample() needs")
    design = fit.original_design
    priors = fit.priors.for_sampling(design.spec)
    with single_threaded_blas(fit.crossprod.symbolic.dense_size):
        samples = draw_posterior(
            design, priors, draws=draws, chains=chains, rng=rng, progress=progress
        )
        problems = samples.convergence_problems()
    for problem in problems:
        warn_caller(f"{problem}: draw more, by draws=.", SamplingWarning)
    return samples
