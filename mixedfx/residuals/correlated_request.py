"""Correlated residuals asked for by ``residual="name(position | subject)"``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._names import decode
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.covariance.structure import CovarianceStructure
from mixedfx.design.levels import combine, factorize
from mixedfx.errors import ArgumentError
from mixedfx.formula.terms import Formula
from mixedfx.residuals.correlated import Correlated
from mixedfx.residuals.correlated_spec import CorrelatedSpec

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


def correlated_residuals(
    text: str, name: str, formula: Formula, columns: Mapping[str, pd.Series]
) -> Correlated:
    """Residual model of ``name(position | subject)`` in the rows that are used."""
    structure = STRUCTURES[name]
    term = formula.random[-1]
    strata: tuple[Any, ...] = ()
    n = len(next(iter(columns.values())))
    of_strata = np.zeros(n, dtype=np.intp)
    if len(formula.random) == 2:
        values, of_strata = factorize(columns[formula.random[0].group[0]])
        strata = tuple(values)
    levels, subjects = combine([factorize(columns[factor]) for factor in term.group])
    stratum = decode(formula.random[0].group[0]) if strata else None
    names = [part.strip() for part in term.effects.removeprefix("0 + ").split("+")]
    labels, coordinates, positions = _positions(structure, [columns[c] for c in names], text)
    spec = CorrelatedSpec(
        text=text,
        structure=name,
        position=term.effects_name,
        subject=term.group_name,
        labels=labels,
        coordinates=coordinates,
        columns=tuple(map(decode, names)),
        factors=tuple(map(decode, term.group)),
        levels=levels,
        strata=strata,
        stratum=stratum,
    )
    _check_positions(spec, subjects, positions)
    return Correlated(spec, subjects, positions, of_strata)


def _positions(
    structure: CovarianceStructure, columns: list[pd.Series], text: str
) -> tuple[tuple[Any, ...], Matrix, Codes]:
    """Labels and coordinates of the positions, and the position of each row."""
    if structure.design == "coordinates":
        values = np.column_stack([column.to_numpy(dtype=float) for column in columns])
        distinct, codes = np.unique(values, axis=0, return_inverse=True)
        labels = tuple(map(tuple, distinct)) if distinct.shape[1] > 1 else tuple(distinct[:, 0])
        return labels, distinct, codes.ravel()
    if len(columns) != 1:
        raise ArgumentError(
            f"residual={text!r}: '{structure.name}' takes one variable of positions."
        )
    found, codes = factorize(columns[0])
    numbers = pd.to_numeric(pd.Series(found.astype(str)), errors="coerce").to_numpy()
    whole = bool(np.isfinite(numbers).all() and (numbers == np.round(numbers)).all())
    is_number = found.inferred_type in ("integer", "floating")
    if is_number and not whole and structure.design == "levels":
        raise ArgumentError(
            f"residual={text!r}: '{structure.name}' counts gaps between whole positions, and "
            f"'{columns[0].name}' has {numbers[numbers != np.round(numbers)][0]:g}; for real times "
            "write 'ou(...)'."
        )
    at = numbers if whole and is_number else np.arange(len(found), dtype=float)
    return tuple(found), at[:, None].astype(float), codes


def _check_positions(spec: CorrelatedSpec, subjects: Codes, positions: Codes) -> None:
    """Refuse two rows of a subject at one position."""
    keys = subjects.astype(np.int64) * len(spec.labels) + positions
    distinct, counts = np.unique(keys, return_counts=True)
    if (counts > 1).any():
        repeated = int(distinct[counts > 1][0]) % len(spec.labels)
        raise ArgumentError(
            f"residual={spec.text!r}: a subject has {int(counts.max())} rows at one position "
            f"({spec.position} {spec.labels[repeated]!r}); each row of a subject needs a position "
            "of its own. Name the factor whose levels have one row at each position, such as "
            "'patient:day', or average the rows."
        )
