"""Panels of ``fit.plot.check()``: what each shows of a fit's checks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx import plots
from mixedfx.inference.checks.checks import ALPHA, Checks, p_relation
from mixedfx.inference.checks.drawn import Covariate, DrawnFit
from mixedfx.inference.checks.modes import compared_modes, standardised_modes
from mixedfx.plots.check import (
    Panel,
    draw_against_category,
    draw_against_number,
    draw_normal_quantiles,
    draw_simulated,
)

Vector = npt.NDArray[np.float64]

_PANELS = 6
# Quartiles of a standard normal value, and of its absolute value.
_QUARTILES = np.array([-0.6744898, 0.0, 0.6744898])
_ABSOLUTE = np.array([0.3186394, 0.6744898, 1.1503494])


def check_panels(drawn: DrawnFit, checks: Checks) -> list[Panel]:
    """Six panels: of the distribution, the fitted values, the effects, and the worst covariates."""
    return list(islice(_in_order(_Page(drawn, checks)), _PANELS))


class _Page:
    """Residuals of the first draw, and rows of the table by what they are of."""

    def __init__(self, drawn: DrawnFit, checks: Checks) -> None:
        self.drawn, self.table = drawn, checks.table
        draw = drawn.draws[0]
        self.z = pd.Series(draw.z, index=drawn.fit.rows.index, name="quantile residual")
        self.mean = draw.residual.fitted_mean(draw.eta)
        self.effects = {modes.name for modes in standardised_modes(drawn)}
        n = drawn.fit.rows.n
        self.sample = f" {n:,} random rows." if drawn.is_sample else ""

    def rows(self, check: str) -> pd.DataFrame:
        """Rows of one check, the smallest p-value first."""
        return self.table[self.table["check"] == check].sort_values("p_value", kind="stable")

    def panel(self, title: str, rows: pd.DataFrame, draw: Any) -> Panel:
        """A panel of some rows of the table, whose first one its sentence is about."""
        row = rows.iloc[0]
        said = row["advice"].split("\n")[0].split(": ")[0].rstrip(".")
        fails = bool(row["p_adjusted"] < ALPHA)
        # A no-break space keeps the p-value in one line.
        p = p_relation(row["p_adjusted"]).replace(" ", "\u00a0")
        sentence = f"{said} ({p})." if fails and said else f"As the model says ({p})."
        of_levels = row["check"] == "conditional modes" or row["what"] in self.effects
        return Panel(title, sentence + ("" if of_levels else self.sample), fails, draw)

    def against(self, name: str, *, spread: bool) -> Any:
        """How residuals, or their absolute values, are drawn against a variable."""
        values = self.z.abs().rename("|quantile residual|") if spread else self.z
        at, y = _ABSOLUTE if spread else _QUARTILES, np.asarray(values, dtype=float)
        if name == "fitted":
            names = ("fitted mean", str(values.name))
            return partial(draw_against_number, x=self.mean, y=y, names=names, at=at)
        for covariate in self.drawn.covariates:
            if covariate.name == name:
                return against(covariate, values, at)
        factor = next(f for f in self.drawn.factors if f.name == name)
        levels = pd.CategoricalIndex(factor.labels, categories=factor.labels.unique())
        categories = pd.Series(levels[factor.codes], index=values.index, name=name)
        return partial(draw_against_category, values=values, categories=categories, at=at)


def _in_order(page: _Page) -> Iterator[Panel]:
    """All panels, the most telling first."""
    shape = pd.concat([page.rows("uniformity"), page.rows("normality"), page.rows("outliers")])
    shape = shape[shape["what"] == "residuals"]
    # The sentence is of the first that fails.
    shape = shape.sort_values("p_adjusted", key=lambda p: p >= ALPHA, kind="stable")
    values = partial(draw_normal_quantiles, values=page.z, ylabel="quantile residual")
    yield page.panel("Distribution of residuals", shape, values)
    means, spreads = page.rows("residuals"), page.rows("heteroscedasticity")
    of_fitted = means["what"] == "fitted"
    if of_fitted.any():
        draw = page.against("fitted", spread=False)
        yield page.panel("Residuals against fitted values", means[of_fitted], draw)
    yield from _of_responses(page)
    yield from _of_effects(page)
    others = pd.concat([means[~of_fitted], spreads, page.rows("conditional modes")])
    others = others.sort_values("p_value", kind="stable")
    for i, (check, what) in enumerate(zip(others["check"], others["what"], strict=True)):
        title, draw = _of_variable(page, check, what)
        yield page.panel(title, others.iloc[i:], draw)


def _of_variable(page: _Page, check: str, what: str) -> tuple[str, Any]:
    """Title, and how a row of the table about a variable is drawn."""
    if check == "conditional modes":
        modes, covariate = next(
            (modes, covariate)
            for modes, covariate in compared_modes(page.drawn)
            if what == f"{modes.name} by {covariate.name}"
        )
        labels = page.drawn.fit.spec.levels_of(modes.group).labels[modes.levels]
        values = pd.Series(modes.values[0] / modes.sd, index=labels, name="scaled effect")
        return f"Effects of {what}", against(covariate, values, _QUARTILES)
    spread = check == "heteroscedasticity"
    title = "Spread of residuals" if spread else "Residuals"
    return f"{title} by {what}", page.against(what, spread=spread)


def against(covariate: Covariate, values: pd.Series, at: Vector) -> Any:
    """How values are drawn against a covariate."""
    name = covariate.name
    if covariate.is_category:
        categories = covariate.column.set_axis(values.index).astype("category").rename(name)
        return partial(draw_against_category, values=values, categories=categories, at=at)
    x, y = covariate.column.to_numpy(dtype=float), np.asarray(values, dtype=float)
    return partial(draw_against_number, x=x, y=y, names=(name, str(values.name)), at=at)


def _of_responses(page: _Page) -> Iterator[Panel]:
    """Statistics of simulated responses, of families whose variance is no parameter alone."""
    drawn, rows = page.drawn, page.rows("dispersion")
    if len(rows) and not drawn.fit.spec.residual.estimates_sigma:
        names = ("mean square of Pearson residuals", "simulated responses")
        observed = float(drawn.dispersion.mean())
        draw = partial(draw_simulated, simulated=drawn.simulated[0], observed=observed, names=names)
        yield page.panel("Dispersion", rows, draw)
    rows = page.rows("zero-inflation")
    if len(rows):
        zeros = float((drawn.fit.rows.y == 0.0).sum())
        names = ("number of zeros", "simulated responses")
        draw = partial(draw_simulated, simulated=drawn.simulated[1], observed=zeros, names=names)
        yield page.panel("Zeros", rows, draw)


def _of_effects(page: _Page) -> Iterator[Panel]:
    """Normal quantiles of the effect that is the least normal."""
    rows = page.rows("normality")
    modes = {modes.name: modes for modes in standardised_modes(page.drawn)}
    rows = rows[rows["what"].isin(list(modes))]
    if not len(rows):
        return
    worst = modes[rows["what"].iloc[0]]
    effects = worst.values[0]
    labels = page.drawn.fit.spec.levels_of(worst.group).labels
    values = pd.Series((effects - effects.mean()) / effects.std(ddof=1), index=labels)
    draw = partial(draw_normal_quantiles, values=values, ylabel=f"effect of {worst.group}")
    yield page.panel(f"Effects of {worst.name}", rows, draw)


def draw_checks(drawn: DrawnFit, checks: Checks, ax: Any) -> Any:
    """Draw the page."""
    return plots.check(check_panels(drawn, checks), ax=ax)
