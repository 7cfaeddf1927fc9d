"""Pictures of covariance matrices: ``python docs/structures.py`` writes figures/structures.png.

Each is of six visits, in weeks 1, 2, 3, 5, 6 and 8, at parameters that show its form: correlations
as colours, standard deviations as bars above.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from mixedfx.covariance import Positions
from mixedfx.covariance.registry import STRUCTURES

WEEKS = np.array([1.0, 2.0, 3.0, 5.0, 6.0, 8.0])
SDS = np.array([0.6, 0.8, 0.7, 1.1, 1.3, 1.6])
INK, PALE = "#1f2a44", "#8fa3c4"
# Any correlations, and those of neighbours.
ANY = np.array([
    [1.0, 0.6, 0.1, 0.4, 0.3, 0.0],
    [0.6, 1.0, 0.3, 0.2, 0.5, 0.1],
    [0.1, 0.3, 1.0, 0.7, 0.1, 0.4],
    [0.4, 0.2, 0.7, 1.0, 0.3, 0.2],
    [0.3, 0.5, 0.1, 0.3, 1.0, 0.6],
    [0.0, 0.1, 0.4, 0.2, 0.6, 1.0],
])  # fmt: skip
NEIGHBOURS = np.array([0.9, 0.5, 0.8, 0.3, 0.7])
LAGS = np.array([0.6, 0.2, 0.25, 0.35, 0.2, 0.2, 0.25])
DISTANCE = 2.5  # range of the processes in time

# Structure, what stands below its picture, and its correlations' parameters.
SHOWN = {
    "us": ("any covariance", None),
    "diag": ("no correlation", None),
    "homdiag": ("nor different sds", ()),
    "cs": ("one correlation", (0.5,)),
    "csh": ("one correlation", (0.5,)),
    "ar1": ("power of the lag", (0.7,)),
    "ar1h": ("power of the lag", (0.7,)),
    "toep": ("one each lag", LAGS),
    "toeph": ("one each lag", LAGS),
    "ad": ("neighbours', multiplied", NEIGHBOURS),
    "adh": ("neighbours', multiplied", NEIGHBOURS),
    "ou": ("decay in time", (1.0 / DISTANCE,)),
    "exp": ("decay with distance", (DISTANCE,)),
    "gau": ("smooth", (DISTANCE,)),
    "mat": ("between the two", (0.6 * DISTANCE, 1.5)),
}


def covariance(name: str) -> np.ndarray:
    """The structure's matrix at the parameters shown."""
    structure, c = STRUCTURES[name], SHOWN[name][1]
    if c is None:
        R = ANY if name == "us" else np.eye(len(WEEKS))
        return SDS[:, None] * R * SDS
    at = Positions(len(WEEKS), WEEKS[:, None])
    n = len(structure.sds(at))
    x = structure.unbounded(np.asarray(c, dtype=float), at)
    return structure.covariance(np.concatenate([SDS if n > 1 else [1.0], x]), at)


def draw(path: Path) -> None:
    """Draw one panel for each structure."""
    figure, axes = plt.subplots(3, 5, figsize=(9.0, 6.6), layout="constrained")
    for ax, name in zip(axes.flat, SHOWN, strict=True):
        C = covariance(name)
        sds = np.sqrt(np.diag(C))
        R = C / np.outer(sds, sds)
        image = ax.imshow(R, vmin=0.0, vmax=1.0, cmap="Blues", extent=(0, 6, 6, 0))
        ax.bar(np.arange(6) + 0.5, -0.9 * sds, 0.7, bottom=-0.3, color=PALE)
        ax.set(xlim=(-0.05, 6.05), ylim=(6.05, -2.0), title=name)
        ax.title.set(color=INK, fontsize=11, fontweight="bold", family="monospace")
        ax.set_xlabel(SHOWN[name][0], color=INK, fontsize=8.5)
        ax.set_xticks(np.arange(6) + 0.5, [f"{week:g}" for week in WEEKS], fontsize=7)
        ax.set_yticks([])
        ax.tick_params(length=0, colors=INK)
        for side in ax.spines.values():
            side.set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.5, aspect=30, pad=0.02)
    bar.set_label("correlation", color=INK)
    bar.outline.set_visible(False)
    figure.savefig(path, dpi=130, facecolor="white")


if __name__ == "__main__":
    draw(Path(__file__).parent / "figures" / "structures.png")
