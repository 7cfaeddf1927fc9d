"""Fits with correlated residuals on small tables, and their dense covariances by definition."""

import functools

import numpy as np
import pandas as pd

import mixedfx as mfx

_VISITS = np.array(
    [[1.0, 0.6, 0.4, 0.3], [0.6, 1.4, 0.7, 0.5], [0.4, 0.7, 2.0, 1.1], [0.3, 0.5, 1.1, 2.5]]
)


def trial() -> pd.DataFrame:
    """Patients with up to four visits, some of which are missing."""
    rng, rows = np.random.default_rng(1), []
    root = np.linalg.cholesky(_VISITS)
    for p in range(24):
        e, arm = root @ rng.standard_normal(4), "ab"[p % 2]
        for v in range(4):
            if rng.random() < 0.15:
                continue
            y = e[v] + 0.5 * v + 0.3 * v * (arm == "b")
            rows.append((f"p{p}", arm, f"v{v + 1}", v + 1, 1.0 + rng.random(), y))
    table = pd.DataFrame(rows, columns=["patient", "arm", "visit", "time", "w", "y"])
    return table.sample(frac=1.0, random_state=3).reset_index(drop=True)


def crossed() -> pd.DataFrame:
    """Subjects with items in random order, residuals autoregressive over the trials."""
    rng, rows = np.random.default_rng(2), []
    items, subjects = rng.standard_normal(7), rng.standard_normal(16)
    for s in range(16):
        e = 0.0
        for t, i in enumerate(rng.permutation(7)):
            e = 0.5 * e + 0.8 * rng.standard_normal()
            if rng.random() < 0.1:
                continue
            y = 0.1 * t + items[i] + subjects[s] + e
            rows.append((f"s{s}", f"i{i}", t + 1, 1.0 + rng.random(), y, rng.standard_normal()))
    table = pd.DataFrame(rows, columns=["subject", "item", "trial", "w", "y", "x"])
    return table.sample(frac=1.0, random_state=3).reset_index(drop=True)


CALLS = {
    "visits": (trial, "y ~ arm * visit", {"residual": "us(visit | patient)"}),
    "by arm": (trial, "y ~ arm * visit", {"residual": "us(visit | arm / patient)"}),
    "crossed": (
        crossed,
        "y ~ x + (1 | item) + (1 | subject)",
        {"residual": "ar1(trial | subject)"},
    ),
    "weighted": (
        crossed,
        "y ~ x + (1 | item)",
        {"residual": "ar1(trial | subject)", "weights": "w"},
    ),
}


@functools.cache
def fit_of(name: str) -> mfx.Results:
    """Fit of one of the calls."""
    table, formula, options = CALLS[name]
    return mfx.lmer(formula, table(), **options)


def data_of(name: str) -> pd.DataFrame:
    """Table that was fitted."""
    return CALLS[name][0]()


def residual_matrix(fit, name: str, a: pd.DataFrame, b: pd.DataFrame) -> np.ndarray:
    """Covariance of the residuals of two tables' rows, by definition; one of each observation."""
    options = CALLS[name][2]
    subject, position = ("patient", "visit") if "patient" in a else ("subject", "trial")
    found = fit.residual_cov()
    by_arm = isinstance(found, dict)
    w = [t["w"].to_numpy() if "weights" in options else np.ones(len(t)) for t in (a, b)]
    R = np.zeros((len(a), len(b)))
    for i, one in enumerate(a.to_dict("records")):
        cov = found[one["arm"]] if by_arm else found
        for j, two in enumerate(b.to_dict("records")):
            if one[subject] == two[subject]:
                R[i, j] = cov.loc[one[position], two[position]] / np.sqrt(w[0][i] * w[1][j])
    return R


def effects_matrix(fit, a: pd.DataFrame, b: pd.DataFrame) -> np.ndarray:
    """Covariance of the random intercepts of two tables' rows."""
    total = np.zeros((len(a), len(b)))
    for group, variance in fit.vcomp.groupby(level="group").first().items():
        total += variance * (a[group].to_numpy()[:, None] == b[group].to_numpy())
    return total
