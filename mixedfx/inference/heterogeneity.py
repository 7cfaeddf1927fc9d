"""Heterogeneity of studies with known sampling variances, as of meta-analyses.

With weights ``w_i = 1 / v_i`` and ``P = W - W X (X'W X)^-1 X'W`` of the model without random
effects, ``Q = y'P y`` has without heterogeneity a chi-squared distribution of ``k - p`` degrees of
freedom, ``s^2 = (k - p) / tr P`` is a typical sampling variance, and

    I^2 = tau^2 / (tau^2 + s^2),    H^2 = 1 + tau^2 / s^2
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from mixedfx.estimation.fitted_model import FittedModel

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Heterogeneity:
    """Test of heterogeneity, and its share of the variance."""

    Q: float
    df: int
    p_value: float
    typical_variance: float  # s^2

    def share(self, tau2: float) -> float:
        """``I^2`` of a variance between studies."""
        return tau2 / (tau2 + self.typical_variance)


def heterogeneity(fit: FittedModel) -> Heterogeneity:
    """
    Of a fit with known residual standard deviations.

    References
    ----------
    .. [1] Higgins and Thompson (2002), Stat. Med. 21:1539.
    .. [2] Cochran (1954), Biometrics 10:101.
    """
    rows = fit.rows
    w = np.ones(rows.n) if rows.weights is None else rows.weights
    y = rows.y if rows.offset is None else rows.y - rows.offset
    root = np.sqrt(w)
    Q_basis = np.linalg.qr(root[:, None] * rows.X)[0]
    scaled = root * y
    residual = scaled - Q_basis @ (Q_basis.T @ scaled)
    trace = float(w.sum() - np.einsum("n,np,np->", w, Q_basis, Q_basis))
    df = rows.n - Q_basis.shape[1]
    Q = float(residual @ residual)
    return Heterogeneity(Q, df, float(special.chdtrc(df, Q)), df / trace)
