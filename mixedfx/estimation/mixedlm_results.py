"""MixedLM's estimates by its own likelihood, without the warnings of ``MixedLM.fit``.

``MixedLM.fit`` warns of boundaries and of singular matrices. Warnings can be suppressed for the
whole process only, for other threads too; so the steps of ``fit`` are taken here: a search by
MixedLM's likelihood and score, and, when its results are first read, the covariance of the
estimates by its Hessian.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.errors import SearchError
from mixedfx.estimation.mixedlm_model import NamedModel
from mixedfx.linalg import trust_region

Vector = npt.NDArray[np.float64]

# The gradient of the log-likelihood over n at which MixedLM.fit's optimiser ends.
_GRADIENT_TOLERANCE = 1e-5
_MAX_EVALUATIONS = 100


@dataclass(frozen=True)
class MixedLMOptimum:
    """Where the search of a MixedLM model ended; its results are made when they are first read."""

    module: Any  # MixedLM's
    named: NamedModel
    params: Any  # MixedLMParams: covariances relative to the scale
    llf: float
    converged: bool
    steps: int  # from the start: none where that is an optimum
    reml: bool

    @cached_property
    def results(self) -> Any:
        """``MixedLMResultsWrapper``: the covariance of its estimates takes the Hessian."""
        optimum = self.params
        cov_re, vcomp = optimum.cov_re, optimum.vcomp
        with np.errstate(all="ignore"):
            try:
                model = prepared(self.named.make(), reml=self.reml)
                optimum.fe_params, _ = model.get_fe_params(cov_re, vcomp)
                scale = model.get_scale(optimum.fe_params, cov_re, vcomp)
                covariance = np.linalg.inv(-model.hessian(optimum)[0]) / scale
            except (np.linalg.LinAlgError, ValueError, FloatingPointError) as error:
                raise SearchError(f"MixedLM failed: {type(error).__name__}: {error}") from error
        packed = optimum.get_packed(use_sqrt=False, has_fe=True)
        results = self.module.MixedLMResults(model, packed, covariance)
        results.params_object, results.fe_params = optimum, optimum.fe_params
        results.cov_re, results.vcomp, results.scale = scale * cov_re, scale * vcomp, scale
        results.cov_re_unscaled = cov_re
        results.method, results.reml = "REML" if model.reml else "ML", model.reml
        results.converged, results.hist = self.converged, None
        results.cov_pen = results.freepat = None
        for name in ("k_fe", "k_re", "k_re2", "k_vc", "use_sqrt"):
            setattr(results, name, getattr(model, name))
        return self.module.MixedLMResultsWrapper(results)


def mixedlm_results(
    lm: Any, model: Any, start: Any, *, named: NamedModel, reml: bool
) -> MixedLMOptimum:
    """
    Maximise the likelihood of a MixedLM model from ``start``; ``lm`` is MixedLM's module.

    ``named`` makes the model of which its results are.
    """
    model = prepared(model, reml=reml)
    packed = start.get_packed(use_sqrt=model.use_sqrt, has_fe=False)
    found, optimum = _search(model, packed, start.fe_params, lm.MixedLMParams)
    if model.k_re:
        np.linalg.inv(optimum.cov_re)  # get_scale warns of a singular one
    llf, steps = -found.value * model.nobs, len(found.trace) - 1
    return MixedLMOptimum(lm, named, optimum, llf, found.converged, steps, reml)


def prepared(model: Any, *, reml: bool) -> Any:
    """The model with what ``MixedLM.fit`` sets."""
    model.reml = reml
    model.cov_pen = model.fe_pen = model._freepat = None
    model._cov_sing = 0
    return model


def _search(
    model: Any, start: Vector, coefficients: Vector, params: Any
) -> tuple[trust_region.TrustRegionResult, Any]:
    """
    Minimise ``-log L / n`` over MixedLM's covariance parameters; with its parameters there.

    At the start the coefficients are given: ones that are not the optimum's lower the likelihood.
    """
    n = model.nobs
    points: list[tuple[Vector, Any]] = []

    def function(x: Vector) -> tuple[float, Vector]:
        at = params.from_packed(x, model.k_fe, model.k_re, model.use_sqrt, has_fe=False)
        at.fe_params = coefficients
        if points:
            at.fe_params, _ = model.get_fe_params(at.cov_re, at.vcomp)
        points.append((x, at))
        _, score_re, score_vc = model.score_sqrt(at, calc_fe=False)
        llf = float(model.loglike(at, profile_fe=False))
        return -llf / n, -np.concatenate([score_re, score_vc]) / n

    found = trust_region.minimize(
        function,
        np.asarray(start, dtype=float),
        initial_hessian=lambda: np.eye(len(start)),
        tolerance=0.5 * _GRADIENT_TOLERANCE**2,
        max_evaluations=_MAX_EVALUATIONS,
    )
    return found, next(at for x, at in reversed(points) if np.array_equal(x, found.x))
