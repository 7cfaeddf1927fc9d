"""Size of the dense block of crossed factors, before any of it is allocated."""

from __future__ import annotations

from collections.abc import Sequence

from mixedfx.linalg.available_memory import check_memory
from mixedfx.linalg.cholesky.analysis import elimination_order
from mixedfx.linalg.cholesky.block_matrix import BlockPattern

# Arrays of the block's size at the peak of a fit, as measured: the cross-products, the factor, its
# inverse, and a temporary one.
_COPIES = 4


def check_dense_block(pattern: BlockPattern, groups: Sequence[str]) -> None:
    """Raise a SizeError where crossed factors leave a dense block that memory cannot hold."""
    layout = pattern.layout
    _, dense = elimination_order(pattern)
    size = sum(map(layout.size, dense))
    names = " and ".join(f"'{groups[f]}' ({layout.levels(f):,} levels)" for f in dense)
    check_memory(
        f"the grouping factors are crossed, and the block of {names} is factorised as a dense "
        f"matrix of {size:,} x {size:,} numbers",
        8.0 * size**2,
        copies=_COPIES,
        advice=(
            f"Leave the random terms of {' or '.join(repr(groups[f]) for f in dense)} out, fit "
            "rows of fewer of these levels, or use a machine with more memory."
        ),
    )
