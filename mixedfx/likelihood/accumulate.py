"""Cross-products of a design's rows, about the least-squares fit in a well-conditioned basis."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from mixedfx.covariance.parametrization import Parametrization
from mixedfx.design.build import Design
from mixedfx.design.rows import ModelRows, RandomTermRows
from mixedfx.design.spec import ModelSpec
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
from mixedfx.linalg.cholesky.block_matrix import BlockLayout, BlockMatrix, BlockPattern

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Below this smallest eigenvalue of the scaled cross-products, X is replaced by an orthonormal
# basis: the squared condition number would cost more than a third of the digits.
_ILL_CONDITIONED = 1e-5

# Residuals below this share of the response are rounding errors.
_EXACT = 2e-14


def compute_crossproducts(design: Design) -> CrossProducts:
    """Cross-products of all rows; refuses what the likelihood cannot identify."""
    spec, rows, w = design.spec, design.rows, design.rows.weights
    Xy_columns, ols_coef, qr_R = centred_columns(rows)
    by_group = blocks_by_group(rows)
    groups = tuple(random_terms[0].group for random_terms in by_group)
    sums = [
        level_sums(random_terms, w, Xy_columns, random_terms[0].codes, random_terms[0].n_levels)
        for random_terms in by_group
    ]
    blocks = {
        (i, j): off_diagonal_block(by_group[i], by_group[j], w)
        for i, j in itertools.combinations(range(len(groups)), 2)
    }
    layout = BlockLayout(tuple(len(ZtZ) for ZtZ, _ in sums), tuple(ZtZ.shape[2] for ZtZ, _ in sums))
    crossprod = CrossProducts(
        n=rows.n,
        response=spec.formula.response,
        names=spec.X_names,
        groups=groups,
        levels=tuple(spec.levels_of(group) for group in groups),
        ZtZ=BlockMatrix(
            BlockPattern(layout, {ij: pairs for ij, (pairs, _) in blocks.items()}),
            tuple(ZtZ for ZtZ, _ in sums),
            {ij: values for ij, (_, values) in blocks.items()},
        ),
        ZtXy=tuple(ZtXy for _, ZtXy in sums),
        XytXy=column_products(Xy_columns, w),
        term_positions=tuple(_term_position(term, groups, by_group) for term in rows.random_terms),
        parametrization=parametrization_of(spec),
        ols_coef=ols_coef,
        qr_R=qr_R,
        log_weights=0.0 if w is None else float(np.log(w).sum()),
        sigma=spec.fixed_sigma,
    )
    _check_residuals(design, Xy_columns[-1])
    _check_identified(spec, crossprod)
    return crossprod


def _check_residuals(design: Design, residuals: Vector) -> None:
    """Refuse a response that the fixed part explains exactly."""
    rows = design.rows
    size = float(np.abs(rows.response_less_offset).max())
    if rows.offset is not None:
        size = max(size, float(np.abs(rows.offset).max()))
    if not float(np.abs(residuals).max()) > _EXACT * size:
        part = "fixed part" if rows.offset is None else "offset and the fixed part"
        raise ResponseError(
            f"the {part} explain{'s' if rows.offset is None else ''} the response "
            f"'{design.spec.formula.response}' exactly: nothing is left to model."
        )


def _check_identified(spec: ModelSpec, crossprod: CrossProducts) -> None:
    """Refuse variances that are not identified, being confounded with fixed or other effects."""
    p = crossprod.p
    inverse = np.linalg.pinv(crossprod.XytXy[:p, :p])
    for random_term, position in zip(spec.random_terms, crossprod.term_positions, strict=True):
        for j, name in enumerate(random_term.effect_names):
            a = position.start + j
            ztX = crossprod.ZtXy[position.group][a, :p]
            total = float(crossprod.ZtZ.diagonal[position.group][a, a].sum())
            if total - float(np.einsum("cl,cd,dl->", ztX, inverse, ztX)) < 1e-10 * total:
                raise GroupingError(
                    f"the fixed part already tells the levels of '{random_term.group}' apart, so "
                    f"the variance of '{name}' in {random_term.formula_term} cannot be estimated; "
                    "leave one of the two out."
                )
    for (i, j), pairs in crossprod.ZtZ.pattern.pairs.items():
        if len(pairs) == len(crossprod.levels[i]) == len(crossprod.levels[j]):
            first, second = (
                {
                    e
                    for term in spec.random_terms
                    if term.group == crossprod.groups[k]
                    for e in term.effect_names
                }
                for k in (i, j)
            )
            if first & second:
                raise GroupingError(
                    f"grouping factors '{crossprod.groups[i]}' and '{crossprod.groups[j]}' divide "
                    "the rows in the same way, so their variances of "
                    f"{', '.join(sorted(first & second))} cannot be told apart; leave one out."
                )


def with_response(crossprod: CrossProducts, rows: ModelRows) -> CrossProducts:
    """Cross-products of rows that differ in the response; shares what does not depend on it."""
    p, w, y = crossprod.p, rows.weights, rows.response_less_offset
    weighted = y if w is None else w * y
    XtX = crossprod.XytXy[:p, :p]  # of X qr_R^-1: it does not depend on the response
    Xty = rows.X.T @ weighted
    if crossprod.qr_R is not None:
        Xty = linalg.solve_triangular(crossprod.qr_R, Xty, trans="T")
    ols_coef = np.asarray(np.linalg.solve(XtX, Xty) if p else Xty)
    if crossprod.qr_R is not None:
        ols_coef = np.asarray(linalg.solve_triangular(crossprod.qr_R, ols_coef))
    residuals = y - rows.X @ ols_coef
    weighted = residuals if w is None else w * residuals
    Xtr = rows.X.T @ weighted
    if crossprod.qr_R is not None:
        Xtr = linalg.solve_triangular(crossprod.qr_R, Xtr, trans="T")
    XytXy = crossprod.XytXy.copy()
    XytXy[:p, p] = XytXy[p, :p] = Xtr
    XytXy[p, p] = residuals @ weighted
    ZtXy = []
    for group, old in zip(crossprod.groups, crossprod.ZtXy, strict=True):
        new = old.copy()
        random_terms = [term for term in rows.random_terms if term.group == group]
        for a, z in enumerate(term_columns(random_terms)):
            new[a, p] = np.bincount(random_terms[0].codes, multiply(z, weighted), old.shape[2])
        ZtXy.append(new)
    return replace(crossprod, ZtXy=tuple(ZtXy), XytXy=XytXy, ols_coef=ols_coef)


def sparse_Z(rows: ModelRows, crossprod: CrossProducts) -> sparse.csr_array:
    """The random effects' model matrix Z, (n, q), columns in the order of elimination."""
    n, symbolic = rows.n, crossprod.symbolic
    Z = sparse.csr_array((n, symbolic.size))
    for position, random_term in zip(crossprod.term_positions, rows.random_terms, strict=True):
        L = symbolic.layout.levels(position.group)
        for a in range(position.width):
            at = symbolic.starts[position.group] + (position.start + a) * L + random_term.codes
            entries = (random_term.model_matrix[:, a], (np.arange(n), at))
            Z = Z + sparse.csr_array(entries, shape=(n, symbolic.size))
    return Z


def parametrization_of(spec: ModelSpec) -> Parametrization:
    """Parametrization of the covariances of a model's random terms."""
    structures = tuple(term.formula_term.structure for term in spec.random_terms)
    return Parametrization(structures, tuple(len(term.effect_names) for term in spec.random_terms))


def centred_columns(rows: ModelRows) -> tuple[list[Vector], Vector, Matrix | None]:
    """Columns ``[X qr_R^-1, y - offset - X ols_coef]``, ols_coef and qr_R (None: identity)."""
    X, y, ols_coef, qr_R = _centred(rows)
    return [np.ascontiguousarray(X[:, c]) for c in range(X.shape[1])] + [y], ols_coef, qr_R


def _centred(rows: ModelRows) -> tuple[Matrix, Vector, Vector, Matrix | None]:
    """Well-conditioned fixed columns, and the least-squares residuals of the response."""
    X, y, w = rows.X, rows.response_less_offset, rows.weights
    p = X.shape[1]
    if p == 0:
        return X, y, np.zeros(0), None
    weighted = X if w is None else w[:, None] * X
    XtX, Xty = X.T @ weighted, weighted.T @ y
    scale = 1.0 / np.sqrt(np.diag(XtX))
    values, vectors = np.linalg.eigh(XtX * np.outer(scale, scale))
    if values[0] > _ILL_CONDITIONED:
        ols_coef = scale * (vectors @ ((vectors.T @ (scale * Xty)) / values))
        return X, y - X @ ols_coef, ols_coef, None
    root = np.ones(len(y)) if w is None else np.sqrt(w)
    Q, R = np.linalg.qr(root[:, None] * X)
    Qty = Q.T @ (root * y)
    ols_coef = np.asarray(linalg.solve_triangular(R, Qty))
    orthonormal = Q / root[:, None]
    return orthonormal, y - orthonormal @ Qty, ols_coef, R


def _term_position(
    random_term: RandomTermRows, groups: tuple[str, ...], by_group: list[list[RandomTermRows]]
) -> TermPosition:
    group = groups.index(random_term.group)
    start = 0
    for other in by_group[group]:
        if other is random_term:
            break
        start += other.model_matrix.shape[1]
    return TermPosition(group, start, random_term.model_matrix.shape[1])
