"""Designs with terms left out, on the rows of the whole design.

Columns are those that the shorter formula has: without an intercept the coding of a factor depends
on the terms before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from patsy import DesignInfo, Term

from mixedfx._names import column_label, decode
from mixedfx.design.build import Design
from mixedfx.design.checks import independent_columns
from mixedfx.design.columns import factor_codes
from mixedfx.design.estimability import column_aliases
from mixedfx.design.evaluation import build_matrices, learn_design_infos
from mixedfx.design.rows import ModelRows
from mixedfx.design.spec import RandomTermSpec
from mixedfx.errors import ArgumentError
from mixedfx.formula.expansion import terms_of, terms_text
from mixedfx.formula.terms import Formula

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


def without_fixed_term(design: Design, name: str) -> Design:
    """Design of the formula without one term of its fixed part."""
    spec, rows = design.spec, design.rows
    left = [term for term in terms_of(spec.formula.fixed) if decode(term.name()) != name]
    formula = replace(spec.formula, fixed=terms_text(left))
    if not left and not spec.random_terms:
        raise ArgumentError(f"'{spec.formula}' has no other term than '{name}' to be left with.")
    (learned,) = learn_design_infos([left], rows.sample.variables, spec.env)
    learned = learned if rows.in_memory else _of_all_rows(learned, spec.fixed_info)
    # Thresholds are in the place of an intercept.
    terms = [t for t in learned.terms if t.factors or spec.family.has_intercept]
    first = len(learned.column_names) - len(learned.subset(terms).column_names)

    def columns(of: ModelRows) -> Matrix:
        (fixed,) = build_matrices([learned], of.variables, of.n)
        return np.ascontiguousarray(fixed[:, first:]) if first else fixed

    fixed = columns(rows.sample)
    kept = independent_columns(fixed)
    info = learned.subset(terms) if first else learned
    spec = replace(
        spec,
        column_names=tuple(map(column_label, info.column_names)),
        kept_columns=kept,
        fixed_info=info,
        aliases=column_aliases(fixed, kept),
    )

    def kept_columns(of: ModelRows) -> Matrix:
        return _kept(columns(of), kept)

    return _of_formula(Design(spec, rows.with_fixed(_kept(fixed, kept), kept_columns)), formula)


def _kept(fixed: Matrix, kept: Codes) -> Matrix:
    return fixed if len(kept) == fixed.shape[1] else np.ascontiguousarray(fixed[:, kept])


def _of_all_rows(learned: DesignInfo, whole: DesignInfo) -> DesignInfo:
    """What was learned of a sample, with the levels and states that all rows have."""
    infos = {f: whole.factor_infos.get(f, own) for f, own in learned.factor_infos.items()}
    return DesignInfo(learned.column_names, infos, learned.term_codings)


@dataclass(frozen=True)
class ReducedTerm:
    """A random term whose effects' columns are combinations of those of another."""

    spec: RandomTermSpec
    combination: Matrix  # (effects of the other, effects)


def with_random_terms(design: Design, terms: Mapping[int, ReducedTerm | None]) -> Design:
    """Design with others in the place of some random terms, by their numbers; None: without."""
    spec, left, specs = design.spec, [], []
    for t, whole in enumerate(spec.random_terms):
        term = terms.get(t, ReducedTerm(whole, np.eye(len(whole.effect_names))))
        if term is not None:
            left.append((t, term.combination))
            specs.append(term.spec)
    rows = design.rows.with_effects(left)
    nesting = rows.nesting(list(dict.fromkeys(term.group for term in specs)))
    spec = replace(spec, random_terms=tuple(specs), nesting=nesting)
    formula = replace(spec.formula, random=tuple(term.formula_term for term in specs))
    return _of_formula(Design(spec, rows), formula)


def with_fewer_effects(term: RandomTermSpec, left: Sequence[Term]) -> RandomTermSpec:
    """A random term of some of the terms of its effects."""
    formula_term = replace(term.formula_term, effects=terms_text(list(left)))
    names: tuple[str, ...] = ("Intercept",)
    info = None
    if term.info is not None and formula_term.effects != "1":
        keep = [i for t in left for i in range(*term.info.term_slices[t].indices(10**9))]
        names = tuple(term.effect_names[i] for i in sorted(keep))
        info = term.info.subset(list(left))
    if len(names) == 1 and formula_term.structure == "diag":
        formula_term = replace(formula_term, structure="us")
    return replace(term, formula_term=formula_term, effect_names=names, info=info)


def _of_formula(design: Design, formula: Formula) -> Design:
    """The design with a shorter formula, and the variables that it reads."""
    formula = replace(formula, source=str(formula))
    spec, codes = design.spec, dict(factor_codes(formula))
    names = {name for of_code in codes.values() for name in of_code}
    columns = set(map(decode, names))
    spec = replace(
        spec,
        formula=formula,
        variables=tuple(v for v in spec.variables if v in columns),
        row_dependent=tuple(code for code in spec.row_dependent if code in codes),
        categories={name: c for name, c in spec.categories.items() if name in names},
    )
    rows = design.rows.with_variables(names)
    return Design(spec, rows.of_submodel(Design(spec, rows)))
