"""The plots of ordered categories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixedfx import plots
from mixedfx.errors import ArgumentError, check_share
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.glmm.estimate import FamilyEstimate
from mixedfx.families.cumulative import Cumulative
from mixedfx.inference.denominator_df import denominator_df
from mixedfx.inference.emmeans.emmeans import emmeans
from mixedfx.inference.emmeans.linear_functions import mean_offset
from mixedfx.inference.emmeans.means_grid import grid_variables
from mixedfx.inference.emmeans.slopes import variable_ranges
from mixedfx.inference.wald import t_quantile

# Points along a covariate, and of the latent density.
_POINTS, _LATENT_POINTS = 60, 400
# Probability beyond the ends of the density.
_TAIL = 1e-3


@dataclass(frozen=True)
class OrderedPlots:
    """
    Plots of a fit of ordered categories.

    Parameters
    ----------
    model : FittedModel
        The fit.
    """

    model: FittedModel

    def probabilities(
        self,
        covariate: str,
        by: str | None = None,
        *,
        at: Mapping[str, Any] | None = None,
        ax: Any = None,
    ) -> Any:
        """
        Draw the probabilities of ordered categories, stacked along a covariate.

        The table is that of ``fit.emmeans([covariate, by], at=at, which="probabilities")``: at
        random effects of zero, averaged over the other factors.

        Parameters
        ----------
        covariate : str
            Number, drawn as areas over its range, or factor, drawn as bars.
        by : str, optional
            Factor whose levels have a panel each.
        at : mapping, optional
            Values of variables.
        ax : matplotlib axes, or a sequence of them, optional
            Where to draw; one for each panel.

        Returns
        -------
        numpy.ndarray of matplotlib axes
            One for each panel.

        Raises
        ------
        ArgumentError
            If the fit is not of ordered categories.
        """
        family = _family(self.model, "probabilities")
        values = dict(at or {})
        variable = grid_variables(self.model).get(covariate)
        if variable is not None and variable.numeric and covariate not in values:
            low, high = variable_ranges(self.model)[covariate]
            values[covariate] = np.linspace(low, high, _POINTS)
        specs = [covariate] if by is None else [covariate, by]
        ddf = denominator_df(self.model, "normal")
        means = emmeans(self.model, ddf, specs, at=values, which="probabilities")
        category = means.by[0]
        wide = means.table.pivot_table(
            index=[by, covariate] if by else [covariate],
            columns=category,
            values="emmean",
            observed=True,
            sort=False,
        ).reset_index()
        wide.columns = pd.Index([str(c) for c in wide.columns])
        return plots.probabilities(wide, covariate, by, family.labels, ax=ax)

    def thresholds(self, *, conf_level: float = 0.95, ax: Any = None) -> Any:
        """
        Draw the latent variable of a mean row, cut by the thresholds.

        The table is ``fit.conf_int(parm=list(fit.family_params.index))``; the density is that of
        the link about the mean of the linear predictor over the rows, random effects at zero.

        Parameters
        ----------
        conf_level : float
            Coverage of the intervals of the thresholds.
        ax : matplotlib axes, optional
            Where to draw.

        Returns
        -------
        matplotlib axes
            With the density, a line for each threshold and its interval below.

        Raises
        ------
        ArgumentError
            If the fit is not of ordered categories.
        """
        fit, family = self.model, _family(self.model, "thresholds")
        check_share("conf_level", conf_level)
        assert isinstance(fit.residual, FamilyEstimate)
        params = fit.residual.distribution_params
        alpha, J = family.alpha(params), family.thresholds.design(family.n_thresholds)
        covariance = fit.residual.params_covariance
        errors = np.sqrt(np.einsum("ij,jk,ik->i", J, covariance, J))
        half = float(t_quantile(0.5 + conf_level / 2, np.array(np.inf))) * errors
        table = pd.DataFrame(
            {"estimate": alpha, "conf_low": alpha - half, "conf_high": alpha + half}
        )
        centre = float((fit.rows.X @ fit.solution.beta).mean()) + mean_offset(fit)
        ends = family.link.link(np.array([_TAIL, 1.0 - _TAIL]))
        first = min(centre - ends[1], alpha[0] - 1.0)
        latent = np.linspace(first, max(centre - ends[0], alpha[-1] + 1.0), _LATENT_POINTS)
        shifted = latent - centre
        density = family.link.mean_derivatives(shifted, family.link.mean(shifted))[0]
        curve = pd.DataFrame({"latent": latent, "density": density})
        return plots.thresholds(table, curve, family.labels, ax=ax)


def _family(fit: FittedModel, what: str) -> Cumulative:
    """The family, if it has categories."""
    family = fit.spec.family
    if not isinstance(family, Cumulative):
        raise ArgumentError(
            f"plot.{what}() is of ordered categories, glmer(..., family='cumulative'), and this "
            f"fit's family is '{family.name}': fit.plot.means() and fit.plot.fitted() draw it."
        )
    return family
