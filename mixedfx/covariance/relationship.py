"""Relationship matrices: the known covariance A of the effects of a factor's levels, with labels.

Effects ``b ~ N(0, sigma_a**2 A)``. A may hold levels without records (ancestors, candidates);
given the effects ``b_r`` of those with records, theirs have the mean ``A_or A_rr^-1 b_r``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import linalg, sparse

from mixedfx._keys import key_text, positions_of_keys
from mixedfx.covariance import pedigree, pedigree_regression
from mixedfx.covariance.known_covariance import (
    DenseCovariance,
    KnownCovariance,
    PedigreeCovariance,
    SparseCovariance,
    SparseInverse,
)
from mixedfx.covariance.relationship_checks import (
    check_positive_definite,
    check_symmetric,
    labelled,
)
from mixedfx.errors import RelationshipError, brief, did_you_mean
from mixedfx.linalg.sparse_matrix import SparseMatrix

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Largest dense matrix whose positive definiteness is checked as a whole.
_MAX_CHECKED = 5_000


@dataclass(frozen=True, eq=False)
class Relationship:
    """
    Known covariance of the effects of a factor's levels, up to their variance.

    For ``mixedfx.lmer(..., relmat={"animal": relationship})``. Made by :meth:`from_covariance`,
    :meth:`from_inverse` or :meth:`from_pedigree`.

    Parameters
    ----------
    labels : pandas.Index
        Levels, which match those of the data as text.
    known : KnownCovariance
        The matrix, in the order of the labels.

    Notes
    -----
    The random effects are ``b ~ N(0, sigma_a**2 A)``: their standard deviation is on the scale of
    A, of which a diagonal of ones (of an animal that is not inbred) makes it that of a level.

    References
    ----------
    .. [1] Henderson (1976), A simple method for computing the inverse of a numerator relationship
       matrix, Biometrics 32:69.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> A = mfx.Relationship.from_pedigree(
    ...     ids=["c", "a", "b"], sires=["a", None, None], dams=["b", None, None]
    ... )
    >>> A.covariance(["a", "c"])
         a    c
    a  1.0  0.5
    c  0.5  1.0
    """

    labels: pd.Index
    known: KnownCovariance

    def __post_init__(self) -> None:
        """Check the labels."""
        if len(self.labels) != self.known.size:
            raise RelationshipError(
                f"the relationship matrix has {self.known.size} rows and {len(self.labels)} "
                "labels: give one label for each row."
            )
        texts = pd.Index([key_text(label) for label in self.labels.tolist()])
        if texts.has_duplicates:
            twice = texts[texts.duplicated()][0]
            raise RelationshipError(
                f"the relationship matrix has several rows with the label '{twice}'; keep one "
                "(labels are compared as text)."
            )

    def __getstate__(self) -> dict[str, Any]:
        """Leave caches out of copies and pickles."""
        return {"labels": self.labels, "known": self.known}

    def __len__(self) -> int:
        """Count the levels."""
        return len(self.labels)

    def __repr__(self) -> str:
        """Say what it is and how large."""
        return f"Relationship({len(self)} levels, {type(self.known).__name__})"

    @classmethod
    def from_covariance(cls, A: Any, labels: Sequence[Any] | None = None) -> Relationship:
        """
        Relationship of a matrix A.

        Parameters
        ----------
        A : DataFrame, ndarray or SciPy sparse matrix
            Symmetric and positive definite. Of a DataFrame the index and the columns are the
            labels; the columns may be in another order.
        labels : sequence, optional
            Labels of the rows of any other matrix.

        Returns
        -------
        Relationship
            With the labels of A.

        Raises
        ------
        RelationshipError
            If A is not square, symmetric, finite or positive definite, or labels are duplicated.

        Examples
        --------
        >>> import numpy as np
        >>> import mixedfx as mfx
        >>> mfx.Relationship.from_covariance(np.eye(2), ["a", "b"])
        Relationship(2 levels, DenseCovariance)
        """
        matrix, found = labelled(A, labels)
        check_symmetric(matrix, found)
        if sparse.issparse(matrix):
            return cls(found, SparseCovariance(SparseMatrix.of(matrix)))
        relationship = cls(found, DenseCovariance(matrix))
        if len(found) <= _MAX_CHECKED:
            check_positive_definite(matrix)
        return relationship

    @classmethod
    def from_inverse(cls, Ainv: Any, labels: Sequence[Any] | None = None) -> Relationship:
        """
        Relationship by the inverse of its matrix, which of a pedigree is sparse.

        Parameters
        ----------
        Ainv : DataFrame, ndarray or SciPy sparse matrix
            Inverse of A, as :meth:`from_covariance` takes A.
        labels : sequence, optional
            Labels of its rows, unless it is a DataFrame.

        Returns
        -------
        Relationship
            Which keeps the inverse, and solves with it.

        Examples
        --------
        >>> import numpy as np
        >>> import mixedfx as mfx
        >>> A = mfx.Relationship.from_inverse(np.diag([2.0, 4.0]), ["a", "b"])
        >>> float(A.covariance().loc["b", "b"])
        0.25
        """
        matrix, found = labelled(Ainv, labels)
        check_symmetric(matrix, found)
        known = SparseInverse(SparseMatrix.of(matrix))
        relationship = cls(found, known)
        _ = known.factorisation  # refuses one that is not positive definite
        return relationship

    @classmethod
    def from_pedigree(
        cls, ids: Sequence[Any], sires: Sequence[Any], dams: Sequence[Any]
    ) -> Relationship:
        """
        Numerator relationships of a pedigree, inbreeding included.

        Parameters
        ----------
        ids : sequence
            Individuals, in any order, each once.
        sires, dams : sequence
            Their parents; None, NaN, 0 or empty text where unknown. Parents that are not among
            the ids are added, as founders.

        Returns
        -------
        Relationship
            With parents before their offspring.

        Raises
        ------
        RelationshipError
            If an id occurs twice, or is its own ancestor.

        References
        ----------
        .. [1] Quaas (1976), Biometrics 32:949.
        .. [2] Meuwissen and Luo (1992), Genet. Sel. Evol. 24:305.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> selfed = mfx.Relationship.from_pedigree(["a", "b"], [None, "a"], [None, "a"])
        >>> selfed.inbreeding()
        a    0.0
        b    0.5
        Name: inbreeding, dtype: float64
        """
        return cls(*pedigree.pedigree_covariance(ids, sires, dams))

    def covariance(self, labels: Sequence[Any] | None = None) -> pd.DataFrame:
        """
        Matrix A of some levels, or of all.

        Parameters
        ----------
        labels : sequence, optional
            Levels, in the order wanted.

        Returns
        -------
        pandas.DataFrame
            With the labels as index and columns.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> mfx.Relationship.from_pedigree(["a"], [None], [None]).covariance()
             a
        a  1.0
        """
        index = self.labels if labels is None else pd.Index(list(labels), tupleize_cols=False)
        at = positions_of_levels(self, index, "labels")
        return pd.DataFrame(self.known.block(at, at), index=index, columns=index)

    def inbreeding(self) -> pd.Series:
        """
        Inbreeding coefficients: the diagonal of A less one.

        Returns
        -------
        pandas.Series
            Of each level.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> mfx.Relationship.from_pedigree(["a"], [None], [None]).inbreeding().tolist()
        [0.0]
        """
        values = self.known.diagonal(np.arange(len(self))) - 1.0
        return pd.Series(values, index=self.labels, name="inbreeding")

    def inverse(self) -> Any:
        """
        Inverse of A in the order of the labels.

        Returns
        -------
        scipy.sparse.csr_array
            By Henderson's rules for a pedigree.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> A = mfx.Relationship.from_pedigree(["a", "b"], [None, "a"], [None, None])
        >>> A.inverse().toarray().round(3)
        array([[ 1.333, -0.667],
               [-0.667,  1.333]])
        """
        if isinstance(self.known, PedigreeCovariance):
            return self.known.inverse().csr
        if isinstance(self.known, SparseInverse):
            return self.known.inverse.csr
        every = np.arange(len(self))
        return sparse.csr_array(np.linalg.inv(self.known.block(every, every)))


def positions_of_levels(relationship: Relationship, keys: pd.Index, factor: str) -> Codes:
    """Rows of some levels; names those that it does not have."""
    at = positions_of_keys(keys, relationship.labels)
    missing = keys[at < 0]
    if len(missing):
        names = [key_text(key) for key in missing[:5].tolist()]
        listed = ", ".join(map(repr, names)) + (", ..." if len(missing) > 5 else "")
        hint = did_you_mean(names[0], [key_text(v) for v in relationship.labels[:10_000].tolist()])
        raise RelationshipError(
            f"the relationship matrix of '{factor}' has no row for {len(missing)} of its "
            f"{len(keys)} levels: {listed}.{hint} Add them, or leave their rows out."
        )
    return at


def other_rows(relationship: Relationship, at: Codes) -> Codes:
    """Rows that are not among some rows."""
    rest = np.ones(len(relationship), dtype=bool)
    rest[at] = False
    return np.flatnonzero(rest)


def regressed_effects(relationship: Relationship, at: Codes, effects: Matrix) -> Matrix:
    """``A[others, at] A[at, at]^-1 b``, (others, m), of the effects (len(at), m) of some rows."""
    known, others = relationship.known, other_rows(relationship, at)
    if isinstance(known, PedigreeCovariance):
        return pedigree_regression.conditional_means(known, at, effects)[others]
    A = known.block(at, at)
    spread = np.zeros((len(relationship), effects.shape[1]))
    spread[at] = linalg.solve(A, effects, assume_a="pos", overwrite_a=True)
    return known.multiply(spread)[others]


def regression_weights(
    relationship: Relationship, at: Codes, others: Codes
) -> tuple[sparse.csr_array, Vector]:
    """Weights of the effects of some rows in the means of others, and relative variances left."""
    known = relationship.known
    if isinstance(known, PedigreeCovariance):
        return pedigree_regression.PedigreeRegression.of(known, at, others).weights(others)
    root = np.linalg.cholesky(known.block(at, at))
    half = linalg.solve_triangular(root, known.block(at, others), lower=True)
    weights = linalg.solve_triangular(root, half, lower=True, trans="T").T
    left = known.diagonal(others) - np.einsum("ro,ro->o", half, half)
    return sparse.csr_array(weights), np.maximum(left, 0.0)


def as_relationship(value: Any, factor: str, levels: pd.Index) -> Relationship:
    """Relationship of a factor, as given in ``relmat=``; an array has its levels in their order."""
    if isinstance(value, Relationship):
        return value
    if isinstance(value, pd.DataFrame):
        return Relationship.from_covariance(value)
    if isinstance(value, tuple) and len(value) == 2 and np.ndim(value[0]) != 1:
        return Relationship.from_covariance(*value)  # a matrix and its labels
    if sparse.issparse(value) or np.ndim(value) == 2:
        size = np.shape(value)[0]
        if size != len(levels):
            raise RelationshipError(
                f"relmat of '{factor}' is a matrix of {size} rows without labels, and the factor "
                f"has {len(levels)} levels: give a DataFrame whose index and columns are the "
                "labels, or mixedfx.Relationship.from_covariance(A, labels)."
            )
        return Relationship.from_covariance(value, levels.tolist())
    raise RelationshipError(
        f"relmat of '{factor}' is {brief(value)}: give a DataFrame, a matrix, or a "
        "mixedfx.Relationship."
    )
