"""Terms that are products of columns, as most are: learned once for each formula, built directly.

What patsy learns of such terms depends on the types of the columns and on the levels of
categorical ones, not on other values: it is learned from a stand-in with one row a level, and kept
for the formulas fitted last. Terms with expressions, whose transforms learn from the rows, are
patsy's (:mod:`mixedfx.design.evaluation`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import DesignInfo, EvalEnvironment, NAAction, Term, design_matrix_builders
from patsy.origin import Origin

from mixedfx.design.known_values import known_values
from mixedfx.design.row_dependence import RowFactor
from mixedfx.design.variables import variable_of

Matrix = npt.NDArray[np.float64]
Values = npt.NDArray[Any]
# Type of a column: its kind; with the categories, their types and texts, of categorical ones.
_Type = tuple[Any, ...]
_Codes = tuple[tuple[str, ...], ...]  # of a term's factors, term by term

# Formulas that are kept.
_MOST_FORMULAS = 128
_KINDS = {"i": np.int64, "u": np.int64, "f": np.float64, "b": np.bool_}


def learned_before(
    termlists: Sequence[Sequence[Term]], variables: Mapping[str, Any]
) -> list[DesignInfo] | None:
    """What patsy learns of terms that are products of columns; None of others."""
    codes: tuple[_Codes, ...] = tuple(
        tuple(tuple(f.code for f in term.factors) for term in terms) for terms in termlists
    )
    names = {name for terms in codes for term in terms for name in term}
    if not names.isdisjoint(known_values(variables)):
        return None
    columns = {name: variable_of(variables, name) for name in names}
    types = {name: None if c is None else c.type for name, c in columns.items()}
    if None in types.values():
        return None
    try:
        return list(_learn(codes, tuple(sorted(types.items()))))
    except Exception:  # learned from the columns it fails again, and that error is reported
        return None


@lru_cache(maxsize=_MOST_FORMULAS)
def _learn(
    codes: tuple[_Codes, ...], types: tuple[tuple[str, _Type], ...]
) -> tuple[DesignInfo, ...]:
    """Learn terms from columns of the given types."""
    columns = {name: _stand_in(*of_column) for name, of_column in types}
    # An error about new data names the term by its origin.
    factors = {name: RowFactor(name, Origin(name, 0, len(name))) for name in columns}
    distinct = list(dict.fromkeys(codes))
    termlists = [[Term([factors[name] for name in term]) for term in terms] for terms in distinct]
    no_names = EvalEnvironment([{}])
    missing = NAAction(on_NA="raise", NA_types=[])
    infos = design_matrix_builders(termlists, lambda: iter([columns]), no_names, missing)
    return tuple(infos[distinct.index(terms)] for terms in codes)


def _stand_in(kind: str, levels: tuple[Any, ...] = (), *_: Any) -> pd.Series:
    if kind != "O":
        return pd.Series(np.zeros(1, dtype=_KINDS[kind]))
    codes = np.arange(len(levels))
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index(levels, dtype=object)))


def product_columns(
    info: DesignInfo, variables: Mapping[str, Any], n: int, order: Literal["C", "F"] = "C"
) -> Matrix | None:
    """Columns (n, p) of terms that are products of columns; None of others."""
    known, values = known_values(variables), {}
    for factor, learned in info.factor_infos.items():
        given = None if factor.code in known else variable_of(variables, factor.code)
        found = None if given is None else given.learned(learned)
        if found is None or len(found) != n:
            return None
        values[factor] = found
    columns = np.empty((n, len(info.column_names)), order=order)
    at = 0
    for subterms in info.term_codings.values():
        for subterm in subterms:
            coded = [_coded(subterm, factor, values[factor]) for factor in subterm.factors]
            # The first factor's columns vary fastest.
            for combination in itertools.product(*reversed(coded)):
                columns[:, at] = combination[-1] if combination else 1.0
                for column in reversed(combination[:-1]):
                    columns[:, at] *= column
                at += 1
    return columns


def _coded(subterm: Any, factor: Any, values: Values) -> list[Values]:
    """Columns of a factor in a term: the numbers, or its contrasts."""
    if factor not in subterm.contrast_matrices:
        return [values]
    matrix = subterm.contrast_matrices[factor].matrix
    return [matrix[values, j] for j in range(matrix.shape[1])]
