"""Multiple membership: a row belongs to several levels of a grouping factor, with weights.

    Z[i, l] = sum of the weights w_ij of the columns j in which row i has level l

A missing level takes no part, whatever its weight; without weights those present share equally. A
row without any level is incomplete. The memberships of each row are one text, which is found,
dropped where missing, and looked up in new rows like the value of any other grouping factor.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from mixedfx._keys import key_text, positions_of_keys
from mixedfx.design.levels import Levels
from mixedfx.errors import WeightsError
from mixedfx.linalg.sparse_matrix import SparseMatrix

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


class Memberships(NamedTuple):
    """Levels of some rows: the unit of each row, and the weights of the units' levels."""

    codes: Codes  # (n,) unit of each row
    weights: SparseMatrix  # (units, levels)
    unseen: Vector  # (units,) sum of the squared weights of levels that are not known


def mm(*columns: Any, weights: Sequence[Any] | None = None) -> pd.Series:
    """Memberships of each row as a text, missing where a row has none or lacks a weight."""
    values = [pd.Series(np.asarray(c, dtype=object)) for c in columns]
    n = len(values[0])
    present = np.column_stack([v.notna().to_numpy() for v in values])
    if weights is None:
        counts = present.sum(axis=1)
        share = np.divide(1.0, counts, out=np.zeros(n), where=counts > 0)
        w = np.where(present, share[:, None], 0.0)
    else:
        if len(weights) != len(columns):
            raise ValueError(f"mm() has {len(columns)} columns and {len(weights)} weights")
        w = np.column_stack([np.broadcast_to(np.asarray(v, dtype=float), n) for v in weights])
        w = np.where(present, w, 0.0)
    if (w < 0.0).any() or np.isinf(w).any():
        row = int(((w < 0.0) | np.isinf(w)).any(axis=1).argmax())
        raise WeightsError(
            f"mm() has the weight {w[row][(w[row] < 0) | np.isinf(w[row])][0]:g} in row {row} of "
            "the data; weights of memberships are finite and not negative."
        )
    texts = np.full(n, None, dtype=object)
    for i in np.flatnonzero(~np.isnan(w).any(axis=1) & (w > 0.0).any(axis=1)).tolist():
        pairs = [
            (_plain(values[j][i]), float(w[i, j])) for j in np.flatnonzero(w[i] > 0.0).tolist()
        ]
        texts[i] = json.dumps(pairs)
    return pd.Series(texts, dtype=object)


def _plain(value: Any) -> int | str:
    """Label that JSON keeps: a whole number, or text."""
    text = key_text(value)
    number = not isinstance(value, str) and text.lstrip("-").isdigit()
    return int(text) if number else text


def find_memberships(texts: pd.Series) -> tuple[Levels, Memberships]:
    """Levels that occur in some rows' memberships, sorted, and the memberships."""
    codes, units = pd.factorize(texts.to_numpy(dtype=object), sort=True)
    labels = {label for unit in units for label, _ in json.loads(unit)}
    if len({type(label) for label in labels}) > 1:
        labels = {str(label) for label in labels}
    values = pd.Index(sorted(labels))
    levels = Levels((values,), (np.arange(len(values)),))
    return levels, _weights_of(codes.astype(np.intp), list(units), levels)


def encode_memberships(texts: Any, levels: Levels) -> Memberships:
    """Memberships of new rows in known levels; what is unseen is counted."""
    codes, units = pd.factorize(np.asarray(texts, dtype=object))
    return _weights_of(codes.astype(np.intp), list(units), levels)


def _weights_of(codes: Codes, units: list[str], levels: Levels) -> Memberships:
    entries = [(u, label, w) for u, unit in enumerate(units) for label, w in json.loads(unit)]
    rows = np.array([u for u, _, _ in entries], dtype=np.intp)
    values = np.array([w for _, _, w in entries], dtype=np.float64)
    keys = pd.Index([label for _, label, _ in entries], dtype=object)
    at = positions_of_keys(keys, levels.labels)
    known = at >= 0
    shape = (len(units), len(levels))
    matrix = sparse.csr_array((values[known], (rows[known], at[known])), shape=shape)
    unseen: dict[tuple[int, str], float] = {}
    for u, key, w in zip(
        rows[~known].tolist(), keys[~known].tolist(), values[~known].tolist(), strict=True
    ):
        unseen[u, str(key)] = unseen.get((u, str(key)), 0.0) + w
    squares = np.zeros(len(units))
    for (u, _), w in unseen.items():
        squares[u] += w**2
    return Memberships(codes, SparseMatrix.of(matrix), squares)
