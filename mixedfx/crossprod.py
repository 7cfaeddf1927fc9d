"""Design to cross-products: the rows are read once, and never again.

Everything a Gaussian likelihood needs from the data is a set of weighted sums of products.
They are formed about the least-squares fit, so that a response far from zero loses no
digits, and in an orthonormal basis of the fixed columns where those are nearly dependent.

Nothing here knows theta, engines or results; after :func:`cross` the number of rows is only
a number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from mixedfx.covariance import Layout
from mixedfx.design import Block, Design
from mixedfx.factor import Coupling, Gram, Plan, analyse

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Below this smallest eigenvalue of the scaled cross-products, X is replaced by an orthonormal
# basis: the squared condition number would cost more than a third of the digits.
_ILL_CONDITIONED = 1e-5


@dataclass(frozen=True)
class Slot:
    """
    Where one random term stands among the factors.

    Parameters
    ----------
    factor : int
        The grouping factor; terms of one group share it.
    start : int
        First of the term's columns within the factor.
    width : int
        Number of its columns.
    """

    factor: int
    start: int
    width: int


@dataclass(frozen=True)
class CrossProducts:
    """
    The data, reduced: its size does not depend on the number of rows.

    Parameters
    ----------
    n : int
        Rows.
    p : int
        Fixed columns.
    gram : mixedfx.factor.Gram
        ``Z'WZ``, by grouping factor.
    border : tuple of ndarray of shape (K, p + 1, L)
        Each grouping factor's cross-products with ``[X B^-1, y - X centre]``.
    corner : ndarray of shape (p + 1, p + 1)
        Cross-products of ``[X B^-1, y - X centre]``.
    slots : tuple of Slot
        The random terms, in formula order.
    layout : mixedfx.covariance.Layout
        Their parameters.
    centre : ndarray of shape (p,)
        Least-squares coefficients, about which the response was taken.
    basis : ndarray of shape (p, p) or None
        Upper triangular ``B``, with orthonormal ``X B^-1``; None for the identity.
    log_weights : float
        Sum of the logarithms of the weights.
    """

    n: int
    p: int
    gram: Gram = field(repr=False)
    border: tuple[Matrix, ...] = field(repr=False)
    corner: Matrix = field(repr=False)
    slots: tuple[Slot, ...]
    layout: Layout
    centre: Vector = field(repr=False)
    basis: Matrix | None = field(repr=False)
    log_weights: float

    @cached_property
    def plan(self) -> Plan:
        """The order of elimination and all that it fixes, worked out once."""
        return analyse(self.gram)

    @cached_property
    def scales(self) -> tuple[Vector, ...]:
        """Root mean square of each term's columns, weighted: the unit of its parameters."""
        sums = [np.einsum("aal->a", self.gram.diagonal[s.factor]) for s in self.slots]
        return tuple(
            np.sqrt(total[s.start : s.start + s.width] / self.n)
            for total, s in zip(sums, self.slots, strict=True)
        )

    @cached_property
    def unit(self) -> Vector:
        """
        Scale of each entry of theta: times it, theta is free of units.

        The scale of the column that the entry's row belongs to.
        """
        parts = [s[rows] for s, (rows, _) in zip(self.scales, self.layout.positions, strict=True)]
        return np.concatenate(parts) if parts else np.zeros(0)

    @property
    def log_det_basis(self) -> float:
        """``log |B'B|``."""
        if self.basis is None:
            return 0.0
        return 2.0 * float(np.log(np.abs(np.diag(self.basis))).sum())

    def factor_lambdas(self, lambdas: list[Matrix]) -> list[Matrix]:
        """Put the terms' Lambdas on the diagonal of their factors' Lambdas."""
        result = [np.zeros(d.shape[:2]) for d in self.gram.diagonal]
        for slot, lam in zip(self.slots, lambdas, strict=True):
            part = slice(slot.start, slot.start + slot.width)
            result[slot.factor][part, part] = lam
        return result

    def term_rows(self, arrays: list[Matrix]) -> list[Matrix]:
        """Cut each term's rows out of one array per factor."""
        return [arrays[s.factor][s.start : s.start + s.width] for s in self.slots]

    def term_blocks(self, arrays: list[Matrix]) -> list[Matrix]:
        """Cut each term's diagonal block out of one square array per factor."""
        parts = [slice(s.start, s.start + s.width) for s in self.slots]
        return [arrays[s.factor][c, c] for s, c in zip(self.slots, parts, strict=True)]

    def to_natural(self, inner: Matrix) -> Matrix:
        """``B^-1 inner B^-T``: a covariance of coefficients in the units of X."""
        if self.basis is None:
            return inner
        half = linalg.solve_triangular(self.basis, inner)
        return np.asarray(linalg.solve_triangular(self.basis, half.T))


def cross(design: Design) -> CrossProducts:
    """
    Reduce a design to its cross-products.

    Parameters
    ----------
    design : Design
        ``n`` rows.

    Returns
    -------
    CrossProducts
        Formed in one pass over each column, without a dense Z.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> from mixedfx.design import build
    >>> d = build(mfx.parse("Yield ~ 1 + (1 | Batch)"), mfx.datasets.load("Dyestuff"))
    >>> cross(d).gram.diagonal[0]
    array([[[5., 5., 5., 5., 5., 5.]]])
    """
    w = design.weights
    X, y, centre, basis = _centred(design)
    columns = np.column_stack([X, y]) if X.shape[1] else y[:, None]
    weighted = columns if w is None else w[:, None] * columns
    corner = columns.T @ weighted

    groups = list(dict.fromkeys(b.group for b in design.blocks))
    members = [[b for b in design.blocks if b.group == g] for g in groups]
    slots = tuple(_slot(b, groups, members) for b in design.blocks)
    diagonal, border = [], []
    for blocks in members:
        gram, right = _by_level(blocks, w, weighted)
        diagonal.append(gram)
        border.append(right)
    couplings = {
        (i, j): _couple(members[i], members[j], w)
        for i in range(len(groups))
        for j in range(i + 1, len(groups))
    }
    structures = tuple(b.term.structure for b in design.blocks)
    return CrossProducts(
        n=len(y),
        p=X.shape[1],
        gram=Gram(tuple(diagonal), couplings),
        border=tuple(border),
        corner=corner,
        slots=slots,
        layout=Layout(structures, tuple(len(b.effects) for b in design.blocks)),
        centre=centre,
        basis=basis,
        log_weights=0.0 if w is None else float(np.log(w).sum()),
    )


def _centred(design: Design) -> tuple[Matrix, Vector, Vector, Matrix | None]:
    """Well-conditioned fixed columns, and the response less its least-squares fit."""
    X, y, w = design.X, design.y, design.weights
    p = X.shape[1]
    if p == 0:
        return X, y, np.zeros(0), None
    weighted = X if w is None else w[:, None] * X
    gram, right = X.T @ weighted, weighted.T @ y
    unit = 1.0 / np.sqrt(np.diag(gram))
    values, vectors = np.linalg.eigh(gram * np.outer(unit, unit))
    if values[0] > _ILL_CONDITIONED:
        centre = unit * (vectors @ ((vectors.T @ (unit * right)) / values))
        return X, y - X @ centre, centre, None
    root = np.ones(len(y)) if w is None else np.sqrt(w)
    Q, B = np.linalg.qr(root[:, None] * X)
    inner = Q.T @ (root * y)
    centre = np.asarray(linalg.solve_triangular(B, inner))
    flat = Q / root[:, None]
    return flat, y - flat @ inner, centre, B


def _slot(block: Block, groups: list[str], members: list[list[Block]]) -> Slot:
    factor = groups.index(block.group)
    before = 0
    for other in members[factor]:
        if other is block:
            break
        before += len(other.effects)
    return Slot(factor, before, len(block.effects))


def _columns(blocks: list[Block]) -> list[Vector | None]:
    """Columns of all terms of a group; None stands for a column of ones."""
    columns: list[Vector | None] = []
    for b in blocks:
        for j in range(b.values.shape[1]):
            column = b.values[:, j]
            constant = b.values.strides[0] == 0 or (column[0] == 1.0 and (column == 1.0).all())
            columns.append(None if constant else np.ascontiguousarray(column))
    return columns


def _times(a: Vector | None, b: Vector | None) -> Vector | None:
    if a is None or b is None:
        return a if b is None else b
    return a * b


def _by_level(blocks: list[Block], w: Vector | None, right: Matrix) -> tuple[Any, Any]:
    """Sums within each level of the products of the group's columns, and with ``right``."""
    codes, L = blocks[0].codes, len(blocks[0].levels)
    z = _columns(blocks)
    K, m = len(z), right.shape[1]
    gram, border = np.empty((K, K, L)), np.empty((K, m, L))
    sides = [np.ascontiguousarray(right[:, c]) for c in range(m)]
    for a in range(K):
        for b in range(a + 1):
            product = _times(_times(z[a], z[b]), w)
            gram[a, b] = gram[b, a] = np.bincount(codes, product, L)
        for c in range(m):
            border[a, c] = np.bincount(codes, _times(z[a], sides[c]), L)
    return gram, border


def _couple(first: list[Block], second: list[Block], w: Vector | None) -> Coupling:
    """Cross-products of two groups, summed over the rows of each pair of levels that occurs."""
    rows, cols = first[0].codes, second[0].codes
    shape = (len(first[0].levels), len(second[0].levels))
    za, zb = _columns(first), _columns(second)
    values, pattern = [], None
    for a in za:
        for b in zb:
            product = _times(_times(a, b), w)
            data = np.ones(len(rows)) if product is None else product
            pattern = sparse.coo_matrix((data, (rows, cols)), shape=shape).tocsr()
            pattern.sort_indices()
            values.append(pattern.data)
    assert pattern is not None
    counts = np.diff(pattern.indptr)
    return Coupling(
        rows=np.repeat(np.arange(shape[0], dtype=np.int64), counts),
        cols=pattern.indices.astype(np.int64),
        values=np.stack(values).reshape(len(za), len(zb), -1),
    )
