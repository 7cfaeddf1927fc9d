"""Recoding of the fixed columns: the matrix T with ``X_new = X_old T`` for other contrasts.

A main effect is the effect at the reference levels of the other factors under treatment coding,
and the average over their levels under sum-to-zero coding. Both codings span the same column space;
T depends on the terms and levels, not on the rows.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from patsy import DesignInfo, SubtermInfo, Sum, Term, Treatment

from mixedfx._names import decode
from mixedfx.design.spec import ModelSpec

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FixedTerm:
    """A term of the fixed part."""

    name: str  # as patsy writes it
    columns: slice  # its columns among all fixed ones
    factors: frozenset[str]
    numeric: frozenset[str]  # those of the factors that are not categorical

    def contains(self, other: FixedTerm) -> bool:
        """Whether it is an interaction of another term with further categorical factors."""
        return other.factors < self.factors and other.numeric == self.numeric


def fixed_terms(info: DesignInfo) -> tuple[FixedTerm, ...]:
    """List the terms of the fixed part."""
    kinds = {factor: learned.type for factor, learned in info.factor_infos.items()}
    return tuple(
        FixedTerm(
            decode(term.name()),
            info.term_slices[term],
            frozenset(f.name() for f in term.factors),
            frozenset(f.name() for f in term.factors if kinds[f] == "numerical"),
        )
        for term in info.terms
    )


def columns_of_term(spec: ModelSpec, term: FixedTerm) -> list[int]:
    """Find the columns of X that belong to a term."""
    columns = range(*term.columns.indices(len(spec.column_names)))
    return [i for i, j in enumerate(spec.kept_columns.tolist()) if j in columns]


def recoding_of_columns(spec: ModelSpec, coding: Literal["sum", "treatment"]) -> Matrix:
    """Solve ``X_new = X_old T`` for T, but for constants where thresholds are the intercept."""
    if spec.family.has_intercept:
        return recoding(spec.fixed_info, coding)
    return recoding(_with_intercept(spec.fixed_info), coding)[1:, 1:]


def indicators_of_columns(spec: ModelSpec) -> Matrix:
    """Coefficients of all columns as functions of parameters of the levels and their cells."""
    if spec.family.has_intercept:
        return indicator_columns(spec.fixed_info)
    return indicator_columns(_with_intercept(spec.fixed_info))[1:]


def _with_intercept(info: DesignInfo) -> DesignInfo:
    """The same columns after one of ones."""
    codings: OrderedDict[Term, list[SubtermInfo]] = OrderedDict()
    codings[Term([])] = [SubtermInfo([], {}, 1)]
    codings.update(info.term_codings)
    return DesignInfo(["Intercept", *info.column_names], info.factor_infos, codings)


def recoding(info: DesignInfo, coding: Literal["sum", "treatment"]) -> Matrix:
    """Solve ``X_new = X_old T`` for T."""
    contrast = {"sum": Sum(), "treatment": Treatment()}[coding]
    if _has_coding(info, contrast):
        return np.eye(len(info.column_names))
    values, rows = _simulated(info)
    return _solve(_columns(info, values, rows, None), _columns(info, values, rows, contrast))


def indicator_columns(info: DesignInfo) -> Matrix:
    """
    Solve ``X_indicators = X T`` for T.

    The overparametrised model matrix has a column for each level and each combination of levels.
    """
    values, rows = _simulated(info)
    built = []
    for term in info.terms:
        parts = []
        for factor in term.factors:
            learned = info.factor_infos[factor]
            value = np.asarray(values[factor])
            n_levels = len(learned.categories) if learned.type == "categorical" else 0
            parts.append(np.eye(n_levels)[value] if n_levels else value)
        built.append(_products(parts, rows))
    X = _columns(info, values, rows, None)
    return _solve(X, np.hstack(built) if built else np.zeros((rows, 0)))


def _simulated(info: DesignInfo) -> tuple[dict[Any, Any], int]:
    """Draw values of the factors in rows enough to solve identities that hold for all rows."""
    rng = np.random.default_rng(0)
    rows = 20 * len(info.column_names) + 200
    values = {
        factor: rng.integers(len(learned.categories), size=rows)
        if learned.type == "categorical"
        else rng.standard_normal((rows, learned.num_columns))
        for factor, learned in info.factor_infos.items()
    }
    return values, rows


def _solve(X_old: Matrix, X_new: Matrix) -> Matrix:
    T = np.linalg.lstsq(X_old, X_new, rcond=None)[0]
    return np.where(np.abs(T) < 1e-10, 0.0, T)


def _has_coding(info: DesignInfo, contrast: Any) -> bool:
    """Whether the factors have a coding already."""
    return all(
        np.array_equal(subterm.contrast_matrices[f].matrix, _contrasts(info, f, subterm, contrast))
        for subterms in info.term_codings.values()
        for subterm in subterms
        for f in subterm.factors
        if info.factor_infos[f].type == "categorical"
    )


def _columns(info: DesignInfo, values: dict[Any, Any], rows: int, contrast: Any) -> Matrix:
    """Build all columns from the factors' values, in patsy's order."""
    built = [
        _products([_coded(info, f, subterm, values[f], contrast) for f in subterm.factors], rows)
        for subterms in info.term_codings.values()
        for subterm in subterms
    ]
    return np.hstack(built) if built else np.zeros((rows, 0))


def _products(parts: list[Matrix], rows: int) -> Matrix:
    """Products of the columns of some matrices; those of the first vary fastest."""
    product = np.ones((rows, 1))
    for part in parts:
        product = (part[:, :, None] * product[:, None, :]).reshape(rows, -1)
    return product


def _coded(info: DesignInfo, factor: Any, subterm: Any, value: Any, contrast: Any) -> Matrix:
    if info.factor_infos[factor].type == "numerical":
        return np.asarray(value)
    if contrast is None:
        return np.asarray(subterm.contrast_matrices[factor].matrix[value])
    return np.asarray(_contrasts(info, factor, subterm, contrast)[value])


def _contrasts(info: DesignInfo, factor: Any, subterm: Any, contrast: Any) -> Matrix:
    """Another coding of a factor in a subterm, of full rank where the subterm's is, (levels, .)."""
    matrix = subterm.contrast_matrices[factor].matrix
    full_rank = matrix.shape[1] == matrix.shape[0]
    code = contrast.code_with_intercept if full_rank else contrast.code_without_intercept
    return np.asarray(code(list(info.factor_infos[factor].categories)).matrix)
