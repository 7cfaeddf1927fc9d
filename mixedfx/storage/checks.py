"""Whether the parts of a fit that was read match: shapes, and levels within their range."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixedfx.design.slim import SlimRows
from mixedfx.errors import StorageError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.linalg.precision import PrecisionBasis


def check_crossproducts(crossprod: CrossProducts) -> None:
    """Raise StorageError where indices of levels are out of range, or shapes differ."""
    ZtZ, p = crossprod.ZtZ, len(crossprod.names)
    layout = ZtZ.layout
    sizes = list(zip(layout.widths, layout.n_levels, strict=True))
    columns = [
        (K, B.n_nodes if isinstance(B := crossprod.level_basis(f), PrecisionBasis) else L)
        for f, (K, L) in enumerate(sizes)
    ]
    expected = [(K, K, L) for K, L in sizes] + [(K, p + 1, m) for K, m in columns]
    shapes = [a.shape for a in (*ZtZ.diagonal, *crossprod.ZtXy)]
    expected.append((p + 1, p + 1))  # type: ignore[arg-type]
    shapes.append(crossprod.XytXy.shape)
    for (i, j), pairs in ZtZ.pattern.pairs.items():
        expected.append((sizes[i][0], sizes[j][0], len(pairs.rows)))
        shapes.append(ZtZ.off_diagonal[i, j].shape)
        in_range = _within(pairs.rows, sizes[i][1]) and _within(pairs.cols, sizes[j][1])
        if len(pairs.rows) != len(pairs.cols) or not in_range:
            raise StorageError("its levels are out of range")
    for basis, position in zip(crossprod.bases, crossprod.term_positions, strict=True):
        k = position.width
        expected.append((k, k))  # type: ignore[arg-type]
        shapes.append(basis.R.shape if basis.means.shape == (k,) else ())
    # Of several memberships the blocks are those of combinations of levels.
    n_levels = [
        len(B) if isinstance(B := crossprod.level_basis(f), PrecisionBasis) else L
        for f, L in enumerate(layout.n_levels)
    ]
    if shapes != expected or [len(levels) for levels in crossprod.levels] != n_levels:
        raise StorageError("its cross-products have the wrong shapes")


def _within(codes: Any, n_levels: int) -> bool:
    if codes.dtype.kind not in "iu":
        return False
    return not len(codes) or bool(codes.min() >= 0 and codes.max() < n_levels)


def check_rows(fit: FittedModel) -> None:
    """Raise StorageError where the rows differ in number, or the estimates are not numbers."""
    rows, spec, crossprod = fit.rows, fit.spec, fit.crossprod
    if not (np.isfinite(fit.solution.beta).all() and np.isfinite(fit.solution.sigma)):
        raise StorageError("its estimates are not numbers")
    n_dropped = len(spec.column_names) - len(spec.X_names)
    if spec.aliases is not None and spec.aliases.shape != (crossprod.p, n_dropped):
        raise StorageError("its dropped columns are not those of its formula")
    if isinstance(rows, SlimRows):
        return
    vectors: list[Any] = [rows.y, *(v for v in (rows.weights, rows.offset) if v is not None)]
    vectors += [term.codes for term in rows.random_terms]
    # Without a value for each row an array could claim any number of them.
    if crossprod.n > 1 and not all(any(v.strides) for v in vectors):
        raise StorageError("its rows are not all there")
    columns: list[Any] = [*vectors, rows.X, rows.index, *rows.variables.values()]
    lengths = {len(v) for v in columns}
    for term, levels in zip(rows.random_terms, spec.random_terms, strict=True):
        lengths.add(len(term.model_matrix))
        if term.n_levels != len(levels.levels) or not _within(term.codes, term.n_codes):
            raise StorageError("its levels are not those of its rows")
    widths = {rows.X.shape[1], len(spec.X_names), len(fit.solution.beta), crossprod.p}
    if lengths != {crossprod.n} or len(widths) != 1:
        raise StorageError("its rows and columns differ in number")
