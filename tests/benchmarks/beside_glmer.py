"""Generalised models beside glmer, glmmTMB and clmm: ``python tests/benchmarks/beside_glmer.py``.

Each fit runs in a process of its own, one thread, after a warm-up: formula and table in, fitted
result out. Seconds are medians of processor time, which other programs disturb less than elapsed
time. The last columns are by how much each log-likelihood ends below the highest. Needs Rscript
with lme4, glmmTMB, ordinal and jsonlite. Only ratios within one run mean anything.

    --tasks cbpp,owls      some of them
    --large                the large ones too, which take the other programs minutes
    --limit 600            seconds that one program may take
    --markdown             a table for the documentation
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from beside import arguments, measure, named, table_row

R_SCRIPT = Path(__file__).resolve().with_name("beside_glmer.R")
PROGRAMS = ("glmer", "glmmTMB", "clmm", "mixedfx")


def poisson_slopes() -> pd.DataFrame:
    """Counts in 20,000 groups of ten, correlated intercepts and slopes."""
    rng = np.random.default_rng(11)
    g, x = np.repeat(np.arange(20_000), 10), rng.standard_normal(200_000)
    b = rng.multivariate_normal([0, 0], [[0.25, 0.05], [0.05, 0.09]], 20_000)
    mean = np.exp(0.3 + 0.2 * x + b[g, 0] + b[g, 1] * x)
    return pd.DataFrame({"g": g, "x": x, "y": rng.poisson(mean)})


def binary_crossed() -> pd.DataFrame:
    """2,000 persons who each answer 50 of 500 items."""
    rng = np.random.default_rng(12)
    person = np.repeat(np.arange(2_000), 50)
    item = np.concatenate([rng.choice(500, 50, replace=False) for _ in range(2_000)])
    x = rng.standard_normal(100_000)
    own = rng.standard_normal(2_000)[person] + 0.8 * rng.standard_normal(500)[item]
    y = rng.random(100_000) < 1 / (1 + np.exp(-(0.4 + 0.5 * x + own)))
    return pd.DataFrame({"person": person, "item": item, "x": x, "y": y.astype(int)})


def binary_groups() -> pd.DataFrame:
    """2,000 small groups, where Laplace's approximation is poor."""
    rng = np.random.default_rng(13)
    g, x = np.repeat(np.arange(2_000), 10), rng.standard_normal(20_000)
    y = rng.random(20_000) < 1 / (1 + np.exp(1 - x - 1.5 * rng.standard_normal(2_000)[g]))
    return pd.DataFrame({"g": g, "x": x, "y": y.astype(int)})


def ratings() -> pd.DataFrame:
    """10,000 ratings from 1 to 5 by 2,000 raters."""
    rng = np.random.default_rng(14)
    g, x = np.repeat(np.arange(2_000), 5), rng.standard_normal(10_000)
    latent = 0.7 * x + rng.standard_normal(2_000)[g] + rng.logistic(size=10_000)
    stars = 1 + (latent[:, None] > [-2.0, -0.5, 0.8, 2.5]).sum(axis=1)
    return pd.DataFrame({"rater": g, "x": x, "stars": stars})


def catches() -> pd.DataFrame:
    """2,000 catches of 100 boats, a third of them empty."""
    rng = np.random.default_rng(15)
    boat, depth = np.repeat(np.arange(100), 20), rng.standard_normal(2_000)
    mean = np.exp(0.5 + 0.4 * depth + 0.6 * rng.standard_normal(100)[boat])
    number = rng.poisson(mean**0.4 / (1.5 * 0.4))
    catch = rng.gamma(np.maximum(number, 1) * (0.4 / 0.6)) * 1.5 * 0.6 * mean**0.6
    return pd.DataFrame({"boat": boat, "depth": depth, "catch": np.where(number, catch, 0.0)})


@dataclass(frozen=True)
class Generalised:
    """One model."""

    name: str
    title: str
    data: str | Callable[[], pd.DataFrame]  # a data set of R, or one that is drawn
    formula: str
    family: str
    factors: tuple[str, ...]
    nagq: int = 1
    zero_inflation: str | None = None
    large: bool = False
    reps: int = 5
    budget: float = 20.0  # seconds after which a fit is not repeated


VERBAGG = "y ~ Anger + Gender + btype + situ"
TASKS = (
    Generalised(
        "cbpp",
        "cbpp, binomial",
        "cbpp",
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        "binomial",
        ("herd", "period"),
        reps=15,
    ),
    Generalised(
        "grouseticks",
        "grouseticks, Poisson, three factors",
        "grouseticks",
        "TICKS ~ YEAR + HEIGHT100 + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)",
        "poisson",
        ("BROOD", "INDEX", "LOCATION", "YEAR"),
        reps=11,
    ),
    Generalised(
        "verbagg",
        "VerbAgg, yes or no, crossed",
        "verbagg",
        f"{VERBAGG} + (1 | id) + (1 | item)",
        "binomial",
        ("id", "item"),
    ),
    Generalised(
        "verbagg_slopes",
        "the same, `(btype \\| id)`",
        "verbagg",
        f"{VERBAGG} + (btype | id) + (1 | item)",
        "binomial",
        ("id", "item"),
    ),
    Generalised(
        "salamanders",
        "Salamanders, negative binomial",
        "salamanders",
        "count ~ spp * mined + (1 | site)",
        "nbinom2",
        ("site",),
    ),
    Generalised(
        "owls",
        "Owls, negative binomial with offset",
        "owls",
        "SiblingNegotiation ~ FoodTreatment * SexParent + offset(logBroodSize) + (1 | Nest)",
        "nbinom2",
        ("Nest",),
    ),
    Generalised(
        "salamanders_zeros",
        "Salamanders, zero-inflated Poisson",
        "salamanders",
        "count ~ spp + mined + (1 | site)",
        "poisson",
        ("site",),
        zero_inflation="~ mined",
    ),
    Generalised(
        "salamanders_effects",
        "the same, zero part with `(1 \\| site)`",
        "salamanders",
        "count ~ spp + mined + (1 | site)",
        "poisson",
        ("site",),
        zero_inflation="~ mined + (1 | site)",
    ),
    Generalised(
        "owls_zeros",
        "Owls, zero-inflated negative binomial",
        "owls",
        "SiblingNegotiation ~ FoodTreatment * SexParent + offset(logBroodSize) + (1 | Nest)",
        "nbinom2",
        ("Nest",),
        zero_inflation="~ 1",
    ),
    Generalised(
        "quadrature",
        "2,000 groups of ten, quadrature of 9 nodes",
        binary_groups,
        "y ~ x + (1 | g)",
        "binomial",
        ("g",),
        nagq=9,
    ),
    Generalised(
        "wine",
        "wine, five ordered categories",
        "wine",
        "rating ~ temp + contact + (1 | judge)",
        "cumulative",
        ("judge", "temp", "contact"),
        reps=15,
    ),
    Generalised(
        "ratings",
        "10,000 ratings of 2,000 raters, ordered",
        ratings,
        "stars ~ x + (1 | rater)",
        "cumulative",
        ("rater",),
    ),
    Generalised(
        "catches",
        "2,000 catches, Tweedie",
        catches,
        "catch ~ depth + (1 | boat)",
        "tweedie",
        ("boat",),
    ),
    Generalised(
        "poisson_slopes",
        "Poisson `(x \\| g)`, 20,000 groups",
        poisson_slopes,
        "y ~ x + (x | g)",
        "poisson",
        ("g",),
        large=True,
    ),
    Generalised(
        "binary_crossed",
        "2,000 persons x 500 items",
        binary_crossed,
        "y ~ x + (1 | person) + (1 | item)",
        "binomial",
        ("person", "item"),
        large=True,
    ),
    Generalised(
        "insteval",
        "InstEval, good or not, three factors",
        "insteval",
        "good ~ service + (1 | s) + (1 | d) + (1 | dept)",
        "binomial",
        ("s", "d", "dept"),
        large=True,
    ),
)


def fit_once(spec_file: str) -> None:
    """Time our fit of a specification in this process."""
    import statistics
    import time

    import mixedfx as mfx

    spec = json.loads(Path(spec_file).read_text(encoding="utf-8"))
    table, seconds = pd.read_csv(spec["csv"]), []
    table = table.astype(dict.fromkeys(spec["factors"], str))
    table = table.astype(dict.fromkeys(spec["factors"], "category"))
    for repetition in range(1 + spec["reps"]):
        began = time.process_time()
        given = {name: spec[name] for name in ("family", "nagq", "zero_inflation")}
        fit = mfx.glmer(spec["formula"], table, **given)
        if repetition:
            seconds.append(time.process_time() - began)
        if sum(seconds) > spec["budget"]:
            break
    print(json.dumps({"seconds": statistics.median(seconds), "llf": fit.llf}))


def compare(task: Generalised, folder: Path, limit: float) -> tuple[int, dict[str, dict[str, Any]]]:
    """Rows of a task, and each program's seconds and log-likelihood."""
    path = folder / (f"{task.data}.csv" if isinstance(task.data, str) else f"{task.name}.csv")
    if not isinstance(task.data, str):
        task.data().to_csv(path, index=False)
    spec = {key: value for key, value in vars(task).items() if key != "data"}
    spec_file = folder / f"{task.name}.json"
    spec_file.write_text(json.dumps(spec | {"csv": str(path)}), encoding="utf-8")
    found = {
        program: measure(["Rscript", str(R_SCRIPT), program, str(spec_file)], limit)
        for program in PROGRAMS[:-1]
        if _can(program, task)
    }
    found["mixedfx"] = measure([sys.executable, __file__, "--fit", str(spec_file)], limit)
    return len(pd.read_csv(path)), found


def _can(program: str, task: Generalised) -> bool:
    """Ordered categories are clmm's, quadrature and zero parts not of all the others."""
    if (task.family == "cumulative") != (program == "clmm"):
        return False
    if program == "glmer":
        return not task.zero_inflation and task.family != "tweedie"
    return program != "glmmTMB" or task.nagq <= 1


def line(task: Generalised, rows: int, found: dict[str, dict[str, Any]], *, markdown: bool) -> str:
    """Seconds, ratios to ours, and by how much each log-likelihood is short of the best."""
    ours = found["mixedfx"].get("seconds", float("nan"))
    best = max((f["llf"] for f in found.values() if "llf" in f), default=float("nan"))

    def cell(program: str) -> str:
        got = found.get(program, {"status": "cannot"})
        if "seconds" not in got:
            return str(got["status"])
        ratio = "" if program == "mixedfx" else f" ({got['seconds'] / ours:.1f}x)"
        return f"{got['seconds']:.3g}{ratio}"

    cells = [task.title, f"{rows:,}", *map(cell, PROGRAMS)]
    short = [f"{best - found[p]['llf']:.1e}" if "llf" in found.get(p, {}) else "" for p in PROGRAMS]
    return table_row(cells, short, (46, 20), markdown=markdown)


def main() -> None:
    parser = arguments(__doc__, limit=600)
    parser.add_argument("--large", action="store_true")
    args = parser.parse_args()
    if args.fit:
        fit_once(args.fit)
        return
    asked = named(TASKS, args.tasks) if args.tasks else [t for t in TASKS if not t.large]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["Rscript", str(R_SCRIPT), "export", folder], check=True)
        for task in TASKS:
            if task in asked or (args.large and task.large):
                rows, found = compare(task, Path(folder), args.limit)
                print(line(task, rows, found, markdown=args.markdown), flush=True)


if __name__ == "__main__":
    main()
