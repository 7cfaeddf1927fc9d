"""Designs with terms left out, on the rows of the whole design.

Columns are those that the shorter formula has: without an intercept the coding of a factor depends
on the terms before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from patsy import Term

from mixedfx._names import column_label, decode
from mixedfx.design.build import Design
from mixedfx.design.checks import independent_columns
from mixedfx.design.columns import factor_codes
from mixedfx.design.estimability import column_aliases
from mixedfx.design.evaluation import build_matrices, learn_design_infos
from mixedfx.design.random import nested_factors
from mixedfx.design.rows import RandomTermRows
from mixedfx.design.spec import RandomTermSpec
from mixedfx.errors import ArgumentError
from mixedfx.formula.expansion import terms_of, terms_text
from mixedfx.formula.terms import Formula


def without_fixed_term(design: Design, name: str) -> Design:
    """Design of the formula without one term of its fixed part."""
    spec, rows = design.spec, design.rows
    left = [term for term in terms_of(spec.formula.fixed) if decode(term.name()) != name]
    formula = replace(spec.formula, fixed=terms_text(left))
    if not left and not spec.random_terms:
        raise ArgumentError(f"'{spec.formula}' has no other term than '{name}' to be left with.")
    (info,) = learn_design_infos([left], rows.variables, spec.env)
    (fixed,) = build_matrices([info], rows.variables, rows.n)
    if not spec.family.has_intercept:  # thresholds are in its place
        info = info.subset([term for term in info.terms if term.factors])
        fixed = np.ascontiguousarray(fixed[:, 1:])
    kept = independent_columns(fixed)
    spec = replace(
        spec,
        column_names=tuple(map(column_label, info.column_names)),
        kept_columns=kept,
        fixed_info=info,
        aliases=column_aliases(fixed, kept),
    )
    X = fixed if len(kept) == fixed.shape[1] else np.ascontiguousarray(fixed[:, kept])
    return _of_formula(Design(spec, replace(rows, X=X)), formula)


def with_random_terms(
    design: Design, specs: Sequence[RandomTermSpec], rows: Sequence[RandomTermRows]
) -> Design:
    """Design with these of its random terms, some of them perhaps with fewer effects."""
    spec = replace(design.spec, random_terms=tuple(specs), nesting=nested_factors(rows))
    formula = replace(spec.formula, random=tuple(term.formula_term for term in specs))
    return _of_formula(Design(spec, replace(design.rows, random_terms=tuple(rows))), formula)


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
    variables = {name: v for name, v in design.rows.variables.items() if name in names}
    return Design(spec, replace(design.rows, variables=variables))
