r"""Hierarchically centred form of a formula: what each term's effects are centred at, and symbols.

In this form (Gelfand, Sahu and Carlin 1995, Biometrika 82, 479-488) a random effect is centred at
the effect of the level that contains its own: a classroom's mean at its school's, a school's at its
district's. A term that is nested in no other with the same effects is centred at zero, as the fixed
coefficients are its mean; where all terms are random intercepts the first outermost one is centred
at the overall mean, as in :math:`R_i \sim N(R, s^2)`.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import cycle

from mixedfx.diagrams.graph.names import INTERCEPT, column_names_in, display_name
from mixedfx.diagrams.graph.nesting import GroupingFactor, grouping_factors
from mixedfx.diagrams.graph.parts import FURTHER, MEAN, PartSymbols
from mixedfx.diagrams.graph.symbols import Math, covariance_symbol, index_letter, sd_symbol
from mixedfx.errors import FormulaError
from mixedfx.formula.expansion import terms_of
from mixedfx.formula.parser import parse
from mixedfx.formula.positions import has_positions, position_codes
from mixedfx.formula.response import response_code
from mixedfx.formula.terms import Formula, RandomTerm

_EFFECT_LETTERS = "bcdfgqwzBDFGHKLPQTUVWXYZ"


@dataclass(frozen=True)
class TermEffects:
    """The random effects of one term, hierarchically centred."""

    term: RandomTerm
    columns: tuple[str, ...]  # names of the effects, as far as the formula determines them
    factor: GroupingFactor
    symbol: Math  # without indices
    scale: Math  # symbol of the standard deviation, or of the covariance matrix of a vector
    centered_at: tuple[int, ...]  # positions of the terms they are centred at, if any
    centered_at_mean: bool  # whether they are centred at the overall mean
    in_linear_predictor: bool  # whether no other term is centred at them

    @property
    def positions(self) -> tuple[str, ...]:
        """Variables whose values are the positions of the effects; none of effects of columns."""
        return _positions(self.term)

    @property
    def are_several(self) -> bool:
        """Whether a level has several effects, as far as the formula determines that."""
        return len(self.columns) > 1 or bool(self.positions)

    @property
    def indexed_symbol(self) -> Math:
        """The effects of one level; bold if there are several."""
        bold = Math(self.symbol.unicode, rf"\mathbf{{{self.symbol.latex}}}")
        symbol = bold if self.are_several else self.symbol
        return symbol.subscript(self.factor.indices)


@dataclass(frozen=True)
class HierarchicalModel:
    """A formula in hierarchically centred form, which the graph and the equations share."""

    formula: Formula
    fixed: tuple[str, ...]  # names of the fixed terms
    covariates: tuple[str, ...]  # columns in the fixed and random effects
    factors: tuple[GroupingFactor, ...]  # the outermost first
    effects: tuple[TermEffects, ...]  # one per random term, in the formula's order
    row_index: str  # letter that indexes the rows within the levels
    row_indices: str  # all letters of a row
    overall_mean: Math | None  # its symbol, if a random term is centred at it
    part: PartSymbols = MEAN  # which linear predictor it is of

    @property
    def one_factor(self) -> bool:
        """Whether subscripts of variances need no factor."""
        return len(self.factors) == 1 and not self.part.prefix

    @property
    def response(self) -> Math:
        """The response of one row."""
        return self.row_value(response_code(self.formula.response).parts[0])

    @property
    def innermost(self) -> tuple[GroupingFactor, ...]:
        """Factors that contain no other: those whose levels contain the rows directly."""
        return tuple(f for f in self.factors if not any(f.name in g.outer for g in self.factors))

    def row_value(self, code: str) -> Math:
        """A column's value in one row."""
        return Math.upright(display_name(code)).subscript(self.row_indices)


def hierarchical_model(
    formula: str | Formula, nested: Mapping[str, str] | None = None
) -> HierarchicalModel:
    """Centre the terms of a formula hierarchically, and assign symbols to them."""
    return hierarchical_models(formula, nested, {})[0]


def hierarchical_models(
    formula: str | Formula, nested: Mapping[str, str] | None, further: Mapping[str, Formula]
) -> tuple[HierarchicalModel, ...]:
    """
    Do so for the linear predictor of the mean and the ``further`` ones, by argument.

    They share rows, grouping factors and indices; no two share a symbol. Effects of a further
    predictor are centred at zero where they are outermost.
    """
    formula = parse(formula)
    formulas = {"": formula, **further}
    random = tuple(term for part in formulas.values() for term in part.random)
    factors = grouping_factors(replace(formula, random=random), nested or {})
    fixed = {argument: _fixed_terms(part) for argument, part in formulas.items()}
    covariates = {argument: _covariates(part) for argument, part in formulas.items()}
    names = {name for of_part in covariates.values() for name in of_part}
    names |= {display_name(c) for term in random for c in term.group}
    mean = _mean_symbol(formula, names)
    letters = "".join(dict.fromkeys(c for f in factors for c in f.indices))
    row_index = index_letter(len(letters))
    models: list[HierarchicalModel] = []
    for argument, part in formulas.items():
        about, center = FURTHER.get(argument, MEAN), None if argument else mean
        effects = _effects(part, about, fixed[argument], factors, center, names)
        names |= {e.symbol.unicode for e in effects}
        models.append(
            HierarchicalModel(
                formula=part,
                fixed=fixed[argument],
                covariates=covariates[argument],
                factors=factors,
                effects=effects,
                row_index=row_index,
                row_indices=letters + row_index,
                overall_mean=mean if any(e.centered_at_mean for e in effects) else None,
                part=about,
            )
        )
    return tuple(models)


def _fixed_terms(formula: Formula) -> tuple[str, ...]:
    """Names of the fixed terms."""
    fixed = tuple(t.name() for t in terms_of(formula.fixed))
    if "." in fixed:
        text = str(formula)
        at = text.index(" .") + 1
        advice = "Name the columns, or take the formula of a fit."
        raise FormulaError("only data tell what '.' stands for.", text, at, at + 1, advice)
    return fixed


def _effects(
    formula: Formula,
    part: PartSymbols,
    fixed: tuple[str, ...],
    factors: tuple[GroupingFactor, ...],
    mean: Math | None,
    names: set[str],
) -> tuple[TermEffects, ...]:
    by_name = {f.name: replace(f, label=part.label(f.label)) for f in factors}
    factor_of = [by_name[t.group_name] for t in formula.random]
    columns = [tuple(c.name() for c in terms_of(t.effects)) for t in formula.random]
    centered_at = [_centering_terms(i, factor_of, columns) for i in range(len(factor_of))]
    intercepts = mean is not None and INTERCEPT in fixed and all(c == (INTERCEPT,) for c in columns)
    at_mean = centered_at.index(()) if intercepts and factor_of else None
    symbols = _effect_symbols(factor_of, centered_at, at_mean, mean, names)
    scales: list[Math] = []
    for term, effects, factor in zip(formula.random, columns, factor_of, strict=True):
        one_factor = len(factors) == 1 and part == MEAN
        if len(effects) > 1 or _positions(term):
            scale = covariance_symbol(factor.label)
        else:
            scale = sd_symbol(effects[0], factor.label, scalar=True, single_factor=one_factor)
        while scale in scales:
            scale = Math(scale.unicode + "′", f"{{{scale.latex}}}'")
        scales.append(scale)
    return tuple(
        TermEffects(
            term=term,
            columns=columns[i],
            factor=factor_of[i],
            symbol=symbols[i],
            scale=scales[i],
            centered_at=centered_at[i],
            centered_at_mean=i == at_mean,
            in_linear_predictor=not any(i in positions for positions in centered_at),
        )
        for i, term in enumerate(formula.random)
    )


def _positions(term: RandomTerm) -> tuple[str, ...]:
    return position_codes(term.effects) if has_positions(term.structure) else ()


def _centering_terms(
    i: int, factor_of: list[GroupingFactor], columns: list[tuple[str, ...]]
) -> tuple[int, ...]:
    """Terms with the same effects on the nearest outer factors."""
    outer = [
        k
        for k, factor in enumerate(factor_of)
        if factor.name in factor_of[i].outer and set(columns[k]) == set(columns[i])
    ]
    return tuple(
        k for k in outer if not any(factor_of[k].name in factor_of[j].outer for j in outer)
    )


def _effect_symbols(
    factor_of: list[GroupingFactor],
    centered_at: list[tuple[int, ...]],
    at_mean: int | None,
    mean: Math | None,
    names: set[str],
) -> dict[int, Math]:
    """Assign to each term the symbol it is centred at, or a letter that no column has as name."""
    unused = cycle([Math(c, c) for c in _EFFECT_LETTERS if c not in names] or [Math("b", "b")])
    symbols: dict[int, Math] = {}
    for i in sorted(range(len(factor_of)), key=lambda i: len(factor_of[i].outer)):
        center = (
            [mean]
            if mean is not None and i == at_mean
            else [symbols[k] for k in centered_at[i][:1]]
        )
        taken = [symbols[k] for k in symbols if factor_of[k] == factor_of[i]]
        symbols[i] = center[0] if center and center[0] not in taken else next(unused)
    return symbols


def _mean_symbol(formula: Formula, names: set[str]) -> Math:
    """The response's initial, such as R for ratings; mu where that is ambiguous."""
    name = formula.response
    initial = name[0].upper()
    ordinary = name.isidentifier() and len(name) > 1 and initial.isascii() and initial.isalpha()
    if ordinary and initial not in {"N", *names}:
        return Math(initial, initial)
    return Math("μ", r"\mu")


def _covariates(formula: Formula) -> tuple[str, ...]:
    """Columns in the fixed and random effects, in the order of their appearance."""
    texts = [formula.fixed, *(t.effects for t in formula.random)]
    codes = [f.name() for text in texts for term in terms_of(text) for f in term.factors]
    trees = [ast.parse(code.strip(), mode="eval") for code in codes]
    names = dict.fromkeys(name for tree in trees for name in column_names_in(tree))
    return tuple(name for name in names if name != display_name(formula.response))
