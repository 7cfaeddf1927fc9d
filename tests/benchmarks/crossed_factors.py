"""Large crossed factors: time, memory and Monte Carlo error of one fit.

    python tests/benchmarks/crossed_factors.py ratings            1,000,000 rows, 50,000 x 5,000
    python tests/benchmarks/crossed_factors.py movielens          32,000,000 rows, 200,000 x 84,000
    python tests/benchmarks/crossed_factors.py three              3,000,000 rows, 3 x 30,000
    python tests/benchmarks/crossed_factors.py ratings profiled   by another engine, or gpboost

Users' activity is log-normal and films' popularity falls with their rank, as in MovieLens. The data
are made first; time and peak memory are printed of the whole process and of the fit alone.
"""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import numpy as np
import pandas as pd

FORMULA = "y ~ x + (1 | user) + (1 | film)"
CASES: dict[str, tuple[int, tuple[int, ...], str]] = {
    "small": (100_000, (5_000, 500), FORMULA),
    "ratings": (1_000_000, (50_000, 5_000), FORMULA),
    "ten": (10_000_000, (100_000, 50_000), FORMULA),
    "movielens": (32_000_000, (200_000, 84_000), FORMULA),
    "three": (3_000_000, (30_000,) * 3, FORMULA + " + (1 | shop)"),
}
SDS = (0.4, 0.5, 0.3)  # of users, films and shops
SIGMA = 0.8


def simulate(n: int, levels: tuple[int, ...]) -> pd.DataFrame:
    """Ratings with skewed users and films; three factors are evenly filled."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(n)
    y = 3.5 + 0.3 * x + SIGMA * rng.standard_normal(n)
    columns: dict[str, Any] = {}
    for f, L in enumerate(levels):
        if len(levels) == 3:
            codes = rng.integers(L, size=n)
        else:
            weights = rng.lognormal(0, 1.2, L) if f == 0 else 1.0 / np.arange(1, L + 1) ** 0.9
            codes = rng.choice(L, n, p=weights / weights.sum())
        y += SDS[f] * rng.standard_normal(L)[codes]
        columns[("user", "film", "shop")[f]] = codes.astype(np.int32)
    return pd.DataFrame({**columns, "x": x, "y": y})


def peak() -> float:
    """Peak memory of the process, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def fit_gpboost(data: pd.DataFrame) -> str:
    """The same model by gpboost, if it is installed."""
    import gpboost

    groups = data[[c for c in ("user", "film", "shop") if c in data]]
    model = gpboost.GPModel(group_data=groups, likelihood="gaussian")
    X = np.column_stack([np.ones(len(data)), data["x"]])
    model.fit(y=data["y"].to_numpy(), X=X)
    return f"{model.get_cov_pars()} -log-likelihood {model.get_current_neg_log_likelihood():.4f}"


def fit_mixedfx(data: pd.DataFrame, formula: str, engine: str) -> str:
    """Fit by maximum likelihood and describe the result."""
    import mixedfx as mfx

    fit = mfx.lmer(formula, data, reml=False, engine=engine)
    found = fit.model.optimizer_result
    return (
        f"{fit.engine}, {found.evaluations} evaluations: theta {fit.theta}, sigma {fit.sigma:.6f}, "
        f"beta {fit.params.to_numpy()}, se {fit.bse.to_numpy()}, deviance {fit.deviance:.4f}\n"
        f"{fit.convergence}"
    )


def main(case: str, engine: str = "auto") -> None:
    """Simulate, fit, print."""
    n, levels, formula = CASES[case]
    data, before = simulate(n, levels), peak()
    if engine != "gpboost":
        import mixedfx  # noqa: F401  its import is not part of the time

    wall, cpu = time.perf_counter(), time.process_time()
    found = fit_gpboost(data) if engine == "gpboost" else fit_mixedfx(data, formula, engine)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{case}: {n:,} rows, levels {levels}, theta simulated {np.array(SDS) / SIGMA}")
    print(f"{wall:.1f} s, {cpu:.1f} s of processors; peak {peak():.2f} GB, data {before:.2f} GB")
    print(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
