"""Cross-products of a smaller model from those of the whole one, whose rows were read in chunks.

Where ``X = X_0 L`` and ``Z = Z_0 S`` are combinations of another model's columns, so are the
columns of their bases, and the cross-products are ``T' P T`` of the other's P:

    [X, y - X c] = [X_0 R_0^-1, y - X_0 c_0] T        Z T_b = (Z_0 T_0) M,    M = T_0^-1 S T_b

No row is read. The sums are then about the smaller model's own least-squares coefficients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.design.combinations import Combinations
from mixedfx.design.rows import RandomTermRows
from mixedfx.design.spec import ModelSpec
from mixedfx.likelihood.accumulate import check_identified, parametrization_of, term_positions
from mixedfx.likelihood.basis import ColumnBasis, bases_of_terms
from mixedfx.likelihood.crossproducts import CHOLESKY, CrossProducts, TermPosition
from mixedfx.likelihood.level_basis import RelatedLevels
from mixedfx.likelihood.recentred import LeastSquares, is_identity, least_squares
from mixedfx.likelihood.stratified import StratifiedSums, StratumSums
from mixedfx.linalg.cholesky.block_matrix import BlockLayout, BlockMatrix, BlockPattern

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TermChanges:
    """Random terms of a smaller model: factors that are left, and columns as combinations."""

    groups: tuple[str, ...]
    factors: tuple[int, ...]  # number that each has in the whole model
    positions: tuple[TermPosition, ...]
    bases: tuple[ColumnBasis, ...]  # of each term's columns
    of_terms: tuple[Matrix, ...]  # M of each term
    of_factors: tuple[Matrix, ...]  # the same of each factor, (columns of the whole one, columns)

    @staticmethod
    def of(
        spec: ModelSpec,
        kept: Sequence[RandomTermRows],
        columns: Combinations,
        whole: tuple[Sequence[str], Sequence[TermPosition], Sequence[ColumnBasis]],
        unit: float = 1.0,
    ) -> TermChanges:
        """Those of a specification; ``kept`` are some rows, ``whole`` what the whole model has."""
        groups, positions, bases = whole
        left = tuple(group for group in groups if group in spec.ngroups)
        parametrization = parametrization_of(spec)
        found = bases_of_terms(kept, None, parametrization)
        # A term with the same columns keeps their basis where its structure does: effects without
        # correlations are those of the columns as they are.
        same = [
            is_identity(S) and (structure.invariance == "linear" or bases[t].is_diagonal)
            for (structure, _), (t, S) in zip(parametrization.terms, columns.terms, strict=True)
        ]
        own = [
            bases[t] if as_it_is else replace(basis, R=basis.R / unit)
            for basis, (t, _), as_it_is in zip(found, columns.terms, same, strict=True)
        ]
        M = [
            S if as_it_is else bases[t].inverse @ S @ basis.T
            for basis, (t, S), as_it_is in zip(own, columns.terms, same, strict=True)
        ]
        at = term_positions(spec.random_terms, parametrization.widths, left)
        factors = tuple(groups.index(group) for group in left)
        before, after = _widths(positions), _widths(at)
        by_factor = [np.zeros((before[f], after[i])) for i, f in enumerate(factors)]
        for position, (t, _), of_term in zip(at, columns.terms, M, strict=True):
            by_factor[position.group][positions[t].columns, position.columns] = of_term
        return TermChanges(left, factors, at, tuple(own), tuple(M), tuple(by_factor))

    def pattern(self, whole: BlockPattern) -> BlockPattern:
        """Pattern of the factors that are left."""
        if len(self.factors) == len(whole.layout.widths) and all(map(is_identity, self.of_factors)):
            return whole
        widths = tuple(M.shape[1] for M in self.of_factors)
        n_levels = tuple(whole.layout.levels(f) for f in self.factors)
        return BlockPattern(BlockLayout(widths, n_levels), self.pairs(whole.pairs))

    def pairs(self, whole: Mapping[tuple[int, int], Any]) -> dict[tuple[int, int], Any]:
        """What is of each two factors, of those that are left."""
        numbers = {f: i for i, f in enumerate(self.factors)}
        return {
            (numbers[i], numbers[j]): value
            for (i, j), value in whole.items()
            if i in numbers and j in numbers
        }

    def diagonal(self, values: Sequence[Matrix]) -> tuple[Matrix, ...]:
        """``M'VM`` of the blocks of each factor, (K, K, cells)."""
        return tuple(
            _between(M, values[f], M) for f, M in zip(self.factors, self.of_factors, strict=True)
        )

    def off_diagonal(
        self, values: Mapping[tuple[int, int], Matrix]
    ) -> dict[tuple[int, int], Matrix]:
        """The same of each two factors."""
        M = self.of_factors
        return {(i, j): _between(M[i], V, M[j]) for (i, j), V in self.pairs(values).items()}

    def right(self, values: Sequence[Matrix], T: Matrix) -> tuple[Matrix, ...]:
        """``M'VT`` of products with the fixed columns and the response, (K, p + 1, cells)."""
        return tuple(
            _between(M, values[f], T) for f, M in zip(self.factors, self.of_factors, strict=True)
        )


def _widths(positions: Sequence[TermPosition]) -> Counter[int]:
    """Columns of each grouping factor."""
    found: Counter[int] = Counter()
    for position in positions:
        found[position.group] += position.width
    return found


def _between(left: Matrix, values: Matrix, right: Matrix) -> Matrix:
    """``left' V right`` of each cell, (a, b, cells)."""
    half = values if is_identity(left) else np.tensordot(left.T, values, axes=1)
    if is_identity(right):
        return half
    return np.ascontiguousarray(np.einsum("akl,kb->abl", half, right, optimize=True))


@dataclass(frozen=True)
class Submodel:
    """A smaller model's columns in those of cross-products."""

    whole: CrossProducts
    spec: ModelSpec
    terms: TermChanges
    columns: LeastSquares  # combinations T (p_0 + 1, p + 1) of the other's

    @staticmethod
    def of(whole: CrossProducts, design: Design, columns: Combinations) -> Submodel:
        """That of a design."""
        of_whole = (whole.groups, whole.term_positions, whole.bases)
        spec, kept = design.spec, design.rows.sample.random_terms
        terms = TermChanges.of(spec, kept, columns, of_whole)
        p, p0 = columns.fixed.shape[1], whole.p
        own = np.eye(p0) if whole.qr_R is None else whole.qr_R
        A, known = own @ columns.fixed, own @ whole.ols_coef
        T = np.zeros((p0 + 1, p + 1))
        T[:p0, :p], T[p0, p] = A, 1.0
        coef: Vector = np.zeros(p)
        if p:
            root = np.linalg.cholesky(whole.XytXy[:p0, :p0]).T
            coef = np.asarray(np.linalg.lstsq(root @ A, root @ known, rcond=None)[0])
        T[:p0, p] = known - A @ coef
        products = T.T @ whole.XytXy @ T
        found = least_squares(products, whole.n, np.eye(p), coef)
        return Submodel(whole, spec, terms, found._replace(T=T @ found.T))

    def crossproducts(self) -> CrossProducts:
        """Cross-products of the model."""
        whole, terms, spec, columns = self.whole, self.terms, self.spec, self.columns
        ZtZ = BlockMatrix(
            terms.pattern(whole.ZtZ.pattern),
            terms.diagonal(whole.ZtZ.diagonal),
            terms.off_diagonal(whole.ZtZ.off_diagonal),
        )
        crossprod = replace(
            whole,
            names=spec.X_names,
            groups=terms.groups,
            levels=tuple(spec.levels_of(group) for group in terms.groups),
            ZtZ=ZtZ,
            ZtXy=terms.right(whole.ZtXy, columns.T),
            XytXy=columns.products(whole.XytXy),
            term_positions=terms.positions,
            parametrization=parametrization_of(spec),
            bases=terms.bases,
            level_bases=(None,) * len(terms.groups),
            ols_coef=columns.ols_coef,
            qr_R=columns.qr_R,
            solver=CHOLESKY,
        )
        check_identified(spec, crossprod, None)
        return crossprod

    def stratified(self, sums: StratifiedSums | None) -> StratifiedSums:
        """The same by stratum of equal residual variance."""
        assert sums is not None
        terms, T, plain = self.terms, self.columns.T, self.crossproducts()
        M, pairs = terms.of_factors, plain.ZtZ.pattern.pairs
        return StratifiedSums(
            plain,
            sums.counts,
            tuple(_stratum(sums.diagonal[f], m, m) for f, m in zip(terms.factors, M, strict=True)),
            tuple(_stratum(sums.right[f], m, T) for f, m in zip(terms.factors, M, strict=True)),
            {
                (i, j): _stratum(of, M[i], M[j])
                for (i, j), of in terms.pairs(sums.off_diagonal).items()
            },
            StratumSums.of_all_rows(_between(T, sums.XytXy_by_stratum, T)),
            dict(pairs),
            RelatedLevels.plain(plain.groups, plain.levels),
        )


def _stratum(sums: StratumSums, left: Matrix, right: Matrix) -> StratumSums:
    return replace(sums, values=_between(left, sums.values, right))
