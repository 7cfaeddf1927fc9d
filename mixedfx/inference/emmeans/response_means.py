"""Marginal means of the linear predictor on the scale of the response."""

from __future__ import annotations

from dataclasses import replace

from mixedfx.errors import ArgumentError, check_flag
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.emmeans.emmeans import EMMeans
from mixedfx.inference.emmeans.scale import scale_of
from mixedfx.inference.random_variance import random_variance


def on_scale(fit: FittedModel, means: EMMeans, which: str, *, bias_adjust: bool) -> EMMeans:
    """Means of a fit on the scale of the response, adjusted for its random effects or not."""
    check_flag("bias_adjust", bias_adjust)
    variance = random_variance(fit) if bias_adjust else None
    scale = scale_of(fit, which, bias_variance=variance)
    if bias_adjust and which == "linear":
        raise ArgumentError("bias_adjust=True adjusts means of the response: add which='mean'.")
    return replace(means, table=scale.transform(means.table), _scale=scale)
