"""Which linear functions of the fixed effects the rows of a fit determine.

If in these rows the dropped columns are ``X_d = X_k C`` of the kept ones, a new row
``(x_k, x_d)`` is estimable where ``x_d - x_k C = 0`` (Searle 1971, Linear Models, section 5.4).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixedfx.design.checks import RANK_TOLERANCE

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Residuals of least squares below this share of their terms are rounding.
ALIASING = 1e-8


def column_aliases(X: Matrix, kept: Codes) -> Matrix | None:
    """Least-squares ``C`` of ``X_d = X_k C``, (p, d), columns at unit root mean square."""
    if len(kept) == X.shape[1]:
        return None
    dropped = np.setdiff1d(np.arange(X.shape[1]), kept)
    X_kept, X_dropped = X[:, kept], X[:, dropped]
    size_kept = np.sqrt(np.square(X_kept).mean(axis=0))
    size_dropped = np.sqrt(np.square(X_dropped).mean(axis=0))
    size_dropped[size_dropped == 0.0] = 1.0  # a column of a cell without rows
    C = np.linalg.lstsq(X_kept / size_kept, X_dropped / size_dropped, rcond=None)[0]
    C[np.abs(C) < ALIASING] = 0.0
    C *= size_dropped / size_kept[:, None]
    return np.asarray(C)


def alias_residuals(X: Matrix, kept: Codes, aliases: Matrix | None) -> Matrix:
    """``x_d - x_k C`` of rows of all columns, zero where estimable, (m, d)."""
    if aliases is None:
        return np.zeros((len(X), 0))
    dropped = np.setdiff1d(np.arange(X.shape[1]), kept)
    X_kept, X_dropped = X[:, kept], X[:, dropped]
    size = np.abs(X_dropped) + np.abs(X_kept) @ np.abs(aliases)
    # A column is dropped although it depends on the others to RANK_TOLERANCE only.
    return zero_rounding(X_dropped - X_kept @ aliases, size, RANK_TOLERANCE)


def zero_rounding(values: Matrix, size: Matrix, tolerance: float) -> Matrix:
    """Set sums to zero that are rounding relative to the size of their terms."""
    return np.where(np.abs(values) <= tolerance * size, 0.0, values)
