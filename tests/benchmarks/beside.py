"""What the benchmarks beside other programs share: a run with one thread, arguments, a table."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections.abc import Sequence
from typing import Any

ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL")}


def measure(command: list[str], limit: float) -> dict[str, Any]:
    """Run a program that ends with a line of JSON."""
    env = os.environ | ONE_THREAD
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=env)
    except subprocess.TimeoutExpired:
        return {"status": f"over {limit:.0f} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if lines:
        return dict(json.loads(lines[-1]))
    return {"status": (done.stderr.strip().splitlines() or ["failed"])[-1][:90]}


def arguments(description: str | None, limit: float) -> argparse.ArgumentParser:
    """Arguments that each of them has; ``--fit`` times one fit of ours in a process of its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--tasks")
    parser.add_argument("--limit", type=float, default=limit)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--fit", help=argparse.SUPPRESS)
    return parser


def named(tasks: Sequence[Any], given: str | None) -> list[Any]:
    """Tasks by their names, separated by commas; all of them without."""
    return [task for task in tasks if given is None or task.name in given.split(",")]


def table_row(
    cells: Sequence[str], short: Sequence[str], widths: tuple[int, int], *, markdown: bool
) -> str:
    """A line of Markdown, or of text with what each log-likelihood is short of the best."""
    if markdown:
        return "| " + " | ".join(cells) + " |"
    first, *others = [*cells, *short]
    return f"{first:{widths[0]}s}" + "".join(f"{cell:>{widths[1]}s}" for cell in others)
