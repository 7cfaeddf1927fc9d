"""Traces of ``E_i K`` and ``E_i K E_j K``, exact or from vectors of random signs.

Between an effect of factor f and one of factor g, K has a matrix ``K_fg`` of their levels. For
vectors s of the levels of g

    tr(K_gg) = sum s'K_gg s        tr(K_fg' H_fg) = sum (K_fg s)'(H_fg s)

of all unit vectors, where those of levels in different connected components may be added up; and in
expectation of one vector of random signs, with a relative standard error of about
``sqrt(2 / L_g)`` (Hutchinson 1990, Commun. Stat. Simul. Comput. 19:433, of symmetric matrices). The
mean over signs is for factors of many levels, where a solver is not made for so many columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.likelihood.covariance_components import CovarianceComponent, multiply_by_K
from mixedfx.likelihood.pls import Solution
from mixedfx.linalg.cholesky.selected_inverse import (
    ProbingVectors,
    probing_vectors,
    vectors_of_effects,
)

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Relative standard error that is aimed at, the least number of vectors that tells one, and how many
# of them are multiplied at once.
_AIM, _FEWEST, _BATCH = 0.003, 16, 16
_SEED = 0


@dataclass(frozen=True)
class ComponentTraces:
    """Traces of the derivatives of V, and what is random in them."""

    of_K: Vector  # (m,) tr(E_i K)
    of_KK: Matrix  # (m, m) tr(E_i K E_j K)
    errors: Matrix  # (m, m) Monte Carlo standard errors of the latter


def component_traces(
    solution: Solution, components: Sequence[CovarianceComponent]
) -> ComponentTraces:
    """Compute or estimate both, in the time that a few thousand systems take at most."""
    probing = probing_vectors(solution.crossprod.symbolic)
    most = solution.schur.numeric.most_columns
    of_factors = [
        _FactorSums.of(solution, probing, g, _signs_for(probing, g, most))
        for g in solution.crossprod.symbolic.layout.factors
    ]
    of_K = np.array([of_factors[c.factor].trace(c) for c in components])
    found = [[of_factors[d.factor].trace_of_product(c, d) for d in components] for c in components]
    values, errors = np.moveaxis(np.array(found).reshape(len(of_K), len(of_K), 2), 2, 0)
    # Of two factors the exact sums, or those of both orders.
    exact = np.array([not of_factors[c.factor].signs for c in components])
    transposed = exact[:, None] & ~exact
    values, errors = (np.where(transposed, M.T, M) for M in (values, errors))
    return ComponentTraces(of_K, values, errors)


def _signs_for(probing: ProbingVectors, factor: int, most: float) -> int:
    """Vectors of random signs of a factor; zero for its unit vectors, where these are no more."""
    layout = probing.symbolic.layout
    unit = (probing.first_vector[factor + 1] - probing.first_vector[factor]) // layout.width(factor)
    signs = max(_FEWEST, math.ceil(2.0 / (_AIM**2 * layout.levels(factor))))
    return 0 if probing.n_vectors <= most or unit <= signs else signs


@dataclass(frozen=True)
class _FactorSums:
    """Sums over vectors of the levels of one factor g."""

    signs: int  # vectors of random signs; zero for unit vectors
    within: Matrix  # (K_g, K_g) of the effects of one level
    between: dict[int, Array]  # of each factor f, (vectors or 1, K_f, K_g, K_f, K_g)

    @staticmethod
    def of(solution: Solution, probing: ProbingVectors, factor: int, signs: int) -> _FactorSums:
        symbolic = solution.crossprod.symbolic
        layout = symbolic.layout
        K, L = layout.width(factor), layout.levels(factor)
        within = np.zeros((K, K))
        between: dict[int, list[Array]] = {f: [] for f in layout.factors}
        unit = (probing.of_levels(factor, *batch) for batch in probing.batches(factor))
        for S in _random_signs(L, factor, signs) if signs else unit:
            KS = multiply_by_K(solution, vectors_of_effects(symbolic, factor, S))
            blocks = {
                f: KS[symbolic.columns(f)].reshape(layout.width(f), layout.levels(f), -1, K)
                for f in layout.factors
            }
            within += np.einsum("alcb,lc->ab", blocks[factor], S)
            for f, block in blocks.items():
                between[f].append(_products(block, each=bool(signs)))
        products = {f: np.concatenate(parts) for f, parts in between.items()}
        if not signs:
            products = {f: part.sum(axis=0, keepdims=True) for f, part in products.items()}
        return _FactorSums(signs, within / max(signs, 1), products)

    def trace(self, c: CovarianceComponent) -> float:
        """``tr(E_i K)`` of a component of this factor."""
        return float(sum(self.within[a, b] for a, b in c.unit_entries))

    def trace_of_product(
        self, c: CovarianceComponent, d: CovarianceComponent
    ) -> tuple[float, float]:
        """``tr(E_i K E_j K)`` for a component d of this factor, and its standard error."""
        KK = self.between[c.factor]
        by_vector = sum(
            (KK[:, b, u, a, v] for a, b in c.unit_entries for u, v in d.unit_entries),
            start=np.zeros(len(KK)),
        )
        if not self.signs:
            return float(by_vector[0]), 0.0
        return float(by_vector.mean()), float(by_vector.std(ddof=1) / math.sqrt(self.signs))


def _products(block: Array, *, each: bool) -> Array:
    """
    Products of the entries of K between two factors, summed over the levels of the first.

    For blocks (K_f, L_f, c, K_g); of each of c vectors, (c, K_f, K_g, K_f, K_g), or of all, with
    one in the place of c.
    """
    K_f, _, vectors, K_g = block.shape
    entries = block.transpose(2, 0, 3, 1) if each else block.transpose(0, 3, 2, 1)
    flat = entries.reshape(vectors if each else 1, K_f * K_g, -1)
    return np.asarray(flat @ flat.transpose(0, 2, 1)).reshape(-1, K_f, K_g, K_f, K_g)


def _random_signs(levels: int, factor: int, count: int) -> Iterator[Matrix]:
    """Vectors of random signs of the levels, (L, c), the same in every call."""
    rng = np.random.default_rng([_SEED, factor])
    for first in range(0, count, _BATCH):
        yield rng.choice(np.array([-1.0, 1.0]), size=(levels, min(_BATCH, count - first)))
