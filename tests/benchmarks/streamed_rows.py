"""Seconds and memory of a fit of rows in Parquet files, beside DuckDB's queries on the same files.

    python tests/benchmarks/streamed_rows.py 1 5 20 --folder /tmp/streamed --fit

The rows have two crossed factors of 100,000 and 10,000 levels and four columns of X, with a random
slope of the first. Each size is written once, and measured in a process of its own. Levels are
integers, or texts with ``--texts``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

FORMULA = "y ~ x + x2 + x3 + x4 + (x | g) + (1 | h)"
G_LEVELS, H_LEVELS, FILE_ROWS = 100_000, 10_000, 1_000_000


def write(folder: Path, millions: int, *, texts: bool) -> None:
    """Write a file of a million rows each, row groups of 250,000."""
    if len(list(folder.glob("*.parquet"))) == millions:
        return
    folder.mkdir(parents=True, exist_ok=True)
    effects = np.random.default_rng(0)
    u, slope, v = effects.normal(size=(3, G_LEVELS))
    for i in range(millions):
        rng = np.random.default_rng(i + 1)
        g, h = rng.integers(0, G_LEVELS, FILE_ROWS), rng.integers(0, H_LEVELS, FILE_ROWS)
        x = rng.normal(size=(4, FILE_ROWS)).round(3)
        y = 2.0 + x.T @ [1.0, -0.5, 0.25, 0.1] + 0.7 * u[g] + 0.3 * slope[g] * x[0] + 0.5 * v[h]
        frame = pd.DataFrame({"g": g.astype(np.int32), "h": h.astype(np.int32)})
        if texts:
            frame = pd.DataFrame({name: name + frame[name].astype(str) for name in frame})
        frame[["x", "x2", "x3", "x4"]] = x.T
        frame["y"] = (y + rng.normal(size=FILE_ROWS)).round(3)
        frame.to_parquet(folder / f"part{i:04d}.parquet", index=False, row_group_size=250_000)


def peak() -> float:
    """Largest resident memory of this process, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def processor() -> float:
    """Seconds of processor time of all threads so far: less moved by a busy machine."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def passes(folder: Path) -> dict[str, float]:
    """Seconds of the passes over the rows; the search is left out."""
    from patsy import EvalEnvironment

    import mixedfx as mfx
    from mixedfx.design.stream.request import request_columns
    from mixedfx.likelihood.stream.assembly import plan_reduction
    from mixedfx.sources.registry import as_source
    from mixedfx.streamed.one_pass import read_once
    from mixedfx.streamed.reduction import reduce_source

    few = pd.read_parquet(next(folder.glob("*.parquet"))).iloc[:20_000]
    mfx.lmer("y ~ x + (1 | g)", few, chunk_rows=10_000)  # imports are not part of the time
    del few
    source, before, start = as_source(str(folder)), peak(), time.perf_counter()
    used = processor()
    formula = mfx.parse(FORMULA)
    request = request_columns(formula, source.columns, EvalEnvironment([{}]), {})
    learned, reduced = read_once(source, request)
    first = time.perf_counter()
    sums = reduced[1] if reduced else reduce_source(source, plan_reduction(learned))
    pairs = sums.pairs[0, 1].total()
    end = time.perf_counter()
    return {
        "seconds": round(end - start, 2),
        "processor": round(processor() - used, 2),
        "passes": learned.n_passes + (reduced is None),
        "first pass": round(first - start, 2),
        "GB": round(peak(), 2),
        "GB before": round(before, 2),
        "pairs": len(pairs.rows),
    }


def fitted(folder: Path) -> dict[str, float]:
    """Seconds of the whole fit."""
    import mixedfx as mfx

    start = time.perf_counter()
    fit = mfx.lmer(FORMULA, str(folder))
    return {
        "seconds": round(time.perf_counter() - start, 2),
        "GB": round(peak(), 2),
        "deviance": round(fit.deviance, 4),
        "evaluations": fit.model.optimizer_result.evaluations,
        "engine": fit.engine,
    }


def duckdb(folder: Path) -> dict[str, float]:
    """Seconds of the levels' queries and of the sums by pair of levels."""
    import duckdb

    start, used = time.perf_counter(), processor()
    table = f"read_parquet('{folder}/*.parquet')"
    connection = duckdb.connect()
    connection.execute("SET threads=2")
    for name in "gh":
        query = f"SELECT DISTINCT {name} FROM {table} WHERE {name} IS NOT NULL ORDER BY {name}"
        connection.sql(query).to_arrow_table()
    levels = time.perf_counter()
    pairs = connection.sql(
        f"SELECT g, h, count(*), sum(x), sum(x*x) FROM {table} GROUP BY g, h"
    ).to_arrow_table()
    end = time.perf_counter()
    return {
        "seconds": round(end - start, 2),
        "processor": round(processor() - used, 2),
        "levels": round(levels - start, 2),
        "GB": round(peak(), 2),
        "pairs": pairs.num_rows,
    }


def main() -> None:
    """Measure each size in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("millions", type=int, nargs="+")
    parser.add_argument("--folder", type=Path, default=Path("streamed_rows"))
    parser.add_argument("--texts", action="store_true", help="levels that are texts")
    parser.add_argument("--fit", action="store_true", help="also the whole fit")
    measures = {"passes": passes, "duckdb": duckdb, "fitted": fitted}
    parser.add_argument("--only", choices=list(measures), help="one of the measures")
    parser.add_argument("--here", action="store_true", help="in this process, of rows written")
    options = parser.parse_args()
    kind = "m-texts" if options.texts else "m"
    if options.here:
        print(json.dumps(measures[options.only](options.folder / f"{options.millions[0]}{kind}")))
        return
    names = ("passes", "duckdb", *(["fitted"] if options.fit else []))
    for millions in options.millions:
        write(options.folder / f"{millions}{kind}", millions, texts=options.texts)
        found = {}
        for name in (options.only,) if options.only else names:
            command = [sys.executable, __file__, str(millions), "--only", name, "--here"]
            run = [*command, "--folder", str(options.folder), *(["--texts"] * options.texts)]
            out = subprocess.run(run, capture_output=True, text=True, check=True).stdout
            found[name] = json.loads(out)
            print(f"{millions:4d} million rows  {name:8s} {out.strip()}", flush=True)
        if {"passes", "duckdb"} <= found.keys():
            own, other = found["passes"], found["duckdb"]
            ratios = {name: round(own[name] / other[name], 2) for name in ("seconds", "processor")}
            print(f"{millions:4d} million rows  ratio    {json.dumps(ratios)}", flush=True)


if __name__ == "__main__":
    main()
