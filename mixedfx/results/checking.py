"""Whether the model fits: checks of the residuals and of the conditional modes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mixedfx._other_programs import METHOD_ARGUMENTS, explains_arguments
from mixedfx.inference.checks import checks
from mixedfx.results.base import ResultsBase

if TYPE_CHECKING:
    from mixedfx.inference.checks.checks import Checks


class CheckingMixin(ResultsBase):
    """Checks of a fit."""

    @explains_arguments(METHOD_ARGUMENTS)
    def check(self, *, rng: Any = 0, n_sim: int = 250) -> Checks:
        """
        Check whether the model fits: distribution, residuals and conditional modes.

        Parameters
        ----------
        rng : numpy.random.Generator or int
            Source of randomness, or its seed.
        n_sim : int
            Number of responses that are simulated, of which the dispersion is compared; a row is
            an outlier where it is beyond what so many would reach.

        Returns
        -------
        Checks
            ``table`` has a row for each check, ``failed`` those that fail; ``notes`` says, where
            rows were read in chunks, which ones were looked at.

        Raises
        ------
        RowsNotInMemory
            If the fit has no rows and did not read them in chunks.
        SizeError
            If crossed factors of rows in chunks are too large for an exact factorisation.

        Notes
        -----
        =================== =================================================================
        dispersion          mean square of the Pearson residuals, against simulated responses
        zero-inflation      zeros of a count, against their number under the model
        outliers            rows beyond the range of ``n_sim`` responses, and the farthest row
        uniformity          of the quantile residuals, by Kolmogorov and Smirnov
        normality           of quantile residuals and effects, by Anderson and Darling
        residuals           their mean by fitted values, covariates and groups: F tests
        heteroscedasticity  their spread by the same
        autocorrelation     of neighbours within a group, where its rows have an order
        conditional modes   effects of levels by covariates of the levels: F tests
        =================== =================================================================

        Residuals are randomised quantile residuals given the random effects, and coefficients and
        effects are not at their estimates, but drawn from their distribution given the data:
        under the model such residuals are independent standard normal and such effects normal,
        which residuals about the conditional modes are not. P-values of 20 draws (fewer of many
        rows) are combined. ``p_adjusted`` is adjusted for the number of checks (false discovery
        rate). Where the variance of the response has a parameter of its own, its dispersion is
        right by construction.

        References
        ----------
        .. [1] Hartig (2022), DHARMa: residual diagnostics for hierarchical regression models.
        .. [2] Dunn and Smyth (1996), J. Comput. Graph. Stat. 5:236.
        .. [3] Waagepetersen (2006), Scand. J. Stat. 33:721.
        .. [4] Johnson (2004), Ann. Stat. 32:2361.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> crash = mfx.datasets.load("appcrash")
        >>> fit = mfx.glmer("crashes ~ version + (1 | device)", crash, family="poisson")
        >>> checks = fit.check()
        >>> checks.table.loc[0, ["check", "what"]].tolist(), bool(checks.table.p_value[0] < 0.001)
        (['dispersion', 'response'], True)
        """
        return checks.check(self.model, rng=rng, n_sim=n_sim)
