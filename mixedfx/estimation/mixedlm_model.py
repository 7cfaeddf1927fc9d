"""A design as statsmodels' MixedLM: of arrays alone for its likelihood, with names for its results.

MixedLM has one grouping of the rows, one block of correlated effects on it (``exog_re``), and any
number of independent variance components within it (``exog_vc``).
"""

from __future__ import annotations

import importlib
import itertools
import threading
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.covariance.registry import STRUCTURES
from mixedfx.design.build import Design
from mixedfx.design.levels import are_nested
from mixedfx.design.rows import RandomTermRows
from mixedfx.design.spec import ModelSpec, RandomTermSpec
from mixedfx.estimation.model_spec import attach_formula

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

_IMPORT_LOCK = threading.Lock()


def import_module(name: str) -> Any:
    """
    Import a module of statsmodels, and leave the process's warning filters alone.

    statsmodels inserts some when it is first imported, which would change what a program shows.
    """
    with _IMPORT_LOCK:
        filters: Any = warnings.filters
        before = list(filters)
        module = importlib.import_module(f"statsmodels.{name}")
        for inserted in [f for f in filters if f not in before]:
            filters.remove(inserted)
    return module


@dataclass(frozen=True)
class MixedLMTerms:
    """Roles of a design's random terms in MixedLM."""

    top: int | None  # a random term on the top grouping factor; None: all rows form one group
    correlated: int | None  # term that is exog_re; of the others each column is a component

    def components(self, spec: ModelSpec) -> list[tuple[int, int]]:
        """Random term and column of each variance component, in order."""
        return [
            (t, j)
            for t, random_term in enumerate(spec.random_terms)
            if t != self.correlated
            for j in range(len(random_term.effect_names))
        ]

    def group_codes(self, design: Design) -> Codes:
        """Group of each row in MixedLM."""
        if self.top is None:
            return np.zeros(design.rows.n, dtype=np.intp)
        return design.rows.random_terms[self.top].codes

    def largest_group(self, design: Design) -> tuple[int, int]:
        """Largest number of rows, and of random-effect columns, in one of MixedLM's groups."""
        codes = self.group_codes(design)
        sizes = np.bincount(codes)
        columns = np.zeros(len(sizes), dtype=int)
        for term in design.rows.random_terms:
            group_of = np.empty(term.n_levels, dtype=np.intp)  # each level is in one group
            group_of[term.codes] = codes
            columns += term.model_matrix.shape[1] * np.bincount(group_of, minlength=len(sizes))
        return int(sizes.max()), int(columns.max())


def mixedlm_terms(design: Design) -> MixedLMTerms | str:
    """Roles of the random terms in MixedLM, or the reason why there are none."""
    random_terms, rows = design.spec.random_terms, design.rows.random_terms
    structures = [STRUCTURES[term.formula_term.structure] for term in random_terms]
    for term, structure in zip(random_terms, structures, strict=True):
        if not structure.linear:
            return f"MixedLM cannot express the covariance of {term.formula_term}"
    correlated = [
        t
        for t, (term, structure) in enumerate(zip(random_terms, structures, strict=True))
        if structure.invariance == "linear" and len(term.effect_names) > 1
    ]
    top = next((t for t, term in enumerate(rows) if _contains_all(term, rows)), None)
    for t in correlated:
        if top is None or random_terms[t].group != random_terms[top].group:
            return (
                f"the correlated term {random_terms[t].formula_term} is not on a grouping factor "
                "that contains all the others"
            )
    if len(correlated) > 1:
        return f"MixedLM has one correlated term, and the formula has {len(correlated)}"
    if top is None:
        return MixedLMTerms(None, None)
    on_top = design.spec.terms_of(random_terms[top].group)
    scalar = [t for t in on_top if len(random_terms[t].effect_names) == 1]
    return MixedLMTerms(top, next(iter(correlated or scalar), None))


def _contains_all(outer: RandomTermRows, random_terms: tuple[RandomTermRows, ...]) -> bool:
    """Whether every level of every factor is nested in one level of ``outer``."""
    others = (inner for inner in random_terms if inner.group != outer.group)
    return all(are_nested(inner.codes, outer.codes) for inner in others)


def plain_model(design: Design, terms: MixedLMTerms) -> Any:
    """MixedLM of the arrays, for its likelihood: without names, which take most of the time."""
    lm = import_module("regression.mixed_linear_model")
    codes = terms.group_codes(design)
    ends = [0, *np.cumsum(np.bincount(codes)).tolist()]
    by_group = np.argsort(codes, kind="stable")
    rows = [by_group[a:b] for a, b in itertools.pairwise(ends)]
    rows_of, components = design.rows.random_terms, terms.components(design.spec)
    exog_vc, exog_re = None, None
    if components:
        names = [str(i) for i in range(len(components))]
        matrices = [
            [matrix for _, matrix in _indicators(rows_of[t], j, rows)] for t, j in components
        ]
        exog_vc = lm.VCSpec(names, [[] for _ in components], matrices)
    if terms.correlated is not None:
        exog_re = np.array(rows_of[terms.correlated].model_matrix)
    return lm.MixedLM(
        np.array(design.rows.response_less_offset),
        np.array(design.rows.X),
        groups=codes,
        exog_re=exog_re,
        exog_vc=exog_vc,
    )


@dataclass(frozen=True)
class NamedModel:
    """MixedLM with the formula's names, which is made when it is first asked for."""

    design: Design
    terms: MixedLMTerms

    def make(self) -> Any:
        """The model."""
        lm, design = import_module("regression.mixed_linear_model"), self.design
        model = lm.MixedLM(
            pd.Series(
                np.array(design.rows.response_less_offset),
                name=design.spec.formula.response_name,
            ),
            pd.DataFrame(np.array(design.rows.X), columns=list(design.spec.X_names)),
            **_named_arguments(design, self.terms),
        )
        return attach_formula(model, design.spec)


def _named_arguments(design: Design, terms: MixedLMTerms) -> dict[str, Any]:
    """Arguments ``groups``, ``exog_re`` and ``exog_vc`` of MixedLM."""
    codes = terms.group_codes(design)
    if terms.top is None:
        groups = np.full(len(codes), "all")
    else:
        groups = _sortable(design.spec.random_terms[terms.top].levels.labels)[codes]
    exog_vc = None
    spec_of, rows_of = design.spec.random_terms, design.rows.random_terms
    of_components = terms.components(design.spec)
    if of_components:
        rows = [np.flatnonzero(groups == group) for group in sorted(set(groups.tolist()))]
        components = [_component(spec_of[t], rows_of[t], j, rows) for t, j in of_components]
        exog_vc = import_module("regression.mixed_linear_model").VCSpec(
            *(list(part) for part in zip(*components, strict=True))
        )
    exog_re = None
    if terms.correlated is not None:
        exog_re = pd.DataFrame(
            np.array(rows_of[terms.correlated].model_matrix),
            columns=list(spec_of[terms.correlated].effect_names),
        )
    return {"groups": groups, "exog_re": exog_re, "exog_vc": exog_vc}


def _sortable(labels: pd.Index) -> npt.NDArray[Any]:
    """Labels, which MixedLM sorts; their numbers where they are tuples or cannot be compared."""
    if any(isinstance(label, tuple) for label in labels):
        return np.arange(len(labels))
    try:
        sorted(labels)
    except TypeError:
        return np.arange(len(labels))
    return np.asarray(labels)


def _component(
    spec: RandomTermSpec, term: RandomTermRows, j: int, rows: list[Codes]
) -> tuple[str, list[Any], list[Matrix]]:
    """Name, column names and matrices of one variance component, group by group."""
    effect = spec.effect_names[j]
    name = spec.group if effect == "Intercept" else f"{spec.group} {effect}"
    labels, found = spec.levels.labels, _indicators(term, j, rows)
    columns = [[f"{name}[{labels[level]}]" for level in levels] for levels, _ in found]
    return name, columns, [matrix for _, matrix in found]


def _indicators(term: RandomTermRows, j: int, rows: list[Codes]) -> list[tuple[list[int], Matrix]]:
    """Levels of one column of a term in each group, and its values in their columns."""
    found = []
    for in_group in rows:
        codes = term.codes[in_group]
        levels = sorted(set(codes.tolist()))
        found.append((levels, (codes[:, None] == levels) * term.model_matrix[in_group, j, None]))
    return found
