"""Pairs of factors: nesting, crossing, labels that are used again, and connectedness.

Two factors are the parts of a bipartite graph: a cell with rows is an edge. A level of a nested
factor has one edge; in a connected graph every two levels are joined by a path, so that a
difference between two levels of one factor can be told from the other one (Searle 1987).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from mixedfx._cached import cached_property
from mixedfx.design.inspection.finding import DesignFinding, nested_in, without_group
from mixedfx.design.inspection.reading import Factor, ReadRows

Codes = npt.NDArray[np.intp]

_FEWEST_ROWS_IN_CELL = 2.0  # rows in the median cell of a unit that has repeated rows
COLUMNS = [
    "first",
    "second",
    "relation",
    "inner",
    "cells",
    "possible",
    "empty",
    "components",
    "rows_min",
    "rows_median",
    "rows_max",
    "labels",
]


@dataclass(frozen=True)
class Pair:
    """Two factors, and the cells that have rows."""

    first: Factor
    second: Factor
    cells: Codes = field(repr=False)  # (cells, 2) levels of the two
    counts: Codes = field(repr=False)  # rows in each

    @staticmethod
    def of(first: Factor, second: Factor) -> Pair:
        """Count the rows of each cell."""
        found, counts = np.unique(_joined(first, second), return_counts=True)
        cells = np.column_stack(np.divmod(found, second.n_levels)).astype(np.intp)
        return Pair(first, second, cells, counts)

    @cached_property
    def cell_of_rows(self) -> Codes:
        """Cell of each row, (n,)."""
        joined = _joined(self.first, self.second)
        return np.unique(joined, return_inverse=True)[1].astype(np.intp)

    @property
    def possible(self) -> int:
        """Combinations of levels."""
        return self.first.n_levels * self.second.n_levels

    @property
    def relation(self) -> str:
        """``nested``, ``fully crossed``, ``partially crossed``, or ``same``."""
        n = len(self.cells)
        nested = [n == factor.n_levels for factor in (self.first, self.second)]
        if all(nested):
            return "same"
        if any(nested):
            return "nested"
        return "fully crossed" if n == self.possible else "partially crossed"

    @property
    def inner(self) -> Factor | None:
        """The factor that is nested in the other one."""
        if self.relation != "nested":
            return None
        return self.first if len(self.cells) == self.first.n_levels else self.second

    @cached_property
    def components(self) -> int:
        """Sets of levels that no row joins."""
        from scipy.sparse import csgraph

        size = self.first.n_levels + self.second.n_levels
        at = (self.cells[:, 0], self.first.n_levels + self.cells[:, 1])
        graph = sparse.coo_array((np.ones(len(self.cells)), at), shape=(size, size))
        return int(csgraph.connected_components(graph, directed=False)[0])

    @cached_property
    def reused(self) -> Reused | None:
        """Labels that are probably used again in each level of the other factor."""
        if "crossed" not in self.relation or np.median(self.counts) < _FEWEST_ROWS_IN_CELL:
            return None
        found = [r for r in (_reused(self, 0), _reused(self, 1)) if r is not None]
        found = [r for r in found if "random" in r.inner.roles or "part" in r.inner.roles]
        if "fixed" in {*self.first.roles, *self.second.roles}:  # treatments recur in subjects
            found = [r for r in found if r.uneven]
        # Of two that could be, the one whose numbers differ, or that has fewer labels.
        found.sort(key=lambda r: (not r.uneven, r.inner.n_levels))
        return found[0] if found else None

    def row(self) -> dict[str, object]:
        """Row of the table."""
        inner = self.inner
        labels = "unique" if inner is not None else "shared"
        if self.reused is not None:
            labels = "used again" if self.reused.uneven else "used again?"
        values = (
            self.first.name,
            self.second.name,
            self.relation,
            inner.name if inner is not None else "",
            len(self.cells),
            self.possible,
            self.possible - len(self.cells),
            self.components,
            int(self.counts.min()),
            float(np.median(self.counts)),
            int(self.counts.max()),
            labels,
        )
        return dict(zip(COLUMNS, values, strict=True))


def _joined(first: Factor, second: Factor) -> npt.NDArray[np.int64]:
    """A number of each row's combination of levels, in the order of the levels."""
    return first.codes.astype(np.int64) * second.n_levels + second.codes


@dataclass(frozen=True)
class Reused:
    """A factor whose labels are numbers that begin anew in each level of another."""

    inner: Factor
    outer: Factor
    uneven: bool  # the levels of the outer factor have different numbers of them


def _reused(pair: Pair, side: int) -> Reused | None:
    """Whether in each level of the other factor the labels are 1, 2, ... up to some number."""
    inner, outer = (pair.first, pair.second) if side == 0 else (pair.second, pair.first)
    ranks = _counter(inner.labels)
    if ranks is None or outer.n_levels < 2:
        return None
    labels, around = ranks[pair.cells[:, side]], pair.cells[:, 1 - side]
    numbers = np.bincount(around, minlength=outer.n_levels)
    highest = np.zeros(outer.n_levels, dtype=np.intp)
    np.maximum.at(highest, around, labels)
    if not (highest + 1 == numbers).all() or numbers.max() < 2:
        return None
    return Reused(inner, outer, bool(numbers.min() < numbers.max()))


def _counter(labels: pd.Index) -> Codes | None:
    """Rank of labels that count: 1, 2, ...; "c1", "c2", ...; "a", "b", ...; None for others."""
    texts = [str(label) for label in labels]
    if all(re.fullmatch(r"[A-Za-z]", t) for t in texts):
        numbers = [ord(t.lower()) - ord("a") for t in texts]
    else:
        found = [re.fullmatch(r"(\D*?)0*(\d+)(?:\.0)?", t) for t in texts]
        if not all(found) or len({m[1] for m in found if m}) > 1:
            return None
        numbers = [int(m[2]) for m in found if m]
    ranks = np.array(numbers, dtype=np.int64)
    start = int(ranks.min())
    if start > 1 or len(np.unique(ranks)) < len(ranks) or ranks.max() - start + 1 != len(ranks):
        return None
    return (ranks - start).astype(np.intp)


def pairs_of(rows: ReadRows) -> tuple[Pair, ...]:
    """Every two factors."""
    return tuple(Pair.of(a, b) for a, b in itertools.combinations(rows.factors, 2))


def findings_of_pairs(rows: ReadRows, pairs: tuple[Pair, ...]) -> Iterator[DesignFinding]:
    """Labels used again, factors that are the same, and sets of levels that no row joins."""
    together = {frozenset(t.group) for t in rows.formula.random}
    for pair in pairs:
        a, b = pair.first, pair.second
        if set(a.parts) & set(b.parts):
            continue
        found = pair.reused
        random = [f for f in (a, b) if "random" in f.roles]
        combined = any({*a.parts, *b.parts} <= group for group in together)
        if found is not None and not combined and (len(random) == 2 or found.uneven):
            yield _labels(rows, found)
            continue
        if pair.relation == "same" and random:
            yield _same(rows, pair)
        elif "crossed" in pair.relation and pair.components > 1 and random:
            yield _disconnected(pair)


def _labels(rows: ReadRows, found: Reused) -> DesignFinding:
    inner, outer = found.inner, found.outer
    labels = ", ".join(map(str, inner.labels[:3])) + (", ..." if inner.n_levels > 3 else "")
    what = (
        f"The labels of '{inner.name}' ({labels}) are used again in the levels of '{outer.name}': "
        f"(1 | {inner.name}) takes '{inner.labels[0]}' of each '{outer.name}' for one level."
    )
    if found.uneven:
        to_do = f"If they are different ones, nest '{inner.name}' in '{outer.name}':"
    else:
        to_do = (
            f"If each '{outer.name}' has the same ones, as stimuli that all subjects see, leave it "
            f"so; if they are different ones, nest '{inner.name}' in '{outer.name}':"
        )
    formula = nested_in(rows.formula, inner.parts[0], outer.parts[0])
    where = f"{inner.name} in {outer.name}"
    return DesignFinding("warning", "labels", where, what, to_do, formula)


def _same(rows: ReadRows, pair: Pair) -> DesignFinding:
    a, b = pair.first, pair.second
    drop = b if "random" in b.roles else a
    what = f"'{a.name}' and '{b.name}' divide the rows in the same way."
    to_do = f"What varies between their levels cannot be told apart; leave '{drop.name}' out:"
    formula = without_group(rows.formula, drop.name)
    return DesignFinding("error", "same", f"{a.name}, {b.name}", what, to_do, formula)


def _disconnected(pair: Pair) -> DesignFinding:
    a, b = pair.first, pair.second
    what = (
        f"'{a.name}' and '{b.name}' fall into {pair.components} sets of levels that no row joins."
    )
    fixed = [f for f in (a, b) if "random" not in f.roles]
    if fixed:
        to_do = (
            f"Differences of '{fixed[0].name}' between the sets rest on the distribution of the "
            f"effects of '{(b if fixed[0] is a else a).name}' alone; rows that join the sets would "
            "mend it."
        )
    else:
        to_do = (
            "A difference between two sets is shared out between the two factors by their "
            "variances alone: compare levels within a set, or collect rows that join the sets."
        )
    return DesignFinding("note", "connected", f"{a.name}, {b.name}", what, to_do)


def pairs_table(pairs: tuple[Pair, ...]) -> pd.DataFrame:
    """A row for each pair."""
    return pd.DataFrame([pair.row() for pair in pairs], columns=COLUMNS)
