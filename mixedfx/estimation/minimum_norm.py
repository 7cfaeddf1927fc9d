"""Minimum norm quadratic estimates of the covariances at Lambda = 0, of all factors together.

With ``h = Z'Py`` and ``K = Z'PZ``, P the projector on the residuals of least squares,

    E h_f'(e_a e_b')h_f = sum_g sum_cd Psi_g[c, d] tr(e_a e_b' K_fg e_c e_d' K_gf)
                          + sigma**2 tr(e_a e_b' K_ff)
    E y'Py              = sum_g sum_cd Psi_g[c, d] tr(e_c e_d' K_gg) + sigma**2 (n - p)

is linear in the covariances (Rao 1972, J. Am. Stat. Assoc. 67:112). Nothing is inverted, so that
levels may share rows.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.projected_blocks import ProjectedBlocks

Matrix = npt.NDArray[np.float64]

# Least share of the residual variance of least squares that is left to the residuals.
_LEAST_SHARE = 0.05


def minimum_norm_estimates(crossprod: CrossProducts) -> tuple[list[Matrix], float]:
    """Covariance of each factor's effects, (K, K), and the residual variance."""
    blocks, layout = ProjectedBlocks.of(crossprod, reml=True), crossprod.ZtZ.layout
    ends = np.cumsum([0, *(k**2 for k in layout.widths)])
    parts = [slice(a, b) for a, b in itertools.pairwise(ends.tolist())]
    m, df = int(ends[-1]), float(crossprod.n - crossprod.p)
    system, right = np.zeros((m + 1, m + 1)), np.zeros(m + 1)
    for f in layout.factors:
        h = crossprod.ZtXy[f][:, -1]
        right[parts[f]] = (h @ h.T).ravel()
        system[parts[f], m] = system[m, parts[f]] = blocks.within(f).ravel()
        for g in range(f, len(layout.widths)):
            system[parts[f], parts[g]] = blocks.products(f, g)
            system[parts[g], parts[f]] = system[parts[f], parts[g]].T
    system[m, m], right[m] = df, crossprod.XytXy[-1, -1]
    scale = np.sqrt(np.where(np.diag(system) > 0.0, np.diag(system), 1.0))
    solved = np.linalg.lstsq(system / np.outer(scale, scale), right / scale, rcond=None)[0] / scale
    total = right[m] / df
    covariances = [solved[part].reshape(k, k) for part, k in zip(parts, layout.widths, strict=True)]
    residual = float(np.clip(solved[m], _LEAST_SHARE * total, total))
    return [0.5 * (Psi + Psi.T) for Psi in covariances], residual
