"""The plots of a fit, ``fit.plot``: tables of the results passed to :mod:`mixedfx.plots`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mixedfx import plots
from mixedfx.diagrams import drawing
from mixedfx.errors import ArgumentError, check_flag
from mixedfx.inference import prediction, varcorr, variance_explained, wald
from mixedfx.inference.bootstrap.bootstrap import Bootstrap
from mixedfx.inference.bootstrap.intervals import select_columns
from mixedfx.inference.denominator_df import DfMethod, denominator_df
from mixedfx.inference.profile import profile as profiles
from mixedfx.inference.shrinkage import pooling
from mixedfx.results.description import graph_of
from mixedfx.results.diagnostic_plots import DiagnosticPlots
from mixedfx.results.fitted_lines import axis_column, fitted_lines
from mixedfx.results.mean_plots import MeanPlots
from mixedfx.results.ordered_plots import OrderedPlots
from mixedfx.results.plot_inputs import grouping_factor


@dataclass(frozen=True)
class PlotAccessor(MeanPlots, OrderedPlots, DiagnosticPlots):
    """
    Plots of a fit, ``fit.plot``. Each method returns matplotlib axes.

    The numbers of every plot are also in a table, which its method names.

    Parameters
    ----------
    model : FittedModel
        The fit.

    Notes
    -----
    ``ax`` is where to draw, with a new figure by default; plots of several panels take a
    sequence. ``group`` is a grouping factor, by default the first of the formula.
    """

    def graph(self, *, ax: Any = None) -> Any:
        """
        Draw the model as a directed acyclic graph, with plates and their counts.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where to draw.

        Returns
        -------
        matplotlib axes
            A node for each variable and parameter, an arrow for each dependence.
        """
        return drawing.draw(graph_of(self.model), ax=ax)

    # ---------------------------------------------------------------- levels

    def caterpillar(
        self, group: str | None = None, *, conf_level: float = 0.95, ax: Any = None
    ) -> Any:
        """
        Draw a group's random effects, sorted, with conditional intervals.

        The table is ``fit.ranef(group, cond_sd=True)``.

        Parameters
        ----------
        group : str, optional
            A grouping factor; by default the first.
        conf_level : float
            Coverage of the intervals.
        ax : matplotlib axes, or a sequence of them, optional
            Where to draw; one for each effect.

        Returns
        -------
        numpy.ndarray of matplotlib axes
            One for each effect.
        """
        group = grouping_factor(self.model, group)
        table = prediction.ranef_table(self.model, group, cond_sd=True)
        unit = self.model.spec.family.predictor_name
        return plots.caterpillar(table, conf_level=conf_level, unit=unit, ax=ax)

    def shrinkage(
        self,
        group: str | None = None,
        effects: str | Sequence[str] | None = None,
        *,
        ax: Any = None,
    ) -> Any:
        """
        Draw each level's estimates without and with partial pooling.

        The table is ``fit.pooling(group)``; the ellipses are those of ``fit.cov_re``.

        Parameters
        ----------
        group : str, optional
            A grouping factor; by default the first.
        effects : str or sequence of str, optional
            One effect, or two for a scatter plot; by default both if there are two.
        ax : matplotlib axes, optional
            Where to draw.

        Returns
        -------
        matplotlib axes
            Arrows from unpooled to partially pooled estimates.
        """
        group = grouping_factor(self.model, group)
        covariance = varcorr.covariance_matrices(self.model)[group]
        table = pooling(self.model, group)
        if table.index.nlevels == 1:
            table = pd.concat({covariance.index[0]: table}, names=["effect"]).swaplevel()
        unit = self.model.spec.family.predictor_name
        return plots.shrinkage(table, effects=effects, covariance=covariance, unit=unit, ax=ax)

    def fitted(
        self,
        x: str | None = None,
        group: str | None = None,
        *,
        levels: int | Sequence[object] | None = None,
        unpooled: bool = True,
        ax: Any = None,
    ) -> Any:
        """
        Draw the data of each level with its fitted line.

        Up to 30 levels have a panel each; the lines of more are drawn in one panel. The table is
        ``fit.predict()`` on a grid of x, other numbers at the level's mean and its own factors
        at their value; factors that vary within levels are at the commonest combination of the
        data in all panels, which the figure names. A level's line has the effects of the group,
        and of groups that contain it; the population's ``random="none"``. The unpooled
        line has the effects ``unpooled`` of ``fit.pooling(group)``.

        Parameters
        ----------
        x : str, optional
            Column along the horizontal axis; by default the first numeric one that varies within
            levels, of the random slopes or else of the fixed part. If there is none, each level
            is a row.
        group : str, optional
            A grouping factor; by default the first.
        levels : int or sequence, optional
            Number of levels to show, or their labels.
        unpooled : bool
            Whether to draw unpooled lines, where levels have panels; of several linear predictors
            there are none.
        ax : matplotlib axes, or a sequence of them, optional
            Where to draw: one for each level, or one for all.

        Returns
        -------
        numpy.ndarray of matplotlib axes
            One for each level, or one.
        """
        check_flag("unpooled", unpooled)
        group = grouping_factor(self.model, group)
        x = axis_column(self.model, group, x)
        unpooled = unpooled and not self.model.residual.predictors
        return plots.fitted(fitted_lines(self.model, x, group, levels), unpooled=unpooled, ax=ax)

    # ---------------------------------------------------------------- estimates

    def coefficients(
        self,
        *,
        df_method: DfMethod = "auto",
        intercept: bool = False,
        exponentiate: bool = False,
        conf_level: float = 0.95,
        ax: Any = None,
    ) -> Any:
        """
        Draw the fixed effects with their intervals.

        The table is ``fit.tidy()``, or ``fit.tidy(exponentiate=True)`` on a logarithmic axis.

        Parameters
        ----------
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom.
        intercept : bool
            Whether to draw the intercept; it is drawn if there is no other coefficient.
        exponentiate : bool
            Whether to draw exponentials, such as odds ratios, where the link has them.
        conf_level : float
            Coverage of the intervals.
        ax : matplotlib axes, optional
            Where to draw.

        Returns
        -------
        matplotlib axes
            A row for each coefficient.
        """
        check_flag("intercept", intercept)
        check_flag("exponentiate", exponentiate)
        ddf = denominator_df(self.model, df_method)
        table = wald.tidy(self.model, ddf, conf_level=conf_level)
        others = table["term"] != "Intercept"
        if not intercept and table.loc[others, "estimate"].notna().any():
            table = table[others]
        if not len(table):
            raise ArgumentError(f"'{self.model.formula}' has no fixed effects to draw.")
        family = self.model.spec.family
        if not exponentiate:
            return plots.coefficients(
                table, conf_level=conf_level, unit=family.predictor_name, ax=ax
            )
        table = wald.exponentiated(self.model, table)
        return plots.coefficients(
            table, conf_level=conf_level, unit=family.ratio or "", ratios=True, ax=ax
        )

    def variance(self, *, fixed: bool = False, ax: Any = None) -> Any:
        """
        Draw the shares of the variance of the groups and the residual.

        The table is ``fit.icc``, with the fixed part that of ``fit.r2``; with random slopes a
        group's variance is its mean over the rows.

        Parameters
        ----------
        fixed : bool
            Whether to include the variance of the fixed part.
        ax : matplotlib axes, optional
            Where to draw.

        Returns
        -------
        matplotlib axes
            A bar for each source.
        """
        check_flag("fixed", fixed)
        if not fixed:
            grouping_factor(self.model, None, advice="; or count the fixed part: fixed=True")
        shares = variance_explained.variance_explained(self.model)
        of_fixed = pd.Series({"fixed effects": shares.fixed} if fixed else {}, dtype=float)
        name = "Residual" if shares.method == "residual" else f"Observation ({shares.method})"
        of_residual = pd.Series({name: shares.residual})
        variances = pd.concat([of_fixed, shares.groups, of_residual])
        return plots.variance(variances / variances.sum(), ax=ax)

    def profile(
        self,
        parm: str | Sequence[str] | None = None,
        *,
        conf_level: float = 0.95,
        ax: Any = None,
    ) -> Any:
        """
        Draw profile likelihoods with their intervals.

        The tables are ``fit.profile(parm)`` and ``fit.conf_int(method="profile", parm=parm)``.

        Parameters
        ----------
        parm : str or sequence of str, optional
            Parameters by name; by default all.
        conf_level : float
            Coverage of the intervals.
        ax : matplotlib axes, or a sequence of them, optional
            Where to draw; one for each parameter.

        Returns
        -------
        numpy.ndarray of matplotlib axes
            One for each parameter.
        """
        limits = profiles.profile_intervals(self.model, conf_level, parm)
        points = profiles.profile(self.model, parm, conf_level=conf_level)
        return plots.profile(points, limits, conf_level=conf_level, ax=ax)

    def density(
        self,
        bootstrap: Bootstrap,
        parm: str | Sequence[str] | None = None,
        *,
        conf_level: float = 0.95,
        ax: Any = None,
    ) -> Any:
        """
        Draw the distribution of bootstrap estimates, with percentile intervals.

        The tables are ``draws``, ``estimates`` and ``conf_int()`` of the bootstrap.

        Parameters
        ----------
        bootstrap : Bootstrap
            From ``fit.bootstrap()``.
        parm : str or sequence of str, optional
            Parameters by name; by default all but the entries of theta.
        conf_level : float
            Coverage of the intervals.
        ax : matplotlib axes, or a sequence of them, optional
            Where to draw; one for each parameter.

        Returns
        -------
        numpy.ndarray of matplotlib axes
            One for each parameter.
        """
        if not isinstance(bootstrap, Bootstrap):
            kind = type(bootstrap).__name__
            raise ArgumentError(f"density() draws what fit.bootstrap() gives, not {kind}.")
        names = list(bootstrap.draws.columns)
        columns = select_columns(names, parm)
        if parm is None:
            columns = [i for i, name in enumerate(names) if not name.startswith("theta[")]
        if not columns:
            raise ArgumentError("parm=[] names no parameter to draw.")
        return plots.density(
            bootstrap.draws.iloc[:, columns],
            bootstrap.estimates.iloc[columns],
            bootstrap.conf_int(conf_level=conf_level).iloc[columns],
            ax=ax,
        )
