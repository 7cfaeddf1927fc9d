"""A fit by its names: statsmodels' where statsmodels has one, lme4's beyond them.

``Results`` holds a :class:`~mixedfx.fit.Fit` and names what can be asked of it. It does no
arithmetic: each name delegates to the function that does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx import plots
from mixedfx import predict as prediction
from mixedfx.engines import EngineName
from mixedfx.engines.statsmodels import StatsModels
from mixedfx.fit import Certificate, Control, Fit, boundary
from mixedfx.formula import Formula
from mixedfx.inference import components, wald
from mixedfx.refit import refit
from mixedfx.summary import Summary

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Results:
    """
    The results of :func:`mixedfx.lmer`; nothing in it changes.

    Parameters
    ----------
    fit : Fit
        The fit that it names.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", mfx.datasets.load("sleepstudy"))
    >>> fit.params.round(3)
    Intercept    251.405
    Days          10.467
    Name: estimate, dtype: float64
    >>> fit.varcorr[["group", "effect", "sdcor"]].round(2)
          group     effect  sdcor
    0   Subject  Intercept  24.74
    1   Subject       Days   5.92
    2   Subject  Intercept   0.07
    3  Residual        NaN  25.59
    """

    fit: Fit

    # ---------------------------------------------------------------- the model

    @property
    def formula(self) -> Formula:
        """The formula, as parsed."""
        return self.fit.formula

    @property
    def reml(self) -> bool:
        """Whether the criterion is REML."""
        return self.fit.reml

    @property
    def nobs(self) -> int:
        """Rows used."""
        return self.fit.cross.n

    @property
    def ngroups(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""
        return self.fit.design.ngroups

    @property
    def df_resid(self) -> int:
        """Rows less fixed effects."""
        return self.fit.cross.n - self.fit.cross.p

    @property
    def df_modelwc(self) -> int:
        """Parameters: fixed effects, theta and sigma (what AIC counts)."""
        return self.fit.cross.p + self.fit.cross.layout.size + 1

    # ---------------------------------------------------------------- fixed effects

    @property
    def params(self) -> pd.Series:
        """Fixed effects, by column; NaN for columns that were left out."""
        return wald.coefficients(self.fit)

    @property
    def fe_params(self) -> pd.Series:
        """Fixed effects: another name of :attr:`params`."""
        return self.params

    @property
    def bse(self) -> pd.Series:
        """Standard errors of the fixed effects."""
        return wald.standard_errors(self.fit)

    @property
    def tvalues(self) -> pd.Series:
        """Estimates over their standard errors."""
        return (self.params / self.bse).rename("t value")

    def cov_params(self) -> pd.DataFrame:
        """
        Covariance of the fixed effects.

        Returns
        -------
        pandas.DataFrame
            Of shape (p, p).
        """
        return wald.covariance(self.fit)

    # ---------------------------------------------------------------- variance components

    @property
    def sigma(self) -> float:
        """Residual standard deviation, in units of the response."""
        return self.fit.solution.sigma

    @property
    def scale(self) -> float:
        """Residual variance."""
        return self.fit.solution.sigma**2

    @property
    def theta(self) -> Vector:
        """Relative covariance parameters: lower triangles by columns, terms in formula order."""
        return self.fit.solution.theta.copy()

    @property
    def varcorr(self) -> pd.DataFrame:
        """Variances, covariances and the residual; ``group effect effect2 vcov sdcor``."""
        return components.table(self.fit)

    @property
    def vcomp(self) -> pd.Series:
        """Variance of each random effect, by group and effect."""
        return components.variances(self.fit)

    @property
    def cov_re(self) -> pd.DataFrame | dict[str, pd.DataFrame]:
        """Covariance of the random effects; a dict by group if there are several."""
        found: pd.DataFrame | dict[str, pd.DataFrame] = _only(components.covariances(self.fit))
        return found

    # ---------------------------------------------------------------- random effects

    def ranef(
        self, group: str | None = None, *, cond_sd: bool = False
    ) -> pd.DataFrame | dict[str, pd.DataFrame]:
        """
        Conditional means of the random effects (BLUPs).

        Parameters
        ----------
        group : str, optional
            A grouping factor; without it, all of them in a dict.
        cond_sd : bool
            Whether to add each effect's standard deviation given data and parameters, as
            column ``<effect>_sd``.

        Returns
        -------
        pandas.DataFrame or dict of str to pandas.DataFrame
            Indexed by level, a column per effect, in units of the response per unit of the
            effect's column.

        References
        ----------
        .. [1] Bates, Maechler, Bolker and Walker (2015), J. Stat. Softw. 67(1), equation 56.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
        >>> fit.ranef("Batch").round(2).head(2)
               Intercept
        Batch
        A         -17.61
        B           0.39
        """
        if group is not None:
            return prediction.effects_table(self.fit, group, cond_sd=cond_sd)
        return {
            g: prediction.effects_table(self.fit, g, cond_sd=cond_sd) for g in self.formula.groups
        }

    def coef(self, group: str | None = None) -> pd.DataFrame | dict[str, pd.DataFrame]:
        """
        Fixed plus random effects, level by level.

        Parameters
        ----------
        group : str, optional
            A grouping factor; without it, all of them in a dict.

        Returns
        -------
        pandas.DataFrame or dict of str to pandas.DataFrame
            Indexed by level, a column per coefficient. Only this group's random effects are
            added: for a school within a district, :meth:`predict` adds the district's too.
        """
        if group is not None:
            return prediction.coefficients_by_level(self.fit, group)
        return {g: prediction.coefficients_by_level(self.fit, g) for g in self.formula.groups}

    @property
    def random_effects(self) -> dict[Any, Any]:
        """Each level's effects, as statsmodels gives them; by group first if several."""
        tables = {
            g: prediction.effects_table(self.fit, g, cond_sd=False) for g in self.formula.groups
        }
        found = {g: {level: t.loc[level] for level in t.index} for g, t in tables.items()}
        return dict(_only(found))

    @property
    def random_effects_cov(self) -> dict[Any, Any]:
        """Each level's conditional covariance; by group first if there are several."""
        groups = self.formula.groups
        return dict(_only({g: prediction.effects_covariances(self.fit, g) for g in groups}))

    # ---------------------------------------------------------------- likelihood

    @property
    def deviance(self) -> float:
        """Twice the negative log-likelihood (REML: the REML criterion), all constants included."""
        return self.fit.solution.deviance

    @property
    def llf(self) -> float:
        """Log-likelihood, or its REML counterpart."""
        return -0.5 * self.deviance

    @property
    def aic(self) -> float:
        """Akaike's criterion, as lme4's: under REML of the REML criterion."""
        return self.deviance + 2.0 * self.df_modelwc

    @property
    def bic(self) -> float:
        """Schwarz's criterion, with the number of rows, as lme4's."""
        return self.deviance + math.log(self.nobs) * self.df_modelwc

    # ---------------------------------------------------------------- fitted values

    @property
    def fittedvalues(self) -> pd.Series:
        """Mean of each row given the random effects, offset included."""
        return pd.Series(prediction.fitted(self.fit), index=self.fit.design.index, name="fitted")

    @property
    def resid(self) -> pd.Series:
        """Response less fitted values."""
        design = self.fit.design
        y = design.y if design.offset is None else design.y + design.offset
        values = y - self.fittedvalues.to_numpy()
        return pd.Series(values, index=design.index, name="resid")

    def predict(
        self,
        data: Any = None,
        *,
        random: str | Sequence[str] = "all",
        new_levels: str = "error",
    ) -> pd.Series:
        """
        Predict the mean of the response.

        Parameters
        ----------
        data : DataFrame, optional
            New rows, with the columns of the formula's right side; without it, the fit's own.
        random : "all", "none" or list of str
            Which groups' random effects to add to the fixed part.
        new_levels : {"error", "population"}
            For levels that the fit has not seen: refuse, or take their effect as zero.

        Returns
        -------
        pandas.Series
            With the rows' index; NaN where a needed column is missing.

        Raises
        ------
        NewLevelError
            For unseen levels, with ``new_levels="error"``; names them.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> new = {"Days": [0, 9], "Subject": ["308", "nobody"]}
        >>> fit.predict(new, new_levels="population").round(2).tolist()
        [253.66, 345.61]
        """
        return prediction.predict(self.fit, data, random=random, new_levels=new_levels)

    def refit(
        self,
        y: Any,
        *,
        engine: EngineName = "profiled",
        control: Control | None = None,
    ) -> Results:
        """
        Fit the same model to another response.

        Parameters
        ----------
        y : array or Series of shape (nobs,)
            A value for each row that this fit used; a Series is matched by its index.
        engine : {"profiled", "auto", "statsmodels"}
            What finds the optimum; the default is the fastest, for loops over thousands of
            responses.
        control : Control, optional
            Tolerance and limit of the search.

        Returns
        -------
        Results
            Design, cross-products and order of elimination are those of this fit.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
        >>> again = fit.refit(2 * fit.fittedvalues + 2 * fit.resid)
        >>> round(again.sigma / fit.sigma, 6)
        2.0
        """
        again = refit(self.fit, y, engine=engine, reml=self.reml, control=control or Control())
        return Results(again)

    # ---------------------------------------------------------------- how it was found

    @property
    def engine(self) -> str:
        """Which engine's result this is."""
        return self.fit.search.engine

    @property
    def converged(self) -> bool:
        """Whether the search ended at an optimum."""
        return self.fit.search.converged

    @property
    def is_singular(self) -> bool:
        """Whether a variance is zero or a correlation one, as lme4's ``isSingular``."""
        return bool(boundary(self.fit.design, self.fit.cross, self.fit.solution.theta))

    @property
    def certificate(self) -> Certificate:
        """The proof that this is an optimum: gradient, curvature, boundary, second engine."""
        return self.fit.certificate

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know: dropped rows and columns, singular fits."""
        return tuple(note.text for note in self.fit.notes)

    @cached_property
    def statsmodels(self) -> Any:
        """
        The genuine statsmodels result: ``MixedLMResults``, or OLS without random terms.

        Fitted on demand, from this optimum, if another engine found it. Its standard errors
        come from the joint information of all parameters, ours and lme4's from that of the
        fixed effects given theta; in unbalanced designs they differ by a fraction of a percent.

        Raises
        ------
        EngineRefusal
            If MixedLM cannot express the model; says why.
        """
        raw = self.fit.search.raw
        if raw is not None:
            return raw
        return (
            StatsModels()
            .search(
                self.fit.design,
                self.fit.cross,
                reml=self.reml,
                control=Control(),
                start=self.fit.solution.theta,
            )
            .raw
        )

    # ---------------------------------------------------------------- showing

    @property
    def plot(self) -> Plot:
        """Pictures of the fit, such as ``fit.plot.caterpillar()``; needs matplotlib."""
        return Plot(self)

    def summary(self) -> Summary:
        """
        Tables to print, or to show in a notebook.

        Returns
        -------
        Summary
            ``str()`` lays it out in 80 columns.
        """
        design, search = self.fit.design, self.fit.search
        scaled = self.resid / self.sigma
        if design.weights is not None:
            scaled = scaled * np.sqrt(design.weights)
        quantiles = np.quantile(scaled, [0.0, 0.25, 0.5, 0.75, 1.0])
        groups = "; ".join(f"{name}, {count}" for name, count in self.ngroups.items())
        return Summary(
            header=_header(self, search.engine, search.seconded),
            residuals=pd.Series(quantiles, index=["Min", "1Q", "Median", "3Q", "Max"]),
            components=self.varcorr,
            counts=f"{self.nobs}" + (f"; groups: {groups}" if groups else ""),
            coefficients=pd.DataFrame(
                {"Estimate": self.params, "Std. Error": self.bse, "t value": self.tvalues}
            ),
            notes=self.notes,
        )

    def __repr__(self) -> str:
        """Name the model and its criterion."""
        return f"<mixedfx.Results: {self.formula}; {_criterion(self)}, {self.engine} engine>"

    def __str__(self) -> str:
        """Print the summary."""
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


@dataclass(frozen=True)
class Plot:
    """
    A fit's pictures; ``fit.plot``. Each returns matplotlib axes.

    Parameters
    ----------
    results : Results
        The fit.
    """

    results: Results

    def caterpillar(self, group: str | None = None, *, ax: Any = None) -> Any:
        """
        Draw a group's random effects, sorted, with 95% conditional intervals.

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
        chosen = group if group is not None else next(iter(self.results.formula.groups), "")
        return plots.caterpillar(
            prediction.effects_table(self.results.fit, chosen, cond_sd=True), ax=ax
        )


def _criterion(fit: Results) -> str:
    name = "REML criterion" if fit.reml else "deviance"
    return f"{name} {fit.deviance:.4f}"


def _header(fit: Results, engine: str, seconded: str | None) -> list[tuple[str, str]]:
    if fit.ngroups:
        method = "REML" if fit.reml else "maximum likelihood"
        title = f"linear mixed model, fitted by {method}"
    else:
        title = "linear regression, fitted by least squares"
    told = engine if seconded is None else f"{engine} (the {seconded} engine agrees)"
    return [
        ("Model", title),
        ("Formula", str(fit.formula)),
        ("Engine", told),
        (
            "Criterion",
            f"{_criterion(fit)}; AIC {fit.aic:.1f}, BIC {fit.bic:.1f}",
        ),
    ]


def _only(by_group: dict[str, Any]) -> Any:
    """Give the one entry where there is one grouping factor, else the dict."""
    return next(iter(by_group.values())) if len(by_group) == 1 else by_group
