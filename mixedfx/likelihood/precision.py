"""Cross-products with pedigrees' sparse inverses, and covariances of all animals of a pedigree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.known_covariance import PedigreeCovariance
from mixedfx.covariance.relationship import Relationship, positions_of_levels
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.level_precision import check_precision
from mixedfx.likelihood.pls import Solution
from mixedfx.linalg.cholesky.block_matrix import BlockMatrix
from mixedfx.linalg.precision import PrecisionBasis, PrecisionSolver

Array = npt.NDArray[np.float64]


def with_precision(
    crossprod: CrossProducts, solver: PrecisionSolver, by_levels: BlockMatrix
) -> CrossProducts:
    """Cross-products with the effects v of sparse inverses, given those with the levels."""
    ZtXy = tuple(
        own if B is None else own @ B for own, B in zip(crossprod.ZtXy, solver.bases, strict=True)
    )
    bases = solver.bases
    return replace(crossprod, ZtZ=by_levels, ZtXy=ZtXy, level_bases=bases, solver=solver)


def covariances_of_all(
    solution: Solution, factor: int, relationships: Sequence[Relationship | None]
) -> Array:
    """
    Conditional covariances of the effects of all animals of a factor, (K, K, animals).

    Those that have no part in the likelihood are nodes too.
    """
    crossprod, solver = solution.crossprod, solution.crossprod.solver
    assert isinstance(solver, PrecisionSolver)
    numeric, own = solution.schur.numeric, solver.bases[factor]
    relationship = relationships[factor]
    assert own is not None
    assert relationship is not None
    if own.n_nodes < len(relationship):
        assert isinstance(relationship.known, PedigreeCovariance)
        at = positions_of_levels(relationship, crossprod.levels[factor].labels, "")
        every = PrecisionBasis.at_nodes(relationship.known.root(np.arange(len(relationship))), at)
        bases = tuple(every if B is own else B for B in solver.bases)
        complete, pattern = PrecisionSolver(bases), replace(crossprod.ZtZ.pattern)
        check_precision(complete, pattern, crossprod.groups)
        numeric = complete.factorize(replace(crossprod.ZtZ, pattern=pattern), numeric.lambdas)
    T = solution.sigma * crossprod.changes_by_group()[factor]
    C = numeric.node_covariances(factor)
    return np.asarray(np.einsum("ac,cdl,bd->abl", T, C, T, optimize=True))
