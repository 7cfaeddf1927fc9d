"""What the rows of one level have to do with those of another, through what is estimated.

With ``C`` the uncertainty of effects and coefficients over ``sigma**2``, ``T = [Z X]``, ``A_g =
T_g'W T_g`` of the rows of level ``g`` and ``k_g = T_g'W e_g``, the second derivatives by the
levels' scales need ``tr(C A_g)``, ``tr(C A_g C A_h)`` and ``k_g' C k_h``. Roots ``F_g F_g' = A_g``
have few columns, so with ``G = F'CF`` these are traces and sums of squares of its blocks.

Where every random effect belongs to a single level, ``C`` joins levels through the coefficients
alone: right sides of different levels share columns, and what is left is of the size of ``X``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx._arrays import set_readonly
from mixedfx.design.build import Design
from mixedfx.design.random import RandomTermDesign
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Singular values below this share of the largest are rounding.
_RANK = 1e-10


@dataclass(frozen=True)
class Products:
    """
    Traces and forms, by level.

    Parameters
    ----------
    hats : ndarray of shape (levels,)
        ``tr(C A_g)``.
    squares, crossed : ndarray of shape (levels, levels)
        ``tr(C A_g C A_h)``, and ``k_g' C k_h``.
    tilts : ndarray of shape (p, levels)
        ``X'W e_g`` less what the random effects take of it: half the slope of the normal
        equations of the coefficients by each level's log standard deviation.
    """

    hats: Vector
    squares: Matrix
    crossed: Matrix
    tilts: Matrix

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.hats, self.squares, self.crossed, self.tilts)


@dataclass(frozen=True)
class Roots:
    """
    Roots of the levels' cross-products, side by side; made by :func:`roots`.

    Parameters
    ----------
    columns : sparse array of shape (q + p, R)
        ``F``.
    owner : ndarray of shape (R,)
        Level of each column.
    slot : ndarray of shape (R,)
        Its number within the level.
    """

    columns: sparse.csc_array
    owner: Codes
    slot: Codes

    def scaled(self, factors: Vector) -> Roots:
        """Multiply each level's root by a number."""
        scale = sparse.diags_array(factors[self.owner])
        return Roots(sparse.csc_array(self.columns @ scale), self.owner, self.slot)


def roots(T: sparse.csr_array, codes: Codes, levels: int) -> Roots:
    """Take a root of each level's cross-products."""
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=levels))
    parts: list[sparse.csc_array] = []
    owner: list[Codes] = []
    for g, rows in enumerate(np.split(order, ends[:-1])):
        mine = T[rows]
        at = np.unique(mine.indices)
        _, values, right = np.linalg.svd(mine[:, at].toarray(), full_matrices=False)
        kept = values > _RANK * values[0]
        root = right[kept].T * values[kept]
        row, col = np.repeat(at, root.shape[1]), np.tile(np.arange(root.shape[1]), len(at))
        shape = (T.shape[1], root.shape[1])
        parts.append(sparse.csc_array((root.ravel(), (row, col)), shape=shape))
        owner.append(np.full(root.shape[1], g))
    slot = np.concatenate([np.arange(len(part)) for part in owner])
    joined = sparse.csc_array(sparse.hstack(parts))
    return Roots(joined, np.concatenate(owner), slot)


def owners(design: Design, crossprod: CrossProducts, random_term: RandomTermDesign) -> Codes | None:
    """Find the level that each random effect belongs to."""
    symbolic, out = crossprod.symbolic, np.zeros(crossprod.symbolic.size, dtype=np.intp)
    for position, own in zip(crossprod.term_positions, design.random_terms, strict=True):
        L = symbolic.block_matrix.levels(position.factor)
        of_level = np.zeros(L, dtype=np.intp)
        of_level[own.codes] = random_term.codes
        if (of_level[own.codes] != random_term.codes).any():
            return None
        first = symbolic.starts[position.factor] + position.start * L
        out[first : first + position.width * L] = np.tile(of_level, position.width)
    return out


@dataclass(frozen=True)
class Sides:
    """
    What the products are asked of, at one point.

    Parameters
    ----------
    cross : CrossProducts
        At the point's weights.
    solution : Solution
        There.
    roots : Roots
        Of the levels' cross-products at these weights.
    forms : sparse array of shape (q + p, levels)
        ``k_g``.
    reml : bool
        Whether the coefficients are uncertain too.
    """

    crossprod: CrossProducts
    solution: Solution
    roots: Roots = field(repr=False)
    forms: sparse.csc_array = field(repr=False)
    reml: bool

    @property
    def uncertain(self) -> bool:
        """Whether there are coefficients that are integrated out."""
        return self.reml and self.crossprod.p > 0


def products(sides: Sides, owner: Codes | None) -> Products:
    """Compute the traces and forms of all levels."""
    return _crossed(sides) if owner is None else _nested(sides, owner)


def _crossed(sides: Sides) -> Products:
    """Through a matrix of all roots' columns."""
    q, L, owner = sides.crossprod.symbolic.size, sides.forms.shape[1], sides.roots.owner
    right = np.concatenate([sides.roots.columns.toarray(), sides.forms.toarray()], axis=1)
    V = sides.solution.schur.numeric.solve(right[:q])
    G, E = right[:q].T @ V, right[q:] - sides.crossprod.ZtX.T @ V
    if sides.uncertain:
        G += E.T @ sides.solution.vcov_in_basis @ E
    R = len(owner)
    belongs = sparse.csr_array((np.ones(R), (np.arange(R), owner)), shape=(R, L))
    squares = np.asarray(belongs.T @ (G[:R, :R] ** 2) @ belongs)
    hats: Vector = np.bincount(owner, np.diag(G)[:R], L).astype(float)
    return Products(hats, squares, G[R:, R:], E[:, R:])


def _nested(sides: Sides, owner: Codes) -> Products:
    """Levels share the columns of their right sides, which reach no further than themselves."""
    q, L = sides.crossprod.symbolic.size, sides.forms.shape[1]
    p, found = sides.crossprod.p, sides.roots
    r = int(found.slot.max()) + 1
    F = sparse.coo_array(found.columns[:q])
    right = np.zeros((q, r + 1))
    right[F.row, found.slot[F.col]] = F.data
    right[:, r] = np.asarray(sides.forms[:q].sum(axis=1))
    V = sides.solution.schur.numeric.solve(right)
    within = sparse.csr_array((np.ones(q), (owner, np.arange(q))), shape=(L, q))
    G = np.empty((r, r, L))
    for a in range(r):
        G[a] = np.asarray(within @ (right[:, a, None] * V[:, :r])).T
    form = np.asarray(within @ (right[:, r] * V[:, r]))
    E = np.zeros((r + 1, p, L))
    E[found.slot, :, found.owner] = found.columns[q:].toarray().T
    E[r] = sides.forms[q:].toarray()
    B = sides.crossprod.ZtX
    for a in range(r + 1):
        E[a] -= np.asarray(within @ (B * V[:, a, None])).T
    tilts = E[r]
    if not sides.uncertain:
        squares = np.diag((G**2).sum(axis=(0, 1)))
        return Products(np.einsum("aal->l", G), squares, np.diag(form), tilts)
    half = np.linalg.cholesky(sides.solution.vcov_in_basis)
    E = np.einsum("ij,ail->ajl", half, E)
    own = G + np.einsum("ail,bil->abl", E[:r], E[:r])
    U = np.einsum("ail,ajl->ijl", E[:r], E[:r]).reshape(p * p, L)
    squares = U.T @ U
    squares[np.diag_indices(L)] = (own**2).sum(axis=(0, 1))
    crossed = E[r].T @ E[r]
    crossed[np.diag_indices(L)] += form
    return Products(np.einsum("aal->l", own), squares, crossed, tilts)
