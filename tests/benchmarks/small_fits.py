"""Small fits beside other Python libraries: ``python tests/benchmarks/small_fits.py``.

Needs ``python -m pip install lme-python glmm``; one that is not installed is left out. Each library
has a process of its own, of one thread, and the processes take turns, as the speed of a machine
changes from second to second: each turn is some fits, formula and DataFrame in, fitted model out,
after as many for warming up. Printed are microseconds of processor time, the least and the median
of the turns' medians, and the median over the rounds of the ratio to mixedfx's time in that round.

    --rounds 25    turns of each library
    --fits 15      fits of a turn
    --worker NAME  used by the program itself
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pandas as pd

# Formula, and whether glmm has a way to write it.
MODELS = {
    "sleepstudy": ("Reaction ~ Days + (Days | Subject)", True),
    "Penicillin": ("diameter ~ 1 + (1 | plate) + (1 | sample)", True),
    "Pastes": ("strength ~ 1 + (1 | batch/cask)", False),
}
MODULES = {"mixedfx": "mixedfx", "mixedfx, auto": "mixedfx", "lme-python": "lme_python"}
MODULES["glmm"] = "glmm"


def fit_of(library: str) -> Callable[[str, pd.DataFrame], Any]:
    """Function that fits a formula to a table by REML."""
    if library.startswith("mixedfx"):
        import mixedfx as mfx

        engine = "auto" if "auto" in library else "profiled"
        return lambda formula, data: mfx.lmer(formula, data, engine=engine)
    if library == "glmm":
        import glmm

        return lambda formula, data: glmm.fit(data, formula, reml=True)
    import lme_python

    return lambda formula, data: lme_python.lmer(formula, data, reml=True)


def table_of(library: str, model: str) -> pd.DataFrame:
    """Data of a model; glmm takes grouping factors as text."""
    import mixedfx as mfx

    data = mfx.datasets.load(model)
    groups = [name for name in ("Subject", "plate", "sample") if name in data]
    return data.assign(**{g: data[g].astype(str) for g in groups}) if library == "glmm" else data


def work(library: str) -> None:
    """Fit as often as each line of the input says, and print what a fit takes."""
    fit, tables = fit_of(library), {model: table_of(library, model) for model in MODELS}
    for line in sys.stdin:
        model, fits = line.split()
        formula, times = MODELS[model][0], []
        for turn in range(2 * int(fits)):
            start = time.process_time()
            fit(formula, tables[model])
            if turn >= int(fits):
                times.append(time.process_time() - start)
        print(min(times), statistics.median(times), flush=True)


def worker(library: str) -> subprocess.Popen[str]:
    """Process of one library."""
    command = [sys.executable, __file__, "--worker", library]
    threads = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "RAYON_NUM_THREADS")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, **dict.fromkeys(threads, "1")}, **pipes)


def take_turn(process: subprocess.Popen[str], model: str, fits: int) -> tuple[float, float]:
    """Least and median time of some fits."""
    process.stdin.write(f"{model} {fits}\n")
    process.stdin.flush()
    least, median = map(float, process.stdout.readline().split())
    return least, median


def main(rounds: int, fits: int) -> None:
    """Print a line for each model and library."""
    installed = [name for name, module in MODULES.items() if importlib.util.find_spec(module)]
    workers = {name: worker(name) for name in installed}
    for model, (_, by_glmm) in MODELS.items():
        names = [name for name in installed if name != "glmm" or by_glmm]
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        for turn in range(rounds):
            for i in range(len(names)):
                name = names[(turn + i) % len(names)]
                times[name].append(take_turn(workers[name], model, fits))
        for name in names:
            least, medians = min(t for t, _ in times[name]), [t for _, t in times[name]]
            own = [t for _, t in times["mixedfx"]]
            ratio = statistics.median(b / a for a, b in zip(own, medians, strict=True))
            typical = statistics.median(medians)
            print(f"{model:12} {name:14} {1e6 * least:6.0f} {1e6 * typical:6.0f} {ratio:6.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--fits", type=int, default=15)
    parser.add_argument("--worker")
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
    else:
        main(options.rounds, options.fits)
