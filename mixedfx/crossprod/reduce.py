"""A design to its cross-products, about the least-squares fit and in a good basis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from mixedfx.covariance import Layout
from mixedfx.crossprod.products import CrossProducts, Slot
from mixedfx.crossprod.sums import by_group, corner_sums, couple, level_sums, term_columns, times
from mixedfx.design import Block, Design
from mixedfx.errors import GroupingError, ResponseError
from mixedfx.factor import Gram, analyse

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Below this smallest eigenvalue of the scaled cross-products, X is replaced by an orthonormal
# basis: the squared condition number would cost more than a third of the digits.
_ILL_CONDITIONED = 1e-5

# Residuals below this share of the response are rounding.
_EXACT = 2e-14


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
        (i, j): couple(members[i], members[j], w)
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
        corner=corner_sums(sides, w),
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


def _slot(block: Block, groups: tuple[str, ...], members: list[list[Block]]) -> Slot:
    factor = groups.index(block.group)
    before = 0
    for other in members[factor]:
        if other is block:
            break
        before += len(other.effects)
    return Slot(factor, before, len(block.effects))
