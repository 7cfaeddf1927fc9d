"""Pictures of checks: ``python docs/checking.py`` writes figures/checking_*.png.

The page of ``fit.plot.check()`` for the crash counts with Poisson's distribution, and with normal
effects of rows, which is how they were simulated.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

import mixedfx as mfx

mpl.use("Agg")
FORMULA = "crashes ~ version + offset(log(exposure)) + (1 | publisher/app) + (1 | device)"


def main() -> None:
    """Write both pages."""
    data = mfx.datasets.load("appcrash").assign(row=range(2390))
    figures = Path(__file__).parent / "figures"
    for name, formula in (("poisson", FORMULA), ("rows", f"{FORMULA} + (1 | row)")):
        axes = mfx.glmer(formula, data, family="poisson").plot.check()
        axes[0].figure.savefig(figures / f"checking_{name}.png", dpi=80)


if __name__ == "__main__":
    main()
