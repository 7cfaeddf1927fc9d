"""Checks of relationship matrices: labels, symmetry, positive definiteness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from mixedfx._keys import positions_of_keys
from mixedfx.errors import RelationshipError

Matrix = npt.NDArray[np.float64]

# Largest asymmetry, relative to the largest number, that counts as rounding.
_ASYMMETRY = 1e-8


def labelled(A: Any, labels: Sequence[Any] | None) -> tuple[Any, pd.Index]:
    """Read A as an array or sparse matrix, and its labels."""
    if isinstance(A, pd.DataFrame) and labels is None:
        return _of_frame(A)
    if labels is None:
        raise RelationshipError("the rows of this matrix need labels: give labels=, one for each.")
    given: Any = A
    matrix: Any = (
        np.array(A, dtype=np.float64) if not sparse.issparse(A) else sparse.csr_array(given)
    )
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        shape = " by ".join(map(str, matrix.shape))
        raise RelationshipError(f"the relationship matrix is not square: it is {shape}.")
    if matrix.shape[0] != len(labels):
        raise RelationshipError(
            f"the relationship matrix has {matrix.shape[0]} rows and {len(labels)} labels: give "
            "one label for each row."
        )
    return matrix, pd.Index(list(labels), tupleize_cols=False)


def _of_frame(A: pd.DataFrame) -> tuple[Matrix, pd.Index]:
    """Numbers and labels of a table, the columns in the order of the index."""
    if A.shape[0] != A.shape[1]:
        raise RelationshipError(
            f"the relationship matrix is not square: it has {A.shape[0]} rows and {A.shape[1]} "
            "columns (labels belong into the index: A.set_index('id'))."
        )
    order = positions_of_keys(A.index, A.columns)
    if (order < 0).any():
        label = A.index[int((order < 0).argmax())]
        raise RelationshipError(
            f"the relationship matrix has a row '{label}' and no such column: its index and its "
            "columns are the same labels."
        )
    try:
        numbers = A.to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        raise RelationshipError(
            "the relationship matrix holds values that are no numbers."
        ) from None
    return np.ascontiguousarray(numbers[:, order]), A.index


def check_symmetric(matrix: Any, labels: pd.Index) -> None:
    """Refuse numbers that are not finite, and matrices that are not symmetric."""
    numbers: Any = matrix if isinstance(matrix, np.ndarray) else matrix.data
    if not np.isfinite(numbers).all():
        raise RelationshipError("the relationship matrix holds missing or infinite values.")
    difference = abs(matrix - matrix.T)
    size = float(np.abs(numbers).max(initial=0.0))
    if float(difference.max()) > _ASYMMETRY * size:
        i, j = divmod(int(difference.argmax()), matrix.shape[0])
        a, b = (float(matrix[[row], :][:, [column]].sum()) for row, column in ((i, j), (j, i)))
        first, second = labels.tolist()[i], labels.tolist()[j]
        raise RelationshipError(
            f"the relationship matrix is not symmetric: it has {a:g} for '{first}' and "
            f"'{second}', and {b:g} for '{second}' and '{first}'."
        )


def check_positive_definite(matrix: Matrix) -> None:
    """Refuse a dense matrix that is not positive definite."""
    try:
        root = np.linalg.cholesky(matrix)
        smallest = float(np.diag(root).min(initial=1.0)) ** 2
    except np.linalg.LinAlgError:
        smallest = 0.0
    if smallest <= 1e-12 * float(np.diag(matrix).max(initial=0.0)):
        raise_not_positive_definite(matrix)


def raise_not_positive_definite(matrix: Matrix) -> None:
    """Raise RelationshipError with the smallest eigenvalue."""
    smallest = float(np.linalg.eigvalsh(matrix)[0])
    raise RelationshipError(
        f"the relationship matrix is not positive definite: its smallest eigenvalue is "
        f"{smallest:.3g}. Where levels are copies of each other (clones, twins) give them one "
        "label, or take 0.99 * A + 0.01 * I."
    )
