"""Symbols of a model's columns and parameters, or the estimates that replace them.

A column has the same subscript everywhere, in the coefficients and in the effects of every term.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

from mixedfx.covariance.registry import STRUCTURES
from mixedfx.diagrams.equations.expressions import MINUS, PLUS, Summand, comma_list, number
from mixedfx.diagrams.equations.values import Columns, Estimates
from mixedfx.diagrams.graph.model_terms import HierarchicalModel
from mixedfx.diagrams.graph.names import INTERCEPT, display_name, split_interaction
from mixedfx.diagrams.graph.symbols import Math, covariance_symbol, sd_symbol
from mixedfx.errors import ArgumentError

# patsy's functions of which one call gives several columns; how many depends on data.
_MULTICOLUMN_FUNCTIONS = ("C", "bs", "ns", "cc", "cr", "te", "poly")
_SIGMA, _RHO = Math("σ", r"\sigma"), Math("ρ", r"\rho")


@dataclass(frozen=True)
class Notation:
    """Symbols of a model, or its estimates with so many significant digits."""

    model: HierarchicalModel
    fixed: tuple[str, ...]  # columns of the fixed part that have a coefficient
    random: tuple[tuple[str, ...], ...]  # columns of each random term
    # Each column's number, or a name that stands for several; effects at positions have none.
    subscripts: Mapping[str, str]
    estimates: Estimates | None
    digits: int

    @property
    def sigma(self) -> Math:
        """Residual standard deviation."""
        return _SIGMA if self.estimates is None else self._absolute(self.estimates.sigma)

    def coefficient(self, column: str) -> Summand:
        """Sign and absolute value of a fixed coefficient."""
        if self.estimates is not None:
            return self._signed(self.estimates.fixed[column])
        subscript = self.subscripts[column]
        if subscript.isdecimal():
            return PLUS, self.model.part.coefficient.subscript(subscript)
        return PLUS, self.model.part.coefficient.name_subscript(subscript)

    def effect(self, i: int, column: str) -> Math:
        """One random effect of one level."""
        effects, subscript = self.model.effects[i], self.subscripts[column]
        indices = effects.factor.indices
        if len(self.random[i]) == 1:
            return effects.symbol.subscript(indices)
        if subscript.isdecimal():
            return effects.symbol.subscript(indices, number=int(subscript))
        name = Math.upright(subscript)
        return effects.symbol + Math(f"_{name.unicode},{indices}", f"_{{{name.latex},{indices}}}")

    def effect_at_row(self, i: int) -> Math:
        """The random effect at the position of a row."""
        effects = self.model.effects[i]
        at = comma_list([self.model.row_value(code) for code in effects.positions])
        return effects.symbol.subscript(effects.factor.indices) + "[" + at + "]"

    def are_several(self, i: int) -> bool:
        """Whether a level has several effects of a term."""
        return len(self.random[i]) > 1 or bool(self.model.effects[i].positions)

    def effects(self, i: int) -> Math:
        """All random effects of one level; bold if there are several."""
        symbol, factor = self.model.effects[i].symbol, self.model.effects[i].factor
        bold = Math(symbol.unicode, rf"\mathbf{{{symbol.latex}}}")
        return (bold if self.are_several(i) else symbol).subscript(factor.indices)

    def scale(self, i: int) -> Math:
        """Standard deviation of a scalar term, or the symbol of a vector's covariance matrix."""
        effects = self.model.effects[i]
        if self.are_several(i):
            return effects.scale if effects.are_several else covariance_symbol(effects.factor.label)
        return effects.scale if self.estimates is None else self.sd(i, self.random[i][0])

    def sd(self, i: int, column: str) -> Math:
        """Standard deviation of one effect."""
        if self.estimates is not None:
            return self._absolute(self.estimates.sds[i][column])
        label, single_factor = self.model.effects[i].factor.label, self.model.one_factor
        return sd_symbol(column, label, scalar=False, single_factor=single_factor)

    def correlation(self, i: int, one: str, two: str) -> Summand:
        """Sign and absolute value of the correlation of two effects."""
        if self.estimates is not None:
            correlations = self.estimates.correlations[i]
            pair = (one, two) if (one, two) in correlations else (two, one)
            # If a variance is zero, its correlations are undefined and the covariances zero.
            value = correlations[pair]
            return self._signed(0.0 if math.isnan(value) else value)
        label = self.model.effects[i].factor.label
        several_pairs = len(self.random[i]) > 2
        subscripts = [self.subscripts[two], self.subscripts[one]] if several_pairs else []
        several_terms = sum(len(names) > 1 for names in self.random) > 1
        if several_terms or self.model.part.prefix:
            return PLUS, _RHO.name_subscript(label, *subscripts)
        if all(len(subscript) == 1 for subscript in subscripts):
            return PLUS, _RHO.subscript("".join(subscripts))
        return PLUS, _RHO.name_subscript(*subscripts)

    def _absolute(self, value: float) -> Math:
        return number(abs(value), self.digits)

    def _signed(self, value: float) -> Summand:
        return MINUS if value < 0 else PLUS, self._absolute(value)


def model_notation(
    model: HierarchicalModel, columns: Columns | None, estimates: Estimates | None, digits: int
) -> Notation:
    """Check names and estimates against a model, and number its columns."""
    if columns is not None and estimates is not None:
        raise ArgumentError("estimates name the columns too: pass only one of the two.")
    columns = estimates.columns if estimates is not None else columns
    fixed = tuple(columns.fixed) if columns else model.fixed
    random = (
        tuple(map(tuple, columns.random)) if columns else tuple(e.columns for e in model.effects)
    )
    if len(random) != len(model.effects):
        raise ArgumentError(
            f"effects are given for {len(random)} random terms, but '{model.formula}' "
            f"has {len(model.effects)}."
        )
    if estimates is not None:
        _check_correlations(model, estimates)
        fixed = tuple(c for c in fixed if not math.isnan(estimates.fixed[c]))
    if model.overall_mean is not None and INTERCEPT not in fixed:
        raise ArgumentError(f"'{model.formula}' has an intercept; the columns given have none.")
    numbers = count(1)
    subscripts = {INTERCEPT: "0"}
    by_column = [
        c
        for names, effects in zip(random, model.effects, strict=True)
        for c in names
        if not effects.positions
    ]
    for c in dict.fromkeys([*fixed, *by_column]):
        if c != INTERCEPT:
            several = columns is None and _is_multicolumn(c)
            subscripts[c] = column_label(c) if several else str(next(numbers))
    return Notation(model, fixed, random, subscripts, estimates, digits)


def _check_correlations(model: HierarchicalModel, estimates: Estimates) -> None:
    for i, effects in enumerate(model.effects):
        names = tuple(estimates.sds[i])
        if len(names) < 2 or not STRUCTURES[effects.term.structure].correlated:
            continue
        given = estimates.correlations[i] if i < len(estimates.correlations) else {}
        for two, one in ((b, a) for k, b in enumerate(names) for a in names[:k]):
            if (one, two) not in given and (two, one) not in given:
                raise ArgumentError(
                    f"the correlation of '{one}' and '{two}' in {effects.term} is missing "
                    "from the estimates."
                )


def _is_multicolumn(term: str) -> bool:
    """Whether a term has several columns, as far as its code determines that."""
    factors = split_interaction(term)
    return any(f.partition("(")[0] in _MULTICOLUMN_FUNCTIONS and "(" in f for f in factors)


def column_label(column: str) -> str:
    """Name of a column without patsy's wrappers."""
    return ":".join(map(display_name, split_interaction(column)))
