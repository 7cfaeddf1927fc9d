"""A root of a matrix of cross-products, singular or not: normals of its covariance.

Factors are eliminated as by :mod:`~.numeric`, at no Lambda. Of a leading factor with diagonal block
``A = V D V'``, without the eigenvalues that are zero, and entries ``A_r`` in the later columns,

    x = V D^1/2 z        H = D^-1/2 V' A_r        x_later <- x_later + H'z        A_later - H'H

then of the dense block by pivoted Cholesky, and of further columns, dense ones, by eigenvalues.
The root M has an entry of z for each independent column of the matrix G: ``M M' = G``, and ``z'z``
is the quadratic form of ``M z`` with the pseudoinverse of G. What may be a column or the rounding
of one is in ``M z``, and its entry not in ``z'z``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy import linalg
from scipy.linalg.lapack import dpstrf

from mixedfx._arrays import set_readonly
from mixedfx.linalg.cholesky.assembled import AssembledMatrix, assemble
from mixedfx.linalg.cholesky.batched import flatten, unflatten, unpack_lower
from mixedfx.linalg.cholesky.block_matrix import Array, BlockMatrix, Ints
from mixedfx.linalg.cholesky.dense import symmetrize
from mixedfx.linalg.cholesky.entries import Entries, step_entries
from mixedfx.linalg.cholesky.symbolic import EliminationStep, SymbolicFactor

Mask = npt.NDArray[np.bool_]

# An eigenvalue, or a pivot, is rounding below this share of the columns' own products: within
# levels, and where the products of many levels were subtracted.
_ROUNDING_OF_LEVELS, _ROUNDING = 1e-13, 1e-12
# A column of which more than this share is left is independent of the others.
_INDEPENDENT = 1e-8
# A length is rounding below this share of the longest.
_ROUNDING_OF_LENGTHS = 1e-12


class Drawn(NamedTuple):
    """A root times z."""

    effects: Array  # (q,), in the order of elimination
    further: Array  # (m,)
    squares: float  # z'z, of the independent columns


@dataclass(frozen=True)
class _LeadingRoot:
    """Root of the levels of one leading factor, and what it adds to the columns after it."""

    step: EliminationStep = field(repr=False)
    root: Array = field(repr=False)  # (K, K, L) V D^1/2
    independent: Mask = field(repr=False)  # (K, L)
    entries: Entries | None = field(repr=False)  # H
    further: Array = field(repr=False)  # (K, m, L) D^-1/2 V'F of the further columns F

    def multiply(self, z: Array, x: Array, further: Array) -> float:
        """Add the root times the levels' z to both parts, in place; z'z."""
        own = z[self.step.columns].reshape(self.independent.shape)
        x[self.step.columns] += np.einsum("abl,bl->al", self.root, own).ravel()
        if self.entries is not None:
            x += self.entries.multiply_transposed(own.reshape(-1, 1))[:, 0]
        further += np.einsum("kml,kl->m", self.further, own)
        return float(np.square(own[self.independent]).sum())


@dataclass(frozen=True)
class _DenseRoot:
    """Root of the dense block, rows in the order of the pivots."""

    start: int  # first of its columns
    order: Ints  # (t,)
    root: Array = field(repr=False)  # (t, r)
    n_independent: int  # columns of the root
    further: Array = field(repr=False)  # (r, m)

    def multiply(self, z: Array, x: Array, further: Array) -> float:
        """Add the root times z, as above."""
        own = z[self.start : self.start + self.root.shape[1]]
        x[self.start + self.order] += self.root @ own
        further += self.further.T @ own
        return float(np.square(own[: self.n_independent]).sum())


@dataclass(frozen=True)
class CovarianceRoot:
    """Root of ``[Z X]'W[Z X]``, of dependent columns too."""

    symbolic: SymbolicFactor = field(repr=False)
    parts: tuple[_LeadingRoot | _DenseRoot, ...] = field(repr=False)
    last: Array = field(repr=False)  # (m, r) of the further columns
    last_independent: Mask = field(repr=False)  # (r,)
    rank: int  # independent columns

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.last, self.last_independent)

    @classmethod
    def of(cls, blocks: BlockMatrix, rhs: Sequence[Array], matrix: Array) -> Self:
        """Of ``Z'WZ``, the products ``Z'WX``, (K, m, L) of each factor, and ``X'WX``, (m, m)."""
        assembled, F, left = assemble(blocks), list(rhs), matrix.copy()
        symbolic, trailing = assembled.symbolic, assembled.trailing_values.copy()
        parts: list[_LeadingRoot | _DenseRoot] = []
        rank = 0
        for step in symbolic.steps:
            leading = _eliminate(assembled, step, trailing, F)
            parts.append(leading)
            rank += int(leading.independent.sum())
            left -= np.einsum("kml,knl->mn", leading.further, leading.further)
        if t := symbolic.dense_size:
            A = trailing[symbolic.dense_offset :].reshape(t, t)
            dense = _dense_root(assembled, A, F)
            parts.append(dense)
            rank += dense.n_independent
            left -= dense.further.T @ dense.further
        size = _lengths(np.diag(matrix))
        values, vectors = np.linalg.eigh(left / np.outer(size, size))
        kept = values > _ROUNDING
        last = size[:, None] * vectors[:, kept] * np.sqrt(values[kept])
        independent = values[kept] > _INDEPENDENT
        return cls(symbolic, tuple(parts), last, independent, rank + int(independent.sum()))

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Normals with the covariance."""
        z = rng.standard_normal(self.symbolic.size)
        z_last = rng.standard_normal(len(self.last_independent))
        return self.multiply(z, z_last)

    def multiply(self, z: Array, z_last: Array) -> Drawn:
        """The root times z, (q,) and (r,)."""
        x, further = np.zeros(self.symbolic.size), self.last @ z_last
        squares = float(np.square(z_last[self.last_independent]).sum())
        for part in self.parts:
            squares += part.multiply(z, x, further)
        return Drawn(x, further, squares)


def _eliminate(
    assembled: AssembledMatrix, step: EliminationStep, trailing: Array, F: list[Array]
) -> _LeadingRoot:
    """Root of a leading factor, subtracted from the trailing values and from F, in place."""
    symbolic, A, entries = assembled.symbolic, assembled.diagonal[step.factor], None
    if step.diagonal_positions is not None:  # a later step
        A = unpack_lower(trailing[step.diagonal_positions].reshape(-1, step.L), step.K)
        if step.update is not None:
            entries = step_entries(step, trailing[step.entry_positions])
    else:
        entries = assembled.first_entries
    root, half, independent = _roots_of_levels(A, assembled.diagonal[step.factor])
    further = np.einsum("abl,aml->bml", half, F[step.factor])
    if entries is not None:
        H = np.einsum("abe,ae->be", half[:, :, step.entry_levels], entries.values)
        entries = _subtract(step_entries(step, H), A.shape, trailing)
        change = entries.multiply_transposed(flatten(further))
        for f, start in symbolic.starts.items():
            if start > step.start:
                rows = change[start : start + symbolic.layout.size(f)]
                F[f] = F[f] - unflatten(rows, symbolic.layout.width(f))
    return _LeadingRoot(step, root, independent, entries, further)


def _subtract(entries: Entries | None, shape: tuple[int, ...], trailing: Array) -> Entries:
    """Subtract ``H'H`` from the trailing values, in place."""
    assert entries is not None
    identity = np.eye(shape[0])[:, :, None]
    entries.subtract_update(np.broadcast_to(identity, shape), trailing)
    return entries


def _roots_of_levels(A: Array, own: Array) -> tuple[Array, Array, Mask]:
    """``V D^1/2`` and ``V D^-1/2``, (K, K, L), of what is left of the products of the levels."""
    size = _lengths(np.einsum("kkl->lk", own))
    scaled = A.transpose(2, 0, 1) / (size[:, :, None] * size[:, None, :])
    values, V = np.linalg.eigh(scaled)
    kept = values > _ROUNDING_OF_LEVELS
    sd = np.sqrt(np.where(kept, values, 1.0))[:, None, :]
    root = np.where(kept[:, None, :], size[:, :, None] * V * sd, 0.0)
    half = np.where(kept[:, None, :], V / size[:, :, None] / sd, 0.0)
    return root.transpose(1, 2, 0), half.transpose(1, 2, 0), values.T > _INDEPENDENT


def _dense_root(assembled: AssembledMatrix, A: Array, F: list[Array]) -> _DenseRoot:
    """Root of what is left of the dense block, (t, t), whose lower triangle is valid."""
    symbolic = assembled.symbolic
    own = [np.einsum("kkl->kl", assembled.diagonal[f]).ravel() for f in symbolic.dense_factors]
    size = np.concatenate(list(map(_lengths, own)))
    symmetrize(A)
    scaled = A / size[:, None] / size
    L, pivots, rank, _ = dpstrf(scaled.T, tol=_ROUNDING, lower=1, overwrite_a=1)
    order = pivots - 1
    L = np.tril(L[:, :rank])
    rows = np.concatenate([flatten(F[f]) for f in symbolic.dense_factors]) / size[:, None]
    further = linalg.solve_triangular(L[:rank], rows[order[:rank]], lower=True)
    n_independent = int((np.square(np.diagonal(L)) > _INDEPENDENT).sum())
    return _DenseRoot(symbolic.dense_start, order, size[order, None] * L, n_independent, further)


def _lengths(squares: Array) -> Array:
    """Lengths of the columns of a factor, that they are scaled by."""
    longest = float(squares.max(initial=0.0)) or 1.0
    return np.sqrt(np.maximum(squares, _ROUNDING_OF_LENGTHS**2 * longest))
