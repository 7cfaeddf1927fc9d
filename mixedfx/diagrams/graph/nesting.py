"""Grouping factors to levels: which lies in which, and the letters that number them.

What goes in is a formula, and nesting that only data tell; what comes out is the factors, the
outer ones first. The one idea is that ``a:b`` lies in ``a``, written or found, and so has the
letters of all that it lies in before its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mixedfx.diagrams.graph.names import plain
from mixedfx.diagrams.graph.symbols import index_letter
from mixedfx.errors import ArgumentError, did_you_mean
from mixedfx.formula.terms import Formula


@dataclass(frozen=True)
class Factor:
    """
    A grouping factor, and where it stands among the others.

    Parameters
    ----------
    name : str
        As in the formula: ``"state:district"``.
    label : str
        Without the factors that it lies in: ``"district"``.
    index : str
        Its own letter; none for ``a:b`` beside ``a`` and ``b``, whose letters it has.
    indices : str
        The letters that number its levels, those of the outer factors first.
    outer : tuple of str
        Names of all factors that it is nested in, the outermost first.
    parents : tuple of str
        Those of them that it lies in directly.
    """

    name: str
    label: str
    index: str
    indices: str
    outer: tuple[str, ...]
    parents: tuple[str, ...]


def factors_of(formula: Formula, nested: Mapping[str, str]) -> tuple[Factor, ...]:
    """Order the grouping factors, the outer ones first, and give them letters."""
    parts = {t.group_name: t.group for t in formula.random}
    outer = _outer(parts, nested)
    order: list[str] = []
    while len(order) < len(parts):
        order.append(next(g for g in parts if g not in order and outer[g] <= set(order)))
    letters: dict[str, str] = {}
    for part in (p for g in order for p in parts[g]):
        letters.setdefault(part, index_letter(len(letters)))
    inherited = {g: {p for h in outer[g] for p in parts[h]} for g in parts}
    labels = _labels(parts, inherited)
    found = []
    for g in order:
        own = "".join(letters[p] for p in parts[g] if p not in inherited[g])
        used = inherited[g].union(parts[g])
        indices = "".join(letter for part, letter in letters.items() if part in used)
        above = tuple(h for h in order if h in outer[g])
        parents = tuple(h for h in above if not any(h in outer[k] for k in above))
        found.append(Factor(g, labels[g], own, indices, above, parents))
    return tuple(found)


def _outer(parts: Mapping[str, tuple[str, ...]], nested: Mapping[str, str]) -> dict[str, set[str]]:
    """All factors that each one lies in: written in the formula, or found in the data."""
    expect_groups("nested", (name for pair in nested.items() for name in pair), parts)
    outer = {g: {h for h in parts if set(parts[h]) < set(parts[g])} for g in parts}
    for inner, around in nested.items():
        outer[inner].add(around)
    for _ in parts:
        outer = {g: found.union(*(outer[h] for h in found)) for g, found in outer.items()}
    if circle := [g for g, found in outer.items() if g in found]:
        raise ArgumentError(f"nested is a circle: {' in '.join([*circle, circle[0]])}.")
    return outer


def expect_groups(argument: str, names: Iterable[str], groups: Iterable[str]) -> None:
    """Check that an argument names grouping factors only."""
    groups = list(groups)
    for name in names:
        if name not in groups:
            known = f"grouping factors are: {', '.join(groups)}" if groups else "has no groups"
            hint = did_you_mean(name, groups)
            raise ArgumentError(f"{argument} names '{name}', but the formula's {known}.{hint}")


def _labels(
    parts: Mapping[str, tuple[str, ...]], inherited: Mapping[str, set[str]]
) -> dict[str, str]:
    """Names without the outer factors' parts, where that leaves something of its own."""
    short = {g: ":".join(plain(p) for p in parts[g] if p not in inherited[g]) for g in parts}
    taken = list(short.values())
    full = {g: ":".join(map(plain, mine)) for g, mine in parts.items()}
    return {g: s if s and taken.count(s) == 1 else full[g] for g, s in short.items()}
