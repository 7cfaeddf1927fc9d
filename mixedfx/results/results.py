"""A fit by its names: statsmodels' where statsmodels has one, lme4's beyond them.

``Results`` holds a :class:`~mixedfx.fit.Fit` and names what can be asked of it, by question:
what was estimated, what can be inferred, how good it is, how it looks. It does no arithmetic:
each name delegates to the function that does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixedfx.formatting import Summary
from mixedfx.inference.denominator_df import DfMethod
from mixedfx.results.description import Description
from mixedfx.results.plot import Plot

__all__ = ["Plot", "Results"]


@dataclass(frozen=True, repr=False)
class Results(Description):
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

    @property
    def plot(self) -> Plot:
        """Pictures of the fit, such as ``fit.plot.caterpillar()``; needs matplotlib."""
        return Plot(self)

    def summary(self, *, df_method: DfMethod = "satterthwaite") -> Summary:
        """
        Tables to print, or to show in a notebook.

        Parameters
        ----------
        df_method : {"satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom of the tests.

        Returns
        -------
        Summary
            ``str()`` lays it out in 80 columns.
        """
        design, search = self.model.design, self.model.optimizer_result
        if self.model.priors is not None:
            df_method = "normal"
        scaled = self.resid / self.sigma
        if design.weights is not None:
            scaled = scaled * np.sqrt(design.weights)
        quantiles = np.quantile(scaled, [0.0, 0.25, 0.5, 0.75, 1.0])
        groups = "; ".join(f"{name}, {count}" for name, count in self.ngroups.items())
        remark = self._degrees(df_method).remark
        return Summary(
            header=_header(self, search.engine, search.confirmed_by, df_method),
            residuals=pd.Series(quantiles, index=["Min", "1Q", "Median", "3Q", "Max"]),
            components=self.varcorr,
            counts=f"{self.nobs}" + (f"; groups: {groups}" if groups else ""),
            coefficients=_coefficients(self, df_method),
            notes=self.notes if remark is None else (*self.notes, remark),
            dispersion=None if self.model.dispersion is None else _dispersion(self),
        )

    def __repr__(self) -> str:
        """Name the model and its criterion."""
        criterion = _criterion(self) if self.model.priors is None else "mode of the posterior"
        return f"<mixedfx.Results: {self.formula}; {criterion}, {self.engine} engine>"

    def __str__(self) -> str:
        """Print the summary."""
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def _criterion(fit: Results) -> str:
    name = "REML criterion" if fit.reml else "deviance"
    found = fit.model.dispersion
    if found is not None and found.random is not None:
        name += " by Laplace's approximation"
    return f"{name} {fit.deviance:.4f}"


def _header(
    fit: Results, engine: str, confirmed_by: str | None, df_method: str
) -> list[tuple[str, str]]:
    method = "REML" if fit.reml else "maximum likelihood"
    if fit.model.priors is not None:
        method = "REML with priors"
    plain = not fit.ngroups and fit.model.dispersion is None and fit.model.priors is None
    if plain:
        method = "least squares"
    title = f"linear {'mixed model' if fit.ngroups else 'regression'}, fitted by {method}"
    told = engine if confirmed_by is None else f"{engine} (the {confirmed_by} engine agrees)"
    lines = [("Model", title), ("Formula", str(fit.formula))]
    if fit.model.dispersion is not None:
        lines.append(("Dispersion", str(fit.model.dispersion.design.formula)))
    if fit.model.known_sds:
        lines.append(("Residual", "standard deviations known"))
    lines.append(("Engine", told))
    if fit.model.priors is not None:
        lines.append(("Priors", _priors(fit.model.priors.by_name)))
        lines.append(("Criterion", "mode of the posterior; fit.sample() draws from it"))
        return [*lines, ("Tests", _TESTS["normal"])]
    tests = "residual" if plain and df_method != "normal" else df_method
    if plain and fit.model.known_sds:
        tests = "normal"
    criterion = f"{_criterion(fit)}; AIC {fit.aic:.1f}, BIC {fit.bic:.1f}"
    return [*lines, ("Criterion", criterion), ("Tests", _TESTS[tests])]


_TESTS = {
    "satterthwaite": "t, degrees of freedom by Satterthwaite's method",
    "kenward-roger": "t, degrees of freedom and standard errors by Kenward and Roger's method",
    "residual": "t, residual degrees of freedom",
    "normal": "z, normal distribution",
}


def _priors(given: Mapping[str, Any]) -> str:
    """Name the priors that were given."""
    shown = "; ".join(f"{name} ~ {prior}" for name, prior in given.items())
    return f"{shown}; others flat" if shown else "all flat"


def _dispersion(fit: Results) -> pd.DataFrame:
    names = {"estimate": "Estimate", "std_error": "Std. Error", "sd": "exp(Estimate)"}
    return fit.dispersion.rename_axis(None).rename(columns=names)


def _coefficients(fit: Results, df_method: DfMethod) -> pd.DataFrame:
    """Fixed effects as R prints them."""
    table = fit.tidy(df_method=df_method).set_index("term").rename_axis(None)
    letter = "z" if df_method == "normal" else "t"
    names = {
        "estimate": "Estimate",
        "std_error": "Std. Error",
        "df": "df",
        "statistic": f"{letter} value",
        "p_value": f"Pr(>|{letter}|)",
    }
    if df_method == "normal":
        del names["df"]
    return table[list(names)].rename(columns=names)
