"""Pedigrees: order of the generations, and inbreeding coefficients.

    A = T D T'        T = (I - P)^-1        D_i = 1/2 - (F_s + F_d) / 4 with both parents known,
    3/4 - F_s / 4 with one, 1 with none        F_i = A_sd / 2

with F inbreeding coefficients and P the matrix of parents, 1/2 each (Henderson 1976, Biometrics
32:69; Quaas 1976, Biometrics 32:949). ``A_sd`` needs the ancestors of the parents alone, whose
D are known when generations are taken in order, as in Meuwissen and Luo (1992, Genet. Sel. Evol.
24:305); here for all matings of a generation together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from mixedfx._keys import key_text
from mixedfx.covariance.known_covariance import PedigreeCovariance
from mixedfx.errors import RelationshipError
from mixedfx.linalg.sparse_matrix import SparseMatrix, unit_inverse_rows

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Numbers in a batch of columns.
_NUMBERS = 10_000_000
# Paths to ancestors in a batch of rows of T.
_PATHS = 2_000_000.0
# Time of a number in a column of A, over that of a path.
_COLUMN_COST = 2.5


def pedigree_covariance(
    ids: Sequence[Any], sires: Sequence[Any], dams: Sequence[Any]
) -> tuple[pd.Index, PedigreeCovariance]:
    """Labels with parents before their offspring, and the numerator relationships of these."""
    labels, sire, dam = _numbered(ids, sires, dams)
    generation = _generations(labels, sire, dam)
    order = np.argsort(generation, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    sire, dam = (np.where(p >= 0, place[p], -1)[order] for p in (sire, dam))
    parents = _parent_matrix(sire, dam)
    mendelian, inbreeding = _mendelian_variances(sire, dam, generation[order], parents)
    known = PedigreeCovariance(SparseMatrix.of(parents), mendelian, inbreeding)
    return labels[order], known


def _numbered(
    ids: Sequence[Any], sires: Sequence[Any], dams: Sequence[Any]
) -> tuple[pd.Index, Codes, Codes]:
    """Labels, and the parents' numbers (-1: unknown); parents without a row are appended."""
    columns = [pd.Series(list(c), dtype=object) for c in (ids, sires, dams)]
    if len({len(c) for c in columns}) != 1:
        lengths = ", ".join(str(len(c)) for c in columns)
        raise RelationshipError(f"ids, sires and dams have different lengths: {lengths}.")
    if columns[0].isna().any():
        raise RelationshipError(f"the pedigree has no id in row {int(columns[0].isna().argmax())}.")
    own = [key_text(v) for v in columns[0]]
    number = {text: i for i, text in enumerate(own)}
    if len(number) < len(own):
        twice = next(t for i, t in enumerate(own) if number[t] != i)
        raise RelationshipError(f"'{twice}' has several rows in the pedigree; keep one.")
    labels = columns[0].tolist()
    found = []
    for parents in columns[1:]:
        codes = np.full(len(own), -1, dtype=np.intp)
        for i, parent in enumerate(parents):
            if parent is None or parent is pd.NA or parent != parent:  # missing
                continue
            text = key_text(parent)
            if text not in number:
                if text in ("", "0"):  # as breeders write an unknown parent
                    continue
                number[text] = len(labels)
                labels.append(parent)
            codes[i] = number[text]
        found.append(codes)
    sire, dam = (np.append(c, np.full(len(labels) - len(own), -1)) for c in found)
    return pd.Index(labels, tupleize_cols=False), sire.astype(np.intp), dam.astype(np.intp)


def _generations(labels: pd.Index, sire: Codes, dam: Codes) -> Codes:
    """Generation of each animal, one more than its parents' later one; refuses circles."""
    generation = np.zeros(len(labels), dtype=np.intp)
    for _ in range(len(labels) + 1):
        of_sire = np.where(sire >= 0, generation[sire] + 1, 0)
        of_dam = np.where(dam >= 0, generation[dam] + 1, 0)
        later = np.maximum(of_sire, of_dam)
        if (later == generation).all():
            return generation
        generation = later
        if int(generation.max()) > len(labels):
            break
    circular = labels[int(generation.argmax())]
    raise RelationshipError(
        f"'{circular}' is an ancestor of itself in the pedigree: correct its parents."
    )


def _parent_matrix(sire: Codes, dam: Codes) -> sparse.csr_array:
    """P: 1/2 at each known parent."""
    size = len(sire)
    known = [np.flatnonzero(p >= 0) for p in (sire, dam)]
    rows = np.concatenate(known)
    columns = np.concatenate([p[at] for p, at in zip((sire, dam), known, strict=True)])
    return sparse.csr_array((np.full(len(rows), 0.5), (rows, columns)), shape=(size, size))


def _mendelian_variances(
    sire: Codes, dam: Codes, generation: Codes, parents: sparse.csr_array
) -> tuple[Vector, Vector]:
    """D and F of each animal, generation by generation; animals are sorted by these."""
    F, D = np.zeros(len(sire)), np.empty(len(sire))
    paths = _ancestral_paths(sire, dam, generation)
    starts = np.searchsorted(generation, np.arange(int(generation.max(initial=0)) + 2))
    for first, last in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        s, d = sire[first:last], dam[first:last]
        of_sire = np.where(s >= 0, 0.25 * (1.0 + F[s]), 0.0)
        of_dam = np.where(d >= 0, 0.25 * (1.0 + F[d]), 0.0)
        D[first:last] = 1.0 - of_sire - of_dam
        both = np.flatnonzero((s >= 0) & (d >= 0))
        matings, mating = np.unique(np.column_stack([s, d])[both], axis=0, return_inverse=True)
        if len(both):
            F[first + both] = 0.5 * _relationships(matings, parents, D, paths)[mating.ravel()]
    return D, F


def _ancestral_paths(sire: Codes, dam: Codes, generation: Codes) -> Vector:
    """Paths from each animal to its ancestors and itself, at most as many as animals before it."""
    paths = np.ones(len(sire) + 1)
    paths[-1] = 0.0  # of an unknown parent
    starts = np.searchsorted(generation, np.arange(int(generation.max(initial=0)) + 2))
    for first, last in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        sum_of_paths = 1.0 + paths[sire[first:last]] + paths[dam[first:last]]
        paths[first:last] = np.minimum(sum_of_paths, 1.0 + first)
    return paths[:-1]


def _relationships(pairs: Codes, parents: sparse.csr_array, D: Vector, paths: Vector) -> Vector:
    """``A_sd`` of pairs (m, 2), by whichever way costs less."""
    by_columns = min(len(np.unique(column)) for column in pairs.T) * float(pairs.max() + 1)
    if _COLUMN_COST * by_columns < paths[np.unique(pairs)].sum():
        return _by_columns(pairs, parents, D)
    return _by_gene_flow(pairs, parents, D, paths)


def _by_gene_flow(pairs: Codes, parents: sparse.csr_array, D: Vector, paths: Vector) -> Vector:
    """``A_sd = sum_j T_sj D_j T_dj`` over common ancestors, by rows of T of few numbers."""
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    sizes = np.cumsum(paths[pairs[order]].sum(axis=1))
    batch = (sizes // _PATHS).astype(np.intp)
    found = np.empty(len(pairs))
    for at in np.split(order, np.flatnonzero(np.diff(batch)) + 1):
        animals, place = np.unique(pairs[at], return_inverse=True)
        T, of_pair = _gene_flow_rows(animals, parents), place.reshape(-1, 2)
        common = T[of_pair[:, 0]].multiply(T[of_pair[:, 1]])
        found[at] = common @ D[: common.shape[1]]
    return found


def _gene_flow_rows(animals: Codes, parents: sparse.csr_array) -> sparse.csr_array:
    """Rows of ``T = I + P + P^2 + ...``."""
    last = int(animals.max()) + 1
    return unit_inverse_rows(parents[:last, :last], animals)


def _by_columns(pairs: Codes, parents: sparse.csr_array, D: Vector) -> Vector:
    """
    ``A_sd`` of pairs (m, 2), by products of A with unit vectors of the parents that are fewer.

    No animal after them in the order is an ancestor of theirs (Colleau 2002, Genet. Sel. Evol.
    34:409).
    """
    unique = [np.unique(pairs[:, i], return_inverse=True) for i in (0, 1)]
    fewer = int(len(unique[1][0]) < len(unique[0][0]))
    (columns, at), others = unique[fewer], pairs[:, 1 - fewer]
    last = int(pairs.max(initial=-1)) + 1
    known = PedigreeCovariance(SparseMatrix.of(parents[:last, :last]), D[:last], np.zeros(last))
    found = np.empty(len(pairs))
    step = max(1, _NUMBERS // max(last, 1))
    for first in range(0, len(columns), step):
        batch = columns[first : first + step]
        units = np.zeros((last, len(batch)))
        units[batch, np.arange(len(batch))] = 1.0
        own = np.flatnonzero((at >= first) & (at < first + step))
        found[own] = known.multiply(units)[others[own], at[own] - first]
    return found
