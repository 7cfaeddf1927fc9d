"""Models whose fit of rows in chunks is compared with that of the rows in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.streamed import one_pass


def table(n: int = 400, seed: int = 1) -> pd.DataFrame:
    """Rows with crossed and nested factors, text, categories, numbers far from zero, gaps."""
    rng = np.random.default_rng(seed)
    g, h = rng.integers(0, 25, n), rng.integers(100, 112, n)
    frame = pd.DataFrame(
        {
            "g": g,
            "h": h,
            "school": [f"s{i % 5}" for i in g],
            "x": rng.normal(size=n),
            "year": rng.integers(2000, 2011, n),
            "f": rng.choice(["low", "mid", "high"], n),
            "c": pd.Categorical(rng.choice(["b", "a"], n), categories=["b", "a", "unused"]),
            "w": rng.uniform(0.5, 2.0, n),
            "o": rng.normal(size=n),
        }
    )
    u, v = rng.normal(size=(2, 25)), rng.normal(size=12)
    slope = {"low": 0.0, "mid": 1.0, "high": 2.5}
    frame["y"] = (
        1000.0 + frame["x"] * (2.0 + u[1][g]) + 0.1 * (frame["year"] - 2005) + u[0][g] + v[h - 100]
    )
    frame["y"] += frame["f"].map(slope) + rng.normal(size=n)
    frame.loc[rng.choice(n, 12, replace=False), "x"] = np.nan
    frame.loc[3, "y"] = np.nan
    frame.loc[5, "f"] = None
    return frame


def source(n: int = 90) -> list[pd.DataFrame]:
    """The rows, so many at a time."""
    rows = table()
    return [rows.iloc[a : a + n] for a in range(0, len(rows), n)]


def read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """No level is known before all rows are read."""
    monkeypatch.setattr(one_pass, "known_levels", lambda *_, **__: None)


# Formula, and arguments of lmer.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "slope": ("y ~ x + (x | g)", {}),
    "crossed": ("y ~ x + f + (x | g) + (1 | h)", {}),
    "nested": ("y ~ year + (1 | school/g)", {"reml": False}),
    "uncorrelated": ("y ~ x * f + (x || g)", {}),
    "categories": ("y ~ C(year) + c:x + (1 | g)", {}),
    "factor slopes": ("y ~ f + (0 + f | g)", {}),
    "weights": ("y ~ x + year + (x | g)", {"weights": "w"}),
    "offset": ("y ~ x + offset(o) + (1 | g)", {"offset": "w"}),
    "transforms": ("y ~ center(x) + scale(year) + (center(x) | g)", {}),
    "means": ("y ~ within(x, g) + group_mean(x, g) + (1 | g)", {}),
    "knots": ("y ~ bs(year, knots=[2004], degree=2) + (1 | h)", {}),
    "expressions": ("np.log(y) ~ I(x**2) + np.exp(x / 10) + (1 | g % 7)", {}),
    "response": ("scale(y) ~ x + (1 | g)", {}),
    "far": ("y ~ year + I(year**2) + (1 | g)", {}),
    "dependent": ("y ~ x + I(2 * x) + f + (1 | g)", {}),
    "no intercept": ("y ~ 0 + f + (1 | g)", {}),
    "interaction group": ("y ~ x + (1 | f:h)", {}),
    "category group": ("y ~ x + (1 | c:h)", {}),
    "least squares": ("y ~ x + f", {}),
    "truth": ("y ~ (x > 0) + (1 | g)", {}),
}
# With residual variances that differ between strata.
STRATA: dict[str, tuple[str, dict[str, Any]]] = {
    "strata": ("y ~ x + (x | g)", {"dispersion": "~ f"}),
    "strata of crossed": ("y ~ x + (x | g) + (1 | h)", {"dispersion": "~ f + c", "weights": "w"}),
    "strata of nested": (
        "y ~ year + (1 | school/g)",
        {"dispersion": "~ I(year > 2004) * c", "reml": False, "offset": "o"},
    ),
    "strata by numbers": ("y ~ x + f", {"dispersion": "~ C(h) + year"}),
}


def fit(name: str, data: Any, **options: Any) -> mfx.Results:
    formula, arguments = (MODELS | STRATA)[name]
    return mfx.lmer(formula, data, **arguments, **options)
