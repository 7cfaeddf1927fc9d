"""Results of the zero part of a generalised model, and its part of the summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from mixedfx._escaping import html_block
from mixedfx.errors import ArgumentError, brief, check_choice, check_flag
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formatting import Summary, Table, component_rows, format_p_value
from mixedfx.inference import intervals, prediction, varcorr, wald
from mixedfx.inference import vuong as vuong_tests
from mixedfx.inference.denominator_df import DenominatorDf, denominator_df
from mixedfx.inference.emmeans import emmeans as marginal_means
from mixedfx.inference.emmeans import response_means
from mixedfx.inference.profile import profile as profiles
from mixedfx.results.base import ResultsBase

if TYPE_CHECKING:
    from mixedfx.inference.emmeans.emmeans import EMMeans


@dataclass(frozen=True, repr=False)
class ZeroInflation:
    """
    Results of the zero part of a model: the logit of the probability of a zero.

    Parameters
    ----------
    model : FittedModel
        Design and estimates of the zero part, of the model's one likelihood.
    whole : FittedModel
        Those of the mean, with all parts.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> herds = mfx.datasets.load("cbpp")
    >>> fit = mfx.glmer("incidence ~ 1 + (1 | herd)", herds, "poisson", zero_inflation="~ 1")
    >>> fit.zero_inflation.params.index.tolist()
    ['Intercept']
    """

    model: FittedModel
    whole: FittedModel

    @property
    def _ddf(self) -> DenominatorDf:
        return denominator_df(self.model, "normal")

    @property
    def params(self) -> pd.Series:
        """Coefficients of the logit of the probability of a zero."""
        return wald.coefficients(self.model)

    @property
    def bse(self) -> pd.Series:
        """Their standard errors."""
        return wald.standard_errors(self.model)

    @property
    def zvalues(self) -> pd.Series:
        """Coefficients over their standard errors."""
        return (self.params / self.bse).rename("z value")

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values."""
        return self.tidy().set_index("term")["p_value"].rename_axis(None)

    def cov_params(self) -> pd.DataFrame:
        """
        Covariance of the coefficients.

        Returns
        -------
        pandas.DataFrame
            Of shape (p, p).
        """
        return wald.covariance(self.model)

    @property
    def varcorr(self) -> pd.DataFrame:
        """Variances and covariances of its random effects: ``group effect effect2 vcov sdcor``."""
        return varcorr.varcorr_table(self.model)

    @property
    def ngroups(self) -> dict[str, int]:
        """Number of levels of each of its grouping factors."""
        return self.model.spec.ngroups

    def ranef(self, group: str | None = None, *, cond_sd: Any = False) -> Any:
        """
        Conditional modes of its random effects.

        Parameters
        ----------
        group : str, optional
            A grouping factor; without it, all of them in a dict if there are several.
        cond_sd : bool or "joint"
            Whether to add standard deviations given the parameters, or with their uncertainty.

        Returns
        -------
        pandas.DataFrame or dict
            A row for each level.
        """
        check_flag("cond_sd", cond_sd if cond_sd != "joint" else True)
        groups = self.model.formula.groups
        if group is None and not groups:
            raise ArgumentError(
                "the zero part has no random effects: write zero_inflation='~ ... + (1 | group)'."
            )
        if group is not None:
            return prediction.ranef_table(self.model, group, cond_sd=cond_sd)
        found = {g: prediction.ranef_table(self.model, g, cond_sd=cond_sd) for g in groups}
        return next(iter(found.values())) if len(found) == 1 else found

    def conf_int(
        self,
        conf_level: float = 0.95,
        *,
        parm: str | Sequence[str] | None = None,
        method: Literal["wald", "profile"] = "wald",
    ) -> pd.DataFrame:
        """
        Confidence intervals.

        Parameters
        ----------
        conf_level : float
            Coverage.
        parm : str or list of str, optional
            Coefficients, and standard deviations such as ``"sd(Intercept | site)"``.
        method : {"wald", "profile"}
            By standard errors, or by the likelihood of all parts maximised over all other
            parameters.

        Returns
        -------
        pandas.DataFrame
            Indexed by parameter, columns 0 and 1, the limits.
        """
        check_choice("method", method, ("wald", "profile"))
        if method == "profile":
            return profiles.profile_intervals(
                self.whole, conf_level, parm, predictor="zero_inflation"
            )
        return intervals.wald_intervals(self.model, self._ddf, conf_level, parm)

    def profile(
        self, parm: str | Sequence[str] | None = None, *, zetas: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """
        Compute the profile likelihood of each parameter of the zero part.

        Parameters
        ----------
        parm, zetas
            As of :meth:`Results.profile`.

        Returns
        -------
        pandas.DataFrame
            ``parameter value zeta``.
        """
        return profiles.profile(self.whole, parm, zetas=zetas, predictor="zero_inflation")

    def tidy(self, *, conf_level: float = 0.95, exponentiate: bool = False) -> pd.DataFrame:
        """
        Tabulate the coefficients with z tests and intervals.

        Parameters
        ----------
        conf_level : float
            Coverage of the intervals.
        exponentiate : bool
            Whether to give odds ratios.

        Returns
        -------
        pandas.DataFrame
            ``term estimate std_error statistic df p_value conf_low conf_high``.
        """
        table = wald.tidy(self.model, self._ddf, conf_level=conf_level)
        return wald.exponentials(table) if exponentiate else table

    def emmeans(
        self,
        specs: str | Sequence[str],
        *,
        by: str | Sequence[str] | None = None,
        at: Any = None,
        which: str = "linear",
        conf_level: float = 0.95,
    ) -> EMMeans:
        """
        Marginal means of the logit, or of the probability, of a zero.

        Parameters
        ----------
        specs, by, at
            As of :meth:`Results.emmeans`.
        which : {"linear", "mean"}
            Log odds, or probabilities.
        conf_level : float
            Coverage of the intervals.

        Returns
        -------
        EMMeans
            With ``table`` and ``contrasts()``.
        """
        means = marginal_means.emmeans(
            self.model, self._ddf, specs, by=by, at=at, conf_level=conf_level
        )
        return response_means.on_scale(self.model, means, which, bias_adjust=False)

    def __repr__(self) -> str:
        """Coefficients, and standard deviations of random effects."""
        return "\n\n".join(str(table) for table in self._tables())

    def _repr_html_(self) -> str:
        parts = (f"<h4>{table.title}</h4>{table.to_html()}" for table in self._tables())
        return html_block("".join(parts))

    def _tables(self) -> list[Table]:
        return section(self.model, "Zero part")


def section(fit: FittedModel, title: str) -> list[Table]:
    """Tables of one further linear predictor."""
    tables = []
    components = varcorr.varcorr_table(fit)
    if len(components):
        tables.append(Table(f"{title}, random effects", component_rows(components)))
    if fit.crossprod.p:
        table = wald.tidy(fit, denominator_df(fit, "normal"), conf_level=0.95)
        shown = pd.DataFrame(
            {
                "Term": table["term"],
                "Estimate": [f"{v:.5f}" for v in table["estimate"]],
                "Std. Error": [f"{v:.5f}" for v in table["std_error"]],
                "z value": [f"{v:.2f}" for v in table["statistic"]],
                "Pr(>|z|)": [format_p_value(v) for v in table["p_value"]],
            }
        )
        tables.append(Table(title, shown))
    return tables


@dataclass(frozen=True)
class SeveralSummary(Summary):
    """
    Summary of a model with several linear predictors.

    Parameters
    ----------
    further : tuple of Table
        Tables of the predictors beside that of the mean.
    """

    further: tuple[Table, ...] = ()

    def __str__(self) -> str:
        """Lay the tables out, those of the further predictors before the notes."""
        before, mark, notes = super().__str__().partition("\n\nNotes:\n")
        return "\n\n".join([before, *map(str, self.further)]) + mark + notes

    __repr__ = __str__

    def tables(self) -> tuple[Table, ...]:
        """
        Split the summary into tables.

        Returns
        -------
        tuple of Table
            Those of a model with one predictor, then those of the others.
        """
        return (*super().tables(), *self.further)


class PredictorsMixin(ResultsBase):
    """Results of further linear predictors."""

    @property
    def zero_inflation(self) -> ZeroInflation:
        """
        Zero part of a model, with ``zero_inflation=``.

        ``params bse zvalues pvalues varcorr ranef() tidy() conf_int() emmeans()``; the fit's own
        are those of the conditional part.
        """
        part = self.model.residual.predictors.get("zero_inflation")
        if part is None:
            raise ArgumentError(
                "this fit has no zero part: fit with zero_inflation='~ 1', or '~ x + (1 | g)'."
            )
        return ZeroInflation(part, self.model)

    def vuong(self, other: Any) -> pd.DataFrame:
        """
        Compare with a fit of which neither is a special case of the other, by Vuong's test.

        Zero-inflated counts with plain ones, or with a hurdle model, of the same rows.

        Parameters
        ----------
        other : Results
            Another fit of :func:`~mixedfx.glmer` of the same response.

        Returns
        -------
        pandas.DataFrame
            A row without correction, and with those of AIC and BIC for the numbers of parameters:
            ``z``, positive where this fit is better; ``p_value``, one-sided, as of R's pscl;
            ``better``, ``"this"`` or ``"other"``.

        Raises
        ------
        ArgumentError
            If rows or responses differ, or there are several grouping factors: levels of one, or
            rows, are the independent units of the test.

        Notes
        -----
        A plain model is the limit of a zero-inflated one whose probabilities go to zero, where the
        test is not valid (Wilson 2015, Econ. Lett. 127:51): its z is then a description.

        References
        ----------
        .. [1] Vuong (1989), Econometrica 57:307.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> herds = mfx.datasets.load("cbpp")
        >>> plain = mfx.glmer("incidence ~ period", herds, "poisson")
        >>> zeros = mfx.glmer("incidence ~ period", herds, "poisson", zero_inflation="~ 1")
        >>> zeros.vuong(plain)["z"].round(2).tolist()
        [0.66, 0.26, -0.14]
        """
        if not isinstance(other, type(self)):
            raise ArgumentError(f"other={brief(other)} must be a fit, the result of glmer().")
        return vuong_tests.vuong(self.model, other.model)


def further_sections(fit: FittedModel) -> tuple[Table, ...]:
    """Tables of all further predictors."""
    titles = {
        "zero_inflation": "Zero part (logit)",
        "dispersion": f"Log {fit.spec.family.dispersion_param}",
    }
    parts = fit.residual.predictors.items()
    return tuple(table for name, part in parts for table in section(part, titles[name]))
