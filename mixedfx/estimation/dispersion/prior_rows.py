"""Normal priors of the coefficients as rows of a location-scale model.

A prior ``beta_j ~ N(m, s^2)`` is the likelihood of a row ``m = beta_j + e`` with the known standard
deviation s: integrated over flat coefficients the rows have the density that the model has under
the prior (Lindley and Smith 1972, J. R. Stat. Soc. B 34:1). The rows are one cell, behind all
others, and one stratum without effects of the scale.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx.estimation.dispersion.cells import Batch, CellRows
from mixedfx.estimation.dispersion.effects import ScaleDesign
from mixedfx.likelihood.coefficient_covariance import combinations_in_basis
from mixedfx.likelihood.crossproducts import CrossProducts

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NormalPriors:
    """Independent normal priors of the coefficients; an infinite sd is a flat one."""

    mean: Vector  # (p,)
    sd: Vector  # (p,)

    @property
    def is_proper(self) -> bool:
        """Whether any coefficient has a prior."""
        return bool(np.isfinite(self.sd).any())

    def rows(
        self, rows: CellRows, scale: ScaleDesign, crossprod: CrossProducts
    ) -> tuple[CellRows, ScaleDesign]:
        """Compressed rows with those of the priors, and the strata with theirs."""
        proper = np.flatnonzero(np.isfinite(self.sd))
        m, R, sd = len(proper), len(rows.y), self.sd[proper]
        X = combinations_in_basis(np.eye(crossprod.p)[proper], crossprod.qr_R)
        y = self.mean[proper] - crossprod.ols_coef[proper]
        widths = rows.batches[0].widths
        batch = Batch(np.zeros((m, 1, sum(widths))), (1,) * len(widths), widths, slice(R, R + m))
        cell, stratum = len(rows.counts), len(scale.index)
        J = scale.index.shape[1]
        more = replace(
            rows,
            batches=(*rows.batches, batch),
            X=np.vstack([rows.X, X / sd[:, None]]),
            y=np.append(rows.y, y / sd),
            cell=np.append(rows.cell, np.full(m, cell)),
            stratum=np.append(rows.stratum, stratum),
            counts=np.append(rows.counts, m),
            rest=np.append(rows.rest, 0.0),
            log_weights=rows.log_weights - 2.0 * float(np.log(sd).sum()),
        )
        strata = replace(
            scale,
            index=np.vstack([scale.index, np.zeros((1, J), dtype=np.intp)]),
            value=np.vstack([scale.value, np.zeros((1, J))]),
        )
        return more, strata
