"""How good a fit is: shares of variance, influence, collinearity, the rank it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from mixedfx.design.columns import as_frame
from mixedfx.errors import ArgumentError, expect_choice
from mixedfx.estimation.prediction_variance import leverage
from mixedfx.inference import influence as influences
from mixedfx.inference import variance_explained
from mixedfx.inference.shrinkage import pooling
from mixedfx.results.inference import Inference


@dataclass(frozen=True, repr=False)
class Diagnostics(Inference):
    """
    Summaries of how well a fit describes its data.

    Parameters
    ----------
    fit : Fit
        The fit that it names.
    """

    @property
    def icc(self) -> pd.Series:
        """
        Intraclass correlation: each group's share of what the fixed part leaves, and the total.

        With random slopes a group's variance is its mean over the rows.
        """
        return variance_explained.variance_shares(self.model).icc

    @property
    def r2(self) -> pd.Series:
        """
        Nakagawa's R squared: ``marginal`` of the fixed part, ``conditional`` with the random one.

        With random slopes a group's variance is its mean over the rows (Johnson 2014).
        """
        return variance_explained.variance_shares(self.model).r2

    def pooling(self, group: str | None = None) -> pd.DataFrame:
        """
        Show each level's estimate without, with partial and with complete pooling.

        Parameters
        ----------
        group : str, optional
            A grouping factor; the first of the formula without it.

        Returns
        -------
        pandas.DataFrame
            Indexed by level, and by effect if there are several: ``n`` rows; ``unpooled``, the
            level's rows alone, all else held (coefficients and the effects of other groups,
            those of groups within it too); ``pooled``, the fixed effect; ``partial``, the
            model's; ``weight`` of the level's own evidence, all else held; ``cond_sd``, with
            nothing held.

        Notes
        -----
        For a random intercept ``partial = weight * unpooled + (1 - weight) * pooled``, with
        ``weight = s**2 / (s**2 + sigma**2 / n)``.

        References
        ----------
        .. [1] Gelman and Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical
           Models, equation 12.1.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
        >>> fit.pooling("Batch").round(2).head(2)
               n  unpooled  pooled  partial  weight  cond_sd
        Batch
        A      5    1505.0  1527.5  1509.89    0.78    19.59
        B      5    1528.0  1527.5  1527.89    0.78    19.59
        """
        chosen = group if group is not None else next(iter(self.formula.groups), "")
        return pooling(self.model, chosen)

    def glance(self) -> pd.DataFrame:
        """
        Sum the fit up in one row.

        Returns
        -------
        pandas.DataFrame
            ``nobs sigma llf aic bic deviance df_resid icc r2_marginal r2_conditional``.

        References
        ----------
        .. [1] Nakagawa and Schielzeth (2013), Methods Ecol. Evol. 4:133.
        .. [2] Johnson (2014), Methods Ecol. Evol. 5:944.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.glance()[["nobs", "sigma", "icc", "r2_marginal", "r2_conditional"]].round(3)
           nobs   sigma    icc  r2_marginal  r2_conditional
        0   180  25.592  0.722        0.279           0.799
        """
        shares = variance_explained.variance_shares(self.model)
        row = {
            "nobs": self.nobs,
            "sigma": self.sigma,
            "llf": self.llf,
            "aic": self.aic,
            "bic": self.bic,
            "deviance": self.deviance,
            "df_resid": self.df_resid,
            "icc": shares.icc.iloc[-1],
            "r2_marginal": shares.r2["marginal"],
            "r2_conditional": shares.r2["conditional"],
        }
        return pd.DataFrame([row])

    def augment(self, data: Any = None) -> pd.DataFrame:
        """
        Put fitted values and residuals beside the data.

        Parameters
        ----------
        data : pandas.DataFrame, optional
            The table that was fitted, to have all its columns and rows; without it, the
            columns that the formula reads, in the rows used.

        Returns
        -------
        pandas.DataFrame
            The data with ``fitted`` (random effects included), ``resid``, ``fixed`` (fitted
            without them) and ``hat`` (leverage); NaN in rows that were not used.

        Raises
        ------
        ArgumentError
            If the data have columns of these names already, or do not hold the rows used.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.augment().round(2).head(2)
           Reaction  Days Subject  fitted  resid   fixed   hat
        0    249.56   0.0     308  253.66  -4.10  251.41  0.23
        1    258.70   1.0     308  273.33 -14.63  261.87  0.17
        """
        index = self.model.design.index
        made = pd.DataFrame(
            {
                "fitted": self.fittedvalues,
                "resid": self.resid,
                "fixed": self.predict(random="none"),
                "hat": leverage(self.model),
            },
            index=index,
        )
        table = self.model.design.frame if data is None else as_frame(data)
        taken = [name for name in made if name in table]
        if taken:
            raise ArgumentError(
                f"the data have a column named '{taken[0]}' already; rename it, or join "
                "fit.fittedvalues and fit.resid yourself."
            )
        if data is None:
            return pd.concat([table, made], axis=1)
        if not (table.index.is_unique and index.isin(table.index).all()):
            raise ArgumentError("the data's index does not hold each row that was fitted, once.")
        return table.join(made)

    def influence(
        self, of: str = "obs", *, method: Literal["one_step", "refit"] = "one_step"
    ) -> pd.DataFrame:
        """
        Measure what single rows, or the levels of a group, do to the fit.

        Parameters
        ----------
        of : str
            ``"obs"`` for rows, or a grouping factor.
        method : {"one_step", "refit"}
            For levels: one Newton step from the optimum, or a whole fit without each.

        Returns
        -------
        pandas.DataFrame
            For rows ``hat resid std_resid cooks_distance``. For levels ``nobs``,
            ``cooks_distance`` and the change of each estimate on leaving the level out.

        Raises
        ------
        ArgumentError
            If ``of`` is neither; lists the groups.

        References
        ----------
        .. [1] Demidenko and Stukel (2005), Influence analysis for linear mixed-effects models,
           Stat. Med. 24:893.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.influence("Subject")["Days"].round(2).head(2)
        Subject
        308   -0.66
        309    0.48
        Name: Days, dtype: float64
        """
        expect_choice("method", method, ("one_step", "refit"))
        expect_choice("of", of, ("obs", *self.formula.groups))
        if of in self.formula.groups:
            return influences.of_levels(self.model, of, method)
        return influences.of_rows(self.model)

    def vif(self) -> pd.DataFrame:
        """
        Measure how much each term's variance is inflated by correlation with the others.

        Returns
        -------
        pandas.DataFrame
            Indexed by term: ``vif`` (generalised for several columns), ``df``, ``scaled``.

        References
        ----------
        .. [1] Fox and Monette (1992), J. Am. Stat. Assoc. 87:178.
        """
        return variance_explained.vif(self.model)

    def rank_pca(self) -> dict[str, pd.DataFrame]:
        """
        Find how many dimensions each group's random effects have.

        Returns
        -------
        dict of str to pandas.DataFrame
            By group, a row per principal component: ``sd``, ``variance`` (share), and
            ``cumulative``.

        References
        ----------
        .. [1] Bates, Kliegl, Vasishth and Baayen (2015), arXiv:1506.04967.
        """
        return variance_explained.rank_pca(self.model)
