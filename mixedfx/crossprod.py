"""Design to cross-products: the rows are read once, and never again.

Everything a Gaussian likelihood needs from the data is a set of weighted sums of products.
They are formed about the least-squares fit, so that a response far from zero loses no
digits, and in an orthonormal basis of the fixed columns where those are nearly dependent.

Nothing here knows theta, engines or results; after :func:`cross` the number of rows is only
a number.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from mixedfx.covariance import Layout
from mixedfx.design import Block, Design, Levels
from mixedfx.errors import DataError, GroupingError, ResponseError
from mixedfx.factor import Coupling, Gram, Plan, analyse
from mixedfx.frozen import freeze

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Below this smallest eigenvalue of the scaled cross-products, X is replaced by an orthonormal
# basis: the squared condition number would cost more than a third of the digits.
_ILL_CONDITIONED = 1e-5

# Columns of a random term whose scaled cross-products have a smaller eigenvalue than this are
# nearly dependent, and are left as they are.
_INDEPENDENT = 1e-12

# Residuals below this share of the response are rounding.
_EXACT = 2e-14


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

    Cross-products of two portions of the rows add up to those of both: ``a + b``.

    Parameters
    ----------
    n : int
        Rows.
    response : str
        What the response is called.
    names : tuple of str
        Fixed columns, ``p`` of them.
    groups : tuple of str
        Grouping factors.
    levels : tuple of Levels
        Their levels.
    plan : mixedfx.factor.Plan
        ``Z'WZ``, by grouping factor, with its order of elimination.
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
    sigma : float or None
        Residual standard deviation of a row of weight one, where it is known.
    """

    n: int
    response: str
    names: tuple[str, ...]
    groups: tuple[str, ...]
    levels: tuple[Levels, ...] = field(repr=False)
    plan: Plan = field(repr=False)
    border: tuple[Matrix, ...] = field(repr=False)
    corner: Matrix = field(repr=False)
    slots: tuple[Slot, ...]
    layout: Layout
    centre: Vector = field(repr=False)
    basis: Matrix | None = field(repr=False)
    log_weights: float
    sigma: float | None = None

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        freeze(*vars(self).values(), *self.border)

    @property
    def p(self) -> int:
        """Fixed columns."""
        return len(self.names)

    @property
    def gram(self) -> Gram:
        """``Z'WZ``, by grouping factor."""
        return self.plan.gram

    def __add__(self, other: CrossProducts) -> CrossProducts:
        """Add the cross-products of other rows of the same model."""
        return _add(self, other) if isinstance(other, CrossProducts) else NotImplemented

    @cached_property
    def scales(self) -> tuple[Vector, ...]:
        """Root mean square of each term's columns, weighted: the unit of its parameters."""
        sums = [np.einsum("aal->a", self.gram.diagonal[s.factor]) for s in self.slots]
        return tuple(
            np.sqrt(total[s.start : s.start + s.width] / self.n)
            for total, s in zip(sums, self.slots, strict=True)
        )

    @cached_property
    def frames(self) -> tuple[Matrix, ...]:
        """
        Change of each term's columns to unit-free ones, ``Z W``.

        For an unstructured term, which any change of columns leaves the same model, they are
        also uncorrelated over the rows, so that a slope by a column far from zero, such as a
        year, is as easy to search for as by its deviations from the mean.
        """
        frames = []
        for slot, scale, structure in zip(
            self.slots, self.scales, self.layout.structures, strict=True
        ):
            part = slice(slot.start, slot.start + slot.width)
            unit = np.diag(1.0 / scale)
            if structure == "us" and slot.width > 1:
                total = self.gram.diagonal[slot.factor][part, part].sum(axis=2) / self.n
                values = np.linalg.eigvalsh(unit @ total @ unit)
                if values[0] > _INDEPENDENT:
                    root = np.linalg.cholesky(unit @ total @ unit)
                    unit = unit @ np.linalg.inv(root).T
            frames.append(unit)
        return tuple(frames)

    @cached_property
    def unit(self) -> Vector:
        """
        Scale of each entry of theta: times it, theta is free of units.

        The scale of the column that the entry's row belongs to.
        """
        parts = [s[rows] for s, (rows, _) in zip(self.scales, self.layout.positions, strict=True)]
        unit = np.concatenate(parts) if parts else np.zeros(0)
        freeze(unit)
        return unit

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
    sides, centre, basis = centred_sides(design)
    members = by_group(design)
    groups = tuple(blocks[0].group for blocks in members)
    made = [
        level_sums(blocks, w, sides, blocks[0].codes, len(blocks[0].levels)) for blocks in members
    ]
    couplings = {
        (i, j): _couple(members[i], members[j], w)
        for i in range(len(groups))
        for j in range(i + 1, len(groups))
    }
    made_of = CrossProducts(
        n=len(design.y),
        response=design.formula.response,
        names=design.names,
        groups=groups,
        levels=tuple(blocks[0].levels for blocks in members),
        plan=analyse(Gram(tuple(gram for gram, _ in made), couplings)),
        border=tuple(border for _, border in made),
        corner=_corner(sides, w),
        slots=tuple(_slot(b, groups, members) for b in design.blocks),
        layout=layout_of(design),
        centre=centre,
        basis=basis,
        log_weights=0.0 if w is None else float(np.log(w).sum()),
        sigma=design.sigma,
    )
    _check_rest(design, sides[-1])
    _check_identified(design, made_of)
    return made_of


def _check_rest(design: Design, rest: Vector) -> None:
    """Refuse a response that the fixed part explains to the last digit."""
    size = float(np.abs(design.y).max())
    if design.offset is not None:
        size = max(size, float(np.abs(design.offset).max()))
    if not float(np.abs(rest).max()) > _EXACT * size:
        part = "fixed part" if design.offset is None else "offset and the fixed part"
        raise ResponseError(
            f"the {part} explain{'s' if design.offset is None else ''} the response "
            f"'{design.formula.response}' exactly: nothing is left to model."
        )


def _check_identified(design: Design, cross: CrossProducts) -> None:
    """Refuse variances that the likelihood knows nothing of."""
    p = cross.p
    inverse = np.linalg.pinv(cross.corner[:p, :p])
    for block, slot in zip(design.blocks, cross.slots, strict=True):
        for j, name in enumerate(block.effects):
            a = slot.start + j
            side = cross.border[slot.factor][a, :p]
            own = float(cross.gram.diagonal[slot.factor][a, a].sum())
            if own - float(np.einsum("cl,cd,dl->", side, inverse, side)) < 1e-10 * own:
                raise GroupingError(
                    f"the fixed part already tells the levels of '{block.group}' apart, so the "
                    f"variance of '{name}' in {block.term} cannot be estimated; leave one of the "
                    "two out."
                )
    for (i, j), coupling in cross.gram.couplings.items():
        if len(coupling.rows) == len(cross.levels[i]) == len(cross.levels[j]):
            mine, theirs = (
                {e for b in design.blocks if b.group == cross.groups[k] for e in b.effects}
                for k in (i, j)
            )
            if mine & theirs:
                raise GroupingError(
                    f"grouping factors '{cross.groups[i]}' and '{cross.groups[j]}' divide the "
                    f"rows in the same way, so their variances of "
                    f"{', '.join(sorted(mine & theirs))} cannot be told apart; leave one out."
                )


def with_response(cross: CrossProducts, design: Design, y: Vector) -> CrossProducts:
    """
    Exchange the response; all that does not depend on it is shared.

    Parameters
    ----------
    cross : CrossProducts
        Of the design.
    design : Design
        The rows.
    y : ndarray of shape (n,)
        Another response, less the offset.

    Returns
    -------
    CrossProducts
        As :func:`cross` would give for it.
    """
    p, w = cross.p, design.weights
    weighted = y if w is None else w * y
    # The first p rows of the corner are those of X B^-1, whatever the response was.
    gram = cross.corner[:p, :p]
    right = design.X.T @ weighted
    if cross.basis is not None:
        right = linalg.solve_triangular(cross.basis, right, trans="T")
    centre = np.asarray(np.linalg.solve(gram, right) if p else right)
    if cross.basis is not None:
        centre = np.asarray(linalg.solve_triangular(cross.basis, centre))
    rest = y - design.X @ centre
    weighted = rest if w is None else w * rest
    side = design.X.T @ weighted
    if cross.basis is not None:
        side = linalg.solve_triangular(cross.basis, side, trans="T")
    corner = cross.corner.copy()
    corner[:p, p] = corner[p, :p] = side
    corner[p, p] = rest @ weighted
    border = []
    for group, old in zip(cross.groups, cross.border, strict=True):
        new = old.copy()
        mine = [b for b in design.blocks if b.group == group]
        for a, z in enumerate(term_columns(mine)):
            new[a, p] = np.bincount(mine[0].codes, times(z, weighted), old.shape[2])
        border.append(new)
    return replace(cross, border=tuple(border), corner=corner, centre=centre)


def random_columns(design: Design, cross: CrossProducts) -> sparse.csr_array:
    """
    Spread the random terms' columns over their levels: the matrix ``Z``.

    Parameters
    ----------
    design : Design
        ``n`` rows.
    cross : CrossProducts
        Of it.

    Returns
    -------
    sparse array of shape (n, q)
        Columns in the order of elimination.
    """
    n, plan = len(design.y), cross.plan
    Z = sparse.csr_array((n, plan.size))
    for slot, block in zip(cross.slots, design.blocks, strict=True):
        L = plan.gram.levels(slot.factor)
        for a in range(slot.width):
            at = plan.starts[slot.factor] + (slot.start + a) * L + block.codes
            entries = (block.values[:, a], (np.arange(n), at))
            Z = Z + sparse.csr_array(entries, shape=(n, plan.size))
    return Z


def layout_of(design: Design) -> Layout:
    """
    Say where each random term's parameters stand in theta.

    Parameters
    ----------
    design : Design
        The data as arrays.

    Returns
    -------
    Layout
        In formula order.
    """
    structures = tuple(b.term.structure for b in design.blocks)
    return Layout(structures, tuple(len(b.effects) for b in design.blocks))


def by_group(design: Design) -> list[list[Block]]:
    """
    Collect the random terms of each grouping factor.

    Parameters
    ----------
    design : Design
        The data as arrays.

    Returns
    -------
    list of list of Block
        Factors in the order in which the formula names them.
    """
    groups = dict.fromkeys(b.group for b in design.blocks)
    return [[b for b in design.blocks if b.group == g] for g in groups]


def centred_sides(design: Design) -> tuple[list[Vector], Vector, Matrix | None]:
    """
    Take the fixed columns and the response in the form in which they are summed.

    Parameters
    ----------
    design : Design
        ``n`` rows.

    Returns
    -------
    sides : list of ndarray of shape (n,)
        Columns of ``[X B^-1, y - X centre]``.
    centre : ndarray of shape (p,)
        Least-squares coefficients.
    basis : ndarray of shape (p, p) or None
        Upper triangular ``B``; None for the identity.
    """
    X, y, centre, basis = _centred(design)
    return [np.ascontiguousarray(X[:, c]) for c in range(X.shape[1])] + [y], centre, basis


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


def _corner(sides: list[Vector], w: Vector | None) -> Matrix:
    m = len(sides)
    corner = np.empty((m, m))
    for i in range(m):
        left = sides[i] if w is None else w * sides[i]
        for j in range(i + 1):
            corner[i, j] = corner[j, i] = left @ sides[j]
    return corner


def _slot(block: Block, groups: tuple[str, ...], members: list[list[Block]]) -> Slot:
    factor = groups.index(block.group)
    before = 0
    for other in members[factor]:
        if other is block:
            break
        before += len(other.effects)
    return Slot(factor, before, len(block.effects))


def term_columns(blocks: list[Block]) -> list[Vector | None]:
    """
    Take the columns of all terms of a group.

    Parameters
    ----------
    blocks : list of Block
        Terms of one grouping factor.

    Returns
    -------
    list of ndarray of shape (n,) or None
        None stands for a column of ones.
    """
    columns: list[Vector | None] = []
    for b in blocks:
        for j in range(b.values.shape[1]):
            column = b.values[:, j]
            constant = b.values.strides[0] == 0 or (column[0] == 1.0 and (column == 1.0).all())
            columns.append(None if constant else np.ascontiguousarray(column))
    return columns


def times(a: Vector | None, b: Vector | None) -> Vector | None:
    """
    Multiply two columns of which either may be all ones.

    Parameters
    ----------
    a, b : ndarray of shape (n,) or None
        None stands for ones.

    Returns
    -------
    ndarray of shape (n,) or None
        Their product.
    """
    if a is None or b is None:
        return a if b is None else b
    return a * b


def level_sums(
    blocks: list[Block],
    w: Vector | None,
    sides: list[Vector],
    codes: npt.NDArray[np.intp],
    L: int,
) -> tuple[Matrix, Matrix]:
    """
    Sum products of a group's columns, with each other and with some sides, by level.

    Parameters
    ----------
    blocks : list of Block
        Terms of one grouping factor, ``K`` columns in all.
    w : ndarray of shape (n,) or None
        Weights.
    sides : list of ndarray of shape (n,)
        ``m`` columns.
    codes : ndarray of shape (n,)
        By what to sum: levels, or parts of them.
    L : int
        How many there are.

    Returns
    -------
    gram : ndarray of shape (K, K, L)
        Products of the columns with each other.
    border : ndarray of shape (K, m, L)
        Products with the sides. A column that is both random and fixed, as most are, is
        summed once.
    """
    z = term_columns(blocks)
    distinct = list(z)
    places = [_place(distinct, side) for side in sides]
    sums: dict[tuple[int, int], Vector] = {}

    def total(i: int, j: int) -> Vector:
        key = (min(i, j), max(i, j))
        if key not in sums:
            product = times(times(distinct[i], distinct[j]), w)
            sums[key] = np.bincount(codes, product, L).astype(float)
        return sums[key]

    K = len(z)
    gram = np.array([[total(a, b) for b in range(K)] for a in range(K)])
    border = np.array([[total(a, c) for c in places] for a in range(K)])
    return gram, border


def _place(distinct: list[Vector | None], column: Vector) -> int:
    """Position of a column among those known, to which it is added if it is new."""
    ones = bool(column[0] == 1.0 and (column == 1.0).all())
    for i, known in enumerate(distinct):
        if known is None:
            if ones:
                return i
        elif known[0] == column[0] and np.array_equal(known, column):
            return i
    distinct.append(column)
    return len(distinct) - 1


def _couple(first: list[Block], second: list[Block], w: Vector | None) -> Coupling:
    """Cross-products of two groups, summed over the rows of each pair of levels that occurs."""
    rows, cols = first[0].codes, second[0].codes
    shape = (len(first[0].levels), len(second[0].levels))
    za, zb = term_columns(first), term_columns(second)
    values, pattern = [], None
    for a in za:
        for b in zb:
            product = times(times(a, b), w)
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


# ------------------------------------------------------------------ adding portions of rows


def _add(a: CrossProducts, b: CrossProducts) -> CrossProducts:
    """Join the levels, refer the second response to the first's centre, and add up."""
    if (a.names, a.groups, a.slots, a.layout) != (b.names, b.groups, b.slots, b.layout):
        raise DataError(
            "these cross-products are of different models: fixed columns "
            f"{', '.join(a.names)} and {', '.join(b.names)}, groups {', '.join(a.groups)} and "
            f"{', '.join(b.groups)}. Portions of one table need the same columns: make "
            "factors categorical with all their levels."
        )
    joined = [one.union(other) for one, other in zip(a.levels, b.levels, strict=True)]
    basis = b.basis if a.basis is None else a.basis
    Ta, Tb = _to_common(a, a.centre, basis), _to_common(b, a.centre, basis)
    couplings = {
        (i, j): _add_couplings(
            (a.gram.couplings[i, j], joined[i][1], joined[j][1]),
            (b.gram.couplings[i, j], joined[i][2], joined[j][2]),
        )
        for i, j in a.gram.couplings
    }
    diagonal, border = [], []
    for f, (levels, mine, theirs) in enumerate(joined):
        L = len(levels)
        diagonal.append(
            _spread(a.gram.diagonal[f], mine, L) + _spread(b.gram.diagonal[f], theirs, L)
        )
        sides = [np.einsum("kml,mc->kcl", x.border[f], T) for x, T in ((a, Ta), (b, Tb))]
        border.append(_spread(sides[0], mine, L) + _spread(sides[1], theirs, L))
    return replace(
        a,
        n=a.n + b.n,
        levels=tuple(levels for levels, _, _ in joined),
        plan=analyse(Gram(tuple(diagonal), couplings)),
        border=tuple(border),
        corner=Ta.T @ a.corner @ Ta + Tb.T @ b.corner @ Tb,
        basis=basis,
        log_weights=a.log_weights + b.log_weights,
    )


def _to_common(cross: CrossProducts, centre: Vector, basis: Matrix | None) -> Matrix:
    """Matrix that turns ``[X B^-1, y - X old]`` into ``[X basis^-1, y - X centre]``."""
    own = np.eye(cross.p) if cross.basis is None else cross.basis
    T = np.eye(cross.p + 1)
    T[:-1, :-1] = own
    if basis is not None:
        T[:-1, :-1] = linalg.solve_triangular(basis, own.T, trans="T").T
    T[:-1, -1] = own @ (cross.centre - centre)
    return T


def _spread(array: Matrix, at: npt.NDArray[np.intp], L: int) -> Matrix:
    out = np.zeros((*array.shape[:2], L))
    out[:, :, at] = array
    return out


def _add_couplings(*parts: tuple[Coupling, Any, Any]) -> Coupling:
    rows = np.concatenate([at[c.rows] for c, at, _ in parts])
    cols = np.concatenate([to[c.cols] for c, _, to in parts])
    values = np.concatenate([c.values for c, _, _ in parts], axis=2)
    width = int(cols.max()) + 1
    keys, inverse = np.unique(rows * width + cols, return_inverse=True)
    summed = [[np.bincount(inverse, v, len(keys)) for v in row] for row in values]
    return Coupling(keys // width, keys % width, np.array(summed))
