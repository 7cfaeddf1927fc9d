"""Nesting of grouping factors, and the letters that index their levels.

``a:b`` is nested in ``a``; further nesting comes from the caller. A factor is indexed by the
letters of all factors that contain it, then by its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mixedfx.diagrams.graph.names import display_name
from mixedfx.diagrams.graph.symbols import index_letter
from mixedfx.errors import ArgumentError, did_you_mean
from mixedfx.formula.membership import membership_name
from mixedfx.formula.positions import ALL_ROWS
from mixedfx.formula.terms import Formula


@dataclass(frozen=True)
class GroupingFactor:
    """A grouping factor, and its place among the others."""

    name: str  # as in the formula: "state:district"
    label: str  # without the factors that contain it: "district"
    index: str  # its own letter; empty for a:b beside a and b, and for all rows as one level
    indices: str  # letters that index its levels, outermost first
    outer: tuple[str, ...]  # names of all factors that contain it, outermost first
    parents: tuple[str, ...]  # those of them that contain it directly


def grouping_factors(formula: Formula, nested: Mapping[str, str]) -> tuple[GroupingFactor, ...]:
    """Order the grouping factors from the outermost, and assign letters to them."""
    components = {t.group_name: tuple(map(membership_name, t.group)) for t in formula.random}
    outer = _outer_factors(components, nested)
    order: list[str] = []
    while len(order) < len(components):
        order.append(next(g for g in components if g not in order and outer[g] <= set(order)))
    letters: dict[str, str] = {}
    for component in (c for g in order for c in components[g]):
        letter = "" if component == ALL_ROWS else index_letter(len("".join(letters.values())))
        letters.setdefault(component, letter)
    inherited = {g: {c for h in outer[g] for c in components[h]} for g in components}
    labels = _labels(components, inherited)
    factors = []
    for g in order:
        index = "".join(letters[c] for c in components[g] if c not in inherited[g])
        indexed_by = inherited[g].union(components[g])
        indices = "".join(letter for c, letter in letters.items() if c in indexed_by)
        ancestors = tuple(h for h in order if h in outer[g])
        parents = tuple(h for h in ancestors if not any(h in outer[k] for k in ancestors))
        factors.append(GroupingFactor(g, labels[g], index, indices, ancestors, parents))
    return tuple(factors)


def _outer_factors(
    components: Mapping[str, tuple[str, ...]], nested: Mapping[str, str]
) -> dict[str, set[str]]:
    """All factors that contain each one: transitive closure of the formula's and the given ones."""
    check_group_names("nested", (name for pair in nested.items() for name in pair), components)
    outer = {
        g: {h for h in components if set(components[h]) < set(components[g])} for g in components
    }
    for inner, containing in nested.items():
        outer[inner].add(containing)
    for _ in components:
        outer = {g: direct.union(*(outer[h] for h in direct)) for g, direct in outer.items()}
    if cycle := [g for g, containing in outer.items() if g in containing]:
        raise ArgumentError(f"nested is a circle: {' in '.join([*cycle, cycle[0]])}.")
    return outer


def check_group_names(argument: str, names: Iterable[str], groups: Iterable[str]) -> None:
    """Raise if an argument names anything but grouping factors."""
    groups = list(groups)
    for name in names:
        if name not in groups:
            known = f"grouping factors are: {', '.join(groups)}" if groups else "has no groups"
            hint = did_you_mean(name, groups)
            raise ArgumentError(f"{argument} names '{name}', but the formula's {known}.{hint}")


def _labels(
    components: Mapping[str, tuple[str, ...]], inherited: Mapping[str, set[str]]
) -> dict[str, str]:
    """Names without the components of outer factors, where such a name exists and is unique."""
    short = {
        g: ":".join(display_name(c) for c in own if c not in inherited[g])
        for g, own in components.items()
    }
    used = list(short.values())
    full = {g: ":".join(map(display_name, own)) for g, own in components.items()}
    return {g: s if s and used.count(s) == 1 else full[g] for g, s in short.items()}
