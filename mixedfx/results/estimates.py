"""Estimates, likelihood criteria, fitted values and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._deprecation import renamed_argument
from mixedfx._other_programs import METHOD_ARGUMENTS, explains_arguments
from mixedfx.errors import check_flag
from mixedfx.formula.terms import Formula
from mixedfx.inference import information_criteria as criteria
from mixedfx.inference import prediction, varcorr, wald
from mixedfx.inference.residual_kinds import residuals_of_kind
from mixedfx.results import tables
from mixedfx.results.base import ResultsBase

Vector = npt.NDArray[np.float64]


class EstimatesMixin(ResultsBase):
    """Estimates, criteria, fitted values and predictions."""

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
        """Number of rows used."""
        return self.model.nobs

    @property
    def ngroups(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""
        return self.model.spec.ngroups

    @property
    def df_resid(self) -> int:
        """Rows less fixed effects."""
        return self.model.nobs - self.model.crossprod.p

    @property
    def df_modelwc(self) -> int:
        """Number of parameters that AIC counts: fixed effects, theta, residual or family's."""
        return self.model.n_params

    # ---------------------------------------------------------------- fixed effects

    @property
    def params(self) -> pd.Series:
        """Fixed effects, by column; NaN for columns that were dropped."""
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
        """Estimates over their standard errors; of a generalised model these are z."""
        return (self.params / self.bse).rename("t value")

    @property
    def zvalues(self) -> pd.Series:
        """Estimates over their standard errors, the same numbers as :attr:`tvalues`."""
        return (self.params / self.bse).rename("z value")

    def cov_params(self) -> pd.DataFrame:
        """
        Covariance of the fixed effects.

        Returns
        -------
        pandas.DataFrame
            Of shape (p, p).
        """
        return wald.covariance(self.model)

    vcov = cov_params  # R's name

    # ---------------------------------------------------------------- variance components

    @property
    def theta(self) -> Vector:
        """
        Relative covariance parameters: columns of the lower Cholesky factors, term by term.

        Relative to :attr:`sigma`; of a generalised model absolute, on the scale of the link.
        """
        return self.model.solution.theta.copy()

    @property
    def varcorr(self) -> pd.DataFrame:
        """Variances and covariances as lme4's ``VarCorr``: ``group effect effect2 vcov sdcor``."""
        return varcorr.varcorr_table(self.model)

    @property
    def vcomp(self) -> pd.Series:
        """Variance of each random effect, by group and effect."""
        return varcorr.variances(self.model)

    @property
    def cov_re(self) -> pd.DataFrame | dict[str, pd.DataFrame]:
        """Covariance of the random effects; a dict by group if there are several."""
        found = varcorr.covariance_matrices(self.model)
        return next(iter(found.values())) if len(found) == 1 else found

    # ---------------------------------------------------------------- random effects

    @explains_arguments(METHOD_ARGUMENTS)
    def ranef(
        self, group: str | None = None, *, cond_sd: bool | Literal["joint"] = False
    ) -> pd.DataFrame | dict[str, pd.DataFrame]:
        """
        Conditional modes of the random effects (BLUPs).

        Parameters
        ----------
        group : str, optional
            A grouping factor; without it, all of them in a dict.
        cond_sd : bool or "joint"
            Whether to add each effect's standard deviation given the data, as column
            ``<effect>_sd``: given the parameters too (lme4's ``condVar``), or with ``"joint"``
            with the uncertainty of the coefficients, and of all parameters after
            :func:`~mixedfx.glmer` (glmmTMB's ``condVar``).

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
        if not (isinstance(cond_sd, str) and cond_sd == "joint"):
            check_flag("cond_sd", cond_sd, ", or 'joint'")
        if group is not None:
            return prediction.ranef_table(self.model, group, cond_sd=cond_sd)
        return {
            g: prediction.ranef_table(self.model, g, cond_sd=cond_sd) for g in self.formula.groups
        }

    def coef(self, group: str | None = None) -> pd.DataFrame | dict[str, pd.DataFrame]:
        """
        Sum fixed and random effects, level by level.

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
            return prediction.coef_table(self.model, group)
        return {g: prediction.coef_table(self.model, g) for g in self.formula.groups}

    @property
    def random_effects(self) -> dict[Any, Any]:
        """Each level's effects, as statsmodels gives them; by group first if several."""
        by_group = {
            g: prediction.ranef_table(self.model, g, cond_sd=False) for g in self.formula.groups
        }
        by_level = {g: {level: t.loc[level] for level in t.index} for g, t in by_group.items()}
        return dict(_only(by_level))

    @property
    def random_effects_cov(self) -> dict[Any, Any]:
        """Each level's conditional covariance; by group first if there are several."""
        groups = self.formula.groups
        return dict(_only({g: prediction.ranef_covariances(self.model, g) for g in groups}))

    # ---------------------------------------------------------------- likelihood

    @property
    def deviance(self) -> float:
        """Twice the negative log-likelihood (REML: the REML criterion), all constants included."""
        return self.model.deviance

    @property
    def llf(self) -> float:
        """Log-likelihood, or restricted log-likelihood."""
        return -0.5 * self.deviance

    @property
    def aic(self) -> float:
        """Akaike's criterion, as lme4's: under REML of the REML criterion; NaN with priors."""
        return criteria.aic(self.model)

    @property
    def bic(self) -> float:
        """Schwarz's criterion, with the number of rows, as lme4's; NaN with priors."""
        return criteria.bic(self.model)

    # ---------------------------------------------------------------- fitted values

    @property
    def fittedvalues(self) -> pd.Series:
        """Mean of each row given the random effects, offset included."""
        return tables.fitted_values(self.model)

    @property
    def resid(self) -> pd.Series:
        """Response less fitted values."""
        return tables.residuals(self.model)

    def residuals(
        self,
        kind: Literal[
            "response", "pearson", "normalized", "deviance", "working", "quantile"
        ] = "response",
        *,
        rng: Any = None,
        n: int = 250,
        random: Literal["new", "fitted"] = "new",
    ) -> pd.Series:
        """
        Compute residuals of the rows used.

        Parameters
        ----------
        kind : {"response", "pearson", "normalized", "deviance", "working", "quantile"}
            Response less fitted value; that over its standard deviation, with dispersion and
            weights; the same of the part that a subject's earlier correlated residuals do not
            predict; the signed root of the row's part of :attr:`family_deviance`; on the scale of
            the linear predictor; or standard normal under the model whatever the family.
        rng : int or numpy.random.Generator, optional
            Seed or generator, for ``"quantile"``.
        n : int
            Number of simulated responses of each row, for ``"quantile"`` with new effects.
        random : {"new", "fitted"}
            For ``"quantile"``: compare the responses with ``n`` simulated with new random effects,
            which tests the whole model; or with the distribution at the conditional modes, which
            is exact and fast, but has residuals that are shrunk where levels have few rows.

        Returns
        -------
        pandas.Series
            With the index of the rows.

        References
        ----------
        .. [1] Dunn and Smyth (1996), Randomized quantile residuals, J. Comput. Graph. Stat. 5:236.
        .. [2] Hartig (2022), DHARMa: residual diagnostics for hierarchical regression models.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> herds = mfx.datasets.load("cbpp")
        >>> fit = mfx.glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", herds)
        >>> fit.residuals("pearson").round(3).head(2).tolist()
        [-1.34, 1.075]
        """
        return residuals_of_kind(self.model, kind, n=n, random=random, rng=rng)

    @renamed_argument("level", "conf_level")
    @explains_arguments(METHOD_ARGUMENTS)
    def predict(
        self,
        data: Any = None,
        *,
        random: str | Sequence[str] | None = None,
        new_levels: str = "error",
        which: str = "mean",
        average: str | None = None,
        interval: str | None = None,
        conf_level: float = 0.95,
        se: bool = False,
        to: Any = None,
    ) -> Any:
        """
        Predict the mean of the response, with standard errors and intervals.

        Parameters
        ----------
        data : DataFrame, optional
            New rows, with the columns of the formula's right side (with ``to`` also a source, as
            of :func:`~mixedfx.lmer`); without it, the fit's own.
        random : "all", "none" or list of str, optional
            Which groups' random effects to add to the fixed part; by default all, with ``average=``
            none. ``"Residual"``: other positions of a subject from its correlated residuals.
        new_levels : {"error", "population"}
            For levels that are not in the fit: raise an error, or take their effect as zero.
        which : {"mean", "linear", "probabilities", "conditional", "zero", "dispersion"}
            The response's mean, or its linear predictor with the offset; probabilities of ordered
            categories; the mean without a zero part, a zero's probability, the dispersion there.
        average : "population", optional
            Integrate effects not included (of groups left out of ``random``, of new levels) out of
            the mean. Without it they are zero: the mean is that of a typical level.
        interval : {"confidence", "prediction"}, optional
            For the mean of the row given its levels, or for a new response there. The second
            adds the distribution of the response about its mean (a residual variance of weight
            one in new rows, unless ``residual_sd`` or ``dispersion`` determine it) and the
            variance between levels where a level is new or its group is left out of ``random``.
        conf_level : float
            Coverage of the interval given the variance parameters; less with few levels.
        se : bool
            Whether to add the standard error of the mean, of coefficients and random effects
            jointly; after :func:`~mixedfx.glmer` of all parameters, as glmmTMB's.
        to : str, optional
            ``"polars"``, ``"pyarrow"``: a table; else new folder for Parquet files of the rows.

        Returns
        -------
        pandas.Series, pandas.DataFrame or Path
            With the rows' index; NaN where a needed column is missing. With ``interval`` or ``se``
            a table of ``predicted std_error conf_low conf_high``, of probabilities by category.

        Raises
        ------
        NewLevelError
            For unseen levels, with ``new_levels="error"``; names them.

        Notes
        -----
        With another link than the identity, standard errors are those of the linear predictor
        times the slope of the mean, and confidence limits are those of the linear predictor (of
        probabilities, of their logits), transformed. Limits of a prediction interval are quantiles
        of the predictive distribution: the family's, averaged over the normal error of the linear
        predictor; of a discrete response the smallest values whose probability is reached, so that
        they cover at least ``conf_level``.

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
        >>> herds = mfx.datasets.load("cbpp")
        >>> fit = mfx.glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", herds)
        >>> fit.predict({"period": ["1"], "herd": ["1"]}, interval="confidence").round(3)
           predicted  conf_low  conf_high
        0      0.308     0.175      0.483
        >>> fit.predict({"period": ["1"]}, average="population").round(3).tolist()
        [0.216]
        """
        check_flag("se", se)
        return tables.predict(
            self.model,
            data,
            to,
            random=random,
            new_levels=new_levels,
            which=which,
            average=average,
            interval=interval,
            conf_level=conf_level,
            se=se,
        )


def _only(by_group: dict[str, Any]) -> Any:
    """The only entry if there is one grouping factor, else the dict."""
    return next(iter(by_group.values())) if len(by_group) == 1 else by_group
