"""Information criteria of one model, as lme4 computes them.

With d the deviance (REML: the REML criterion), n rows and k parameters (fixed effects, theta and
those of the residual variance), AIC = d + 2 k and BIC = d + k log n; AICc = AIC + 2 k (k + 1) /
(n - k - 1) (Hurvich and Tsai 1989, Biometrika 76:297).
"""

from __future__ import annotations

import math

from mixedfx.estimation.fitted_model import FittedModel


def aic(fit: FittedModel) -> float:
    """Akaike's criterion; NaN at a posterior mode, which does not maximise the likelihood."""
    return _penalized(fit, 2.0)


def bic(fit: FittedModel) -> float:
    """Schwarz's criterion; NaN at a posterior mode."""
    return _penalized(fit, math.log(fit.nobs))


def aicc(fit: FittedModel) -> float:
    """Akaike's criterion corrected for the number of rows; infinite with too few of them."""
    k, spare = fit.n_params, fit.nobs - fit.n_params - 1
    return aic(fit) + (2.0 * k * (k + 1) / spare if spare > 0 else math.inf)


def _penalized(fit: FittedModel, penalty: float) -> float:
    """Deviance plus a penalty for each parameter."""
    return math.nan if fit.priors.specified else fit.deviance + penalty * fit.n_params


CRITERIA = {"aicc": aicc, "aic": aic, "bic": bic}
