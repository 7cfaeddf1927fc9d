"""Levels of rows as combinations of nodes: products of two rows' combinations, and their pairs.

Row u of S has the weights of the nodes of code u: a one at the node of a level, or those of
multiple memberships. A block D of the codes adds ``S_ul S_um D_u`` to that of the nodes l and m.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import sparse

Ints = npt.NDArray[np.intp]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PairLoadings:
    """Pairs of nodes that codes lead to, and the coefficients of the codes' values in theirs."""

    rows: Ints  # (pairs,) nodes
    cols: Ints
    coefficients: sparse.csr_array = field(repr=False)  # (codes, pairs)

    def of_pairs(self, values: Array) -> Array:
        """Values (K, K', codes) summed over the codes of each pair, (K, K', pairs)."""
        flat = values.reshape(-1, values.shape[-1])
        summed = np.asarray((self.coefficients.T @ flat.T).T)
        return summed.reshape(*values.shape[:-1], len(self.rows))

    def of_codes(self, values: Array) -> Array:
        """Values (K, K', pairs) of the pairs of each code, (K, K', codes)."""
        flat = values.reshape(-1, values.shape[-1])
        summed = np.asarray((self.coefficients @ flat.T).T)
        return summed.reshape(*values.shape[:-1], self.coefficients.shape[0])


def pair_loadings(first: sparse.csr_array, second: sparse.csr_array) -> PairLoadings:
    """Products of rows of two matrices, (codes, nodes) each, of the same codes."""
    counts = np.diff(first.indptr), np.diff(second.indptr)
    code = np.repeat(np.arange(len(counts[0])), counts[0] * counts[1])
    within = np.arange(len(code)) - np.repeat(
        np.cumsum(counts[0] * counts[1]) - counts[0] * counts[1], counts[0] * counts[1]
    )
    a = first.indptr[:-1][code] + within // np.maximum(counts[1], 1)[code]
    b = second.indptr[:-1][code] + within % np.maximum(counts[1], 1)[code]
    width = np.int64(max(second.shape[1], 1))
    keys, place = np.unique(
        first.indices[a].astype(np.int64) * width + second.indices[b], return_inverse=True
    )
    rows, cols = np.divmod(keys, width)
    coefficients = sparse.csr_array(
        (first.data[a] * second.data[b], (code, place.ravel())),
        shape=(first.shape[0], len(keys)),
    )
    return PairLoadings(rows.astype(np.intp), cols.astype(np.intp), coefficients)


def own_loadings(S: sparse.csr_array) -> tuple[sparse.csr_array, PairLoadings]:
    """Squares of the entries, (codes, nodes), and pairs of different nodes, the later one first."""
    pairs = pair_loadings(S, S)
    below = pairs.rows > pairs.cols
    kept = np.flatnonzero(below)
    coefficients = sparse.csr_array(pairs.coefficients[:, kept])
    return S.multiply(S).tocsr(), PairLoadings(pairs.rows[kept], pairs.cols[kept], coefficients)
