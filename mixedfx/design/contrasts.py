"""How the fixed columns would look in another coding of their factors.

What a factor's main effect means depends on how its factors are coded: with treatment coding
it is the effect at the reference levels of the others, with sum-to-zero coding the average
over them. The two sets of columns span the same space, so a matrix turns one into the other;
it depends on the recipe, not on the data.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from patsy import DesignInfo, Sum, Treatment

from mixedfx.design.build import Design

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FixedTerm:
    """
    A term of the fixed part.

    Parameters
    ----------
    name : str
        As patsy writes it.
    columns : slice
        Its columns among all fixed ones.
    factors, numeric : frozenset of str
        Its variables, and those of them that are numbers.
    """

    name: str
    columns: slice
    factors: frozenset[str]
    numeric: frozenset[str]

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


def kept_columns(design: Design, term: FixedTerm) -> list[int]:
    """Find a term among the columns that a design kept."""
    inside = range(*term.columns.indices(len(design.columns)))
    return [i for i, j in enumerate(design.kept.tolist()) if j in inside]


def recoding(info: DesignInfo, coding: Literal["sum", "treatment"]) -> Matrix:
    """
    Find the matrix that turns the fixed columns into those of another coding.

    Notes
    -----
    Solved from made-up rows: the identity holds for every row that can be.
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
    old = _columns(info, values, rows, None)
    new = _columns(info, values, rows, {"sum": Sum(), "treatment": Treatment()}[coding])
    T = np.linalg.lstsq(old, new, rcond=None)[0]
    return np.where(np.abs(T) < 1e-10, 0.0, T)


def _columns(info: DesignInfo, values: dict[Any, Any], rows: int, contrast: Any) -> Matrix:
    """Build all columns from the factors' values, as patsy does."""
    made = []
    for subterms in info.term_codings.values():
        for subterm in subterms:
            parts = [_coded(info, f, subterm, values[f], contrast) for f in subterm.factors]
            widths = [range(part.shape[1]) for part in reversed(parts)]
            for picked in itertools.product(*widths):  # the first factor runs fastest
                column = np.ones(rows)
                for part, j in zip(parts, reversed(picked), strict=True):
                    column = column * part[:, j]
                made.append(column)
    return np.column_stack(made) if made else np.zeros((rows, 0))


def _coded(info: DesignInfo, factor: Any, subterm: Any, value: Any, contrast: Any) -> Matrix:
    learned = info.factor_infos[factor]
    if learned.type == "numerical":
        return np.asarray(value)
    matrix = subterm.contrast_matrices[factor].matrix
    if contrast is not None:
        levels = list(learned.categories)
        whole = matrix.shape[1] == matrix.shape[0]
        code = contrast.code_with_intercept if whole else contrast.code_without_intercept
        matrix = code(levels).matrix
    return np.asarray(matrix[value])
