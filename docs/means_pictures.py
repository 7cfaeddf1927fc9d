"""Pictures of means and slopes: ``python docs/means_pictures.py`` writes figures/means.png.

The data are simulated: a score after treatment of patients of twenty clinics.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import mixedfx as mfx


def trial() -> pd.DataFrame:
    """A dose by sex trial in which the dose works less in older men."""
    rng = np.random.default_rng(7)
    n = 320
    table = pd.DataFrame({"clinic": rng.integers(20, size=n).astype(str)})
    table["age"] = rng.uniform(20.0, 75.0, n)
    table["sex"] = rng.choice(["female", "male"], n)
    levels = ["placebo", "low", "high"]
    table["dose"] = pd.Categorical(rng.choice(levels, n), levels, ordered=True)
    effect = rng.normal(size=20)[table["clinic"].astype(int)]
    men, old = table["sex"] == "male", (table["age"] - 45.0) / 10.0
    table["score"] = 50.0 + 3.0 * table["dose"].cat.codes - 2.0 * old * (1.0 + men) + 2.0 * men
    table["score"] += 3.0 * effect + 1.5 * men * table["dose"].cat.codes
    table["score"] += 5.0 * rng.normal(size=n)
    return table


def main() -> None:
    """Draw four pictures in one figure."""
    fit = mfx.lmer("score ~ (bs(age, df=4) + dose) * sex + (1 | clinic)", trial())
    figure, axes = plt.subplots(2, 2, figsize=(10.0, 7.6), layout="constrained")
    fit.plot.means("dose", by="sex", ax=axes[0, 0])
    fit.plot.interaction("dose", "sex", ax=axes[0, 1])
    fit.plot.predictions("age", by="sex", ax=axes[1, 0])
    fit.plot.slopes("age", by=["age", "sex"], ax=axes[1, 1])
    calls = ("means('dose', by='sex')", "interaction('dose', 'sex')")
    calls += ("predictions('age', by='sex')", "slopes('age', by=['age', 'sex'])")
    for ax, call in zip(axes.ravel(), calls, strict=True):
        ax.set_title(f"fit.plot.{call}", fontsize=10, loc="left", family="monospace")
    figure.savefig(Path(__file__).parent / "figures" / "means.png", dpi=110)


if __name__ == "__main__":
    main()
