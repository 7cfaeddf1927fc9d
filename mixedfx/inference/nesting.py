"""Whether one model is a special case of another: fixed columns, random terms, residual model.

Model A is nested in model B if its fixed columns are in the span of B's, and its covariances
``V = W^-1 + sum_i psi_i S_i`` in B's. ``S_i`` is in the span of other matrices if ``S_i v`` is in
that of their products with v, for a random v with probability one: no matrix is formed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.registry import STRUCTURES
from mixedfx.covariance.structure import CovarianceStructure
from mixedfx.design.build import Design
from mixedfx.design.rows import RandomTermRows
from mixedfx.design.spec import RandomTermSpec
from mixedfx.estimation.fitted_model import FittedModel

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Share of a column's norm outside a span that is rounding.
_OUTSIDE = 1e-8


def is_nested(small: FittedModel, large: FittedModel) -> bool:
    """Whether the first model is a special case of the second one, for the same rows."""
    return why_not_nested(small, large) is None


def why_not_nested(small: FittedModel, large: FittedModel) -> str | None:
    """What of the first model is no special case of the second one; None where it is one."""
    a, b = small.original_design, large.original_design
    if columns := _columns_outside(a, b):
        are = "are no combinations" if len(columns) > 1 else "is no combination"
        return f"{', '.join(columns)} {are} of the larger model's fixed columns"
    if not _random_terms_nested(a, b):
        terms = [str(t.formula_term) for t in _terms_beside(a, b)]
        listed = " and ".join(terms)
        return f"the covariance of {listed} is no special case of the larger model's random terms"
    if not _residuals_nested(a, b):
        return "its residuals, family or weights are no special case of the larger model's"
    if not _predictors_nested(a, b):
        return "its formulas of zeros or dispersion are no special case of the larger model's"
    return None


def _columns_outside(a: Design, b: Design) -> list[str]:
    """Fixed columns of a that are not in the span of b's."""
    names = zip(a.spec.X_names, a.rows.X.T, strict=True)
    return [name for name, column in names if not _in_span(column[:, None], b.rows.X)]


def _terms_beside(a: Design, b: Design) -> list[RandomTermSpec]:
    """Random terms of a that b does not have, with whatever structure."""
    own = {_identity(t) for t in b.spec.random_terms}
    return [t for t in a.spec.random_terms if _identity(t) not in own]


def _design_nested(a: Design, b: Design) -> bool:
    return _in_span(a.rows.X, b.rows.X) and _random_terms_nested(a, b)


def _predictors_nested(a: Design, b: Design) -> bool:
    """
    Whether a's further linear predictors are special cases of b's.

    One number is a special case of a formula of the dispersion. No zero part is the limit of one
    whose probabilities go to zero, where the test has another distribution (Wilson 2015, Econ.
    Lett. 127:51).
    """
    small, large = a.rows.residual.designs, b.rows.residual.designs
    if set(small) - set(large) or ("zero_inflation" in large) != ("zero_inflation" in small):
        return False
    return all(
        _design_nested(small[name], part)
        if name in small
        else _in_span(np.ones((part.rows.n, 1)), part.rows.X)
        for name, part in large.items()
    )


def _in_span(columns: Matrix, others: Matrix) -> bool:
    """Whether all columns are linear combinations of others."""
    norms = np.linalg.norm(columns, axis=0)
    scaled = columns / np.where(norms > 0.0, norms, 1.0)
    if others.shape[1]:
        basis = others / np.maximum(np.linalg.norm(others, axis=0), 1e-300)
        scaled = scaled - basis @ np.linalg.lstsq(basis, scaled, rcond=None)[0]
    return bool((np.linalg.norm(scaled, axis=0) <= _OUTSIDE).all())


def _residuals_nested(a: Design, b: Design) -> bool:
    """Whether a's residual variances are among b's, prior weights being equal up to a factor."""
    weights = [1.0 if d.rows.weights is None else d.rows.weights for d in (a, b)]
    with np.errstate(divide="ignore", invalid="ignore"):  # of no trials
        ratio = np.broadcast_to(weights[0] / weights[1], a.rows.n)
    ratio = ratio[~np.isnan(ratio)]
    if np.ptp(ratio) > _OUTSIDE * ratio.max() or (a.spec.fixed_sigma is None) > (
        b.spec.fixed_sigma is None
    ):
        return False
    small, large = a.spec.residual, b.spec.residual
    if not a.spec.family.is_special_case_of(b.spec.family):
        return False
    if not small.n_params or not small.linear or small.argument == large.argument:
        return True
    if a.rows.residual.is_special_case_of(b.rows.residual):
        return True
    columns = [d.rows.residual.log_sd_columns for d in (a, b)]
    if columns[0] is None or columns[1] is None:
        return False
    return _in_span(columns[0], columns[1]) and _scales_nested(a, b)


def _scales_nested(a: Design, b: Design) -> bool:
    """Whether the covariances of a's log residual standard deviations are among b's."""
    of_a, of_b = _scale_terms(a), _scale_terms(b)
    own = {_identity(t) for t, _ in of_b}
    if all(_identity(t) in own for t, _ in of_a):
        return True
    if not of_b:
        return False
    v = np.random.default_rng(0).standard_normal(a.rows.n)
    return _in_span(np.column_stack(_products_of(of_a, v)), np.column_stack(_products_of(of_b, v)))


def _scale_terms(design: Design) -> list[tuple[RandomTermSpec, RandomTermRows]]:
    """Random terms of the log residual standard deviation."""
    parts = design.spec.residual, design.rows.residual
    return list(zip(*(getattr(part, "random_terms", ()) for part in parts), strict=True))


def _random_terms_nested(a: Design, b: Design) -> bool:
    """Whether a's covariances are among b's."""
    own = {_identity(t) for t in b.spec.random_terms}
    terms = zip(a.spec.random_terms, a.rows.random_terms, strict=True)
    # A term that both models have is nested, whatever its structure.
    new = [(t, rows) for t, rows in terms if _identity(t) not in own]
    if not new:
        return True
    if not all(t.is_plain and _structure(t).linear for t, _ in new):
        return False
    v = np.random.default_rng(0).standard_normal(a.rows.n)
    spanned = [v if b.rows.weights is None else v / b.rows.weights]
    spanned += _sums_of_subjects(a, b, v)
    of_b = zip(b.spec.random_terms, b.rows.random_terms, strict=True)
    spanned += _products_of(((t, rows) for t, rows in of_b if t.is_plain), v)
    return _in_span(np.column_stack(_products_of(new, v)), np.column_stack(spanned))


def _sums_of_subjects(a: Design, b: Design, v: Vector) -> list[Vector]:
    """
    ``J v``, J one within subjects, where b's residuals can have the covariance ``r I + s J``.

    That of equal variances beside a random intercept of the subjects.
    """
    subjects = b.rows.residual.equally_correlated()
    if subjects is None or a.spec.residual.n_params or b.rows.weights is not None:
        return []
    return [np.bincount(subjects, v)[subjects].astype(float)]


def _identity(term: RandomTermSpec) -> tuple[str, str, bool]:
    """What makes terms of two models the same: relationship matrices are taken as equal."""
    return term.group, str(term.formula_term), term.relationship is not None


def _structure(term: RandomTermSpec) -> CovarianceStructure:
    return STRUCTURES[term.formula_term.structure]


def _products_of(terms: Iterable[tuple[RandomTermSpec, RandomTermRows]], v: Vector) -> list[Vector]:
    """Products with v of each entry of the covariances of some terms' effects."""
    return [
        product
        for term, rows in terms
        for product in _products(rows, v, correlated=_structure(term).correlated)
    ]


def _products(rows: RandomTermRows, v: Vector, *, correlated: bool) -> Iterator[Vector]:
    """``Z (I (x) E_ij) Z' v`` of each entry of the covariance of a term's effects, each (n,)."""
    Z, codes = rows.model_matrix, rows.codes
    sums = [np.bincount(codes, Z[:, j] * v, rows.n_levels)[codes] for j in range(Z.shape[1])]
    for i in range(Z.shape[1]):
        yield Z[:, i] * sums[i]
        for j in range(i if correlated else 0):
            yield Z[:, i] * sums[j] + Z[:, j] * sums[i]
