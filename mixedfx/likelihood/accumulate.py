"""Cross-products of a design's rows, about the least-squares fit in a well-conditioned basis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.linalg.lapack import dpotrf, dtrtri

from mixedfx.covariance.parametrization import Parametrization
from mixedfx.design.build import Design
from mixedfx.design.rows import ModelRows, RandomTermRows
from mixedfx.design.spec import ModelSpec, RandomTermSpec
from mixedfx.errors import GroupingError, ResponseError, WeightsError
from mixedfx.likelihood import precision, prediction_variance
from mixedfx.likelihood.basis import ColumnBasis, rows_in_basis, term_bases, well_conditioned
from mixedfx.likelihood.coefficient_covariance import combinations_in_basis
from mixedfx.likelihood.crossproducts import CrossProducts, TermPosition
from mixedfx.likelihood.level_basis import BlocksOfPairs, RelatedLevels
from mixedfx.likelihood.level_sums import (
    blocks_by_group,
    column_products,
    level_sums,
    multiply,
    off_diagonal_block,
    term_columns,
)
from mixedfx.linalg.cholesky.block_matrix import BlockLayout, BlockMatrix, BlockPattern, LevelPairs
from mixedfx.linalg.symmetric import eigenvalues, solve_positive
from mixedfx.linalg.triangular import solve_upper

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Below this smallest eigenvalue of the scaled cross-products, X is replaced by another basis: the
# digits lost to the squared condition number are those that large random effects leave.
ILL_CONDITIONED = 1e-2

# Residuals below this share of the response are rounding errors.
_EXACT = 2e-14

# Share of an effect's columns that the fixed part leaves, below which it is rounding.
_CONFOUNDED = 1e-10

# Ratio of weights from which nothing may be left of the lighter rows.
_UNEVEN = 1e8


def compute_crossproducts(
    design: Design, *, bases: tuple[ColumnBasis, ...] | None = None, strata: bool = False
) -> CrossProducts:
    """
    Cross-products of all rows, in given bases of the terms or in their own.

    Refuses what the likelihood cannot identify. Those of ``strata`` are added up with weights of
    their own, in a basis of the levels that depends on these.
    """
    spec, rows, w = design.spec, design.rows, design.rows.weights
    Xy_columns, ols_coef, qr_R = centred_columns(rows)
    parametrization = parametrization_of(spec)
    bases = term_bases(rows, parametrization) if bases is None else bases
    by_group = blocks_by_group(rows_in_basis(rows.random_terms, bases))
    related = RelatedLevels.of(spec, by_group)
    by_code = _sums_by_code(by_group, w, Xy_columns)
    by_levels = block_matrix([ZtZ for ZtZ, _ in by_code[0]], by_code[1])
    solver = None if strata else related.precision_solver(by_levels.pattern)
    ZtZ, ZtXy, level_bases = by_levels, tuple(ZtXy for _, ZtXy in by_code[0]), related.no_bases
    if not related.is_plain and solver is None:
        ZtZ, ZtXy, level_bases = _in_effects(related, by_code)
    crossprod = CrossProducts(
        n=rows.n,
        response=spec.formula.response_name,
        names=spec.X_names,
        groups=related.groups,
        levels=related.levels,
        ZtZ=ZtZ,
        ZtXy=ZtXy,
        XytXy=column_products(Xy_columns, w),
        term_positions=term_positions(rows.random_terms, parametrization.widths, related.groups),
        parametrization=parametrization,
        bases=bases,
        level_bases=level_bases,
        ols_coef=ols_coef,
        qr_R=qr_R,
        log_weights=0.0 if w is None else float(np.log(w).sum()),
        sigma=spec.fixed_sigma,
    )
    _check_residuals(design, Xy_columns[-1])
    check_identified(spec, crossprod, w)
    return crossprod if solver is None else precision.with_precision(crossprod, solver, by_levels)


def crossproducts_of(design: Design) -> CrossProducts:
    """Cross-products of a design: of rows in memory, or from those of rows read in chunks."""
    reduced: Any = design.rows.reduced
    if reduced is not None:
        known: CrossProducts = reduced.crossproducts(design)
        return known
    return compute_crossproducts(design)


def _sums_by_code(
    by_group: list[list[RandomTermRows]], w: Vector | None, Xy_columns: list[Vector]
) -> tuple[list[tuple[Matrix, Matrix]], BlocksOfPairs]:
    """``Z'WZ`` and ``Z'W[X, y]`` of each grouping factor, and blocks between the factors."""
    sums = [
        level_sums(terms, w, Xy_columns, terms[0].codes, terms[0].n_codes) for terms in by_group
    ]
    blocks = {
        (i, j): off_diagonal_block(by_group[i], by_group[j], w)
        for i, j in itertools.combinations(range(len(by_group)), 2)
    }
    return sums, blocks


def _in_effects(
    related: RelatedLevels, by_code: tuple[list[tuple[Matrix, Matrix]], BlocksOfPairs]
) -> tuple[BlockMatrix, tuple[Matrix, ...], tuple[Matrix | None, ...]]:
    """``Z'WZ`` and ``Z'W[X, y]`` of the effects v that stand for those of related levels; B."""
    sums, blocks, level_bases = related.in_bases(*by_code)
    within = {f: s.within for f, s in enumerate(sums) if s.within is not None}
    ZtZ = block_matrix([of_factor.ZtZ for of_factor in sums], blocks, within)
    return ZtZ, tuple(of_factor.ZtXy for of_factor in sums), level_bases


def block_matrix(
    diagonal: list[Matrix],
    blocks: BlocksOfPairs,
    within: dict[int, tuple[LevelPairs, Matrix]] | None = None,
) -> BlockMatrix:
    """``Z'WZ`` of its blocks; ``within`` are those between levels of one factor."""
    own = within or {}
    pattern = BlockPattern(
        BlockLayout(tuple(map(len, diagonal)), tuple(ZtZ.shape[2] for ZtZ in diagonal)),
        {ij: pairs for ij, (pairs, _) in blocks.items()},
        {f: pairs for f, (pairs, _) in own.items()},
    )
    return BlockMatrix(
        pattern,
        tuple(diagonal),
        {ij: values for ij, (_, values) in blocks.items()},
        {f: values for f, (_, values) in own.items()},
    )


def _check_residuals(design: Design, residuals: Vector) -> None:
    """Refuse a response that the fixed part explains exactly."""
    rows = design.rows
    if rows.offset is None and np.vdot(residuals, residuals) > rows.n * _EXACT**2 * np.vdot(
        rows.y, rows.y
    ):
        return  # the largest residual is at least the root mean square
    size = float(np.maximum.reduce(np.abs(rows.response_less_offset)))
    if rows.offset is not None:
        size = max(size, float(np.abs(rows.offset).max()))
    largest = float(np.maximum.reduce(np.abs(residuals)))
    check_something_left(design.spec, largest, size, has_offset=rows.offset is not None)


def check_something_left(
    spec: ModelSpec, largest_residual: float, size: float, *, has_offset: bool
) -> None:
    """Refuse residuals that are rounding errors beside the response and the offset."""
    if not largest_residual > _EXACT * size:
        part = "offset and the fixed part" if has_offset else "fixed part"
        raise ResponseError(
            f"the {part} explain{'' if has_offset else 's'} the response "
            f"'{spec.formula.response}' exactly: nothing is left to model."
        )


def _check_even_weights(weights: Vector | None) -> None:
    """Name uneven weights, where they are why the fixed part leaves nothing to the levels."""
    if weights is not None and weights.max() > _UNEVEN * weights.min():
        raise WeightsError(
            f"weights (or residual_sd**-2) range from {weights.min():.2g} to {weights.max():.2g}: "
            "beside the heaviest rows, which the fixed part fits, the others are lost in double "
            "precision, and with them the levels. Make them more even, or leave rows out."
        )


def _inverse(A: Matrix) -> Matrix:
    """Inverse of a positive definite matrix; of another one its pseudoinverse."""
    root, info = dpotrf(A, lower=1, clean=1)
    pivots = root.diagonal().tolist()
    if not len(A) or info or min(pivots) < 1e-4 * max(pivots):
        return np.asarray(np.linalg.pinv(A), dtype=np.float64)
    half = dtrtri(root, lower=1)[0]
    return np.asarray(half.T @ half)


def _has_free_levels(crossprod: CrossProducts, t: int) -> bool:
    """
    Whether a term's columns surely are not those of X: sufficient, and cheap.

    The p columns of X explain no more of an effect's columns, orthogonal as levels share no rows,
    than the p longest of them.
    """
    position, p = crossprod.term_positions[t], crossprod.p
    if position.group in crossprod.ZtZ.within:
        return False
    products = crossprod.ZtZ.diagonal[position.group][position.columns, position.columns]
    squares = crossprod.bases[t].own_squares_by_level(products)
    least, total = np.minimum.reduce(squares, axis=1), np.add.reduce(squares, axis=1)
    left = squares.shape[1] - p
    return all(
        left * a >= _CONFOUNDED * b for a, b in zip(least.tolist(), total.tolist(), strict=True)
    )


def check_identified(spec: ModelSpec, crossprod: CrossProducts, weights: Vector | None) -> None:
    """Refuse variances that are not identified, being confounded with fixed or other effects."""
    p = crossprod.p
    for t, (random_term, position) in enumerate(
        zip(spec.random_terms, crossprod.term_positions, strict=True)
    ):
        if _has_free_levels(crossprod, t):
            continue
        inverse = _inverse(crossprod.XytXy[:p, :p])
        part = position.columns
        ZtX = crossprod.ZtXy[position.group][part, :p]
        total, k = crossprod.products_of_terms[t], len(ZtX)
        left = total - ZtX.reshape(k, -1) @ (inverse @ ZtX).reshape(k, -1).T
        total, left = (crossprod.bases[t].own_squares(A) for A in (total, left))
        for j, name in enumerate(random_term.effect_names):
            if left[j] < _CONFOUNDED * total[j]:
                _check_even_weights(weights)
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
            if first == second:  # of others, the sums are identified: see identifiability.py
                raise GroupingError(
                    f"grouping factors '{crossprod.groups[i]}' and '{crossprod.groups[j]}' divide "
                    "the rows in the same way, so their variances of "
                    f"{', '.join(sorted(first))} cannot be told apart; leave one out."
                )


def with_response(crossprod: CrossProducts, rows: ModelRows) -> CrossProducts:
    """Cross-products of rows that differ in the response; shares what does not depend on it."""
    p, w, y = crossprod.p, rows.weights, rows.response_less_offset
    X = combinations_in_basis(rows.X, crossprod.qr_R)
    XtX = crossprod.XytXy[:p, :p]  # it does not depend on the response
    shift, centred = centred_response(rows.X, y, w)
    Xty = X.T @ (centred if w is None else w * centred)
    coef = np.asarray(np.linalg.solve(XtX, Xty) if p else Xty)
    residuals = centred - X @ coef
    ols_coef = _shifted(coef, crossprod.qr_R, shift)
    weighted = residuals if w is None else w * residuals
    Xtr = X.T @ weighted
    XytXy = crossprod.XytXy.copy()
    XytXy[:p, p] = XytXy[p, :p] = Xtr
    XytXy[p, p] = residuals @ weighted
    ZtXy: list[Matrix] = []
    in_basis = rows_in_basis(rows.random_terms, crossprod.bases)
    for f, (group, old) in enumerate(zip(crossprod.groups, crossprod.ZtXy, strict=True)):
        new, basis = old.copy(), crossprod.level_basis(f)
        random_terms = [term for term in in_basis if term.group == group]
        for a, z in enumerate(term_columns(random_terms)):
            codes, size = random_terms[0].codes, random_terms[0].n_codes
            sums = np.asarray(np.bincount(codes, multiply(z, weighted), size), dtype=float)
            if basis is not None:
                memberships = random_terms[0].memberships
                sums = (sums if memberships is None else sums @ memberships.csr) @ basis
            new[a, p] = sums
        ZtXy.append(new)
    return replace(crossprod, ZtXy=tuple(ZtXy), XytXy=XytXy, ols_coef=ols_coef)


def sparse_Z(rows: ModelRows, crossprod: CrossProducts) -> sparse.csr_array:
    """The random effects' model matrix Z in its basis, (n, q), in the order of elimination."""
    return prediction_variance.sparse_rows(crossprod, prediction_variance.prediction_rows(rows))


def parametrization_of(spec: ModelSpec) -> Parametrization:
    """Parametrization of the covariances of a model's random terms."""
    return parametrization_of_terms(spec.random_terms)


def parametrization_of_terms(terms: Sequence[RandomTermSpec]) -> Parametrization:
    """The same of some random terms."""
    structures = tuple(term.formula_term.structure for term in terms)
    widths = tuple(len(term.effect_names) for term in terms)
    found = tuple(None if t.positions is None else t.positions.coordinates for t in terms)
    if all(points is None for points in found):
        return _without_positions(structures, widths)
    return Parametrization(structures, widths, found)


@lru_cache(maxsize=256)
def _without_positions(structures: tuple[str, ...], widths: tuple[int, ...]) -> Parametrization:
    """Parametrization that no data is part of: models share it, and what is computed from it."""
    return Parametrization(structures, widths)


def centred_columns(rows: ModelRows) -> tuple[list[Vector], Vector, Matrix | None]:
    """Columns ``[X qr_R^-1, y - offset - X ols_coef]``, ols_coef and qr_R (None: identity)."""
    X, y, ols_coef, qr_R = _centred(rows)
    return [np.ascontiguousarray(X[:, c]) for c in range(X.shape[1])] + [y], ols_coef, qr_R


def _centred(rows: ModelRows) -> tuple[Matrix, Vector, Vector, Matrix | None]:
    """Well-conditioned fixed columns, and the least-squares residuals of the response."""
    X, w = rows.X, rows.weights
    p = X.shape[1]
    if p == 0:
        return X, rows.response_less_offset, np.zeros(0), None
    shift, y = centred_response(X, rows.response_less_offset, w)
    weighted = X if w is None else w[:, None] * X
    XtX, Xty = X.T @ weighted, weighted.T @ y
    scale = 1.0 / np.sqrt(XtX.diagonal())
    if eigenvalues(XtX * (scale[:, None] * scale))[0] > ILL_CONDITIONED:
        coef = solve_positive(XtX, Xty)
        if coef is not None:
            return X, y - X @ coef, _shifted(coef, None, shift), None
    basis = well_conditioned(X, w)
    if basis is None:
        columns, R = _orthonormal(X, w)
    else:
        root = math.sqrt(len(X))
        columns, R = basis.columns(X) / root, basis.inverse * root
    weighted = columns if w is None else w[:, None] * columns
    coef = np.asarray(np.linalg.solve(columns.T @ weighted, weighted.T @ y))
    return columns, y - columns @ coef, _shifted(coef, R, shift), R


def _orthonormal(X: Matrix, w: Vector | None) -> tuple[Matrix, Matrix]:
    """Orthonormal columns of X, and R of its QR factorisation."""
    root = np.ones(len(X)) if w is None else np.sqrt(w)
    Q, R = np.linalg.qr(root[:, None] * X)
    return Q / root[:, None], R


def centred_response(X: Matrix, y: Vector, w: Vector | None) -> tuple[float, Vector]:
    """Response less its mean, where the first fixed column is constant, and the mean."""
    if not X.shape[1] or not (X[:, 0] == 1.0).all():
        return 0.0, y
    mean = float(np.add.reduce(y)) / len(y) if w is None else float((w @ y) / w.sum())
    return mean, y - mean


def _shifted(coef: Vector, qr_R: Matrix | None, shift: float) -> Vector:
    """Coefficients of X from those of ``X qr_R^-1``, of a response that was shifted."""
    coef = solve_upper(qr_R, coef)
    if shift != 0.0:
        coef = coef.copy()
        coef[0] += shift
    return coef


def term_positions(
    terms: Sequence[RandomTermRows | RandomTermSpec], widths: Sequence[int], groups: tuple[str, ...]
) -> tuple[TermPosition, ...]:
    """Columns of each term among those of its grouping factor."""
    positions, total = [], dict.fromkeys(groups, 0)
    for term, k in zip(terms, widths, strict=True):
        positions.append(TermPosition(groups.index(term.group), total[term.group], k))
        total[term.group] += k
    return tuple(positions)
