"""Recoding of the fixed columns: the matrix T with ``X_new = X_old T`` for other contrasts.

A main effect is the effect at the reference levels of the other factors under treatment coding,
and the average over their levels under sum-to-zero coding. Both codings span the same column space;
T depends on the terms and levels, not on the rows.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from patsy import DesignInfo, Sum, Treatment

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
            term.name(),
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


def recoding(info: DesignInfo, coding: Literal["sum", "treatment"]) -> Matrix:
    """
    Solve ``X_new = X_old T`` for T.

    The identity holds for all rows, so it is solved on simulated ones.
    """
    p = len(info.column_names)
    rng = np.random.default_rng(0)
    rows = 20 * p + 200
    values = {
        factor: rng.integers(len(learned.categories), size=rows)
        if learned.type == "categorical"
        else rng.standard_normal((rows, learned.num_columns))
        for factor, learned in info.factor_infos.items()
    }
    X_old = _columns(info, values, rows, None)
    X_new = _columns(info, values, rows, {"sum": Sum(), "treatment": Treatment()}[coding])
    T = np.linalg.lstsq(X_old, X_new, rcond=None)[0]
    return np.where(np.abs(T) < 1e-10, 0.0, T)


def _columns(info: DesignInfo, values: dict[Any, Any], rows: int, contrast: Any) -> Matrix:
    """Build all columns from the factors' values, in patsy's order."""
    columns = []
    for subterms in info.term_codings.values():
        for subterm in subterms:
            coded = [_coded(info, f, subterm, values[f], contrast) for f in subterm.factors]
            widths = [range(matrix.shape[1]) for matrix in reversed(coded)]
            for indices in itertools.product(*widths):  # the first factor varies fastest
                column = np.ones(rows)
                for matrix, j in zip(coded, reversed(indices), strict=True):
                    column = column * matrix[:, j]
                columns.append(column)
    return np.column_stack(columns) if columns else np.zeros((rows, 0))


def _coded(info: DesignInfo, factor: Any, subterm: Any, value: Any, contrast: Any) -> Matrix:
    learned = info.factor_infos[factor]
    if learned.type == "numerical":
        return np.asarray(value)
    matrix = subterm.contrast_matrices[factor].matrix
    if contrast is not None:
        full_rank = matrix.shape[1] == matrix.shape[0]
        code = contrast.code_with_intercept if full_rank else contrast.code_without_intercept
        matrix = code(list(learned.categories)).matrix
    return np.asarray(matrix[value])
