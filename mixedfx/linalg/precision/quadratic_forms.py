"""``z' Lambda C Lambda' z`` of sparse rows z, with C the inverse of the equations of the nodes.

Rows whose columns are pairwise adjacent in the equations need entries of C that the factor has;
for others systems are solved.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx.errors import SizeError
from mixedfx.linalg.cholesky.symbolic import level_pairs
from mixedfx.linalg.precision.factor import PrecisionFactor

Vector = npt.NDArray[np.float64]

# Numbers in a chunk of right-hand sides.
_CHUNK = 8_000_000
# Rows of more entries are solved for.
_MOST_ENTRIES = 40


def quadratic_forms(numeric: PrecisionFactor, Z: sparse.csr_array) -> Vector:
    """Each row's value, (n,)."""
    Zl, place = _distinct_rows(numeric, Z)
    counts = np.diff(Zl.indptr).astype(np.int64)
    found, few = np.empty(len(counts)), counts <= _MOST_ENTRIES
    found[few], is_known = _by_entries(numeric, Zl[few])
    unknown = np.concatenate([np.flatnonzero(few)[~is_known], np.flatnonzero(~few)])
    if len(unknown):
        found[unknown] = _by_solving(numeric, Zl[unknown])
    return np.asarray(found[place])


def _by_entries(
    numeric: PrecisionFactor, Z: sparse.csr_array
) -> tuple[Vector, npt.NDArray[np.bool_]]:
    """By entries of C; and whether the factor has all those of a row."""
    counts = np.diff(Z.indptr).astype(np.int64)
    first, second = level_pairs(counts, np.int64)
    symbolic = numeric.factor.symbolic
    columns = Z.indices.astype(np.intp)
    at, has_entry = symbolic.find(columns[first], columns[second])
    owner = np.repeat(np.arange(len(counts)), counts)[first]
    twice = np.where(first == second, 1.0, 2.0)
    C = numeric.inverse[np.where(has_entry, at, 0)]
    values = np.bincount(owner, twice * Z.data[first] * Z.data[second] * C, len(counts))
    return values.astype(float), np.bincount(owner, ~has_entry, len(counts)) == 0


def _distinct_rows(
    numeric: PrecisionFactor, Z: sparse.csr_array
) -> tuple[sparse.csr_array, npt.NDArray[np.intp]]:
    """``Z Lambda`` of distinct rows, and which of these each row is."""
    Z = sparse.csr_array(Z)
    Z.sort_indices()
    keys = [
        (Z.indices[a:b].tobytes(), Z.data[a:b].tobytes())
        for a, b in zip(Z.indptr[:-1].tolist(), Z.indptr[1:].tolist(), strict=True)
    ]
    numbers: dict[tuple[bytes, bytes], int] = {}
    place = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.intp)
    _, kept = np.unique(place, return_index=True)
    factors = []
    for f, lam in enumerate(numeric.lambdas):
        nodes = numeric.symbolic.layout.levels(f)
        factors.append(sparse.kron(sparse.csr_array(lam), sparse.eye_array(nodes), format="csr"))
    order = numeric.symbolic.order
    full = sparse.block_diag([factors[f] for f in order], format="csr")
    return sparse.csr_array(Z[kept] @ full), place


def _by_solving(numeric: PrecisionFactor, Z: sparse.csr_array) -> Vector:
    """By systems, in chunks of right-hand sides."""
    n, size = Z.shape
    if n > numeric.most_columns:
        raise SizeError(
            f"{n:,} rows join levels that no row of the fit does, and the pedigree's equations are "
            f"solved for at most {numeric.most_columns:,.0f} such rows: predict fewer rows, or "
            "without standard errors."
        )
    found, step = np.empty(n), max(1, _CHUNK // size)
    for first in range(0, n, step):
        z = Z[first : first + step].toarray().T
        found[first : first + step] = np.einsum("qn,qn->n", z, numeric.factor.solve(z))
    return found
