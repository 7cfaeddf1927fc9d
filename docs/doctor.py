"""Picture of the doctor's page: ``python docs/doctor.py`` writes figures/doctor.png."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

import mixedfx as mfx

mpl.use("Agg")


def main() -> None:
    """Write the page of the sleep study."""
    sleep = mfx.datasets.load("sleepstudy")
    axes = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep).plot.doctor()
    axes[0].figure.savefig(Path(__file__).parent / "figures" / "doctor.png", dpi=80)


if __name__ == "__main__":
    main()
