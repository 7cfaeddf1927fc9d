"""Distribution of the response around its mean: family, residual standard deviation, dispersion."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixedfx.families.family import Family
from mixedfx.inference import (
    dispersion_table,
    family_estimates,
    intervals,
    residual_covariance,
)
from mixedfx.results.base import ResultsBase


class DistributionMixin(ResultsBase):
    """Family, its parameters, and the residual standard deviation."""

    @property
    def sigma(self) -> float:
        """
        Residual standard deviation of a row of weight one, in units of the response.

        It is 1 where the standard deviations are known; with a dispersion formula, it is that of
        a row where all columns of the formula but the intercept are zero. Of a generalised model
        it is the square root of :attr:`scale`, as R's ``sigma``.
        """
        return family_estimates.sigma(self.model)

    @property
    def scale(self) -> float:
        """
        Residual variance of a row of weight one.

        Of a generalised model the family's dispersion, as in statsmodels: ``sigma**2`` of a normal
        response, ``phi`` of a gamma or inverse normal one, 1 of all others.
        """
        return self.sigma**2

    @property
    def family(self) -> Family:
        """Distribution of the response, with its link; normal of a linear model."""
        return self.model.spec.family

    @property
    def family_params(self) -> pd.Series:
        """
        Parameters of the distribution beside its mean, by name.

        ``alpha`` of a negative binomial, whose variance is ``mu + alpha mu**2`` (``nbinom2``, R's
        theta is ``1 / alpha``) or ``mu (1 + alpha)`` (``nbinom1``); ``phi`` of a gamma or inverse
        normal response, of variance ``phi mu**2`` or ``phi mu**3``; ``phi`` of a beta response,
        of variance ``mu (1 - mu) / (1 + phi)``, and of a beta-binomial one, of variance ``n mu
        (1 - mu) (phi + n) / (phi + 1)``; ``sigma`` of a normal one, and with ``df`` of Student's.
        """
        return family_estimates.family_params(self.model)

    @property
    def family_deviance(self) -> float:
        """
        Deviance of the responses about their fitted means: the sum of squared deviance residuals.

        It is what R's ``deviance(glmer(...))`` gives, at the conditional modes;
        :attr:`deviance` is -2 log-likelihood. Of a linear model, the weighted sum of squares of
        the residuals.
        """
        return family_estimates.family_deviance(self.model)

    @property
    def residual_sd(self) -> pd.Series:
        """Residual standard deviation of each row, in units of the response."""
        sds = self.model.residual.residual_sds(self.model.residual_sds)
        return pd.Series(sds.copy(), index=self.model.rows.index, name="residual_sd")

    def residual_cov(self) -> pd.DataFrame | dict[Any, pd.DataFrame]:
        """
        Covariance of the residuals of a subject, with ``residual="us(visit | patient)"``.

        Returns
        -------
        pandas.DataFrame or dict
            Absolute variances and covariances at all positions, labelled by them, of rows of
            weight one; a dict by stratum where each has its own, ``us(visit | arm / patient)``.

        Raises
        ------
        ArgumentError
            If residuals are independent.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> trial = mfx.datasets.load("trial")
        >>> fit = mfx.lmer("score ~ arm * visit", trial, residual="cs(visit | patient)")
        >>> fit.residual_cov().iloc[:2, :2].round(1)
        visit  week2  week4
        visit
        week2   82.7   52.2
        week4   52.2   82.7
        """
        return residual_covariance.covariance_tables(self.model)

    def residual_correlation(self) -> pd.DataFrame:
        """
        Tabulate the fitted and the empirical correlation of each two positions.

        Returns
        -------
        pandas.DataFrame
            ``stratum first second distance fitted empirical n``: the correlation of the model, the
            mean product of the residuals over their fitted standard deviations, and the number of
            subjects with both positions.

        Raises
        ------
        ArgumentError
            If residuals are independent.
        """
        return residual_covariance.correlation_table(self.model)

    @property
    def cov_params_random(self) -> pd.DataFrame:
        """
        Covariance of the standard deviations, correlations and ranges as they are reported.

        By the observed information of the criterion, with the delta method; square roots of the
        diagonal are their standard errors. NaN for a parameter on the boundary.
        """
        return intervals.covariance_of_random_parameters(self.model)

    @property
    def dispersion(self) -> pd.DataFrame:
        """
        Coefficients of the log residual standard deviation, with ``dispersion=``.

        A row per coefficient, ``estimate std_error sd``: ``sd`` is the exponential of the
        estimate, a standard deviation for the intercept and a ratio for the others. Last, with
        a random term, the standard deviation between its levels. Of a generalised model the
        coefficients are of the logarithm of the family's first parameter, ``alpha``, ``phi`` or
        ``sigma``, which the last column is named after; for ``nbinom2`` they are glmmTMB's with the
        sign changed, whose dispersion is ``1 / alpha``.
        """
        return dispersion_table.dispersion_coefficients(self.model)

    def dispersion_ranef(self) -> Any:
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
        return dispersion_table.dispersion_effects(self.model)
