"""A fit's pictures by name: each asks for a table and hands it to a drawing function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx import plots
from mixedfx.diagrams import drawing
from mixedfx.errors import ArgumentError, expect_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference import prediction, varcorr, variance_explained
from mixedfx.inference.bootstrap import Bootstrap
from mixedfx.inference.denominator_df import DfMethod
from mixedfx.results.description import Description
from mixedfx.results.fitted_lines import labels_of, lines_of, running

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Plot:
    """
    A fit's pictures; ``fit.plot``. Each returns matplotlib axes.

    Every drawn number is also in a table, which each method names.

    Parameters
    ----------
    results : Results
        The fit.
    """

    results: Description

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
        return drawing.draw(self.results.graph(), ax=ax)

    # ---------------------------------------------------------------- levels

    def caterpillar(self, group: str | None = None, *, ax: Any = None) -> Any:
        """
        Draw a group's random effects, sorted, with 95% conditional intervals.

        The table is ``fit.ranef(group, cond_sd=True)``.

        Parameters
        ----------
        group : str, optional
            A grouping factor; the first without it.
        ax : matplotlib axes, or a sequence of them, optional
            Where to draw; one for each effect.

        Returns
        -------
        numpy.ndarray of matplotlib axes
            One for each effect.
        """
        chosen = _group(self.results.model, group)
        table = prediction.effects_table(self.results.model, chosen, cond_sd=True)
        return plots.caterpillar(table, ax=ax)

    def shrinkage(
        self,
        group: str | None = None,
        effects: str | Sequence[str] | None = None,
        *,
        ax: Any = None,
    ) -> Any:
        """
        Draw how far partial pooling moves each level from what its own rows say.

        The table is ``fit.pooling(group)``; the ellipses are those of ``fit.cov_re``.

        Parameters
        ----------
        group : str, optional
            A grouping factor; the first without it.
        effects : str or sequence of str, optional
            One effect, or two for a plane; both, where there are two.
        ax : matplotlib axes, optional
            Where to draw.

        Returns
        -------
        matplotlib axes
            Arrows from unpooled to partially pooled estimates.
        """
        chosen = _group(self.results.model, group)
        covariance = varcorr.covariances(self.results.model)[chosen]
        table = self.results.pooling(chosen)
        if table.index.nlevels == 1:
            table = pd.concat({covariance.index[0]: table}, names=["effect"]).swaplevel()
        return plots.shrinkage(table, effects=effects, covariance=covariance, ax=ax)

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
        Draw the data of each level, and what the model makes of it.

        Up to 30 levels have a panel each, more are laid over each other. The table is
        ``fit.predict()`` of rows in which x runs and all else is at the level's mean, or most
        common value: with the effects of the group, and of groups that contain it, for the
        level; with ``random="none"`` for the population. The unpooled line has the effects
        ``unpooled`` of ``fit.pooling(group)``.

        Parameters
        ----------
        x : str, optional
            The column that runs; without it the first numeric one that varies within levels,
            of the random slopes or else of the fixed part. If there is none, levels are rows.
        group : str, optional
            A grouping factor; the first without it.
        levels : int or sequence, optional
            How many levels to show, or which.
        unpooled : bool
            Whether to draw unpooled lines, where levels have panels.
        ax : matplotlib axes, or a sequence of them, optional
            Where to draw: one for each level, or one for all.

        Returns
        -------
        numpy.ndarray of matplotlib axes
            One for each level, or one.
        """
        chosen = _group(self.results.model, group)
        table = lines_of(self.results, running(self.results.model, chosen, x), chosen, levels)
        return plots.fitted(table, unpooled=unpooled, ax=ax)

    # ---------------------------------------------------------------- estimates

    def coefficients(
        self,
        *,
        df_method: DfMethod = "satterthwaite",
        intercept: bool = False,
        conf_level: float = 0.95,
        ax: Any = None,
    ) -> Any:
        """
        Draw the fixed effects with their intervals.

        The table is ``fit.tidy()``.

        Parameters
        ----------
        df_method : {"satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom.
        intercept : bool
            Whether to draw the intercept, too; it is if there is nothing else.
        conf_level : float
            Coverage of the intervals.
        ax : matplotlib axes, optional
            Where to draw.

        Returns
        -------
        matplotlib axes
            A row for each coefficient.
        """
        table = self.results.tidy(df_method=df_method, conf_level=conf_level)
        others = table["term"] != "Intercept"
        if not intercept and table.loc[others, "estimate"].notna().any():
            table = table[others]
        if not len(table):
            raise ArgumentError(f"'{self.results.formula}' has no fixed effects to draw.")
        return plots.coefficients(table, conf_level=conf_level, ax=ax)

    def variance(self, *, fixed: bool = False, ax: Any = None) -> Any:
        """
        Draw how the variance divides between the groups and the residual.

        The table is ``fit.icc``, with the fixed part that of ``fit.r2``; with random slopes a
        group's variance is its mean over the rows.

        Parameters
        ----------
        fixed : bool
            Whether the fixed part's variance is counted, too.
        ax : matplotlib axes, optional
            Where to draw.

        Returns
        -------
        matplotlib axes
            A bar for each source.
        """
        if not fixed:
            _group(self.results.model, None, instead="; or count the fixed part: fixed=True")
        parts = variance_explained.variance_shares(self.results.model)
        first = pd.Series({"fixed effects": parts.fixed} if fixed else {}, dtype=float)
        every = pd.concat([first, parts.groups, pd.Series({"Residual": parts.residual})])
        return plots.variance(every / every.sum(), ax=ax)

    def profile(self, parm: str | Sequence[str] | None = None, *, ax: Any = None) -> Any:
        """
        Draw likelihood profiles with their 95% intervals.

        The tables are ``fit.profile(parm)`` and ``fit.conf_int(method="profile", parm=parm)``.

        Parameters
        ----------
        parm : str or sequence of str, optional
            Parameters by name; all without it.
        ax : matplotlib axes, or a sequence of them, optional
            Where to draw; one for each parameter.

        Returns
        -------
        numpy.ndarray of matplotlib axes
            One for each parameter.
        """
        points = self.results.profile(parm)
        return plots.profile(points, self.results.conf_int(method="profile", parm=parm), ax=ax)

    def density(
        self, bootstrap: Bootstrap, parm: str | Sequence[str] | None = None, *, ax: Any = None
    ) -> Any:
        """
        Draw how the estimates of a bootstrap are distributed, with 95% intervals.

        The tables are its ``draws``, ``estimates`` and ``conf_int()``.

        Parameters
        ----------
        bootstrap : Bootstrap
            From ``fit.bootstrap()``.
        parm : str or sequence of str, optional
            Parameters by name; all but the entries of theta without it.
        ax : matplotlib axes, or a sequence of them, optional
            Where to draw; one for each parameter.

        Returns
        -------
        numpy.ndarray of matplotlib axes
            One for each parameter.
        """
        if not isinstance(bootstrap, Bootstrap):
            given = type(bootstrap).__name__
            raise ArgumentError(f"density() draws what fit.bootstrap() gives, not {given}.")
        names = list(bootstrap.draws.columns)
        asked = [parm] if isinstance(parm, str) else list(parm or ())
        for name in asked:
            expect_choice("parm", name, names)
        at = [names.index(name) for name in asked]
        if parm is None:
            at = [i for i, name in enumerate(names) if not name.startswith("theta[")]
        intervals = bootstrap.conf_int().iloc[at]
        return plots.density(
            bootstrap.draws.iloc[:, at], bootstrap.estimates.iloc[at], intervals, ax=ax
        )

    # ---------------------------------------------------------------- checks

    def residuals(
        self,
        kind: Literal["fitted", "scale-location", "group"] = "fitted",
        group: str | None = None,
        *,
        ax: Any = None,
    ) -> Any:
        """
        Draw the residuals, to see what the model has missed.

        The table is ``fit.augment()``, and for ``"scale-location"`` ``fit.influence()`` with
        the standardised residuals. In weighted fits residuals are multiplied by the root of
        the weight, so that all have one variance.

        Parameters
        ----------
        kind : {"fitted", "scale-location", "group"}
            Against the fitted values; the root of their standardised size against the fitted
            values; by the levels of a group.
        group : str, optional
            A grouping factor, for ``"group"``; the first without it.
        ax : matplotlib axes, optional
            Where to draw.

        Returns
        -------
        matplotlib axes
            A point for each row, or a row for each level.
        """
        expect_choice("kind", kind, ("fitted", "scale-location", "group"))
        fit = self.results.model
        if kind == "scale-location":
            size = self.results.influence("obs")["std_resid"].abs()
            label = "√|standardised residual|"
            table = pd.DataFrame({"fitted": self.results.fittedvalues, label: np.sqrt(size)})
            return plots.against(table, "fitted", label, ax=ax)
        residuals = _evened(self.results)
        if kind == "group":
            chosen = _group(fit, group)
            return plots.by_level(residuals, labels_of(fit, chosen), group=chosen, ax=ax)
        table = pd.concat([self.results.fittedvalues, residuals], axis=1)
        return plots.against(table, "fitted", str(residuals.name), zero=True, ax=ax)

    def qq(self, of: str = "resid", *, ax: Any = None) -> Any:
        """
        Draw standardised residuals, or random effects, against normal quantiles.

        Residuals are ``std_resid`` of ``fit.influence()``. Effects are those of
        ``fit.ranef(group, cond_sd=True)``, over the standard deviation that conditional means
        have, ``sqrt(variance - cond_sd**2)``. What is drawn of both is in
        :func:`mixedfx.plots.quantiles`.

        Parameters
        ----------
        of : str
            ``"resid"``, or a grouping factor.
        ax : matplotlib axes, or a sequence of them, optional
            Where to draw; for a group, one for each effect.

        Returns
        -------
        numpy.ndarray of matplotlib axes
            One for the residuals, or one for each effect.
        """
        groups = self.results.formula.groups
        expect_choice("of", of, ("resid", *groups))
        if of not in groups:
            values = self.results.influence("obs")["std_resid"]
            return plots.qq({"": values}, ylabel="standardised residual", ax=ax)
        samples = _standardised(self.results.model, of)
        return plots.qq(samples, ylabel=f"standardised effect of {of}", ax=ax)

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
            A stem for each.
        """
        table = self.results.influence(of, method=method)
        group = of if of in self.results.formula.groups else None
        return plots.influence(table["cooks_distance"], group=group, ax=ax)


# ---------------------------------------------------------------- what is drawn


def _group(fit: FittedModel, group: str | None, *, instead: str = "") -> str:
    """The grouping factor asked for, or the first."""
    groups = fit.formula.groups
    if not groups:
        raise ArgumentError(
            f"'{fit.formula}' has no random terms, so there are no levels to draw: add one, such "
            f"as (1 | group){instead or '; coefficients() and residuals() do without'}."
        )
    if group is None:
        return groups[0]
    expect_choice("group", group, groups)
    return group


def _evened(results: Description) -> pd.Series:
    """Residuals of one variance."""
    weights, fit = results.model.design.weights, results.model
    if weights is None:
        return results.resid.rename("residual")
    if fit.known_sds or fit.dispersion is not None:
        return (results.resid / fit.residual_sds).rename("residual / its standard deviation")
    return (results.resid * np.sqrt(weights)).rename("residual × √weight")


def _standardised(fit: FittedModel, group: str) -> dict[str, pd.Series]:
    """Conditional means of the effects over their standard deviation, empty if that is zero."""
    table = prediction.effects_table(fit, group, cond_sd=True)
    names = [name for name in table if f"{name}_sd" in table]
    variances = np.diag(varcorr.covariances(fit)[group])
    found = {}
    for name, variance in zip(names, variances, strict=True):
        rest = variance - table[f"{name}_sd"] ** 2
        # What rounding leaves of a variance of zero is no standard deviation.
        rest = rest.where(rest > 1e-10 * variance)
        found[str(name)] = (table[name] / np.sqrt(rest)).dropna()
    return found
