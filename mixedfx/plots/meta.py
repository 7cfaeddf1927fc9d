"""Forest and funnel plots of meta-analyses."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from mixedfx.plots.axes import BLUE, DARK_GREY, GREY, VERMILION, despine, label_rows, subplots


def forest(analysis: Any, labels: list[str], *, conf_level: float, ax: Any = None) -> Any:
    """Plot the effects of the rows, the mean and the interval of a new effect."""
    model = analysis.fit.model
    y, se = model.rows.y, model.residual_sds
    z = float(special.ndtri(0.5 + 0.5 * conf_level))
    n, simple = len(y), not analysis.has_moderators
    (one,) = subplots(ax, 1, size=(6.4, 1.1 + 0.24 * (n + 2)), what="plot")
    at = np.arange(n)[::-1] + (2.0 if simple else 0.0)
    one.axvline(0.0, color=GREY, linewidth=1, zorder=1)
    one.hlines(at, y - z * se, y + z * se, color=DARK_GREY, linewidth=1, zorder=2)
    weight = 1.0 / (se**2 + float(np.sum(analysis.fit.vcomp)))
    one.scatter(y, at, s=12.0 + 60.0 * weight / weight.max(), marker="s", color=BLUE, zorder=3)
    positions, texts = list(at), list(labels)
    if simple:
        mean, error = float(analysis.fit.params.iloc[0]), z * float(analysis.fit.bse.iloc[0])
        new = analysis.prediction_interval(conf_level=conf_level)
        one.hlines(0.5, new["pred_low"], new["pred_high"], color=VERMILION, linewidth=1.2)
        corners = [(mean - error, 0.5), (mean, 0.85), (mean + error, 0.5), (mean, 0.15)]
        one.fill(*zip(*corners, strict=True), color=VERMILION, zorder=3)
        one.axvline(mean, color=VERMILION, linewidth=0.8, linestyle=":", zorder=1)
        positions, texts = [0.5, *positions], ["mean, and a new effect", *texts]
    label_rows(one, texts, "study")
    if len(one.get_yticks()):
        one.set_yticks(positions)
        one.set_yticklabels(texts)
    one.set_ylim(-0.4, max(positions) + 0.7)
    one.set_xlabel(f"{model.formula.response}, {100 * conf_level:g}% intervals")
    despine(one)
    return one


def funnel(analysis: Any, *, ax: Any = None) -> Any:
    """Plot effects against standard errors, the most precise at the top."""
    fit = analysis.fit
    model = fit.model
    simple = not analysis.has_moderators
    fixed = fit.predict(random="none").to_numpy()
    y, se = model.rows.y, model.residual_sds
    center = float(fit.params.iloc[0]) if simple else 0.0
    x = y if simple else y - fixed
    (one,) = subplots(ax, 1, size=(5.4, 4.2), what="plot")
    top, z = 1.08 * float(se.max()), float(special.ndtri(0.975))
    edges = [center - z * top, center, center + z * top]
    one.fill(edges, [top, 0.0, top], color=GREY, alpha=0.15, linewidth=0, zorder=0)
    one.plot(edges, [top, 0.0, top], color=GREY, linewidth=1, linestyle="--", zorder=1)
    one.axvline(center, color=VERMILION, linewidth=1, zorder=1)
    one.scatter(x, se, s=22, color=BLUE, zorder=3)
    one.set_ylim(top, 0.0)
    response = model.formula.response
    one.set_xlabel(response if simple else f"{response} less its mean by the moderators")
    one.set_ylabel("standard error")
    despine(one)
    return one
