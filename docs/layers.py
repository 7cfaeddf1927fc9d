"""Picture of the package's layers: ``python docs/layers.py`` writes docs/figures/layers.png.

Each row is a layer: a module imports from rows below its own, or from what stands to the right in
its own row.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

LAYERS = [
    ("cli | api, generalized", "command line | lmer, glmer; a formula drawn"),
    ("results", "the names of statsmodels and lme4"),
    ("streamed", "fits of rows that are read in chunks"),
    ("storage", "fits in files and pickles, and without rows"),
    ("inference", "tests, intervals, profile, bootstrap, means, prediction"),
    ("refit | fit", "another response | the estimator that a design needs"),
    ("bayes", "posterior mode and draws"),
    ("estimation", "finds theta; FittedModel; convergence diagnostics"),
    ("priors", "prior distributions, matched to parameters"),
    ("residuals", "residual models: variance functions, location-scale"),
    ("likelihood", "cross-products, score; Laplace and quadrature"),
    ("design", "formula and data to model matrices"),
    ("formula | families", "text to terms | densities by eta, and links"),
    ("sources", "files, query engines and generators, in chunks"),
    ("covariance", "theta to Lambda"),
    ("linalg | errors, _arrays", "blocked Cholesky, trust region | messages"),
]
BESIDE = [
    ("plots", "tables to axes"),
    ("diagrams", "graph, drawing,\nequations"),
    ("formatting", "tables to text,\nHTML, LaTeX"),
    ("datasets", "example data"),
]
INK, PALE, LINE = "#1f2a44", "#eef2f8", "#8fa3c4"


def draw(path: Path) -> None:
    """Draw the layers from bottom to top, and what stands beside them."""
    figure, ax = plt.subplots(figsize=(10.5, 6.4))
    top = len(LAYERS)
    for i, (name, role) in enumerate(LAYERS):
        y = top - 1 - i
        box = FancyBboxPatch(
            (0.0, y + 0.08), 7.6, 0.84, boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=PALE, edgecolor=LINE,
        )  # fmt: skip
        ax.add_patch(box)
        ax.text(0.15, y + 0.5, name, va="center", color=INK, fontsize=10.5, fontweight="bold")
        ax.text(2.95, y + 0.5, role, va="center", color=INK, fontsize=8.8)
    height = top / len(BESIDE)
    for i, (name, role) in enumerate(BESIDE):
        y = top - (i + 1) * height
        box = FancyBboxPatch(
            (7.9, y + 0.08), 2.0, height - 0.16, boxstyle="round,pad=0,rounding_size=0.08",
            facecolor="white", edgecolor=LINE,
        )  # fmt: skip
        ax.add_patch(box)
        middle = y + height / 2
        ax.text(8.9, middle + 0.3, name, ha="center", color=INK, fontsize=10.5, fontweight="bold")
        ax.text(8.9, middle, role, ha="center", va="top", color=INK, fontsize=8.8)
    ax.annotate(
        "", xy=(-0.35, 0.2), xytext=(-0.35, top - 0.2),
        arrowprops={"arrowstyle": "->", "color": INK},
    )  # fmt: skip
    ax.text(-0.6, top / 2, "imports", rotation=90, va="center", ha="center", color=INK)
    ax.set(xlim=(-0.9, 10.0), ylim=(-0.05, top + 0.05))
    ax.axis("off")
    figure.savefig(path, dpi=130, bbox_inches="tight", facecolor="white")


if __name__ == "__main__":
    draw(Path(__file__).parent / "figures" / "layers.png")
