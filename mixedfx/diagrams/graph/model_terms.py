r"""Formula to reading: what each term's effects scatter around, and every symbol.

The one idea is the **centred reading**, which the graph and the equations share: a random
effect scatters around what it belongs to, a classroom's mean around its school's, a school's
around its district's. A term that lies in no other with the same effects scatters around
zero, since the fixed coefficients hold its mean; only where all terms are random intercepts
does the first carry the overall mean, as in :math:`R_i \sim N(R, s^2)`.

What goes in is a formula, what comes out is a :class:`Reading`: symbols and positions, in which
no data are needed.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle

from mixedfx.diagrams.graph.names import INTERCEPT, columns_of, plain
from mixedfx.diagrams.graph.nesting import Factor, factors_of
from mixedfx.diagrams.graph.symbols import Math, index_letter, spread_symbol
from mixedfx.errors import FormulaError
from mixedfx.formula.expansion import terms_of
from mixedfx.formula.parser import parse
from mixedfx.formula.terms import Formula, RandomTerm

_EFFECTS = "bcdfgqwzBDFGHKLPQTUVWXYZ"


@dataclass(frozen=True)
class Effects:
    """
    The random effects of one term, in the centred reading.

    Parameters
    ----------
    term : RandomTerm
        The term.
    columns : tuple of str
        Names of the effects, as far as the formula tells them.
    factor : Factor
        What they vary with.
    letter : Math
        Their symbol, without indices.
    spread : Math
        Symbol of the standard deviation, or of the covariance matrix of several effects.
    centre : tuple of int
        Positions of the terms whose effects they scatter around; none for zero or the mean.
    carries_mean : bool
        Whether they scatter around the overall mean.
    enters : bool
        Whether they stand in the response's own mean: no other term scatters around them.
    """

    term: RandomTerm
    columns: tuple[str, ...]
    factor: Factor
    letter: Math
    spread: Math
    centre: tuple[int, ...]
    carries_mean: bool
    enters: bool

    @property
    def symbol(self) -> Math:
        """The effects of one level; bold if there are several."""
        bold = Math(self.letter.unicode, rf"\mathbf{{{self.letter.latex}}}")
        return (self.letter if len(self.columns) == 1 else bold).at(self.factor.indices)


@dataclass(frozen=True)
class Reading:
    """
    A formula in the centred reading: what the graph and the equations have in common.

    Parameters
    ----------
    formula : Formula
        The formula.
    fixed : tuple of str
        Names of the fixed terms.
    covariates : tuple of str
        Columns that the fixed and the random effects read.
    factors : tuple of Factor
        The outer ones first.
    effects : tuple of Effects
        One per random term, in the formula's order.
    index : str
        The letter that numbers the rows within the levels.
    indices : str
        All letters of a row.
    mean : Math or None
        Symbol of the overall mean, if a random term carries it.
    """

    formula: Formula
    fixed: tuple[str, ...]
    covariates: tuple[str, ...]
    factors: tuple[Factor, ...]
    effects: tuple[Effects, ...]
    index: str
    indices: str
    mean: Math | None

    @property
    def response(self) -> Math:
        """The response of one row."""
        return self.column(self.formula.response)

    @property
    def innermost(self) -> tuple[Factor, ...]:
        """The factors that rows lie in directly."""
        return tuple(f for f in self.factors if not any(f.name in g.outer for g in self.factors))

    def column(self, code: str) -> Math:
        """A column's value in one row."""
        return Math.name(plain(code)).at(self.indices)


def read(formula: str | Formula, nested: Mapping[str, str] | None = None) -> Reading:
    """Read a formula level by level."""
    formula = parse(formula) if isinstance(formula, str) else formula
    fixed = tuple(t.name() for t in terms_of(formula.fixed))
    if "." in fixed:
        text = str(formula)
        at = text.index(" .") + 1
        advice = "Name the columns, or take the formula of a fit."
        raise FormulaError("only data tell what '.' stands for.", text, at, at + 1, advice)
    factors = factors_of(formula, nested or {})
    covariates = _covariates(formula)
    names = {*covariates, *(plain(part) for t in formula.random for part in t.group)}
    mean = _mean_letter(formula, names)
    effects = _effects(formula, fixed, factors, mean, names)
    letters = "".join(dict.fromkeys(c for f in factors for c in f.indices))
    index = index_letter(len(letters))
    carried = mean if any(e.carries_mean for e in effects) else None
    return Reading(formula, fixed, covariates, factors, effects, index, letters + index, carried)


def _effects(
    formula: Formula,
    fixed: tuple[str, ...],
    factors: tuple[Factor, ...],
    mean: Math,
    names: set[str],
) -> tuple[Effects, ...]:
    """Centre each term, and name its effects and their spread."""
    by_name = {f.name: f for f in factors}
    mine = [by_name[t.group_name] for t in formula.random]
    columns = [tuple(c.name() for c in terms_of(t.effects)) for t in formula.random]
    centres = [_centre(i, mine, columns) for i in range(len(mine))]
    intercepts = INTERCEPT in fixed and all(c == (INTERCEPT,) for c in columns)
    carrier = centres.index(()) if intercepts and mine else None
    letters = _letters(mine, centres, carrier, mean, names)
    spreads: list[Math] = []
    for effects, factor in zip(columns, mine, strict=True):
        spread = spread_symbol(effects, factor.label, alone=len(factors) == 1)
        while spread in spreads:
            spread = Math(spread.unicode + "′", f"{{{spread.latex}}}'")
        spreads.append(spread)
    return tuple(
        Effects(
            term=term,
            columns=columns[i],
            factor=mine[i],
            letter=letters[i],
            spread=spreads[i],
            centre=centres[i],
            carries_mean=i == carrier,
            enters=not any(i in centre for centre in centres),
        )
        for i, term in enumerate(formula.random)
    )


def _centre(i: int, factors: list[Factor], columns: list[tuple[str, ...]]) -> tuple[int, ...]:
    """Terms with the same effects on the nearest outer factors."""
    same = [
        k
        for k, factor in enumerate(factors)
        if factor.name in factors[i].outer and set(columns[k]) == set(columns[i])
    ]
    return tuple(k for k in same if not any(factors[k].name in factors[j].outer for j in same))


def _letters(
    factors: list[Factor],
    centres: list[tuple[int, ...]],
    carrier: int | None,
    mean: Math,
    names: set[str],
) -> dict[int, Math]:
    """Give each term its centre's letter, or one of its own that is no column's name."""
    free = cycle([Math(c, c) for c in _EFFECTS if c not in names] or [Math("b", "b")])
    letters: dict[int, Math] = {}
    for i in sorted(range(len(factors)), key=lambda i: len(factors[i].outer)):
        given = [mean] if i == carrier else [letters[k] for k in centres[i][:1]]
        taken = [letters[k] for k in letters if factors[k] == factors[i]]
        letters[i] = given[0] if given and given[0] not in taken else next(free)
    return letters


def _mean_letter(formula: Formula, names: set[str]) -> Math:
    """The response's initial, as in R for ratings; mu where that would be misread."""
    name = formula.response
    initial = name[0].upper()
    ordinary = name.isidentifier() and len(name) > 1 and initial.isascii() and initial.isalpha()
    if ordinary and initial not in {"N", *names}:
        return Math(initial, initial)
    return Math("μ", r"\mu")


def _covariates(formula: Formula) -> tuple[str, ...]:
    """Columns that the effects read, in the order of their appearance."""
    texts = [formula.fixed, *(t.effects for t in formula.random)]
    codes = [f.name() for text in texts for term in terms_of(text) for f in term.factors]
    found = dict.fromkeys(n for c in codes for n in columns_of(ast.parse(c.strip(), mode="eval")))
    return tuple(name for name in found if name != plain(formula.response))
