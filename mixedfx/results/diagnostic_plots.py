"""The plots that check a fit: residuals, normal quantiles, influence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from mixedfx import plots
from mixedfx.errors import ArgumentError, brief, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.checks.checks import checks_of, drawn_fit
from mixedfx.inference.doctor.diagnosis import Diagnosis
from mixedfx.inference.doctor.doctor import Examination, examine
from mixedfx.inference.residual_covariance import correlation_table
from mixedfx.results.check_panels import draw_checks
from mixedfx.results.doctor_panels import draw_page
from mixedfx.results.plot_inputs import (
    fitted_means,
    grouping_factor,
    level_of_each_row,
    plotted_residuals,
    rows_drawn,
    standardised_effects,
    standardised_residuals,
    titled,
)
from mixedfx.results.tables import influence
from mixedfx.streamed import doctoring


@dataclass(frozen=True)
class DiagnosticPlots:
    """
    Plots of residuals, random effects and influence.

    Parameters
    ----------
    model : FittedModel
        The fit.
    """

    model: FittedModel

    def residuals(
        self,
        kind: Literal["fitted", "scale-location", "group"] = "fitted",
        group: str | None = None,
        *,
        rng: Any = 0,
        ax: Any = None,
    ) -> Any:
        """
        Draw the residuals.

        The table is ``fit.augment()``, and for ``"scale-location"`` ``fit.influence()`` with
        the standardised residuals. In weighted fits residuals are multiplied by the square
        root of the weight, so that all have the same variance. Of a generalised model they are
        quantile residuals given the random effects, ``fit.residuals(kind="quantile",
        random="fitted")``, which are standard normal if the model is right. Of rows that were
        read in chunks a random sample is drawn, as the title says.

        Parameters
        ----------
        kind : {"fitted", "scale-location", "group"}
            Residuals against fitted values; square roots of absolute standardised residuals
            against fitted values; residuals by the levels of a group.
        group : str, optional
            A grouping factor, for ``"group"``; by default the first.
        rng : int or numpy.random.Generator
            Seed of quantile residuals of a discrete response.
        ax : matplotlib axes, optional
            Where to draw.

        Returns
        -------
        matplotlib axes
            A point for each row, or a row for each level.
        """
        check_choice("kind", kind, ("fitted", "scale-location", "group"))
        if group is not None:
            grouping_factor(self.model, group)
        fit, title = rows_drawn(self.model)
        if kind == "scale-location":
            standardised = standardised_residuals(fit, rng)
            roots = np.sqrt(standardised.abs()).rename(f"√|{standardised.name}|")
            table = pd.concat([fitted_means(fit), roots], axis=1)
            return titled(plots.scatter_with_trend(table, *table.columns, ax=ax), title)
        scaled = plotted_residuals(fit, rng)
        if kind == "group":
            group = grouping_factor(fit, group)
            labels = level_of_each_row(fit, group)
            return titled(plots.boxplot_by_level(scaled, labels, group=group, ax=ax), title)
        table = pd.concat([fitted_means(fit), scaled], axis=1)
        return titled(plots.scatter_with_trend(table, *table.columns, zero=True, ax=ax), title)

    def check(self, *, rng: Any = 0, n_sim: int = 250, ax: Any = None) -> Any:
        """
        Draw the checks of ``fit.check()``: a page of six panels with a sentence each.

        Residuals are those of one draw of the effects given the data, which are standard normal
        if the model is right. Against a number, red lines are quartiles of neighbours, and dashes
        where they should be; against a category, boxes are between the quartiles, which should
        be in the grey band. The last panels are of the covariates and groups with the smallest
        p-values.

        Parameters
        ----------
        rng : int or numpy.random.Generator
            Source of randomness, or its seed.
        n_sim : int
            Number of simulated responses.
        ax : sequence of matplotlib axes, optional
            Where to draw: six, or fewer where a model has fewer checks.

        Returns
        -------
        numpy.ndarray of matplotlib axes
            One for each panel, its title red where the check fails.
        """
        drawn = drawn_fit(self.model, rng, n_sim)
        return draw_checks(drawn, checks_of(drawn), ax)

    def doctor(self, found: Diagnosis | None = None, *, ax: Any = None) -> Any:
        """
        Draw what is weak in the fit, ``fit.doctor()``, on a page of six panels.

        Changes of the coefficients by refits, red where a conclusion changes; AIC of simpler random
        structures, red where the data do not support what they leave out; the levels that move a
        coefficient most, red where influential; and the worst of the checks, as in :meth:`check`.

        Parameters
        ----------
        found : Diagnosis, optional
            What ``fit.doctor()`` returned; by default it is computed.
        ax : sequence of matplotlib axes, optional
            Where to draw: six, or fewer where a model has fewer panels.

        Returns
        -------
        numpy.ndarray of matplotlib axes
            One for each panel, its title red where something is weak.
        """
        if found is None:
            found = examine(self.model, Examination(models=doctoring.models_of(self.model, None)))
        if not isinstance(found, Diagnosis):
            raise ArgumentError(f"found={brief(found)} must be what fit.doctor() gives.")
        return draw_page(found, ax)

    def correlation(self, *, ax: Any = None) -> Any:
        """
        Draw the fitted and the empirical correlation of residuals over lags or distances.

        The table is ``fit.residual_correlation()``. Dashes are the fitted correlations of each
        two positions and the line their mean at a distance; points are mean products of the
        residuals over their standard deviations, larger where more pairs of rows have them.
        Residuals are about the fitted values, random effects included.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where to draw; a sequence for several strata.

        Returns
        -------
        matplotlib axes
            A panel for each stratum of ``us(visit | arm / patient)``.

        Raises
        ------
        ArgumentError
            If residuals are independent.
        """
        table = correlation_table(self.model)
        return plots.correlation(table, xlabel=table.attrs["distance"], ax=ax)

    def qq(
        self, of: str = "resid", *, conf_level: float = 0.95, rng: Any = 0, ax: Any = None
    ) -> Any:
        """
        Draw standardised residuals, or random effects, against normal quantiles.

        Residuals are ``std_resid`` of ``fit.influence()``, or of a generalised model quantile
        residuals given the random effects. Effects are those of
        ``fit.ranef(group, cond_sd=True)``, divided by the marginal standard deviation of the
        conditional modes, ``sqrt(variance - cond_sd**2)``. :func:`mixedfx.plots.quantiles` has
        the points.

        Parameters
        ----------
        of : str
            ``"resid"``, or a grouping factor.
        conf_level : float
            Coverage of the pointwise bands.
        rng : int or numpy.random.Generator
            Seed of quantile residuals of a discrete response.
        ax : matplotlib axes, or a sequence of them, optional
            Where to draw; for a group, one for each effect.

        Returns
        -------
        numpy.ndarray of matplotlib axes
            One for the residuals, or one for each effect.
        """
        groups = self.model.formula.groups
        check_choice("of", of, ("resid", *groups))
        if of not in groups:
            fit, title = rows_drawn(self.model)
            values = standardised_residuals(fit, rng)
            axes = plots.qq({"": values}, ylabel=str(values.name), conf_level=conf_level, ax=ax)
            return titled(axes, title)
        samples = standardised_effects(self.model, of)
        ylabel = f"standardised effect of {of}"
        return plots.qq(samples, ylabel=ylabel, conf_level=conf_level, ax=ax)

    def influence(
        self,
        of: str = "obs",
        *,
        method: Literal["one_step", "refit"] = "one_step",
        ax: Any = None,
    ) -> Any:
        """
        Draw Cook's distances of rows, or of levels.

        The table is ``fit.influence(of)``.

        Parameters
        ----------
        of : str
            ``"obs"`` for rows, or a grouping factor.
        method : {"one_step", "refit"}
            For levels, as of ``fit.influence()``.
        ax : matplotlib axes, optional
            Where to draw.

        Returns
        -------
        matplotlib axes
            A stem for each row or level.
        """
        table = influence(self.model, of, method)
        group = of if of in self.model.formula.groups else None
        return plots.influence(table["cooks_distance"], group=group, ax=ax)
