"""Resampling of the levels of a grouping factor of rows in chunks, by the sums of each level.

``Z'WZ`` and ``Z'W[X, y]`` of the factor, and of those nested in it, are those of the levels that
are drawn, a level as often as it is; of factors crossed with it, and ``[X, y]'W[X, y]``, they are
the sums over the levels times how often each is drawn. A draw is that of rows in memory
(:mod:`~mixedfx.inference.bootstrap.cases`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.design.levels import Levels
from mixedfx.errors import ArgumentError, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.bootstrap.cases import copied_levels
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.stratified import StratifiedSums
from mixedfx.linalg.cholesky.block_matrix import BlockLayout, BlockMatrix, BlockPattern, LevelPairs

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


class _Copies(NamedTuple):
    """Members of the levels that are drawn, in the order of the draws and of their numbers."""

    members: Codes  # (m,) number of each
    copy: Codes  # (m,) draw of its level
    first: Codes  # (draws,) position of the first member of each
    rank: Codes  # of each member among those of its level

    @staticmethod
    def of(owner: Codes, taken: Codes, n_levels: int) -> _Copies:
        """Of members that have a level each."""
        order, counts = np.argsort(owner, kind="stable"), np.bincount(owner, minlength=n_levels)
        starts, lengths = np.cumsum(counts) - counts, counts[taken]
        first = np.cumsum(lengths) - lengths
        copy = np.repeat(np.arange(len(taken)), lengths)
        within = np.arange(len(copy)) - first[copy]
        rank = np.empty(len(owner), dtype=np.intp)
        rank[order] = np.arange(len(owner)) - starts[owner[order]]
        return _Copies(order[starts[taken[copy]] + within], copy, first, rank)

    def positions(self, copy: Codes, members: Any) -> Codes:
        """Positions of copies of members."""
        return np.asarray(self.first[copy] + self.rank[members], dtype=np.intp)


@dataclass(frozen=True)
class LevelCases:
    """Cross-products of all rows, and what of them is of each level alone."""

    by_level: StratifiedSums = field(repr=False)
    group: int  # number of the factor whose levels are drawn
    owners: tuple[Codes | None, ...] = field(repr=False)  # level of it of each nested level

    @staticmethod
    def of(fit: FittedModel, by_level: StratifiedSums) -> LevelCases:
        """Of a linear fit, and the sums by level of one of its grouping factors."""
        pattern, groups = fit.crossprod.ZtZ.pattern, range(len(fit.crossprod.groups))
        n = len(by_level.counts)
        group = next(f for f in groups if _are_levels(by_level, f))
        owners = tuple(np.arange(n) if f == group else _owner(pattern, f, group) for f in groups)
        return LevelCases(replace(by_level, plain=fit.crossprod), group, owners)

    def draw(self, rng: np.random.Generator) -> tuple[CrossProducts, Codes]:
        """Cross-products of resampled levels, and how often each is drawn."""
        whole, count = self.by_level.plain, len(self.by_level.counts)
        taken = rng.integers(count, size=count)
        frequencies = np.bincount(taken, minlength=count)
        with np.errstate(divide="ignore"):  # logarithms of weights of zero
            reweighted = self.by_level.reweight(frequencies.astype(float))
        copies = [
            None if owner is None else _Copies.of(owner, taken, count) for owner in self.owners
        ]
        diagonal = _of_copies(reweighted.ZtZ.diagonal, whole.ZtZ.diagonal, copies)
        drawn = replace(
            whole,
            n=int(self.by_level.counts[taken].sum()),
            levels=self._levels(copies),
            ZtZ=self._products(diagonal, reweighted, copies, taken),
            ZtXy=_of_copies(reweighted.ZtXy, whole.ZtXy, copies),
            XytXy=reweighted.XytXy,
        )
        return drawn, frequencies

    def _levels(self, copies: Sequence[_Copies | None]) -> tuple[Levels, ...]:
        """Levels of each factor: copies are levels of their own."""
        of_factors = zip(self.by_level.plain.levels, copies, strict=True)
        return tuple(
            levels
            if own is None
            else copied_levels(levels, own.members, own.copy, is_drawn=f == self.group)
            for f, (levels, own) in enumerate(of_factors)
        )

    def _products(
        self,
        diagonal: tuple[Matrix, ...],
        reweighted: CrossProducts,
        copies: Sequence[_Copies | None],
        taken: Codes,
    ) -> BlockMatrix:
        """``Z'WZ``: the pairs of levels of copied factors are copied with them."""
        whole = self.by_level.plain.ZtZ
        pairs, off_diagonal = dict(whole.pattern.pairs), dict(reweighted.ZtZ.off_diagonal)
        if len(pairs) == 0:
            return BlockMatrix(whole.pattern, diagonal, {})
        for (i, j), own in whole.pattern.pairs.items():
            owner = self._owner_of_pairs(i, j, own)
            if owner is None:
                continue
            of_pairs = _Copies.of(owner, taken, len(self.by_level.counts))
            members, copy, ends = of_pairs.members, of_pairs.copy, []
            for copied, numbers in ((copies[i], own.rows[members]), (copies[j], own.cols[members])):
                ends.append(numbers if copied is None else copied.positions(copy, numbers))
            order = np.lexsort((ends[1], ends[0]))
            pairs[i, j] = LevelPairs(ends[0][order], ends[1][order])
            values = whole.off_diagonal[i, j][:, :, members[order]]
            off_diagonal[i, j] = np.ascontiguousarray(values)
        levels = tuple(A.shape[2] for A in diagonal)
        layout = BlockLayout(whole.layout.widths, levels)
        return BlockMatrix(BlockPattern(layout, pairs), diagonal, off_diagonal)

    def _owner_of_pairs(self, i: int, j: int, pairs: LevelPairs) -> Codes | None:
        """Level that each pair is of; None of pairs of two crossed factors."""
        for owner, numbers in ((self.owners[i], pairs.rows), (self.owners[j], pairs.cols)):
            if owner is not None:
                return owner[numbers]
        return None


def _of_copies(
    crossed: Sequence[Matrix], whole: Sequence[Matrix], copies: Sequence[_Copies | None]
) -> tuple[Matrix, ...]:
    """Sums of each factor's levels, the last axis: of copied ones those of all rows."""
    return tuple(
        own if copied is None else np.ascontiguousarray(all_rows[:, :, copied.members])
        for own, all_rows, copied in zip(crossed, whole, copies, strict=True)
    )


def _are_levels(by_level: StratifiedSums, f: int) -> bool:
    """Whether the strata are the levels of a factor."""
    own = by_level.diagonal[f]
    return own.size == len(by_level.counts) and np.array_equal(own.level, own.stratum)


def _owner(pattern: BlockPattern, f: int, group: int) -> Codes | None:
    """Level of the group that each level of a factor is nested in; None of a crossed one."""
    if not pattern.is_nested(f, group):
        return None
    pairs = pattern.pairs[min(f, group), max(f, group)]
    inner, outer = (pairs.rows, pairs.cols) if f < group else (pairs.cols, pairs.rows)
    owner = np.empty(len(pairs), dtype=np.intp)
    owner[inner] = outer
    return owner


def with_levels(design: Design, crossprod: CrossProducts) -> Design:
    """A design with the levels of cross-products; the rows that are kept have no response."""
    levels = dict(zip(crossprod.groups, crossprod.levels, strict=True))
    specs = tuple(replace(t, levels=levels[t.group]) for t in design.spec.random_terms)
    rows: Any = design.rows
    kept = rows.random_sample
    terms = tuple(
        replace(term, n_levels=len(levels[term.group]), codes=np.zeros_like(term.codes))
        for term in kept.random_terms
    )
    rows = replace(rows, random_sample=replace(kept, random_terms=terms))
    return Design(replace(design.spec, random_terms=specs), rows)


def check_level_cases(fit: FittedModel, group: str | None, *, resample_rows: bool) -> str:
    """Grouping factor whose levels are drawn; refuses fits whose levels have no sums apart."""
    groups = fit.formula.groups
    parametric = "take kind='parametric'."
    if fit.residual.residual_params.size or fit.has_prior_weights:
        raise ArgumentError(
            f"kind='cases' of rows in chunks is of rows with one residual variance: {parametric}"
        )
    if resample_rows:
        raise ArgumentError(
            "resample_rows=True resamples rows that are in memory, and this fit has sums of its "
            "rows alone: leave it out."
        )
    if not groups:
        raise ArgumentError(
            f"kind='cases' resamples levels of a grouping factor, and '{fit.formula}' has none."
        )
    if group is None:
        return _outermost(fit)
    check_choice("groups", group, groups)
    return group


def _outermost(fit: FittedModel) -> str:
    """The grouping factor that all others are nested in."""
    pattern, groups = fit.crossprod.ZtZ.pattern, fit.crossprod.groups
    for j, group in enumerate(groups):
        if all(i == j or pattern.is_nested(i, j) for i in range(len(groups))):
            return str(group)
    raise ArgumentError(
        "kind='cases' draws the levels of the grouping factor that all others are nested in, and "
        f"of crossed ones '{fit.formula}' has {len(groups)}: take kind='parametric', which draws "
        f"the effects of all; or say whose levels are drawn beside the others' as they are, "
        f"groups='{groups[0]}'."
    )
