"""Marginal means of the linear predictor on the scale of the response."""

from __future__ import annotations

from dataclasses import replace

from mixedfx.errors import ArgumentError, check_flag
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.emmeans.marginal_means import EMMeans
from mixedfx.inference.emmeans.scale import bias_variance, scale_of


def on_scale(fit: FittedModel, means: EMMeans, which: str, *, bias_adjust: bool) -> EMMeans:
    """Means of a fit on the scale of the response, adjusted for its variances or not."""
    check_flag("bias_adjust", bias_adjust)
    if fit.spec.family.ordered:  # whose means are averages of cells on their scale
        if bias_adjust:
            raise ArgumentError(
                "bias_adjust=True is of means that are transformed: of ordered categories take "
                "fit.predict(which='probabilities', average='population')."
            )
        return means
    if which == "mean" and fit.spec.residual.has_several_means and not bias_adjust:
        return means
    scale = scale_of(fit, which, variance=bias_variance(fit) if bias_adjust else None)
    if bias_adjust and which == "linear":
        raise ArgumentError("bias_adjust=True adjusts means of the response: add which='mean'.")
    return replace(means, table=scale.transform(means.table), _scale=scale)
