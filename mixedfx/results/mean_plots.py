"""The plots of means, predictions and slopes of a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.denominator_df import DfMethod, denominator_df
from mixedfx.inference.emmeans import slopes as marginal_slopes
from mixedfx.inference.emmeans.means_grid import GridOptions
from mixedfx.results.means_tables import (
    PlotRequest,
    drawn_as,
    drawn_table,
    means_of,
    requested,
    slopes_table,
)

Names = str | Sequence[str]


@dataclass(frozen=True)
class MeanPlots:
    """
    Plots of marginal means, predictions and slopes.

    Parameters
    ----------
    model : FittedModel
        The fit.
    """

    model: FittedModel

    def means(
        self,
        x: Names,
        by: Names | None = None,
        *,
        at: Mapping[str, Any] | None = None,
        which: Literal["mean", "linear"] = "mean",
        data: bool = True,
        df_method: DfMethod = "auto",
        conf_level: float = 0.95,
        ax: Any = None,
    ) -> Any:
        """
        Draw marginal means with their intervals over the data.

        The table is ``fit.emmeans([x, *by], at=at, which=which)``; the data are drawn faintly
        behind, spread out sideways.

        Parameters
        ----------
        x : str or list of str
            Variable along the horizontal axis; of a list, or of a formula such as ``"~ a * b"``,
            the second has colours and the third panels.
        by : str or list of str, optional
            Variables whose levels have a colour each, and a panel each.
        at : mapping, optional
            Values of variables; a number along the axis that has none here is drawn as a line,
            as by :meth:`predictions`.
        which : {"mean", "linear"}
            Means of the response, or of the linear predictor.
        data : bool
            Whether to draw the rows, where they are on the scale of the means.
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom.
        conf_level : float
            Coverage of the intervals.
        ax : matplotlib axes, or a sequence of them, optional
            Where to draw; one for each panel.

        Returns
        -------
        numpy.ndarray of matplotlib axes
            One for each panel.
        """
        request = requested(self.model, x, by, at, which, data)
        return self._drawn(request, "Means", df_method, conf_level, ax)

    def interaction(
        self,
        x: Names,
        by: Names | None = None,
        *,
        at: Mapping[str, Any] | None = None,
        which: Literal["mean", "linear"] = "mean",
        df_method: DfMethod = "auto",
        conf_level: float = 0.95,
        ax: Any = None,
    ) -> Any:
        """
        Draw the means of the levels of factors, joined by lines: an interaction plot.

        Lines that are parallel are factors that do not interact. The table is
        ``fit.emmeans([x, *by], at=at, which=which)``.

        Parameters
        ----------
        x : str or list of str
            Factor along the horizontal axis, as of :meth:`means`.
        by : str or list of str, optional
            Factors whose levels have a colour each, and a panel each.
        at : mapping, optional
            Values of variables.
        which : {"mean", "linear"}
            Means of the response, or of the linear predictor.
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom.
        conf_level : float
            Coverage of the intervals.
        ax : matplotlib axes, or a sequence of them, optional
            Where to draw; one for each panel.

        Returns
        -------
        numpy.ndarray of matplotlib axes
            One for each panel.
        """
        request = requested(self.model, x, by, at, which, False)
        return self._drawn(request, "Means", df_method, conf_level, ax, connect=True)

    def predictions(
        self,
        x: Names,
        by: Names | None = None,
        *,
        at: Mapping[str, Any] | None = None,
        which: Literal["mean", "linear"] = "mean",
        data: Literal["raw", "partial"] | bool = True,
        df_method: DfMethod = "auto",
        conf_level: float = 0.95,
        ax: Any = None,
    ) -> Any:
        """
        Draw the mean along a number with its band, over the data or partial residuals.

        The table is ``fit.emmeans([x, *by], at={x: values over its range}, which=which)``: at
        random effects of zero, other numbers at their means, other factors averaged over.

        Parameters
        ----------
        x : str or list of str
            Variable along the horizontal axis, as of :meth:`means`; means of a factor are points.
        by : str or list of str, optional
            Variables whose levels have a colour each, and a panel each; of a number the mean and
            one standard deviation on either side, unless ``at`` gives values.
        at : mapping, optional
            Values of variables.
        which : {"mean", "linear"}
            Means of the response, or of the linear predictor.
        data : {"raw", "partial"} or bool
            What to draw behind: the rows, or partial residuals, which are the curve plus each row's
            residual given its random effects; False for nothing.
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom.
        conf_level : float
            Coverage of the band at each value.
        ax : matplotlib axes, or a sequence of them, optional
            Where to draw; one for each panel.

        Returns
        -------
        numpy.ndarray of matplotlib axes
            One for each panel.
        """
        request = requested(self.model, x, by, at, which, data)
        return self._drawn(request, "Predictions", df_method, conf_level, ax)

    def _drawn(
        self,
        request: PlotRequest,
        what: str,
        df_method: DfMethod,
        conf_level: float,
        ax: Any,
        *,
        connect: bool = False,
    ) -> Any:
        """Draw means, as lines along a number and else as points."""
        fit, ddf = self.model, denominator_df(self.model, df_method)
        shown, plot = drawn_as(fit, request)
        means = means_of(fit, ddf, shown, conf_level=conf_level)
        return plot(drawn_table(fit, request, means, what=what, connect=connect), ax=ax)

    def slopes(
        self,
        variable: str,
        by: Names | None = None,
        *,
        at: Mapping[str, Any] | None = None,
        which: Literal["linear", "mean"] = "linear",
        df_method: DfMethod = "auto",
        conf_level: float = 0.95,
        ax: Any = None,
    ) -> Any:
        """
        Draw slopes along a covariate with their intervals, and a line at zero.

        The table is ``fit.slopes(variable, by, at=at, which=which)``.

        Parameters
        ----------
        variable : str
            A numeric variable of the fixed part.
        by : str or list of str, optional
            Variable along the horizontal axis, at whose values there is a slope each: of a number a
            curve over its range, also of ``variable`` itself, else points; by default
            ``variable`` itself. A second has colours, a third panels.
        at : mapping, optional
            Values of variables.
        which : {"linear", "mean"}
            Slopes of the linear predictor, or of the mean of the response.
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom.
        conf_level : float
            Coverage of the intervals.
        ax : matplotlib axes, or a sequence of them, optional
            Where to draw; one for each panel.

        Returns
        -------
        numpy.ndarray of matplotlib axes
            One for each panel.
        """
        fit, ddf = self.model, denominator_df(self.model, df_method)
        marginal_slopes.check_covariate(fit, variable)
        request = requested(fit, variable if by is None else by, None, at, which, False)
        shown, plot = drawn_as(fit, request)
        slopes = marginal_slopes.slopes(
            fit,
            ddf,
            variable,
            list(request.names),
            options=GridOptions(at=shown.at, argument="by"),
            which=which,
            conf_level=conf_level,
        )
        return plot(slopes_table(fit, request, slopes, variable), ax=ax)
