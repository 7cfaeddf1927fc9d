"""A simulated trial: repeated measures with dropout."""

from __future__ import annotations

import numpy as np
import pandas as pd


def trial(subjects: int = 40, visits: int = 4, seed: int = 0, dropout: float = 0.15):
    """AR(1) residuals and a random intercept; ``item`` crosses subjects, ``t`` are real times."""
    rng = np.random.default_rng(seed)
    g, v = np.repeat(np.arange(subjects), visits), np.tile(np.arange(1, visits + 1), subjects)
    e = rng.normal(size=(subjects, visits))
    for j in range(1, visits):
        e[:, j] = 0.5 * e[:, j - 1] + np.sqrt(0.75) * e[:, j]
    n = subjects * visits
    data = pd.DataFrame(
        {
            "id": [f"s{i:02d}" for i in g],
            "visit": v,
            "arm": np.where(g % 2, "a", "b"),
            "x": rng.normal(size=n),
            "item": rng.integers(0, 6, n).astype(str),
            "w": rng.uniform(0.5, 2.0, n),
            "t": v + 0.25 * rng.random(n).round(2),
            "lon": rng.random(n).round(2),
            "lat": rng.random(n).round(2),
        }
    )
    data["y"] = 1.0 + 0.5 * data["x"] + 0.7 * rng.normal(size=subjects)[g] + e.ravel()
    return data[rng.random(n) > dropout].reset_index(drop=True)
