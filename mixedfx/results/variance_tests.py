"""Exact tests of variances."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixedfx._other_programs import METHOD_ARGUMENTS, explains_arguments
from mixedfx.inference import rlrt
from mixedfx.results.base import ResultsBase


class VarianceTestsMixin(ResultsBase):
    """Exact tests of variances."""

    @explains_arguments(METHOD_ARGUMENTS)
    def rlrt(self, term: str | None = None, *, n_sim: int = 10_000, rng: Any = 0) -> pd.Series:
        """
        Test that a variance is zero, by the exact distribution of the restricted likelihood ratio.

        Parameters
        ----------
        term : str, optional
            A random term with one effect, ``"(1 | Subject)"``, or its grouping factor where that
            has one term; not needed where there is one term only.
        n_sim : int
            Draws of the statistic without the effect.
        rng : numpy.random.Generator or int, optional
            Source of randomness, or its seed.

        Returns
        -------
        pandas.Series
            ``statistic p_value n_sim``.

        Raises
        ------
        ArgumentError
            If the term has several effects, or the fit is not REML.

        Notes
        -----
        Exact for models with this one random term. Beside others it is that of the rows without
        their effects, an approximation, as of R's RLRsim; the mixture of chi-squared distributions
        of :meth:`ranova` is conservative with few levels.

        References
        ----------
        .. [1] Crainiceanu and Ruppert (2004), J. R. Stat. Soc. B 66:165.
        .. [2] Scheipl, Greven and Kuechenhoff (2008), Comput. Stat. Data Anal. 52:3283.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
        >>> fit.rlrt().round(3)
        statistic        6.369
        p_value          0.006
        n_sim        10000.000
        Name: (1 | Batch), dtype: float64
        """
        return rlrt.exact_rlrt(self.model, term, n_sim, rng)
