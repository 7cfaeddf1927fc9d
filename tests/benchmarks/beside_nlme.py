"""Correlated residuals beside nlme's gls and glmmTMB: ``python tests/benchmarks/beside_nlme.py``.

Each fit runs in a process of its own, one thread, after a warm-up: formula and table in, estimates
with standard errors out; of mixedfx the table of t tests by Satterthwaite's method, too. Seconds
are medians of processor time, which other programs disturb less than elapsed time. The last columns
are by how much each log-likelihood ends below the highest. Needs Rscript with nlme, glmmTMB and
jsonlite. Only ratios within one run mean anything.

    --tasks fev,trial      some of them
    --limit 300            seconds that one program may take
    --markdown             a table for the documentation
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from beside import arguments, measure, named, table_row

HERE = Path(__file__).resolve().parent
FEV = HERE.parent / "reference" / "structured" / "data" / "fev.csv"
PROGRAMS = ("gls", "glmmTMB", "mixedfx")


@dataclass(frozen=True)
class Correlated:
    """One model in three spellings; None where a program has none."""

    name: str
    title: str
    data: Callable[[], pd.DataFrame]
    formula: str
    residual: str
    factors: tuple[str, ...]
    gls: str | None = None
    glmmTMB: str | None = None
    reps: int = 5
    budget: float = 20.0  # seconds after which a fit is not repeated


def fev() -> pd.DataFrame:
    return pd.read_csv(FEV).dropna(subset=["fev1"])


def trial(patients: int, visits: int = 10, seed: int = 5) -> pd.DataFrame:
    """A trial with dropout and an unstructured covariance over the visits."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((visits, visits)) * 0.5 + np.eye(visits)
    e = rng.standard_normal((patients, visits)) @ root.T
    arm, base = rng.integers(0, 2, patients), rng.normal(75, 10, patients)
    last = np.minimum(visits, rng.geometric(0.04, patients))
    p, v = np.nonzero(np.arange(visits) < last[:, None])
    y = 5 + 0.3 * v + arm[p] * 0.2 * v + 0.02 * base[p] + e[p, v]
    arms = np.where(arm[p], "trt", "ctl")
    return pd.DataFrame({"patient": p, "visit": v + 1, "arm": arms, "base": base[p], "y": y})


def serial(subjects: int = 1000, trials: int = 50, items: int = 200, seed: int = 6) -> pd.DataFrame:
    """Subjects crossed with items, AR(1) errors along each subject's trials."""
    rng = np.random.default_rng(seed)
    e = rng.standard_normal((subjects, trials))
    for t in range(1, trials):
        e[:, t] = 0.5 * e[:, t - 1] + np.sqrt(0.75) * e[:, t]
    item = rng.integers(0, items, (subjects, trials))
    x = rng.standard_normal((subjects, trials))
    own = 0.7 * rng.standard_normal(subjects)[:, None]
    y = 2 + 0.4 * x + own + 0.5 * rng.standard_normal(items)[item] + e
    s, t = np.divmod(np.arange(subjects * trials), trials)
    columns = {"subject": s, "trial": t + 1, "item": item, "x": x, "y": y}
    return pd.DataFrame({name: np.ravel(column) for name, column in columns.items()})


_US = "us(0 + visit | patient), d, dispformula = ~ 0, REML = TRUE)"
TASKS = (
    Correlated(
        "fev",
        "FEV trial, 4 visits, `us`",
        fev,
        "fev1 ~ race + armcd * avisit",
        "us(avisit | usubjid)",
        ("usubjid", "avisit"),
        gls="gls(fev1 ~ race + armcd * avisit, d, weights = varIdent(form = ~ 1 | avisit), "
        "correlation = corSymm(form = ~ visitn | usubjid))",
        glmmTMB="glmmTMB(fev1 ~ race + armcd * avisit + us(0 + avisit | usubjid), d, "
        "dispformula = ~ 0, REML = TRUE)",
        reps=25,
    ),
    Correlated(
        "trial",
        "1,000 patients, 10 visits, `us`",
        lambda: trial(1000),
        "y ~ base + arm * C(visit)",
        "us(visit | patient)",
        ("patient", "visit"),
        glmmTMB=f"glmmTMB(y ~ base + arm * visit + {_US}",
    ),
    Correlated(
        "trial_ar1h",
        "the same, `ar1h`",
        lambda: trial(1000),
        "y ~ base + arm * C(visit)",
        "ar1h(visit | patient)",
        ("patient", "visit"),
        gls="gls(y ~ base + arm * visit, d, weights = varIdent(form = ~ 1 | visit), "
        "correlation = corAR1(form = ~ as.integer(visit) | patient))",
    ),
    Correlated(
        "large_trial",
        "5,000 patients, 10 visits, `us`",
        lambda: trial(5000),
        "y ~ base + arm * C(visit)",
        "us(visit | patient)",
        ("patient", "visit"),
        glmmTMB=f"glmmTMB(y ~ base + arm * visit + {_US}",
    ),
    Correlated(
        "serial",
        "`ar1` beside crossed subjects and items",
        serial,
        "y ~ x + (1 | subject) + (1 | item)",
        "ar1(trial | subject)",
        ("subject", "item"),
    ),
)


def fit_once(spec_file: str) -> None:
    """Time our fit of a specification in this process."""
    import statistics
    import time

    import mixedfx as mfx

    spec = json.loads(Path(spec_file).read_text(encoding="utf-8"))
    table, seconds = pd.read_csv(spec["csv"]), []
    mfx.lmer(spec["formula"], table, residual=spec["residual"]).tidy()
    while len(seconds) < spec["reps"] and sum(seconds) < spec["budget"]:
        began = time.process_time()
        fit = mfx.lmer(spec["formula"], table, residual=spec["residual"])
        fit.tidy()
        seconds.append(time.process_time() - began)
    print(json.dumps({"seconds": statistics.median(seconds), "llf": fit.llf}))


def compare(task: Correlated, folder: Path, limit: float) -> tuple[int, dict[str, dict[str, Any]]]:
    """Rows of a task, and each program's seconds and log-likelihood."""
    table = task.data()
    spec = {key: value for key, value in vars(task).items() if key != "data"}
    spec |= {"csv": str(folder / f"{task.name}.csv")}
    table.to_csv(spec["csv"], index=False)
    path = folder / f"{task.name}.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    commands = {
        p: ["Rscript", str(HERE / "beside_nlme.R"), p, str(path)] for p in ("gls", "glmmTMB")
    }
    commands["mixedfx"] = [sys.executable, __file__, "--fit", str(path)]
    given = {"mixedfx": True, "gls": task.gls, "glmmTMB": task.glmmTMB}
    found = {p: measure(commands[p], limit) if given[p] else {"status": "-"} for p in PROGRAMS}
    return len(table), found


def line(task: Correlated, rows: int, found: dict[str, dict[str, Any]], *, markdown: bool) -> str:
    """Seconds, ratios to ours, and by how much each log-likelihood is short of the best."""
    ours = found["mixedfx"].get("seconds", float("nan"))
    best = max((f["llf"] for f in found.values() if "llf" in f), default=float("nan"))

    def cell(program: str) -> str:
        got = found[program]
        if "seconds" not in got:
            return "" if got["status"] == "-" else str(got["status"])
        ratio = "" if program == "mixedfx" else f" ({got['seconds'] / ours:.0f}x)"
        return f"{got['seconds']:.3g}{ratio}"

    short = [f"{best - found[p]['llf']:.1e}" if "llf" in found[p] else "" for p in PROGRAMS]
    cells = [task.title, f"{rows:,}", *map(cell, PROGRAMS)]
    return table_row(cells, short, (42, 22), markdown=markdown)


def main() -> None:
    args = arguments(__doc__, limit=300).parse_args()
    if args.fit:
        fit_once(args.fit)
        return
    with tempfile.TemporaryDirectory() as folder:
        for task in named(TASKS, args.tasks):
            rows, found = compare(task, Path(folder), args.limit)
            print(line(task, rows, found, markdown=args.markdown), flush=True)


if __name__ == "__main__":
    main()
