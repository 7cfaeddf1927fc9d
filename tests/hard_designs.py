"""Data on which searches of generalised models fail, each from a seed of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special


@dataclass(frozen=True)
class Hard:
    """A model and its data."""

    formula: str
    data: pd.DataFrame
    family: str
    link: str | None = None


def _groups(levels: int, rows: int, seed: int):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(levels), rows)
    return rng, g, rng.normal(size=len(g)), rng.normal(size=levels)


def _zeros_and_ones(rng, probability):
    return (rng.random(len(probability)) < probability).astype(float)


def _binary(seed, sd, link="logit", formula="y ~ x + (1 | g)", levels=60, rows=6) -> Hard:
    rng, g, x, u = _groups(levels, rows, seed)
    y = _zeros_and_ones(rng, special.expit(x + sd * u[g]))
    return Hard(formula, pd.DataFrame({"y": y, "x": x, "g": g}), "binomial", link)


def _nearly_separated() -> Hard:
    rng, g, x, _ = _groups(20, 10, 3)
    y = (x + 0.15 * rng.normal(size=len(x)) > 0).astype(float)
    return Hard("y ~ x + (1 | g)", pd.DataFrame({"y": y, "x": x, "g": g}), "binomial")


def _unbalanced() -> Hard:
    rng = np.random.default_rng(4)
    g = np.concatenate([np.zeros(300, int), np.arange(1, 50)])
    x, u = rng.normal(size=len(g)), 1.5 * rng.normal(size=50)
    y = _zeros_and_ones(rng, special.expit(x + u[g]))
    return Hard("y ~ x + (1 | g)", pd.DataFrame({"y": y, "x": x, "g": g}), "binomial")


def _counts(seed, mean, sd, family="poisson", formula="y ~ x + (1 | g)", link=None, gamma=None):
    rng, g, x, u = _groups(25, 8, seed)
    mu = np.exp(mean + 0.3 * x + sd * u[g])
    mu = mu if gamma is None else mu * rng.gamma(gamma, 1.0 / gamma, len(mu))
    table = pd.DataFrame({"y": rng.poisson(mu).astype(float), "x": x, "g": g})
    return Hard(formula, table.assign(i=np.arange(len(g))), family, link)


def _two_levels() -> Hard:
    rng, g, x, _ = _groups(2, 60, 9)
    y = rng.poisson(np.exp(1 + 0.4 * x + 0.7 * g)).astype(float)
    return Hard("y ~ x + (1 | g)", pd.DataFrame({"y": y, "x": x, "g": g}), "poisson")


def _many_columns() -> Hard:
    rng, g, _, u = _groups(30, 8, 10)
    X = rng.normal(size=(len(g), 25))
    y = rng.poisson(np.exp(0.5 + X[:, :8] @ np.full(8, 0.15) + 0.5 * u[g])).astype(float)
    names = [f"x{j}" for j in range(25)]
    table = pd.DataFrame(X, columns=names).assign(y=y, g=g)
    return Hard(f"y ~ {' + '.join(names)} + (1 | g)", table, "poisson")


def _positive(family, link, scale=1.0, formula="y ~ x + (1 | g)") -> Hard:
    rng, g, _, u = _groups(30, 8, 11)
    x = rng.uniform(size=len(g))
    mu = 1.0 / (1.0 + x + 0.2 * u[g])
    y = scale * rng.gamma(3.0, mu / 3.0)
    return Hard(formula, pd.DataFrame({"y": y, "x": x, "g": g}), family, link)


def _of_means(link, mean, seed) -> Hard:
    """Poisson counts, or 0 and 1 by the logarithm, of means near the end of the link's range."""
    rng, g, _, u = _groups(30, 10, seed)
    x = rng.uniform(size=len(g))
    mu = mean(x, u[g])
    binary = link == "log"
    y = _zeros_and_ones(rng, mu) if binary else rng.poisson(mu).astype(float)
    family = "binomial" if binary else "poisson"
    return Hard("y ~ x + (1 | g)", pd.DataFrame({"y": y, "x": x, "g": g}), family, link)


def _slopes(family) -> Hard:
    rng, g, _, _ = _groups(20, 20, 12)
    X, B = rng.normal(size=(len(g), 3)), 0.5 * rng.normal(size=(20, 4))
    eta = 0.2 + X @ [0.3, -0.2, 0.1] + B[g, 0] + (X * B[g, 1:]).sum(axis=1)
    table = pd.DataFrame(X, columns=list("abc")).assign(g=g, y=rng.poisson(np.exp(eta)) * 1.0)
    return Hard("y ~ a + b + c + (a + b + c | g)", table, family)


HARD = {
    "no variance": _binary(1, 0.0),
    "no variance of slopes": _counts(2, 0.3, 0.0, formula="y ~ x + (x | g)"),
    "nearly separated": _nearly_separated(),
    "sd 5, logit": _binary(5, 5.0),
    "sd 5, probit": _binary(5, 5.0, "probit"),
    "sd 5, cloglog": _binary(5, 5.0, "cloglog"),
    "sd 5, slopes": _binary(5, 5.0, formula="y ~ x + (x | g)"),
    "unbalanced": _unbalanced(),
    "rare": _binary(6, 1.0, formula="y ~ 1 + (1 | g)", levels=100, rows=3),
    "counts of a million": _counts(7, 14.0, 0.5),
    "counts of a million, nbinom2": _counts(7, 14.0, 0.5, "nbinom2", gamma=3.0),
    "counts of a million, each row's effect": _counts(
        7, 14.0, 0.5, formula="y ~ x + (1 | g) + (1 | i)", gamma=3.0
    ),
    "tiny counts": _counts(8, -3.0, 1.0),
    "tiny counts, each row's effect": _counts(8, -3.0, 1.0, formula="y ~ x + (1 | i)"),
    "each row's effect": _counts(13, 1.0, 0.0, formula="y ~ x + (1 | i)", gamma=4.0),
    "two levels": _two_levels(),
    "many columns": _many_columns(),
    "overdispersed, nbinom2": _counts(14, 1.0, 0.4, "nbinom2", gamma=0.1),
    "overdispersed, nbinom1": _counts(14, 1.0, 0.4, "nbinom1", gamma=0.1),
    "gamma, inverse": _positive("gamma", "inverse"),
    "gamma, identity": _positive("gamma", "identity"),
    "gamma of 1e6, inverse": _positive("gamma", "inverse", 1e6),
    "gamma of 1e6, identity": _positive("gamma", "identity", 1e6),
    "gamma of 1e-6, inverse": _positive("gamma", "inverse", 1e-6),
    "normal, inverse": _positive("gaussian", "inverse"),
    "normal, log": _positive("gaussian", "log"),
    "risks near one, log": _of_means("log", lambda x, u: np.exp(-0.4 - 0.4 * x + 0.06 * u), 15),
    "identity Poisson": _of_means(
        "identity", lambda x, u: np.maximum(2 + 3 * x + 0.3 * u, 0.1), 16
    ),
    "square roots near zero": _of_means("sqrt", lambda x, u: (0.55 + 0.3 * x + 0.05 * u) ** 2, 17),
    "ten parameters, Poisson": _slopes("poisson"),
    "ten parameters, nbinom2": _slopes("nbinom2"),
}
