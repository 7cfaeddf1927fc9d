"""Which effects can vary between the levels of which grouping factor.

The variance of a slope is seen in levels where its column has two values; beside an intercept it
is told from the residual's in levels that have more rows than effects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._names import decode
from mixedfx.design.inspection.factors import level_of
from mixedfx.design.inspection.finding import DesignFinding, with_random, without_effect
from mixedfx.design.inspection.pairs import Pair
from mixedfx.design.inspection.reading import Factor, ReadRows
from mixedfx.formula.positions import has_positions
from mixedfx.formula.terms import Formula, RandomTerm

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Fewer levels that show a slope leave its variance hardly known.
_FEW_LEVELS = 5
COLUMNS = [
    "group",
    "slope",
    "in_formula",
    "levels",
    "varying",
    "with_residual",
    "can_be_estimated",
    "why",
]


@dataclass(frozen=True)
class Slope:
    """A term's columns within the levels of a grouping factor."""

    factor: Factor
    name: str  # as patsy writes it
    in_formula: bool
    varying: int  # levels in which a column has two values
    with_residual: int  # of those, levels with more rows than effects
    level: str  # at which the columns vary

    @property
    def can_be_estimated(self) -> bool:
        """Whether two levels or more show it beside the residual."""
        return self.with_residual >= 2

    @property
    def why(self) -> str:
        """Why it cannot be estimated, or what it rests on."""
        group, levels = self.factor.name, self.factor.n_levels
        if self.varying == 0:
            elsewhere = self.level not in ("row", "constant", group)
            between = f", and varies between those of '{self.level}'" if elsewhere else ""
            return f"it is constant within each level of '{group}'{between}"
        if self.varying == 1:
            return f"it varies within one level of '{group}' alone"
        if not self.can_be_estimated:
            return (
                f"of the {self.varying} levels of '{group}' in which it varies "
                f"{self.with_residual} have more rows than effects"
            )
        if self.with_residual < levels:
            return f"{self.with_residual} of {levels} levels show it"
        return "all levels show it"

    def row(self) -> tuple[object, ...]:
        """Row of the table."""
        of_levels = (self.factor.n_levels, self.varying, self.with_residual)
        found = (self.in_formula, *of_levels, self.can_be_estimated, self.why)
        return (self.factor.name, decode(self.name), *found)


def slopes_of(rows: ReadRows, pairs: tuple[Pair, ...]) -> tuple[Slope, ...]:
    """Every fixed term and every effect, within each grouping factor."""
    fixed = rows.fixed
    candidates: dict[str, Matrix] = {}
    if fixed is not None:
        candidates = {name: fixed.matrix[:, part] for name, part in fixed.terms.items()}
    found = []
    for factor in rows.random_factors:
        terms = [t for t in rows.formula.random if t.group == factor.parts]
        own: dict[str, Matrix] = {}
        for term in terms:
            columns = None if has_positions(term.structure) else rows.effects(term)
            if columns is not None:
                own |= {name: columns.matrix[:, part] for name, part in columns.terms.items()}
        for name, matrix in {**candidates, **own}.items():
            if name == "Intercept" or not np.isfinite(matrix).all():
                continue
            found.append(_slope(rows, pairs, factor, name, matrix, name in own))
    return tuple(found)


def _slope(
    rows: ReadRows,
    pairs: tuple[Pair, ...],
    factor: Factor,
    name: str,
    matrix: Matrix,
    in_formula: bool,
) -> Slope:
    codes = np.zeros(rows.n, dtype=np.int64)
    for column in matrix.T:
        codes = codes * rows.n + pd.factorize(column)[0]
        codes = pd.factorize(codes)[0].astype(np.int64)
    n_values = int(codes.max()) + 1
    cells = np.unique(factor.codes.astype(np.int64) * n_values + codes)
    distinct = np.bincount(cells // n_values, minlength=factor.n_levels)
    effects = np.minimum(distinct, matrix.shape[1] + 1)
    varying = distinct >= 2
    with_residual = int((varying & (factor.counts > effects)).sum())
    level = level_of(rows, pairs, codes.astype(np.intp))[0] if not varying.any() else "row"
    return Slope(factor, name, in_formula, int(varying.sum()), with_residual, level)


def slopes_table(slopes: tuple[Slope, ...]) -> pd.DataFrame:
    """A row for each."""
    return pd.DataFrame([slope.row() for slope in slopes], columns=COLUMNS)


def findings_of_slopes(formula: Formula, slopes: tuple[Slope, ...]) -> Iterator[DesignFinding]:
    """Slopes of the formula that cannot be estimated, or rest on few levels."""
    for slope in slopes:
        if not slope.in_formula:
            continue
        name, group = decode(slope.name), slope.factor.name
        where = f"({name} | {group})"
        if not slope.can_be_estimated:
            what = (
                f"The slope of '{name}' cannot vary between the levels of '{group}': {slope.why}."
            )
            shorter = _without(formula, slope)
            yield DesignFinding("error", "slope", where, what, "Leave it out:", shorter)
        elif slope.with_residual < _FEW_LEVELS:
            what = f"The slope of '{name}' by '{group}' rests on {slope.with_residual} levels."
            to_do = "Its variance is hardly known; a fixed slope may be all that can be learned:"
            yield DesignFinding("note", "slope", where, what, to_do, _without(formula, slope))


def _without(formula: Formula, slope: Slope) -> str:
    def change(term: RandomTerm) -> RandomTerm | None:
        if term.group != slope.factor.parts or has_positions(term.structure):
            return term
        left = without_effect(term, slope.name)
        is_intercept = left is not None and left.effects == "1"
        return replace(left, structure="us") if left is not None and is_intercept else left

    return with_random(formula, change)
