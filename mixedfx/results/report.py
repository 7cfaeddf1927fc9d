"""A paragraph for the paper: what was fitted, to what, and what was found."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal, cast

import numpy as np
import pandas as pd

from mixedfx.errors import ArgumentError, check_choice, check_share
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference import varcorr, wald
from mixedfx.inference import variance_explained as shares_of_variance
from mixedfx.inference.denominator_df import DenominatorDf, DfMethod
from mixedfx.results.base import ResultsBase

_METHODS = {
    "satterthwaite": "Satterthwaite's degrees of freedom",
    "kenward-roger": "Kenward and Roger's degrees of freedom and standard errors",
    "kenward-roger-linear": "Kenward and Roger's degrees of freedom and standard errors",
    "residual": "residual degrees of freedom",
}


class ReportMixin(ResultsBase):
    """Text of a fit for a paper."""

    def report(
        self,
        *,
        df_method: DfMethod = "auto",
        conf_level: float = 0.95,
        style: Literal["text", "markdown"] = "text",
    ) -> str:
        """
        Write a paragraph on the fit, in APA style.

        Parameters
        ----------
        df_method : {"auto", "satterthwaite", "kenward-roger", "residual", "normal"}
            Degrees of freedom of the tests.
        conf_level : float
            Coverage of the intervals.
        style : {"text", "markdown"}
            Whether symbols of statistics are italic by asterisks.

        Returns
        -------
        str
            How the model was fitted and to what, each fixed effect with its test and interval,
            the standard deviations of the random effects, and R squared where it is defined. It
            says what was estimated and tested, and judges nothing.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> sleep = mfx.datasets.load("sleepstudy")
        >>> fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> print(fit.report().split(". ")[-1])
        The fixed part accounts for R² = .28 of the variance, and with the random effects R² = .80.
        """
        check_choice("style", style, ("text", "markdown"))
        check_share("conf_level", conf_level)
        if self.model.priors.specified:
            raise ArgumentError("report() is of fits by likelihood; this one has priors.")
        ddf = self._denominator_df(df_method)
        parts = [
            _how(self.model, ddf),
            *_effects(self.model, ddf, conf_level, style),
            *_random(self.model, style),
            *_explained(self.model, style),
        ]
        if not self.model.optimizer_result.converged:
            parts.append("The search did not converge, so that these numbers are no estimates.")
        return " ".join(parts)

    def citation(self) -> str:
        """
        Text to cite the software by, with what it fits models by.

        Returns
        -------
        str
            Name and version of the package, and of statsmodels where that fitted the model.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
        >>> fit.citation().startswith("mixedfx (version ")
        True
        """
        text = f"mixedfx (version {version('mixedfx')}), mixed-effects regression for Python"
        if self.model.optimizer_result.engine == "statsmodels":
            text += (
                f", with statsmodels (version {version('statsmodels')}; Seabold and Perktold 2010, "
                "Statsmodels: econometric and statistical modeling with Python, Proc. 9th Python "
                "in Science Conf.)"
            )
        return f"{text}."


def _how(model: FittedModel, ddf: DenominatorDf) -> str:
    """Model, method, rows and levels."""
    residual, spec = model.spec.residual, model.spec
    kind = f"{residual.kind} mixed model" if spec.ngroups else residual.kind_without_effects
    method = "restricted maximum likelihood" if model.reml else "maximum likelihood"
    family = "" if residual.linear else f", with the family {spec.family}"
    text = f"A {kind}{family} was fitted by {method} to {model.nobs:,} observations"
    levels = [f"{count:,} levels of {name}" for name, count in spec.ngroups.items()]
    text += f" of {_listed(levels)}" if levels else ""
    text += f": {model.formula_text}."
    tests = "z tests" if ddf.name == "normal" else f"t tests have {_METHODS[ddf.name]}"
    return f"{text} {tests[0].upper()}{tests[1:]}" + (
        " are Wald's." if ddf.name == "normal" else "."
    )


def _effects(model: FittedModel, ddf: DenominatorDf, conf_level: float, style: str) -> list[str]:
    """A sentence for each coefficient."""
    table = wald.tidy(model, ddf, conf_level=conf_level)
    linear = model.spec.residual.linear
    ratio = None if linear else model.spec.family.ratio
    sentences, rows = [], cast(Any, table.itertuples())
    for row in rows:
        if np.isnan(row.estimate):
            continue
        name = "The intercept" if row.term == "Intercept" else f"The coefficient of {row.term}"
        b, low, high = (_number(v) for v in (row.estimate, row.conf_low, row.conf_high))
        text = f"{name} was {_symbol('b', style)} = {b}, {_symbol('SE', style)} = "
        text += f"{_number(row.std_error)}, {100 * conf_level:g}% CI [{low}, {high}], "
        df = "" if np.isinf(row.df) else f"({row.df:.1f})"
        letter = _symbol("z" if np.isinf(row.df) else "t", style)
        text += f"{letter}{df} = {row.statistic:.2f}, {_p_value(row.p_value, style)}"
        if ratio is not None and row.term != "Intercept":
            with np.errstate(over="ignore"):  # infinite, where the data separate
                text += f" ({ratio.replace('_', ' ')} {_number(np.exp(row.estimate))})"
        sentences.append(f"{text}.")
    return sentences


def _random(model: FittedModel, style: str) -> list[str]:
    """Standard deviations and correlations of the random effects and of the residual."""
    table = varcorr.varcorr_table(model)
    parts, rows = [], cast(Any, table.itertuples())
    for row in rows:
        if row.group == "Residual":
            if pd.isna(row.effect) and pd.isna(row.effect2):
                parts.append(f"{_symbol('SD', style)} = {_number(row.sdcor)} of the residuals")
        elif pd.isna(row.effect2):
            what = "intercepts" if row.effect == "Intercept" else f"slopes of {row.effect}"
            parts.append(f"{_symbol('SD', style)} = {_number(row.sdcor)} of {what} by {row.group}")
        elif row.effect2 in table["effect"].to_numpy():
            pair = f"{row.effect} and {row.effect2}".replace("Intercept", "intercepts")
            parts.append(f"{_symbol('r', style)} = {_share(row.sdcor)} between {pair}")
    return [f"The random part had {_listed(parts)}."] if parts else []


def _explained(model: FittedModel, style: str) -> list[str]:
    """Marginal and conditional R squared, where they are defined."""
    try:
        found = shares_of_variance.variance_explained(model).r2
    except (ArgumentError, NotImplementedError):
        return []
    if not np.isfinite(found.to_numpy(dtype=float)).all():
        return []
    marginal, conditional = (_share(found[name]) for name in ("marginal", "conditional"))
    R2 = "*R*²" if style == "markdown" else "R²"
    return [
        f"The fixed part accounts for {R2} = {marginal} of the variance, and with the random "
        f"effects {R2} = {conditional}."
    ]


def _number(value: float) -> str:
    """Two decimals, or three significant digits of small numbers."""
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0.0 else f"{value:.3g}"


def _share(value: float) -> str:
    """A number that cannot exceed one, without its leading zero."""
    return f"{value:.2f}".replace("0.", ".", 1)


def _p_value(p: float, style: str) -> str:
    symbol = _symbol("p", style)
    return f"{symbol} < .001" if p < 0.001 else f"{symbol} = {p:.3f}".replace("0.", ".", 1)


def _symbol(text: str, style: str) -> str:
    return f"*{text}*" if style == "markdown" else text


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
