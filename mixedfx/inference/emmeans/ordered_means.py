"""Marginal means of ordered categories: latent, of the mean class, and of the probabilities.

As in R's emmeans, the latent mean is ``x'beta`` less the mean of the thresholds; the mean class and
the probabilities are computed in each cell of the grid and then averaged. Standard errors are of
the coefficients and the thresholds together; limits are symmetric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mixedfx._names import decode
from mixedfx.errors import ArgumentError, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.families.cumulative import Cumulative
from mixedfx.inference.emmeans.linear_functions import LinearFunctions
from mixedfx.inference.emmeans.marginal_means import EMMeans
from mixedfx.inference.emmeans.parameter_functions import ParameterFunctions
from mixedfx.inference.emmeans.scale import LinkScale, ResponseScale, mean_function

_CAPTIONS = {
    "linear": "Means are of the latent variable, less the mean of the thresholds.",
    "mean": "Means are of the mean class, from 1 to {k}, at random effects of zero.",
    "probabilities": "Means are of the probabilities of the categories, at random effects of zero.",
}
_CONTRASTS = {
    "linear": "Contrasts are differences of the latent variable.",
    "mean": "Contrasts are differences of the mean class.",
    "probabilities": "Contrasts are differences of probabilities.",
}


@dataclass(frozen=True)
class OrderedScale(LinkScale):
    """Scale of means of ordered categories."""

    which: str
    k: int  # categories

    @property
    def caption(self) -> str:
        """What the means are of."""
        return _CAPTIONS[self.which].format(k=self.k)

    def contrasted(self, fit: FittedModel, which: str) -> LinkScale:
        """Scale of contrasts; ratios are of latent means."""
        check_choice("which", which, fit.spec.family.predictions)
        if which == self.which:
            return self
        if (self.which, which) == ("linear", "mean"):
            return ResponseScale(self.response)
        raise ArgumentError(
            f"contrasts(which={which!r}): these means are which={self.which!r}; write "
            f"fit.emmeans(..., which={which!r}) and compare those."
        )

    def regridded(self, fit: FittedModel) -> None:
        """They are averages of the mean class or of probabilities; latent means have neither."""
        if self.which == "linear":
            raise ArgumentError(
                "regrid() takes means of the response, and these are latent: write "
                "fit.emmeans(..., which='mean') or which='probabilities' and compare those."
            )

    def contrast_remark(self, ratio: str | None) -> str:
        """What contrasts are of."""
        return _CONTRASTS[self.which]


def ordered_scale(fit: FittedModel, which: str) -> OrderedScale:
    """Scale by its name."""
    check_choice("which", which, fit.spec.family.predictions)
    return OrderedScale(mean_function(fit), which, len(fit.spec.family.labels))


def ordered_functions(
    fit: FittedModel, cells: LinearFunctions, which: str
) -> tuple[ParameterFunctions, ...]:
    """Functions in the cells of a grid, of each category where they are probabilities."""
    family, params = fit.spec.family, fit.residual.distribution_params
    assert isinstance(family, Cumulative)
    eta = cells.values(fit.solution.beta)
    if which == "linear":
        by_params = np.tile(-family.alpha_jacobian(params).mean(axis=0), (len(eta), 1))
        value = eta - family.alpha(params).mean()
        return (ParameterFunctions.of(cells, fit, value, np.ones_like(eta), by_params),)
    if which == "mean":
        value, slope = (
            family.response_mean(eta, params),
            family.response_mean_derivatives(eta, params)[0],
        )
        by_params = family.response_mean_by_params(eta, params).T
        return (ParameterFunctions.of(cells, fit, value, slope, by_params),)
    P = family.probabilities(eta, params)
    by_eta, by_coordinates = family.probability_derivatives(eta, params)
    return tuple(
        ParameterFunctions.of(cells, fit, P[j], by_eta[j], by_coordinates[:, j].T)
        for j in range(len(P))
    )


def of_categories(fit: FittedModel, means: Sequence[EMMeans]) -> EMMeans:
    """Means of one function, or of the categories as a variable that the means are grouped by."""
    if len(means) == 1:
        return means[0]
    name, labels = decode(fit.formula.response), fit.spec.family.labels
    tables, groups, start = [], [], 0
    for label, one in zip(labels, means, strict=True):
        tables.append(pd.concat([pd.Series(label, one.table.index, name=name), one.table], axis=1))
        groups += [slice(g.start + start, g.stop + start) for g in one._groups]
        start += len(one.table)
    functions = [one._functions for one in means]
    return replace(
        means[0],
        table=pd.concat(tables, ignore_index=True),
        by=(name, *means[0].by),
        _functions=ParameterFunctions.stacked(functions),  # type: ignore[arg-type]
        _groups=tuple(groups),
    )
