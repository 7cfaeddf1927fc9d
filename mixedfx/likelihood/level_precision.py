"""Bases of pedigrees' effects by the sparse inverse of their relationships, and when they pay.

The levels with records and all their ancestors are the nodes of a factor; others have no part in
the likelihood. With P the matrix of their parents and D their Mendelian variances,

    A^-1 = R'R,    R = D^-1/2 (I - P)

(Henderson 1976, Biometrics 32:69). The equations of the nodes are factorised in an order of small
degrees (:mod:`mixedfx.linalg.precision`): what is left is a dense block of as many animals as the
generations have in common, c, which costs about ``c**3`` an evaluation. A dense basis costs an
eigen-decomposition of the levels once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixedfx.covariance.known_covariance import PedigreeCovariance
from mixedfx.covariance.relationship import Relationship, positions_of_levels
from mixedfx.design.levels import Levels
from mixedfx.errors import SizeError
from mixedfx.linalg.available_memory import check_memory
from mixedfx.linalg.cholesky.block_matrix import BlockPattern
from mixedfx.linalg.precision import PrecisionBasis, PrecisionSolver

# Effects up to which a dense basis costs less than is worth choosing.
DENSE_EFFECTS = 1_000
# Operations of an eigen-decomposition of L levels, over L**3, and of an entry of a column of A,
# of which all animals have one, in time.
_EIGEN, _COLUMN_ENTRY = 9.0, 200.0
# Evaluations of a search.
_EVALUATIONS = 12.0
# Operations of an evaluation beyond which a fit takes more than half an hour.
_MOST_OPERATIONS = 1e12
# Arrays of the dense block: its values, its factor, its inverse and a temporary one.
_COPIES = 4


def precision_bases(
    relationships: Sequence[Relationship | None],
    levels: Sequence[Levels],
    is_plain: Sequence[bool],
    pattern: BlockPattern,
) -> PrecisionSolver | None:
    """Solver of equations in which pedigrees have sparse inverses; None where dense ones pay."""
    pedigrees = [
        r if r is not None and isinstance(r.known, PedigreeCovariance) else None
        for r in relationships
    ]
    effects = [pattern.layout.size(f) for f, one in enumerate(pedigrees) if one is not None]
    if max(effects, default=0) <= DENSE_EFFECTS:
        return None
    if any(one is None and not plain for one, plain in zip(pedigrees, is_plain, strict=True)):
        return None  # another factor is dense
    solver = PrecisionSolver(
        tuple(
            None if one is None else pedigree_basis(one, own)
            for one, own in zip(pedigrees, levels, strict=True)
        )
    )
    sparse = _EVALUATIONS * solver.pattern(pattern).symbolic.order.operations
    sizes = [0 if one is None else len(one) for one in pedigrees]
    return solver if sparse < _dense_operations(pattern, sizes) else None


def _dense_operations(pattern: BlockPattern, animals: Sequence[int]) -> float:
    """Operations of dense bases of pedigrees of so many animals, and of evaluations with them."""
    layout, total = pattern.layout, 0.0
    for f, size in enumerate(animals):
        if size:
            L = float(layout.levels(f))
            total += _EIGEN * L**3 + _COLUMN_ENTRY * L * size
    if len(layout.widths) > 1 or max(layout.widths) > 1:
        # The factors' block is dense, or that of all but the largest one.
        sizes = sorted(layout.size(f) for f in layout.factors)
        dense = sizes if max(layout.widths) > 1 else sizes[:-1]
        total += _EVALUATIONS * float(sum(dense)) ** 3
    return total


def pedigree_basis(relationship: Relationship, levels: Levels) -> PrecisionBasis:
    """Basis of the levels' effects by those of the levels and their ancestors."""
    known = relationship.known
    assert isinstance(known, PedigreeCovariance)
    at = positions_of_levels(relationship, levels.labels, "")
    nodes = known.with_ancestors(at)
    return PrecisionBasis.at_nodes(known.root(nodes), np.searchsorted(nodes, at))


def check_precision(solver: PrecisionSolver, pattern: BlockPattern, groups: Sequence[str]) -> None:
    """Refuse, before it is allocated, a dense block that takes too much memory or time."""
    found = solver.pattern(pattern)
    c = found.symbolic.dense_size
    names = " and ".join(
        f"'{group}' ({len(B):,} levels with records, {B.n_nodes:,} with their ancestors)"
        for group, B in zip(groups, solver.bases, strict=True)
        if B is not None
    )
    what = (
        f"of the effects of {names} elimination leaves a dense matrix of {c:,} x {c:,} numbers, "
        "as their relationships are not sparse"
    )
    advice = (
        "Fit the records of fewer animals, leave early generations out of the pedigree, or take "
        "a sire model."
    )
    check_memory(what, 8.0 * c**2, copies=_COPIES, advice=advice)
    if found.symbolic.order.operations > _MOST_OPERATIONS:
        raise SizeError(f"{what}: a fit would take more than half an hour. {advice}")
