"""Reading to symbols: what stands for each column, or the number that takes its place.

What goes in is a reading, and names or estimates if there are data; what comes out is a
:class:`Writer`. The one idea is that a column has one number everywhere, in the coefficients
and in the effects of every term, and that a line does not know whether it is written in symbols
or in numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

from mixedfx.diagrams.equations.expressions import MINUS, PLUS, rounded
from mixedfx.diagrams.equations.values import Columns, Estimates
from mixedfx.diagrams.graph.model_terms import Reading
from mixedfx.diagrams.graph.names import INTERCEPT, plain, split
from mixedfx.diagrams.graph.symbols import Math, sd_symbol
from mixedfx.errors import ArgumentError

# patsy's functions of which one call gives several columns, as many as the data say.
_SEVERAL = ("C", "bs", "cc", "cr", "te", "poly")
_RHO = Math("ρ", r"\rho")


@dataclass(frozen=True)
class Writer:
    """
    Symbols of a reading's columns, or the numbers that take their place.

    Parameters
    ----------
    reading : Reading
        The formula, read.
    fixed : tuple of str
        Columns of the fixed part that have a coefficient.
    random : tuple of tuple of str
        Columns of each random term.
    tags : mapping of str to str
        Each column's number, or the name of what stands for several.
    estimates : Estimates or None
        Numbers to write instead of symbols.
    digits : int
        Significant digits of the numbers.
    """

    reading: Reading
    fixed: tuple[str, ...]
    random: tuple[tuple[str, ...], ...]
    tags: Mapping[str, str]
    estimates: Estimates | None
    digits: int

    def number(self, value: float) -> Math:
        """A number without its sign, as it stands in a formula."""
        return rounded(abs(value), self.digits)

    def coefficient(self, column: str) -> tuple[Math, Math]:
        """Sign and size of a fixed coefficient."""
        if self.estimates is not None:
            value = self.estimates.fixed[column]
            return MINUS if value < 0 else PLUS, self.number(value)
        beta, tag = Math("β", r"\beta"), self.tags[column]
        return PLUS, beta.at(tag) if tag.isdecimal() else beta.of(tag)

    def effect(self, i: int, column: str) -> Math:
        """One random effect of one level."""
        effects, tag = self.reading.effects[i], self.tags[column]
        indices = effects.factor.indices
        if len(self.random[i]) == 1:
            return effects.letter.at(indices)
        if tag.isdecimal():
            return effects.letter.at(indices, number=int(tag))
        name = Math.name(tag)
        below = Math(f"_{name.unicode},{indices}", f"_{{{name.latex},{indices}}}")
        return effects.letter + below

    def effects(self, i: int) -> Math:
        """All random effects of one level; bold if there are several."""
        letter, factor = self.reading.effects[i].letter, self.reading.effects[i].factor
        bold = Math(letter.unicode, rf"\mathbf{{{letter.latex}}}")
        return (letter if len(self.random[i]) == 1 else bold).at(factor.indices)

    def spread(self, i: int) -> Math:
        """Standard deviation of a term's only effect, or the name of several effects' matrix."""
        effects = self.reading.effects[i]
        if len(self.random[i]) > 1:
            same = len(effects.columns) > 1
            return effects.spread if same else Math("Σ", r"\Sigma").of(effects.factor.label)
        return effects.spread if self.estimates is None else self.sd(i, self.random[i][0])

    def sd(self, i: int, column: str) -> Math:
        """Standard deviation of one effect."""
        if self.estimates is not None:
            return self.number(self.estimates.sds[i][column])
        label, alone = self.reading.effects[i].factor.label, len(self.reading.factors) == 1
        return sd_symbol(column, label, scalar=False, alone=alone)

    def correlation(self, i: int, one: str, two: str) -> tuple[Math, Math]:
        """Sign and size of the correlation of two effects."""
        if self.estimates is not None:
            given = self.estimates.correlations[i]
            value = given[one, two] if (one, two) in given else given[two, one]
            # A variance of zero leaves its correlations undefined, and their products zero.
            value = 0.0 if math.isnan(value) else value
            return MINUS if value < 0 else PLUS, self.number(value)
        label, several = self.reading.effects[i].factor.label, len(self.random[i]) > 2
        tags = [self.tags[two], self.tags[one]] if several else []
        if sum(len(names) > 1 for names in self.random) > 1:
            return PLUS, _RHO.of(label, *tags)
        short = all(len(tag) == 1 for tag in tags)
        return PLUS, _RHO.at("".join(tags)) if short else _RHO.of(*tags)


def writer_of(
    reading: Reading, columns: Columns | None, estimates: Estimates | None, digits: int
) -> Writer:
    """Bring names and numbers together, and number the columns, each the same everywhere."""
    if columns is not None and estimates is not None:
        raise ArgumentError("estimates name the columns too: pass only one of the two.")
    given = estimates.columns if estimates is not None else columns
    fixed = tuple(given.fixed) if given else reading.fixed
    random = tuple(map(tuple, given.random)) if given else tuple(e.columns for e in reading.effects)
    if len(random) != len(reading.effects):
        raise ArgumentError(
            f"effects are given for {len(random)} random terms, but '{reading.formula}' "
            f"has {len(reading.effects)}."
        )
    if estimates is not None:
        _check_correlations(reading, estimates)
        fixed = tuple(c for c in fixed if not math.isnan(estimates.fixed[c]))
    if reading.mean is not None and INTERCEPT not in fixed:
        raise ArgumentError(f"'{reading.formula}' has an intercept; the columns given have none.")
    every = dict.fromkeys([*fixed, *(c for names in random for c in names)])
    number = count(1)
    tags = {INTERCEPT: "0"}
    for c in every:
        if c != INTERCEPT:
            tags[c] = column_label(c) if given is None and _several(c) else str(next(number))
    return Writer(reading, fixed, random, tags, estimates, digits)


def _check_correlations(reading: Reading, estimates: Estimates) -> None:
    for i, effects in enumerate(reading.effects):
        names = tuple(estimates.sds[i])
        if len(names) < 2 or effects.term.structure == "diag":
            continue
        given = estimates.correlations[i] if i < len(estimates.correlations) else {}
        for two, one in ((b, a) for k, b in enumerate(names) for a in names[:k]):
            if (one, two) not in given and (two, one) not in given:
                raise ArgumentError(
                    f"the correlation of '{one}' and '{two}' in {effects.term} is missing "
                    "from the estimates."
                )


def _several(column: str) -> bool:
    """Whether a name stands for several columns, as far as the text tells."""
    return any(f.partition("(")[0] in _SEVERAL and "(" in f for f in split(column))


def column_label(column: str) -> str:
    """Spell a column's name as a reader knows it."""
    return ":".join(map(plain, split(column)))
