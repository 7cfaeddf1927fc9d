"""What the first fit of a process costs: ``python tests/benchmarks/first_fit.py``.

Seconds of processor time, each the least of several new processes, one thread, with compiled
bytecode, as an installation has it. What other packages take to be imported is listed beside:
pandas, which everybody imports, and statsmodels' MixedLM, by which ``engine="auto"`` fits small
models; its import after pandas is what that engine adds at least.

    --runs 7       processes of each kind
"""

from __future__ import annotations

import os
import subprocess
import sys

LINEAR = "fit = mfx.lmer('Reaction ~ Days + (Days | Subject)', mfx.datasets.load('sleepstudy'))"
PROFILED = LINEAR.replace("'))", "'), engine='profiled')")
BINOMIAL = (
    "fit = mfx.glmer('cbind(incidence, size - incidence) ~ period + (1 | herd)', "
    "mfx.datasets.load('cbpp'))"
)
IMPORTS = "import pandas, mixedfx as mfx"
MIXEDLM = "import statsmodels.regression.mixed_linear_model"
HELP = """
import contextlib, io
from mixedfx.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(["--help"])
"""
# What is timed, after what has been done before.
STEPS = {
    "import pandas": ("", "import pandas"),
    "import mixedfx": ("", "import mixedfx"),
    "import mixedfx, after pandas": ("import pandas", "import mixedfx"),
    "help of the command line": ("", HELP),
    "lmer, engine='profiled'": (IMPORTS, PROFILED),
    "lmer, engine='auto'": (IMPORTS, LINEAR),
    "the same, with statsmodels imported before": (f"{IMPORTS}\n{MIXEDLM}", LINEAR),
    "glmer": (IMPORTS, BINOMIAL),
    "summary, as text": (f"{IMPORTS}\n{PROFILED}", "str(fit.summary())"),
    "import of statsmodels' MixedLM, after pandas": ("import pandas", MIXEDLM),
    "import of statsmodels' MixedLM, after a profiled fit": (f"{IMPORTS}\n{PROFILED}", MIXEDLM),
}


def seconds(before: str, step: str) -> float:
    """Processor time of one step in a new process."""
    timed = ["t = time.process_time()", step, "print(time.process_time() - t)"]
    run = [sys.executable, "-c", "\n".join(["import time", before, *timed])]
    one_thread = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    env = kept | one_thread
    return float(subprocess.run(run, capture_output=True, text=True, check=True, env=env).stdout)


def main(runs: int) -> None:
    """Print a line for each step; the kinds of processes take turns."""
    for step in STEPS.values():  # compiles the bytecode
        seconds(*step)
    taken: dict[str, list[float]] = {name: [] for name in STEPS}
    for _ in range(runs):
        for name, step in STEPS.items():
            taken[name].append(seconds(*step))
    pandas = min(taken["import pandas"])
    for name, values in taken.items():
        least = min(values)
        print(f"{name:52s} {least:6.2f} s  {least / pandas:5.2f} of import pandas")


if __name__ == "__main__":
    main(int(sys.argv[sys.argv.index("--runs") + 1]) if "--runs" in sys.argv else 5)
