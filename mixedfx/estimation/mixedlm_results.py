"""MixedLM's estimates by its own likelihood, without the warnings of ``MixedLM.fit``.

``MixedLM.fit`` warns of boundaries and of singular matrices. Warnings can be suppressed for the
whole process only, for other threads too; so the steps of ``fit`` are taken here: a search by
MixedLM's likelihood and score, the covariance of the estimates by its Hessian, and its results.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx.linalg import trust_region

Vector = npt.NDArray[np.float64]

# The gradient of the log-likelihood over n at which MixedLM.fit's optimiser ends.
_GRADIENT_TOLERANCE = 1e-5
_MAX_EVALUATIONS = 100


def mixedlm_results(lm: Any, model: Any, start: Any, *, reml: bool) -> Any:
    """Maximise the likelihood of a MixedLM model from ``start``; ``lm`` is MixedLM's module."""
    model.reml = reml
    model.cov_pen = model.fe_pen = model._freepat = None
    model._cov_sing = 0
    packed = start.get_packed(use_sqrt=model.use_sqrt, has_fe=False)
    found = _search(model, packed, lm.MixedLMParams)
    optimum = lm.MixedLMParams.from_packed(
        found.x, model.k_fe, model.k_re, use_sqrt=model.use_sqrt, has_fe=False
    )
    cov_re, vcomp = optimum.cov_re, optimum.vcomp
    if model.k_re:
        np.linalg.inv(cov_re)  # get_scale warns of a singular one
    optimum.fe_params, _ = model.get_fe_params(cov_re, vcomp)
    scale = model.get_scale(optimum.fe_params, cov_re, vcomp)
    hessian, _ = model.hessian(optimum)
    packed = optimum.get_packed(use_sqrt=False, has_fe=True)
    results = lm.MixedLMResults(model, packed, np.linalg.inv(-hessian) / scale)
    results.params_object, results.fe_params = optimum, optimum.fe_params
    results.cov_re, results.vcomp, results.scale = scale * cov_re, scale * vcomp, scale
    results.cov_re_unscaled = cov_re
    results.method, results.reml = "REML" if reml else "ML", reml
    results.converged, results.hist = found.converged, None
    results.cov_pen = results.freepat = None
    for name in ("k_fe", "k_re", "k_re2", "k_vc", "use_sqrt"):
        setattr(results, name, getattr(model, name))
    return lm.MixedLMResultsWrapper(results)


def _search(model: Any, x: Vector, params: Any) -> trust_region.TrustRegionResult:
    """Minimise ``-log L / n`` over MixedLM's covariance parameters."""
    n = model.nobs

    def function(x: Vector) -> tuple[float, Vector]:
        at = params.from_packed(x, model.k_fe, model.k_re, model.use_sqrt, has_fe=False)
        at.fe_params, _ = model.get_fe_params(at.cov_re, at.vcomp)
        _, score_re, score_vc = model.score_sqrt(at, calc_fe=False)
        return -float(model.loglike(x)) / n, -np.concatenate([score_re, score_vc]) / n

    return trust_region.minimize(
        function,
        np.asarray(x, dtype=float),
        initial_hessian=lambda: np.eye(len(x)),
        tolerance=0.5 * _GRADIENT_TOLERANCE**2,
        max_evaluations=_MAX_EVALUATIONS,
    )
