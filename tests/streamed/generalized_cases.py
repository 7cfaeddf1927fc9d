"""Generalised models of rows that do not merge, in memory and in chunks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.likelihood.stream import row_blocks

N = 500


@cache
def table() -> pd.DataFrame:
    """Responses of each kind with crossed groups and a continuous predictor; a row with a gap."""
    rng = np.random.default_rng(3)
    g, h, x = rng.integers(0, 12, N), rng.integers(0, 8, N), rng.normal(size=N)
    eta = 0.3 + 0.5 * x + 0.6 * rng.normal(size=12)[g] + 0.4 * rng.normal(size=8)[h]
    p = 1.0 / (1.0 + np.exp(-eta))
    frame = pd.DataFrame({"g": g, "h": h, "x": x, "f": rng.choice(list("abc"), N)})
    frame["o"], frame["w"] = 0.1 * rng.normal(size=N), rng.integers(1, 4, N)
    frame["yes"] = (rng.random(N) < p).astype(int)
    frame["text"] = np.where(frame["yes"] == 1, "won", "lost")
    frame["k"] = rng.binomial(6, p)
    frame["m"] = 6 - frame["k"]
    frame.loc[7, ["k", "m"]] = 0
    frame["share"] = (frame["k"] / 6).where(frame["k"] + frame["m"] > 0, 0.0)
    frame["six"] = 6
    frame["count"] = rng.poisson(np.exp(eta))
    frame["amount"] = rng.gamma(2.0, np.exp(eta) / 2.0)
    frame["part"] = rng.beta(2.0, 3.0, N)
    latent = eta + rng.logistic(size=N)
    frame["grade"] = pd.cut(latent, [-99.0, -1.0, 0.0, 1.0, 99.0], labels=list("abcd"))
    frame.loc[11, "x"] = np.nan
    return frame


# Formula, family and arguments of glmer.
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "binary": ("yes ~ x + (x | g)", "binomial", {}),
    "crossed": ("yes ~ x + f + (x | g) + (1 | h)", "binomial", {}),
    "nested": ("text ~ x + (1 | h/g)", "binomial", {}),
    "successes": ("cbind(k, m) ~ x + (1 | g) + (1 | h)", "binomial", {}),
    "trials": ("share ~ x + (1 | g)", "binomial", {"weights": "six"}),
    "cauchit": ("yes ~ x + (1 | g)", "binomial", {"link": "cauchit"}),
    "counts": ("count ~ x * f + (x || g)", "poisson", {"offset": "o"}),
    "weights": ("amount ~ scale(x) + (1 | g)", "gamma", {"link": "log", "weights": "w"}),
    "identity": ("amount ~ f + (1 | g)", "gaussian", {"link": "log"}),
    "expression": ("np.log(amount) ~ x + offset(o) + (1 | g)", "gaussian", {}),
    "shares": ("part ~ x + (1 | g)", "beta", {}),
    "ordered": ("grade ~ x + (1 | g) + (1 | h)", "cumulative", {}),
    "dispersed": ("count ~ x + (1 | g)", "nbinom2", {}),
    "overdispersed": ("cbind(k, m) ~ x + (1 | g)", "betabinomial", {}),
    "no effects": ("count ~ x + f", "poisson", {}),
    "no columns": ("yes ~ 0 + (0 + x | g)", "binomial", {}),
}


def with_small_blocks(patch: pytest.MonkeyPatch) -> None:
    """Blocks of fewer rows than the table has."""
    patch.setattr(row_blocks, "_LEAST_ROWS", 90)
    patch.setattr(row_blocks, "_MOST_ROWS", 90)


def fitted(name: str, data: Any, **options: Any) -> mfx.Results:
    formula, family, arguments = MODELS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that rows are left out, that a variance is zero
        return mfx.glmer(formula, data, family, **arguments, **options)


@cache
def in_memory(name: str) -> mfx.Results:
    return fitted(name, table())


def in_chunks(cuts: list[int]) -> Any:
    def rows() -> Iterator[pd.DataFrame]:
        for start, stop in pairwise([0, *sorted(set(cuts)), N]):
            yield table().iloc[start:stop]

    return rows
