"""Forms of a known symmetric positive definite matrix A: dense, sparse, inverse, of a pedigree.

Each multiplies A by vectors. What a model needs follows: the block of the levels with records, and
A between these and others, in batches of columns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx._arrays import set_readonly
from mixedfx._cached import cached_property
from mixedfx.errors import RelationshipError
from mixedfx.linalg.sparse_matrix import SparseMatrix

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Numbers in a batch of columns.
_BATCH = 20_000_000


@dataclass(frozen=True, eq=False)
class KnownCovariance(ABC):
    """A symmetric positive definite matrix of known numbers."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of rows."""

    @abstractmethod
    def multiply(self, columns: Matrix) -> Matrix:
        """``A columns``."""

    def block(self, rows: Codes, columns: Codes) -> Matrix:
        """``A[rows, columns]``, by products with unit vectors."""
        out = np.empty((len(rows), len(columns)))
        step = max(1, _BATCH // self.size)
        for first in range(0, len(columns), step):
            batch = columns[first : first + step]
            units = np.zeros((self.size, len(batch)))
            units[batch, np.arange(len(batch))] = 1.0
            out[:, first : first + step] = self.multiply(units)[rows]
        return out

    def diagonal(self, rows: Codes) -> Vector:
        """``A[i, i]`` of some rows."""
        out = np.empty(len(rows))
        step = max(1, _BATCH // self.size)
        for first in range(0, len(rows), step):
            batch = rows[first : first + step]
            out[first : first + step] = np.diag(self.block(batch, batch))
        return out


@dataclass(frozen=True, eq=False)
class DenseCovariance(KnownCovariance):
    """A, all numbers stored."""

    A: Matrix

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.A)

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.A)

    def multiply(self, columns: Matrix) -> Matrix:
        """``A columns``."""
        return np.asarray(self.A @ columns)

    def block(self, rows: Codes, columns: Codes) -> Matrix:
        """``A[rows, columns]``."""
        return np.asarray(self.A[np.ix_(rows, columns)])

    def diagonal(self, rows: Codes) -> Vector:
        """``A[i, i]`` of some rows."""
        return np.asarray(self.A[rows, rows])


@dataclass(frozen=True, eq=False)
class SparseCovariance(KnownCovariance):
    """A with few numbers that are not zero."""

    A: SparseMatrix

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.A.n_rows

    def multiply(self, columns: Matrix) -> Matrix:
        """``A columns``."""
        return np.asarray(self.A.csr @ columns)

    def block(self, rows: Codes, columns: Codes) -> Matrix:
        """``A[rows, columns]``."""
        return np.asarray(self.A.csr[rows][:, columns].toarray())

    def diagonal(self, rows: Codes) -> Vector:
        """``A[i, i]`` of some rows."""
        return np.asarray(self.A.csr.diagonal()[rows])


@dataclass(frozen=True, eq=False)
class SparseInverse(KnownCovariance):
    """A by the sparse factorisation of its inverse."""

    inverse: SparseMatrix

    def __getstate__(self) -> dict[str, Any]:
        """Leave the factorisation out of copies and pickles."""
        return {"inverse": self.inverse}

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.inverse.n_rows

    @cached_property
    def factorisation(self) -> Any:
        """LU factors in a symmetric order without pivoting: ``L D L'``, D of positive pivots."""
        from scipy.sparse.linalg import splu

        try:
            factors = splu(
                self.inverse.csc,
                permc_spec="MMD_AT_PLUS_A",
                diag_pivot_thresh=0.0,
                options={"SymmetricMode": True},
            )
            pivots = factors.U.diagonal()
        except RuntimeError:
            pivots = np.zeros(1)
        size = float(np.abs(self.inverse.csr.diagonal()).max(initial=0.0))
        if not (pivots > 1e-12 * size).all():
            raise RelationshipError(
                "the inverse of the relationship matrix is not positive definite: "
                f"{int((pivots <= 1e-12 * size).sum())} of its pivots are not positive."
            )
        return factors

    def multiply(self, columns: Matrix) -> Matrix:
        """``A columns``."""
        return np.asarray(self.factorisation.solve(np.ascontiguousarray(columns)))


@dataclass(frozen=True, eq=False)
class PedigreeCovariance(KnownCovariance):
    """
    Numerator relationships ``A = T D T'``, ``T = (I - P)^-1``, parents before their offspring.

    Row i of P has 1/2 at each parent of i, and D is the variance of the Mendelian sampling.
    """

    parents: SparseMatrix  # P
    mendelian: Vector  # (size,) D
    inbreeding: Vector  # (size,) F, the diagonal of A less one

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.mendelian, self.inbreeding)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the factorisation out of copies and pickles."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def size(self) -> int:
        """Number of animals."""
        return len(self.mendelian)

    @cached_property
    def _gene_flow(self) -> Any:
        """Factors of ``I - P``, triangular: no position is filled in."""
        from scipy.sparse.linalg import splu

        identity = sparse.identity(self.size, format="csc")
        matrix = sparse.csc_matrix(identity - sparse.csc_matrix(self.parents.csr))
        return splu(matrix, permc_spec="NATURAL", diag_pivot_thresh=0.0)

    def gene_flow(self, sampled: Matrix) -> Matrix:
        """``T sampled``: effects of all animals by what each adds to the mean of its parents."""
        return np.asarray(self._gene_flow.solve(np.ascontiguousarray(sampled)))

    def multiply(self, columns: Matrix) -> Matrix:
        """``A columns``: gene flow to the ancestors, and back."""
        upwards = self._gene_flow.solve(np.ascontiguousarray(columns), trans="T")
        scaled = (
            self.mendelian[:, None] * upwards if columns.ndim == 2 else self.mendelian * upwards
        )
        return self.gene_flow(scaled)

    def block(self, rows: Codes, columns: Codes) -> Matrix:
        """``A[rows, columns]``, which depends on their ancestors alone."""
        nodes = self.with_ancestors(np.concatenate([rows, columns]))
        if len(nodes) == self.size:
            return super().block(rows, columns)
        parents = SparseMatrix.of(self.parents.csr[nodes][:, nodes])
        part = PedigreeCovariance(parents, self.mendelian[nodes], self.inbreeding[nodes])
        return part.block(np.searchsorted(nodes, rows), np.searchsorted(nodes, columns))

    def diagonal(self, rows: Codes) -> Vector:
        """``A[i, i] = 1 + F_i`` of some rows."""
        return 1.0 + self.inbreeding[rows]

    def inverse(self) -> SparseMatrix:
        """``A^-1 = (I - P)' D^-1 (I - P)`` (Henderson 1976, Biometrics 32:69)."""
        root = self.root(np.arange(self.size)).csr
        return SparseMatrix.of(root.T @ root)

    def with_ancestors(self, rows: Codes) -> Codes:
        """Some rows and all their ancestors, in order."""
        parents, found = self.parents.csr, np.zeros(self.size, dtype=bool)
        left = np.unique(rows)
        while len(left):
            found[left] = True
            of_left = np.unique(parents[left].indices.astype(np.intp))
            left = of_left[~found[of_left]]
        return np.flatnonzero(found)

    def root(self, rows: Codes) -> SparseMatrix:
        """``D^-1/2 (I - P)`` of rows with all their ancestors: R of ``A^-1 = R'R``."""
        gene_flow = sparse.eye_array(len(rows)) - self.parents.csr[rows][:, rows]
        return SparseMatrix.of(sparse.diags_array(self.mendelian[rows] ** -0.5) @ gene_flow)
