"""A fit's lines: each level's, partially pooled and alone, and the population's.

The other columns are held at the level's own mean or most frequent value, so that a line runs
through its points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx import plots
from mixedfx.design.build import rebuild
from mixedfx.errors import ArgumentError, expect_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.expansion import names_in, terms_of
from mixedfx.results.description import Description

Vector = npt.NDArray[np.float64]


def labels_of(fit: FittedModel, group: str) -> Any:
    """Give each row its level."""
    block = next(b for b in fit.design.blocks if b.group == group)
    return block.levels.labels.to_numpy(dtype=object)[block.codes]


def _columns_in(text: str, fit: FittedModel) -> list[str]:
    """The data's columns that a piece of patsy text reads, in order."""
    codes = [factor.name() for term in terms_of(text) for factor in term.factors]
    names = [name for code in codes for name in sorted(names_in(code), key=code.find)]
    return [name for name in dict.fromkeys(names) if name in fit.design.read]


def running(fit: FittedModel, group: str, x: str | None) -> str | None:
    """Choose the column that runs along the axis: the one asked for, or one that is worth it."""
    mine = [t.effects for t in fit.formula.random if t.group_name == group]
    texts = [*mine, fit.formula.fixed]
    possible = list(dict.fromkeys(name for text in texts for name in _columns_in(text, fit)))
    if x is not None:
        if not possible:
            raise ArgumentError(f"x={x!r} cannot run: '{fit.formula}' reads no column but groups.")
        expect_choice("x", x, possible)
        return x
    codes = next(b for b in fit.design.blocks if b.group == group).codes
    for name in possible:
        column = fit.design.read[name]
        if plots.is_number(column):
            grouped = column.groupby(codes)
            if (grouped.max() > grouped.min()).any():
                return name
    return None


def _containing(fit: FittedModel, group: str) -> list[str]:
    """Groups whose level follows from that of a group, itself among them."""
    mine = next(b for b in fit.design.blocks if b.group == group)
    found = []
    for block in fit.design.blocks:
        pairs = mine.codes.astype(np.int64) * len(block.levels) + block.codes
        if block.group not in found and len(np.unique(pairs)) == len(mine.levels):
            found.append(block.group)
    return found


def _is_coded(fit: FittedModel, x: str) -> bool:
    """Whether the formula makes a factor of a column, so that only its own values are known."""
    texts = [fit.formula.fixed, *(t.effects for t in fit.formula.random)]
    factors = {f.name() for text in texts for term in terms_of(text) for f in term.factors}
    return any(code.startswith("C(") and x in names_in(code) for code in factors)


def lines_of(
    results: Description, x: str | None, group: str, levels: int | Sequence[object] | None
) -> plots.Lines:
    """Compute the points and lines of some levels."""
    fit, design = results.model, results.model.design
    block = next(b for b in design.blocks if b.group == group)
    labels = block.levels.labels
    chosen = plots.some_levels(labels, levels, group=group, most=plots.MOST_LINES)
    place = np.full(len(labels), -1, dtype=np.intp)
    place[chosen] = np.arange(len(chosen))
    codes = place[block.codes]
    used = codes >= 0
    wanted = _containing(fit, group)
    factors = {f for b in design.blocks if b.group in wanted for f in b.term.group}
    own = set().union(*map(names_in, factors)) - {x}
    observed = x is not None and _is_coded(fit, x)
    offset = np.zeros(len(codes)) if design.offset is None else design.offset

    frame = design.frame
    rows, at = plots.grid(frame, codes, x=x, own=own, observed=observed)
    shift = np.bincount(codes[used], offset[used]) / np.bincount(codes[used])
    lines = _means(fit, rows, shift[at], wanted, _gaps(results, group))
    lines.insert(0, "level", labels.to_numpy(dtype=object)[chosen[at]])
    together = np.zeros(len(codes), dtype=np.intp)
    shared, one = plots.grid(frame, together, x=x, observed=observed)
    whole = _means(fit, shared, np.full(len(one), offset.mean()), [], {})[["population"]]
    response = design.response[used]
    points = pd.DataFrame({"level": labels_of(fit, group)[used], "response": response})
    if x is not None:
        points.insert(1, "x", frame[x].to_numpy()[used])
        lines.insert(1, "x", rows[x].to_numpy())
        lines["inside"] = _inside(lines, points)
        whole.insert(0, "x", shared[x].to_numpy())
    return plots.Lines(points, lines, whole, group, x, fit.formula.response, len(labels))


def _gaps(results: Description, group: str) -> dict[int, Any]:
    """Unpooled less partially pooled effects of each term of a group, (k, levels)."""
    table = results.pooling(group)
    gap = table["unpooled"] - table["partial"]
    found = {}
    for t, block in enumerate(results.model.design.blocks):
        if block.group != group:
            continue
        if gap.index.nlevels == 1:
            found[t] = gap.to_numpy()[None, :]
        elif gap.index.is_unique:
            found[t] = np.array([gap.xs(name, level="effect") for name in block.effects])
        else:  # an effect stands in two terms: neither is determined alone
            found[t] = np.full((len(block.effects), len(block.levels)), np.nan)
    return found


def _means(
    fit: FittedModel,
    rows: pd.DataFrame,
    offset: Vector,
    wanted: Sequence[str],
    gaps: dict[int, Any],
) -> pd.DataFrame:
    """Means of new rows: with the levels' effects, without, and with those unpooled."""
    _, X, values, codes = rebuild(fit.design, rows, groups=wanted)
    population = X @ fit.solution.beta + offset
    partial, gap = population.copy(), np.zeros(len(rows))
    for t, b in enumerate(fit.solution.conditional_modes()):
        if fit.design.blocks[t].group in wanted:
            partial += np.einsum("nk,kn->n", values[t], b[:, codes[t]])
        if t in gaps:
            gap += np.einsum("nk,kn->n", values[t], gaps[t][:, codes[t]])
    return pd.DataFrame({"partial": partial, "population": population, "unpooled": partial + gap})


def _inside(lines: pd.DataFrame, points: pd.DataFrame) -> Any:
    """Whether x is a value that the level has, or between two of them."""
    if plots.is_number(points["x"]):
        ends = points.groupby("level", observed=True)["x"].agg(["min", "max"])
        own = ends.reindex(lines["level"].to_numpy())
        x = lines["x"].to_numpy()
        return (x >= own["min"].to_numpy()) & (x <= own["max"].to_numpy())
    seen = set(zip(points["level"], points["x"], strict=True))
    return [pair in seen for pair in zip(lines["level"], lines["x"], strict=True)]
