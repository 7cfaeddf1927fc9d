"""Effects of several random terms in one vector: term by term, and level by level of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


def parts_of_terms(
    levels: Sequence[int], widths: Sequence[int]
) -> Iterator[tuple[slice, int, int]]:
    """Place of each term's effects, its levels, and the effects of a level."""
    start = 0
    for n, k in zip(levels, widths, strict=True):
        yield slice(start, start + n * k), n, k
        start += n * k


def sums_of_level_blocks(
    products: Matrix, levels: Sequence[int], widths: Sequence[int]
) -> list[Matrix]:
    """Sum of the diagonal blocks of a matrix over the levels of each term, (k, k)."""
    out = []
    for own, n, k in parts_of_terms(levels, widths):
        of_term = products[own, own].reshape(n, k, n, k)
        out.append(np.asarray(np.einsum("lalb->ab", of_term)))
    return out
