"""What was estimated, by the names that statsmodels and lme4 have for it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.estimation.boundary import boundary_parameters
from mixedfx.estimation.convergence import ConvergenceDiagnostics
from mixedfx.estimation.dispatch import EngineName
from mixedfx.estimation.fitted_model import FittedModel, expect_no_priors
from mixedfx.estimation.optimizer_result import Control
from mixedfx.estimation.statsmodels import StatsModels
from mixedfx.formula.terms import Formula
from mixedfx.inference import dispersion_table, prediction, varcorr, wald
from mixedfx.refit import refit

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Estimates:
    """
    A fit's estimates, criteria, fitted values and predictions.

    Parameters
    ----------
    fit : Fit
        The fit that it names.
    """

    model: FittedModel

    def __copy__(self) -> Self:
        """Give itself: nothing in it changes."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Give itself: nothing in it changes."""
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: a formula may hold functions, and pickles run code."""
        raise TypeError(
            "a fit cannot be pickled: its formula may hold functions of yours. Keep the formula "
            "and the data, which give it again, or its tables, such as fit.tidy()."
        )

    @property
    def fit(self) -> FittedModel:
        """The fitted model under its name of version 0.1; use :attr:`model`."""
        warnings.warn("Results.fit is now Results.model.", FutureWarning, stacklevel=2)
        return self.model

    # ---------------------------------------------------------------- the model

    @property
    def formula(self) -> Formula:
        """The formula, as parsed."""
        return self.model.formula

    @property
    def reml(self) -> bool:
        """Whether the criterion is REML."""
        return self.model.reml

    @property
    def nobs(self) -> int:
        """Rows used."""
        return self.model.crossprod.n

    @property
    def ngroups(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""
        return self.model.design.ngroups

    @property
    def df_resid(self) -> int:
        """Rows less fixed effects."""
        return self.model.crossprod.n - self.model.crossprod.p

    @property
    def df_modelwc(self) -> int:
        """Parameters: fixed effects, theta and those of the residual (what AIC counts)."""
        return self.model.n_params

    # ---------------------------------------------------------------- fixed effects

    @property
    def params(self) -> pd.Series:
        """Fixed effects, by column; NaN for columns that were left out."""
        return wald.coefficients(self.model)

    @property
    def fe_params(self) -> pd.Series:
        """Fixed effects: another name of :attr:`params`."""
        return self.params

    @property
    def bse(self) -> pd.Series:
        """Standard errors of the fixed effects."""
        return wald.standard_errors(self.model)

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
        return wald.covariance(self.model)

    # ---------------------------------------------------------------- variance components

    @property
    def sigma(self) -> float:
        """
        Residual standard deviation of a row of weight one, in units of the response.

        One where the standard deviations are known; with a dispersion formula, that of a row
        where all its columns but the intercept are zero.
        """
        return self.model.solution.sigma

    @property
    def scale(self) -> float:
        """Residual variance of a row of weight one."""
        return self.model.solution.sigma**2

    @property
    def residual_sd(self) -> pd.Series:
        """Residual standard deviation of each row, in units of the response."""
        return pd.Series(
            self.model.residual_sds.copy(), index=self.model.design.index, name="residual_sd"
        )

    @property
    def dispersion(self) -> pd.DataFrame:
        """
        Coefficients of the log residual standard deviation, with ``dispersion=``.

        A row per coefficient, ``estimate std_error sd``: ``sd`` is the exponential of the
        estimate, a standard deviation for the intercept and a ratio for the others. Last, with
        a random term, the standard deviation between its levels.
        """
        return dispersion_table.table(self.model)

    @property
    def priors(self) -> dict[str, Any]:
        """The priors that were given, by name; what is not among them is flat."""
        return {} if self.model.priors is None else dict(self.model.priors.by_name)

    def dispersion_ranef(self) -> pd.DataFrame:
        """
        Random effects of the dispersion formula, by level.

        Returns
        -------
        pandas.DataFrame
            ``log_sd``, the conditional mode of each level's effect on the log residual standard
            deviation; ``cond_sd``, its standard deviation given the data; ``ratio``, the
            exponential of ``log_sd``.

        Raises
        ------
        ArgumentError
            If the fit has no random term in its dispersion formula.
        """
        return dispersion_table.effects(self.model)

    @property
    def theta(self) -> Vector:
        """Relative covariance parameters: lower triangles by columns, terms in formula order."""
        return self.model.solution.theta.copy()

    @property
    def varcorr(self) -> pd.DataFrame:
        """Variances, covariances and the residual; ``group effect effect2 vcov sdcor``."""
        return varcorr.varcorr_table(self.model)

    @property
    def vcomp(self) -> pd.Series:
        """Variance of each random effect, by group and effect."""
        return varcorr.variances(self.model)

    @property
    def cov_re(self) -> pd.DataFrame | dict[str, pd.DataFrame]:
        """Covariance of the random effects; a dict by group if there are several."""
        found: pd.DataFrame | dict[str, pd.DataFrame] = _only(varcorr.covariances(self.model))
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
            return prediction.effects_table(self.model, group, cond_sd=cond_sd)
        return {
            g: prediction.effects_table(self.model, g, cond_sd=cond_sd) for g in self.formula.groups
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
            return prediction.coefficients_by_level(self.model, group)
        return {g: prediction.coefficients_by_level(self.model, g) for g in self.formula.groups}

    @property
    def random_effects(self) -> dict[Any, Any]:
        """Each level's effects, as statsmodels gives them; by group first if several."""
        tables = {
            g: prediction.effects_table(self.model, g, cond_sd=False) for g in self.formula.groups
        }
        found = {g: {level: t.loc[level] for level in t.index} for g, t in tables.items()}
        return dict(_only(found))

    @property
    def random_effects_cov(self) -> dict[Any, Any]:
        """Each level's conditional covariance; by group first if there are several."""
        groups = self.formula.groups
        return dict(_only({g: prediction.effects_covariances(self.model, g) for g in groups}))

    # ---------------------------------------------------------------- likelihood

    @property
    def deviance(self) -> float:
        """Twice the negative log-likelihood (REML: the REML criterion), all constants included."""
        return self.model.deviance

    @property
    def llf(self) -> float:
        """Log-likelihood, or its REML counterpart."""
        return -0.5 * self.deviance

    @property
    def aic(self) -> float:
        """Akaike's criterion, as lme4's: under REML of the REML criterion; NaN with priors."""
        if self.model.priors is not None:
            return math.nan
        return self.deviance + 2.0 * self.df_modelwc

    @property
    def bic(self) -> float:
        """Schwarz's criterion, with the number of rows, as lme4's; NaN with priors."""
        if self.model.priors is not None:
            return math.nan
        return self.deviance + math.log(self.nobs) * self.df_modelwc

    # ---------------------------------------------------------------- fitted values

    @property
    def fittedvalues(self) -> pd.Series:
        """Mean of each row given the random effects, offset included."""
        return pd.Series(
            prediction.fitted(self.model), index=self.model.design.index, name="fitted"
        )

    @property
    def resid(self) -> pd.Series:
        """Response less fitted values."""
        design = self.model.design
        values = design.response - self.fittedvalues.to_numpy()
        return pd.Series(values, index=design.index, name="resid")

    def predict(
        self,
        data: Any = None,
        *,
        random: str | Sequence[str] = "all",
        new_levels: str = "error",
        interval: str | None = None,
        level: float = 0.95,
        se: bool = False,
    ) -> pd.Series | pd.DataFrame:
        """
        Predict the mean of the response, and how far off it may be.

        Parameters
        ----------
        data : DataFrame, optional
            New rows, with the columns of the formula's right side; without it, the fit's own.
        random : "all", "none" or list of str
            Which groups' random effects to add to the fixed part.
        new_levels : {"error", "population"}
            For levels that the fit has not seen: refuse, or take their effect as zero.
        interval : {"confidence", "prediction"}, optional
            For the mean of the row given its levels, or for a new response there. The second
            adds the residual variance (of weight one, in new rows, unless residual_sd or
            dispersion tell more) and the variance between
            levels wherever a level is new or its group is left out of ``random``.
        level : float
            Coverage of the interval; variances and covariances are taken as known, so with few
            levels it covers less.
        se : bool
            Whether to give the standard error of the mean: that of coefficients and effects
            together, the variances taken as known.

        Returns
        -------
        pandas.Series or pandas.DataFrame
            With the rows' index; NaN where a needed column is missing. With ``interval`` or
            ``se`` a table of ``predicted std_error conf_low conf_high``, as far as asked for.

        Raises
        ------
        NewLevelError
            For unseen levels, with ``new_levels="error"``; names them.

        References
        ----------
        .. [1] Henderson (1975), Best linear unbiased estimation and prediction under a
           selection model, Biometrics 31:423, section 4.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> new = {"Days": [0, 9], "Subject": ["308", "nobody"]}
        >>> fit.predict(new, new_levels="population").round(2).tolist()
        [253.66, 345.61]
        >>> fit.predict(new, new_levels="population", interval="prediction").round(1)
           predicted  conf_low  conf_high
        0      253.7     198.1      309.3
        1      345.6     214.2      477.0
        """
        return prediction.predict(
            self.model,
            data,
            random=random,
            new_levels=new_levels,
            interval=interval,
            level=level,
            se=se,
        )

    def refit(
        self,
        y: Any,
        *,
        engine: EngineName = "profiled",
        control: Control | None = None,
    ) -> Self:
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
        again = refit(self.model, y, engine=engine, reml=self.reml, control=control or Control())
        return type(self)(again)

    # ---------------------------------------------------------------- how it was found

    @property
    def engine(self) -> str:
        """Which engine's result this is."""
        return self.model.optimizer_result.engine

    @property
    def converged(self) -> bool:
        """Whether the search ended at an optimum."""
        return self.model.optimizer_result.converged

    @property
    def is_singular(self) -> bool:
        """Whether a variance is zero or a correlation one, as lme4's ``isSingular``."""
        return bool(
            boundary_parameters(self.model.design, self.model.crossprod, self.model.solution.theta)
        )

    @property
    def certificate(self) -> ConvergenceDiagnostics:
        """The proof that this is an optimum: gradient, curvature, boundary, second engine."""
        return self.model.convergence_diagnostics

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know: dropped rows and columns, singular fits."""
        return tuple(note.text for note in self.model.notes)

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
        ArgumentError
            If the fit has priors.
        """
        expect_no_priors(self.model, "statsmodels")
        search = self.model.optimizer_result
        if search.engine == "statsmodels" and search.raw is not None:
            return search.raw
        return (
            StatsModels()
            .estimate(
                self.model.design,
                self.model.crossprod,
                reml=self.reml,
                control=Control(),
                start=self.model.solution.theta,
            )
            .raw
        )


def _only(by_group: dict[str, Any]) -> Any:
    """Give the one entry where there is one grouping factor, else the dict."""
    return next(iter(by_group.values())) if len(by_group) == 1 else by_group
