"""A design to its cross-products, about the least-squares fit and in a good basis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from mixedfx.covariance.parametrization import Parametrization
from mixedfx.design.build import Design
from mixedfx.design.random import Block
from mixedfx.errors import GroupingError, ResponseError
from mixedfx.likelihood.crossproducts import CrossProducts, TermPosition
from mixedfx.likelihood.level_sums import (
    blocks_by_group,
    column_products,
    level_sums,
    multiply,
    off_diagonal_block,
    term_columns,
)
from mixedfx.linalg.cholesky.block_matrix import BlockMatrix
from mixedfx.linalg.cholesky.symbolic import analyze

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Below this smallest eigenvalue of the scaled cross-products, X is replaced by an orthonormal
# basis: the squared condition number would cost more than a third of the digits.
_ILL_CONDITIONED = 1e-5

# Residuals below this share of the response are rounding.
_EXACT = 2e-14


def compute_crossproducts(design: Design) -> CrossProducts:
    """Reduce a design to its cross-products."""
    w = design.weights
    sides, ols_coef, qr_R = centred_columns(design)
    members = blocks_by_group(design)
    groups = tuple(blocks[0].group for blocks in members)
    made = [
        level_sums(blocks, w, sides, blocks[0].codes, len(blocks[0].levels)) for blocks in members
    ]
    off_diagonal = {
        (i, j): off_diagonal_block(members[i], members[j], w)
        for i in range(len(groups))
        for j in range(i + 1, len(groups))
    }
    crossprod = CrossProducts(
        n=len(design.y),
        response=design.formula.response,
        names=design.names,
        groups=groups,
        levels=tuple(blocks[0].levels for blocks in members),
        symbolic=analyze(BlockMatrix(tuple(ZtZ for ZtZ, _ in made), off_diagonal)),
        ZtXy=tuple(ZtXy for _, ZtXy in made),
        XytXy=column_products(sides, w),
        term_positions=tuple(_slot(b, groups, members) for b in design.blocks),
        parametrization=parametrization_of(design),
        ols_coef=ols_coef,
        qr_R=qr_R,
        log_weights=0.0 if w is None else float(np.log(w).sum()),
        sigma=design.sigma,
    )
    _check_rest(design, sides[-1])
    _check_identified(design, crossprod)
    return crossprod


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


def _check_identified(design: Design, crossprod: CrossProducts) -> None:
    """Refuse variances that the likelihood knows nothing of."""
    p = crossprod.p
    inverse = np.linalg.pinv(crossprod.XytXy[:p, :p])
    for block, position in zip(design.blocks, crossprod.term_positions, strict=True):
        for j, name in enumerate(block.effects):
            a = position.start + j
            side = crossprod.ZtXy[position.factor][a, :p]
            own = float(crossprod.ZtZ.diagonal[position.factor][a, a].sum())
            if own - float(np.einsum("cl,cd,dl->", side, inverse, side)) < 1e-10 * own:
                raise GroupingError(
                    f"the fixed part already tells the levels of '{block.group}' apart, so the "
                    f"variance of '{name}' in {block.term} cannot be estimated; leave one of the "
                    "two out."
                )
    for (i, j), coupling in crossprod.ZtZ.off_diagonal.items():
        if len(coupling.rows) == len(crossprod.levels[i]) == len(crossprod.levels[j]):
            mine, theirs = (
                {e for b in design.blocks if b.group == crossprod.groups[k] for e in b.effects}
                for k in (i, j)
            )
            if mine & theirs:
                raise GroupingError(
                    f"grouping factors '{crossprod.groups[i]}' and '{crossprod.groups[j]}' divide "
                    "the "
                    f"rows in the same way, so their variances of "
                    f"{', '.join(sorted(mine & theirs))} cannot be told apart; leave one out."
                )


def with_response(crossprod: CrossProducts, design: Design, y: Vector) -> CrossProducts:
    """Exchange the response; all that does not depend on it is shared."""
    p, w = crossprod.p, design.weights
    weighted = y if w is None else w * y
    # The first p rows of the corner are those of X B^-1, whatever the response was.
    ZtZ = crossprod.XytXy[:p, :p]
    right = design.X.T @ weighted
    if crossprod.qr_R is not None:
        right = linalg.solve_triangular(crossprod.qr_R, right, trans="T")
    ols_coef = np.asarray(np.linalg.solve(ZtZ, right) if p else right)
    if crossprod.qr_R is not None:
        ols_coef = np.asarray(linalg.solve_triangular(crossprod.qr_R, ols_coef))
    rest = y - design.X @ ols_coef
    weighted = rest if w is None else w * rest
    side = design.X.T @ weighted
    if crossprod.qr_R is not None:
        side = linalg.solve_triangular(crossprod.qr_R, side, trans="T")
    XytXy = crossprod.XytXy.copy()
    XytXy[:p, p] = XytXy[p, :p] = side
    XytXy[p, p] = rest @ weighted
    ZtXy = []
    for group, old in zip(crossprod.groups, crossprod.ZtXy, strict=True):
        new = old.copy()
        mine = [b for b in design.blocks if b.group == group]
        for a, z in enumerate(term_columns(mine)):
            new[a, p] = np.bincount(mine[0].codes, multiply(z, weighted), old.shape[2])
        ZtXy.append(new)
    return replace(crossprod, ZtXy=tuple(ZtXy), XytXy=XytXy, ols_coef=ols_coef)


def sparse_Z(design: Design, crossprod: CrossProducts) -> sparse.csr_array:
    """Spread the random terms' columns over their levels: the matrix ``Z``."""
    n, symbolic = len(design.y), crossprod.symbolic
    Z = sparse.csr_array((n, symbolic.size))
    for position, block in zip(crossprod.term_positions, design.blocks, strict=True):
        L = symbolic.block_matrix.levels(position.factor)
        for a in range(position.width):
            at = symbolic.starts[position.factor] + (position.start + a) * L + block.codes
            entries = (block.values[:, a], (np.arange(n), at))
            Z = Z + sparse.csr_array(entries, shape=(n, symbolic.size))
    return Z


def parametrization_of(design: Design) -> Parametrization:
    """Say where each random term's parameters stand in theta."""
    structures = tuple(b.term.structure for b in design.blocks)
    return Parametrization(structures, tuple(len(b.effects) for b in design.blocks))


def centred_columns(design: Design) -> tuple[list[Vector], Vector, Matrix | None]:
    """Take the fixed columns and the response in the form in which they are summed."""
    X, y, ols_coef, qr_R = _centred(design)
    return [np.ascontiguousarray(X[:, c]) for c in range(X.shape[1])] + [y], ols_coef, qr_R


def _centred(design: Design) -> tuple[Matrix, Vector, Vector, Matrix | None]:
    """Well-conditioned fixed columns, and the response less its least-squares fit."""
    X, y, w = design.X, design.y, design.weights
    p = X.shape[1]
    if p == 0:
        return X, y, np.zeros(0), None
    weighted = X if w is None else w[:, None] * X
    ZtZ, right = X.T @ weighted, weighted.T @ y
    unit = 1.0 / np.sqrt(np.diag(ZtZ))
    values, vectors = np.linalg.eigh(ZtZ * np.outer(unit, unit))
    if values[0] > _ILL_CONDITIONED:
        ols_coef = unit * (vectors @ ((vectors.T @ (unit * right)) / values))
        return X, y - X @ ols_coef, ols_coef, None
    root = np.ones(len(y)) if w is None else np.sqrt(w)
    Q, B = np.linalg.qr(root[:, None] * X)
    inner = Q.T @ (root * y)
    ols_coef = np.asarray(linalg.solve_triangular(B, inner))
    flat = Q / root[:, None]
    return flat, y - flat @ inner, ols_coef, B


def _slot(block: Block, groups: tuple[str, ...], members: list[list[Block]]) -> TermPosition:
    factor = groups.index(block.group)
    before = 0
    for other in members[factor]:
        if other is block:
            break
        before += len(other.effects)
    return TermPosition(factor, before, len(block.effects))
