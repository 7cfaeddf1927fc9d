"""Plan of a second pass from a sample of the rows, and cross-products from its sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx._names import decode
from mixedfx.design.checks import independent_columns
from mixedfx.design.estimability import column_aliases
from mixedfx.design.spec import ModelSpec
from mixedfx.design.stream.chunk_rows import ChunkDesign
from mixedfx.design.stream.learning import Learned
from mixedfx.errors import DataError, SourceChangedError
from mixedfx.likelihood.accumulate import (
    ILL_CONDITIONED,
    block_matrix,
    centred_response,
    check_identified,
    check_something_left,
    parametrization_of,
    term_positions,
)
from mixedfx.likelihood.basis import ColumnBasis, term_bases, well_conditioned
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.recentred import (
    at_unit_length,
    least_squares,
    smallest_eigenvalue,
)
from mixedfx.likelihood.stratified import StratifiedSums
from mixedfx.likelihood.stream.stratum_sums import stratified
from mixedfx.likelihood.stream.sums import ReductionPlan, RowSums
from mixedfx.linalg.available_memory import check_memory
from mixedfx.linalg.cholesky.block_matrix import BlockPattern

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Sums of the variables of two passes differ by no more than this, relative to their size.
_SAME_SUM = 1e-9


def plan_reduction(learned: Learned) -> ReductionPlan:
    """Bases of the columns, and coefficients near those of least squares, from the kept rows."""
    spec, rows = learned.spec, learned.sample.rows
    _check_level_sums(spec)
    own, kept = np.ascontiguousarray(rows.X), learned.sample.spec.kept_columns
    basis = _basis(own, rows.weights)
    columns = own if basis is None else basis.columns(own)
    shift, y = centred_response(own, rows.response_less_offset, rows.weights)
    coef = np.zeros(len(spec.column_names))
    if len(kept):
        root = np.ones(rows.n) if rows.weights is None else np.sqrt(rows.weights)
        solved = np.linalg.lstsq(root[:, None] * columns, root * y, rcond=None)[0]
        if shift != 0.0:  # the first column is constant
            solved[0] += shift / columns[0, 0]
        coef[kept] = solved
    return ReductionPlan(
        ChunkDesign(learned.request, spec, learned.response_info, learned.strata),
        term_bases(rows, parametrization_of(spec)),
        basis,
        kept,
        coef,
    )


def _check_level_sums(spec: ModelSpec) -> None:
    """Refuse sums by level that memory does not hold, before any is allocated."""
    numbers = level_numbers(spec)
    named = [f"'{group}' ({n_levels:,} levels)" for group, n_levels in spec.ngroups.items()]
    check_memory(
        f"the cross-products of {' and '.join(named)} are {numbers:,} numbers",
        8.0 * numbers,
        copies=4,  # those of a chunk, of all rows, their sum, and those of the search
        advice="Leave a random term out, or use a machine with more memory.",
    )


def level_numbers(spec: ModelSpec) -> int:
    """Numbers that the sums by level of a chunk are."""
    numbers = 0
    for group, n_levels in spec.ngroups.items():
        K = sum(len(spec.random_terms[t].effect_names) for t in spec.terms_of(group))
        numbers += K * (K + len(spec.column_names) + 1) * n_levels
    return numbers


def crossproduct_bytes(crossprod: CrossProducts) -> int:
    """Size of cross-products."""
    ZtZ = crossprod.ZtZ
    arrays = [*ZtZ.diagonal, *ZtZ.off_diagonal.values(), *crossprod.ZtXy, crossprod.XytXy]
    for pairs in ZtZ.pattern.pairs.values():
        arrays += [pairs.rows, pairs.cols]  # type: ignore[list-item]
    return sum(array.nbytes for array in arrays)


def _basis(X: Matrix, w: Vector | None) -> ColumnBasis | None:
    """Basis of columns that are ill-conditioned as they are, in the kept rows."""
    if not X.shape[1]:
        return None
    products = X.T @ (X if w is None else w[:, None] * X)
    if smallest_eigenvalue(products) > ILL_CONDITIONED:
        return None
    return well_conditioned(X, w)


@dataclass(frozen=True)
class StreamedModel:
    """Cross-products of all rows, and the specification that is known with them."""

    spec: ModelSpec
    crossprod: CrossProducts
    XtX: Matrix  # (p, p) of the columns of X, without weights
    X_root: Matrix  # (p, p) M with ``M'M`` their covariance
    strata: StratifiedSums | None  # by stratum of equal residual variance


def assemble(learned: Learned, plan: ReductionPlan, sums: RowSums) -> StreamedModel:
    """Cross-products of the sums, which identify a linear model."""
    model = assemble_unchecked(learned, plan, sums)
    _check_sums(model.spec, model.crossprod, sums)
    return model


def assemble_unchecked(learned: Learned, plan: ReductionPlan, sums: RowSums) -> StreamedModel:
    """Cross-products of the sums, about the least-squares coefficients of all rows."""
    _check_same_rows(learned, sums)
    spec, R = learned.spec, plan.R(len(plan.coef))
    raw = _root(sums.XtX) @ R  # raw' raw = X'X
    kept = _independent(learned, plan, sums, raw)
    spec = replace(spec, kept_columns=kept, aliases=column_aliases(raw, kept))
    if sums.n <= len(kept):
        raise DataError(f"{len(kept)} fixed columns need more than {sums.n} rows; leave terms out.")
    groups, parametrization = tuple(spec.ngroups), parametrization_of(spec)
    part = np.append(kept, len(plan.coef))
    products = sums.XytXy[np.ix_(part, part)]
    columns = least_squares(products, sums.n, R[np.ix_(kept, kept)], plan.coef[kept])
    T = columns.T
    blocks = {
        (i, j): pairs.total().as_block(len(sums.ZtZ[i]), len(sums.ZtZ[j]))
        for (i, j), pairs in sums.pairs.items()
    }
    crossprod = CrossProducts(
        n=sums.n,
        response=spec.formula.response_name,
        names=spec.X_names,
        groups=groups,
        levels=tuple(spec.levels_of(group) for group in groups),
        ZtZ=block_matrix(list(sums.ZtZ), blocks),
        ZtXy=tuple(np.einsum("kml,mc->kcl", values[:, part], T) for values in sums.ZtXy),
        XytXy=columns.products(products),
        term_positions=term_positions(spec.random_terms, parametrization.widths, groups),
        parametrization=parametrization,
        bases=plan.bases,
        level_bases=(None,) * len(groups),
        ols_coef=columns.ols_coef,
        qr_R=columns.qr_R,
        log_weights=sums.log_weights,
    )
    spec = replace(spec, nesting=nesting_of(crossprod.ZtZ.pattern, groups, groups))
    own = raw[:, kept]
    root = _covariance_root(plan, sums)[:, kept]
    strata = None if sums.by_stratum is None else stratified(sums.by_stratum, crossprod, part, T)
    return StreamedModel(spec, crossprod, own.T @ own, root, strata)


def _covariance_root(plan: ReductionPlan, sums: RowSums) -> Matrix:
    """M with ``M'M`` the covariance of the columns of X, (P, P): formed in the basis."""
    mean = sums.X_sum / sums.n
    covariance = (sums.XtX - sums.n * np.outer(mean, mean)) / max(sums.n - 1, 1)
    return _root(covariance) @ plan.R(len(mean))


def _check_sums(spec: ModelSpec, crossprod: CrossProducts, sums: RowSums) -> None:
    """Refuse what the likelihood cannot identify."""
    y_size, offset_size, largest, w_max, w_inverse = sums.largest.values
    size = max(y_size, offset_size)
    check_something_left(spec, largest, size, has_offset=spec.has_offset)
    weights = np.array([1.0 / w_inverse, w_max]) if w_max > 0.0 else None
    check_identified(spec, crossprod, weights)


def _root(products: Matrix) -> Matrix:
    """M with ``M'M`` the products."""
    if not len(products):
        return products
    scaled, size = at_unit_length(products)
    values, vectors = np.linalg.eigh(scaled)
    return np.asarray((np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T) * size)


def _independent(learned: Learned, plan: ReductionPlan, sums: RowSums, raw: Matrix) -> Codes:
    """Columns that are independent of those before them: all, if they are in the kept rows."""
    if len(plan.in_basis) == len(plan.coef) or learned.sample_is_all:
        return plan.in_basis
    found = independent_columns(raw, ~sums.not_indicators)
    return np.union1d(found, plan.in_basis).astype(np.intp)


def nesting_of(
    pattern: BlockPattern, groups: Sequence[str], among: Sequence[str]
) -> dict[str, str]:
    """For each of some grouping factors nested in others of them, the innermost of those."""
    some = [i for i, group in enumerate(groups) if group in among]
    n_levels = [pattern.layout.levels(i) for i in pattern.layout.factors]
    innermost = {}
    for i in some:
        around = [
            j for j in some if j != i and 1 < n_levels[j] < n_levels[i] and pattern.is_nested(i, j)
        ]
        if around:
            innermost[groups[i]] = groups[max(around, key=lambda j: n_levels[j])]
    return innermost


def _check_same_rows(learned: Learned, sums: RowSums) -> None:
    """Refuse a second pass whose rows are not those of the first."""
    first = learned.totals
    advice = (
        "A source gives the same rows at each pass: a function that yields DataFrames starts anew "
        "at each call, with the same seed; files and tables do not change while they are read."
    )
    if (first.n, first.n_dropped) != (sums.n, sums.n_dropped):
        raise SourceChangedError(
            f"the first pass over the rows found {first.n + first.n_dropped:,}, {first.n:,} of "
            f"them complete, and the second {sums.n + sums.n_dropped:,}, {sums.n:,} of them "
            f"complete. {advice}"
        )
    for group, counts in zip(learned.spec.ngroups, sums.counts, strict=True):
        if not counts.all():
            level = learned.spec.levels_of(group).labels[int(np.argmin(counts))]
            raise SourceChangedError(
                f"level '{level}' of grouping factor '{group}' had rows in the first pass and "
                f"has none in the second. {advice}"
            )
    for name, total in first.sums.items():
        size = np.sqrt(first.squares[name] * first.n)
        if abs(sums.variable_sums.get(name, 0.0) - total) > _SAME_SUM * size:
            raise SourceChangedError(
                f"the values of '{decode(name)}' in the second pass over the rows are not those of "
                f"the first. {advice}"
            )
