"""Resampling of cases: levels of a grouping factor with all of their rows, drawn with replacement.

A level that is drawn twice is two levels. Levels nested in it are copied with it; those of factors
crossed with it stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.build import Design, subset_rows
from mixedfx.design.levels import Levels, are_nested, outermost
from mixedfx.design.rows import nested_factors
from mixedfx.design.spec import RandomTermSpec
from mixedfx.errors import ArgumentError, check_choice
from mixedfx.estimation.fitted_model import FittedModel

Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class CaseResampling:
    """The rows of a fit by the levels of one grouping factor."""

    design: Design
    group: str
    members: tuple[Codes, ...] = field(repr=False)  # rows of each level
    nested: frozenset[str]  # grouping factors whose levels are each of one level of the group
    resample_rows: bool

    def draw(self, rng: np.random.Generator) -> tuple[Design, Codes]:
        """A design of resampled rows, and how often it has each level."""
        count = len(self.members)
        taken = rng.integers(count, size=count)
        drawn = [self.members[level] for level in taken]
        if self.resample_rows:
            drawn = [rng.choice(rows, size=len(rows)) for rows in drawn]
        copies = np.repeat(np.arange(count), [len(part) for part in drawn])
        return self._design(np.concatenate(drawn), copies), np.bincount(taken, minlength=count)

    def _design(self, rows: Codes, copies: Codes) -> Design:
        """Design of some rows, whose copies of a level are levels of their own."""
        design = subset_rows(self.design, rows)
        specs, terms = [], []
        columns: dict[str, pd.Series] = {}
        for spec, term in zip(design.spec.random_terms, design.rows.random_terms, strict=True):
            levels, codes = self._levels(spec, term.codes, copies)
            specs.append(replace(spec, levels=levels))
            terms.append(replace(term, n_levels=len(levels), codes=codes))
            if len(spec.formula_term.group) == 1:
                of_rows = pd.Categorical.from_codes(codes, levels.labels)
                columns[spec.formula_term.group[0]] = pd.Series(of_rows)
        plain = {n: c.reset_index(drop=True) for n, c in design.rows.variables.items()}
        variables = plain | {name: c for name, c in columns.items() if name in plain}
        return Design(
            replace(design.spec, random_terms=tuple(specs), nesting=nested_factors(terms)),
            replace(
                design.rows,
                random_terms=tuple(terms),
                variables=variables,
                index=pd.RangeIndex(len(rows)),
            ),
        )

    def _levels(self, spec: RandomTermSpec, codes: Codes, copies: Codes) -> tuple[Levels, Codes]:
        """Levels of a term in the drawn rows, and each row's."""
        if spec.group != self.group and spec.group not in self.nested:
            return spec.levels, codes
        n = len(spec.levels)
        pairs, codes = np.unique(copies * n + codes, return_inverse=True)
        copy, level = np.divmod(pairs, n)
        united = copied_levels(spec.levels, level, copy, is_drawn=spec.group == self.group)
        return united, codes.astype(np.intp)


def copied_levels(levels: Levels, level: Codes, copy: Codes, *, is_drawn: bool) -> Levels:
    """Copies of levels, of the factor that is drawn by their numbers alone."""
    *first, last = (p[level] for p in levels.value_positions)
    if is_drawn:
        labels = pd.Index(copy + 1)
    else:
        values = levels.factor_values[-1][last]
        labels = pd.Index([f"{v}.{c + 1}" for v, c in zip(values, copy, strict=True)])
    # The copies differ in the last of the factors that are combined.
    return Levels(
        (*levels.factor_values[:-1], labels), (*first, np.arange(len(level), dtype=np.intp))
    )


def case_resampling(fit: FittedModel, group: str | None, *, resample_rows: bool) -> CaseResampling:
    """Resampling of the levels of a factor; by default of the one that all others are nested in."""
    _check_can_be_resampled(fit)
    factors = {name: fit.rows.codes_of(name) for name in fit.formula.groups}
    group = _outermost(factors) if group is None else group
    check_choice("groups", group, factors)
    codes = factors[group]
    nested = [g for g, own in factors.items() if g != group and are_nested(own, codes)]
    order = np.argsort(codes, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    return CaseResampling(
        fit.original_design, group, tuple(members), frozenset(nested), resample_rows
    )


def _outermost(factors: Mapping[str, Codes]) -> str:
    groups, found = list(factors), outermost(factors)
    if found is not None:
        return found
    raise ArgumentError(
        f"the grouping factors {' and '.join(groups)} are crossed, and resampling the levels of "
        f"one keeps those of the other as they are: say which, groups='{groups[0]}'; or take "
        "kind='parametric' or 'residual', which draw the effects of all of them."
    )


def _check_can_be_resampled(fit: FittedModel) -> None:
    """Refuse models whose rows cannot be copied one by one."""
    spec = fit.spec
    if not spec.random_terms:
        raise ArgumentError(
            f"kind='cases' resamples levels of a grouping factor, and '{spec.formula}' has none."
        )
    if not all(term.is_plain for term in spec.random_terms):
        raise ArgumentError(
            "kind='cases' is of independent levels; with relmat= and mm() take kind='parametric'."
        )
    several = fit.rows.residual.designs
    if spec.residual.dependence or spec.residual.has_random_effects or several:
        raise ArgumentError(
            "kind='cases' is of models with independent residuals, and with one formula beside "
            "that of the dispersion; take kind='parametric'."
        )
    if fit.rows.weights_are_counts:
        raise ArgumentError("kind='cases' resamples rows, and equal ones were merged here.")
