"""Size of what crossed factors need, before any of it is allocated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixedfx.errors import SizeError
from mixedfx.likelihood import level_precision
from mixedfx.linalg.available_memory import check_memory, is_always_available
from mixedfx.linalg.cholesky.analysis import elimination_order
from mixedfx.linalg.cholesky.block_matrix import BlockPattern
from mixedfx.linalg.iterative.solver import IterativeSolver
from mixedfx.linalg.precision import PrecisionSolver
from mixedfx.linalg.solver import Factor, Solver

# Arrays of the block's size at the peak of a fit, as measured: the cross-products, the factor, its
# inverse, and a temporary one.
_COPIES = 4
# Size of the cross-products of a stratum, of their root and of what a draw reads of them, in those
# of all rows, as measured: 3 of one factor, 6 to 7 of two that are crossed.
_SIZE_OF_STRATUM = 7
# Vectors that the iterations of two threads hold beside their results.
_COLUMNS_IN_WORK = 100


def exact_operations(pattern: BlockPattern) -> float:
    """Multiplications of an exact evaluation: ``t**3 + K sum m**2``.

    The dense block has t columns; a level of the first factor has K effects and shares rows with m
    later columns.
    """
    layout = pattern.layout
    leading, dense = elimination_order(pattern)
    t = float(sum(map(layout.size, dense)))
    if not leading or not dense:
        return t**3
    first = leading[0]
    entries = np.zeros(layout.levels(first))
    for f in layout.factors:
        if f != first:
            pairs = pattern.pairs[min(f, first), max(f, first)]
            counts = pairs.counts(*map(layout.levels, sorted((f, first))))
            entries += layout.width(f) * counts[0 if first < f else 1]
    return float(t**3 + layout.width(first) * (entries**2).sum())


def _dense_block(pattern: BlockPattern, groups: Sequence[str]) -> tuple[Sequence[int], int, str]:
    """Factors that are eliminated as a dense block, its columns, and the factors in words."""
    layout, (_, dense) = pattern.layout, elimination_order(pattern)
    names = " and ".join(f"'{groups[f]}' ({layout.levels(f):,} levels)" for f in dense)
    return dense, sum(map(layout.size, dense)), names


def check_dense_block(pattern: BlockPattern, groups: Sequence[str]) -> None:
    """Raise a SizeError where crossed factors leave a dense block that memory cannot hold."""
    layout = pattern.layout
    if is_always_available(8.0 * _COPIES * sum(map(layout.size, layout.factors)) ** 2):
        return
    dense, size, names = _dense_block(pattern, groups)
    check_memory(
        f"the grouping factors are crossed, and the block of {names} is factorised as a dense "
        f"matrix of {size:,} x {size:,} numbers",
        8.0 * size**2,
        copies=_COPIES,
        advice=(
            "engine='iterative' forms no such block. Or leave the random terms of "
            f"{' or '.join(repr(groups[f]) for f in dense)} out, fit rows of fewer of these "
            "levels, or use a machine with more memory."
        ),
    )


def check_roots_of_strata(n_strata: int, n_bytes: int) -> None:
    """Raise a SizeError where cross-products of so many bytes, and roots, are too many."""
    if n_strata > 1:
        check_memory(
            "responses of rows that are not in memory are drawn by cross-products, and a root of "
            f"them, for each of {n_strata:,} strata of dispersion=",
            float(n_strata) * _SIZE_OF_STRATUM * n_bytes,
            copies=1,
            advice=(
                "conf_int() and summary() draw none. Or bootstrap a fit with fewer strata or "
                "levels, or use a machine with more memory."
            ),
        )


def check_dense_root(pattern: BlockPattern, groups: Sequence[str], roots: int = 1) -> None:
    """Raise a SizeError where roots of the cross-products have dense blocks that are too large."""
    layout = pattern.layout
    if is_always_available(8.0 * (_COPIES + roots) * sum(map(layout.size, layout.factors)) ** 2):
        return
    _, size, names = _dense_block(pattern, groups)
    check_memory(
        "responses of rows that are not in memory are drawn by a root of their cross-products, and "
        f"that of {names} is a dense matrix of {size:,} x {size:,} numbers"
        f"{f' for each of {roots:,} strata' if roots > 1 else ''}",
        8.0 * size**2,
        copies=_COPIES + roots - 1,
        advice=(
            "conf_int() and summary() draw none. Or bootstrap a fit of fewer of these levels, or "
            "use a machine with more memory."
        ),
    )


def check_memory_of_solver(solver: Solver, pattern: BlockPattern, groups: Sequence[str]) -> None:
    """Raise a SizeError where memory cannot hold what a solver allocates."""
    if isinstance(solver, PrecisionSolver):
        level_precision.check_precision(solver, pattern, groups)
        return
    if not isinstance(solver, IterativeSolver):
        check_dense_block(pattern, groups)
        return
    layout, pairs = pattern.layout, pattern.pairs
    size = sum(map(layout.size, layout.factors))
    # Columns of vectors at once: those of signs and their solutions, and of a chunk in work.
    columns = 2 * solver.probes + _COLUMNS_IN_WORK
    # Products of all pairs are made a batch at a time, and their sums are there already.
    of_pairs = sum(
        p.rows.nbytes + p.cols.nbytes + 8.0 * layout.width(i) * layout.width(j) * len(p)
        for (i, j), p in pairs.items()
    )
    check_memory(
        f"{sum(map(len, pairs.values())):,} pairs of levels of {' and '.join(map(repr, groups))} "
        f"and {columns} vectors of {size:,} effects",
        of_pairs + 8.0 * columns * size,
        copies=1,
        held=of_pairs,
        advice="Fit rows of fewer levels, leave terms out, or use a machine with more memory.",
    )


def check_columns(numeric: Factor, columns: int, what: str, instead: str) -> None:
    """Raise a SizeError where more systems are to be solved than is sensible."""
    if columns > numeric.most_columns:
        raise SizeError(
            f"{what} needs {columns:,} columns of the inverse of the random effects' equations, "
            f"and {numeric.solved_by} at most {numeric.most_columns:,.0f} of them: "
            f"{instead}{numeric.otherwise}."
        )
