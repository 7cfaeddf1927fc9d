"""Correlated residuals asked for by ``residual="name(position | subject)"``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._names import decode
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.design.levels import combine, factorize
from mixedfx.errors import ArgumentError
from mixedfx.formula.positions import ALL_ROWS
from mixedfx.formula.terms import Formula
from mixedfx.residuals.correlated import Correlated
from mixedfx.residuals.correlated_positions import (
    column_of,
    is_factor,
    position_columns,
    read_positions,
)
from mixedfx.residuals.correlated_spec import CorrelatedSpec
from mixedfx.residuals.irregular import Irregular

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


def correlated_residuals(
    text: str, name: str, formula: Formula, columns: Mapping[str, pd.Series]
) -> Correlated:
    """Residual model of ``name(position | subject)`` in the rows that are used."""
    structure = STRUCTURES[name]
    found = position_columns(text, structure, formula, columns)
    names, term = list(map(column_of, found)), formula.random[-1]
    subject_columns = _subject_columns(text, formula, columns)
    strata: tuple[Any, ...] = ()
    n = len(next(iter(columns.values())))
    of_strata = np.zeros(n, dtype=np.intp)
    if len(formula.random) == 2:
        values, of_strata = factorize(columns[formula.random[0].group[0]])
        strata = tuple(values)
    levels, subjects = combine([factorize(column) for column in subject_columns])
    if strata and len(strata) == len(levels):
        _fail_swapped(text, *map(decode, term.group))
    stratum = decode(formula.random[0].group[0]) if strata else None
    given = [
        _as_levels(columns[column]) if is_factor(code) else columns[column]
        for code, column in zip(found, names, strict=True)
    ]
    labels, coordinates, positions = read_positions(
        structure, given, list(map(decode, names)), text
    )
    spec = CorrelatedSpec(
        text=text,
        structure=name,
        position=" + ".join(map(decode, names)),
        subject="all rows" if term.group == (ALL_ROWS,) else term.group_name,
        labels=labels,
        coordinates=coordinates,
        columns=tuple(map(decode, names)),
        factors=() if term.group == (ALL_ROWS,) else tuple(map(decode, term.group)),
        levels=levels,
        strata=strata,
        stratum=stratum,
    )
    _check_positions(spec, subjects, positions)
    model = Correlated(spec, subjects, positions, of_strata)
    return Irregular.of(model) if Irregular.suits(model) else model


def _subject_columns(
    text: str, formula: Formula, columns: Mapping[str, pd.Series]
) -> list[pd.Series]:
    """Columns of the subjects; of all rows as one a constant."""
    group = formula.random[-1].group
    if group == (ALL_ROWS,):
        return [pd.Series(pd.Categorical(["all rows"] * len(next(iter(columns.values())))))]
    for term in formula.random:
        for factor in term.group:
            if factor not in columns:
                raise ArgumentError(
                    f"residual={text!r}: '{decode(factor)}' is no column. The subject is a column "
                    "of the data, or a:b of two: make one of it before."
                )
    return [columns[factor] for factor in group]


def _as_levels(column: pd.Series) -> pd.Series:
    """Values as levels, one step apart."""
    return (
        column
        if isinstance(column.dtype, pd.CategoricalDtype)
        else pd.Series(pd.Categorical(column))
    )


def _fail_swapped(text: str, stratum: str, subject: str) -> NoReturn:
    """Refuse a covariance for each subject."""
    raise ArgumentError(
        f"residual={text!r} has a covariance for each '{stratum}', and each has one "
        f"subject: what has a covariance of its own stands first, as in '{subject} / {stratum}'."
    )


def _check_positions(spec: CorrelatedSpec, subjects: Codes, positions: Codes) -> None:
    """Refuse two rows of a subject at one position."""
    keys = subjects.astype(np.int64) * len(spec.labels) + positions
    distinct, counts = np.unique(keys, return_counts=True)
    if (counts > 1).any():
        subject, position = divmod(int(distinct[counts > 1][0]), len(spec.labels))
        who = spec.levels.labels[subject]
        points = spec.covariance.design == "coordinates"
        instead = (
            f"average the rows, or write the process as a random term, '{spec.text}' in the "
            "formula, beside which rows have residuals of their own"
            if points
            else "name the factor whose levels have one row at each position, such as "
            "'patient:day', or average the rows"
        )
        raise ArgumentError(
            f"residual={spec.text!r}: subject {str(who)!r} has {int(counts[counts > 1][0])} rows "
            f"at one position, {spec.position} {spec.labels[position]!r}"
            f"{', a distance of zero' if points else ''}; each row of a subject needs a position "
            f"of its own: {instead}."
        )
