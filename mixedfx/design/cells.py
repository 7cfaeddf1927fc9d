"""Cells of the factors of a formula: those without rows, and factors nested in others.

A cell is a combination of levels of the categorical factors of a term. Where one is empty, columns
of the term depend on others, and what needs the cell is not estimable.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import DesignInfo, NAAction, PatsyError
from patsy.categorical import categorical_to_int

from mixedfx._names import decode, encode
from mixedfx.formula.expansion import names_in

Codes = npt.NDArray[np.intp]
Cell = dict[str, Any]  # from factor to level

_MISSING_AS_MINUS_ONE = NAAction()
# Larger tables of cells are not searched, and of more empty cells some are listed.
_MAX_CELLS, _MAX_LISTED = 100_000, 6


def factor_label(code: str, variables: Iterable[str]) -> str:
    """Column of the data that a factor is made of, if it is one; else the factor's code."""
    used = names_in(code) & set(map(encode, variables))
    return decode(used.pop() if len(used) == 1 else code)


def factor_codes(info: DesignInfo, variables: Mapping[str, Any]) -> dict[Any, Codes]:
    """Level of each row in each categorical factor, -1 where it has none."""
    codes = {}
    for factor, learned in info.factor_infos.items():
        if learned.type != "categorical":
            continue
        try:
            values = factor.eval(learned.state, variables)
            found = categorical_to_int(values, learned.categories, _MISSING_AS_MINUS_ONE)
        except PatsyError:  # a level that the fit does not know
            continue
        codes[factor] = np.asarray(found, dtype=np.intp)
    return codes


def empty_cells(info: DesignInfo, variables: Mapping[str, Any]) -> list[Cell]:
    """Cells of the terms without rows, but for those within an empty cell of fewer factors."""
    codes, found = factor_codes(info, variables), set()
    cells: list[Cell] = []
    for term in sorted(info.terms, key=lambda t: len(t.factors)):
        factors = [f for f in term.factors if f in codes]
        sizes = [len(info.factor_infos[f].categories) for f in factors]
        if not factors or np.prod(sizes, dtype=float) > _MAX_CELLS:
            continue
        seen = np.zeros(sizes, dtype=bool)
        seen[tuple(codes[f] for f in factors)] = True
        for position in np.argwhere(~seen):
            key = tuple(zip(factors, position.tolist(), strict=True))
            parts = (c for r in range(1, len(key) + 1) for c in itertools.combinations(key, r))
            if not any(frozenset(part) in found for part in parts):
                found.add(frozenset(key))
                cells.append(_levels(info, key, variables))
    return cells


def cells_of_rows(info: DesignInfo, variables: Mapping[str, Any], empty: list[Cell]) -> list[Cell]:
    """Empty cells that some rows are in; for a row in none, its levels of all factors."""
    codes = factor_codes(info, variables)
    found: dict[str, Cell] = {}
    for row in zip(*codes.values(), strict=True):
        key = tuple((f, int(i)) for f, i in zip(codes, row, strict=True) if i >= 0)
        levels = _levels(info, key, variables)
        own = [cell for cell in empty if cell.items() <= levels.items()] or [levels]
        found.update((cell_text(cell), cell) for cell in own)
    return list(found.values())


def _levels(info: DesignInfo, key: Sequence[Any], variables: Iterable[str]) -> Cell:
    """Name the levels of a cell given by factors and positions."""
    return {
        factor_label(factor.name(), map(decode, variables)): info.factor_infos[factor].categories[i]
        for factor, i in key
    }


def cell_text(cell: Cell) -> str:
    """Text of one cell, ``a = p, b = lo``."""
    return ", ".join(f"{name} = {level}" for name, level in cell.items())


def list_cells(cells: Sequence[Cell]) -> str:
    """Text of the first few cells, and the number of the others."""
    listed = "; ".join(cell_text(cell) for cell in cells[:_MAX_LISTED])
    more = len(cells) - _MAX_LISTED
    return f"{listed}; and {more} more" if more > 0 else listed


def nested_pairs(columns: Mapping[str, pd.Series]) -> dict[str, tuple[str, ...]]:
    """
    Factors of which every level occurs with one level of others, and those others.

    Of two factors that determine each other the later one is nested in none, as in R's emmeans.
    """
    codes = {name: pd.factorize(np.asarray(column))[0] for name, column in columns.items()}
    nesting: dict[str, tuple[str, ...]] = {}
    for inner, of_inner in codes.items():
        around = []
        for outer, of_outer in codes.items():
            if outer == inner or inner in nesting.get(outer, ()):
                continue
            pairs = np.unique(np.stack([of_inner, of_outer]), axis=1).shape[1]
            if pairs == len(np.unique(of_inner)):
                around.append(outer)
        if around:
            nesting[inner] = tuple(around)
    return nesting
