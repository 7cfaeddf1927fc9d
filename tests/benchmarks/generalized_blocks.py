"""Seconds and memory of a generalised model of rows in Parquet files: in blocks, and in memory.

    python tests/benchmarks/generalized_blocks.py 1 4 --folder /tmp/blocks

Answers of 0 and 1 with 10,000 levels, a random slope and a further predictor. Each size is written
once, and each fit is in a process of its own, whose largest memory is printed.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

FORMULA = "yes ~ x + z + (x | g)"
LEVELS, FILE_ROWS = 10_000, 500_000


def write(folder: Path, millions: int) -> None:
    """Write files of half a million rows."""
    if len(list(folder.glob("*.parquet"))) == 2 * millions:
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    u, slope = rng.normal(size=(2, LEVELS))
    for i in range(2 * millions):
        g = rng.integers(0, LEVELS, FILE_ROWS)
        x, z = rng.normal(size=FILE_ROWS), rng.normal(size=FILE_ROWS)
        eta = -0.5 + 0.5 * x - 0.3 * z + 0.7 * u[g] + 0.3 * slope[g] * x
        yes = (rng.random(FILE_ROWS) < 1.0 / (1.0 + np.exp(-eta))).astype(np.int8)
        frame = pd.DataFrame({"g": g, "x": x, "z": z, "yes": yes})
        frame.to_parquet(folder / f"part{i:04d}.parquet", index=False)


def measure(folder: Path, *, in_blocks: bool) -> None:
    """Print what one fit takes."""
    import mixedfx as mfx

    used = time.process_time()
    if in_blocks:
        fit = mfx.glmer(FORMULA, folder, chunk_rows=250_000)
    else:
        fit = mfx.glmer(FORMULA, pd.read_parquet(folder))
    seconds = time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{seconds:.1f} s of processor time, {peak:.0f} MB, deviance {fit.deviance!r}", fit.notes)


def main() -> None:
    """Measure each size in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("millions", type=int, nargs="+")
    parser.add_argument("--folder", type=Path, default=Path("generalized_blocks"))
    parser.add_argument("--only", choices=["blocks", "memory"], help="in this process")
    options = parser.parse_args()
    for millions in options.millions:
        folder = options.folder / f"{millions}m"
        if options.only is not None:
            measure(folder, in_blocks=options.only == "blocks")
            continue
        write(folder, millions)
        for mode in ("blocks", "memory"):
            print(f"{millions} million rows, {mode}:", flush=True)
            own = [str(millions), "--folder", str(options.folder), "--only", mode]
            subprocess.run([sys.executable, __file__, *own], check=True)


if __name__ == "__main__":
    main()
