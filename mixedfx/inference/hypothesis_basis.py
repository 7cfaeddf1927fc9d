"""One way of writing a hypothesis of several rows, whatever rows span it.

Satterthwaite's degrees of freedom are of the principal components of the rows as they are written.
Here the rows are in reduced echelon form over the coefficients of treatment coding, in which
lmerTest writes hypotheses: the result depends on the space of the rows alone, and not on the coding
of the fit. The rows ``a[T.q] = 0``, ``a[T.r] = 0`` of a factor stay as they are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixedfx.design.slim import summary_of_rows
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.constraints import Constraints
from mixedfx.inference.recoding import recoded

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Pivots below this share of their row are rounding.
_PIVOT = 1e-9


def echelon_hypotheses(fit: FittedModel, hypotheses: Constraints) -> Constraints:
    """Independent rows of the same hypothesis in reduced echelon form, (r, p)."""
    independent = hypotheses.independent()
    if len(independent.rows) < 2:
        return independent
    coding = recoded(fit)
    # With columns at unit root mean square a pivot does not depend on the covariates' units.
    size = coding_rms(fit)
    scaled = independent.rows @ coding.from_coding / size
    reduced, pivots = _echelon(np.column_stack([scaled, independent.values]), len(size))
    rows = reduced[:, :-1] * size / size[pivots][:, None]
    values = reduced[:, -1] / size[pivots]
    return Constraints(rows @ coding.to_coding, values, independent.labels)


@summary_of_rows("coding rms")
def coding_rms(fit: FittedModel) -> Vector:
    """Root mean square of each column of X in the treatment coding, (p,)."""
    return np.asarray(np.sqrt(np.square(fit.rows.X @ recoded(fit).from_coding).mean(axis=0)))


def _echelon(augmented: Matrix, n_columns: int) -> tuple[Matrix, list[int]]:
    """Gauss-Jordan elimination of the first columns, rows exchanged for the largest pivots."""
    M = augmented / np.linalg.norm(augmented[:, :n_columns], axis=1)[:, None]
    pivots: list[int] = []
    for j in range(n_columns):
        done = len(pivots)
        if done == len(M):
            break
        best = done + int(np.argmax(np.abs(M[done:, j])))
        if abs(M[best, j]) <= _PIVOT:
            continue
        M[[done, best]] = M[[best, done]]
        M[done] /= M[done, j]
        others = np.arange(len(M)) != done
        M[others] -= np.outer(M[others, j], M[done])
        M[others, j] = 0.0
        pivots.append(j)
    return M, pivots
